//! Settings out of two documents: the flags of the command line, and the file below them.
//!
//! Flags are a document of their own, so that what is wrong with one is told like what is wrong with
//! the file. Of keys that exclude one another, such as `steps` and `epochs`, a flag takes the place
//! of all in the file.

use std::path::{Path, PathBuf};

use vox_contract::document::Table;
use vox_contract::nearest;

/// What stands in place of a file's name for flags.
pub(super) const FLAGS: &str = "command line";

/// Settings that take precedence over a file's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    root: toml::Table,
}

impl Overrides {
    /// No settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key, such as `optimisation.learning-rate`.
    pub fn set(&mut self, key: &str, value: impl Into<toml::Value>) -> &mut Self {
        let mut table = &mut self.root;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                table.insert(part.into(), value.into());
                break;
            }
            let entry = table
                .entry(part)
                .or_insert_with(|| toml::Table::new().into());
            if !entry.is_table() {
                *entry = toml::Table::new().into();
            }
            let toml::Value::Table(next) = entry else {
                break;
            };
            table = next;
        }
        self
    }

    /// Sets a key if there is a value for it.
    pub fn set_if<T: Into<toml::Value>>(&mut self, key: &str, value: Option<T>) -> &mut Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }

    /// Sets a key to what was typed: a value of TOML, or else a text.
    pub fn set_typed(&mut self, key: &str, typed: &str) -> &mut Self {
        let document = format!("value = {typed}");
        let value = toml::from_str::<toml::Table>(&document).ok();
        let value = value
            .filter(|table| table.len() == 1)
            .and_then(|mut table| table.remove("value"));
        self.set(key, value.unwrap_or_else(|| typed.into()))
    }

    /// The settings as a document.
    pub(super) fn to_toml(&self) -> String {
        self.root.to_string()
    }
}

/// A table of the flags and the same of the file, either of which may be absent.
pub(super) struct Layers<'t, 'o, 'b> {
    over: Option<Table<'t, 'o>>,
    base: Option<Table<'t, 'b>>,
    /// Where relative paths of the file begin.
    directory: &'t Path,
}

/// Whichever of the two tables has a key.
macro_rules! read_by {
    ($layers:expr, $key:expr, |$table:ident| $read:expr) => {
        match (&$layers.over, &$layers.base) {
            (Some($table), _) if $table.has($key) => $read,
            (_, Some($table)) if $table.has($key) => $read,
            _ => None,
        }
    };
}

impl<'t, 'o, 'b> Layers<'t, 'o, 'b> {
    pub fn new(
        over: Option<Table<'t, 'o>>,
        base: Option<Table<'t, 'b>>,
        directory: &'t Path,
    ) -> Self {
        Self {
            over,
            base,
            directory,
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.is_flag(key) || self.base.as_ref().is_some_and(|table| table.has(key))
    }

    /// Whether either document has the table.
    pub fn is_there(&self) -> bool {
        self.over.is_some() || self.base.is_some()
    }

    fn is_flag(&self, key: &str) -> bool {
        self.over.as_ref().is_some_and(|table| table.has(key))
    }

    /// Notes a problem where `key` is written, or where it would be.
    pub fn note(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        match (&self.over, &self.base) {
            (Some(table), base) if table.has(key) || base.is_none() => {
                table.note(table.value_span(key), message, hint);
            }
            (_, Some(table)) => table.note(table.value_span(key), message, hint),
            (_, None) => {}
        }
    }

    /// Of keys that exclude one another, the one that counts. More than one in the flags, or in the
    /// file where the flags have none, is noted.
    pub fn one_of(&self, keys: &[&'static str]) -> Option<&'static str> {
        let flags: Vec<_> = keys
            .iter()
            .copied()
            .filter(|key| self.is_flag(key))
            .collect();
        let written = if flags.is_empty() {
            keys.iter().copied().filter(|key| self.has(key)).collect()
        } else {
            flags
        };
        if let [first, second, ..] = written.as_slice() {
            let message = format!("`{first}` and `{second}` exclude one another");
            self.note(second, message, "remove one of them");
        }
        written.first().copied()
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        read_by!(self, key, |table| table.flag(key))
    }

    /// A finite number that `is_right`; `wanted` says which are.
    pub fn number(&self, key: &str, is_right: impl Fn(f64) -> bool, wanted: &str) -> Option<f64> {
        let number = read_by!(self, key, |table| table.number(key))?;
        if !is_right(number) {
            self.note(
                key,
                format!("`{key}` cannot be {number}"),
                format!("write {wanted}"),
            );
        }
        Some(number)
    }

    /// A whole number of at least `least`.
    pub fn integer<T: TryFrom<i128> + PartialOrd + std::fmt::Display>(
        &self,
        key: &str,
        least: T,
    ) -> Option<T> {
        let number = read_by!(self, key, |table| {
            table.integer::<T>(key, table.value(key)?)
        })?;
        if number < least {
            let message = format!("`{key}` cannot be {number}");
            self.note(key, message, format!("write at least {least}"));
        }
        Some(number)
    }

    pub fn text(&self, key: &str) -> Option<String> {
        read_by!(self, key, |table| table.sentence(key))
    }

    /// A path; one in the file is relative to the file's directory.
    pub fn path(&self, key: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.text(key)?);
        Some(self.located(key, path))
    }

    fn located(&self, key: &str, path: PathBuf) -> PathBuf {
        if self.is_flag(key) {
            path
        } else {
            self.directory.join(path)
        }
    }

    /// One of the words that a type is written as.
    pub fn word<T: Copy>(&self, key: &str, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let hint = match nearest(&text, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use one of `{}`", known.join("`, `")),
            };
            self.note(
                key,
                format!("unknown `{key}`: `{}`", text.escape_debug()),
                hint,
            );
        }
        found.map(|(_, value)| *value)
    }

    /// Whether a list is written that has nothing in it.
    pub fn is_empty(&self, key: &str) -> bool {
        let is_empty = read_by!(self, key, |table| {
            let list = table
                .value(key)
                .and_then(|value| value.get_ref().as_array());
            list.map(|items| items.is_empty())
        });
        is_empty.unwrap_or_default()
    }

    /// A list of texts, none of them blank.
    pub fn texts(&self, key: &str) -> Vec<String> {
        let texts = read_by!(self, key, |table| Some(
            table
                .texts(key)
                .iter()
                .map(|text| (*text.get_ref()).to_owned())
                .collect::<Vec<_>>()
        ));
        let texts = texts.unwrap_or_default();
        if texts.iter().any(|text| text.trim().is_empty()) {
            self.note(key, format!("`{key}` has an empty text in it"), "remove it");
        }
        texts
    }

    /// A list of paths.
    pub fn paths(&self, key: &str) -> Vec<PathBuf> {
        let texts = self.texts(key).into_iter();
        texts.map(|text| self.located(key, text.into())).collect()
    }

    /// A list of exactly two numbers.
    pub fn pair(&self, key: &str) -> Option<[f64; 2]> {
        let numbers: Vec<f64> = read_by!(self, key, |table| Some(
            table
                .items(key)
                .filter_map(|item| table.as_number(key, item))
                .collect()
        ))?;
        let pair = <[f64; 2]>::try_from(numbers).ok();
        if pair.is_none() {
            self.note(
                key,
                format!("`{key}` must be two numbers"),
                "write `[0.9, 0.999]`",
            );
        }
        pair
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_a_value_where_it_can_be_and_a_text_otherwise() {
        let mut overrides = Overrides::new();
        overrides
            .set_typed("optimisation.steps", "12")
            .set_typed("optimisation.learning-rate", "1e-3")
            .set_typed("method.targets", "[\"q_proj\"]")
            .set_typed("model.base", "smollm2-135m")
            .set_typed("a.b", "1\nc = 2")
            .set_if("x", None::<bool>);
        let expected = "[a]\nb = \"\"\"\n1\nc = 2\"\"\"\n\n[method]\ntargets = [\"q_proj\"]\n\n\
                        [model]\nbase = \"smollm2-135m\"\n\n\
                        [optimisation]\nlearning-rate = 0.001\nsteps = 12\n";
        assert_eq!(
            overrides.to_toml().parse::<toml::Table>().unwrap(),
            expected.parse::<toml::Table>().unwrap()
        );
    }
}
