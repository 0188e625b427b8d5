//! Text out of tokens that come one by one.

use super::Tokens;
use crate::error::Result;

/// Tokens before the new ones that are decoded with them, as the text of a token may depend on what is before
/// it.
const BEFORE: usize = 6;

/// Text out of tokens that come one by one. A token may end in the middle of a character; its text then comes
/// with the token that completes it.
#[derive(Debug)]
pub struct TextStream<'t> {
    tokens: &'t Tokens,
    /// The last tokens whose text was handed out, and those after them whose was not.
    ids: Vec<u32>,
    /// The text of those.
    text: String,
}

impl<'t> TextStream<'t> {
    pub(super) fn new(tokens: &'t Tokens, before: &[u32]) -> Result<Self> {
        let ids = before[before.len().saturating_sub(BEFORE)..].to_vec();
        Ok(Self {
            tokens,
            text: tokens.decode(&ids)?,
            ids,
        })
    }

    /// Adds a token; what comes back is the text that is complete with it, which is often none.
    ///
    /// # Errors
    ///
    /// [`Error::Tokens`](crate::Error::Tokens).
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let text = self.tokens.decode(&self.ids)?;
        // Bytes that are no whole character yet are decoded to this one.
        if text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        self.hand_out(&text)
    }

    /// The text that is left: what was no character to the end, as U+FFFD.
    ///
    /// # Errors
    ///
    /// [`Error::Tokens`](crate::Error::Tokens).
    pub fn finish(&mut self) -> Result<String> {
        let text = self.tokens.decode(&self.ids)?;
        self.hand_out(&text)
    }

    /// The text that `id` would add, and its bytes that are no whole character as U+FFFD; nothing is added.
    ///
    /// # Errors
    ///
    /// [`Error::Tokens`](crate::Error::Tokens).
    pub fn peek(&self, id: u32) -> Result<String> {
        let mut ids = self.ids.clone();
        ids.push(id);
        let text = self.tokens.decode(&ids)?;
        Ok(text.get(self.text.len()..).unwrap_or_default().to_owned())
    }

    fn hand_out(&mut self, text: &str) -> Result<String> {
        // What was handed out ends at a character, so this is `None` only where the new tokens made the text
        // shorter, as some decoders do with blanks; there is nothing to hand out then.
        let new = text.get(self.text.len()..).unwrap_or_default().to_owned();
        let start = self.ids.len().saturating_sub(BEFORE);
        self.ids.drain(..start);
        self.text = self.tokens.decode(&self.ids)?;
        // The tokens that are kept may begin in the middle of a character; they are then kept from one on
        // that does not.
        while self.text.starts_with(char::REPLACEMENT_CHARACTER) && !self.ids.is_empty() {
            self.ids.remove(0);
            self.text = self.tokens.decode(&self.ids)?;
        }
        Ok(new)
    }
}
