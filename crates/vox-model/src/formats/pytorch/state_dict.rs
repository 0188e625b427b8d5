//! Which of the values in a pickle are the model's tensors.

use std::collections::HashSet;

use super::Fault;
use super::pickle::{Heap, Id, Tensor, Value};
use crate::TensorInfo;

/// How many times larger than all storages the tensors may be together, so that a small file with many
/// tensors in one storage does not fill a disk. Tied weights need 2.
pub const MAX_SHARING: u64 = 8;
/// Bytes of tensors that are always allowed, for small files whose tensors were expanded.
const SHARING_FREE_BYTES: u64 = 64 << 20;

/// Tensors of a file at most.
pub const MAX_TENSORS: usize = 1 << 18;
/// Bytes of a tensor's name at most.
pub const MAX_NAME_BYTES: usize = 1 << 10;
/// Entries that are named one by one when they are skipped; the rest is counted.
const MAX_SKIPPED: usize = 1000;

/// Where training programs keep the state dict in what they save.
const WRAPPERS: &[&str] = &["state_dict", "model_state_dict", "model", "module"];

/// An entry of a file that is no tensor of its state dict.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Its name; of one in a wrapper, with the wrapper's name and a dot before it.
    pub name: String,
    /// What it is, such as `a dictionary`.
    pub what: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct StateDict {
    pub(super) infos: Vec<TensorInfo>,
    pub(super) tensors: Vec<Tensor>,
    pub(super) skipped: Vec<Skipped>,
    skipped_in_all: usize,
}

/// The tensors of the dictionary, or of the dictionary in it that training programs wrap it in.
/// `stored` is the number of bytes of all storages.
pub(super) fn read(heap: &Heap, root: Id, stored: u64) -> Result<StateDict, Fault> {
    let found = |value: &Value| Fault::NoTensors {
        found: value.kind(),
    };
    let Value::Dict(entries) = heap.get(root) else {
        return Err(found(heap.get(root)));
    };
    let mut dict = StateDict::default();
    if holds_tensors(heap, entries) {
        dict.take(heap, entries, "")?;
    } else {
        let (wrapper, wrapped) = wrapper(heap, entries).ok_or(Fault::NoTensors {
            found: "a dictionary without tensors",
        })?;
        dict.take(heap, wrapped, &format!("{wrapper}."))?;
        for &(key, value) in entries {
            if heap.text(key) != Some(wrapper) {
                dict.skip(name(heap, key), heap.get(value));
            }
        }
    }
    let total = dict
        .infos
        .iter()
        .try_fold(0_u64, |sum, info| sum.checked_add(info.byte_len()?))
        .unwrap_or(u64::MAX);
    if total > SHARING_FREE_BYTES && total / MAX_SHARING > stored {
        return Err(Fault::Expansion { total, stored });
    }
    Ok(dict)
}

fn holds_tensors(heap: &Heap, entries: &[(Id, Id)]) -> bool {
    let is_tensor = |value| matches!(heap.get(value), Value::Tensor(_));
    entries.iter().any(|&(_, value)| is_tensor(value))
}

fn wrapper<'h>(heap: &'h Heap, entries: &'h [(Id, Id)]) -> Option<(&'static str, &'h [(Id, Id)])> {
    WRAPPERS.iter().find_map(|&wrapper| {
        let mut named = entries
            .iter()
            .filter(|&&(key, _)| heap.text(key) == Some(wrapper));
        match heap.get(named.next()?.1) {
            Value::Dict(wrapped) if holds_tensors(heap, wrapped) => {
                Some((wrapper, wrapped.as_slice()))
            }
            _ => None,
        }
    })
}

fn name(heap: &Heap, key: Id) -> String {
    match heap.get(key) {
        Value::Text(text) => text.chars().take(200).collect(),
        Value::Int(number) => format!("[{number}]"),
        other => format!("[{}]", other.kind()),
    }
}

impl StateDict {
    fn take(&mut self, heap: &Heap, entries: &[(Id, Id)], prefix: &str) -> Result<(), Fault> {
        let mut names = HashSet::new();
        for &(key, value) in entries {
            match (heap.get(key), heap.get(value)) {
                (Value::Text(name), Value::Tensor(tensor)) => {
                    if name.len() > MAX_NAME_BYTES || self.tensors.len() >= MAX_TENSORS {
                        return Err(Fault::Archive {
                            why: "it has more than 262,144 tensors, or one whose name is longer than \
                                  1,024 bytes",
                        });
                    }
                    if !names.insert(&**name) {
                        return Err(Fault::DuplicateName {
                            name: name.to_string(),
                        });
                    }
                    self.infos.push(TensorInfo {
                        name: name.to_string(),
                        dtype: tensor.dtype,
                        shape: tensor.shape.clone(),
                    });
                    self.tensors.push(tensor.clone());
                }
                (_, value) => self.skip(format!("{prefix}{}", name(heap, key)), value),
            }
        }
        Ok(())
    }

    fn skip(&mut self, name: String, value: &Value) {
        self.skipped_in_all += 1;
        if self.skipped.len() < MAX_SKIPPED {
            let what = value.kind();
            self.skipped.push(Skipped { name, what });
        } else if let Some(last) = self.skipped.last_mut() {
            let more = self.skipped_in_all - MAX_SKIPPED + 1;
            last.name = format!("and {more} more");
            last.what = "entries";
        }
    }
}
