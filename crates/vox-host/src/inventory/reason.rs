//! Why a directory was passed over.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use semver::VersionReq;
use vox_contract::{Manifest, ManifestError, Platform, PluginId};

use super::Severity;
use crate::directories::RootKind;
use crate::requirements::{HOST_VERSION, WrongPlatform};

/// Something in a root that is not served.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PassedOver {
    /// The directory, or the file, that was passed over.
    pub path: PathBuf,
    /// The kind of root that it stands in.
    pub root: RootKind,
    /// What the plugin says of itself, where that could be read.
    pub manifest: Option<Arc<Manifest>>,
    /// Why it is not served.
    pub reason: Reason,
}

impl PassedOver {
    /// The id of the plugin, where its manifest could be read.
    pub fn id(&self) -> Option<&PluginId> {
        self.manifest.as_deref().map(|manifest| &manifest.id)
    }

    /// `redact 0.1.0`, or the path where the manifest could not be read.
    pub fn name(&self) -> String {
        match self.manifest.as_deref() {
            Some(Manifest { id, version, .. }) => format!("{id} {version}"),
            None => self.path.display().to_string(),
        }
    }
}

impl std::fmt::Display for PassedOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// Why something in a root is not served.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The system does not let us read it.
    #[error("it cannot be read: {0}")]
    Unreadable(#[source] Arc<io::Error>),
    /// A directory where a version of a plugin is expected holds no manifest.
    #[error("it holds no Plugin.toml")]
    NoManifest,
    /// A plugin archive lies in the root.
    #[error("it is a plugin archive, which has to be installed")]
    Archive,
    /// The manifest is refused.
    #[error("its manifest is refused: {0}")]
    BadManifest(#[source] ManifestError),
    /// The manifest does not fit the directory's name.
    #[error("the manifest's id and version are not those that the directory is named after")]
    Misplaced,
    /// It works with other versions of the host.
    #[error("it works with host {wanted}, and this is {host}", host = HOST_VERSION)]
    WrongHost {
        /// What the manifest asks for.
        wanted: VersionReq,
    },
    /// It is for another operating system or processor.
    #[error("{0}")]
    WrongPlatform(#[source] WrongPlatform),
    /// It has code, but none for this platform.
    #[error(
        "it has no payload for {here}, only for {}", list(built_for), here = Platform::current()
    )]
    NoPayload {
        /// What its native libraries were built for.
        built_for: Vec<Platform>,
    },
    /// None of the payloads that the manifest names is there.
    #[error("none of its payloads is there: {}", paths(files))]
    PayloadMissing {
        /// The files that were looked for.
        files: Vec<PathBuf>,
    },
    /// The same version stands in a root that takes precedence.
    #[error("the same version is served from {}", by.display())]
    Shadowed {
        /// The directory that is served.
        by: PathBuf,
    },
    /// The same version stands in the same root a second time.
    #[error("the same id and version stands in {} too, which is served", of.display())]
    Duplicate {
        /// The directory that is served.
        of: PathBuf,
    },
}

impl Reason {
    pub(super) fn unreadable(error: io::Error) -> Self {
        Self::Unreadable(Arc::new(error))
    }

    /// How much it matters: that another root takes precedence is how it should be.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Shadowed { .. } => Severity::Note,
            Self::WrongHost { .. } | Self::WrongPlatform(_) | Self::NoPayload { .. } => {
                Severity::Warning
            }
            _ => Severity::Error,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "let this user read it, or remove it from the root",
            Self::NoManifest => "remove the directory, or install the plugin again",
            Self::Archive => "`vox plugin install <path of the archive>` installs it",
            Self::BadManifest(_) => "mend the manifest, or install the plugin again",
            Self::Misplaced => "rename it to <id>/<version>, or install the plugin again",
            Self::WrongHost { .. } => "install a version of the plugin that fits, or update Vox",
            Self::WrongPlatform(_) | Self::NoPayload { .. } => {
                "install a version that was built for this machine, or one with a component"
            }
            Self::PayloadMissing { .. } => "build it with `vox plugin build`, or install it again",
            Self::Shadowed { .. } => {
                "nothing, if that is intended; otherwise remove one of the two"
            }
            Self::Duplicate { .. } => "remove one of the two",
        }
    }
}

fn list(platforms: &[Platform]) -> String {
    platforms
        .iter()
        .map(Platform::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn paths(files: &[PathBuf]) -> String {
    files
        .iter()
        .map(|file| file.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
