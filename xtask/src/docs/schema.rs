//! The pages on files: a table for each table of the file, from its JSON Schema.

use std::fmt::Write as _;

use serde_json::Value;
use vox_contract::schema;

use super::{Page, cell, code_list};

/// The longest pattern that a page shows, in bytes.
const LONGEST_PATTERN: usize = 80;

pub fn plugin_manifest() -> Page {
    let intro = "What a plugin says of itself, in the file `Plugin.toml` of its directory. A key \
                 that is not listed here is refused. `vox plugin schema` prints the JSON Schema.";
    Page {
        file: "plugin-manifest.md",
        source: "`crates/vox-contract/src/manifest.rs`",
        text: page("Plugin.toml", intro, &schema::plugin()),
    }
}

pub fn settings() -> Page {
    let intro = "What a project sets for the plugins that it uses, in the file `Vox.toml` of its \
                 directory. A project chooses, configures and limits; what it grants counts only once \
                 it is allowed with `vox plugin grant --project`.";
    Page {
        file: "settings.md",
        source: "`crates/vox-contract/src/settings.rs`",
        text: page("Vox.toml", intro, &schema::settings()),
    }
}

/// The page on pipelines; only `vox` knows their schema, since the engine owns it.
pub fn pipeline(schema: &Value) -> Page {
    let intro = "A pipeline, in TOML or JSON. A key that is not listed here is refused. `vox plugin \
                 schema pipeline` prints the JSON Schema; [The plan](../explanation/plan.md) says \
                 what the keys mean together.";
    Page {
        file: "pipeline.md",
        source: "`vox plugin schema pipeline`",
        text: page("pipeline.toml", intro, schema),
    }
}

/// The page on trainings; only `vox` knows their schema, since it is the library's that trains.
pub fn training(schema: &Value) -> Page {
    let intro = "A training, in TOML. A key that is not listed here is refused. Relative paths count \
                 from the file's own directory. `vox train --schema` prints the JSON Schema; [Train a \
                 model](../how-to/train.md) shows how it is used.";
    Page {
        file: "train-toml.md",
        source: "`vox train --schema`",
        text: page("train.toml", intro, schema),
    }
}

fn page(title: &str, intro: &str, schema: &Value) -> String {
    let mut text = format!("# {title}\n\n{intro}\n\n## Top level\n");
    keys(schema, schema, &mut text);
    for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
        if definition["properties"].is_object() {
            let description = definition["description"].as_str().unwrap_or_default();
            // Writing to a `String` cannot fail.
            let _ = write!(text, "\n## {name}\n\n{description}\n");
            keys(definition, schema, &mut text);
        }
    }
    text
}

/// A table of the keys that an object has.
fn keys(object: &Value, schema: &Value, text: &mut String) {
    text.push_str("\n| key | value | needed | |\n|---|---|---|---|\n");
    let required: Vec<&str> = object["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (key, value) in object["properties"].as_object().into_iter().flatten() {
        let needed = if required.contains(&key.as_str()) {
            "yes"
        } else {
            ""
        };
        let description = cell(value["description"].as_str().unwrap_or_default());
        let kind = cell(&kind(value, schema));
        let default = match &value["default"] {
            Value::Null => String::new(),
            Value::Array(items) if items.is_empty() => String::new(),
            Value::Object(members) if members.is_empty() => String::new(),
            Value::String(text) if text.is_empty() => String::new(),
            default => format!(" Default: `{default}`."),
        };
        let _ = writeln!(
            text,
            "| `{key}` | {kind} | {needed} | {description}{default} |"
        );
    }
}

/// What a value is, in words.
fn kind(value: &Value, schema: &Value) -> String {
    if let Some(name) = value["$ref"]
        .as_str()
        .and_then(|path| path.strip_prefix("#/$defs/"))
    {
        let definition = &schema["$defs"][name];
        return if definition["properties"].is_object() {
            format!("table: [{name}](#{})", name.to_lowercase())
        } else {
            kind(definition, schema)
        };
    }
    if value["const"].is_boolean() {
        return format!("`{}`", value["const"]);
    }
    if let Some(words) = value["enum"].as_array() {
        let words = words.iter().filter_map(Value::as_str);
        return format!("one of {}", code_list(words));
    }
    if let Some(words) = value["oneOf"].as_array() {
        let words = words.iter().filter_map(|word| word["const"].as_str());
        return format!("one of {}", code_list(words));
    }
    if let Some(choices) = value["anyOf"].as_array() {
        let choices: Vec<String> = choices.iter().map(|choice| kind(choice, schema)).collect();
        return choices.join(", or ");
    }
    // What may be left out may be null in JSON; a table of TOML has no such value.
    let types = value["type"].as_array().into_iter().flatten();
    let mut types = types.chain([&value["type"]]).filter_map(Value::as_str);
    match types.find(|name| *name != "null") {
        Some("array") => format!("list of: {}", kind(&value["items"], schema)),
        Some("object") => members(value, schema),
        Some("string") => match value["pattern"].as_str() {
            // What is longer than that explains nothing; the description does.
            Some(pattern) if pattern.len() <= LONGEST_PATTERN => format!("text `{pattern}`"),
            _ => "text".into(),
        },
        Some("integer") => "whole number".into(),
        Some("boolean") => "`true` or `false`".into(),
        Some(other) => other.into(),
        None => "any value".into(),
    }
}

/// What a table holds whose keys are the user's own, or words of a closed set.
fn members(value: &Value, schema: &Value) -> String {
    if let Some(words) = value["properties"].as_object() {
        let member = words
            .values()
            .next()
            .map_or("any value".into(), |member| kind(member, schema));
        return format!("table of: {member}, by one of {}", code_list(words.keys()));
    }
    let patterns = value["patternProperties"].as_object();
    let member = patterns.and_then(|patterns| patterns.values().next());
    match member.or_else(|| value.get("additionalProperties")) {
        Some(member) if member.is_object() => format!("table of: {}", kind(member, schema)),
        _ => "table".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_manifest_is_on_the_page() {
        let text = plugin_manifest().text;
        for key in [
            "id",
            "payload",
            "extension-points",
            "reason",
            "memory",
            "priority",
        ] {
            assert!(text.contains(&format!("| `{key}` | ")), "{key}:\n{text}");
        }
        assert!(!text.contains("any value"), "{text}");
    }
}
