//! The small part of YAML that a front matter may use, read line by line.
//!
//! What must stay true: whatever is accepted here means the same to a full YAML reader.

use std::ops::Range;

use crate::{error::Finding, nearest};

/// Something read, with its place in the file.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub value: T,
    pub span: Range<usize>,
}

#[derive(Debug)]
enum Value {
    Text(String),
    /// `[a, b]`.
    Inline(Vec<At<String>>),
    /// A key without a value and the items below it, which all begin at one column.
    Block {
        items: Vec<At<String>>,
        indent: Option<usize>,
    },
    /// Noted already.
    Refused,
}

#[derive(Debug)]
struct Entry<'a> {
    key: At<&'a str>,
    value: At<Value>,
}

/// A front matter, the text after it, and what was found wrong so far.
#[derive(Debug)]
pub(super) struct FrontMatter<'a> {
    entries: Vec<Entry<'a>>,
    /// What follows the front matter, without the empty lines between.
    pub body: &'a str,
    pub findings: Vec<Finding>,
}

impl<'a> FrontMatter<'a> {
    pub fn read(text: &'a str) -> Self {
        let mut front = Self {
            entries: Vec::new(),
            body: "",
            findings: Vec::new(),
        };
        let mut end = 0;
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let start = end;
            end += line.len();
            let rule = line.trim_end_matches(['\r', '\n']) == "---";
            match (index, rule) {
                (0, true) => {}
                (0, false) => break,
                (_, true) => {
                    front.body = text[end..].trim_start_matches(['\r', '\n']);
                    return front;
                }
                (_, false) => front.line(line, trimmed(line, start)),
            }
        }
        front.findings.clear();
        front.entries.clear();
        front.note(
            0..0,
            "the file does not begin with a front matter between two lines `---`",
            "begin with `---`, `name: …`, `description: …`, `---`",
        );
        front
    }

    fn line(&mut self, line: &'a str, content: At<&'a str>) {
        let indented = line.starts_with([' ', '\t']);
        if content.value.is_empty() || content.value.starts_with('#') {
        } else if let Some(item) = content.value.strip_prefix("- ")
            && line.trim_start_matches(' ').starts_with('-')
        {
            let indent = line.len() - line.trim_start_matches(' ').len();
            self.item(indent, trimmed(item, content.span.start + 2));
        } else if let Some((key, value)) = key_and_value(content.value).filter(|_| !indented) {
            let span = content.span.start..content.span.start + key.len();
            let at = span.end + 1;
            if self.entries.iter().any(|entry| entry.key.value == key) {
                self.note(span, format!("`{key}` stands twice"), "remove one of them");
                return;
            }
            let value = self.value(trimmed(value, at));
            self.entries.push(Entry {
                key: At { value: key, span },
                value,
            });
        } else {
            let message = "this line is neither `key: value` nor `- item`";
            self.note(content.span, message, "write each value on one line");
        }
    }

    fn value(&mut self, source: At<&str>) -> At<Value> {
        let span = source.span.clone();
        let uncommented = without_comment(source.value);
        let value = if uncommented.is_empty() {
            Value::Block {
                items: Vec::new(),
                indent: None,
            }
        } else if let Some(open) = uncommented.strip_prefix('[') {
            match open.strip_suffix(']') {
                Some(inner) => self.inline_list(inner, span.start + 1),
                None => {
                    let hint = "write it on one line, such as `[one, two]`";
                    self.note(span.clone(), "the list is not closed", hint);
                    Value::Refused
                }
            }
        } else {
            self.scalar(At {
                value: uncommented,
                span: span.clone(),
            })
            .map_or(Value::Refused, Value::Text)
        };
        At { value, span }
    }

    fn inline_list(&mut self, inner: &str, start: usize) -> Value {
        if inner.trim().is_empty() {
            return Value::Inline(Vec::new());
        }
        let mut items = Vec::new();
        for range in split_outside_quotes(inner) {
            let item = trimmed(&inner[range.clone()], start + range.start);
            let span = item.span.clone();
            match self.scalar(item) {
                Some(value) => items.push(At { value, span }),
                None => return Value::Refused,
            }
        }
        Value::Inline(items)
    }

    /// Takes a line `- item` that is indented by `indent` spaces.
    fn item(&mut self, indent: usize, source: At<&str>) {
        let span = source.span.clone();
        let text = At {
            value: without_comment(source.value),
            span: span.clone(),
        };
        let Some(value) = self.scalar(text) else {
            return;
        };
        match self.entries.last_mut().map(|entry| &mut entry.value.value) {
            Some(Value::Block {
                items,
                indent: column,
            }) if column.is_none_or(|column| column == indent) => {
                *column = Some(indent);
                items.push(At { value, span });
            }
            Some(Value::Refused) => {}
            _ => self.note(
                span,
                "this item belongs to no list",
                "put all items at one column below a key without a value, such as `tools:`",
            ),
        }
    }

    /// Plain or quoted text; none when it is more of YAML than that, which is noted.
    fn scalar(&mut self, source: At<&str>) -> Option<String> {
        let text = source.value;
        let quoted = |quote: char| {
            text.strip_prefix(quote)
                .and_then(|rest| rest.strip_suffix(quote))
        };
        let value = if let Some(inner) = quoted('"') {
            unescape(inner)
        } else if let Some(inner) = quoted('\'') {
            let plain = inner.replace("''", "");
            (!plain.contains('\'')).then(|| inner.replace("''", "'"))
        } else {
            is_plain(text).then(|| text.to_owned())
        };
        if value.is_none() {
            let message = "this needs more of YAML than a skill may use";
            self.note(source.span, message, "put the text in quotes, on one line");
        }
        value
    }

    pub fn refuse_keys_other_than(&mut self, known: &[&str]) {
        let unknown: Vec<At<&str>> = self
            .entries
            .iter()
            .filter(|entry| !known.contains(&entry.key.value))
            .map(|entry| entry.key.clone())
            .collect();
        for key in unknown {
            let message = format!("unknown key `{}`", key.value);
            self.note(key.span, message, &nearest::hint(key.value, known));
        }
    }

    /// The text of a key; none when it is missing or a list, which is noted.
    pub fn required_text(&mut self, key: &str) -> Option<At<String>> {
        let entry = self.entries.iter().find(|entry| entry.key.value == key);
        let Some(Entry {
            value: At { value, span },
            ..
        }) = entry
        else {
            if self.findings.iter().all(|finding| finding.span != (0..0)) {
                let hint = format!("add `{key}: …` to the front matter");
                self.note(0..3, format!("`{key}` is missing"), &hint);
            }
            return None;
        };
        let span = span.clone();
        match value {
            Value::Text(text) => Some(At {
                value: text.clone(),
                span,
            }),
            Value::Refused => None,
            Value::Inline(_) | Value::Block { .. } => {
                let message = format!("`{key}` must be text, not a list");
                self.note(span, message, &format!("write `{key}: text`"));
                None
            }
        }
    }

    /// The items of a key; empty when it is missing, or is text, which is noted.
    pub fn list(&mut self, key: &str) -> Vec<At<String>> {
        let entry = self.entries.iter().find(|entry| entry.key.value == key);
        let Some(Entry {
            value: At { value, span },
            ..
        }) = entry
        else {
            return Vec::new();
        };
        match value {
            Value::Inline(items) | Value::Block { items, .. } => items.clone(),
            Value::Refused => Vec::new(),
            Value::Text(_) => {
                let message = format!("`{key}` must be a list, not text");
                self.note(span.clone(), message, &format!("write `{key}: [one, two]`"));
                Vec::new()
            }
        }
    }

    pub fn note(&mut self, span: Range<usize>, message: impl Into<String>, hint: &str) {
        self.findings.push(Finding {
            span,
            message: message.into(),
            hint: Some(hint.to_owned()),
        });
    }
}

/// `text`, which begins at byte `at` of the file, without white space around it.
fn trimmed(text: &str, at: usize) -> At<&str> {
    let start = at + (text.len() - text.trim_start().len());
    let value = text.trim();
    At {
        value,
        span: start..start + value.len(),
    }
}

/// Splits `key: value` and `key:`.
fn key_and_value(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(':')?;
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let fits = !key.is_empty() && key.chars().all(word);
    (fits && (value.is_empty() || value.starts_with(' '))).then_some((key, value))
}

/// `text` up to a `#` that stands outside of quotes after white space.
fn without_comment(text: &str) -> &str {
    let mut quotes = Quotes::default();
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        if !quotes.inside(c) && c == '#' && before.is_whitespace() {
            return text[..at].trim_end();
        }
        before = c;
    }
    text
}

/// The ranges between the commas that stand outside of quotes.
fn split_outside_quotes(text: &str) -> Vec<Range<usize>> {
    let mut quotes = Quotes::default();
    let mut ranges = Vec::new();
    let mut start = 0;
    for (at, c) in text.char_indices() {
        if !quotes.inside(c) && c == ',' {
            ranges.push(start..at);
            start = at + 1;
        }
    }
    ranges.push(start..text.len());
    ranges
}

/// Follows a text through its quotes. A quote opens only where a value may begin.
#[derive(Default)]
struct Quotes {
    open: Option<char>,
    escaped: bool,
    in_word: bool,
}

impl Quotes {
    /// Takes the next character; true when it belongs to a quoted text, its quotes included.
    fn inside(&mut self, c: char) -> bool {
        match self.open {
            Some('"') if self.escaped => self.escaped = false,
            Some('"') if c == '\\' => self.escaped = true,
            Some(quote) if c == quote => self.open = None,
            Some(_) => {}
            None if !self.in_word && matches!(c, '"' | '\'') => self.open = Some(c),
            None => {
                self.in_word = !c.is_whitespace() && !matches!(c, ',' | '[');
                return false;
            }
        }
        true
    }
}

/// The text of a double-quoted scalar; none when an escape or a quote in it is not understood.
fn unescape(inner: &str) -> Option<String> {
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                't' => '\t',
                c @ ('"' | '\\') => c,
                _ => return None,
            },
            '"' => return None,
            c => c,
        });
    }
    Some(text)
}

/// True for text that YAML reads as itself without quotes, and not as a number, a truth or null.
fn is_plain(text: &str) -> bool {
    let other_kind = ["true", "false", "null", "yes", "no", "on", "off", "~"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
        || text.parse::<f64>().is_ok()
        || text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+'));
    !text.is_empty()
        && !other_kind
        && !text.starts_with(|c: char| "-?:,[]{}#&*!|>'\"%@`".contains(c))
        && !text.contains(": ")
        && !text.ends_with(':')
        && !text.contains(['[', ']', '{', '}'])
        && !text.contains(char::is_control)
}
