//! What a step writes beside its outputs: nobody can see it, so nothing is promised of it but what is
//! told here.

mod project;
mod steps;

use std::fs;

use serde_json::{Value, json};
use vox_run::{Resume, ResumeError, RunOutcome};

use project::{Project, plan};
use steps::{all, make, note, of, step};

/// The deed of adding a line to a file that no output names.
fn stray() -> Value {
    json!({ "do": "note", "file": "stray.txt", "line": "stray" })
}

/// A step that makes `out.txt`, cached or not.
fn maker(cached: bool, deeds: impl IntoIterator<Item = Value>) -> Value {
    let mut more = json!({ "outputs": { "made": { "path": "out.txt" } } });
    if cached {
        more["cache"] = json!(true);
        more["inputs"] = json!({});
    }
    step("maker", all(deeds), more)
}

#[test]
fn what_a_failed_step_wrote_beside_its_outputs_stays() {
    let project = Project::new();
    project.write("out.txt", "before");
    project.write("stray.txt", "before\n");
    let report = project
        .run(&[maker(false, [stray(), json!({ "do": "end", "code": 3 })])])
        .report;
    assert_eq!(report.outcome, RunOutcome::Failed);
    assert_eq!(project.read("out.txt"), "before");
    assert_eq!(project.read("stray.txt"), "before\nstray\n");
}

#[test]
fn what_a_step_wrote_beside_its_outputs_does_not_come_from_the_cache() {
    let project = Project::new();
    let steps = [maker(true, [stray(), make("made", "whole")])];
    project.run(&steps);
    assert_eq!(project.read("stray.txt"), "stray\n");
    for name in ["out.txt", "stray.txt"] {
        fs::remove_file(project.directory().join(name)).unwrap();
    }
    let second = project.run(&steps).report;
    assert!(of(&second, "maker").provenance.cached.is_some());
    assert_eq!(project.read("out.txt"), "whole");
    assert!(!project.directory().join("stray.txt").exists());
}

/// A step that makes `out.txt`, one that writes into it though it is not its own, one that reads it, and
/// one that fails the first time.
fn with_a_meddler(cached: bool) -> [Value; 4] {
    let meddles = json!({ "do": "note", "file": "out.txt", "line": " and more" });
    let reads = json!({ "do": "join", "output": "copy" });
    let inputs = json!({
        "needs": ["meddler"],
        "inputs": { "made": { "from": "maker.made" } },
        "outputs": { "copy": { "path": "copy.txt" } },
    });
    let fails = json!({ "do": "fail-before", "attempt": 2 });
    [
        maker(cached, [note("maker"), make("made", "whole")]),
        step("meddler", meddles, json!({ "needs": ["maker"] })),
        step("reader", reads, inputs),
        step("last", fails, json!({ "needs": ["reader"] })),
    ]
}

#[test]
fn who_writes_into_the_output_of_another_step_is_found_out_when_the_run_goes_on() {
    let project = Project::new();
    let steps = with_a_meddler(false);
    let run = project.run(&steps).report.run;
    // Whoever comes later in the run reads what is there.
    assert_eq!(project.read("copy.txt"), "whole and more\n");
    let recorded = project.recorded(run);
    assert!(recorded.ends["reader"].outcome.is_success());
    let plan = plan(&steps);
    let error = Resume::of(&recorded, &plan)
        .check(&plan, &project.directory(), &recorded, &project.record)
        .unwrap_err();
    assert!(
        matches!(&error, ResumeError::Output { step, output, missing: false, .. }
            if step == "maker" && output == "made"),
        "{error}"
    );
}

#[test]
fn what_another_step_wrote_into_an_output_is_not_in_the_cache() {
    let project = Project::new();
    let steps = with_a_meddler(true);
    let run = project.run(&steps).report.run;
    assert_eq!(project.read("out.txt"), "whole and more\n");
    // The run goes on with what the maker made, and with what was made of the rest.
    let second = project.resume(&steps, run).report;
    assert_eq!(second.outcome, RunOutcome::Succeeded);
    assert_eq!(of(&second, "maker").provenance.earlier, Some(run));
    assert_eq!(project.read("out.txt"), "whole");
    assert_eq!(project.read("copy.txt"), "whole and more\n");
}
