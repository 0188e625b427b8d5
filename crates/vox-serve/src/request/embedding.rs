//! `/v1/embeddings`.

use serde_json::Value;

use super::Reading;
use super::completion::check_size;
use super::fields::{Fields, missing, shown, wrong};
use crate::refusal::Refusal;

/// A request for embeddings.
#[derive(Debug)]
pub struct Embedding {
    /// The model.
    pub model: String,
    /// What is to be embedded, one text or more.
    pub texts: Vec<String>,
    /// How numbers are to be written.
    pub encoding: Encoding,
}

/// How the numbers of an embedding are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As a list.
    Float,
    /// As the Base64 of f32, little-endian.
    Base64,
}

/// Reads a body.
pub fn embedding(body: &Value, reading: Reading<'_>) -> Result<Embedding, Refusal> {
    let fields = Fields::of(body)?;
    let model = reading.model(fields)?;
    if !model.can_embed {
        let message = format!(
            "is `{}`, which makes no embeddings: ask /v1/chat/completions or /v1/completions of it",
            model.id
        );
        return Err(Refusal::param("model", message));
    }
    if fields.get("dimensions").is_some() {
        let message = "is given, and other lengths than the model's own are not supported";
        return Err(Refusal::unsupported("dimensions", message));
    }
    let encoding = match fields.text("encoding_format")? {
        None | Some("float") => Encoding::Float,
        Some("base64") => Encoding::Base64,
        Some(other) => {
            let message = format!("is `{}`; it is `float` or `base64`", shown(other));
            return Err(Refusal::param("encoding_format", message));
        }
    };
    Ok(Embedding {
        model: model.id.clone(),
        texts: texts(fields, reading)?,
        encoding,
    })
}

fn texts(fields: Fields<'_>, reading: Reading<'_>) -> Result<Vec<String>, Refusal> {
    let value = fields
        .get("input")
        .ok_or_else(|| missing("input", "it is a text or a list of texts"))?;
    let list = match value {
        text @ Value::String(_) => std::slice::from_ref(text),
        Value::Array(list) => list,
        other => return Err(wrong("input", other, "a text or a list of texts")),
    };
    let most = reading.options.inputs;
    if list.is_empty() {
        return Err(Refusal::param(
            "input",
            "is empty; it has one text at least",
        ));
    }
    if list.iter().any(|one| one.is_number() || one.is_array()) {
        let message = "has tokens, and texts are what is supported";
        return Err(Refusal::unsupported("input", message));
    }
    if list.len() > most {
        let message = format!(
            "has {} texts; it has at most {most}, the server's limit `inputs`",
            list.len()
        );
        return Err(Refusal::param("input", message));
    }
    let mut texts = Vec::with_capacity(list.len());
    for (at, text) in list.iter().enumerate() {
        let name = format!("input[{at}]");
        match text.as_str() {
            Some("") => return Err(Refusal::param(&name, "is empty")),
            Some(text) => texts.push(text.to_owned()),
            None => return Err(wrong(&name, text, "a text")),
        }
    }
    check_size("input", texts.iter().map(String::len).sum(), reading)?;
    Ok(texts)
}
