//! `vox plugin remove`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use vox_contract::PluginId;
use vox_host::install::{self, Which};

use super::named::IdAndVersion;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::View;
use crate::output::style::{GOOD, WARNING, paint};

/// Arguments of `vox plugin remove`.
#[derive(Debug, Args)]
#[command(
    after_help = "What the plugin was granted and what it keeps stays, in case it comes \
                        back;\n`vox plugin revoke` takes the grants away."
)]
pub struct RemoveArgs {
    /// The plugin, or one version of it: redact, redact@0.1.0
    #[arg(value_name = "ID[@VERSION]")]
    plugin: IdAndVersion,
    /// Remove it also when other plugins need it
    #[arg(long)]
    force: bool,
}

/// What was removed.
#[derive(Debug, Serialize)]
struct RemovedView {
    id: PluginId,
    /// The directories that are gone.
    directories: Vec<PathBuf>,
    /// Plugins that cannot be used any more, each as `redact 0.1.0`.
    broken: Vec<String>,
}

impl View for RemovedView {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for directory in &self.directories {
            writeln!(out, "{} {}", paint(GOOD, "removed"), directory.display())?;
        }
        for broken in &self.broken {
            writeln!(
                out,
                "{} {broken} needs it and cannot be used now",
                paint(WARNING, "warning:")
            )?;
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context, arguments: &RemoveArgs) -> Result<Exit, Failure> {
    let IdAndVersion { id, version } = arguments.plugin.clone();
    let which = version.map_or(Which::All, Which::Version);
    let removed = install::remove(&context.directories, &id, &which, arguments.force)?;
    context.output.show(&RemovedView {
        id,
        directories: removed.directories,
        broken: removed
            .broken
            .iter()
            .map(|broken| format!("{} {}", broken.id, broken.version))
            .collect(),
    })?;
    Ok(Exit::Success)
}
