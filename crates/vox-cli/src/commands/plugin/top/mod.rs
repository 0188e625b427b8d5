//! `vox plugin top`: what the plugins of all running processes cost, now and in all.
//!
//! | module | owns |
//! |---|---|
//! | `look` | asking the processes, and what is worked out from two looks |
//! | `table` | a look as people see it |

mod look;
mod table;

use std::time::Duration;

use clap::{Args, ValueEnum};
use crossbeam_channel::{Receiver, after, never, select};
use vox_contract::WallTime;
use vox_host::CancelToken;

pub(super) use self::look::ask_all;
use self::look::{Look, Watcher};
use super::steer::nothing_runs;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::interrupt;
use crate::output;
use crate::output::screen::{CTRL_C, Screen};

/// How often is looked where nobody says.
const INTERVAL: Duration = Duration::from_secs(1);

/// Arguments of `vox plugin top`.
#[derive(Debug, Args)]
#[command(
    after_help = "On a terminal the table is refreshed until q or Ctrl-C is pressed. Elsewhere, and \
                        with --format json, there is\none look, or with --interval one after the \
                        other; as JSON each is one object in one line. The rates of\nthe first look \
                        are means since the process began."
)]
pub struct TopArgs {
    /// Time between two looks, such as 500ms or 2s [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = interval)]
    interval: Option<Duration>,
    /// Look once
    #[arg(long, conflicts_with = "interval")]
    once: bool,
    /// What comes first: cpu, memory, calls or name
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "KEY",
        hide_possible_values = true
    )]
    sort: Sort,
}

/// What comes first in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Sort {
    /// What uses the processor most.
    #[default]
    Cpu,
    /// What holds most memory.
    Memory,
    /// What is called most often.
    Calls,
    /// By id.
    Name,
}

fn interval(text: &str) -> Result<Duration, String> {
    let WallTime(time) = text
        .parse()
        .map_err(|error: vox_contract::QuantityError| format!("{error}; {}", error.hint()))?;
    if time < Duration::from_millis(50) {
        return Err("less than 50ms shows more of vox than of plugins".to_owned());
    }
    Ok(time)
}

pub(super) fn run(context: &Context, arguments: &TopArgs) -> Result<Exit, Failure> {
    let mut watcher = Watcher::default();
    let first = watcher.look(&context.directories)?;
    if first.is_empty() {
        return Err(nothing_runs());
    }
    let draws = context.output.is_human() && Screen::is_there();
    let goes_on = (draws || arguments.interval.is_some()) && !arguments.once;
    if !goes_on {
        show(context, &first, arguments.sort)?;
        return Ok(if first.processes.is_empty() {
            Exit::Failed
        } else {
            Exit::Success
        });
    }

    let interval = arguments.interval.unwrap_or(INTERVAL);
    let cancel = interrupt::token();
    let screen = draws.then(Screen::open).transpose()?;
    let mut keys = match &screen {
        Some(screen) => screen.keys().clone(),
        None => never(),
    };
    let mut look = first;
    loop {
        match &screen {
            Some(screen) => {
                let text = table::Shown {
                    look: &look,
                    sort: arguments.sort,
                    room: Some(Screen::size()),
                };
                screen.draw(&text.to_string())?;
            }
            None => show(context, &look, arguments.sort)?,
        }
        if let Some(exit) = wait(&mut keys, &cancel, interval) {
            return Ok(exit);
        }
        look = watcher.look(&context.directories)?;
    }
}

/// Prints one look.
fn show(context: &Context, look: &Look, sort: Sort) -> Result<(), Failure> {
    let mut text = Vec::new();
    if context.output.is_human() {
        let room = Screen::is_there().then(Screen::size);
        table::Shown { look, sort, room }.human(&mut text)?;
    } else {
        serde_json::to_writer(&mut text, look).map_err(std::io::Error::from)?;
        text.push(b'\n');
    }
    output::print(&text)
}

/// Waits for the next look; answers how the command ends, where it does.
fn wait(keys: &mut Receiver<u8>, cancel: &CancelToken, interval: Duration) -> Option<Exit> {
    let next = after(interval);
    loop {
        select! {
            recv(next) -> _ => return None,
            recv(cancel.cancelled()) -> _ => return Some(Exit::Interrupted),
            recv(keys) -> key => match key {
                Ok(b'q' | b'Q') => return Some(Exit::Success),
                Ok(CTRL_C) => return Some(Exit::Interrupted),
                Ok(_) => {}
                // The keyboard is gone.
                Err(_) => *keys = never(),
            },
        }
    }
}
