//! A plan of 100,000 steps.

mod project;
mod steps;

use serde_json::{Value, json};
use vox_run::{EventKind, RunOutcome, StepOutcome};

use project::Project;
use steps::step;

/// How many there are.
const STEPS: usize = 100_000;

/// How many of them are carried out; the condition of the others does not hold.
const CARRIED_OUT: usize = 5_000;

/// A tree in which each step but the first needs the one of half its number.
fn tree() -> Vec<Value> {
    let steps = (0..STEPS).map(|number| {
        let mut more = json!({});
        if number > 0 {
            more["needs"] = json!([format!("s{}", number / 2)]);
        }
        if number >= CARRIED_OUT {
            more["when"] = json!({ "env": { "EVERYTHING": "yes" } });
        }
        let nothing = json!({ "do": "facts", "facts": {} });
        step(&format!("s{number}"), nothing, more)
    });
    steps.collect()
}

#[test]
fn a_hundred_thousand_steps_are_prepared_and_come_to_their_end() {
    let project = Project::new();
    let engine = project.engine(&tree());
    let mut options = project.options();
    options.record = None;
    let (mut started, mut ended) = (0, 0);
    let report = engine.run(&options, &mut |event| match &event.kind {
        EventKind::StepStarted { .. } => started += 1,
        EventKind::StepEnded { .. } => ended += 1,
        _ => {}
    });
    let report = report.unwrap();
    assert_eq!(report.outcome, RunOutcome::Succeeded);
    assert_eq!((started, ended), (CARRIED_OUT, STEPS));
    assert_eq!(report.steps.len(), STEPS);
    for (number, step) in report.steps.iter().enumerate() {
        assert_eq!(step.step.key, format!("s{number}"));
        let left_out = matches!(
            step.outcome,
            StepOutcome::Skipped {
                by_condition: true,
                ..
            }
        );
        assert_eq!(left_out, number >= CARRIED_OUT, "{:?}", step.outcome);
    }
}

#[test]
fn the_failure_of_the_first_of_a_hundred_thousand_steps_is_the_end_of_all() {
    let project = Project::new();
    let mut steps = tree();
    steps[0]["with"] = json!({ "do": "end", "code": 3 });
    let engine = project.engine(&steps);
    for keep_going in [false, true] {
        let mut options = project.options();
        options.record = None;
        options.keep_going = keep_going;
        let report = engine.run(&options, &mut |_| ()).unwrap();
        assert_eq!(report.outcome, RunOutcome::Failed);
        let mut outcomes = report.steps.iter().map(|step| step.outcome.status());
        assert_eq!(outcomes.next(), Some("failed"));
        assert!(outcomes.all(|status| status == "skipped"));
    }
}
