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
        let mut hint = None;
        let message = match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                return self.unknown(error, unexpected, &path);
            }
            ValidationErrorKind::OneOfNotValid { context }
            | ValidationErrorKind::AnyOf { context } => match self.misfit(error, context) {
                Misfit::Of(errors) => {
                    return errors
                        .iter()
                        .flat_map(|error| self.explain(error))
                        .collect();
                }
                Misfit::Whole(message) => message,
            },
            ValidationErrorKind::OneOfMultipleValid { .. } => self.surfeit(error),
            ValidationErrorKind::Enum { options } => {
                let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
                let words = options.iter().filter_map(Value::as_str);
                let written = error.instance().as_str();
                hint = written
                    .and_then(|written| vox_contract::nearest(written, words))
                    .map(|near| format!("did you mean `{near}`?"));
                let options: Vec<String> = options.iter().map(Value::to_string).collect();
                format!("{} is not one of {}", error.instance(), either(&options))
            }
            ValidationErrorKind::Not { schema } if required(schema).len() > 1 => {
                format!("{} exclude each other", required(schema).join(" and "))
            }
            _ => error.to_string(),
        };
        vec![ArgumentFault {
            path,
            message,
            hint,
        }]
    }

    /// Arguments that there are not, in the table at `path`.
    fn unknown(
        &self,
        error: &ValidationError<'_>,
        unexpected: &[String],
        path: &[PathPart],
    ) -> Vec<ArgumentFault> {
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

    /// What is wrong with a value that has none of several forms. `context` has the errors of each.
    fn misfit<'e>(
        &self,
        error: &ValidationError<'_>,
        context: &'e [Vec<ValidationError<'static>>],
    ) -> Misfit<'e> {
        let forms: Vec<(&Value, &Vec<ValidationError<'static>>)> = self
            .forms(error)
            .zip(context)
            // No plan can write it.
            .filter(|(form, _)| form.get("type").and_then(Value::as_str) != Some("null"))
            .collect();
        match forms[..] {
            [] => return Misfit::Whole(error.to_string()),
            [(_, errors)] => return Misfit::Of(errors),
            _ => {}
        }
        if error.instance().is_object() {
            let lacks = |errors: &[ValidationError<'static>]| {
                errors.iter().any(|found| {
                    let is_here = found.instance_path().as_str() == error.instance_path().as_str();
                    is_here && matches!(found.kind(), ValidationErrorKind::Required { .. })
                })
            };
            let mut complete = forms.iter().filter(|(_, errors)| !lacks(errors));
            match (complete.next(), complete.next()) {
                (Some((_, errors)), None) => return Misfit::Of(errors),
                (None, _) => {
                    let names = forms.iter().map(|(form, _)| required(form));
                    return Misfit::Whole(format!("needs one of: {}", each(names)));
                }
                _ => {}
            }
        }
        let forms: Vec<String> = forms.iter().map(|(form, _)| in_words(form)).collect();
        Misfit::Whole(format!("{} is not {}", error.instance(), either(&forms)))
    }

    /// What is wrong with a value that has more than one of several forms.
    fn surfeit(&self, error: &ValidationError<'_>) -> String {
        let names: Vec<Vec<String>> = self.forms(error).map(required).collect();
        if !error.instance().is_object() || names.iter().any(Vec::is_empty) {
            return error.to_string();
        }
        format!("takes only one of: {}", each(names))
    }

    /// The forms of which an error of the keyword `oneOf` or `anyOf` tells.
    fn forms(&self, error: &ValidationError<'_>) -> impl Iterator<Item = &Value> {
        let forms = self.schema.pointer(error.schema_path().as_str());
        let forms = forms.and_then(Value::as_array).into_iter().flatten();
        forms.map(move |form| {
            let elsewhere = form.get("$ref").and_then(Value::as_str);
            let elsewhere = elsewhere.and_then(|reference| reference.strip_prefix('#'));
            elsewhere
                .and_then(|pointer| self.schema.pointer(pointer))
                .unwrap_or(form)
        })
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

/// What is wrong with a value that has none of several forms.
enum Misfit<'e> {
    /// The errors of the one that was meant.
    Of(&'e [ValidationError<'static>]),
    /// Nobody knows which was meant: what there are.
    Whole(String),
}

/// The members that a form of an object must have.
fn required(form: &Value) -> Vec<String> {
    let names = form.get("required").and_then(Value::as_array);
    let names = names.into_iter().flatten().filter_map(Value::as_str);
    names.map(|name| format!("`{name}`")).collect()
}

/// Names of members that belong together, of each of several forms.
fn each(names: impl IntoIterator<Item = Vec<String>>) -> String {
    let forms: Vec<String> = names.into_iter().map(|names| names.join(" and ")).collect();
    forms.join(", ")
}

/// A form of a value as people say it.
fn in_words(form: &Value) -> String {
    if let Some(value) = form.get("const") {
        return value.to_string();
    }
    if let Some(options) = form.get("enum").and_then(Value::as_array) {
        let options: Vec<String> = options.iter().map(Value::to_string).collect();
        return either(&options);
    }
    let kind = match form.get("type").and_then(Value::as_str) {
        Some("string") => "a text",
        Some("integer") => "a whole number",
        Some("number") => "a number",
        Some("boolean") => "true or false",
        Some("array") => "a list",
        Some("object") => "a table",
        _ => return form.to_string(),
    };
    if let Some(least) = form.get("minimum") {
        format!("{kind} of at least {least}")
    } else if let Some(pattern) = form.get("pattern").and_then(Value::as_str) {
        format!("{kind} that matches `{pattern}`")
    } else if required(form).is_empty() {
        kind.to_owned()
    } else {
        format!("{kind} with {}", required(form).join(" and "))
    }
}

/// `a`, `a or b`, `a, b or c`.
fn either(words: &[String]) -> String {
    match words {
        [before @ .., last] if !before.is_empty() => {
            format!("{} or {last}", before.join(", "))
        }
        words => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
        faults_of(SCHEMA, arguments)
    }

    fn faults_of(schema: &str, arguments: Value) -> Vec<(Vec<PathPart>, String, Option<String>)> {
        let schema = ArgumentsSchema::new(schema).unwrap();
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
        assert_eq!(faults(json!({ "command": ["true"] })), []);
    }

    #[test]
    fn an_unknown_argument_is_answered_with_the_nearest_name() {
        let key = PathPart::Key("comand".into());
        let told = faults(json!({ "comand": [], "command": ["true"] }));
        let hint = Some("did you mean `command`?".to_owned());
        assert_eq!(
            told,
            [(vec![key], "there is no argument `comand`".into(), hint)]
        );
    }

    #[test]
    fn a_fault_says_where_it_is() {
        let told = faults(json!({ "command": ["a", 3] }));
        assert_eq!(
            told[0].0,
            [PathPart::Key("command".into()), PathPart::Index(1)]
        );
        assert_eq!(told[0].1, "3 is not of type \"string\"");
        let told = faults(json!({}));
        assert_eq!(told[0].1, "\"command\" is a required property");
    }

    /// What is told of arguments by this schema, with hints.
    fn told(schema: &Value, arguments: Value) -> Vec<String> {
        let faults = faults_of(&schema.to_string(), arguments).into_iter();
        faults
            .map(|(_, message, hint)| [Some(message), hint].into_iter().flatten())
            .map(|words| words.collect::<Vec<_>>().join("; "))
            .collect()
    }

    #[test]
    fn of_several_forms_of_a_table_it_is_said_what_each_needs() {
        let schema = json!({
            "type": "object",
            "allOf": [
                { "oneOf": [{ "required": ["command"] }, { "required": ["shell", "script"] }] },
                { "not": { "required": ["command", "entrypoint"] } },
            ],
        });
        for (arguments, said) in [
            (json!({}), "needs one of: `command`, `shell` and `script`"),
            (
                json!({ "command": 1, "shell": 1, "script": 1 }),
                "takes only one of: `command`, `shell` and `script`",
            ),
            (
                json!({ "command": 1, "entrypoint": 1 }),
                "`command` and `entrypoint` exclude each other",
            ),
        ] {
            assert_eq!(told(&schema, arguments), [said]);
        }
        assert!(told(&schema, json!({ "command": 1 })).is_empty());
    }

    #[test]
    fn of_a_form_that_was_meant_it_is_said_what_is_wrong_with_it() {
        let text = json!({ "type": "string" });
        let by =
            |key: &str| json!({ "type": "object", "required": [key], "properties": { key: text } });
        let schema = json!({
            "type": "object",
            "properties": {
                "source": { "anyOf": [by("file"), by("address")] },
                "limit": { "anyOf": [{ "$ref": "#/$defs/limit" }, { "type": "null" }] },
            },
            "$defs": { "limit": { "type": "integer" } },
        });
        for (arguments, said) in [
            (
                json!({ "source": { "file": 3 } }),
                "3 is not of type \"string\"",
            ),
            (json!({ "source": {} }), "needs one of: `file`, `address`"),
            (
                json!({ "source": 3 }),
                "3 is not a table with `file` or a table with `address`",
            ),
            (json!({ "limit": "x" }), "\"x\" is not of type \"integer\""),
        ] {
            assert_eq!(told(&schema, arguments), [said]);
        }
    }

    #[test]
    fn of_several_forms_of_a_value_each_is_said_in_words() {
        let schema = json!({
            "type": "object",
            "properties": {
                "memory": { "oneOf": [
                    { "type": "integer", "minimum": 1 },
                    { "type": "string", "minLength": 1 },
                    { "type": "boolean" },
                ] },
            },
        });
        assert_eq!(
            told(&schema, json!({ "memory": [] })),
            ["[] is not a whole number of at least 1, a text or true or false"]
        );
    }

    #[test]
    fn all_values_that_may_be_chosen_are_named_and_the_nearest_is_offered() {
        let policies = ["zip", "by-time", "latest", "stage", "own"];
        let schema = json!({ "type": "object", "properties": { "policy": { "enum": policies } } });
        let of = r#"is not one of "zip", "by-time", "latest", "stage" or "own""#;
        assert_eq!(
            told(&schema, json!({ "policy": "zipp" })),
            [format!("\"zipp\" {of}; did you mean `zip`?")]
        );
        assert_eq!(told(&schema, json!({ "policy": 3 })), [format!("3 {of}")]);
    }

    #[test]
    fn a_schema_that_is_none_is_refused() {
        assert!(ArgumentsSchema::new("{").is_err());
        assert!(ArgumentsSchema::new(r#"{ "type": "objekt" }"#).is_err());
        assert!(ArgumentsSchema::new(r#"{ "$ref": "https://example.org/s.json" }"#).is_err());
    }
}
