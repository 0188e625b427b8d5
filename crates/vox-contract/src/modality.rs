//! What the bytes of a chunk are, and what a plugin takes.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::document::Hinted;
use crate::names::MAX_NAME_BYTES;

/// A kind of content: one or two lower-case words, such as `text`, `text/csv`, `audio/pcm`; or, where
/// a plugin says what it takes, all that begin with a word (`audio/*`), or anything (`*`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Modality(String);

/// A text that is no modality.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a modality", .0.escape_debug())]
pub struct ModalityError(String);

impl Modality {
    /// Anything.
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for several.
    pub fn is_pattern(&self) -> bool {
        self.0.ends_with('*')
    }

    /// Whether content of kind `modality` is what this stands for. `text` stands for itself, and
    /// `text/*` for `text` and all that is finer.
    pub fn takes(&self, modality: &str) -> bool {
        match self.0.strip_suffix('*') {
            None => self.0 == modality,
            Some("") => true,
            Some(prefix) => {
                modality.starts_with(prefix) || modality == prefix.trim_end_matches('/')
            }
        }
    }
}

impl FromStr for Modality {
    type Err = ModalityError;

    fn from_str(text: &str) -> Result<Self, ModalityError> {
        let is_word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_lowercase())
                && word
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-+._".contains(c))
        };
        let fits = match text.split_once('/') {
            None => text == "*" || is_word(text),
            Some((kind, "*")) => is_word(kind),
            Some((kind, finer)) => is_word(kind) && is_word(finer),
        };
        if fits && text.len() <= MAX_NAME_BYTES {
            Ok(Self(text.to_owned()))
        } else {
            Err(ModalityError(text.to_owned()))
        }
    }
}

impl Hinted for ModalityError {
    fn way_out(&self) -> Option<String> {
        let hint = "write one or two lower-case words, such as `text` or `audio/pcm`; `audio/*` and \
                    `*` stand for several";
        Some(hint.to_owned())
    }
}

impl fmt::Display for Modality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Modality {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Modality {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl JsonSchema for Modality {
    fn schema_name() -> Cow<'static, str> {
        "Modality".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^(\*|[a-z][-a-z0-9+._]*(/(\*|[a-z][-a-z0-9+._]*))?)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modality(text: &str) -> Modality {
        text.parse().unwrap()
    }

    #[test]
    fn a_pattern_takes_what_is_finer() {
        assert!(modality("text").takes("text"));
        assert!(!modality("text").takes("text/csv"));
        assert!(modality("text/*").takes("text/csv") && modality("text/*").takes("text"));
        assert!(!modality("text/*").takes("texture"));
        assert!(Modality::any().takes("audio/pcm"));
    }

    #[test]
    fn what_is_no_modality_is_refused() {
        for text in ["", "/", "Text", "a/b/c", "*/x", "a/", "te*", "a b"] {
            assert!(text.parse::<Modality>().is_err(), "{text}");
        }
    }
}
