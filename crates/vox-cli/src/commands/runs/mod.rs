//! `vox runs`: what is known of runs, one file for each verb.
//!
//! | module | owns |
//! |---|---|
//! | `named` | which run is meant |
//! | `view` | runs as they are printed |
//!
//! What must stay true: the log is the truth of what became of a run, and is enough for all but its output;
//! looking at runs changes nothing.

mod cancel;
#[cfg(test)]
pub(crate) mod fixture;
mod logs;
mod ls;
mod named;
mod replay;
mod rerun;
mod show;
mod trace;
mod view;

use clap::Subcommand;
use vox_run::record::Transcript;
use vox_run::{History, RunId};

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;

pub(crate) use named::{is_made_by_matrix, made_by_matrix};
pub(crate) use view::short;

/// The verbs of `vox runs`.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// List runs, the newest first
    Ls(ls::LsArgs),
    /// Show what became of a run and of each of its steps
    Show(show::ShowArgs),
    /// Print what the steps of a run wrote
    Logs(logs::LogsArgs),
    /// Print what a run printed, again
    Replay(replay::ReplayArgs),
    /// Write when each step of a run ran, for Perfetto or chrome://tracing
    Trace(trace::TraceArgs),
    /// End a run that goes on, and wait until it has cleaned up
    Cancel(cancel::CancelArgs),
    /// Run the plan of an earlier run again
    Rerun(rerun::RerunArgs),
}

/// Carries out a verb of `vox runs`.
pub(crate) fn run(context: &Context, command: RunsCommand) -> Result<Exit, Failure> {
    match command {
        RunsCommand::Ls(arguments) => ls::run(context, &arguments),
        RunsCommand::Show(arguments) => show::run(context, &arguments),
        RunsCommand::Logs(arguments) => logs::run(context, &arguments),
        RunsCommand::Replay(arguments) => replay::run(context, &arguments),
        RunsCommand::Trace(arguments) => trace::run(context, &arguments),
        RunsCommand::Cancel(arguments) => cancel::run(context, &arguments),
        RunsCommand::Rerun(arguments) => rerun::rerun(context, &arguments),
    }
}

/// The runs that the log knows; none when nothing was ever recorded.
pub(crate) fn history_if_any(context: &Context) -> Result<Option<History>, Failure> {
    let reader = context.log_reader()?;
    Ok(reader.map(|reader| History::new(reader, &context.directories.data)))
}

/// The runs that the log knows.
pub(crate) fn history(context: &Context) -> Result<History, Failure> {
    history_if_any(context)?.ok_or_else(|| {
        Failure::new(Exit::NotFound, "no run was recorded here yet")
            .hint("`vox run pipeline.toml` records what it does")
    })
}

/// The events of a run.
fn transcript(history: &History, run: RunId) -> Result<Transcript, Failure> {
    if let Some(transcript) = history.transcript(run)? {
        return Ok(transcript);
    }
    // It says so itself where there is no such run.
    history.load(run)?;
    let message = format!("what run {run} printed is not here any more");
    let hint = format!(
        "`vox runs show {run}` says what became of its steps; `--keep-logs` and `--logs-budget` of `vox run` keep the \
         output of more runs"
    );
    Err(Failure::new(Exit::NotFound, message).hint(hint))
}
