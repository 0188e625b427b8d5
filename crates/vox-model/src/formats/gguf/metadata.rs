//! The keys of a file, and typed access that names the key at fault.

use std::collections::HashMap;

use super::error::GgufFault;

/// How deep lists may stand in lists.
pub const MAX_NESTING: usize = 4;

/// The value of a key.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Text(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// Values of one type.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    Text(Vec<String>),
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Array {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(items) => items.len(),
            Self::I8(items) => items.len(),
            Self::U16(items) => items.len(),
            Self::I16(items) => items.len(),
            Self::U32(items) => items.len(),
            Self::I32(items) => items.len(),
            Self::F32(items) => items.len(),
            Self::Bool(items) => items.len(),
            Self::Text(items) => items.len(),
            Self::Array(items) => items.len(),
            Self::U64(items) => items.len(),
            Self::I64(items) => items.len(),
            Self::F64(items) => items.len(),
        }
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values as whole numbers, where all are.
    pub fn integers(&self) -> Option<Vec<i64>> {
        fn all<T: Copy>(items: &[T]) -> Option<Vec<i64>>
        where
            i64: TryFrom<T>,
        {
            items.iter().map(|&item| i64::try_from(item).ok()).collect()
        }
        match self {
            Self::U8(items) => all(items),
            Self::I8(items) => all(items),
            Self::U16(items) => all(items),
            Self::I16(items) => all(items),
            Self::U32(items) => all(items),
            Self::I32(items) => all(items),
            Self::U64(items) => all(items),
            Self::I64(items) => all(items),
            Self::F32(_) | Self::F64(_) | Self::Bool(_) | Self::Text(_) | Self::Array(_) => None,
        }
    }
}

impl Value {
    /// What it is, for messages.
    fn kind(&self) -> String {
        let kind = match self {
            Self::U8(value) => return format!("the number {value}"),
            Self::I8(value) => return format!("the number {value}"),
            Self::U16(value) => return format!("the number {value}"),
            Self::I16(value) => return format!("the number {value}"),
            Self::U32(value) => return format!("the number {value}"),
            Self::I32(value) => return format!("the number {value}"),
            Self::U64(value) => return format!("the number {value}"),
            Self::I64(value) => return format!("the number {value}"),
            Self::F32(value) => return format!("the number {value:?}"),
            Self::F64(value) => return format!("the number {value:?}"),
            Self::Bool(_) => "a truth value",
            Self::Text(_) => "a text",
            Self::Array(Array::Text(_)) => "a list of texts",
            Self::Array(Array::Array(_)) => "a list of lists",
            Self::Array(Array::Bool(_)) => "a list of truth values",
            Self::Array(_) => "a list of numbers",
        };
        kind.to_owned()
    }

    fn whole(&self) -> Option<u64> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::U64(value) => Some(value),
            Self::I8(value) => value.try_into().ok(),
            Self::I16(value) => value.try_into().ok(),
            Self::I32(value) => value.try_into().ok(),
            Self::I64(value) => value.try_into().ok(),
            _ => None,
        }
    }
}

/// The keys of a file in their order. Every access by type is `Ok(None)` where the key is not there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    by_key: HashMap<String, usize>,
}

impl Metadata {
    pub(super) fn insert(&mut self, key: String, value: Value) -> Result<(), GgufFault> {
        if self.by_key.contains_key(&key) {
            return Err(GgufFault::DuplicateKey { key });
        }
        self.by_key.insert(key.clone(), self.entries.len());
        self.entries.push((key, value));
        Ok(())
    }

    /// Keys and values in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let place = *self.by_key.get(key)?;
        self.entries.get(place).map(|(_, value)| value)
    }

    fn typed<'m, T>(
        &'m self,
        key: &str,
        wanted: &'static str,
        read: impl FnOnce(&'m Value) -> Option<T>,
    ) -> Result<Option<T>, GgufFault> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(GgufFault::WrongValue {
                key: key.to_owned(),
                wanted,
                found: value.kind(),
            }),
        }
    }

    /// A text.
    ///
    /// # Errors
    ///
    /// [`GgufFault::WrongValue`], as with every access by type.
    pub fn text(&self, key: &str) -> Result<Option<&str>, GgufFault> {
        self.typed(key, "a text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A whole number that is not negative, of whichever width.
    ///
    /// # Errors
    ///
    /// [`GgufFault::WrongValue`].
    pub fn whole(&self, key: &str) -> Result<Option<u64>, GgufFault> {
        self.typed(key, "a whole number", Value::whole)
    }

    /// A finite number; the decimal that is meant, so `f32` 1e-5 is 1e-5 as `f64` too.
    ///
    /// # Errors
    ///
    /// [`GgufFault::WrongValue`], also for NaN and infinities.
    pub fn number(&self, key: &str) -> Result<Option<f64>, GgufFault> {
        self.typed(key, "a finite number", |value| match *value {
            Value::F32(value) if value.is_finite() => value.to_string().parse().ok(),
            Value::F64(value) if value.is_finite() => Some(value),
            Value::F32(_) | Value::F64(_) => None,
            ref value => value.whole().map(|whole| whole as f64),
        })
    }

    /// A truth value.
    ///
    /// # Errors
    ///
    /// [`GgufFault::WrongValue`].
    pub fn bool(&self, key: &str) -> Result<Option<bool>, GgufFault> {
        self.typed(key, "a truth value", |value| match *value {
            Value::Bool(value) => Some(value),
            _ => None,
        })
    }

    /// A list of texts.
    ///
    /// # Errors
    ///
    /// [`GgufFault::WrongValue`].
    pub fn texts(&self, key: &str) -> Result<Option<&[String]>, GgufFault> {
        self.typed(key, "a list of texts", |value| match value {
            Value::Array(Array::Text(texts)) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// A list of whole numbers.
    ///
    /// # Errors
    ///
    /// [`GgufFault::WrongValue`].
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>, GgufFault> {
        self.typed(key, "a list of whole numbers", |value| match value {
            Value::Array(array) => array.integers(),
            _ => None,
        })
    }

    /// A list of `f32`.
    ///
    /// # Errors
    ///
    /// [`GgufFault::WrongValue`].
    pub fn floats(&self, key: &str) -> Result<Option<&[f32]>, GgufFault> {
        self.typed(key, "a list of 32-bit floats", |value| match value {
            Value::Array(Array::F32(items)) => Some(items.as_slice()),
            _ => None,
        })
    }

    /// A whole number that stands once for all layers: as itself, or as a list of equal ones.
    ///
    /// # Errors
    ///
    /// [`GgufFault::WrongValue`], also where layers differ.
    pub fn whole_for_all_layers(&self, key: &str) -> Result<Option<u64>, GgufFault> {
        let wanted = "a whole number, the same for all layers,";
        self.typed(key, wanted, |value| match value {
            Value::Array(array) => {
                let items = array.integers()?;
                let first = *items.first()?;
                let same = items.iter().all(|&item| item == first);
                same.then(|| first.try_into().ok()).flatten()
            }
            value => value.whole(),
        })
    }
}

/// The value of a key that must be there.
pub(super) fn required<T>(key: &str, value: Option<T>) -> Result<T, GgufFault> {
    value.ok_or_else(|| GgufFault::MissingKey {
        key: key.to_owned(),
    })
}
