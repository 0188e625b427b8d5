//! From a plugin's crate to its package.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use semver::Version;
use vox_contract::{Carrier, MANIFEST_FILE, Manifest, PluginId};

use crate::cargo::Project;
use crate::package::{Package, directory_in_root, package};
use crate::{BuildError, Toolchain, component, native};

/// What to build, and where to put it.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// Which payload to build. None: every one that the manifest names for this machine.
    pub carrier: Option<Carrier>,
    /// How native libraries are compiled. Components are always compiled for release.
    pub profile: Profile,
    /// Where the package goes.
    pub destination: Destination,
    /// Refuse to change `Cargo.lock`.
    pub locked: bool,
    /// Show nothing of what cargo prints, unless it fails: then it is part of the error.
    pub quiet: bool,
    /// The guest toolchain, for those who build several plugins and look for it once. None: look
    /// for it when a component is to be built.
    pub toolchain: Option<Toolchain>,
}

impl BuildOptions {
    /// Builds every payload for development, and shows what cargo prints.
    pub const fn new(destination: Destination) -> Self {
        Self {
            carrier: None,
            profile: Profile::Dev,
            destination,
            locked: false,
            quiet: false,
            toolchain: None,
        }
    }

    /// Adds to a `cargo build` what holds for both carriers.
    pub(crate) fn configure(&self, command: &mut Command) {
        if self.locked {
            command.arg("--locked");
        }
    }
}

/// How a native library is compiled, by the name of cargo's own profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Compiles fast.
    #[default]
    Dev,
    /// Runs fast.
    Release,
}

/// Where a package goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Into a root: `<root>/<id>/<version>`.
    Root(PathBuf),
    /// Into this very directory, which is replaced.
    Directory(PathBuf),
}

/// What is going on in a build.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The target for components is about to be installed with `rustup`, which needs the network.
    AddingTarget,
    /// This is the guest toolchain that is used.
    Toolchain(&'a Toolchain),
    /// Cargo is about to run.
    Compiling {
        /// Name of the package.
        package: &'a str,
        /// What it is compiled for.
        carrier: Carrier,
    },
    /// A payload was made, and is about to be packaged.
    Made {
        /// For which carrier.
        carrier: Carrier,
        /// The file as cargo or the encoder left it.
        file: &'a Path,
        /// Its size in bytes.
        size: u64,
    },
    /// The package is in its place.
    Packaged(&'a Package),
}

/// A plugin that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Built {
    /// The plugin's id.
    pub id: PluginId,
    /// The plugin's version.
    pub version: Version,
    /// Its package.
    pub package: Package,
    /// What made its component, if one was made.
    pub toolchain: Option<Toolchain>,
}

/// Builds the plugin in `crate_dir`, which holds `Plugin.toml` and, when it has code, `Cargo.toml`,
/// and packages it. `on_event` is told what goes on, as it goes on.
///
/// # Errors
/// Whatever keeps a payload from being built. The package that was there before is then untouched.
pub fn build(
    crate_dir: &Path,
    options: &BuildOptions,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Built, BuildError> {
    let manifest_file = crate_dir.join(MANIFEST_FILE);
    let manifest = Manifest::load(&manifest_file)?;
    let carriers = carriers_of(&manifest, &manifest_file, options.carrier)?;

    let mut built = BTreeMap::new();
    let mut toolchain = None;
    if !carriers.is_empty() {
        let project = Project::read(crate_dir)?;
        for carrier in carriers {
            let compiling = Event::Compiling {
                package: &project.name,
                carrier,
            };
            let file = match carrier {
                Carrier::Component => {
                    let guest = guest_toolchain(&project.directory, options, on_event)?;
                    on_event(compiling);
                    component::build(&project, toolchain.insert(guest), options)?
                }
                Carrier::Native => {
                    on_event(compiling);
                    native::build(&project, options)?
                }
            };
            let size = file
                .metadata()
                .map_err(BuildError::io("read", &file))?
                .len();
            on_event(Event::Made {
                carrier,
                file: &file,
                size,
            });
            built.insert(carrier, file);
        }
    }

    let directory = match &options.destination {
        Destination::Root(root) => directory_in_root(root, &manifest),
        Destination::Directory(directory) => directory.clone(),
    };
    let package = package(crate_dir, &manifest, &built, &directory)?;
    on_event(Event::Packaged(&package));
    Ok(Built {
        id: manifest.id,
        version: manifest.version,
        package,
        toolchain,
    })
}

/// The carriers to build for: the one asked for, which the manifest must name, or all of those that
/// it names for this machine.
fn carriers_of(
    manifest: &Manifest,
    manifest_file: &Path,
    asked: Option<Carrier>,
) -> Result<Vec<Carrier>, BuildError> {
    let named = |carrier: &Carrier| manifest.payload.file_for(*carrier).is_some();
    match asked {
        Some(carrier) if !named(&carrier) => Err(BuildError::NoSuchPayload {
            manifest: manifest_file.into(),
            carrier,
        }),
        Some(carrier) => Ok(vec![carrier]),
        None => Ok(Carrier::ALL.into_iter().filter(named).collect()),
    }
}

/// The guest toolchain that the options bring, or else the one that is found.
fn guest_toolchain(
    directory: &Path,
    options: &BuildOptions,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Toolchain, BuildError> {
    let toolchain = match &options.toolchain {
        Some(toolchain) => toolchain.clone(),
        None => Toolchain::find(directory, on_event)?,
    };
    on_event(Event::Toolchain(&toolchain));
    Ok(toolchain)
}
