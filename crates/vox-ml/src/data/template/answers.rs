//! Where the answers stand in the text of a conversation.
//!
//! A template does not say which part of its output came from which message. Two ways find it:
//!
//! 1. The text up to a message is, for most templates, the beginning of the whole text. Rendered
//!    with the beginning of an answer added, it ends where the answer begins; rendered with the
//!    answer, it ends where the answer's end mark ends.
//! 2. Where a template raises on part of a conversation, or writes earlier messages otherwise once
//!    later ones follow, the answer is rendered with a mark in its place, and what is around the
//!    mark in both texts tells where it stands.
//!
//! What a model is to learn is the answer with the token that ends it, without the header before it
//! and the white space after it: that is what it writes when it is asked.

use std::ops::Range;

use super::Template;
use crate::data::record::{ASSISTANT, Chat};
use crate::error::LineFault;

/// What stands in an answer's place; from the private use area of Unicode, so that no template
/// knows it and no trimming touches it.
const MARK: &str = "\u{e0f8}\u{e0d4}\u{e0f8}";

/// The text of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// The bytes of it that are answers, in order, none inside another.
    pub answers: Vec<Range<usize>>,
}

impl Template {
    /// The text of a conversation, with the places of what the assistant says in it.
    ///
    /// # Errors
    /// [`LineFault::Template`] with what the template raises; [`LineFault::Answer`] where its
    /// output does not show an answer.
    pub fn render_with_answers(&self, chat: &Chat) -> Result<Rendered, LineFault> {
        let text = self.render(chat, false)?;
        let mut answers: Vec<Range<usize>> = Vec::new();
        for (at, message) in chat.messages.iter().enumerate() {
            if message.role() != ASSISTANT {
                continue;
            }
            let answer = at + 1;
            let place = self.place(chat, at, &text);
            let after = answers.last().map_or(0, |last| last.end);
            let place = place
                .filter(|place| place.start >= after && place.start < place.end)
                .ok_or(LineFault::Answer { answer })?;
            answers.push(place);
        }
        Ok(Rendered { text, answers })
    }

    /// Where message number `at` stands in `text`.
    fn place(&self, chat: &Chat, at: usize, text: &str) -> Option<Range<usize>> {
        let upto = |end: usize, prompt: bool| {
            let part = chat.messages.get(..end)?;
            self.render_messages(part, chat, prompt).ok()
        };
        let is_beginning = |part: &String| text.starts_with(part.as_str());
        let marked = self.marked(chat, at, text);
        let header = upto(at, true).filter(is_beginning);
        let start = match (header, &marked) {
            // A template that adds nothing for an answer leaves the answer's header in.
            (Some(header), Some(marked)) if upto(at, false).as_ref() == Some(&header) => {
                marked.start.max(header.len())
            }
            (Some(header), _) => header.len(),
            (None, Some(marked)) => marked.start,
            (None, None) => return None,
        };
        let end = if at + 1 == chat.messages.len() {
            text.len()
        } else {
            match (upto(at + 1, false).filter(is_beginning), &marked) {
                (Some(part), _) => part.len(),
                (None, Some(marked)) => self.with_ending(chat, at, text, marked.end),
                (None, None) => return None,
            }
        };
        Some(start..self.without_space_after_end(text, start..end))
    }

    /// Where the content of message number `at` stands, by a mark in its place.
    fn marked(&self, chat: &Chat, at: usize, text: &str) -> Option<Range<usize>> {
        let message = chat.messages.get(at)?;
        message.content()?;
        let mut marked = chat.clone();
        marked.messages[at] = message.with_content(MARK);
        let with_mark = self.render(&marked, false).ok()?;
        let (before, after) = with_mark.split_once(MARK)?;
        let fits = text.len() >= before.len() + after.len()
            && !after.contains(MARK)
            && text.starts_with(before)
            && text.ends_with(after);
        fits.then(|| before.len()..text.len() - after.len())
    }

    /// The place after what ends an answer, where it follows: what the template writes after this
    /// one when it is the last.
    fn with_ending(&self, chat: &Chat, at: usize, text: &str, end: usize) -> usize {
        let ending = || {
            let mut messages = chat.messages.get(..=at)?.to_vec();
            let last = messages.last_mut()?;
            *last = last.with_content(MARK);
            let rendered = self.render_messages(&messages, chat, false).ok()?;
            let (_, ending) = rendered.split_once(MARK)?;
            Some(ending.trim_end().to_owned())
        };
        let ending = ending().filter(|ending| text[end..].starts_with(ending.as_str()));
        end + ending.map_or(0, |ending| ending.len())
    }

    /// The end of what is learnt: no model writes the white space that a template has after the
    /// token that ends an answer.
    fn without_space_after_end(&self, text: &str, place: Range<usize>) -> usize {
        let Some(part) = text.get(place.clone()) else {
            return place.end;
        };
        let trimmed = part.trim_end();
        // End tokens are written in angle brackets, as `</s>`, `<|im_end|>` and `<end_of_turn>`.
        match self.specials.get("eos_token") {
            Some(token) if trimmed.ends_with(token.as_str()) => place.start + trimmed.len(),
            _ if trimmed.ends_with('>') => place.start + trimmed.len(),
            _ => place.end,
        }
    }
}
