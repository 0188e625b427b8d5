//! `vox log import`: another machine's log.
//!
//! Whose log a file holds is known once it was verified, so a log that is new here is taken in beside its
//! place and moved there.

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use vox_crypto::PublicKey;
use vox_oplog::{Imported, Replica};

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::View;
use crate::output::style::{DIM, GOOD, LITERAL, paint};

/// Arguments of `vox log import`.
#[derive(Debug, Args)]
#[command(
    after_help = "The log is verified on its way in, and stays a chain of its own beside this machine's log. Where it \
                  and what\nis here have parted, nothing is imported and the first op that differs is named."
)]
pub struct ImportArgs {
    /// A file that `vox log export` wrote
    file: PathBuf,
    /// The log that it goes on with, for an export that does not begin at the first op
    #[arg(long, value_name = "ID")]
    chain: Option<String>,
}

#[derive(Debug, Serialize)]
struct ImportedView {
    log: String,
    added: u64,
    known: u64,
    removed: u64,
    last: u64,
    head: String,
    /// The keys that may write it.
    authors: Vec<PublicKey>,
}

impl View for ImportedView {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let id = paint(LITERAL, &self.log[..12]);
        writeln!(
            out,
            "{} log {id}: {} ops are new, {} were known",
            paint(GOOD, "imported"),
            self.added,
            self.known
        )?;
        writeln!(out, "  it ends with op {}, {}", self.last, self.head)?;
        for author in &self.authors {
            writeln!(out, "  written by {} {}", author.id(), paint(DIM, author))?;
        }
        writeln!(
            out,
            "  {}",
            paint(
                DIM,
                format!("`vox log ls --chain {}` lists it", &self.log[..12])
            )
        )
    }
}

pub(super) fn run(context: &Context, arguments: &ImportArgs) -> Result<Exit, Failure> {
    let chains = context.chains_directory();
    fs::create_dir_all(&chains).map_err(|error| Failure::io("create", &chains, &error))?;
    let (imported, directory) = match &arguments.chain {
        Some(id) => {
            let directory = super::chain::imported_directory(context, id)?;
            (take_in(&directory, &arguments.file)?, directory)
        }
        None => new_or_known(&chains, &arguments.file)?,
    };
    let authors = vox_oplog::Reader::open(&directory)?.authors()?;
    let (last, head) = imported.head;
    context.output.show(&ImportedView {
        log: imported.log.to_string(),
        added: imported.added,
        known: imported.known,
        removed: imported.removed,
        last,
        head: head.to_string(),
        authors,
    })?;
    Ok(Exit::Success)
}

fn take_in(directory: &Path, file: &Path) -> Result<Imported, Failure> {
    let open = File::open(file).map_err(|error| Failure::io("open", file, &error))?;
    Ok(Replica::open(directory)?.import(&mut BufReader::new(open))?)
}

/// Takes a log in that begins with its first op, whether or not a part of it is here.
fn new_or_known(chains: &Path, file: &Path) -> Result<(Imported, PathBuf), Failure> {
    let failed = |error: io::Error| Failure::io("create a directory in", chains, &error);
    let beside = tempfile::Builder::new()
        .prefix(".import-")
        .tempdir_in(chains)
        .map_err(failed)?;
    let imported = take_in(beside.path(), file)?;
    let directory = chains.join(imported.log.to_string());
    if directory.exists() {
        return Ok((take_in(&directory, file)?, directory));
    }
    match fs::rename(beside.path(), &directory) {
        Ok(()) => {
            let _ = beside.keep();
            Ok((imported, directory))
        }
        // Another process was first with the same log.
        Err(_) if directory.exists() => Ok((take_in(&directory, file)?, directory)),
        Err(error) => Err(Failure::io("create", &directory, &error)),
    }
}
