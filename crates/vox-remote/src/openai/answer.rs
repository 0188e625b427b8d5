//! The events of an answer, to pieces and an end.
//!
//! What must stay true: an answer has ended only when the server says so, by `finish_reason` or by
//! `[DONE]`. Everything else that ends the stream is an error that tells how far it came.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use vox_plugin::host::generation::Piece;
use vox_plugin::inference_backend::{Finish, Finished, Request};
use vox_plugin::{Error, Result};

use crate::said::Said;
use crate::server::{Stream, broken, message, shortened};
use crate::sse::{Event, Events};
use crate::token::{self, Token};
use crate::transport::Fault;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Chunk {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Choice {
    index: u32,
    delta: Option<Delta>,
    text: Option<String>,
    logprobs: Option<LogProbabilities>,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Delta {
    content: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Usage {
    prompt_tokens: u32,
    completion_tokens: u32,
    prompt_tokens_details: Option<Details>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Option<u32>,
}

/// As conversations have them (`content`), or completions of texts (the others).
#[derive(Default, Deserialize)]
#[serde(default)]
struct LogProbabilities {
    content: Option<Vec<Token>>,
    tokens: Option<Vec<String>>,
    token_logprobs: Option<Vec<Option<f32>>>,
    top_logprobs: Option<Vec<Option<ByText>>>,
}

/// Log-probabilities by the texts of their tokens.
type ByText = BTreeMap<String, Option<f32>>;

/// What an event was.
enum Step {
    /// The answer goes on.
    On,
    /// It has ended.
    Done,
    /// No more is wanted.
    Unwanted,
}

/// Reads an answer to its end; `emit` takes the pieces, and says whether more is wanted.
///
/// # Errors
///
/// [`Error::Unavailable`] where it broke off, [`Error::Failed`] where it is no answer.
pub fn follow(
    stream: &mut Stream,
    request: &Request,
    emit: &mut dyn FnMut(&Piece) -> bool,
) -> Result<Finished> {
    let mut answer = Answer {
        asked: stream.asked().to_owned(),
        request,
        said: Said::default(),
        finish: None,
        usage: None,
    };
    let mut events = Events::default();
    loop {
        let bytes = match stream.read() {
            Ok(bytes) => bytes,
            // What was missing was no more than numbers.
            Err(Fault::Broken(_) | Fault::Silent(_)) if answer.finish.is_some() => None,
            Err(fault) => return Err(answer.broken(&fault)),
        };
        let is_end = bytes.is_none();
        if let Some(bytes) = bytes {
            events
                .push(&bytes)
                .map_err(|error| answer.failed(&error.to_string()))?;
        }
        while let Some(event) = events
            .next_event()
            .or_else(|| is_end.then(|| events.last_event()).flatten())
        {
            match answer.take(&event, emit)? {
                Step::On => {}
                Step::Done => return answer.end(),
                Step::Unwanted => return Ok(answer.finished(Finish::Cancelled)),
            }
        }
        if is_end {
            return match answer.finish {
                Some(_) => answer.end(),
                None => Err(answer.broken(&Fault::Broken(
                    "the stream ended before the answer did".to_owned(),
                ))),
            };
        }
    }
}

/// An answer on its way.
struct Answer<'a> {
    asked: String,
    request: &'a Request,
    said: Said,
    finish: Option<String>,
    usage: Option<Usage>,
}

impl Answer<'_> {
    fn take(&mut self, event: &Event, emit: &mut dyn FnMut(&Piece) -> bool) -> Result<Step> {
        if event.data.trim() == "[DONE]" {
            return Ok(Step::Done);
        }
        let json: Value = match serde_json::from_str(&event.data) {
            Ok(json) => json,
            Err(_) if event.kind == "error" => return Err(self.told(&event.data)),
            Err(error) => {
                let shown = shortened(&event.data);
                return Err(self.failed(&format!("an event is no JSON ({error}): {shown}")));
            }
        };
        let is_error = event.kind == "error"
            || json.get("error").is_some_and(|error| !error.is_null())
            || json.get("object").is_some_and(|object| object == "error");
        if is_error {
            let text = message(&json).map_or_else(|| event.data.clone(), str::to_owned);
            return Err(self.told(&text));
        }
        let chunk: Chunk = serde_json::from_value(json)
            .map_err(|error| self.failed(&format!("an event is not what it should be: {error}")))?;
        self.usage = chunk.usage.or(self.usage);
        for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
            let finish = choice
                .finish_reason
                .clone()
                .filter(|finish| !finish.is_empty());
            for piece in pieces(choice, self.request.alternatives) {
                self.said.count(&piece);
                if !emit(&piece) {
                    return Ok(Step::Unwanted);
                }
            }
            self.finish = finish.or(self.finish.take());
        }
        Ok(Step::On)
    }

    fn end(&self) -> Result<Finished> {
        let finish = self.finish.as_deref().unwrap_or("stop");
        let tokens = self.tokens();
        match finish {
            // Fewer than were allowed: there was no more room for the next one.
            "length" if tokens < self.request.max_tokens => Ok(self.finished(Finish::Context)),
            "length" => Ok(self.finished(Finish::Length)),
            "content_filter" => Err(self.failed("the server's filter ended the answer")),
            "error" | "abort" => Err(self.told(&format!("the server ended it with `{finish}`"))),
            _ => Ok(self.finished(Finish::Stop)),
        }
    }

    fn tokens(&self) -> u32 {
        match self.usage {
            Some(usage) if usage.completion_tokens > 0 => usage.completion_tokens,
            _ => self.said.pieces,
        }
    }

    fn finished(&self, reason: Finish) -> Finished {
        let usage = self.usage.unwrap_or_default();
        let details = usage.prompt_tokens_details.unwrap_or_default();
        Finished {
            reason,
            prompt_tokens: usage.prompt_tokens,
            cached_tokens: details.cached_tokens.unwrap_or_default(),
            answer_tokens: self.tokens(),
        }
    }

    /// Where this is, for messages.
    fn place(&self) -> String {
        format!("{}, {}", self.asked, self.said.describe())
    }

    fn broken(&self, fault: &Fault) -> Error {
        broken(&self.place(), fault)
    }

    /// What the server says went wrong with it.
    fn told(&self, text: &str) -> Error {
        Error::Unavailable(format!(
            "{}: the server broke the answer off: {}",
            self.place(),
            shortened(text)
        ))
    }

    fn failed(&self, why: &str) -> Error {
        Error::Failed(format!("{}: {why}", self.place()))
    }
}

/// The pieces of a choice.
fn pieces(choice: Choice, alternatives: Option<u32>) -> Vec<Piece> {
    let text = choice.text.or(choice.delta.unwrap_or_default().content);
    let tokens = choice.logprobs.map(tokens).unwrap_or_default();
    token::pieces(text.unwrap_or_default(), tokens, alternatives)
}

fn tokens(told: LogProbabilities) -> Vec<Token> {
    if let Some(content) = told.content {
        return content;
    }
    let mut own = told.token_logprobs.unwrap_or_default().into_iter();
    let mut top = told.top_logprobs.unwrap_or_default().into_iter();
    let tokens = told.tokens.unwrap_or_default().into_iter();
    tokens
        .map(|text| {
            let others = top.next().flatten().unwrap_or_default().into_iter();
            let others = others.map(|(text, logprob)| Token::new(text, logprob, Vec::new()));
            Token::new(text, own.next().flatten(), others.collect())
        })
        .collect()
}
