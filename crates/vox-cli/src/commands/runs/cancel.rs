//! `vox runs cancel`: ends a run that goes on in another process.
//!
//! The process is told as Ctrl-C tells it, so that it ends its steps and cleans up.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use vox_run::record::{RunState, RunSummary};
use vox_run::{History, RecordError, RunId};

use super::named::NamedRun;
use super::view::{RunLine, style_of};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::View;
use crate::output::style::{DIM, LITERAL, STRONG, paint, plain};

/// How long it is waited for the run to clean up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Arguments of `vox runs cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    #[command(flatten)]
    run: NamedRun,
}

/// How the run ended.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Cancelled(RunLine);

impl View for Cancelled {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let run = &self.0;
        let after = run
            .seconds
            .map_or_else(String::new, |_| format!(" after {}", run.took()));
        writeln!(
            out,
            "{} {}{after} {}",
            paint(STRONG, plain(&run.pipeline)),
            paint(style_of(run.state), run.state),
            paint(DIM, run.id)
        )?;
        if run.state == "interrupted" {
            let command = paint(LITERAL, format!("vox run --resume {}", run.id));
            writeln!(
                out,
                "  it did not come to its end; {command} goes on with it"
            )?;
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context, arguments: &CancelArgs) -> Result<Exit, Failure> {
    let history = super::history(context)?;
    let run = arguments.run.find(&history)?;
    let found = look(&history, run)?;
    let process = match found.state {
        RunState::Running(0) => {
            let message = format!("run {run} goes on, and its process does not say which it is");
            return Err(Failure::new(Exit::Failed, message)
                .hint("it has only just begun: try again, or press Ctrl-C where it runs"));
        }
        RunState::Running(process) => process,
        RunState::Interrupted => {
            let message = format!("run {run} is not running: it was interrupted");
            return Err(Failure::new(Exit::NotFound, message)
                .hint(format!("`vox run --resume {run}` goes on with it")));
        }
        RunState::Ended(_) => {
            let message = format!("run {run} is not running: it {}", past(found.state.name()));
            return Err(
                Failure::new(Exit::NotFound, message).hint("`vox runs ls` shows those that are")
            );
        }
    };
    interrupt(run, process)?;
    let begun = Instant::now();
    loop {
        let now = look(&history, run)?;
        if !matches!(now.state, RunState::Running(_)) {
            context.output.show(&Cancelled(RunLine::of(&now)))?;
            return Ok(Exit::Success);
        }
        if begun.elapsed() >= PATIENCE {
            let message = format!(
                "run {run} was told to end, and process {process} still cleans up after {} s",
                PATIENCE.as_secs()
            );
            let hint = format!(
                "`vox runs cancel {run}` once more ends it at once; `vox run --resume {run}` goes on with it then"
            );
            return Err(Failure::new(Exit::Failed, message).hint(hint));
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn look(history: &History, run: RunId) -> Result<RunSummary, Failure> {
    Ok(history.summary_of(run)?.ok_or_else(|| RecordError::NoRun {
        wanted: run.to_string(),
    })?)
}

/// The state of a run that is over, as what it did.
fn past(state: &str) -> String {
    match state {
        "cancelled" | "aborted" => format!("was {state}"),
        _ => state.to_owned(),
    }
}

/// Tells a process to end, as Ctrl-C does.
#[cfg(unix)]
fn interrupt(run: RunId, process: u32) -> Result<(), Failure> {
    use rustix::io::Errno;
    use rustix::process::{Pid, Signal, kill_process};

    let refused = |why: &dyn std::fmt::Display| {
        let message =
            format!("process {process}, which carries run {run} out, cannot be told to end: {why}");
        Failure::new(Exit::Failed, message)
    };
    let id = i32::try_from(process)
        .ok()
        .filter(|id| *id > 0)
        .and_then(Pid::from_raw)
        .ok_or_else(|| refused(&"that is no process"))?;
    match kill_process(id, Signal::INT) {
        // It has ended since; how, the record says.
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(Errno::PERM) => Err(refused(&"it is another user's").hint("that user can cancel it")),
        Err(error) => Err(refused(&error)),
    }
}

/// Nothing here tells a process to end as Ctrl-C does.
#[cfg(not(unix))]
fn interrupt(run: RunId, process: u32) -> Result<(), Failure> {
    let message = format!("run {run} cannot be cancelled from another process here");
    let hint = format!("press Ctrl-C where process {process} runs");
    Err(Failure::new(Exit::Failed, message).hint(hint))
}
