//! `vox log follow`: ops as they are appended, by whichever process.

use clap::Args;
use notify::{RecursiveMode, Watcher as _};
use vox_oplog::Query;

use super::chain::Chain;
use super::ls::print;
use super::select::Select;
use super::view::OpLine;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::interrupt;

/// Arguments of `vox log follow`.
#[derive(Debug, Args)]
#[command(after_help = "Ends with Ctrl-C. With --format json each op is one line.")]
pub struct FollowArgs {
    /// Begin with this op; with what comes from now on without it
    #[arg(long, value_name = "OP")]
    from: Option<u64>,
    #[command(flatten)]
    select: Select,
    #[command(flatten)]
    chain: Chain,
}

pub(super) fn run(context: &Context, arguments: &FollowArgs) -> Result<Exit, Failure> {
    let reader = arguments.chain.open(context)?;
    let query = arguments.select.query(&reader)?;
    let next = reader.head()?.map_or(0, |(seq, _)| seq + 1);
    let mut ops = reader.subscribe(arguments.from.unwrap_or(next))?;

    // Another process tells nobody that it appended. It rewrites the log's head, which can be watched.
    let poked = reader.another()?;
    let mut watcher = notify::recommended_watcher(move |_| poked.refresh()).map_err(unwatched)?;
    watcher
        .watch(reader.dir(), RecursiveMode::NonRecursive)
        .map_err(unwatched)?;
    // What was appended before the watch began.
    reader.refresh();

    let canceller = ops.canceller();
    let cancel = interrupt::token();
    let cancelled = cancel.clone();
    std::thread::spawn(move || {
        // Ends with the process, or when the token is cancelled.
        let _ = cancelled.cancelled().recv();
        canceller.cancel();
    });
    for op in &mut ops {
        // Asked for again with the rest of the query, so that what is followed is what is listed.
        let seq = Some(op?.seq);
        let this = Query {
            from: seq,
            to: seq,
            ..query.clone()
        };
        for op in reader.ops(this) {
            print(context, &OpLine::of(&op?))?;
        }
    }
    Ok(if cancel.is_cancelled() {
        Exit::Interrupted
    } else {
        Exit::Success
    })
}

fn unwatched(error: notify::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the log cannot be watched: {error}"))
        .hint("`vox log ls` shows what is there")
}
