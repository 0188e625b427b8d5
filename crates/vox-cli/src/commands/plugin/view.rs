//! Plugins, grants and limits as they are printed.

use std::fmt;
use std::path::PathBuf;

use semver::Version;
use serde::Serialize;
use vox_contract::{Capability, Grants, Manifest, PayloadKind, PluginId, Scope};
use vox_host::inventory::Installed;

/// A plugin in a list.
#[derive(Debug, Serialize)]
pub(super) struct PluginLine {
    pub(super) id: PluginId,
    pub(super) version: Version,
    pub(super) name: String,
    pub(super) description: String,
    /// `environment`, `project`, `user` or `bundled`.
    pub(super) root: &'static str,
    pub(super) directory: PathBuf,
    /// Those that are there: `component`, `native`, `skill`.
    pub(super) payloads: Vec<PayloadKind>,
    /// Its extension points.
    pub(super) provides: Vec<&'static str>,
    /// Whether this version is the one that is used.
    pub(super) serves: bool,
}

impl PluginLine {
    pub(super) fn new(plugin: &Installed, serves: bool) -> Self {
        let Manifest {
            id,
            version,
            name,
            description,
            provides,
            ..
        } = &plugin.manifest;
        Self {
            id: id.clone(),
            version: version.clone(),
            name: name.clone(),
            description: description.clone(),
            root: plugin.root.name(),
            directory: plugin.directory.clone(),
            payloads: payloads(plugin),
            provides: provides
                .extension_points
                .keys()
                .map(|point| point.name())
                .collect(),
            serves,
        }
    }
}

/// The kinds of payload that are there.
pub(super) fn payloads(plugin: &Installed) -> Vec<PayloadKind> {
    let there = [
        plugin.component.is_some(),
        plugin.native.is_some(),
        plugin.skill.is_some(),
    ];
    let kinds = PayloadKind::ALL.into_iter().zip(there);
    kinds
        .filter_map(|(kind, there)| there.then_some(kind))
        .collect()
}

/// A capability that is granted.
#[derive(Debug, Serialize)]
pub(super) struct Granted {
    pub(super) capability: Capability,
    /// Null: all of it.
    pub(super) scope: Option<Vec<String>>,
}

impl Granted {
    pub(super) fn new(capability: Capability, scope: &Scope) -> Self {
        let scope = match scope {
            Scope::All => None,
            scope => Some(scope.words()),
        };
        Self { capability, scope }
    }

    pub(super) fn all(grants: &Grants) -> Vec<Self> {
        grants
            .iter()
            .map(|(capability, scope)| Self::new(capability, scope))
            .collect()
    }
}

impl fmt::Display for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            None => write!(f, "{}", self.capability),
            Some(entries) => write!(f, "{} ({})", self.capability, entries.join(", ")),
        }
    }
}

/// Words as a sentence lists them: `a, b, c`; a dash for none.
pub(super) fn listed<T: fmt::Display>(words: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| word.to_string()).collect();
    if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(", ")
    }
}
