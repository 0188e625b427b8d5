//! The tokens with their types and scores.

use std::borrow::Cow;
use std::collections::HashMap;

use super::json::Added;
use crate::formats::gguf::error::GgufFault;
use crate::formats::gguf::metadata::{Metadata, required};

/// What a token is for, by the numbers of llama.cpp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenType {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// The ids of tokens with a part of their own.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Special {
    pub(super) begin: Option<usize>,
    pub(super) end: Option<usize>,
    pub(super) unknown: Option<usize>,
    pub(super) padding: Option<usize>,
}

/// A vocabulary, whose tokens differ from each other.
#[derive(Debug)]
pub(super) struct Vocabulary<'m> {
    tokens: Cow<'m, [String]>,
    types: Vec<TokenType>,
    pub(super) scores: Option<&'m [f32]>,
    pub(super) special: Special,
}

fn broken(why: String) -> GgufFault {
    GgufFault::Tokenizer { why }
}

impl<'m> Vocabulary<'m> {
    pub(super) fn read(metadata: &'m Metadata) -> Result<Self, GgufFault> {
        let key = "tokenizer.ggml.tokens";
        let tokens = required(key, metadata.texts(key)?)?;
        let scores = metadata.floats("tokenizer.ggml.scores")?;
        if let Some(scores) = scores {
            same_number("scores", scores.len(), tokens.len())?;
            if let Some(id) = scores.iter().position(|score| score.is_nan()) {
                return Err(broken(format!("the score of token {id} is no number")));
            }
        }
        let types = match metadata.integers("tokenizer.ggml.token_type")? {
            None => vec![TokenType::Normal; tokens.len()],
            Some(types) => {
                same_number("types", types.len(), tokens.len())?;
                let types = types.into_iter().enumerate().map(|(id, number)| {
                    token_type(number).ok_or_else(|| {
                        broken(format!(
                            "token {id} has type number {number}, which is none"
                        ))
                    })
                });
                types.collect::<Result<_, _>>()?
            }
        };
        let id = |key: &str| {
            let id = metadata.whole(key)?;
            // Some writers put the largest number for "none".
            let id = id.filter(|&id| id != u64::from(u32::MAX));
            id.map(|id| {
                let within = usize::try_from(id).ok().filter(|&id| id < tokens.len());
                within.ok_or_else(|| broken(format!("`{key}` is {id}, which no token has")))
            })
            .transpose()
        };
        let special = Special {
            begin: id("tokenizer.ggml.bos_token_id")?,
            end: id("tokenizer.ggml.eos_token_id")?,
            unknown: id("tokenizer.ggml.unknown_token_id")?,
            padding: id("tokenizer.ggml.padding_token_id")?,
        };
        let vocabulary = Self {
            tokens: Cow::Borrowed(tokens),
            types,
            scores,
            special,
        };
        vocabulary.ids()?;
        Ok(vocabulary)
    }

    /// The same vocabulary with other texts for its tokens.
    ///
    /// # Errors
    ///
    /// When two of them become equal.
    pub(super) fn with_texts(
        &self,
        text: impl Fn(usize, &str) -> String,
    ) -> Result<Vocabulary<'m>, GgufFault> {
        let tokens = self.tokens.iter().enumerate();
        let renamed = Vocabulary {
            tokens: tokens.map(|(id, token)| text(id, token)).collect(),
            types: self.types.clone(),
            scores: self.scores,
            special: self.special,
        };
        renamed.ids()?;
        Ok(renamed)
    }

    /// The tokens by id.
    pub(super) fn tokens(&self) -> &[String] {
        &self.tokens
    }

    pub(super) fn token(&self, id: usize) -> Option<&str> {
        self.tokens.get(id).map(String::as_str)
    }

    pub(super) fn token_type(&self, id: usize) -> TokenType {
        self.types.get(id).copied().unwrap_or(TokenType::Normal)
    }

    /// The id of each token.
    pub(super) fn ids(&self) -> Result<HashMap<&str, usize>, GgufFault> {
        let mut ids = HashMap::with_capacity(self.tokens.len());
        for (id, token) in self.tokens.iter().enumerate() {
            if let Some(first) = ids.insert(token.as_str(), id) {
                let token = token.escape_debug();
                return Err(broken(format!(
                    "the tokens {first} and {id} are both `{token}`"
                )));
            }
        }
        Ok(ids)
    }

    /// The tokens that are found in a text before anything else is done to it.
    pub(super) fn added(&self) -> Vec<Added<'_>> {
        let Special {
            begin,
            end,
            unknown,
            padding,
        } = self.special;
        let roles = [begin, end, unknown, padding];
        let tokens = self.tokens.iter().enumerate();
        let added = tokens.filter_map(|(id, content)| {
            let special = match self.token_type(id) {
                TokenType::Control | TokenType::Unknown => true,
                TokenType::UserDefined => false,
                TokenType::Normal | TokenType::Unused | TokenType::Byte => {
                    if !roles.contains(&Some(id)) {
                        return None;
                    }
                    true
                }
            };
            // The library takes no token without text.
            (!content.is_empty()).then_some(Added {
                id,
                content,
                single_word: false,
                lstrip: false,
                rstrip: false,
                normalized: false,
                special,
            })
        });
        added.collect()
    }
}

fn same_number(what: &str, found: usize, tokens: usize) -> Result<(), GgufFault> {
    if found == tokens {
        return Ok(());
    }
    Err(broken(format!("it has {tokens} tokens and {found} {what}")))
}

fn token_type(number: i64) -> Option<TokenType> {
    Some(match number {
        // Undefined, which some writers use for all of them.
        0 | 1 => TokenType::Normal,
        2 => TokenType::Unknown,
        3 => TokenType::Control,
        4 => TokenType::UserDefined,
        5 => TokenType::Unused,
        6 => TokenType::Byte,
        _ => return None,
    })
}
