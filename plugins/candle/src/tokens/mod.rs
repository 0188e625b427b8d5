//! Text as the tokens of a model, and back.
//!
//! | module | owns |
//! |---|---|
//! | `ends` | the tokens at which an answer ends |
//! | `stream` | [`TextStream`]: text out of tokens that come one by one |
//!
//! What must stay true: no token leaves for which the model has no embedding, and text leaves only as whole
//! characters.

mod ends;
mod stream;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tokenizers::{EncodeInput, Tokenizer, TruncationDirection};

pub use stream::TextStream;

use crate::error::{Error, Result};

/// The tokenizer of a bundle.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    tokenizer: Tokenizer,
    /// Tokens below this are embedded.
    vocabulary: usize,
    /// Bytes of the longest token.
    longest: usize,
    begin: Option<u32>,
    ends: BTreeSet<u32>,
}

impl Tokens {
    /// Reads `tokenizer.json` of the bundle in a directory, and from its `generation_config.json`, `config.json` and
    /// `tokenizer_config.json` where answers end. `vocabulary` is the number of tokens that the model embeds.
    ///
    /// Padding and truncation that the file asks for are not done. An embedding may have more rows than there are
    /// tokens, as it is often padded.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Format`] for a file that cannot be read; [`Error::Field`]; [`Error::Vocabulary`].
    pub fn read(directory: &Path, vocabulary: usize) -> Result<Self> {
        let path = directory.join("tokenizer.json");
        let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
        // The library counts on what it reads to be of one piece, and panics where it is not.
        let read = std::panic::catch_unwind(|| Tokenizer::from_bytes(text));
        let Ok(read) = read else {
            let why = "its parts contradict each other, and the library that reads it gives up";
            return Err(Error::format(&path)(why));
        };
        let mut tokenizer = read.map_err(Error::format(&path))?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(Error::format(&path))?;
        let learned = tokenizer.get_vocab(false);
        // Added tokens beyond the embedding are of models with more than text, and are never asked for.
        let highest = learned.values().copied().max().unwrap_or(0);
        if highest as usize >= vocabulary {
            return Err(Error::Vocabulary {
                path,
                highest,
                vocabulary,
            });
        }
        let all = tokenizer.get_vocab(true);
        let longest = all.keys().map(String::len).max().unwrap_or(1).max(1);
        let said = ends::Said::read(directory)?;
        let id = |token: &str| {
            let id = tokenizer.token_to_id(token);
            id.filter(|&id| (id as usize) < vocabulary)
        };
        let begin = said.begin.as_deref().and_then(id);
        let named = said
            .tokens
            .iter()
            .map(String::as_str)
            .chain(ends::TURN_ENDS.iter().copied());
        let mut ends: BTreeSet<u32> = named.filter_map(id).collect();
        ends.extend(said.ids);
        Ok(Self {
            path,
            begin,
            ends,
            vocabulary,
            longest,
            tokenizer,
        })
    }

    /// The tokens of a text, with those that the model wants at the beginning and the end. The text of special
    /// tokens becomes these tokens; one at the beginning that the text has already is not set twice.
    ///
    /// # Errors
    ///
    /// [`Error::Tokens`], also for a token that the model does not embed.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.ids(text, true)?;
        if let (Some(begin), [first, second, ..]) = (self.begin, ids.as_slice())
            && *first == begin
            && *second == begin
        {
            ids.remove(0);
        }
        Ok(ids)
    }

    /// The tokens of a text alone, without any at the beginning or the end.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_part(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, false)
    }

    /// The tokens of a text with those of its continuation, and where these begin. The continuation is encoded
    /// by itself where that gives the same text: the seam is then where it was when the continuation was
    /// generated.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_continued(&self, text: &str, continuation: &str) -> Result<(Vec<u32>, usize)> {
        let mut ids = self.encode(text)?;
        let seam = ids.len();
        if continuation.is_empty() {
            return Ok((ids, seam));
        }
        let before = self.decode(&ids)?;
        ids.extend(self.encode_part(continuation)?);
        if self.decode(&ids)? != format!("{before}{continuation}") {
            ids = self.encode(&format!("{text}{continuation}"))?;
        }
        let seam = seam.min(ids.len());
        Ok((ids, seam))
    }

    /// As [`encode`](Self::encode), but at most `most` tokens: of a longer text the end is left out, not the
    /// tokens that the model wants there.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_cut(&self, text: &str, most: usize) -> Result<Vec<u32>> {
        let added = self.ids("", true)?.len();
        // Text that is cut in any case need not be encoded to its end.
        let end = most
            .saturating_mul(self.longest)
            .saturating_mul(4)
            .min(text.len());
        let text = &text[..text.floor_char_boundary(end)];
        let fault = |error: tokenizers::Error| Error::Tokens {
            doing: "encode the text",
            why: error.to_string(),
        };
        let mut encoding = self.tokenizer.encode_fast(text, false).map_err(fault)?;
        encoding.truncate(most.saturating_sub(added), 0, TruncationDirection::Right);
        let encoding = self
            .tokenizer
            .post_process(encoding, None, true)
            .map_err(fault)?;
        self.embedded(encoding.get_ids())
    }

    fn ids<'s>(&self, text: impl Into<EncodeInput<'s>>, is_whole: bool) -> Result<Vec<u32>> {
        let encoding = self
            .tokenizer
            .encode_fast(text, is_whole)
            .map_err(|error| Error::Tokens {
                doing: "encode the text",
                why: error.to_string(),
            })?;
        self.embedded(encoding.get_ids())
    }

    /// Refuses tokens that the model does not embed.
    fn embedded(&self, ids: &[u32]) -> Result<Vec<u32>> {
        match ids.iter().find(|&&id| id as usize >= self.vocabulary) {
            Some(&id) => Err(Error::Tokens {
                doing: "encode the text",
                why: format!(
                    "the model does not embed token {id}, `{}`",
                    self.name(id).unwrap_or_default()
                ),
            }),
            None => Ok(ids.to_vec()),
        }
    }

    /// The fewest tokens that a text of so many bytes can have, so that one which never fits is refused before
    /// it is encoded.
    pub fn fewest(&self, bytes: usize) -> usize {
        bytes / self.longest
    }

    /// The text of tokens; that of special ones is left out, and so are numbers that are no token.
    ///
    /// # Errors
    ///
    /// [`Error::Tokens`].
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let text = self.tokenizer.decode(ids, true);
        text.map_err(|error| Error::Tokens {
            doing: "decode the tokens",
            why: error.to_string(),
        })
    }

    /// A token as the tokenizer writes it.
    pub fn name(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The number of a token that the tokenizer writes so.
    pub fn id(&self, name: &str) -> Option<u32> {
        self.tokenizer.token_to_id(name)
    }

    /// Text out of tokens that come one by one, after `before`.
    pub fn stream(&self, before: &[u32]) -> Result<TextStream<'_>> {
        TextStream::new(self, before)
    }

    /// Whether an answer ends with this token.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// The tokens with which an answer ends, ascending.
    pub fn ends(&self) -> impl Iterator<Item = u32> {
        self.ends.iter().copied()
    }

    /// The token with which a text begins, where there is one.
    pub fn begin(&self) -> Option<u32> {
        self.begin
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests;
