//! Runs as they are printed.

use std::time::Duration;

use anstyle::Style;
use serde::Serialize;
use vox_run::record::{RunState, RunSummary};
use vox_run::{RunId, RunOutcome};

use crate::output::style::{BAD, GOOD, STRONG, WARNING, plain};
use crate::record::{now, written_time};

/// A run in a list.
#[derive(Debug, Serialize)]
pub(super) struct RunLine {
    pub(super) id: RunId,
    pub(super) pipeline: String,
    /// The file of the plan, as the user wrote it.
    pub(super) file: String,
    /// Where relative paths of its steps start.
    pub(super) directory: String,
    /// `running`, `interrupted`, `succeeded`, `failed`, `cancelled` or `aborted`.
    pub(super) state: &'static str,
    /// What aborted it, and why.
    pub(super) reason: Option<String>,
    /// The process that carries it out, where one does and says so.
    pub(super) process: Option<u32>,
    pub(super) began: String,
    /// From its beginning, or where it was resumed from then on, to its end or to now; none when it was
    /// interrupted.
    pub(super) seconds: Option<f64>,
    /// Number of steps of the plan.
    pub(super) planned_steps: u64,
    /// Whether steps go on after one has failed.
    pub(super) keep_going: bool,
    /// Names of the variables that the user gave it.
    pub(super) variables: Vec<String>,
    /// The run whose results it began with.
    pub(super) of: Option<RunId>,
    /// The version of Vox that began it.
    pub(super) version: String,
}

impl RunLine {
    pub(super) fn of(summary: &RunSummary) -> Self {
        let RunSummary {
            id,
            started,
            time,
            state,
        } = summary;
        let started = started.clone();
        let micros = match state {
            RunState::Ended(ended) => Some(ended.micros),
            RunState::Running(_) => u64::try_from(now().saturating_sub(*time)).ok(),
            RunState::Interrupted => None,
        };
        Self {
            id: *id,
            pipeline: started.pipeline,
            file: started.file,
            directory: started.directory,
            state: state.name(),
            reason: reason(state),
            process: match state {
                RunState::Running(process) if *process != 0 => Some(*process),
                _ => None,
            },
            began: written_time(*time),
            seconds: micros.map(|micros| Duration::from_micros(micros).as_secs_f64()),
            planned_steps: started.steps,
            keep_going: started.keep_going,
            variables: started.variables,
            of: started.of,
            version: started.version,
        }
    }

    /// How long it took, as people read it.
    pub(super) fn took(&self) -> String {
        self.seconds.map_or_else(String::new, in_words)
    }
}

fn reason(state: &RunState) -> Option<String> {
    match state {
        RunState::Ended(ended) => match &ended.outcome {
            RunOutcome::Aborted { by, reason } => Some(format!("{by}: {}", plain(reason))),
            _ => None,
        },
        _ => None,
    }
}

/// A number of seconds as people read it.
pub(super) fn in_words(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds)
        .map(crate::commands::run::view::seconds)
        .unwrap_or_default()
}

/// The style of the state of a run or a step.
pub(super) fn style_of(state: &str) -> Style {
    match state {
        "succeeded" => GOOD,
        "failed" | "aborted" => BAD,
        "running" => STRONG,
        "waiting" | "not-started" => Style::new(),
        _ => WARNING,
    }
}

/// The end of a run's id, which tells runs apart better than the beginning, the time: for people, who can
/// name the run by it.
pub(crate) fn short(run: RunId) -> String {
    let id = run.to_string();
    id.rsplit('-').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_of_an_id_is_its_end() {
        let run = RunId::generate();
        let short = short(run);
        assert_eq!(short.len(), 12);
        assert!(run.to_string().ends_with(&short));
    }
}
