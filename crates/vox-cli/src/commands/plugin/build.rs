//! `vox plugin build`: the payloads of a plugin from its crate.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use semver::Version;
use serde::Serialize;
use vox_build::{BuildOptions, Destination, Event, Profile};
use vox_contract::{Bytes, Carrier, MANIFEST_FILE, PluginId};

use super::named::BUILD_ROOT;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{DIM, GOOD, LITERAL, paint};
use crate::output::{Output, View};

/// Arguments of `vox plugin build`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --native and --component every payload that Plugin.toml names for \
                        this machine is built."
)]
pub struct BuildArgs {
    /// The plugin's directory, with Plugin.toml and Cargo.toml
    #[arg(default_value = ".", value_name = "DIR")]
    source: PathBuf,
    /// Build only the native library
    #[arg(long)]
    native: bool,
    /// Build only the component
    #[arg(long, conflicts_with = "native")]
    component: bool,
    /// Compile the native library for speed (components always are)
    #[arg(long)]
    release: bool,
    /// Compile the native library fast [default]
    #[arg(long, conflicts_with = "release")]
    debug: bool,
    /// The root that the plugin goes into, as <DIR>/<id>/<version> [default: target/plugins in the
    /// plugin's directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write an archive for `vox plugin install` too
    #[arg(long, value_name = "FILE")]
    archive: Option<PathBuf>,
    /// Refuse to change Cargo.lock
    #[arg(long)]
    locked: bool,
}

/// What was built.
#[derive(Debug, Serialize)]
struct BuiltView {
    id: PluginId,
    version: Version,
    directory: PathBuf,
    /// The payloads in it.
    files: Vec<PathBuf>,
    /// Payloads that the manifest names and that were not built.
    left_out: Vec<PathBuf>,
    /// What made the component; null when none was made.
    toolchain: Option<String>,
    /// The archive, if one was asked for.
    archive: Option<PathBuf>,
    #[serde(skip)]
    source: PathBuf,
}

impl View for BuiltView {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self {
            id,
            version,
            directory,
            ..
        } = self;
        writeln!(
            out,
            "{} {} {version} in {}",
            paint(GOOD, "built"),
            paint(LITERAL, id),
            directory.display()
        )?;
        for file in &self.left_out {
            writeln!(
                out,
                "  {}",
                paint(DIM, format!("without {}", file.display()))
            )?;
        }
        let installed = match &self.archive {
            Some(archive) => {
                writeln!(out, "{} {}", paint(GOOD, "packed"), archive.display())?;
                archive.display()
            }
            None => self.source.display(),
        };
        let command = format!("vox plugin install {installed}");
        writeln!(out, "next: {}", paint(LITERAL, command))
    }
}

pub(super) fn run(context: &Context, arguments: &BuildArgs) -> Result<Exit, Failure> {
    let directory = &arguments.source;
    if !directory.join(MANIFEST_FILE).is_file() {
        let message = format!(
            "{} holds no {MANIFEST_FILE}, so it is no plugin's source",
            directory.display()
        );
        return Err(Failure::new(Exit::NotFound, message)
            .hint("go where one is, or begin one: `vox plugin new <name>`"));
    }
    let root = match &arguments.out {
        Some(root) => root.clone(),
        None => default_root(directory)?,
    };
    let mut options = BuildOptions::new(Destination::Root(root));
    options.carrier = match (arguments.native, arguments.component) {
        (true, _) => Some(Carrier::Native),
        (_, true) => Some(Carrier::Component),
        _ => None,
    };
    options.profile = if arguments.release {
        Profile::Release
    } else {
        Profile::Dev
    };
    options.locked = arguments.locked;
    options.quiet = !context.output.is_human();

    let built = vox_build::build(directory, &options, &mut |event| {
        tell(context.output, &event)
    })?;
    if let Some(archive) = &arguments.archive {
        vox_build::archive(&built.package.directory, archive)?;
    }
    context.output.show(&BuiltView {
        id: built.id,
        version: built.version,
        // A package elsewhere is installed from there.
        source: if arguments.out.is_some() {
            built.package.directory.clone()
        } else {
            spelt(directory)
        },
        directory: built.package.directory,
        files: built.package.files,
        left_out: built.package.left_out,
        toolchain: built.toolchain.map(|toolchain| toolchain.describe()),
        archive: arguments.archive.clone(),
    })?;
    Ok(Exit::Success)
}

/// A directory as `vox plugin install` takes it for one: a bare word would be an id.
fn spelt(directory: &Path) -> PathBuf {
    let is_word = directory.components().count() == 1 && directory.is_relative();
    if is_word && directory != Path::new(".") {
        Path::new(".").join(directory)
    } else {
        directory.to_owned()
    }
}

/// The root below the plugin's own directory. It tells git to leave it alone, since cargo's own
/// `target` may be another one.
fn default_root(directory: &Path) -> Result<PathBuf, Failure> {
    let root = directory.join(BUILD_ROOT);
    let ignore = root.join(".gitignore");
    if directory.is_dir() && !ignore.exists() {
        let write = std::fs::create_dir_all(&root).and_then(|()| std::fs::write(&ignore, "*\n"));
        write.map_err(|error| Failure::io("write", &ignore, &error))?;
    }
    Ok(root)
}

/// Tells what goes on, as it goes on.
fn tell(output: Output, event: &Event<'_>) {
    match event {
        Event::AddingTarget => output.note("asking rustup for the target for components"),
        Event::Toolchain(toolchain) => {
            for passed_over in toolchain.passed_over() {
                output.note(paint(DIM, format!("not used: {passed_over}")));
            }
            output.note(format_args!("guest toolchain: {}", toolchain.describe()));
        }
        Event::Compiling { package, carrier } => {
            output.note(format_args!("compiling {package} as {carrier}"));
        }
        Event::Made { file, size, .. } => {
            let size = Bytes((size / 1024).max(1) * 1024);
            output.note(format_args!("made {} ({size})", file.display()));
        }
        _ => {}
    }
}
