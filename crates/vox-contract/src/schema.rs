//! JSON Schemas (draft 2020-12) of the files, for editors and other tools.
//!
//! They describe what each key means and which values it takes; what concerns several keys at once
//! (runners need the extension point `step`) is checked only when a file is read.

use schemars::{
    JsonSchema, Schema,
    generate::SchemaSettings,
    transform::{Transform, transform_subschemas},
};
use serde_json::Value;

use crate::{Catalog, Manifest, Settings};

/// The schema of a `Plugin.toml`.
pub fn plugin() -> Value {
    of::<Manifest>()
}

/// The schema of a `Vox.toml`.
pub fn settings() -> Value {
    of::<Settings>()
}

/// The schema of a `catalog.toml`.
pub fn catalog() -> Value {
    of::<Catalog>()
}

/// The schema of another file of Vox that is read as these are.
pub fn of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12()
        .with_transform(WithoutNull)
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// TOML has no null: what may be left out is simply not required.
#[derive(Clone)]
struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|kind| kind != "null");
            if let [single] = types.as_slice() {
                let single = single.clone();
                schema.insert("type".into(), single);
            }
        }
        let null = serde_json::json!({ "type": "null" });
        if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
            choices.retain(|choice| *choice != null);
            if let [Value::Object(single)] = choices.as_slice() {
                let single = single.clone();
                schema.remove("anyOf");
                single.into_iter().for_each(|(key, value)| {
                    schema.insert(key, value);
                });
            }
        }
        transform_subschemas(self, schema);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Capability, CapabilityRequest, CatalogPlugin, CommandEntry, Distribution, HookEntry,
        HostSettings, Limits, Payloads, PluginSettings, Provides, RequiredLibrary, Requires,
        RunnerPorts, StageEntry,
    };

    /// The property names of a schema or of one of its definitions, each with a description.
    fn properties(schema: &Value, definition: &str) -> Vec<String> {
        let place = match definition {
            "" => schema,
            name => &schema["$defs"][name],
        };
        assert_eq!(place["additionalProperties"], false, "{definition}");
        let properties = place["properties"].as_object().unwrap();
        for (name, property) in properties {
            assert!(
                property["description"].is_string(),
                "{definition}.{name}: {property}"
            );
        }
        properties.keys().cloned().collect()
    }

    fn sorted(keys: &[&str]) -> Vec<String> {
        let mut keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        keys.sort();
        keys
    }

    #[test]
    fn schemas_list_exactly_the_keys_that_are_read() {
        let (plugin, settings, catalog) = (plugin(), settings(), catalog());
        for (schema, definition, keys) in [
            (&plugin, "", Manifest::KEYS),
            (&plugin, "Payloads", Payloads::KEYS),
            (&plugin, "Requires", Requires::KEYS),
            (&plugin, "RequiredLibrary", RequiredLibrary::KEYS),
            (&plugin, "Provides", Provides::KEYS),
            (&plugin, "RunnerPorts", RunnerPorts::KEYS),
            (&plugin, "StageEntry", StageEntry::KEYS),
            (&plugin, "CommandEntry", CommandEntry::KEYS),
            (&plugin, "HookEntry", HookEntry::KEYS),
            (&plugin, "CapabilityRequest", CapabilityRequest::KEYS),
            (&plugin, "Limits", Limits::KEYS),
            (&settings, "", Settings::KEYS),
            (&settings, "HostSettings", HostSettings::KEYS),
            (&settings, "PluginSettings", PluginSettings::KEYS),
            (&settings, "Limits", Limits::KEYS),
            (&settings, "Grants", &Capability::ALL.map(Capability::name)),
            (&catalog, "", Catalog::KEYS),
            (&catalog, "CatalogPlugin", CatalogPlugin::KEYS),
            (&catalog, "Distribution", Distribution::KEYS),
        ] {
            let mut found = properties(schema, definition);
            found.sort();
            assert_eq!(found, sorted(keys), "{definition}");
        }
    }

    #[test]
    fn what_must_be_written_is_required() {
        let required = |schema: &Value| {
            let required = schema["required"].as_array().unwrap();
            required
                .iter()
                .map(|key| key.as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let plugin = plugin();
        assert_eq!(
            required(&plugin),
            ["id", "version", "description", "host", "payload"]
        );
        assert_eq!(
            required(&plugin["$defs"]["CapabilityRequest"]),
            ["name", "reason"]
        );
        assert_eq!(required(&plugin["$defs"]["HookEntry"]), ["point"]);
        assert!(plugin["$defs"]["Payloads"]["required"].is_null());
    }

    #[test]
    fn schemas_never_offer_null() {
        for schema in [plugin(), settings(), catalog()] {
            assert!(!schema.to_string().contains("null"), "{schema:#}");
        }
    }
}
