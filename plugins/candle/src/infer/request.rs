//! What is asked of a model, and what it answers.

use super::sample::Sampling;

/// What a model goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Text, which the model's tokenizer encodes.
    Text(String),
    /// Tokens as they are.
    Tokens(Vec<u32>),
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What the model goes on with.
    pub prompt: Prompt,
    /// The beginning of the answer, which was answered before: it goes on from there.
    pub answered: String,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens after which the answer ends; more than the context has room for is the same as that.
    pub max_tokens: usize,
    /// Texts that end the answer once one of them is in it. The piece that completes one is still emitted.
    pub stop: Vec<String>,
    /// How many alternatives each token has beside its own log-probability; `None` for no log-probabilities.
    pub alternatives: Option<usize>,
}

impl Request {
    /// A request that always takes the most probable token.
    pub fn greedy(prompt: impl Into<String>, max_tokens: usize) -> Self {
        Self {
            prompt: Prompt::Text(prompt.into()),
            answered: String::new(),
            sampling: Sampling::default(),
            max_tokens,
            stop: Vec::new(),
            alternatives: None,
        }
    }
}

/// A token that could have stood in a token's place.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// The token.
    pub token: u32,
    /// Its text; bytes that are no whole character as U+FFFD.
    pub text: String,
    /// Natural logarithm of its probability, before any sampling.
    pub log_probability: f32,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// The token; `None` for a sign of life between two parts of a long prompt, and for text that was left when
    /// the answer ended in the middle of a character.
    pub token: Option<u32>,
    /// The text that is complete with the token; often none.
    pub text: String,
    /// Natural logarithm of the token's probability, before any sampling; `None` where it was not asked for.
    pub log_probability: Option<f32>,
    /// The most probable tokens in this place, the most probable first.
    pub alternatives: Vec<Alternative>,
}

impl Piece {
    /// A piece without a token.
    pub(super) fn of_text(text: String) -> Self {
        Self {
            token: None,
            text,
            log_probability: None,
            alternatives: Vec::new(),
        }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its answer, or one of the request's texts did.
    Stop,
    /// As many tokens were answered as were asked for.
    Length,
    /// The context is full.
    Context,
    /// Who takes the pieces wanted no more.
    Cancelled,
}

/// An answer that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Why it ended.
    pub reason: Finish,
    /// Tokens of the prompt, with those that were answered before.
    pub prompt_tokens: usize,
    /// Those of them whose keys and values were there from the request before.
    pub cached_tokens: usize,
    /// Tokens that were answered; one at which the answer ends is not among them.
    pub answer_tokens: usize,
}
