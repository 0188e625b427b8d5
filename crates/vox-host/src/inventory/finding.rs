//! What `vox plugin doctor` lists.

use std::path::{Path, PathBuf};

use semver::{Version, VersionReq};
use vox_contract::{AboveCeiling, ManifestError, PluginId};

use super::PassedOver;
use crate::install::ProjectGrants;
use crate::registry::Contested;
use crate::requirements::MissingLibrary;
use crate::resolution::ResolutionError;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Note,
    /// Something that was asked for is not to be had here.
    Warning,
    /// Something is broken.
    Error,
}

impl Severity {
    /// The name that is shown to a user: `note`, `warning` or `error`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something about the installed plugins that a user should be able to learn of.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// Something in a root is not served.
    #[error("{0}")]
    PassedOver(PassedOver),
    /// A plugin is served without one of the payloads that its manifest names.
    #[error("{plugin} {version} is served without {}, which is not there", path.display())]
    PayloadMissing {
        /// The plugin.
        plugin: PluginId,
        /// Its version.
        version: Version,
        /// The file that was looked for.
        path: PathBuf,
    },
    /// A native library that a plugin needs is not installed, or too old.
    #[error("{plugin} cannot be loaded as a native library: {missing}")]
    Library {
        /// The plugin.
        plugin: PluginId,
        /// What is missing.
        missing: MissingLibrary,
    },
    /// No version of a plugin can be chosen.
    #[error("{plugin} cannot be used: {error}")]
    Unresolved {
        /// The plugin.
        plugin: PluginId,
        /// Why.
        error: ResolutionError,
    },
    /// Two plugins are installed that cannot be used together.
    #[error("{plugin} {version} conflicts with {with} {range}, and {with} {found} is installed")]
    Conflicting {
        /// The plugin that declares the conflict.
        plugin: PluginId,
        /// Its version.
        version: Version,
        /// The plugin that it conflicts with.
        with: PluginId,
        /// The versions that it conflicts with.
        range: VersionReq,
        /// The version of the other that is installed.
        found: Version,
    },
    /// The skill of a plugin cannot be read.
    #[error("the skill of {plugin} is left out: {error}")]
    Skill {
        /// The plugin.
        plugin: PluginId,
        /// What is wrong with the file.
        error: ManifestError,
    },
    /// Several plugins provide one name.
    #[error("{0}")]
    Contested(Contested),
    /// The project's Vox.toml grants what the user has not allowed it to.
    #[error("{0}")]
    ProjectGrants(ProjectGrants),
    /// A plugin asks for more than it gets by asking.
    #[error(
        "{plugin} asks for {} of the limit `{}` and gets {}",
        above.asked,
        above.name,
        above.ceiling
    )]
    AboveCeiling {
        /// The plugin.
        plugin: PluginId,
        /// What it asks for, and what it gets.
        above: AboveCeiling,
    },
}

impl Finding {
    /// How much it matters.
    pub fn severity(&self) -> Severity {
        match self {
            Self::PassedOver(passed_over) => passed_over.reason.severity(),
            Self::PayloadMissing { .. } | Self::Library { .. } | Self::Conflicting { .. } => {
                Severity::Warning
            }
            Self::ProjectGrants(_) | Self::AboveCeiling { .. } => Severity::Note,
            Self::Unresolved { .. } | Self::Skill { .. } | Self::Contested(_) => Severity::Error,
        }
    }

    /// The plugin that it concerns, where it is known.
    pub fn plugin(&self) -> Option<&PluginId> {
        match self {
            Self::PassedOver(passed_over) => passed_over.id(),
            Self::PayloadMissing { plugin, .. }
            | Self::Library { plugin, .. }
            | Self::Unresolved { plugin, .. }
            | Self::Skill { plugin, .. }
            | Self::AboveCeiling { plugin, .. }
            | Self::Conflicting { plugin, .. } => Some(plugin),
            Self::ProjectGrants(_) => None,
            Self::Contested(contested) => contested.providers.first(),
        }
    }

    /// The place on disk that it concerns, where there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::PassedOver(passed_over) => Some(&passed_over.path),
            Self::PayloadMissing { path, .. } => Some(path),
            Self::Skill { error, .. } => Some(error.file()),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::PassedOver(passed_over) => passed_over.reason.hint().to_owned(),
            Self::PayloadMissing { .. } => {
                "nothing, if only the other payload is wanted; otherwise build it with \
                 `vox plugin build` and install it again"
                    .to_owned()
            }
            Self::Library { missing, .. } => missing.hint(),
            Self::Unresolved { error, .. } => error.hint(),
            Self::Conflicting { plugin, with, .. } => format!(
                "do not use both in one pipeline, or remove one: `vox plugin remove {plugin}` or \
                 `vox plugin remove {with}`"
            ),
            Self::Skill { .. } => "mend the file, or install the plugin again".to_owned(),
            Self::Contested(contested) => contested.hint(),
            Self::ProjectGrants(project) => project.hint().to_owned(),
            Self::AboveCeiling { plugin, above } => above.name.remedy(plugin),
        }
    }
}
