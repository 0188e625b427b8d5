//! Cargo, as it is run for a plugin's crate.
//!
//! Vox may itself be running under cargo, as `cargo xtask` does. What cargo tells the programs it
//! runs, and what the caller set for its own compiler, must not reach the nested cargo: each
//! command made here starts from an environment without them. Cargo's home, its network settings
//! and the choice of a rustup toolchain are the user's and stay.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cargo_metadata::{CrateType, Message, Metadata, MetadataCommand, Package, Target};
use vox_contract::Carrier;

use crate::BuildError;

/// Variables by which cargo describes to a program or build script the package that it runs, or
/// which redirect a compilation. Those that end in `*` stand for all that begin so.
const NOT_INHERITED: &[&str] = &[
    "CARGO",
    "CARGO_BIN_*",
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_BUILD_RUSTC*",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_CFG_*",
    "CARGO_CRATE_NAME",
    "CARGO_FEATURE_*",
    "CARGO_MAKEFLAGS",
    "CARGO_MANIFEST_*",
    "CARGO_PKG_*",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_TARGET_DIR",
    "CARGO_TARGET_TMPDIR",
    "OUT_DIR",
    "RUSTC",
    "RUSTC_BOOTSTRAP",
    "RUSTC_LINKER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
];

/// A plugin's package, as cargo sees it.
#[derive(Debug)]
pub(crate) struct Project {
    /// Name of the package.
    pub name: String,
    /// Directory of its `Cargo.toml`.
    pub directory: PathBuf,
    /// Where cargo puts what it made for the user.
    pub target_dir: PathBuf,
    /// Where cargo keeps its intermediate files; may be shared with other checkouts.
    pub build_dir: PathBuf,
    /// `Cargo.toml`.
    manifest: PathBuf,
}

impl Project {
    /// Asks cargo about the package whose `Cargo.toml` is in `directory`, and makes sure that it
    /// has a `cdylib`.
    pub fn read(directory: &Path) -> Result<Self, BuildError> {
        let refused = |detail: String| BuildError::NotACrate {
            directory: directory.into(),
            detail,
        };
        let directory = directory
            .canonicalize()
            .map_err(BuildError::io("find", directory))?;
        let manifest = directory.join("Cargo.toml");
        if !manifest.is_file() {
            return Err(refused("it has no Cargo.toml".into()));
        }

        let mut command = command(&directory);
        command.args(["metadata", "--no-deps", "--format-version=1"]);
        command.arg("--manifest-path").arg(&manifest);
        let output = command.output().map_err(cannot_start)?;
        if !output.status.success() {
            return Err(refused(String::from_utf8_lossy(&output.stderr).into()));
        }
        let metadata = MetadataCommand::parse(String::from_utf8_lossy(&output.stdout))
            .map_err(|error| refused(error.to_string()))?;
        let package = package_of(&metadata, &manifest)
            .ok_or_else(|| refused("its Cargo.toml describes no package".into()))?;
        if !package.targets.iter().any(is_cdylib) {
            return Err(BuildError::NoLibrary {
                package: package.name.to_string(),
                manifest,
            });
        }
        let build_dir = metadata.build_directory.as_ref();
        Ok(Self {
            name: package.name.to_string(),
            target_dir: metadata.target_directory.clone().into(),
            build_dir: build_dir.unwrap_or(&metadata.target_directory).into(),
            directory,
            manifest,
        })
    }

    /// A `cargo build` of this package's library, to which the caller may add.
    pub fn build_command(&self) -> Command {
        let mut command = command(&self.directory);
        command.args([
            "build",
            "--lib",
            "--message-format=json-render-diagnostics",
            "--manifest-path",
        ]);
        command.arg(&self.manifest);
        command
    }

    /// Runs a build command; answers the library that it made, the one file of the `cdylib` that
    /// ends in `extension`.
    ///
    /// What cargo has to say goes to the standard error stream as it comes; with `quiet` it goes
    /// into the error if there is one.
    pub fn run(
        &self,
        mut command: Command,
        carrier: Carrier,
        extension: &str,
        quiet: bool,
    ) -> Result<PathBuf, BuildError> {
        let mut log = if quiet { Some(log_file()?) } else { None };
        if let Some(log) = &log {
            let log = log
                .try_clone()
                .map_err(BuildError::io("write", Path::new("a temporary file")))?;
            command.arg("--quiet").stderr(log);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(cannot_start)?;

        let library = self.library_in(&mut child, extension);
        let status = child.wait().map_err(cannot_start)?;
        if !status.success() {
            return Err(BuildError::Cargo {
                package: self.name.clone(),
                carrier,
                status,
                output: log.as_mut().map(contents).unwrap_or_default(),
            });
        }
        library?.ok_or_else(|| BuildError::NoArtefact {
            package: self.name.clone(),
            carrier,
        })
    }

    /// Reads cargo's messages to their end; answers the last library of this package among them.
    fn library_in(
        &self,
        child: &mut Child,
        extension: &str,
    ) -> Result<Option<PathBuf>, BuildError> {
        let mut library = None;
        let Some(messages) = child.stdout.take() else {
            return Ok(None);
        };
        for message in Message::parse_stream(BufReader::new(messages)) {
            let message =
                message.map_err(BuildError::io("read", Path::new("the messages of cargo")))?;
            let Message::CompilerArtifact(artifact) = message else {
                continue;
            };
            let ours = artifact.manifest_path == self.manifest && is_cdylib(&artifact.target);
            let file = artifact
                .filenames
                .into_iter()
                .find(|file| file.extension() == Some(extension));
            if let (true, Some(file)) = (ours, file) {
                library = Some(file.into());
            }
        }
        Ok(library)
    }
}

/// Cargo in this directory, without the variables of [`NOT_INHERITED`].
pub(crate) fn command(directory: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(directory);
    scrub(&mut command);
    command
}

/// Takes the variables of [`NOT_INHERITED`] from a command's environment.
pub(crate) fn scrub(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if not_inherited(&name) {
            command.env_remove(name);
        }
    }
}

fn not_inherited(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    NOT_INHERITED
        .iter()
        .any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == *pattern,
        })
}

fn package_of<'a>(metadata: &'a Metadata, manifest: &Path) -> Option<&'a Package> {
    metadata
        .packages
        .iter()
        .find(|package| package.manifest_path == manifest)
}

fn is_cdylib(target: &Target) -> bool {
    target.crate_types.contains(&CrateType::CDyLib)
}

fn cannot_start(source: std::io::Error) -> BuildError {
    BuildError::Program {
        program: "cargo".into(),
        remedy: "install Rust, see https://rust-lang.org/tools/install",
        source,
    }
}

fn log_file() -> Result<File, BuildError> {
    tempfile::tempfile().map_err(BuildError::io("create a file in", &env::temp_dir()))
}

/// What was written to the log; a log that cannot be read back says so itself.
fn contents(log: &mut File) -> String {
    let mut bytes = Vec::new();
    match log.rewind().and_then(|()| log.read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("(what it printed is lost: {error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_tells_its_children_is_not_inherited_and_what_users_set_is() {
        for name in [
            "CARGO",
            "CARGO_PKG_NAME",
            "RUSTC",
            "CARGO_BUILD_RUSTC_WRAPPER",
        ] {
            assert!(not_inherited(OsStr::new(name)), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "RUSTUP_TOOLCHAIN",
            "PATH",
        ] {
            assert!(!not_inherited(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn a_directory_without_a_crate_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let message = Project::read(dir.path()).unwrap_err().to_string();
        assert!(message.contains("has no Cargo.toml"), "{message}");
    }

    #[test]
    fn a_crate_without_a_dynamic_library_is_told_what_to_write() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("src")).unwrap();
        std::fs::write(dir.path().join("src/lib.rs"), "").unwrap();
        let manifest = "[package]\nname = \"plain\"\nedition = \"2024\"\n[workspace]\n";
        std::fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
        let message = Project::read(dir.path()).unwrap_err().to_string();
        assert!(message.contains("crate-type = [\"cdylib\"]"), "{message}");
    }
}
