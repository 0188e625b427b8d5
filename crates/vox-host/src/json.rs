//! Exported functions called with JSON: for trying a plugin by hand, and for calls between
//! plugins.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::contract::EXPORTS;
use crate::error::CallError;

/// Why a call with JSON arguments brought no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonCallError {
    /// The contract has no such function.
    #[error("`{function}` is no function of the contract; {hint}")]
    Unknown {
        /// What was asked for.
        function: String,
        /// What there is.
        hint: String,
    },
    /// The arguments do not fit.
    #[error("{0}")]
    Arguments(String),
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl JsonCallError {
    pub(crate) fn unknown(interface: &str, function: &str) -> Self {
        let hint = match EXPORTS.iter().find(|known| known.name == interface) {
            Some(known) => format!("`{interface}` has {}", known.functions.join(", ")),
            None => format!(
                "write `interface.function`, where the interface is one of {}",
                EXPORTS.map(|known| known.name).join(", ")
            ),
        };
        let function = [interface, function]
            .join(".")
            .trim_end_matches('.')
            .to_owned();
        Self::Unknown { function, hint }
    }
}

/// The arguments of a call, taken one after the other.
pub(crate) struct Arguments(std::vec::IntoIter<Value>);

impl Arguments {
    /// Checks the number of arguments against the parameters' names.
    pub(crate) fn new(
        values: Vec<Value>,
        count: usize,
        names: &[&str],
    ) -> Result<Self, JsonCallError> {
        if values.len() != count {
            let wanted = match names {
                [] => "no arguments".to_owned(),
                names => format!("{count} argument(s): {}", names.join(", ")),
            };
            return Err(JsonCallError::Arguments(format!(
                "{} given, but the function takes {wanted}",
                values.len()
            )));
        }
        Ok(Self(values.into_iter()))
    }

    /// The next argument as a value of the contract.
    pub(crate) fn value<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, JsonCallError> {
        let value = self.0.next().unwrap_or_default();
        serde_json::from_value(value)
            .map_err(|error| JsonCallError::Arguments(format!("argument `{name}`: {error}")))
    }

    /// The next argument as bytes.
    pub(crate) fn bytes(&mut self, name: &str) -> Result<Vec<u8>, JsonCallError> {
        match self.0.next().unwrap_or_default() {
            Value::String(text) => Ok(text.into_bytes()),
            Value::Object(map) => match map.get("base64").and_then(Value::as_str) {
                Some(text) if map.len() == 1 => BASE64.decode(text).map_err(|error| {
                    JsonCallError::Arguments(format!("argument `{name}`: {error}"))
                }),
                _ => Err(JsonCallError::Arguments(format!(
                    "argument `{name}`: bytes are a string, an array of numbers or {{\"base64\": \"…\"}}"
                ))),
            },
            other => serde_json::from_value(other)
                .map_err(|error| JsonCallError::Arguments(format!("argument `{name}`: {error}"))),
        }
    }
}

/// A result as JSON.
pub(crate) fn from_value<T: Serialize>(value: &T) -> Result<Value, JsonCallError> {
    serde_json::to_value(value)
        .map_err(|error| JsonCallError::Arguments(format!("the result has no JSON form: {error}")))
}

/// Bytes as JSON: text where they are text.
pub(crate) fn from_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": BASE64.encode(bytes) }),
    }
}
