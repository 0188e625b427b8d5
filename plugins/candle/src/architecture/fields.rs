//! The fields of a JSON file, each with the path by which an error names it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// No configuration is larger, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// An object in a JSON file.
pub(crate) struct Fields<'v> {
    path: &'v Path,
    prefix: String,
    object: &'v Map<String, Value>,
}

/// The object that a JSON file is.
///
/// # Errors
///
/// [`Error::Io`]; [`Error::Format`] for a file that is too large, no JSON, or no object.
pub(crate) fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let length = fs::metadata(path).map_err(Error::io("read", path))?.len();
    if length > MAX_BYTES {
        return Err(Error::Format {
            path: path.to_path_buf(),
            why: format!("it has {length} bytes, and no configuration has more than {MAX_BYTES}"),
        });
    }
    let text = fs::read(path).map_err(Error::io("read", path))?;
    match serde_json::from_slice(&text).map_err(Error::format(path))? {
        Value::Object(object) => Ok(object),
        _ => Err(Error::Format {
            path: path.to_path_buf(),
            why: "it is no JSON object".to_owned(),
        }),
    }
}

impl<'v> Fields<'v> {
    pub(crate) fn new(path: &'v Path, object: &'v Map<String, Value>) -> Self {
        Self {
            path,
            prefix: String::new(),
            object,
        }
    }

    /// The file.
    pub(crate) fn path(&self) -> PathBuf {
        self.path.to_path_buf()
    }

    /// The error that a field is wrong.
    pub(crate) fn fault(&self, field: &str, why: impl Into<String>) -> Error {
        Error::Field {
            path: self.path(),
            field: format!("{}{field}", self.prefix),
            why: why.into(),
        }
    }

    fn missing(&self, field: &str) -> Error {
        self.fault(field, "it is missing")
    }

    fn mismatch(&self, field: &str, wanted: &str, found: &Value) -> Error {
        let text = found.to_string();
        let shown: String = text.chars().take(60).collect();
        self.fault(field, format!("it should be {wanted}, and is {shown}"))
    }

    /// A field that is there and not `null`.
    pub(crate) fn value(&self, field: &str) -> Option<&'v Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// Whether the field is there, if only as `null`.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.object.contains_key(field)
    }

    pub(crate) fn text(&self, field: &str) -> Result<Option<&'v str>> {
        let read = |value: &'v Value| {
            let text = value.as_str();
            text.ok_or_else(|| self.mismatch(field, "text", value))
        };
        self.value(field).map(read).transpose()
    }

    pub(crate) fn flag(&self, field: &str) -> Result<Option<bool>> {
        let read = |value: &Value| {
            let flag = value.as_bool();
            flag.ok_or_else(|| self.mismatch(field, "true or false", value))
        };
        self.value(field).map(read).transpose()
    }

    /// A finite number.
    pub(crate) fn number(&self, field: &str) -> Result<Option<f64>> {
        let read = |value: &Value| {
            let number = value.as_f64().filter(|number| number.is_finite());
            number.ok_or_else(|| self.mismatch(field, "a number", value))
        };
        self.value(field).map(read).transpose()
    }

    /// A number above 0.
    pub(crate) fn positive(&self, field: &str) -> Result<Option<f64>> {
        let number = self.number(field)?;
        match number.filter(|&number| number <= 0.0) {
            Some(number) => {
                Err(self.fault(field, format!("it should be above 0, and is {number}")))
            }
            None => Ok(number),
        }
    }

    /// A whole number from 0.
    pub(crate) fn whole(&self, field: &str) -> Result<Option<usize>> {
        let read = |value: &Value| {
            let whole = value.as_u64().and_then(|whole| usize::try_from(whole).ok());
            whole.ok_or_else(|| self.mismatch(field, "a whole number", value))
        };
        self.value(field).map(read).transpose()
    }

    /// A whole number from 1 to `most`.
    pub(crate) fn count(&self, field: &str, most: usize) -> Result<Option<usize>> {
        let read = |value: &Value| {
            let whole = value.as_u64().and_then(|whole| usize::try_from(whole).ok());
            let count = whole.filter(|count| (1..=most).contains(count));
            let wanted = || format!("a whole number from 1 to {most}");
            count.ok_or_else(|| self.mismatch(field, &wanted(), value))
        };
        self.value(field).map(read).transpose()
    }

    /// A count that must be there.
    pub(crate) fn required(&self, field: &str, most: usize) -> Result<usize> {
        self.count(field, most)?.ok_or_else(|| self.missing(field))
    }

    /// A number above 0 that must be there.
    pub(crate) fn required_positive(&self, field: &str) -> Result<f64> {
        self.positive(field)?.ok_or_else(|| self.missing(field))
    }

    /// The object in a field.
    pub(crate) fn object(&self, field: &str) -> Result<Option<Fields<'v>>> {
        let read = |value: &'v Value| {
            let object = value.as_object();
            let object = object.ok_or_else(|| self.mismatch(field, "an object", value))?;
            Ok(Fields {
                path: self.path,
                prefix: format!("{}{field}.", self.prefix),
                object,
            })
        };
        self.value(field).map(read).transpose()
    }

    /// A list of texts.
    pub(crate) fn texts(&self, field: &str) -> Result<Option<Vec<&'v str>>> {
        let read = |value: &'v Value| {
            let list = value.as_array();
            let texts = list.and_then(|list| list.iter().map(Value::as_str).collect());
            texts.ok_or_else(|| self.mismatch(field, "a list of texts", value))
        };
        self.value(field).map(read).transpose()
    }
}
