//! Typed access to the tables of a document.

use std::{fmt::Display, ops::Range, str::FromStr};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Document, Hinted};
use crate::nearest;

/// A table of the document whose keys are known.
///
/// `'d` is the document, `'a` its text.
pub struct Table<'d, 'a> {
    document: &'d Document<'a>,
    entries: &'d DeTable<'a>,
    /// Where the table is opened.
    pub span: Range<usize>,
    /// The table as messages name it, such as `payload`; empty for the root.
    name: &'static str,
}

impl<'d, 'a> Table<'d, 'a> {
    /// Notes every key that is not `known`.
    pub(super) fn new(
        document: &'d Document<'a>,
        entries: &'d DeTable<'a>,
        span: Range<usize>,
        name: &'static str,
        known: &'static [&'static str],
    ) -> Self {
        for key in entries.keys() {
            let word: &str = key.get_ref();
            if !known.contains(&word) {
                let place = if name.is_empty() {
                    String::new()
                } else {
                    format!(" in `{name}`")
                };
                document.note(
                    key.span(),
                    format!("unknown key `{}`{place}", word.escape_debug()),
                    Some(nearest::hint(word, known)),
                );
            }
        }
        Self {
            document,
            entries,
            span,
            name,
        }
    }

    /// Notes a problem.
    pub fn note(&self, span: Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.document.note(span, message, Some(hint.into()));
    }

    /// True when the key is written, whatever its value.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Where a key is written; where the table is opened when it is not.
    pub fn key_span(&self, key: &str) -> Range<usize> {
        self.entries
            .get_key_value(key)
            .map_or(self.span.clone(), |(key, _)| key.span())
    }

    /// Where the value of a key is written; where the table is opened when it is not.
    pub fn value_span(&self, key: &str) -> Range<usize> {
        self.value(key).map_or(self.span.clone(), Spanned::span)
    }

    /// Passes on what was read for `key`, noting it as missing when it is not written.
    pub fn required<T>(&self, key: &str, value: Option<T>, example: &str) -> Option<T> {
        if value.is_none() && !self.has(key) {
            let place = if self.name.is_empty() {
                String::new()
            } else {
                format!(" in `{}`", self.name)
            };
            self.note(
                self.span.clone(),
                format!("`{key}` is missing{place}"),
                format!("add `{example}`"),
            );
        }
        value
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&'d Spanned<DeValue<'a>>> {
        self.entries.get(key)
    }

    /// A string.
    pub fn text(&self, key: &str) -> Option<Spanned<&'d str>> {
        self.as_text(key, self.value(key)?)
    }

    /// `value` as a string; `what` names it in the message otherwise.
    pub fn as_text(&self, what: &str, value: &'d Spanned<DeValue<'a>>) -> Option<Spanned<&'d str>> {
        match value.get_ref() {
            DeValue::String(text) => Some(Spanned::new(value.span(), text)),
            other => {
                self.mismatch(value.span(), what, "a string", other);
                None
            }
        }
    }

    /// A string that is not blank.
    pub fn sentence(&self, key: &str) -> Option<String> {
        let text = self.text(key)?;
        if text.get_ref().trim().is_empty() {
            self.note(
                text.span(),
                format!("`{key}` is empty"),
                "write something, or leave it out",
            );
            return None;
        }
        Some((*text.get_ref()).to_owned())
    }

    /// A string that parses as `T`.
    pub fn parsed<T: FromStr<Err: Hinted>>(&self, key: &str) -> Option<T> {
        self.parse(self.text(key)?)
    }

    /// Parses a string of the document.
    pub fn parse<T: FromStr<Err: Hinted>>(&self, text: Spanned<&str>) -> Option<T> {
        match text.get_ref().parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.document
                    .note(text.span(), error.to_string(), error.way_out());
                None
            }
        }
    }

    /// A semantic version.
    pub fn version(&self, key: &str) -> Option<semver::Version> {
        let text = self.text(key)?;
        match semver::Version::parse(text.get_ref()) {
            Ok(version) => Some(version),
            Err(error) => {
                let message = format!(
                    "`{}` is not a version: {error}",
                    text.get_ref().escape_debug()
                );
                self.note(
                    text.span(),
                    message,
                    "write major.minor.patch, such as `0.1.0`",
                );
                None
            }
        }
    }

    /// A range of semantic versions.
    pub fn version_range(&self, text: Spanned<&str>) -> Option<semver::VersionReq> {
        match semver::VersionReq::parse(text.get_ref()) {
            Ok(range) => Some(range),
            Err(error) => {
                let text_shown = text.get_ref().escape_debug();
                let message = format!("`{text_shown}` is not a range of versions: {error}");
                self.note(
                    text.span(),
                    message,
                    "write for example `^1.2`, `>=0.1, <0.2` or `*`",
                );
                None
            }
        }
    }

    /// A whole number within the range of `T`.
    pub fn integer<T: TryFrom<i128>>(&self, what: &str, value: &Spanned<DeValue<'a>>) -> Option<T> {
        let DeValue::Integer(digits) = value.get_ref() else {
            self.mismatch(value.span(), what, "a whole number", value.get_ref());
            return None;
        };
        let number = i128::from_str_radix(digits.as_str(), digits.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            let message = format!("`{what}` cannot be {digits}: it is out of range");
            self.document.note(value.span(), message, None);
        }
        number
    }

    /// A truth value.
    pub fn flag(&self, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(truth) => Some(*truth),
            other => {
                self.mismatch(value.span(), key, "`true` or `false`", other);
                None
            }
        }
    }

    /// A finite number, whole or not.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.as_number(key, self.value(key)?)
    }

    /// `value` as a finite number; `what` names it in the message otherwise.
    pub fn as_number(&self, what: &str, value: &Spanned<DeValue<'a>>) -> Option<f64> {
        let digits = match value.get_ref() {
            DeValue::Integer(_) => {
                return self.integer::<i64>(what, value).map(|whole| whole as f64);
            }
            DeValue::Float(digits) => digits.as_str(),
            other => {
                self.mismatch(value.span(), what, "a number", other);
                return None;
            }
        };
        let number = digits
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite());
        if number.is_none() {
            let message = format!("`{what}` cannot be {digits}: it is not a finite number");
            self.document.note(value.span(), message, None);
        }
        number
    }

    /// A table whose keys are known.
    pub fn table(
        &self,
        key: &'static str,
        known: &'static [&'static str],
    ) -> Option<Table<'d, 'a>> {
        self.as_table(key, self.value(key)?, known)
    }

    /// `value` as a table whose keys are known.
    pub fn as_table(
        &self,
        name: &'static str,
        value: &'d Spanned<DeValue<'a>>,
        known: &'static [&'static str],
    ) -> Option<Table<'d, 'a>> {
        match value.get_ref() {
            DeValue::Table(entries) => Some(Table::new(
                self.document,
                entries,
                value.span(),
                name,
                known,
            )),
            other => {
                self.mismatch(value.span(), name, "a table", other);
                None
            }
        }
    }

    /// The members of a table whose keys are free, in the order of their keys.
    pub fn members(
        &self,
        key: &str,
    ) -> impl Iterator<Item = (Spanned<&'d str>, &'d Spanned<DeValue<'a>>)> + use<'d, 'a> {
        let entries = self.value(key).and_then(|value| match value.get_ref() {
            DeValue::Table(entries) => Some(entries),
            other => {
                self.mismatch(value.span(), key, "a table", other);
                None
            }
        });
        entries.into_iter().flatten().map(|(key, value)| {
            let text: &str = key.get_ref();
            (Spanned::new(key.span(), text), value)
        })
    }

    /// The items of an array.
    pub fn items(&self, key: &str) -> impl Iterator<Item = &'d Spanned<DeValue<'a>>> + use<'d, 'a> {
        let items = self.value(key).and_then(|value| match value.get_ref() {
            DeValue::Array(items) => Some(items),
            other => {
                self.mismatch(value.span(), key, "an array", other);
                None
            }
        });
        items.into_iter().flat_map(|items| items.iter())
    }

    /// How many items an array has; 0 when it is not written.
    pub fn items_count(&self, key: &str) -> usize {
        let items = self.value(key).and_then(|value| value.get_ref().as_array());
        items.map_or(0, |items| items.len())
    }

    /// The strings of an array.
    pub fn texts(&self, key: &str) -> Vec<Spanned<&'d str>> {
        self.items(key)
            .filter_map(|item| self.as_text(key, item))
            .collect()
    }

    /// The strings of `value`, which is to be an array.
    pub fn texts_in(&self, what: &str, value: &'d Spanned<DeValue<'a>>) -> Vec<Spanned<&'d str>> {
        let items = match value.get_ref() {
            DeValue::Array(items) => items,
            other => {
                self.mismatch(value.span(), what, "an array", other);
                return Vec::new();
            }
        };
        let texts = items.iter().filter_map(|item| self.as_text(what, item));
        texts.collect()
    }

    /// The tables of an array, each with known keys.
    pub fn tables(&self, key: &'static str, known: &'static [&'static str]) -> Vec<Table<'d, 'a>> {
        self.items(key)
            .filter_map(|item| self.as_table(key, item, known))
            .collect()
    }

    /// The strings of an array as values of `T`, none of them twice.
    pub fn distinct<T: FromStr<Err: Hinted> + PartialEq + Display>(&self, key: &str) -> Vec<T> {
        let mut values = Vec::new();
        for text in self.texts(key) {
            let span = text.span();
            if let Some(value) = self.parse::<T>(text) {
                self.push_distinct(&mut values, value, key, span);
            }
        }
        values
    }

    /// Adds `value` unless it is there already, which is noted.
    pub fn push_distinct<T: PartialEq + Display>(
        &self,
        values: &mut Vec<T>,
        value: T,
        what: &str,
        span: Range<usize>,
    ) {
        if values.contains(&value) {
            self.note(
                span,
                format!("`{value}` stands twice in `{what}`"),
                "remove one of them",
            );
        } else {
            values.push(value);
        }
    }

    pub(super) fn mismatch(
        &self,
        span: Range<usize>,
        what: &str,
        wanted: &str,
        found: &DeValue<'_>,
    ) {
        let found = match found {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let what = what.escape_debug();
        self.document.note(
            span,
            format!("`{what}` must be {wanted}, not {found}"),
            None,
        );
    }
}
