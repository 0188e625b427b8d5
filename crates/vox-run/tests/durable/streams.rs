//! Where streams begin in a run that goes on.

use serde_json::{Value, json};
use vox_run::RunOutcome;

use crate::project::{Project, Told, told};
use crate::steps::{all, step, write};

/// A writer of five chunks, and a reader that tells them and fails the first time.
fn writer_and_reader(restart: &str) -> [Value; 2] {
    let reader = all([
        json!({ "do": "tell", "port": "in" }),
        json!({ "do": "fail-before", "attempt": 2 }),
    ]);
    let inputs = json!({ "in": { "from": "w.out", "restart": restart } });
    [
        step("w", write("out", &["0", "1", "2", "3", "4"]), json!({})),
        step("r", reader, json!({ "inputs": inputs })),
    ]
}

/// The numbers of the chunks that the reader told.
fn sequences(told: &Told) -> Vec<u64> {
    let events = told.report.plugin_events.iter();
    events
        .filter(|event| event.name == "chunk")
        .map(|event| event.payload["sequence"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_stream_begins_behind_what_was_acknowledged_where_the_plan_says_so() {
    let project = Project::new();
    let steps = writer_and_reader("acknowledged");
    let first = project.run(&steps);
    assert_eq!(sequences(&first), [0, 1, 2, 3, 4]);
    let run = first.report.run;
    let acknowledged = project.recorded(run).acknowledged["r.in"];
    // By asking for the second chunk the reader has acknowledged the first; what it acknowledges soon
    // after that need not be recorded.
    assert!((1..=5).contains(&acknowledged), "{acknowledged}");
    let second = project.resume(&steps, run);
    assert_eq!(second.report.outcome, RunOutcome::Succeeded);
    assert_eq!(sequences(&second), (acknowledged..5).collect::<Vec<_>>());
    // By asking for another chunk it has acknowledged one more than before.
    let after = project.recorded(run).acknowledged["r.in"];
    assert!(
        after > acknowledged || acknowledged == 5,
        "{after} after {acknowledged}"
    );
}

#[test]
fn a_stream_that_goes_on_counts_what_hooks_let_through_and_not_what_they_dropped() {
    let project = Project::new();
    project
        .world
        .add_hook("guard", &json!([{ "point": "post_chunk" }]));
    let steps = writer_and_reader("acknowledged");
    let engine = project.guarded(&steps, "post_chunk", &["drop-first"]);
    let first = told(&engine, &project.options());
    assert_eq!(sequences(&first), [1, 2, 3, 4]);
    let run = first.report.run;
    let acknowledged = project.recorded(run).acknowledged["r.in"];
    let second = project.resume_by(&engine, run);
    assert_eq!(second.report.outcome, RunOutcome::Succeeded);
    assert_eq!(
        sequences(&second),
        (acknowledged + 1..5).collect::<Vec<_>>()
    );
}

#[test]
fn a_stream_begins_at_its_beginning_where_the_plan_says_nothing() {
    let project = Project::new();
    let steps = writer_and_reader("beginning");
    let run = project.run(&steps).report.run;
    assert!(project.recorded(run).acknowledged.is_empty());
    let second = project.resume(&steps, run);
    assert_eq!(sequences(&second), [0, 1, 2, 3, 4]);
}
