//! `Vox.toml`: what a project sets for the plugins that it uses.
//!
//! A project may choose versions and carriers and configure plugins; it grants nothing (see
//! [`crate::GrantsFile`]).

use std::{collections::BTreeMap, path::Path};

use schemars::JsonSchema;
use semver::VersionReq;
use serde::Serialize;

use crate::{
    Carrier, ManifestError, PluginId,
    document::{Document, Table, read_text},
};

/// The name of the file in a project's directory.
pub const SETTINGS_FILE: &str = "Vox.toml";

/// What a project sets in its Vox.toml.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "Vox.toml")]
pub struct Settings {
    /// Settings of single plugins, by id.
    #[serde(rename = "plugin", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plugins: BTreeMap<PluginId, PluginSettings>,
}

/// What a project sets for one plugin.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PluginSettings {
    /// The versions that may be used. Any when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub version: Option<VersionReq>,
    /// The carrier to be used where the plugin ships both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefer: Option<Carrier>,
    /// The plugin's configuration, handed to it as a JSON object.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub config: serde_json::Map<String, serde_json::Value>,
}

impl Settings {
    pub(crate) const KEYS: &[&str] = &["plugin"];

    /// Reads settings. `file` is named in errors and not opened.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`] with all that is wrong.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ManifestError> {
        Document::read(text, file, Self::KEYS, |root| {
            let mut plugins = BTreeMap::new();
            for (id, value) in root.members("plugin") {
                let id = root.parse::<PluginId>(id);
                let table = root.as_table("plugin", value, PluginSettings::KEYS);
                if let (Some(id), Some(table)) = (id, table) {
                    plugins.insert(id, plugin(&table));
                }
            }
            Some(Self { plugins })
        })
    }

    /// Reads the settings in `file`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and [`ManifestError::Unreadable`], also when there is no file.
    pub fn load(file: &Path) -> Result<Self, ManifestError> {
        Self::parse(&read_text(file)?, file)
    }

    /// What is set for a plugin.
    pub fn of(&self, plugin: &PluginId) -> Option<&PluginSettings> {
        self.plugins.get(plugin)
    }
}

impl PluginSettings {
    pub(crate) const KEYS: &[&str] = &["version", "prefer", "config"];
}

fn plugin(table: &Table<'_, '_>) -> PluginSettings {
    PluginSettings {
        version: table
            .text("version")
            .and_then(|range| table.version_range(range)),
        prefer: table.parsed("prefer"),
        config: table.json_object("config"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Result<Settings, ManifestError> {
        Settings::parse(text, Path::new("Vox.toml"))
    }

    #[test]
    fn settings_of_a_plugin_are_read_and_its_configuration_becomes_json() {
        let settings = parse(
            "[plugin.redact]\nversion = \"^0.1\"\nprefer = \"native\"\n\
             config = { emails = true, depth = 0x10, ratio = 0.5, since = 2024-02-29 }\n\
             [plugin.\"acme.x\".config]\nlist = [1, \"two\", [{ three = 3 }]]\n",
        )
        .unwrap();
        let redact = settings.of(&"redact".parse().unwrap()).unwrap();
        assert_eq!(redact.version, Some("^0.1".parse().unwrap()));
        assert_eq!(redact.prefer, Some(Carrier::Native));
        assert_eq!(
            serde_json::Value::from(redact.config.clone()),
            json!({ "emails": true, "depth": 16, "ratio": 0.5, "since": "2024-02-29" })
        );
        let acme = settings.of(&"acme.x".parse().unwrap()).unwrap();
        assert_eq!(
            serde_json::Value::from(acme.config.clone()),
            json!({ "list": [1, "two", [{ "three": 3 }]] })
        );
    }

    #[test]
    fn what_is_no_setting_is_refused_with_its_place() {
        let error = parse(
            "[plugin.a]\nprefer = \"wasm\"\nversion = 1\nconfig = { x = inf, y = 1_000_000 }\n\
             [plugin.B]\ngrants = 1\n[grant]\n",
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "Vox.toml:2:10: unknown carrier `wasm`\n  \
             hint: use one of `component`, `native`\n\
             Vox.toml:3:11: `version` must be a string, not a whole number\n\
             Vox.toml:4:16: `x` cannot be inf\n  \
             hint: write a finite number: the value is handed on as JSON\n\
             Vox.toml:5:9: plugin id `B` contains a capital letter\n  \
             hint: write `b`: lower-case letters, digits, single `-` and `.` between them, \
             each part starting with a letter\n\
             Vox.toml:6:1: unknown key `grants` in `plugin`\n  \
             hint: use one of `version`, `prefer`, `config`\n\
             Vox.toml:7:2: unknown key `grant`\n  \
             hint: use one of `plugin`"
        );
    }
}
