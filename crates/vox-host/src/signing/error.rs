//! Why a plugin could not be signed, or its signature not be taken.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use vox_contract::ManifestError;
use vox_crypto::KeyError;

use super::Refusal;
use crate::install::InstallError;

/// Why a plugin could not be signed, or its signature not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// The file system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `open`, `read`, `write`.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The directory holds what no plugin may hold: a link, a device, too much.
    #[error(transparent)]
    Directory(Box<InstallError>),
    /// The manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is no `Plugin.sig`.
    #[error("{} is not signed: it holds no Plugin.sig", directory.display())]
    NotSigned {
        /// The plugin's directory.
        directory: PathBuf,
    },
    /// A file has a path that a signature cannot list.
    #[error(
        "{} cannot be signed: its path is to be UTF-8 without control characters, `\\`, `:`, and \
         without a space or a dot at the end of a name, so that it means the same everywhere; \
         rename it", path.display()
    )]
    Path {
        /// The file.
        path: PathBuf,
    },
    /// `Plugin.sig` is not exactly what signing writes.
    #[error("{}:{line}: {what}; only what `vox plugin sign` wrote is taken", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// `Plugin.sig` was not signed by the key that it names.
    #[error(
        "{} was changed after it was signed, or the key that it names did not sign it ({source})",
        file.display()
    )]
    Forged {
        /// The file.
        file: PathBuf,
        /// What verifying said.
        #[source]
        source: KeyError,
    },
    /// `Plugin.sig` is that of another plugin or version.
    #[error(
        "{} holds {found}, and its Plugin.sig was made for {signed}; get the plugin again from \
         where it comes from", directory.display()
    )]
    OtherPlugin {
        /// The plugin's directory.
        directory: PathBuf,
        /// What the signature is for, with its version.
        signed: String,
        /// What the manifest says.
        found: String,
    },
    /// The files are not those that were signed.
    #[error(
        "{} is not what was signed: {}; get the plugin again from where it comes from",
        directory.display(), listed(differences)
    )]
    Changed {
        /// The plugin's directory.
        directory: PathBuf,
        /// Every file that differs, in the order of their paths.
        differences: Vec<Difference>,
    },
    /// A root that `trust.toml` cannot name.
    #[error("{} cannot be named in trust.toml: it is not UTF-8; rename it", path.display())]
    Root {
        /// The root.
        path: PathBuf,
    },
    /// The signature is in order, and the user's trust does not reach so far.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl SigningError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

impl From<InstallError> for SigningError {
    fn from(error: InstallError) -> Self {
        match error {
            InstallError::Io {
                action,
                path,
                source,
            } => Self::Io {
                action,
                path,
                source,
            },
            error => Self::Directory(Box::new(error)),
        }
    }
}

/// A file that is not as it was signed; paths are relative to the plugin's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// It has other bytes.
    Changed(String),
    /// It was not there when the plugin was signed.
    Added(String),
    /// It was there when the plugin was signed.
    Missing(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(path) => write!(f, "`{path}` was changed"),
            Self::Added(path) => write!(f, "`{path}` was added"),
            Self::Missing(path) => write!(f, "`{path}` is missing"),
        }
    }
}

/// The first few differences, and how many more there are.
fn listed(differences: &[Difference]) -> String {
    const SHOWN: usize = 5;
    let mut texts: Vec<String> = differences
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect();
    if differences.len() > SHOWN {
        texts.push(format!("{} more", differences.len() - SHOWN));
    }
    texts.join(", ")
}
