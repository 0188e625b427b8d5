//! The check of a step's arguments against the schema that its runner answers.

use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::LocationSegment;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use crate::plan::{Arguments, near};

/// A runner's schema, ready to check with.
pub(crate) struct ArgumentsSchema {
    schema: Value,
    validator: Validator,
}

/// Something wrong with a step's arguments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ArgumentFault {
    /// Where in the arguments, from the outside in; an index as digits.
    pub path: Vec<PathPart>,
    pub message: String,
    pub hint: Option<String>,
}

/// A part of the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathPart {
    Key(String),
    Index(usize),
}

impl ArgumentsSchema {
    /// Reads a schema (draft 2020-12 unless it names another); one that refers to other documents
    /// is refused.
    pub fn new(text: &str) -> Result<Self, String> {
        let schema: Value =
            serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
        let validator = jsonschema::validator_for(&schema)
            .map_err(|error| format!("it is not a JSON Schema: {error}"))?;
        Ok(Self { schema, validator })
    }

    /// Everything that is wrong with `arguments`.
    pub fn faults(&self, arguments: &Arguments) -> Vec<ArgumentFault> {
        let value = Value::Object(arguments.clone());
        self.validator
            .iter_errors(&value)
            .flat_map(|error| self.explain(&error))
            .collect()
    }

    fn explain(&self, error: &ValidationError<'_>) -> Vec<ArgumentFault> {
        let path: Vec<PathPart> = error
            .instance_path()
            .iter()
            .map(|segment| match segment {
                LocationSegment::Property(key) => PathPart::Key(key.to_string()),
                LocationSegment::Index(index) => PathPart::Index(index),
            })
            .collect();
        let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind() else {
            return vec![ArgumentFault {
                path,
                message: error.to_string(),
                hint: None,
            }];
        };
        let known = self.properties_beside(error.schema_path().as_str());
        let fault = |key: &String| ArgumentFault {
            path: path
                .iter()
                .cloned()
                .chain([PathPart::Key(key.clone())])
                .collect(),
            message: format!("there is no argument `{}`", key.escape_debug()),
            hint: (!known.is_empty()).then(|| near(key, known.iter().copied(), "arguments")),
        };
        unexpected.iter().map(fault).collect()
    }

    /// The names of the properties that stand in the schema beside the keyword at `path`.
    fn properties_beside(&self, path: &str) -> Vec<&str> {
        let around = path.rsplit_once('/').map_or("", |(around, _)| around);
        let properties = self
            .schema
            .pointer(around)
            .and_then(|schema| schema.get("properties"));
        properties
            .and_then(Value::as_object)
            .map_or_else(Vec::new, |properties| {
                properties.keys().map(String::as_str).collect()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{
        "type": "object",
        "properties": {
            "command": { "type": "array", "items": { "type": "string" }, "minItems": 1 },
            "directory": { "type": "string" }
        },
        "required": ["command"],
        "additionalProperties": false
    }"#;

    fn faults(arguments: Value) -> Vec<(Vec<PathPart>, String, Option<String>)> {
        let schema = ArgumentsSchema::new(SCHEMA).unwrap();
        let Value::Object(arguments) = arguments else {
            panic!("not an object")
        };
        let faults = schema.faults(&arguments).into_iter();
        faults
            .map(|fault| (fault.path, fault.message, fault.hint))
            .collect()
    }

    #[test]
    fn arguments_that_fit_have_no_faults() {
        assert_eq!(faults(serde_json::json!({ "command": ["true"] })), []);
    }

    #[test]
    fn an_unknown_argument_is_answered_with_the_nearest_name() {
        let key = PathPart::Key("comand".into());
        let told = faults(serde_json::json!({ "comand": [], "command": ["true"] }));
        let hint = Some("did you mean `command`?".to_owned());
        assert_eq!(
            told,
            [(vec![key], "there is no argument `comand`".into(), hint)]
        );
    }

    #[test]
    fn a_fault_says_where_it_is() {
        let told = faults(serde_json::json!({ "command": ["a", 3] }));
        assert_eq!(
            told[0].0,
            [PathPart::Key("command".into()), PathPart::Index(1)]
        );
        assert_eq!(told[0].1, "3 is not of type \"string\"");
        let told = faults(serde_json::json!({}));
        assert_eq!(told[0].1, "\"command\" is a required property");
    }

    #[test]
    fn a_schema_that_is_none_is_refused() {
        assert!(ArgumentsSchema::new("{").is_err());
        assert!(ArgumentsSchema::new(r#"{ "type": "objekt" }"#).is_err());
        assert!(ArgumentsSchema::new(r#"{ "$ref": "https://example.org/s.json" }"#).is_err());
    }
}
