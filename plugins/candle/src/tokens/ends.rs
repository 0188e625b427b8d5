//! The tokens at which an answer ends, as a bundle's files say it.

use std::path::Path;

use serde_json::Value;

use crate::architecture::fields::{Fields, read_object};
use crate::error::Result;

/// The tokens that end a turn in the templates of the known families. Files that were made from GGUF name one
/// end alone, and that of a turn may not be it; `llama-vocab.cpp` of llama.cpp looks for them likewise.
pub(super) const TURN_ENDS: &[&str] = &["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>"];

/// What the files say.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Numbers of tokens at which an answer ends.
    pub(super) ids: Vec<u32>,
    /// Names of tokens at which an answer ends.
    pub(super) tokens: Vec<String>,
    /// The name of the token with which a text begins.
    pub(super) begin: Option<String>,
}

impl Said {
    /// Reads the files that are there.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let mut said = Self::default();
        for name in ["generation_config.json", "config.json"] {
            let path = directory.join(name);
            if path.is_file() {
                let object = read_object(&path)?;
                let fields = Fields::new(&path, &object);
                said.ids.extend(ids(&fields, "eos_token_id")?);
            }
        }
        let path = directory.join("tokenizer_config.json");
        if path.is_file() {
            let object = read_object(&path)?;
            let fields = Fields::new(&path, &object);
            said.tokens.extend(token(&fields, "eos_token")?);
            said.begin = token(&fields, "bos_token")?;
        }
        Ok(said)
    }
}

/// A token's number, or a list of such.
fn ids(fields: &Fields<'_>, field: &str) -> Result<Vec<u32>> {
    let of = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let read = match fields.value(field) {
        None => Some(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(of).collect(),
        // A negative number stands for none.
        Some(id) if id.as_i64().is_some_and(|id| id < 0) => Some(Vec::new()),
        Some(id) => of(id).map(|id| vec![id]),
    };
    read.ok_or_else(|| fields.fault(field, "it should be a token's number, or a list of such"))
}

/// A token's name: text, or an object with its `content`.
fn token(fields: &Fields<'_>, field: &str) -> Result<Option<String>> {
    let read = match fields.value(field) {
        None => return Ok(None),
        Some(Value::Object(token)) => token.get("content").and_then(Value::as_str),
        Some(token) => token.as_str(),
    };
    let name = read.ok_or_else(|| fields.fault(field, "it should be a token's text"))?;
    Ok(Some(name.to_owned()))
}
