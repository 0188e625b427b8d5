//! Results of steps that streams join, and of what acts on the stream.

use std::fs;

use serde_json::{Value, json};
use vox_run::RunOutcome;

use super::{taken_from, taken_over};
use crate::project::{Project, told};
use crate::steps::{all, copy, note, notes, step, write};

/// A writer and a reader with a stage between them, which may be cached.
fn joined(stage: Value) -> [Value; 2] {
    let mut reader = copy("reader", "writer.out", json!([stage]));
    reader["cache"] = json!(true);
    reader["outputs"] = json!({ "text": { "path": "text.txt", "port": "out" } });
    let writer = step(
        "writer",
        all([note("wrote"), write("out", &["one\n", "two\n"])]),
        json!({ "cache": true, "inputs": {} }),
    );
    [writer, reader]
}

#[test]
fn steps_that_streams_join_are_taken_over_together() {
    let project = Project::new();
    let steps = joined(json!({ "stage": "conformance" }));
    let first = project.run(&steps).report;
    assert_eq!(first.streams.len(), 1);
    fs::remove_file(project.directory().join("text.txt")).unwrap();
    let second = project.run(&steps).report;
    for key in ["writer", "reader"] {
        assert_eq!(taken_from(&second, key), Some(first.run));
    }
    assert!(second.streams.is_empty());
    assert_eq!(project.read("text.txt"), "ONE\nTWO\n");
    assert_eq!(notes(&project.directory()), ["wrote"]);
}

#[test]
fn what_keys_are_made_of_is_recorded_with_its_step_in_whatever_order_steps_end() {
    let project = Project::new();
    let [writer, reader] = joined(json!({ "stage": "conformance" }));
    // The reader, which ends last, comes first in the plan.
    let steps = [reader, writer];
    let first = project.run(&steps).report;
    let second = project.run(&steps).report;
    assert_eq!(taken_from(&second, "reader"), Some(first.run));
    let parts = project.recorded(first.run).parts;
    assert!(parts["reader"].contains_key("stream.in"), "{parts:?}");
    assert_eq!(parts, project.recorded(second.run).parts);
}

#[test]
fn other_arguments_of_a_stage_are_another_result_of_all_that_the_stream_joins() {
    let before = joined(json!({ "stage": "conformance" }));
    let after = joined(json!({ "stage": "conformance", "with": { "do": "forward" } }));
    let mut project = Project::new();
    assert!(!taken_over(&mut project, &before, |_| (), &after));
    assert_eq!(project.read("text.txt"), "one\ntwo\n");
}

#[test]
fn another_hook_that_may_change_chunks_is_another_result_whichever_of_them_it_is() {
    let project = Project::new();
    project
        .world
        .add_hook("guard", &json!([{ "point": "post_chunk" }]));
    let steps = joined(json!({ "stage": "conformance" }));
    let run = |reactions: &[&str]| {
        let engine = project.guarded(&steps, "post_chunk", reactions);
        let report = told(&engine, &project.options()).report;
        assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
        (
            taken_from(&report, "reader").is_some(),
            project.read("text.txt"),
        )
    };
    let plain = "ONE\nTWO\n".to_owned();
    // One that replaces turns each chunk round.
    let turned = "\nENO\nOWT".to_owned();
    assert_eq!(run(&["continue"]), (false, plain.clone()));
    assert_eq!(run(&["continue"]), (true, plain.clone()));
    assert_eq!(run(&["replace"]), (false, turned.clone()));
    assert_eq!(run(&["continue", "continue"]), (false, plain));
    assert_eq!(run(&["replace", "continue"]), (false, turned.clone()));
    assert_eq!(run(&["continue", "replace"]), (false, turned));
}

#[test]
fn one_step_that_is_not_to_be_cached_keeps_all_that_streams_join_with_it_from_it() {
    let project = Project::new();
    let mut steps = joined(json!({ "stage": "conformance" }));
    steps[0]["cache"] = json!(false);
    project.run(&steps);
    let second = project.run(&steps).report;
    for key in ["writer", "reader"] {
        assert_eq!(taken_from(&second, key), None);
    }
}
