//! Answers in OpenAI's two formats: `chat.completion` and `text_completion`, whole or in chunks.

use std::time::SystemTime;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::engine::{Finish, Finished, ModelCard, Part, Token};

/// What OpenAI writes for a probability of nothing, whose logarithm JSON has no number for.
const NO_PROBABILITY: f32 = -9999.0;
/// The event after the last.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// Which format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

impl Format {
    /// The member of a request that has what comes before the answer.
    pub fn prompt(self) -> &'static str {
        match self {
            Self::Chat => "messages",
            Self::Text => "prompt",
        }
    }
}

/// Writes one answer.
#[derive(Debug)]
pub struct Reply {
    /// The format.
    pub format: Format,
    /// The model's name.
    pub model: String,
    /// The model's fingerprint.
    pub fingerprint: Option<String>,
    /// Tokens have log-probabilities.
    pub log_probabilities: bool,
    /// A stream ends with what it took.
    pub include_usage: bool,
    id: String,
    created: u64,
    /// Characters of the tokens that were written, for `text_offset`.
    offset: usize,
}

impl Reply {
    /// An answer that has not begun.
    pub fn new(format: Format, model: String) -> Self {
        let prefix = match format {
            Format::Chat => "chatcmpl",
            Format::Text => "cmpl",
        };
        Self {
            format,
            model,
            fingerprint: None,
            log_probabilities: false,
            include_usage: false,
            id: format!("{prefix}-{}", random_name()),
            created: seconds(),
            offset: 0,
        }
    }

    /// The chunk before all others: in a chat, who speaks.
    pub fn opening(&self) -> Option<Bytes> {
        let delta = json!({"role": "assistant", "content": "", "refusal": null});
        (self.format == Format::Chat)
            .then(|| self.chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}])))
    }

    /// The chunk of a part; none where there is nothing to say.
    pub fn part(&mut self, part: &Part) -> Option<Bytes> {
        let tokens = match &part.token {
            Some(token) if self.log_probabilities => std::slice::from_ref(token),
            _ => &[],
        };
        if part.text.is_empty() && tokens.is_empty() {
            return None;
        }
        let log_probabilities = self.log_probabilities_of(tokens);
        let choice = match self.format {
            Format::Chat => json!({"delta": {"content": part.text}}),
            Format::Text => json!({"text": part.text}),
        };
        Some(self.chunk(json!([with(choice, None, log_probabilities)])))
    }

    /// The chunk that says why the answer ended.
    pub fn closing(&self, reason: Finish) -> Bytes {
        let choice = match self.format {
            Format::Chat => json!({"delta": {}}),
            Format::Text => json!({"text": ""}),
        };
        self.chunk(json!([with(choice, Some(reason), Value::Null)]))
    }

    /// The chunk that says what the answer took, where it is wanted.
    pub fn usage(&self, finished: &Finished) -> Option<Bytes> {
        self.include_usage.then(|| {
            let mut chunk = self.head(self.chunk_object());
            chunk.insert("choices".to_owned(), json!([]));
            chunk.insert("usage".to_owned(), usage(finished));
            event(&Value::Object(chunk))
        })
    }

    /// The whole answer.
    pub fn whole(&mut self, text: &str, tokens: &[Token], finished: &Finished) -> Bytes {
        let log_probabilities = self.log_probabilities_of(tokens);
        let (object, choice) = match self.format {
            Format::Chat => (
                "chat.completion",
                json!({"message": {"role": "assistant", "content": text, "refusal": null}}),
            ),
            Format::Text => ("text_completion", json!({"text": text})),
        };
        let mut answer = self.head(object);
        let choice = with(choice, Some(finished.reason), log_probabilities);
        answer.insert("choices".to_owned(), json!([choice]));
        answer.insert("usage".to_owned(), usage(finished));
        Value::Object(answer).to_string().into()
    }

    fn chunk(&self, choices: Value) -> Bytes {
        let mut chunk = self.head(self.chunk_object());
        chunk.insert("choices".to_owned(), choices);
        if self.include_usage {
            chunk.insert("usage".to_owned(), Value::Null);
        }
        event(&Value::Object(chunk))
    }

    fn chunk_object(&self) -> &'static str {
        match self.format {
            Format::Chat => "chat.completion.chunk",
            Format::Text => "text_completion",
        }
    }

    fn head(&self, object: &str) -> Map<String, Value> {
        let members = [
            ("id", json!(self.id)),
            ("object", json!(object)),
            ("created", json!(self.created)),
            ("model", json!(self.model)),
            ("system_fingerprint", json!(self.fingerprint)),
        ];
        let members = members.into_iter();
        members
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// The log-probabilities of tokens that come next; null where none are wanted.
    fn log_probabilities_of(&mut self, tokens: &[Token]) -> Value {
        if !self.log_probabilities {
            return Value::Null;
        }
        match self.format {
            Format::Chat => {
                let content: Vec<_> = tokens.iter().map(chat_token).collect();
                json!({"content": content, "refusal": null})
            }
            Format::Text => {
                let mut offsets = Vec::with_capacity(tokens.len());
                for token in tokens {
                    offsets.push(self.offset);
                    self.offset += token.text.chars().count();
                }
                let texts: Vec<_> = tokens.iter().map(|token| &token.text).collect();
                let own = tokens.iter().map(|token| token.log_probability);
                let own: Vec<_> = own.map(|own| own.map(finite)).collect();
                let top: Vec<_> = tokens.iter().map(top_of).collect();
                json!({
                    "tokens": texts,
                    "token_logprobs": own,
                    "top_logprobs": top,
                    "text_offset": offsets,
                })
            }
        }
    }
}

/// An error within a stream, as the official clients look for it.
pub fn error_event(refusal: &crate::refusal::Refusal) -> Bytes {
    event(&refusal.object())
}

/// A model, as `/v1/models` has it.
pub fn model(card: &ModelCard) -> Value {
    let able = [
        (card.can_complete, "completion"),
        (card.can_embed, "embedding"),
    ];
    let able = able.into_iter().filter(|(can, _)| *can);
    let capabilities: Vec<_> = able.map(|(_, capability)| capability).collect();
    json!({
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": card.owned_by,
        "context_length": card.context,
        "capabilities": capabilities,
    })
}

/// 24 hexadecimal digits that nobody had before. Where the system has no randomness, the time serves.
pub fn random_name() -> String {
    let mut bytes = [0; 12];
    if getrandom::fill(&mut bytes).is_err() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let nanos = now.unwrap_or_default().as_nanos().to_le_bytes();
        bytes.copy_from_slice(&nanos[..12]);
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn with(choice: Value, reason: Option<Finish>, log_probabilities: Value) -> Value {
    let mut choice = choice;
    choice["index"] = json!(0);
    choice["finish_reason"] = match reason {
        None => Value::Null,
        Some(Finish::Stop) => json!("stop"),
        Some(Finish::Length | Finish::Context | Finish::Cancelled) => json!("length"),
    };
    choice["logprobs"] = log_probabilities;
    choice
}

fn usage(finished: &Finished) -> Value {
    let (prompt, answer) = (finished.prompt_tokens, finished.answer_tokens);
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": u64::from(prompt) + u64::from(answer),
        "prompt_tokens_details": {"cached_tokens": finished.cached_tokens},
    })
}

fn chat_token(token: &Token) -> Value {
    let top = token.alternatives.iter();
    let top: Vec<_> = top
        .map(|other| {
            json!({
                "token": other.text,
                "logprob": finite(other.log_probability),
                "bytes": bytes_of(&other.text),
            })
        })
        .collect();
    json!({
        "token": token.text,
        "logprob": finite(token.log_probability.unwrap_or(NO_PROBABILITY)),
        "bytes": bytes_of(&token.text),
        "top_logprobs": top,
    })
}

/// The bytes of a token; null for a part of a character, of which the text has none.
fn bytes_of(text: &str) -> Value {
    let is_part = text.is_empty() || text.contains(char::REPLACEMENT_CHARACTER);
    match is_part {
        true => Value::Null,
        false => json!(text.as_bytes()),
    }
}

fn top_of(token: &Token) -> Value {
    let top = token.alternatives.iter();
    let top = top.map(|other| (other.text.clone(), json!(finite(other.log_probability))));
    Value::Object(top.collect())
}

fn finite(log_probability: f32) -> f32 {
    if log_probability.is_finite() {
        log_probability
    } else {
        NO_PROBABILITY
    }
}

fn event(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

/// Now, in seconds since 1970.
fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}
