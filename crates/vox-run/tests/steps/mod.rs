//! Steps that the test plugin carries out, and what became of them.
#![allow(dead_code)]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use vox_run::report::StepReport;
use vox_run::{Cause, EventKind, RunEvent, RunReport, StepOutcome};

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

/// Several deeds, one after the other.
pub fn all(deeds: impl IntoIterator<Item = Value>) -> Value {
    let deeds: Vec<Value> = deeds.into_iter().collect();
    json!({ "do": "all", "deeds": deeds })
}

/// The deed of noting a line in the file `notes` of the run's directory.
pub fn note(line: &str) -> Value {
    json!({ "do": "note", "file": "notes", "line": line })
}

/// The deed of making an output.
pub fn make(output: &str, text: &str) -> Value {
    json!({ "do": "make", "output": output, "text": text })
}

/// The deed of pushing texts to a port.
pub fn write(port: &str, texts: &[&str]) -> Value {
    let chunks: Vec<Value> = texts.iter().map(|text| json!({ "text": text })).collect();
    json!({ "do": "write", "port": port, "chunks": chunks })
}

/// The lines of the file `notes` in `directory`.
pub fn notes(directory: &Path) -> Vec<String> {
    let notes = fs::read_to_string(directory.join("notes")).unwrap_or_default();
    notes.lines().map(str::to_owned).collect()
}

/// The report of a step.
pub fn of<'r>(report: &'r RunReport, key: &str) -> &'r StepReport {
    let mut steps = report.steps.iter();
    steps.find(|step| step.step.key == key).unwrap()
}

/// `status: why` of a step.
pub fn fate(report: &RunReport, key: &str) -> String {
    let outcome = &of(report, key).outcome;
    format!("{}: {}", outcome.status(), outcome.text())
}

/// Why a step failed.
pub fn cause(report: &RunReport, key: &str) -> Cause {
    match &of(report, key).outcome {
        StepOutcome::Failed { cause, .. } => *cause,
        outcome => panic!("`{key}` has not failed: {outcome:?}"),
    }
}

/// What a step that succeeded left under this name.
pub fn fact<'r>(report: &'r RunReport, key: &str, name: &str) -> Option<&'r str> {
    let StepOutcome::Succeeded { attributes, .. } = &of(report, key).outcome else {
        panic!("`{key}` has not succeeded: {}", fate(report, key))
    };
    let mut facts = attributes.iter();
    facts
        .find(|fact| fact.key == name)
        .map(|fact| fact.value.as_str())
}

/// Each start and end of a step, in order: `+a 1` for its first try, `-a succeeded`, and `~a 1` for a
/// try that failed and is followed by another.
pub fn course(events: &[RunEvent]) -> Vec<String> {
    let told = |event: &RunEvent| match &event.kind {
        EventKind::StepStarted { step, attempt } => Some(format!("+{step} {attempt}")),
        EventKind::StepRetried { step, attempt, .. } => Some(format!("~{step} {attempt}")),
        EventKind::StepEnded { step, outcome, .. } => Some(format!("-{step} {}", outcome.status())),
        _ => None,
    };
    events.iter().filter_map(told).collect()
}
