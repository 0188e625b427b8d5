//! `vox log`: what was recorded, one file for each verb.
//!
//! | module | owns |
//! |---|---|
//! | `chain` | which log is meant: one's own, or one of another machine |
//! | `select` | which ops are meant: by kind, run, step, author and time |
//! | `view` | ops as they are printed |

mod chain;
mod compact;
mod export;
mod follow;
mod import;
mod ls;
mod select;
mod show;
mod stats;
mod verify;
mod view;

use clap::Subcommand;

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;

/// The verbs of `vox log`.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// List ops, the newest last
    Ls(ls::LsArgs),
    /// Show one op with its payload
    Show(show::ShowArgs),
    /// Print ops as they are appended
    Follow(follow::FollowArgs),
    /// Verify the whole chain, and say the first op that is wrong and why
    Verify(verify::VerifyArgs),
    /// Write the log to a file for another machine
    Export(export::ExportArgs),
    /// Take in another machine's log
    Import(import::ImportArgs),
    /// Count ops by kind
    Stats(stats::StatsArgs),
    /// Remove ops that are older than their class is kept, and record that
    Compact(compact::CompactArgs),
}

/// Carries out a verb of `vox log`.
pub(crate) fn run(context: &Context, command: LogCommand) -> Result<Exit, Failure> {
    match command {
        LogCommand::Ls(arguments) => ls::run(context, &arguments),
        LogCommand::Show(arguments) => show::run(context, &arguments),
        LogCommand::Follow(arguments) => follow::run(context, &arguments),
        LogCommand::Verify(arguments) => verify::run(context, &arguments),
        LogCommand::Export(arguments) => export::run(context, &arguments),
        LogCommand::Import(arguments) => import::run(context, &arguments),
        LogCommand::Stats(arguments) => stats::run(context, &arguments),
        LogCommand::Compact(arguments) => compact::run(context, &arguments),
    }
}
