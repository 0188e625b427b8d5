//! OpenAI's protocol: models, completions of conversations and of texts, embeddings.
//!
//! It is spoken in dialects. What all of them know is sent always; what only some know is sent when the
//! [`Dialect`] says that this server does, and only where a request asks for it.
//!
//! | module | owns |
//! |---|---|
//! | `request` | the bodies of requests |
//! | `answer` | the events of an answer, to pieces and an end |

mod answer;
mod request;
#[cfg(test)]
mod tests;

use serde::Deserialize;
use serde_json::json;
use vox_plugin::host::generation::Piece;
use vox_plugin::inference_backend::{Embedded, Finish, Finished, Request};
use vox_plugin::{Error, Result};

use crate::embedding;
use crate::server::Server;

/// Texts whose embeddings are asked for at once.
const BATCH: usize = 256;

/// How a server goes on with an answer of a conversation that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Continues {
    /// It does not.
    #[default]
    No,
    /// Told by `continue_final_message` and `add_generation_prompt`, as vLLM has them.
    Fields,
    /// Told by `prefix` in the last message, as Mistral and DeepSeek have it.
    Prefix,
    /// Without being told, where the last message is the assistant's.
    Always,
}

/// Names of sampling settings that OpenAI does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extensions {
    /// None is known.
    #[default]
    None,
    /// `top_k`, `min_p`, `repetition_penalty`, as vLLM and many others have them.
    Common,
    /// llama.cpp's: the same with `repeat_penalty`, and an order that can be set.
    LlamaCpp,
}

/// What a server knows beyond what all do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    /// How it goes on with an answer.
    pub continues: Continues,
    /// Its further sampling settings.
    pub extensions: Extensions,
    /// What it calls the most tokens of an answer: `max_tokens`, or `max_completion_tokens`.
    pub max_tokens: String,
    /// How many texts that end an answer it takes; others are left to the host.
    pub stops: usize,
}

impl Default for Dialect {
    fn default() -> Self {
        Self {
            continues: Continues::No,
            extensions: Extensions::None,
            max_tokens: "max_tokens".to_owned(),
            stops: 4,
        }
    }
}

/// A server that speaks the protocol; its address ends where `/models` is to follow.
#[derive(Debug, Clone)]
pub struct OpenAi {
    /// The server.
    pub server: Server,
    /// How it speaks.
    pub dialect: Dialect,
}

/// A model that a server lists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Listed {
    /// Its name.
    pub id: String,
    /// Most tokens of a prompt and its answer together, where it is vLLM that says.
    pub max_model_len: Option<u32>,
    /// The same where it is `vox serve` or OpenRouter; 0 where the former does not know.
    pub context_length: Option<u32>,
    /// What llama.cpp says of it.
    pub meta: Option<Meta>,
}

/// What llama.cpp says of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Tokens of the vocabulary.
    pub n_vocab: Option<u32>,
    /// Most tokens that it was trained with.
    pub n_ctx_train: Option<u32>,
    /// Length of an embedding.
    pub n_embd: Option<u32>,
    /// Bytes of its weights.
    pub size: Option<u64>,
}

impl OpenAi {
    /// The models that it serves.
    ///
    /// # Errors
    ///
    /// As [`Server::get`].
    pub fn models(&self) -> Result<Vec<Listed>> {
        #[derive(Deserialize)]
        struct List {
            data: Vec<Listed>,
        }
        Ok(self.server.get::<List>("/models")?.data)
    }

    /// Answers a request with a model of the server; `emit` takes the pieces, and says whether more is
    /// wanted.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] where the server cannot take such a request, [`Error::Unavailable`] with how
    /// far the answer came where it broke off; otherwise as [`Server::get`].
    pub fn predict(
        &self,
        model: &str,
        request: &Request,
        emit: &mut dyn FnMut(&Piece) -> bool,
    ) -> Result<Finished> {
        let (path, body) = request::body(model, request, &self.dialect)?;
        if request.max_tokens == 0 {
            return Ok(Finished {
                reason: Finish::Length,
                prompt_tokens: 0,
                cached_tokens: 0,
                answer_tokens: 0,
            });
        }
        let mut stream = self.server.stream(path, &body, &["text/event-stream"])?;
        answer::follow(&mut stream, request, emit)
    }

    /// The embeddings of texts, one after the other, each of length 1.
    ///
    /// # Errors
    ///
    /// As [`Server::get`], and [`Error::Failed`] where what comes is none.
    pub fn embed(&self, model: &str, texts: &[String]) -> Result<Embedded> {
        #[derive(Deserialize)]
        struct Embedding {
            #[serde(default)]
            index: Option<usize>,
            embedding: Vec<f32>,
        }
        #[derive(Deserialize, Default)]
        struct Usage {
            #[serde(default)]
            prompt_tokens: u32,
        }
        #[derive(Deserialize)]
        struct List {
            data: Vec<Embedding>,
            #[serde(default)]
            usage: Usage,
        }
        let mut tokens = 0_u32;
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(BATCH) {
            let body = json!({ "model": model, "input": batch });
            let List { data, usage } = self.server.post("/embeddings", &body)?;
            tokens = tokens.saturating_add(usage.prompt_tokens);
            let mut list = data;
            list.sort_by_key(|embedding| embedding.index);
            vectors.extend(list.into_iter().map(|embedding| embedding.embedding));
        }
        embedding::unit(vectors, texts.len(), tokens).map_err(|why| {
            Error::Failed(format!("POST {}/embeddings: {why}", self.server.address()))
        })
    }
}
