//! `vox plugin new`: a crate that builds and passes its own test.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use vox_build::{NewPlugin, Sdk, Template};
use vox_contract::PluginId;

use super::named::plugin_id;
use crate::cli::BUILT_IN_VERBS;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::View;
use crate::output::style::{DIM, LITERAL, paint};
use crate::sdk;

/// Arguments of `vox plugin new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The plugin's id: lower-case words joined by `-`
    #[arg(value_name = "NAME", value_parser = plugin_id)]
    id: PluginId,
    /// The language to write it in
    #[arg(long, value_enum, default_value_t)]
    lang: Language,
    /// The extension point that it serves
    #[arg(long, value_enum, default_value_t)]
    point: Point,
    /// Where to put it [default: a directory of its name, here]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

/// Languages that there are templates for.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Language {
    #[default]
    Rust,
}

/// Extension points that there are templates for.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Point {
    /// Transforms a stream
    #[default]
    Stage,
    /// Does a step of a pipeline
    Step,
    /// Watches a run
    Hook,
    /// A verb of the command line
    Command,
    /// Reports measurements
    Metrics,
    /// Runs models
    InferenceBackend,
}

impl From<Point> for Template {
    fn from(point: Point) -> Self {
        match point {
            Point::Stage => Self::Stage,
            Point::Step => Self::Step,
            Point::Hook => Self::Hook,
            Point::Command => Self::Command,
            Point::Metrics => Self::Metrics,
            Point::InferenceBackend => Self::InferenceBackend,
        }
    }
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    id: PluginId,
    directory: PathBuf,
    /// Relative to the directory.
    files: Vec<PathBuf>,
    /// The path or version of `vox-plugin` that it depends on.
    sdk: String,
}

impl View for Written {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self {
            id,
            directory,
            files,
            sdk,
        } = self;
        writeln!(
            out,
            "wrote the plugin {} to {}",
            paint(LITERAL, id),
            directory.display()
        )?;
        for file in files {
            writeln!(out, "  {}", paint(DIM, file.display()))?;
        }
        writeln!(out, "it depends on vox-plugin {sdk}\n\nnext:")?;
        for command in [
            format!("cd {}", directory.display()),
            "cargo test".to_owned(),
            "vox plugin build".to_owned(),
            "vox plugin install .".to_owned(),
        ] {
            writeln!(out, "  {}", paint(LITERAL, command))?;
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context, arguments: &NewArgs) -> Result<Exit, Failure> {
    let NewArgs {
        id,
        lang: Language::Rust,
        point,
        path,
    } = arguments;
    if matches!(point, Point::Command) && BUILT_IN_VERBS.contains(&id.as_str()) {
        let message = format!("`{id}` is a verb of vox itself, and no plugin may have it");
        return Err(Failure::usage(message).hint("choose another name: it becomes the verb"));
    }
    let directory = path.clone().unwrap_or_else(|| id.as_str().into());
    let sdk = sdk::find(context.directories.bundle.as_deref())?;
    let shown = match &sdk {
        Sdk::Path(path) => format!("in {}", path.display()),
        Sdk::Version(version) => version.clone(),
    };
    let plugin = NewPlugin {
        id: id.clone(),
        template: (*point).into(),
        sdk,
    };
    let files = vox_build::scaffold(&plugin, &directory)?;
    context.output.show(&Written {
        id: id.clone(),
        directory,
        files,
        sdk: shown,
    })?;
    Ok(Exit::Success)
}
