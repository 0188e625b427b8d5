//! Recorded runs for tests.

use std::collections::BTreeMap;

use vox_run::record::{RecordedRun, RunStarted, RunState, RunSummary, StepEnd};
use vox_run::report::Provenance;
use vox_run::{RunId, StepOutcome};

/// A run that was interrupted before its first step.
pub(crate) fn recorded() -> RecordedRun {
    RecordedRun {
        summary: RunSummary {
            id: RunId::generate(),
            started: RunStarted {
                pipeline: "p".into(),
                file: "p.toml".into(),
                directory: "/".into(),
                plan: vox_crypto::hash(b"plan"),
                steps: 2,
                keep_going: false,
                variables: Vec::new(),
                of: None,
                version: "0".into(),
            },
            time: 0,
            state: RunState::Interrupted,
        },
        resumed: 0,
        ends: BTreeMap::new(),
        attempts: BTreeMap::new(),
        acknowledged: BTreeMap::new(),
        parts: BTreeMap::new(),
        keys: BTreeMap::new(),
    }
}

/// The same with a step that succeeded, and what its key is made of, if it has one.
pub(crate) fn with_step(
    mut run: RecordedRun,
    step: &str,
    provenance: Provenance,
    parts: &[(&str, &str)],
) -> RecordedRun {
    let end = StepEnd {
        step: step.to_owned(),
        outcome: StepOutcome::Succeeded {
            summary: "done".to_owned(),
            attributes: Vec::new(),
        },
        provenance,
        micros: 1_000_000,
        outputs: BTreeMap::new(),
    };
    run.ends.insert(step.to_owned(), end);
    if !parts.is_empty() {
        let parts: BTreeMap<String, String> = parts
            .iter()
            .map(|(part, value)| ((*part).to_owned(), (*value).to_owned()))
            .collect();
        run.keys
            .insert(step.to_owned(), format!("key of {parts:?}"));
        run.parts.insert(step.to_owned(), parts);
    }
    run
}
