//! `vox plugin pause`, `resume`, `reload` and `unload`: what a user does with a plugin in the
//! processes that use it.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use vox_contract::PluginId;
use vox_host::control::{self, ControlError, Done, Outcome, Process, Refusal, RefusalKind};

use super::named::plugin_id;
use super::top::ask_all;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::View;
use crate::output::style::{BAD, HINT, LITERAL, paint, plain};

/// Arguments of all four.
#[derive(Debug, Args)]
pub struct SteerArgs {
    /// The plugin
    #[arg(value_name = "ID", value_parser = plugin_id)]
    plugin: PluginId,
    /// Only in this process; otherwise in all that use the plugin
    #[arg(long, value_name = "PROCESS")]
    pid: Option<u32>,
}

/// What is done with the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Pause,
    Resume,
    Reload,
    Unload,
}

impl Deed {
    fn ask(self, process: &Process, plugin: &PluginId) -> Result<Done, ControlError> {
        match self {
            Self::Pause => process.pause(plugin),
            Self::Resume => process.resume(plugin),
            Self::Reload => process.reload(plugin),
            Self::Unload => process.unload(plugin),
        }
    }
}

/// What the processes answered, by their ids.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Answers(Vec<Answer>);

/// What one process answered: one of `done` and `error`.
#[derive(Debug, Serialize)]
struct Answer {
    pid: u32,
    done: Option<Done>,
    error: Option<Wrong>,
}

/// Why it was not done.
#[derive(Debug, Serialize)]
struct Wrong {
    message: String,
    hint: Option<String>,
}

impl View for Answers {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for Answer { pid, done, error } in &self.0 {
            if let Some(done) = done {
                let plugin = paint(LITERAL, &done.plugin);
                writeln!(out, "process {pid}: {plugin} {}", told(done))?;
            }
            if let Some(Wrong { message, hint }) = error {
                writeln!(out, "{} {}", paint(BAD, "error:"), plain(message))?;
                if let Some(hint) = hint {
                    writeln!(out, "  {} {}", paint(HINT, "hint:"), plain(hint))?;
                }
            }
        }
        Ok(())
    }
}

fn told(done: &Done) -> String {
    let Done { running, state, .. } = done;
    match &done.outcome {
        Outcome::Paused => format!("{running} is paused: its calls wait"),
        Outcome::Resumed => format!("{running} goes on"),
        Outcome::Unchanged => format!("{running} serves already what is on disk"),
        Outcome::Replaced { from, to } if from == to => {
            format!("{to} was reloaded: what is on disk now serves")
        }
        Outcome::Replaced { from, to } => format!("{to} serves in the place of {from}"),
        Outcome::NotLoaded => format!("{running} is taken from disk at its next call"),
        Outcome::Unloaded => format!("{running} takes no more calls and is {state}"),
        other => format!("{running} is {state} ({other:?})"),
    }
}

pub(super) fn run(context: &Context, arguments: &SteerArgs, deed: Deed) -> Result<Exit, Failure> {
    let SteerArgs { plugin, pid } = arguments;
    let mut processes = control::processes(&context.directories)?;
    if processes.is_empty() {
        return Err(nothing_runs());
    }
    if let Some(pid) = pid {
        processes.retain(|process| process.pid() == *pid);
        if processes.is_empty() {
            let message = format!("no process {pid} is running with plugins");
            return Err(Failure::new(Exit::NotFound, message)
                .hint("`vox plugin top --once` shows those that are"));
        }
    }
    let answers = ask_all(&processes, |process| deed.ask(process, plugin));
    let answers: Vec<Answer> = processes
        .iter()
        .zip(answers)
        .filter_map(|(process, answer)| Answer::of(process.pid(), answer))
        .collect();
    if answers.is_empty() {
        let message = format!("no running process uses the plugin `{plugin}`");
        return Err(Failure::new(Exit::NotFound, message)
            .hint("`vox plugin top --once` shows which plugins are in use"));
    }
    let failed = answers.iter().any(|answer| answer.error.is_some());
    context.output.show(&Answers(answers))?;
    Ok(if failed { Exit::Failed } else { Exit::Success })
}

impl Answer {
    /// None of a process that does not use the plugin, or has ended.
    fn of(pid: u32, answer: Result<Done, ControlError>) -> Option<Self> {
        let (done, error) = match answer {
            Ok(done) => (Some(done), None),
            Err(
                ControlError::Gone { .. }
                | ControlError::Refused {
                    refusal:
                        Refusal {
                            kind: RefusalKind::NotHere,
                            ..
                        },
                    ..
                },
            ) => return None,
            Err(error) => {
                let message = error.to_string();
                let hint = error.hint().map(str::to_owned);
                (None, Some(Wrong { message, hint }))
            }
        };
        Some(Self { pid, done, error })
    }
}

/// Nobody is there to be asked.
pub(super) fn nothing_runs() -> Failure {
    Failure::new(Exit::NotFound, "nothing is running with plugins")
        .hint("`vox run` and the commands of plugins can be watched while they last")
}
