//! Steps that the test plugin carries out, and what became of them.

use serde_json::{Value, json};
use vox_run::report::StepReport;
use vox_run::{RunReport, StepOutcome};

/// A step of the test plugin that does `arguments`, with further members.
pub fn step(key: &str, arguments: Value, more: Value) -> Value {
    let mut step = json!({ "key": key, "uses": "conformance", "with": arguments });
    if let (Value::Object(step), Value::Object(more)) = (&mut step, more) {
        step.extend(more);
    }
    step
}

/// A step that pushes one chunk, `pushed`, to its port `out`.
pub fn push(key: &str, more: Value) -> Value {
    step(
        key,
        json!({ "do": "push", "port": "out", "timeout_ms": 10_000 }),
        more,
    )
}

/// A step that copies its input to its port `out`.
pub fn copy(key: &str, from: &str, through: Value) -> Value {
    let inputs = json!({ "in": { "from": from, "through": through } });
    step(key, json!({ "do": "copy" }), json!({ "inputs": inputs }))
}

/// The report of a step.
pub fn of<'r>(report: &'r RunReport, key: &str) -> &'r StepReport {
    let mut steps = report.steps.iter();
    steps.find(|step| step.step.key == key).unwrap()
}

/// `status: why` of a step that did not succeed.
pub fn fate(report: &RunReport, key: &str) -> String {
    let outcome = &of(report, key).outcome;
    let why = match outcome {
        StepOutcome::Succeeded { summary, .. } => summary,
        StepOutcome::Failed { message, .. } => message,
        StepOutcome::Cancelled { reason } | StepOutcome::Skipped { reason } => reason,
    };
    format!("{}: {why}", outcome.status())
}
