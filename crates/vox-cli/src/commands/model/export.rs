//! `vox model export`: a model as a directory.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::interrupt;
use crate::output::style::{LITERAL, paint, plain};
use crate::output::{View, bytes, count};
use crate::progress::Bar;

/// Arguments of `vox model export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The model: its name, its hash, or the begin of one of them
    model: String,
    /// A directory that is not there yet
    #[arg(value_name = "DIR")]
    to: PathBuf,
}

#[derive(Debug, Serialize)]
struct Exported {
    model: String,
    directory: PathBuf,
    files: usize,
    bytes: u64,
}

impl View for Exported {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let model = paint(LITERAL, plain(&self.model));
        let (files, size) = (count(self.files, "file"), bytes(self.bytes));
        writeln!(
            out,
            "{model} is in {}: {files}, {size}",
            self.directory.display()
        )
    }
}

pub(super) fn run(context: &Context, arguments: &ExportArgs) -> Result<Exit, Failure> {
    let library = context.library()?;
    let entry = library.find(&arguments.model)?;
    let progress = Bar::new(context.output, interrupt::token());
    library.export(&entry.manifest, &arguments.to, &progress)?;
    drop(progress);
    context.output.show(&Exported {
        model: entry.title(),
        directory: arguments.to.clone(),
        files: entry.manifest.files.len(),
        bytes: entry.manifest.len(),
    })?;
    Ok(Exit::Success)
}
