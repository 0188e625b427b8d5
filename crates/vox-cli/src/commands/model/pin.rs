//! `vox model pin` and `unpin`.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use vox_model::library::{Entry, Library};
use vox_model::record::{MODEL_PIN, MODEL_UNPIN};

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::View;
use crate::output::style::{LITERAL, paint, plain};

/// Arguments of `vox model pin` and `vox model unpin`.
#[derive(Debug, Args)]
pub struct PinArgs {
    /// The model
    model: String,
}

#[derive(Debug, Serialize)]
struct Pinned {
    name: String,
    pinned: bool,
}

impl View for Pinned {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let name = paint(LITERAL, plain(&self.name));
        match self.pinned {
            true => writeln!(out, "{name} is kept whatever the store needs room for"),
            false => writeln!(out, "{name} may go when the store needs room"),
        }
    }
}

pub(super) fn pin(context: &Context, arguments: &PinArgs) -> Result<Exit, Failure> {
    let library = context.library()?;
    let (name, entry) = named(library.find(&arguments.model)?)?;
    if !entry.pinned {
        library.pin(&name, &entry.digest)?;
        super::record(context, MODEL_PIN, &name, &entry.manifest)?;
    }
    context.output.show(&Pinned { name, pinned: true })?;
    Ok(Exit::Success)
}

pub(super) fn unpin(context: &Context, arguments: &PinArgs) -> Result<Exit, Failure> {
    let library = Library::new(context.store_to_free()?);
    let (name, entry) = named(library.find(&arguments.model)?)?;
    if library.unpin(&name)? {
        super::record_or_tell(context, MODEL_UNPIN, &name, &entry.manifest);
    }
    context.output.show(&Pinned {
        name,
        pinned: false,
    })?;
    Ok(Exit::Success)
}

/// A bundle with its name. A pin needs one, so that it can be taken back.
fn named(entry: Entry) -> Result<(String, Entry), Failure> {
    match entry.name.clone() {
        Some(name) => Ok((name, entry)),
        None => Err(
            Failure::new(Exit::NotFound, format!("{} has no name", entry.digest))
                .hint("`vox model ls` lists what has one"),
        ),
    }
}
