//! `catalog.toml`: the plugins that Vox's own developers offer, and the sets that they are
//! distributed in.
//!
//! A catalogue knows plugins that are not installed, so that an error about something missing can
//! name who would provide it. What must stay true: after [`Catalog::parse`] every plugin that a
//! distribution lists is in the catalogue, and no distribution extends itself, however indirectly.

mod read;
mod search;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Capability, DistributionName, ExtensionPoint, ManifestError, Need, PayloadKind, PluginId,
    RunnerName, ServiceName, Verb, document::read_text, nearest,
};

/// Plugins that can be had, and distributions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "catalog.toml")]
pub struct Catalog {
    /// The plugins, none twice.
    #[serde(rename = "plugin", default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<CatalogPlugin>,
    /// The distributions, none twice.
    #[serde(
        rename = "distribution",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub distributions: Vec<Distribution>,
    #[serde(skip)]
    file: PathBuf,
}

/// A plugin that can be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CatalogPlugin {
    /// The plugin's id.
    pub id: PluginId,
    /// One line that says what the plugin is for.
    pub description: String,
    /// Where it comes from when nothing else is said: a path from the catalogue's directory, or an
    /// address.
    pub source: String,
    /// The kinds of payload that it ships.
    pub payloads: Vec<PayloadKind>,
    /// The extension points that it serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extension_points: Vec<ExtensionPoint>,
    /// The runners that it serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runners: Vec<RunnerName>,
    /// The verbs that it serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Verb>,
    /// The services that it serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceName>,
    /// The capabilities that it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Capability>,
}

/// A set of plugins that is handed out with the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Distribution {
    /// The distribution's name.
    pub name: DistributionName,
    /// One line that says whom it is for.
    pub description: String,
    /// The distribution whose plugins it has besides its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extends: Option<DistributionName>,
    /// Ids of its own plugins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginId>,
}

impl Catalog {
    pub(crate) const KEYS: &[&str] = &["plugin", "distribution"];

    /// Reads a catalogue. `file` is named in errors and not opened.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`] with all that is wrong, such as a distribution that extends
    /// itself.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ManifestError> {
        read::catalog(text, file)
    }

    /// Reads the catalogue in `file`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and [`ManifestError::Unreadable`].
    pub fn load(file: &Path) -> Result<Self, ManifestError> {
        Self::parse(&read_text(file)?, file)
    }

    /// The plugin of that id.
    pub fn plugin(&self, id: &PluginId) -> Option<&CatalogPlugin> {
        self.plugins.iter().find(|plugin| plugin.id == *id)
    }

    /// All plugins of a distribution, those of what it extends first, none twice.
    ///
    /// # Errors
    /// [`ManifestError::UnknownDistribution`] names those that there are.
    pub fn distribution(&self, name: &str) -> Result<Vec<&CatalogPlugin>, ManifestError> {
        let named = |name: &str| self.distributions.iter().find(|found| found.name == *name);
        let mut next = Some(named(name).ok_or_else(|| self.unknown_distribution(name))?);
        let mut chain: Vec<&Distribution> = Vec::new();
        while let Some(distribution) = next {
            // `distributions` can be changed after the check that was made when it was read.
            if chain.iter().any(|seen| seen.name == distribution.name) {
                break;
            }
            chain.push(distribution);
            next = distribution
                .extends
                .as_ref()
                .and_then(|base| named(base.as_str()));
        }
        let mut plugins: Vec<&CatalogPlugin> = Vec::new();
        for id in chain
            .iter()
            .rev()
            .flat_map(|distribution| &distribution.plugins)
        {
            if !plugins.iter().any(|plugin| plugin.id == *id) {
                plugins.extend(self.plugin(id));
            }
        }
        Ok(plugins)
    }

    fn unknown_distribution(&self, name: &str) -> ManifestError {
        let names: Vec<&str> = self
            .distributions
            .iter()
            .map(|found| found.name.as_str())
            .collect();
        ManifestError::UnknownDistribution {
            file: self.file.clone(),
            name: name.escape_debug().to_string(),
            hint: nearest::hint(name, &names),
        }
    }

    /// The plugins that would serve `need`, in the order of the catalogue.
    pub fn providers_of<'c>(
        &'c self,
        need: Need<'c>,
    ) -> impl Iterator<Item = &'c CatalogPlugin> + use<'c> {
        self.plugins
            .iter()
            .filter(move |plugin| plugin.serves(need))
    }

    /// The plugins that fit all of `words`, best first; all plugins when there are no words.
    ///
    /// A word fits an id, a name of something that the plugin serves, or the description, in that
    /// order of weight; part of a word counts less than all of it, a misspelt id least.
    pub fn search(&self, words: &str) -> Vec<&CatalogPlugin> {
        search::ranked(&self.plugins, words)
    }
}

impl CatalogPlugin {
    pub(crate) const KEYS: &[&str] = &[
        "id",
        "description",
        "source",
        "payloads",
        "extension-points",
        "runners",
        "commands",
        "services",
        "capabilities",
    ];

    /// True when the plugin would serve `need`.
    pub fn serves(&self, need: Need<'_>) -> bool {
        match need {
            Need::ExtensionPoint(point) => self.extension_points.contains(&point),
            Need::Runner(name) => self.runners.iter().any(|runner| runner == name),
            Need::Verb(name) => self.commands.iter().any(|verb| verb == name),
            Need::Service(name) => self.services.iter().any(|service| service == name),
        }
    }
}

impl Distribution {
    pub(crate) const KEYS: &[&str] = &["name", "description", "extends", "plugins"];
}
