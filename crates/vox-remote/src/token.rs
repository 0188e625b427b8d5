//! Tokens with their log-probabilities, as OpenAI's protocol and Ollama's have them, to pieces.

use serde::Deserialize;
use vox_plugin::host::generation::{Alternative, Piece};

/// Stands for the number of a token in [`Alternative`] where the server does not say it.
pub const UNKNOWN: u32 = u32::MAX;

/// A token that was chosen, or could have been.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Token {
    /// Its number in the vocabulary; llama.cpp says it.
    pub id: Option<u32>,
    /// Its text. That of a part of a character is something else.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: Option<f32>,
    /// The most probable tokens in its place.
    pub top_logprobs: Vec<Token>,
}

impl Token {
    /// A token of which no number is known.
    pub fn new(text: String, logprob: Option<f32>, top_logprobs: Vec<Self>) -> Self {
        Self {
            id: None,
            token: text,
            logprob,
            top_logprobs,
        }
    }
}

/// The pieces of a part of an answer: one for each token where those are told and `alternatives` asks
/// for them, otherwise one for the text.
pub fn pieces(text: String, tokens: Vec<Token>, alternatives: Option<u32>) -> Vec<Piece> {
    let (Some(most), false) = (alternatives, tokens.is_empty()) else {
        return if text.is_empty() {
            Vec::new()
        } else {
            vec![plain(text)]
        };
    };
    // Where tokens are parts of a character, the text is the last one's.
    let joined: String = tokens.iter().map(|token| token.token.as_str()).collect();
    let is_exact = joined == text;
    let last = tokens.len() - 1;
    let tokens = tokens.into_iter().enumerate();
    tokens
        .map(|(index, token)| Piece {
            token: token.id,
            text: match (is_exact, index == last) {
                (true, _) => token.token,
                (false, true) => text.clone(),
                (false, false) => String::new(),
            },
            log_probability: token.logprob,
            alternatives: ranked(token.top_logprobs, most as usize),
        })
        .collect()
}

/// A piece of text of which no more is known.
fn plain(text: String) -> Piece {
    Piece {
        token: None,
        text,
        log_probability: None,
        alternatives: Vec::new(),
    }
}

/// The most probable first, at most `most`.
fn ranked(tokens: Vec<Token>, most: usize) -> Vec<Alternative> {
    let tokens = tokens.into_iter();
    let mut all: Vec<Alternative> = tokens
        .filter_map(|token| {
            Some(Alternative {
                token: token.id.unwrap_or(UNKNOWN),
                text: token.token,
                log_probability: token.logprob?,
            })
        })
        .collect();
    all.sort_by(|a, b| b.log_probability.total_cmp(&a.log_probability));
    all.truncate(most);
    all
}
