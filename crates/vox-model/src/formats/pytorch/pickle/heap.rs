//! Where the values of a pickle live, and what may be asked of them.

use std::collections::HashMap;

use super::value::{Id, Storage, Value};

/// Values of one pickle at most: a state dict has about fifteen for each tensor.
pub const MAX_VALUES: usize = 1 << 21;

/// All values of one pickle and the storages that it speaks of.
#[derive(Debug, Default)]
pub(in super::super) struct Heap {
    values: Vec<Value>,
    storages: Vec<Storage>,
    by_key: HashMap<String, usize>,
}

impl Heap {
    /// Keeps a value; `None` when there are too many.
    pub(super) fn add(&mut self, value: Value) -> Option<Id> {
        if self.values.len() >= MAX_VALUES {
            return None;
        }
        let id = Id(u32::try_from(self.values.len()).ok()?);
        self.values.push(value);
        Some(id)
    }

    pub(in super::super) fn get(&self, id: Id) -> &Value {
        // Ids are only made by `add`, and values are never taken away.
        self.values.get(id.0 as usize).unwrap_or(&Value::None)
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Value> {
        self.values.get_mut(id.0 as usize)
    }

    pub(in super::super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A number that counts something, so neither negative nor more than 64 bits.
    pub(super) fn count(&self, id: Id) -> Option<u64> {
        match self.get(id) {
            Value::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The elements of a list or a tuple.
    pub(in super::super) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The storages in the order in which they were first mentioned.
    pub(in super::super) fn storages(&self) -> &[Storage] {
        &self.storages
    }

    /// The number of this storage; `Err` when one of its key is known and differs.
    pub(super) fn storage(&mut self, storage: Storage) -> Result<usize, Storage> {
        if let Some(&number) = self.by_key.get(&storage.key) {
            return match self.storages.get(number) {
                Some(known) if *known == storage => Ok(number),
                _ => Err(storage),
            };
        }
        let number = self.storages.len();
        self.by_key.insert(storage.key.clone(), number);
        self.storages.push(storage);
        Ok(number)
    }
}
