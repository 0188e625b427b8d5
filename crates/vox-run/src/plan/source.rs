//! The text of a plan as a tree in which every key and value knows its place.
//!
//! TOML and JSON become the same tree here, so that everything after it – decoding, validation,
//! the check of arguments – is written once and names a line whichever of the two it was. What
//! must stay true: every value of the tree can be written as JSON, and no table has a key twice.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use vox_contract::Finding;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The bytes of the text that the value covers; for a TOML table, its header.
    pub span: Range<usize>,
    pub content: Content,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Anything but an array or a table.
    Scalar(Value),
    Array(Vec<Node>),
    Table(BTreeMap<String, Member>),
}

/// A member of a table.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Where the key stands.
    pub key: Range<usize>,
    pub value: Node,
}

/// One step of a path into the tree.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> From<&'a str> for Part<'a> {
    fn from(key: &'a str) -> Self {
        Self::Key(key)
    }
}

impl From<usize> for Part<'_> {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl Node {
    /// Reads JSON when the text begins with `{`, which no TOML document does, and TOML otherwise.
    pub fn parse(text: &str) -> Result<Self, Vec<Finding>> {
        if text.trim_start().starts_with('{') {
            json(text)
        } else {
            toml(text)
        }
    }

    /// The member `key` of a table.
    pub fn member(&self, key: &str) -> Option<&Member> {
        match &self.content {
            Content::Table(members) => members.get(key),
            Content::Scalar(_) | Content::Array(_) => None,
        }
    }

    /// The place of what `path` leads to, or of the last thing on the way that is there.
    pub fn place<'a>(&self, path: impl IntoIterator<Item = Part<'a>>) -> Range<usize> {
        let mut node = self;
        for part in path {
            let next = match (part, &node.content) {
                (Part::Key(key), Content::Table(members)) => members.get(key).map(|m| &m.value),
                (Part::Index(index), Content::Array(items)) => items.get(index),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.span.clone()
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// "a string", "a table", …: for messages.
    pub fn kind(&self) -> &'static str {
        match &self.content {
            Content::Scalar(Value::String(_)) => "a string",
            Content::Scalar(Value::Number(_)) => "a number",
            Content::Scalar(Value::Bool(_)) => "a boolean",
            Content::Scalar(_) => "null",
            Content::Array(_) => "an array",
            Content::Table(_) => "a table",
        }
    }
}

fn toml(text: &str) -> Result<Node, Vec<Finding>> {
    let document = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        vec![Finding::new(
            span,
            format!("not valid TOML: {}", error.message()),
        )]
    })?;
    let mut findings = Vec::new();
    let span = document.span();
    let root = Node {
        span,
        content: toml_table(document.into_inner(), &mut findings),
    };
    if findings.is_empty() {
        Ok(root)
    } else {
        Err(findings)
    }
}

fn toml_table(table: DeTable<'_>, findings: &mut Vec<Finding>) -> Content {
    let members = table.into_iter().map(|(key, value)| {
        let member = Member {
            key: key.span(),
            value: toml_value(value, findings),
        };
        (key.into_inner().into_owned(), member)
    });
    Content::Table(members.collect())
}

fn toml_value(value: Spanned<DeValue<'_>>, findings: &mut Vec<Finding>) -> Node {
    let span = value.span();
    let mut out_of_range = |what: &str| {
        findings.push(Finding::new(
            span.clone(),
            format!("{what} is out of range"),
        ));
        Value::Null
    };
    let scalar = match value.into_inner() {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Boolean(flag) => Value::Bool(flag),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
            .map_or_else(|_| out_of_range("this integer"), Value::from),
        DeValue::Float(digits) => digits
            .as_str()
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map_or_else(|| out_of_range("this number"), Value::Number),
        DeValue::Array(items) => {
            let items = items
                .into_iter()
                .map(|item| toml_value(item, findings))
                .collect();
            return Node {
                span,
                content: Content::Array(items),
            };
        }
        DeValue::Table(table) => {
            return Node {
                span,
                content: toml_table(table, findings),
            };
        }
    };
    Node {
        span,
        content: Content::Scalar(scalar),
    }
}

fn json(text: &str) -> Result<Node, Vec<Finding>> {
    // The first reading settles the syntax and bounds the depth of the second.
    serde_json::from_str::<Value>(text).map_err(|error| {
        let at = offset(text, error.line(), error.column());
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or(&message);
        vec![Finding::new(at..at, format!("not valid JSON: {message}"))]
    })?;
    let mut reader = JsonReader {
        text,
        findings: Vec::new(),
    };
    let root = reader.node(text.trim());
    if reader.findings.is_empty() {
        Ok(root)
    } else {
        Err(reader.findings)
    }
}

/// The byte that a line and a column, both counted from 1, stand for; column 0 is the line break
/// before the line.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    (before + column).saturating_sub(1).min(text.len())
}

/// Takes JSON text that is known to be valid apart into nodes.
///
/// Each value is first borrowed whole as raw text, whose address in the document is its place.
struct JsonReader<'a> {
    text: &'a str,
    findings: Vec<Finding>,
}

impl<'a> JsonReader<'a> {
    fn node(&mut self, raw: &'a str) -> Node {
        let span = self.span(raw);
        let content = match raw.as_bytes().first() {
            Some(b'{') => self.table(self.read::<Members<'a>>(raw).unwrap_or_default()),
            Some(b'[') => {
                let items = self.read::<Vec<&'a RawValue>>(raw).unwrap_or_default();
                Content::Array(
                    items
                        .into_iter()
                        .map(|item| self.node(item.get()))
                        .collect(),
                )
            }
            _ => Content::Scalar(self.read(raw).unwrap_or_default()),
        };
        Node { span, content }
    }

    fn table(&mut self, Members(raw): Members<'a>) -> Content {
        let mut members = BTreeMap::new();
        for (raw_key, raw_value) in raw {
            let key = self.span(raw_key.get());
            let name: Cow<'a, str> = self.read(raw_key.get()).unwrap_or_default();
            if members.contains_key(name.as_ref()) {
                self.findings
                    .push(Finding::new(key, format!("`{name}` is written twice")));
                continue;
            }
            let value = self.node(raw_value.get());
            members.insert(name.into_owned(), Member { key, value });
        }
        Content::Table(members)
    }

    fn read<T: Deserialize<'a>>(&self, raw: &'a str) -> Option<T> {
        serde_json::from_str(raw).ok()
    }

    fn span(&self, part: &str) -> Range<usize> {
        let start = part
            .as_ptr()
            .addr()
            .saturating_sub(self.text.as_ptr().addr());
        start..start + part.len()
    }
}

/// The members of a JSON object as they are written, repeated keys included.
#[derive(Default)]
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'t>(text: &'t str, path: &[Part<'_>]) -> &'t str {
        &text[Node::parse(text).unwrap().place(path.iter().copied())]
    }

    #[test]
    fn a_toml_value_knows_its_place() {
        let text = "[[step]]\nkey = \"a\"\n[[step]]\nkey = \"b\"\nneeds = [\"a\"]\n";
        assert_eq!(at(text, &["step".into(), 1.into(), "key".into()]), "\"b\"");
        assert_eq!(
            at(text, &["step".into(), 1.into(), "needs".into(), 0.into()]),
            "\"a\""
        );
        assert_eq!(
            at(text, &["step".into(), 0.into(), "needs".into()]),
            "[[step]]"
        );
    }

    #[test]
    fn a_json_value_knows_its_place() {
        let text = " {\"step\": [{\"k\\u0065y\": \"a\" }, {\"key\" :\t\"b\"}]}\n";
        assert_eq!(at(text, &["step".into(), 0.into(), "key".into()]), "\"a\"");
        assert_eq!(at(text, &["step".into(), 1.into(), "key".into()]), "\"b\"");
        assert_eq!(at(text, &["step".into(), 1.into()]), "{\"key\" :\t\"b\"}");
    }

    #[test]
    fn a_json_key_written_twice_is_refused() {
        let text = "{\"a\": 1, \"a\": 2}";
        let findings = Node::parse(text).unwrap_err();
        assert_eq!(findings[0].message, "`a` is written twice");
        assert_eq!(findings[0].span, 9..12);
    }

    #[test]
    fn a_syntax_error_is_placed() {
        let findings = Node::parse("{\n  \"a\": tru\n}").unwrap_err();
        assert_eq!(findings[0].message, "not valid JSON: expected ident");
        assert_eq!(findings[0].span.start, 12);
        let findings = Node::parse("a = [1,\nb = 2").unwrap_err();
        assert!(
            findings[0].message.starts_with("not valid TOML: "),
            "{findings:?}"
        );
        assert!(findings[0].span.start >= 7, "{findings:?}");
    }

    #[test]
    fn json_that_is_nested_too_deep_is_refused_and_not_followed() {
        let text = format!("{{\"a\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(
            Node::parse(&text).unwrap_err()[0]
                .message
                .contains("recursion limit")
        );
    }

    #[test]
    fn a_number_that_json_cannot_hold_is_refused() {
        let findings = Node::parse("a = inf\nb = 9223372036854775808").unwrap_err();
        assert_eq!(findings.len(), 2);
    }
}
