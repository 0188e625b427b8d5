//! Another result for other code or another configuration of what is called, also where it comes during a run.

use serde_json::{Value, json};
use vox_host::{Host, Reloaded};
use vox_run::{EventKind, RunOutcome, RunReport};

use super::{maker, taken_from, taken_over, with};
use crate::project::{GRANTS, Project, plan, told};
use crate::steps::{copy, note, step, write};

#[test]
fn another_configuration_of_the_plugin_is_another_result() {
    let mut project = Project::new();
    let steps = [maker("whole")];
    let configure = |project: &mut Project| {
        let settings = "[plugin.conformance]\nprefer = \"native\"\n\
                        config = { condition = \"well enough\" }\n";
        project.world.settings(settings);
    };
    assert!(!taken_over(&mut project, &steps, configure, &steps));
}

#[test]
fn other_code_of_the_plugin_is_another_result() {
    let mut project = Project::new();
    let steps = [maker("whole")];
    let release = |project: &mut Project| project.world.release("another");
    assert!(!taken_over(&mut project, &steps, release, &steps));
}

/// Runs steps to their end; once the step `after` has ended, and before another begins, other code of the
/// test plugin takes over.
fn released_during(project: &Project, host: &Host, steps: &[Value], after: &str) -> RunReport {
    let surroundings = project.surroundings.clone();
    let engine = vox_run::Engine::prepare(host, plan(steps), surroundings).unwrap();
    let report = engine.run(&project.options(), &mut |event| {
        if let EventKind::StepEnded { step, .. } = &event.kind
            && step == after
        {
            project.world.release("another");
            let reloaded = host.reload(&"conformance".parse().unwrap());
            assert!(
                matches!(reloaded, Ok(Reloaded::Replaced { .. })),
                "{reloaded:?}"
            );
        }
    });
    let report = report.unwrap();
    assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
    report
}

#[test]
fn what_code_makes_that_came_during_the_run_is_the_result_of_that_code() {
    let project = Project::new();
    let first = step("first", note("first"), json!({}));
    let steps = [first, with(maker("whole"), "needs", json!(["first"]))];
    let report = released_during(&project, &project.host(), &steps, "first");
    assert_eq!(report.results_kept, 1);
    let second = project.run(&steps).report;
    assert_eq!(taken_from(&second, "maker"), Some(report.run));
    project.world.release("good");
    let third = project.run(&steps).report;
    assert_eq!(taken_from(&third, "maker"), None);
}

#[test]
fn what_goes_through_code_of_a_stage_that_came_during_the_run_is_the_result_of_that_code() {
    let project = Project::new();
    let provides = json!({ "extension-points": { "step": 1 }, "runners": ["conformance-too"] });
    project
        .world
        .add_variant("worker", &json!({ "provides": provides }));
    let host = || {
        let grants = format!("{GRANTS}[plugin.worker]\nstream_io = true\n");
        project.world.host(&grants)
    };
    // A writer and a reader of another plugin than the one of the stage.
    let pair = |writer: &str, reader: &str, needs: &[&str]| {
        let more = json!({ "cache": true, "inputs": {}, "needs": needs });
        let through = json!([{ "stage": "conformance" }]);
        let mut pair = [
            step(writer, write("out", &[writer]), more),
            copy(reader, &format!("{writer}.out"), through),
        ];
        pair[1]["cache"] = json!(true);
        pair.map(|step| with(step, "uses", json!("conformance-too")))
    };
    let [before, after] = [pair("w", "r", &[]), pair("w2", "r2", &["r"])];
    let steps = [before, after].concat();
    let report = released_during(&project, &host(), &steps, "r");
    assert_eq!(report.results_kept, 2);
    project.world.release("good");
    let surroundings = project.surroundings.clone();
    let engine = vox_run::Engine::prepare(&host(), plan(&steps), surroundings).unwrap();
    let second = told(&engine, &project.options()).report;
    assert_eq!(taken_from(&second, "r"), Some(report.run));
    assert_eq!(taken_from(&second, "r2"), None);
}

#[test]
fn another_configuration_of_a_plugin_that_a_fusion_calls_is_another_result() {
    let project = Project::new();
    let provides = json!({ "extension-points": { "stage": 1 } });
    project
        .world
        .add_variant("joiner", &json!({ "provides": provides }));
    let writer = |key| {
        let more = json!({ "cache": true, "inputs": {} });
        step(key, write("out", &["one\n"]), more)
    };
    let fused = json!({
        "key": "fused", "uses": "fuse", "cache": true,
        "with": { "policy": "stage", "stage": "joiner" },
        "inputs": { "a": { "from": "a.out" }, "b": { "from": "b.out" } },
    });
    let reader = with(copy("reader", "fused.out", json!([])), "cache", json!(true));
    let steps = [writer("a"), writer("b"), fused, reader];
    let taken = || {
        let grants = format!("{GRANTS}[plugin.joiner]\nstream_io = true\n");
        let host = project.world.host(&grants);
        let surroundings = project.surroundings.clone();
        let engine = vox_run::Engine::prepare(&host, plan(&steps), surroundings).unwrap();
        let report = told(&engine, &project.options()).report;
        assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
        taken_from(&report, "fused").is_some()
    };
    assert!(!taken());
    assert!(taken());
    let settings = "[plugin.conformance]\nprefer = \"native\"\n\
                    [plugin.joiner]\nconfig = { condition = \"well enough\" }\n";
    project.world.settings(settings);
    assert!(!taken());
}
