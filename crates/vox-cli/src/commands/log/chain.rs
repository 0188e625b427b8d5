//! Which log is meant.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use vox_oplog::Reader;

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;

/// The option that names a log.
#[derive(Debug, Args)]
pub(super) struct Chain {
    /// The log of another machine, by the begin of its id; this machine's own without it
    #[arg(long, value_name = "ID")]
    chain: Option<String>,
}

impl Chain {
    /// The log that is meant.
    pub(super) fn open(&self, context: &Context) -> Result<Reader, Failure> {
        match &self.chain {
            None => context.log_reader()?.ok_or_else(|| {
                Failure::new(Exit::NotFound, "nothing was recorded here yet")
                    .hint("what Vox does is recorded as it does it: `vox model import` for one")
            }),
            Some(id) => imported(context, id),
        }
    }
}

/// The ids of the logs that were imported, in order.
pub(super) fn imported_ids(context: &Context) -> Vec<String> {
    let entries = fs::read_dir(context.chains_directory())
        .into_iter()
        .flatten()
        .flatten();
    let mut ids: Vec<_> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    ids.retain(|id| !id.starts_with('.'));
    ids.sort();
    ids
}

fn imported(context: &Context, id: &str) -> Result<Reader, Failure> {
    Ok(Reader::open(imported_directory(context, id)?)?)
}

/// Where the log is that was imported and whose id begins so.
pub(super) fn imported_directory(context: &Context, id: &str) -> Result<PathBuf, Failure> {
    let ids = imported_ids(context);
    let meant: Vec<_> = ids.iter().filter(|known| known.starts_with(id)).collect();
    match meant.as_slice() {
        [one] => Ok(context.chains_directory().join(one)),
        [] => {
            let failure = Failure::new(
                Exit::NotFound,
                format!("no log with the id {id} was imported"),
            );
            Err(match ids.as_slice() {
                [] => failure.hint("`vox log import <file>` takes in another machine's log"),
                ids => failure.hint(format!("there are {}", ids.join(", "))),
            })
        }
        several => {
            let several: Vec<_> = several.iter().map(|id| id.as_str()).collect();
            Err(
                Failure::usage(format!("{id} may be {}", several.join(" or ")))
                    .hint("write more of it"),
            )
        }
    }
}
