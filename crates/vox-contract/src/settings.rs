//! `Vox.toml`: what a project sets for the plugins that it uses.
//!
//! A project chooses versions and carriers, configures plugins, sets their limits and shares out
//! memory. What it grants counts only where the user has allowed it, since a project may be
//! somebody else's (see [`crate::GrantsFile::project`]).

use std::{collections::BTreeMap, path::Path};

use schemars::JsonSchema;
use semver::VersionReq;
use serde::Serialize;

use crate::{
    Bytes, Carrier, EffectiveLimits, Grants, GrantsFile, HookPoint, Limits, ManifestError,
    PluginId,
    document::{Document, Table, read_text},
    grants,
};

/// The name of the file in a project's directory.
pub const SETTINGS_FILE: &str = "Vox.toml";

/// What a project sets in its Vox.toml.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "Vox.toml")]
pub struct Settings {
    /// What all plugins share.
    #[serde(default, skip_serializing_if = "HostSettings::is_empty")]
    pub host: HostSettings,
    /// Settings of single plugins, by id.
    #[serde(rename = "plugin", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plugins: BTreeMap<PluginId, PluginSettings>,
}

/// What all plugins share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HostSettings {
    /// Memory of all plugins together: a whole number and B, KiB, MiB or GiB. When left out: half of what the
    /// machine and the control groups of the process allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Native libraries that are kept after newer ones took over: a whole number and B, KiB, MiB
    /// or GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retained: Option<Bytes>,
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
    /// Limits in place of what the plugin asks for; a value here may be above the ceiling.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// What the plugin may do. Counts once it is allowed with `vox plugin grant --project`, and
    /// is asked for anew whenever it changes.
    #[serde(default, skip_serializing_if = "Grants::is_empty")]
    pub grants: Grants,
    /// The plugin's share of the memory that all plugins have together, beside the weights of the
    /// others: 1 to 1000. 100 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: Option<u32>,
    /// Hook points at which the plugin is not called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks_off: Vec<HookPoint>,
}

impl Settings {
    pub(crate) const KEYS: &[&str] = &["host", "plugin"];

    /// Reads settings. `file` is named in errors and not opened.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`] with all that is wrong.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ManifestError> {
        Document::read(text, file, Self::KEYS, |root| {
            let host = root.table("host", HostSettings::KEYS);
            let host = host.as_ref().map(HostSettings::read).unwrap_or_default();
            let mut plugins = BTreeMap::new();
            for (id, value) in root.members("plugin") {
                let id = root.parse::<PluginId>(id);
                let table = root.as_table("plugin", value, PluginSettings::KEYS);
                if let (Some(id), Some(table)) = (id, table) {
                    plugins.insert(id, plugin(&table));
                }
            }
            Some(Self { host, plugins })
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

    /// The limits that hold for a plugin that asks for `asked`.
    pub fn limits(&self, plugin: &PluginId, asked: &Limits) -> EffectiveLimits {
        let set = self.of(plugin).map(|own| own.limits).unwrap_or_default();
        EffectiveLimits::of(asked, &set)
    }

    /// A plugin's share of the memory budget, beside the weights of the others.
    pub fn weight(&self, plugin: &PluginId) -> u32 {
        self.of(plugin)
            .and_then(|own| own.weight)
            .unwrap_or(PluginSettings::DEFAULT_WEIGHT)
    }

    /// True unless the plugin's hook at `point` is switched off.
    pub fn hook_is_on(&self, plugin: &PluginId, point: &HookPoint) -> bool {
        self.of(plugin)
            .is_none_or(|own| !own.hooks_off.contains(point))
    }

    /// All that the project grants, allowed or not.
    pub fn grants(&self) -> GrantsFile {
        self.plugins
            .iter()
            .filter(|(_, own)| !own.grants.is_empty())
            .map(|(id, own)| (id.clone(), own.grants.clone()))
            .collect()
    }
}

impl HostSettings {
    pub(crate) const KEYS: &[&str] = &["memory", "retained"];

    /// True when nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn read(table: &Table<'_, '_>) -> Self {
        let memory = table.parsed("memory");
        if memory == Some(Bytes(0)) {
            table.note(
                table.value_span("memory"),
                "`memory` cannot be nothing: no plugin could be loaded",
                "write what the plugins may have together, such as `1GiB`, or leave it out",
            );
        }
        Self {
            memory,
            retained: table.parsed("retained"),
        }
    }
}

impl PluginSettings {
    pub(crate) const KEYS: &[&str] = &[
        "version",
        "prefer",
        "config",
        "limits",
        "grants",
        "weight",
        "hooks-off",
    ];

    /// The weight of a plugin for which none is set.
    pub const DEFAULT_WEIGHT: u32 = 100;

    /// The largest weight.
    pub const MAX_WEIGHT: u32 = 1000;
}

fn plugin(table: &Table<'_, '_>) -> PluginSettings {
    PluginSettings {
        version: table
            .text("version")
            .and_then(|range| table.version_range(range)),
        prefer: table.parsed("prefer"),
        config: table.json_object("config"),
        limits: table
            .table("limits", Limits::KEYS)
            .map_or_else(Limits::default, |limits| Limits::read(&limits)),
        grants: table
            .value("grants")
            .map_or_else(Grants::none, |value| grants::grants(table, value)),
        weight: weight(table),
        hooks_off: table.distinct("hooks-off"),
    }
}

fn weight(table: &Table<'_, '_>) -> Option<u32> {
    let weight = table.integer("weight", table.value("weight")?)?;
    if !(1..=PluginSettings::MAX_WEIGHT).contains(&weight) {
        table.note(
            table.value_span("weight"),
            format!("`weight` cannot be {weight}"),
            format!(
                "write 1 to {}; {} is what other plugins have",
                PluginSettings::MAX_WEIGHT,
                PluginSettings::DEFAULT_WEIGHT
            ),
        );
    }
    Some(weight)
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
             [plugin.B]\ngrants = 1\ngrant = 1\n[grant]\n",
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
             Vox.toml:7:1: unknown key `grant` in `plugin`\n  \
             hint: did you mean `grants`?\n\
             Vox.toml:8:2: unknown key `grant`\n  \
             hint: use one of `host`, `plugin`"
        );
    }

    #[test]
    fn limits_grants_and_shares_are_read_and_written_again() {
        let settings = parse(
            "[host]\nmemory = \"2GiB\"\nretained = \"0B\"\n\
             [plugin.a]\nlimits = { memory = \"8GiB\", cpu = \"unlimited\" }\nweight = 1000\n\
             hooks-off = [\"post_chunk\", \"custom:x\"]\n\
             grants = { network = [\"a.example\"], kv = true, agent_spawn = 3 }\n",
        )
        .unwrap();
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(settings.host.memory, Some(Bytes(2 << 30)));
        let limits = settings.limits(&a, &Limits::default());
        assert_eq!((limits.memory, limits.cpu), (8 << 30, None));
        assert_eq!((settings.weight(&a), settings.weight(&b)), (1000, 100));
        assert!(!settings.hook_is_on(&a, &HookPoint::PostChunk));
        assert!(settings.hook_is_on(&a, &HookPoint::PreStep));
        assert!(settings.hook_is_on(&b, &HookPoint::PostChunk));
        let grants = settings.grants();
        assert_eq!(grants.of(&a).unwrap().iter().count(), 3);
        assert_eq!(grants.of(&b), None);
        let written = toml::to_string(&settings).unwrap();
        assert_eq!(parse(&written).unwrap(), settings, "{written}");
    }

    #[test]
    fn what_cannot_be_set_is_refused_with_its_place() {
        let error = parse(
            "[host]\nmemory = \"0B\"\n[plugin.a]\nweight = 0\nhooks-off = [\"x\"]\n\
             limits = { stack = \"0B\" }\ngrants = { kv = false }\n\
             [plugin.b]\ngrants = 1\nweight = 1001\n",
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "Vox.toml:2:10: `memory` cannot be nothing: no plugin could be loaded\n  \
             hint: write what the plugins may have together, such as `1GiB`, or leave it out\n\
             Vox.toml:4:10: `weight` cannot be 0\n  \
             hint: write 1 to 1000; 100 is what other plugins have\n\
             Vox.toml:5:14: unknown hook point `x`\n  \
             hint: use one of `pre_pipeline`, `pre_step`, `post_step`, `post_chunk`, \
             `pre_fusion`, `post_fusion`, `on_error`, `on_metrics`, `post_pipeline`, \
             `custom:<name>`\n\
             Vox.toml:6:20: `stack` cannot be nothing\n  \
             hint: write what is needed, or leave it out\n\
             Vox.toml:7:17: a grant cannot be `false`\n  \
             hint: remove the line: what is not granted is denied\n\
             Vox.toml:9:10: the grants of a plugin must be a table\n  \
             hint: write a table with `kv = true` in it\n\
             Vox.toml:10:10: `weight` cannot be 1001\n  \
             hint: write 1 to 1000; 100 is what other plugins have"
        );
    }
}
