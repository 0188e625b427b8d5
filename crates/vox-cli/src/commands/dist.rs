//! `vox dist`: this host with a set of plugins, in a directory or an archive that runs where it is
//! unpacked.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use semver::Version;
use serde::Serialize;
use vox_contract::PluginId;
use vox_host::directories::Directories;
use vox_host::distribution::{self, Parts};
use vox_host::inventory::Inventory;

use super::plugin::BUILD_ROOT;
use crate::catalogue::Catalogue;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{DIM, GOOD, LITERAL, paint, plain};
use crate::output::table::{Cell, Table};
use crate::output::{View, count};
use crate::sdk;

/// The verbs of `vox dist`.
#[derive(Debug, Subcommand)]
pub enum DistCommand {
    /// List the distributions in the catalogue
    List,
    /// Build a distribution from this vox and plugins that are built
    Build(BuildArgs),
}

/// Arguments of `vox dist build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The distribution
    name: String,
    /// Where it goes [default: a directory of its name, here]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A root with built plugins [default: what was built beside their sources, and what is
    /// installed]
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Pack it as an archive too, beside its directory
    #[arg(long)]
    archive: bool,
}

/// Carries out a verb of `vox dist`.
pub(crate) fn run(context: &Context, command: DistCommand) -> Result<Exit, Failure> {
    match command {
        DistCommand::List => list(context),
        DistCommand::Build(arguments) => build(context, &arguments),
    }
}

/// The distributions of the catalogue, in its order.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Distributions(Vec<Line>);

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    description: String,
    /// The distribution whose plugins it has besides its own; null for none.
    extends: Option<String>,
    /// All its plugins, those of what it extends first.
    plugins: Vec<PluginId>,
}

impl View for Distributions {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(["NAME", "EXTENDS", "PLUGINS", "DESCRIPTION"]);
        for line in &self.0 {
            let plugins: Vec<&str> = line.plugins.iter().map(PluginId::as_str).collect();
            let plugins = if plugins.is_empty() {
                "-".to_owned()
            } else {
                plugins.join(", ")
            };
            table.row([
                Cell::styled(LITERAL, &line.name),
                line.extends.as_deref().unwrap_or("-").into(),
                plugins.into(),
                Cell::styled(DIM, &line.description),
            ]);
        }
        write!(out, "{table}")
    }
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let catalog = context.catalogue()?.catalog;
    let lines = catalog.distributions.iter().map(|distribution| {
        let plugins = catalog.distribution(distribution.name.as_str())?;
        Ok(Line {
            name: distribution.name.to_string(),
            description: distribution.description.clone(),
            extends: distribution.extends.as_ref().map(ToString::to_string),
            plugins: plugins.iter().map(|plugin| plugin.id.clone()).collect(),
        })
    });
    context
        .output
        .show(&Distributions(lines.collect::<Result<_, Failure>>()?))?;
    Ok(Exit::Success)
}

/// A distribution that was built.
#[derive(Debug, Serialize)]
struct BuiltView {
    name: String,
    directory: PathBuf,
    executable: PathBuf,
    plugins: Vec<BuiltPlugin>,
    /// The archive, if one was asked for.
    archive: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct BuiltPlugin {
    id: PluginId,
    version: Version,
}

impl View for BuiltView {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let plugins = count(self.plugins.len(), "plugin");
        let name = paint(LITERAL, plain(&self.name));
        writeln!(
            out,
            "{} {name} with {plugins} in {}",
            paint(GOOD, "built"),
            self.directory.display()
        )?;
        if let Some(archive) = &self.archive {
            writeln!(out, "{} {}", paint(GOOD, "packed"), archive.display())?;
        }
        writeln!(
            out,
            "next: {}",
            paint(LITERAL, format!("{} --help", self.executable.display()))
        )
    }
}

fn build(context: &Context, arguments: &BuildArgs) -> Result<Exit, Failure> {
    let catalogue = context.catalogue()?;
    let scratch = tempfile::tempdir()
        .map_err(|error| Failure::io("create a directory in", &std::env::temp_dir(), &error))?;
    let executable = std::env::current_exe().map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("cannot find the executable of vox: {error}"),
        )
    })?;
    let installed = context.host()?;
    let find = |id: &PluginId| match &arguments.plugins {
        Some(root) => in_root(root, id),
        None => built_beside_source(&catalogue, id).or_else(|| {
            installed
                .plugin(id)
                .ok()
                .map(|plugin| plugin.directory.clone())
        }),
    };
    let parts = Parts {
        catalog: &catalogue.file(scratch.path())?,
        name: &arguments.name,
        host: &executable,
        plugin: &find,
        extra: &sdk::for_distribution(context.directories.bundle.as_deref(), scratch.path())?,
    };
    let out = arguments
        .out
        .clone()
        .unwrap_or_else(|| arguments.name.as_str().into());
    let built = distribution::build(&parts, &out)?;
    let archive = arguments.archive.then(|| {
        let file = format!("{}.tar.gz", distribution::archive_stem(&built.name));
        out.parent().unwrap_or(Path::new("")).join(file)
    });
    if let Some(archive) = &archive {
        distribution::archive(&built, archive)?;
    }
    context.output.show(&BuiltView {
        name: built.name,
        directory: built.directory,
        executable: built.executable,
        plugins: built
            .plugins
            .into_iter()
            .map(|(id, version)| BuiltPlugin { id, version })
            .collect(),
        archive,
    })?;
    Ok(Exit::Success)
}

/// The highest version of a plugin in a root.
fn in_root(root: &Path, id: &PluginId) -> Option<PathBuf> {
    // A host that looks here and nowhere else, and keeps nothing.
    let mut directories = Directories::new(root, root).with_search_path(root);
    directories.roots.retain(|known| known.path == root);
    let inventory = Inventory::scan(&directories);
    inventory
        .versions(id)
        .first()
        .map(|plugin| plugin.directory.clone())
}

/// What `vox plugin build` made of the source that the catalogue names.
fn built_beside_source(catalogue: &Catalogue, id: &PluginId) -> Option<PathBuf> {
    let source = catalogue.source_of(catalogue.catalog.plugin(id)?)?;
    in_root(&source.join(BUILD_ROOT), id)
}
