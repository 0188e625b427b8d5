//! Why plugins could not be installed, removed or granted something.

use std::io;
use std::path::{Path, PathBuf};

use semver::Version;
use vox_contract::{ManifestError, PluginId};

use super::remove::Dependent;
use super::{ArchiveFault, MAX_BYTES, MAX_ENTRIES};
use crate::inventory::Reason;
use crate::signing::SigningError;

/// Why a change of the installed plugins or of the grants did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The file system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `open`, `copy`, ….
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The manifest, or the file of grants, is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is no manifest where a plugin should be.
    #[error(
        "{} holds no Plugin.toml at its top, so it is no plugin; a plugin's source is built first: \
         `vox plugin build`", path.display()
    )]
    NoManifest {
        /// What was to be installed.
        path: PathBuf,
    },
    /// The plugin could not be used here.
    #[error("{} cannot be installed: {reason}; {}", path.display(), reason.hint())]
    Unusable {
        /// What was to be installed.
        path: PathBuf,
        /// Why.
        reason: Reason,
    },
    /// The archive is broken or hostile.
    #[error("{} is not installed: {fault}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        fault: ArchiveFault,
    },
    /// A plugin's directory holds a link or a device.
    #[error(
        "{} is neither a file nor a directory, and a plugin consists of those; put a copy of what \
         it leads to in its place", path.display()
    )]
    NotAFile {
        /// What was found.
        path: PathBuf,
    },
    /// A plugin's directory holds too much.
    #[error(
        "{} holds more than {MAX_ENTRIES} files or {MAX_BYTES} bytes, which no plugin may; is it \
         the source of one? `vox plugin build` makes what can be installed", path.display()
    )]
    TooLarge {
        /// The directory.
        path: PathBuf,
    },
    /// The version is installed with other files.
    #[error(
        "{} is there already with other files; give the new one another version, or use `--force` \
         to replace it", path.display()
    )]
    Differs {
        /// The plugin.
        id: PluginId,
        /// Where the version is.
        path: PathBuf,
    },
    /// A plugin lies where the versions of a plugin are to be.
    #[error(
        "{} holds a Plugin.toml of its own, so that versions below it would not be seen; remove \
         it first", path.display()
    )]
    InTheWay {
        /// The directory.
        path: PathBuf,
    },
    /// A project's directory has a name that a file of grants cannot hold.
    #[error(
        "{} cannot be noted in grants.toml, since its name is not UTF-8; grant what its plugins \
         need with `vox plugin grant`, or move it", path.display()
    )]
    UnnameableProject {
        /// The project.
        path: PathBuf,
    },
    /// The user does not want the plugin.
    #[error("{id} {version} is not installed: its capabilities were not agreed to")]
    Refused {
        /// The plugin.
        id: PluginId,
        /// Its version.
        version: Version,
    },
    /// The plugin is not what was signed, or the user's trust does not reach so far.
    #[error(transparent)]
    Signing(Box<SigningError>),
    /// There is nothing of the plugin but native code, and nobody whom the user trusts signed it.
    #[error(
        "{id} {version} is not installed: it is native code alone, and nobody whom you trust \
         signed it; trust the key that signs it with `vox plugin trust add`, or use \
         `--allow-native`"
    )]
    NativeNotTrusted {
        /// The plugin.
        id: PluginId,
        /// Its version.
        version: Version,
    },
    /// Whoever watched the progress ended it.
    #[error("interrupted; nothing was changed")]
    Interrupted,
    /// The plugin, or the version, is not among those that Vox installed.
    #[error("{what} is not installed in {}{}", root.display(), served_from(elsewhere))]
    NotInstalled {
        /// `redact`, or `redact 0.1.0`.
        what: String,
        /// Where Vox installs plugins.
        root: PathBuf,
        /// Places outside of it from which the plugin is served.
        elsewhere: Vec<PathBuf>,
    },
    /// Other plugins need the one that is to be removed.
    #[error(
        "{what} is needed by {}; remove those first, or use `--force`",
        dependents(needed_by)
    )]
    Needed {
        /// `redact`, or `redact 0.1.0`.
        what: String,
        /// Who needs it.
        needed_by: Vec<Dependent>,
    },
}

impl InstallError {
    /// Wraps what the file system answered to `action` on `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

impl From<SigningError> for InstallError {
    fn from(error: SigningError) -> Self {
        match error {
            SigningError::Directory(error) => *error,
            SigningError::Manifest(error) => Self::Manifest(error),
            SigningError::Io {
                action,
                path,
                source,
            } => Self::Io {
                action,
                path,
                source,
            },
            error => Self::Signing(Box::new(error)),
        }
    }
}

fn served_from(places: &[PathBuf]) -> String {
    if places.is_empty() {
        return "; `vox plugin list` shows what is".to_owned();
    }
    let places: Vec<String> = places
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    format!(
        "; it is served from {}, where Vox removes nothing",
        places.join(" and ")
    )
}

fn dependents(needed_by: &[Dependent]) -> String {
    needed_by
        .iter()
        .map(Dependent::to_string)
        .collect::<Vec<_>>()
        .join(" and ")
}
