//! The grants of one plugin as a value: what [`Settings`](crate::Settings) write and their schema
//! describes.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::{Grants, Scope};
use crate::Capability;

impl Serialize for Grants {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_bool(true),
            Self::Only(entries) => entries.serialize(serializer),
            Self::AtMost(count) => serializer.serialize_u32(*count),
        }
    }
}

impl JsonSchema for Grants {
    fn schema_name() -> Cow<'static, str> {
        "Grants".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let properties: Map<String, Value> = Capability::ALL
            .into_iter()
            .map(|capability| (capability.name().to_owned(), granted(capability)))
            .collect();
        json_schema!({
            "description": "What one plugin may do. What is not written is not granted.",
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

fn granted(capability: Capability) -> Value {
    let all = json!({ "const": true });
    let summary = capability.summary();
    let Some(scope) = capability.scope_of() else {
        return json!({ "const": true, "description": format!("To {summary}.") });
    };
    let part = if capability.is_counted() {
        json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX })
    } else {
        json!({ "type": "array", "minItems": 1, "items": { "type": "string" } })
    };
    json!({
        "anyOf": [all, part],
        "description": format!("To {summary}: all of it, or {scope}."),
    })
}
