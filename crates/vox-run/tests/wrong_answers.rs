//! What becomes of a run in which a plugin does not answer what the contract says: the SDK would never let
//! it, a library without the SDK may.
#![cfg(target_os = "linux")]

mod project;
mod steps;

use std::fs;

use serde_json::{Value, json};
use vox_contract::Platform;
use vox_run::{Cause, Error, RunOutcome};

use project::Project;
use steps::{cause, fate, of, step};

const MANIFEST: &str = r#"
id = "liar"
version = "0.1.0"
description = "Answers what no contract allows"
host = "*"
[payload]
native = { PLATFORM = "libliar.so" }
[provides]
extension-points = { step = 1 }
runners = ["liar", "mumbler", "poet"]
"#;

/// A project in which that plugin is installed.
fn with_a_liar() -> Project {
    let project = Project::new();
    let source = include_str!("liar/liar.rs");
    let library = vox_testkit::compile_library(project.world.path(), "liar", source);
    let manifest = MANIFEST.replace("PLATFORM", &Platform::current().to_string());
    let library = fs::read(library).unwrap();
    let files: [(&str, &[u8]); 1] = [("libliar.so", &library)];
    project.world.add("liar", &manifest, &files);
    project
}

/// A step that answers so, called by that.
fn answers(how: &str) -> Value {
    json!({
        "key": how, "uses": "liar", "with": { "answer": how },
        "outputs": { "made": { "path": format!("{how}.txt") } },
    })
}

#[test]
fn an_answer_that_is_none_fails_its_step_and_nothing_of_it_counts() {
    let lies = [
        "nothing",
        "garbage",
        "too little",
        "too much",
        "no text",
        "a length of 4 GiB",
        "no error",
        "no status",
    ];
    let project = with_a_liar();
    let mut steps: Vec<Value> = lies.iter().map(|how| answers(how)).collect();
    for how in lies {
        // What was there before is there afterwards, and who needs what is not there does not run.
        project.write(&format!("{how}.txt"), "before");
        let inputs = json!({ "inputs": { "made": { "from": format!("{how}.made") } } });
        steps.push(step(
            &format!("after {how}"),
            json!({ "do": "given" }),
            inputs,
        ));
    }
    // The plugin serves on, and so does the rest of the run.
    steps.push(json!({ "key": "sound", "uses": "liar" }));
    let report = project
        .run_with(&steps, |options| options.keep_going = true)
        .report;
    assert_eq!(report.outcome, RunOutcome::Failed);
    let recorded = project.recorded(report.run);
    for how in lies {
        assert_eq!(cause(&report, how), Cause::Error, "{how}");
        let told = fate(&report, how);
        assert!(
            told.starts_with("failed: liar: step.run: host and plugin disagree about the contract")
                && told.ends_with("build the plugin with the SDK of this host"),
            "{how}: {told}"
        );
        let after = of(&report, &format!("after {how}")).outcome.status();
        assert_eq!(after, "skipped", "{how}");
        assert_eq!(project.read(&format!("{how}.txt")), "before");
        assert!(!recorded.ends[how].outcome.is_success(), "{how}");
    }
    assert!(of(&report, "sound").outcome.is_success(), "{report:#?}");
}

#[test]
fn a_runner_whose_schema_cannot_be_read_is_refused_before_the_run() {
    let project = with_a_liar();
    let refusal = |runner: &str| {
        let steps = [json!({ "key": "a", "uses": runner })];
        let error = project.prepare(&steps).unwrap_err();
        assert!(matches!(error, Error::Unresolved(_)), "{error}");
        error.plan_error().problems()[0].message.clone()
    };
    let message = refusal("mumbler");
    assert!(
        message.starts_with(
            "runner `mumbler` cannot be used: liar: step.arguments-schema: host and plugin disagree"
        ),
        "{message}"
    );
    let message = refusal("poet");
    assert!(
        message.starts_with(
            "runner `poet` cannot be used: plugin `liar` answers an unusable schema: it is not JSON: "
        ),
        "{message}"
    );
}
