//! How much is kept of the events of runs.

mod project;
mod steps;

use std::fs::{self, File};
use std::path::PathBuf;

use serde_json::json;
use vox_run::record::Retention;
use vox_run::{EventKind, RunId};

use project::{Project, Told};
use steps::{note, step};

/// The directory of an older run whose events have so many bytes.
fn old(project: &Project, bytes: usize) -> PathBuf {
    let run = RunId::generate().to_string();
    let directory = project.data().join("runs").join(run);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("events.jsonl"), vec![b' '; bytes]).unwrap();
    directory
}

/// Runs a step, which keeps so much.
fn run(project: &Project, retention: Retention) -> Told {
    let steps = [step("a", note("{step}"), json!({}))];
    project.run_with(&steps, |options| options.retention = retention)
}

/// What a run warned of.
fn warnings(told: &Told) -> Vec<&str> {
    let warned = told.events.iter().filter_map(|event| match &event.kind {
        EventKind::Warning { message } => Some(message.as_str()),
        _ => None,
    });
    warned.collect()
}

#[test]
fn the_events_of_the_oldest_runs_go_together_once_there_are_a_tenth_too_many() {
    let project = Project::new();
    let retention = Retention {
        runs: 10,
        bytes: u64::MAX,
    };
    let old: Vec<PathBuf> = (0..10).map(|_| old(&project, 100)).collect();
    // The eleventh is within the tenth.
    let eleventh = run(&project, retention);
    assert_eq!(warnings(&eleventh), [""; 0]);
    assert!(old.iter().all(|run| run.exists()));

    let twelfth = run(&project, retention);
    assert!(matches!(
        twelfth.events[0].kind,
        EventKind::RunStarted { .. }
    ));
    assert_eq!(
        warnings(&twelfth),
        [
            "what 2 old runs had printed was removed (200B); `--keep-logs` and `--logs-budget` keep more"
        ]
    );
    assert_eq!(twelfth.report.warnings, warnings(&twelfth));
    let there: Vec<bool> = old.iter().map(|run| run.exists()).collect();
    assert_eq!(there[..3], [false, false, true]);
    assert!(there[3..].iter().all(|there| *there));
    // What became of a run does not go with what it told.
    let runs = project.history().list(10, |_| true).unwrap();
    assert_eq!(runs.len(), 2);
}

#[test]
fn the_events_of_the_oldest_runs_go_until_a_tenth_of_the_budget_is_free() {
    let project = Project::new();
    let old: Vec<PathBuf> = (0..3).map(|_| old(&project, 400)).collect();
    let retention = Retention {
        runs: usize::MAX,
        bytes: 1_000,
    };
    let told = run(&project, retention);
    assert_eq!(
        warnings(&told),
        [
            "what 1 old run had printed was removed (400B); `--keep-logs` and `--logs-budget` keep more"
        ]
    );
    let there: Vec<bool> = old.iter().map(|run| run.exists()).collect();
    assert_eq!(there, [false, true, true]);
}

#[test]
fn a_run_that_goes_on_keeps_its_events_however_old_it_is() {
    let project = Project::new();
    let (going_on, over) = (old(&project, 100), old(&project, 100));
    let lock = File::create(going_on.join("lock")).unwrap();
    lock.lock().unwrap();
    let retention = Retention { runs: 1, bytes: 0 };
    run(&project, retention);
    assert!(going_on.join("events.jsonl").exists());
    assert!(!over.exists());
}
