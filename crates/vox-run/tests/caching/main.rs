//! Results that later runs take over, and what keeps them from it.

mod code;
mod definition;
mod inputs;
mod keeping;
#[path = "../project/mod.rs"]
mod project;
mod restoring;
#[path = "../steps/mod.rs"]
mod steps;
mod streams;

use serde_json::{Value, json};
use vox_run::{RunId, RunOutcome, RunReport};

use project::Project;
use steps::{all, make, note, of, step};

/// A step that notes that it ran and makes `out.txt`, whose result may be taken over.
fn maker(text: &str) -> Value {
    step(
        "maker",
        all([note("ran"), make("made", text)]),
        json!({
            "cache": true, "inputs": {}, "outputs": { "made": { "path": "out.txt" } },
        }),
    )
}

/// The run from which a step's result comes, if it was taken over.
fn taken_from(report: &RunReport, key: &str) -> Option<RunId> {
    of(report, key).provenance.cached
}

/// Runs `before` twice and then `after`; `between` is done before that. The first time nothing is taken
/// over, the second time everything; answers whether it is then too.
fn taken_over(
    project: &mut Project,
    before: &[Value],
    between: impl FnOnce(&mut Project),
    after: &[Value],
) -> bool {
    let first = project.run(before).report;
    let all = |report: &RunReport| {
        assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
        let taken = report.steps.iter().map(|step| step.provenance.cached);
        taken.collect::<Vec<_>>()
    };
    assert_eq!(all(&first), vec![None; before.len()]);
    let second = project.run(before).report;
    assert_eq!(all(&second), vec![Some(first.run); before.len()]);
    between(project);
    let third = all(&project.run(after).report);
    let taken = third.iter().filter(|taken| taken.is_some()).count();
    assert!(taken == 0 || taken == third.len(), "{third:?}");
    taken > 0
}

/// Whether the result of `before` serves for `after`.
fn serves(before: Value, after: Value) -> bool {
    taken_over(&mut Project::new(), &[before], |_| (), &[after])
}

/// A step with a member more.
fn with(mut step: Value, member: &str, value: Value) -> Value {
    step[member] = value;
    step
}
