//! What can go wrong between a plugin's crate and its package.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use vox_contract::{Carrier, ManifestError, Platform};

use crate::debian;
use crate::toolchain::{PassedOver, TARGET};

/// Why a plugin could not be built, packaged or archived.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// `Plugin.toml` is missing or refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),

    /// The manifest names no payload of the kind that was asked for.
    #[error(
        "{} names no {carrier} payload{}: add `{}` under [payload], or build without asking for it",
        manifest.display(),
        for_platform(*carrier),
        example_payload(*carrier)
    )]
    NoSuchPayload {
        /// The manifest.
        manifest: PathBuf,
        /// What was asked for.
        carrier: Carrier,
    },

    /// A program that is needed cannot be started.
    #[error("cannot start `{program}`: {source}; {remedy}")]
    Program {
        /// Its name or path.
        program: String,
        /// What to do about it.
        remedy: &'static str,
        /// What the operating system said.
        source: io::Error,
    },

    /// Cargo does not accept the directory as a package.
    #[error("{} is not a crate that cargo can build:\n{}", directory.display(), detail.trim_end())]
    NotACrate {
        /// The plugin's directory.
        directory: PathBuf,
        /// What cargo said.
        detail: String,
    },

    /// The package makes no library that a carrier could carry.
    #[error(
        "package `{package}` makes no dynamic library: \
         write `crate-type = [\"cdylib\"]` under [lib] in {}",
        manifest.display()
    )]
    NoLibrary {
        /// Name of the package.
        package: String,
        /// Its `Cargo.toml`.
        manifest: PathBuf,
    },

    /// No compiler on this machine makes WebAssembly, and none could be had.
    #[error(
        "no toolchain here compiles for {TARGET}:\n{}install one with `rustup target add {TARGET}`, \
         or on Debian with `{}`",
        list(passed_over),
        debian::INSTALL_COMMAND
    )]
    NoGuestToolchain {
        /// What was tried, in order, and why each would not do.
        passed_over: Vec<PassedOver>,
    },

    /// Debian's packages were asked for and could not be installed.
    #[error(
        "cannot install the guest toolchain: {reason}; install it with `{}`",
        debian::INSTALL_COMMAND
    )]
    Install {
        /// Why not.
        reason: String,
    },

    /// Cargo ran and failed.
    #[error(
        "cargo could not build the {carrier} payload of `{package}` ({status}){}",
        indented(output)
    )]
    Cargo {
        /// Name of the package.
        package: String,
        /// What was being built.
        carrier: Carrier,
        /// How cargo ended.
        status: ExitStatus,
        /// What cargo printed, when it was told to be quiet; otherwise the user has seen it.
        output: String,
    },

    /// Cargo succeeded without saying where the library is.
    #[error(
        "cargo built `{package}` and reported no {carrier} library of it: \
         is its cdylib switched off for this target?"
    )]
    NoArtefact {
        /// Name of the package.
        package: String,
        /// What was being built.
        carrier: Carrier,
    },

    /// The core module cannot be made a component.
    #[error(
        "{} cannot be made a component: {detail}; a plugin may import nothing but what the Vox \
         SDK declares, so look for a dependency that expects WASI, JavaScript or C",
        module.display()
    )]
    Component {
        /// The core module.
        module: PathBuf,
        /// What the encoder said, with its causes.
        detail: String,
    },

    /// The manifest names a file that is neither built here nor lies beside it.
    #[error(
        "{} names {}, which is not in that directory: add the file, or take it out of [payload]",
        manifest.display(),
        file.display()
    )]
    MissingFile {
        /// The manifest.
        manifest: PathBuf,
        /// The file, as the manifest writes it.
        file: PathBuf,
    },

    /// An archive can hold regular files and directories only.
    #[error(
        "{} cannot go into an archive: only files and directories can, with names in UTF-8",
        path.display()
    )]
    NotArchivable {
        /// The symbolic link, device or oddly named file.
        path: PathBuf,
    },

    /// A new plugin was to be written where something is.
    #[error("{} is there already; a new plugin needs a directory of its own", path.display())]
    Exists {
        /// What is in the way.
        path: PathBuf,
    },

    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done to it: `read`, `write`, …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl BuildError {
    /// Makes an I/O error of what was being done to which path; fit for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Native payloads are made for one platform, which the message then names.
fn for_platform(carrier: Carrier) -> String {
    match carrier {
        Carrier::Component => String::new(),
        Carrier::Native => format!(" for {}", Platform::current()),
    }
}

fn example_payload(carrier: Carrier) -> String {
    match carrier {
        Carrier::Component => "component = \"<file>.wasm\"".into(),
        Carrier::Native => format!(
            "native = {{ {} = \"{}<name>{}\" }}",
            Platform::current(),
            std::env::consts::DLL_PREFIX,
            std::env::consts::DLL_SUFFIX
        ),
    }
}

fn list(passed_over: &[PassedOver]) -> String {
    passed_over
        .iter()
        .map(|candidate| format!("  - {candidate}\n"))
        .collect()
}

fn indented(output: &str) -> String {
    output.lines().map(|line| format!("\n  {line}")).collect()
}
