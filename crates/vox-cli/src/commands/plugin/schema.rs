//! `vox plugin schema`: the JSON Schemas of the files, for editors.

use clap::{Args, ValueEnum};
use vox_contract::schema;
use vox_run::Plan;

use crate::error::Failure;
use crate::exit::Exit;
use crate::output;

/// Arguments of `vox plugin schema`.
#[derive(Debug, Clone, Copy, Args)]
pub struct SchemaArgs {
    /// The file
    #[arg(value_enum, default_value_t)]
    file: File,
}

/// Files that have a schema.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum File {
    /// Plugin.toml
    #[default]
    Plugin,
    /// Vox.toml
    Settings,
    /// catalog.toml
    Catalog,
    /// pipeline.toml
    Pipeline,
}

/// Prints a schema, which is JSON for people too.
pub(super) fn run(arguments: SchemaArgs) -> Result<Exit, Failure> {
    let schema = match arguments.file {
        File::Plugin => schema::plugin(),
        File::Settings => schema::settings(),
        File::Catalog => schema::catalog(),
        File::Pipeline => Plan::schema(),
    };
    let mut text = Vec::new();
    output::json(&schema, &mut text)?;
    output::print(&text)?;
    Ok(Exit::Success)
}
