//! What a request's body says, checked.
//!
//! | module | owns |
//! |---|---|
//! | `fields` | members of an object, by name |
//! | `chat` | `/v1/chat/completions` |
//! | `completion` | `/v1/completions` |
//! | `sampling` | what both have: sampling, `max_tokens`, `stop`, and what is not supported |
//! | `embedding` | `/v1/embeddings` |
//!
//! A member that is not known is ignored, as other servers of this API do. One that is known, asks for
//! something and would be ignored is refused: an answer must not look as if it had been heeded.

mod chat;
mod completion;
mod embedding;
mod fields;
mod sampling;

use serde_json::Value;

pub use chat::chat;
pub use completion::completion;
pub use embedding::{Encoding, embedding};

use crate::engine::{Completion, ModelCard};
use crate::options::Options;
use crate::refusal::Refusal;
use fields::{Fields, missing, shown};

/// A request for an answer.
#[derive(Debug)]
pub struct Answering {
    /// What the engine is asked for.
    pub completion: Completion,
    /// The model's fingerprint.
    pub fingerprint: Option<String>,
    /// Tokens are to be sent as they come.
    pub stream: bool,
    /// A stream is to end with what it took.
    pub include_usage: bool,
}

/// What a request is read with.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The models that there are.
    pub models: &'a [ModelCard],
    /// The limits.
    pub options: &'a Options,
}

impl<'a> Reading<'a> {
    /// The model that a request names.
    pub fn model(&self, fields: Fields<'_>) -> Result<&'a ModelCard, Refusal> {
        let name = fields
            .text("model")?
            .ok_or_else(|| missing("model", &format!("there are {}", names(self.models))))?;
        find(self.models, name)
    }

    /// The same where it is to answer.
    fn answering_model(&self, fields: Fields<'_>) -> Result<&'a ModelCard, Refusal> {
        let model = self.model(fields)?;
        if model.can_complete {
            return Ok(model);
        }
        let message = format!(
            "is `{}`, which makes embeddings and answers nothing: ask /v1/embeddings of it",
            model.id
        );
        Err(Refusal::param("model", message))
    }
}

/// A model by its name.
pub fn find<'a>(models: &'a [ModelCard], name: &str) -> Result<&'a ModelCard, Refusal> {
    let found = models.iter().find(|model| model.id == name);
    found.ok_or_else(|| {
        let message = format!(
            "there is no model `{}`; there are {}",
            shown(name),
            names(models)
        );
        let mut refusal =
            Refusal::new(hyper::StatusCode::NOT_FOUND, message).code("model_not_found");
        refusal.param = Some("model".to_owned());
        refusal
    })
}

/// The value that a body is.
pub fn json(body: &[u8]) -> Result<Value, Refusal> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let at = error.valid_up_to();
        Refusal::bad(format!(
            "the body is no UTF-8: byte {at} of it, 0x{:02x}, begins no character",
            body[at]
        ))
        .code("invalid_utf8")
    })?;
    serde_json::from_str(text)
        .map_err(|error| Refusal::bad(format!("the body is no JSON: {error}")).code("invalid_json"))
}

/// Names of models for a message: no more of them than are read.
fn names(models: &[ModelCard]) -> String {
    const MOST: usize = 20;
    if models.is_empty() {
        return "none".to_owned();
    }
    let named = models.iter().take(MOST);
    let named: Vec<_> = named.map(|model| format!("`{}`", model.id)).collect();
    let mut text = named.join(", ");
    if let Some(more) = models.len().checked_sub(MOST).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
