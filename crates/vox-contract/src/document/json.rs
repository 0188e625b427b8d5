//! TOML values as JSON, for what is handed to plugins.

use serde_json::{Map, Number, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::Table;

impl<'d, 'a> Table<'d, 'a> {
    /// A table with free keys as a JSON object; empty when the key is not written.
    ///
    /// Dates become strings. A number that JSON cannot hold (infinite, or no 64-bit integer) is
    /// noted.
    pub fn json_object(&self, key: &str) -> Map<String, Value> {
        match self.value(key).map(|value| (value, value.get_ref())) {
            None => Map::new(),
            Some((_, DeValue::Table(entries))) => self.object(entries),
            Some((value, other)) => {
                self.mismatch(value.span(), key, "a table", other);
                Map::new()
            }
        }
    }

    fn object(&self, entries: &DeTable<'a>) -> Map<String, Value> {
        entries
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), self.json(key.get_ref(), value)))
            .collect()
    }

    fn json(&self, key: &str, value: &Spanned<DeValue<'a>>) -> Value {
        match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(truth) => Value::Bool(*truth),
            DeValue::Datetime(date) => Value::String(date.to_string()),
            DeValue::Array(items) => {
                Value::Array(items.iter().map(|item| self.json(key, item)).collect())
            }
            DeValue::Table(entries) => Value::Object(self.object(entries)),
            DeValue::Integer(_) => self
                .integer::<i64>(key, value)
                .map_or(Value::Null, |number| number.into()),
            DeValue::Float(digits) => {
                let number = digits.as_str().parse().ok().and_then(Number::from_f64);
                if number.is_none() {
                    self.note(
                        value.span(),
                        format!("`{}` cannot be {}", key.escape_debug(), digits.as_str()),
                        "write a finite number: the value is handed on as JSON",
                    );
                }
                number.map_or(Value::Null, Value::Number)
            }
        }
    }
}
