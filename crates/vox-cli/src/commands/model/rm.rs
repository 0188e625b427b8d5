//! `vox model rm`: lets names go.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use vox_model::library::Library;
use vox_model::record::MODEL_REMOVE;

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{DIM, LITERAL, paint, plain};
use crate::output::{View, bytes};

/// Arguments of `vox model rm`.
#[derive(Debug, Args)]
#[command(
    after_help = "The files stay until `vox model gc`, and then go if nothing else needs them."
)]
pub struct RmArgs {
    /// Names of models, as `vox model ls` lists them
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Removed<'a> {
    removed: &'a [String],
    /// Bytes of what nobody calls by these names any more.
    bytes: u64,
}

impl View for Removed<'_> {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for name in self.removed {
            writeln!(out, "let go of {}", paint(LITERAL, plain(name)))?;
        }
        let freed = format!("`vox model gc` frees up to {}", bytes(self.bytes));
        writeln!(out, "  {}", paint(DIM, freed))
    }
}

pub(super) fn run(context: &Context, arguments: &RmArgs) -> Result<Exit, Failure> {
    let library = Library::new(context.store_to_free()?);
    // All of them are looked at before one of them goes.
    let mut entries = Vec::new();
    for name in &arguments.names {
        let named = library
            .list()?
            .into_iter()
            .find(|named| named.name == *name);
        match named {
            Some(named) => entries.push(named),
            None => {
                return Err(library.find(name).err().map_or_else(
                    || {
                        Failure::usage(format!(
                            "`{name}` is no whole name; write what `vox model ls` lists"
                        ))
                    },
                    Failure::from,
                ));
            }
        }
    }
    let mut freed = 0;
    for named in entries {
        library.remove(&named.name)?;
        // One whose manifest is broken can be let go of; there is nothing to record it by.
        if let Ok(entry) = named.entry {
            freed += entry.manifest.len();
            super::record_or_tell(context, MODEL_REMOVE, &named.name, &entry.manifest);
        }
    }
    context.output.show(&Removed {
        removed: &arguments.names,
        bytes: freed,
    })?;
    Ok(Exit::Success)
}
