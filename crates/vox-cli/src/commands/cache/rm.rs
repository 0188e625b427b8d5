//! `vox cache rm`: lets results go.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use vox_run::cache::Cache;

use super::{Entry, short};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{DIM, LITERAL, paint, plain};
use crate::output::{View, bytes};

/// Arguments of `vox cache rm`.
#[derive(Debug, Args)]
#[command(
    after_help = "The files stay until `vox cache gc`, and then go if nothing else needs them."
)]
pub struct RmArgs {
    /// Keys of results, as `vox cache ls` lists them; the beginning is enough
    #[arg(
        required_unless_present = "all",
        conflicts_with = "all",
        value_name = "KEY"
    )]
    keys: Vec<String>,
    /// Let all of them go
    #[arg(long)]
    all: bool,
}

/// The results that went.
#[derive(Debug, Serialize)]
struct Removed {
    removed: Vec<Entry>,
    /// Bytes of them and of what their steps made.
    bytes: u64,
}

impl View for Removed {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.removed.is_empty() {
            return writeln!(out, "no results are kept here");
        }
        for entry in &self.removed {
            let key = paint(LITERAL, entry.short());
            writeln!(out, "let go of {key} ({})", plain(&entry.steps()))?;
        }
        let freed = format!("`vox cache gc` frees up to {}", bytes(self.bytes));
        writeln!(out, "  {}", paint(DIM, freed))
    }
}

pub(super) fn run(context: &Context, arguments: &RmArgs) -> Result<Exit, Failure> {
    let mut entries = super::entries(context)?;
    if !arguments.all {
        // All of them are looked at before one of them goes.
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let wanted = arguments.keys.iter().map(|wanted| meant(wanted, &keys));
        let wanted = wanted.collect::<Result<Vec<String>, _>>()?;
        entries.retain(|entry| wanted.contains(&entry.key));
    }
    if !entries.is_empty() {
        let cache = Cache::new(context.store_to_free()?);
        for entry in &entries {
            cache.remove(&entry.key)?;
        }
    }
    context.output.show(&Removed {
        bytes: entries.iter().map(|entry| entry.bytes).sum(),
        removed: entries,
    })?;
    Ok(Exit::Success)
}

/// The one key that begins so.
fn meant(wanted: &str, keys: &[&str]) -> Result<String, Failure> {
    let mut found = keys.iter().filter(|key| key.starts_with(wanted));
    match (found.next(), found.next()) {
        _ if wanted.is_empty() => Err(Failure::usage("a key has letters")
            .hint("`vox cache ls` lists keys; `--all` lets all results go")),
        (Some(one), None) => Ok((*one).to_owned()),
        (None, _) => {
            let message = format!("no result has a key that begins with `{}`", plain(wanted));
            Err(Failure::new(Exit::NotFound, message).hint("`vox cache ls` lists the keys"))
        }
        (Some(one), Some(other)) => {
            let (one, other) = (short(one), short(other));
            let message = format!("`{}` may be {one} or {other}", plain(wanted));
            Err(Failure::usage(message).hint("write more of it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_as_much_of_it_as_tells_it_apart() {
        let keys = ["ab12", "ab34", "cd56"];
        assert_eq!(meant("ab1", &keys).unwrap(), "ab12");
        assert_eq!(meant("cd56", &keys).unwrap(), "cd56");
        assert_eq!(meant("ab", &keys).unwrap_err().exit(), Exit::Usage);
        assert_eq!(meant("ef", &keys).unwrap_err().exit(), Exit::NotFound);
        assert_eq!(meant("", &keys).unwrap_err().exit(), Exit::Usage);
    }
}
