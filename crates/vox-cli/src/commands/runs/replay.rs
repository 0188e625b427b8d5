//! `vox runs replay`: what a run printed, again.

use clap::Args;
use vox_run::RunEvent;
use vox_run::record::Told;

use super::named::NamedRun;
use crate::commands::run::summary::Summary;
use crate::commands::run::view::{EventLine, Lines};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output;
use crate::output::screen::Screen;

/// Arguments of `vox runs replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "With --format json every event of the run is printed as it was, one a line."
)]
pub struct ReplayArgs {
    #[command(flatten)]
    run: NamedRun,
}

pub(super) fn run(context: &Context, arguments: &ReplayArgs) -> Result<Exit, Failure> {
    let history = super::history(context)?;
    let run = arguments.run.find(&history)?;
    let transcript = super::transcript(&history, run)?;
    let mut lines = Lines::default();
    let mut told = Told::default();
    for event in transcript {
        let event = event?;
        if !context.output.is_human() {
            print_event(&event)?;
            continue;
        }
        let line = EventLine {
            event: &event,
            lines: &mut lines,
        };
        output::print(line.text().as_bytes())?;
        told.take(event);
    }
    if context.output.is_human() {
        match told.into_report() {
            Some(report) => {
                let summary = Summary {
                    report: &report,
                    is_kept: true,
                    room: Screen::columns(),
                    was_shown: true,
                };
                output::print(summary.to_string().as_bytes())?;
            }
            None => context.output.note(format_args!(
                "run {run} has told no more; `vox runs show {run}` says how it stands"
            )),
        }
    }
    Ok(Exit::Success)
}

/// Prints an event as it was told, in one line.
pub(super) fn print_event(event: &RunEvent) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(event).map_err(std::io::Error::from)?;
    line.push(b'\n');
    output::print(&line)
}
