//! Masks a text that arrives in pieces.
//!
//! The scanner walks over the text once. At each byte it is either in ordinary text, where the
//! [rules](crate::rules) are asked whether something begins there, or inside of something that is
//! being dropped. What must stay true: **the result is the same however the text is cut into
//! pieces.** It follows from two things. What is decided at a byte depends on the state, the byte
//! before it, and at most [`LOOKAHEAD`] bytes of its line. And nothing is decided before that much
//! of the line, its end, or the end of the text is there; until then it is held back.
//!
//! So no more than [`LOOKAHEAD`] bytes are ever held, and nothing of a text that ends with a whole
//! line.

use crate::quiet::next_loud;
use crate::rules::{Class, Kind, LOOKAHEAD, Rest, Rules};

/// What opens the last line of a private key.
const KEY_ENDS: &[u8] = b"-----END ";

/// What the scanner is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Ordinary text.
    Text,
    /// A secret that goes on for bytes of a class.
    While(Class),
    /// A secret in quotes; `escaped` behind a backslash.
    Quoted { quote: u8, escaped: bool },
    /// Behind the first line of a private key, on that line.
    KeyBegun,
    /// At the beginning of a line of a private key.
    KeyLine,
    /// In a private key that was written on one line.
    KeyOnOneLine,
}

/// Masks one text.
#[derive(Debug)]
pub struct Scanner {
    rules: Rules,
    /// What stands in for each kind.
    masks: [Vec<u8>; Kind::ALL.len()],
    state: State,
    /// The last byte that was decided about; a blank behind something masked.
    previous: u8,
    /// The end of what came in, not decided yet.
    held: Vec<u8>,
    /// What was made of the last piece, if something in it was masked.
    out: Vec<u8>,
}

impl Scanner {
    /// A scanner at the beginning of a text. `mask` is what stands in for a secret, with the
    /// secret's kind in place of `{kind}`.
    pub fn new(rules: Rules, mask: &str) -> Self {
        Self {
            rules,
            masks: Kind::ALL.map(|kind| mask.replace("{kind}", &kind.to_string()).into_bytes()),
            state: State::Text,
            previous: b'\n',
            held: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Takes the next piece and answers what may go on: the very slice or a part of it when there
    /// is nothing to mask and nothing was held back. With `ends`, nothing is held back afterwards,
    /// and what follows is a new text.
    pub fn feed<'a>(&'a mut self, piece: &'a [u8], ends: bool) -> &'a [u8] {
        self.out.clear();
        let passed = if self.held.is_empty() {
            let (decided, changed) = self.scan(piece, ends, next_loud);
            self.held.extend_from_slice(&piece[decided..]);
            if changed {
                &self.out
            } else {
                &piece[..decided]
            }
        } else {
            let mut text = std::mem::take(&mut self.held);
            text.extend_from_slice(piece);
            let (decided, changed) = self.scan(&text, ends, next_loud);
            self.held = text.split_off(decided);
            if changed {
                &self.out
            } else {
                self.out = text;
                &self.out
            }
        };
        if ends {
            self.state = State::Text;
            self.previous = b'\n';
        }
        passed
    }

    /// Decides about as much of `text` as can be decided; answers how much that is, and whether it
    /// stands in `out` because it is not what it was. `loud` finds a byte, never the end of a line,
    /// whose line the rules must look at.
    fn scan(
        &mut self,
        text: &[u8],
        ends: bool,
        loud: impl Fn(&[u8], usize, Rules) -> Option<usize>,
    ) -> (usize, bool) {
        let decidable = if ends { text.len() } else { decidable(text) };
        let mut at = 0;
        // Up to here, `text` was dropped or stands in `out`.
        let mut copied = 0;
        // Where the line that is being read ends.
        let mut line_end = 0;
        while at < decidable {
            if self.state != State::Text {
                at += self.drop_at(text, at);
                copied = at;
                continue;
            }
            if at >= line_end {
                let Some(loud) = loud(text, at, self.rules) else {
                    at = decidable;
                    break;
                };
                at = line_start(text, at, loud).min(decidable);
                line_end = loud + window(&text[loud..], usize::MAX).len();
            }
            while at < line_end.min(decidable) {
                let previous = self.previous(text, copied, at);
                let rest = &text[at..line_end.min(at + LOOKAHEAD)];
                if let Some(found) = self.rules.find(rest, previous) {
                    self.out.extend_from_slice(&text[copied..at + found.keep]);
                    self.out.extend_from_slice(&self.masks[found.kind as usize]);
                    at += found.keep + found.masked;
                    copied = at;
                    self.state = State::behind(found.rest);
                    break;
                }
                at += 1;
            }
        }
        self.previous = self.previous(text, copied, at);
        let changed = copied > 0 || !self.out.is_empty();
        if changed {
            self.out.extend_from_slice(&text[copied..at]);
        }
        (at, changed)
    }

    /// What stands before `at`: a blank where something was masked, so that another secret may
    /// follow it at once.
    fn previous(&self, text: &[u8], copied: usize, at: usize) -> u8 {
        match at.checked_sub(1) {
            None => self.previous,
            Some(_) if at == copied => b' ',
            Some(before) => text[before],
        }
    }

    /// In the middle of a secret: how many bytes are dropped at `at`, which may be none when the
    /// secret ends there.
    fn drop_at(&mut self, text: &[u8], at: usize) -> usize {
        let byte = text[at];
        match self.state {
            State::Text => {}
            State::While(class) => {
                if class.contains(byte) {
                    return class.leading(&text[at..]);
                }
                self.state = State::Text;
            }
            State::Quoted { quote, escaped } => {
                if byte != b'\n' && (escaped || byte != quote) {
                    self.state = State::Quoted {
                        quote,
                        escaped: !escaped && byte == b'\\',
                    };
                    return 1;
                }
                self.state = State::Text;
            }
            State::KeyBegun => {
                let line = window(&text[at..], LOOKAHEAD);
                if line.trim_ascii().is_empty() {
                    self.state = State::KeyLine;
                    return line.len() + usize::from(ends_line(text, at + line.len()));
                }
                self.state = State::KeyOnOneLine;
            }
            State::KeyLine => return self.drop_key_line(text, at),
            State::KeyOnOneLine => {
                if byte == b'-'
                    && let Some(length) = key_end(window(&text[at..], LOOKAHEAD))
                {
                    self.state = State::Text;
                    return length;
                }
                if is_of_key(byte) || byte == b' ' {
                    return 1;
                }
                self.state = State::Text;
            }
        }
        0
    }

    fn drop_key_line(&mut self, text: &[u8], at: usize) -> usize {
        let line = window(&text[at..], LOOKAHEAD);
        let indented = line.iter().take_while(|byte| is_around_key(**byte)).count();
        if let Some(length) = key_end(&line[indented..]) {
            self.state = State::Text;
            return indented + length;
        }
        let end = line
            .iter()
            .rposition(|byte| !is_around_key(*byte))
            .map_or(indented, |last| last + 1);
        let content = &line[indented..end];
        if content.iter().copied().all(is_of_key) || is_header(content) {
            return line.len() + usize::from(ends_line(text, at + line.len()));
        }
        // The key was cut off. Its last line end went with it.
        self.out.push(b'\n');
        self.state = State::Text;
        0
    }
}

impl State {
    fn behind(rest: Rest) -> Self {
        match rest {
            Rest::Nothing => Self::Text,
            Rest::While(class) => Self::While(class),
            Rest::Quoted(quote) => Self::Quoted {
                quote,
                escaped: false,
            },
            Rest::PrivateKey => Self::KeyBegun,
        }
    }
}

/// How much of a text that goes on can be decided.
fn decidable(text: &[u8]) -> usize {
    line_start(text, 0, text.len()).max((text.len() + 1).saturating_sub(LOOKAHEAD))
}

/// The line at the beginning of `text` without its end, `most` bytes of it.
fn window(text: &[u8], most: usize) -> &[u8] {
    let text = &text[..text.len().min(most)];
    let end = text.iter().position(|byte| *byte == b'\n');
    &text[..end.unwrap_or(text.len())]
}

/// Where the line that holds `at` begins, if not before `from`.
fn line_start(text: &[u8], from: usize, at: usize) -> usize {
    let end = text[from..at].iter().rposition(|byte| *byte == b'\n');
    end.map_or(from, |end| from + end + 1)
}

fn ends_line(text: &[u8], at: usize) -> bool {
    text.get(at) == Some(&b'\n')
}

/// The length of the last line of a private key, when `line` begins with it.
fn key_end(line: &[u8]) -> Option<usize> {
    let label = line.strip_prefix(KEY_ENDS)?;
    let length = label
        .iter()
        .take(64)
        .position(|byte| *byte == b'-')
        .unwrap_or(0);
    let dashes = label[length..]
        .iter()
        .take(5)
        .take_while(|byte| **byte == b'-')
        .count();
    Some(KEY_ENDS.len() + length + dashes)
}

/// Base 64, and the backslashes of line ends that are written out.
fn is_of_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'\\')
}

/// What may stand around a line of a key: indentation, and how source code and mail quote it.
fn is_around_key(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'>' | b'#' | b'*' | b',' | b';')
}

/// Whether a line of a key is a header such as `Proc-Type: 4,ENCRYPTED`.
fn is_header(line: &[u8]) -> bool {
    let name = line
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-')
        .count();
    name > 0 && line[name..].starts_with(b": ")
}

#[cfg(test)]
mod tests;
