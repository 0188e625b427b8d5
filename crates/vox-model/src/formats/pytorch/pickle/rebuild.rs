//! What the allowed names make when a pickle calls them: tensors, and the few things around them.

use super::machine::Machine;
use super::value::{Global, Id, Storage, StorageView, Tensor, Value};
use crate::formats::pytorch::Fault;

/// Dimensions of a tensor at most; weights have up to five.
pub const MAX_RANK: usize = 16;
/// Bytes of a storage's key at most.
const MAX_KEY_BYTES: usize = 64;

/// What the call gives.
pub(super) fn call(
    machine: &mut Machine<'_, '_>,
    global: Global,
    arguments: &[Id],
) -> Result<Id, Fault> {
    match global {
        Global::OrderedDict => ordered_dict(machine, arguments),
        Global::Size => match arguments {
            &[sizes] if machine.heap.tuple(sizes).is_some() => Ok(sizes),
            _ => Err(machine.damaged("a size is not made from a tuple")),
        },
        Global::Device => machine.new_value(Value::Device),
        Global::Encode => machine.new_value(Value::Bytes),
        Global::RebuildTensor => tensor(machine, arguments, 4..=4),
        Global::RebuildTensorV2 => tensor(machine, arguments, 6..=7),
        Global::RebuildTensorV3 => tensor(machine, arguments, 7..=8),
        Global::RebuildParameter => match arguments.first() {
            Some(&data) if matches!(machine.heap.get(data), Value::Tensor(_)) => Ok(data),
            _ => Err(machine.damaged("a parameter is not made from a tensor")),
        },
        Global::Storage(_) | Global::UntypedStorage => Err(machine.action("call", "a storage")),
        Global::Dtype(_) => Err(machine.action("call", "a type of elements")),
    }
}

/// Empty, or made from pairs, as Python 2 did it.
fn ordered_dict(machine: &mut Machine<'_, '_>, arguments: &[Id]) -> Result<Id, Fault> {
    let mut entries = Vec::new();
    match *arguments {
        [] => {}
        [pairs] => {
            let Some(count) = machine.heap.sequence(pairs).map(<[Id]>::len) else {
                return Err(machine.damaged("a dictionary is not made from a list"));
            };
            machine.charge(count.saturating_mul(2))?;
            for &pair in machine.heap.sequence(pairs).unwrap_or_default() {
                match machine.heap.sequence(pair) {
                    Some(&[key, value]) => entries.push((key, value)),
                    _ => return Err(machine.damaged("a dictionary is not made from pairs")),
                }
            }
        }
        _ => return Err(machine.damaged("a dictionary is made from too much")),
    }
    machine.new_value(Value::Dict(entries))
}

/// The storage that a persistent id means: `("storage", type, key, location, length)`, in the old
/// format with a sixth element that is `None` or `(key, offset, length)` of a view.
pub(super) fn persistent(machine: &mut Machine<'_, '_>, id: Id) -> Result<StorageView, Fault> {
    let refused = machine.damaged("a persistent id is not one of a storage");
    let (kind, class, key, len, view) = match machine.heap.tuple(id) {
        Some(&[kind, class, key, _, len]) => (kind, class, key, len, None),
        Some(&[kind, class, key, _, len, view]) => (kind, class, key, len, Some(view)),
        _ => return Err(refused),
    };
    let dtype = match machine.heap.get(class) {
        Value::Global(Global::Storage(dtype)) => Some(*dtype),
        Value::Global(Global::UntypedStorage) => None,
        _ => return Err(refused),
    };
    let (Some("storage"), Some(key), Some(len)) = (
        machine.heap.text(kind),
        machine.heap.text(key),
        machine.heap.count(len),
    ) else {
        return Err(refused);
    };
    let (key, view) = (checked_key(key)?, view.map(|view| machine.heap.get(view)));
    let (offset, view_len) = match view {
        None | Some(Value::None) => (0, len),
        Some(Value::Tuple(view)) => match **view {
            [_, offset, view_len] => {
                match (machine.heap.count(offset), machine.heap.count(view_len)) {
                    (Some(offset), Some(view_len)) => (offset, view_len),
                    _ => return Err(refused),
                }
            }
            _ => return Err(refused),
        },
        Some(_) => return Err(refused),
    };
    if offset.checked_add(view_len).is_none_or(|end| end > len) {
        return Err(machine.damaged("a view reaches past its storage"));
    }
    let storage = Storage { key, dtype, len };
    if storage.element().checked_mul(len).is_none() {
        return Err(machine.damaged("a storage has more than 2^64 bytes"));
    }
    let added = machine.heap.storage(storage);
    let storage = added.map_err(|storage| Fault::StorageDisagrees { key: storage.key })?;
    Ok(StorageView {
        storage,
        offset,
        len: view_len,
    })
}

/// A key names an entry of the archive, so it must not be able to name anything else.
fn checked_key(key: &str) -> Result<String, Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if key.is_empty() || key.len() > MAX_KEY_BYTES || !key.bytes().all(plain) {
        return Err(Fault::StorageKey { key: key.into() });
    }
    Ok(key.to_owned())
}

fn tensor(
    machine: &mut Machine<'_, '_>,
    arguments: &[Id],
    count: std::ops::RangeInclusive<usize>,
) -> Result<Id, Fault> {
    let wrong = |why| Fault::Tensor {
        why,
        pickle: machine.pickle(),
        offset: machine.at,
    };
    let &[view, offset, shape, strides, ref more @ ..] = arguments else {
        return Err(wrong("too few arguments"));
    };
    if !count.contains(&arguments.len()) {
        return Err(wrong("the wrong number of arguments"));
    }
    let heap = &*machine.heap;
    let &Value::Storage(view) = heap.get(view) else {
        return Err(wrong("no storage"));
    };
    let Some(storage) = heap.storages().get(view.storage) else {
        return Err(wrong("no storage"));
    };
    let offset = heap
        .count(offset)
        .ok_or_else(|| wrong("an offset into its storage that is negative or no number"))?;
    let dimensions = |id, why| -> Result<Vec<u64>, Fault> {
        let items = heap.sequence(id).ok_or_else(|| wrong(why))?;
        if items.len() > MAX_RANK {
            return Err(wrong("more than 16 dimensions"));
        }
        let counts = items.iter().map(|&item| heap.count(item));
        counts.collect::<Option<_>>().ok_or_else(|| wrong(why))
    };
    let shape = dimensions(shape, "a size that is negative or no number")?;
    let strides = dimensions(strides, "a stride that is negative or no number")?;
    if shape.len() != strides.len() {
        return Err(wrong("another number of strides than of sizes"));
    }
    // Only the third way of rebuilding says the type, and only it has storages without one.
    let said = more.get(2).map(|&id| heap.get(id));
    let dtype = match (storage.dtype, said) {
        (Some(dtype), Some(&Value::Global(Global::Dtype(said)))) if said != dtype => {
            return Err(wrong("another type of elements than its storage"));
        }
        (Some(dtype), _) => dtype,
        (None, Some(&Value::Global(Global::Dtype(dtype)))) => dtype,
        (None, _) => return Err(wrong("no type of elements")),
    };
    let extent = extent(&shape, &strides).ok_or_else(|| wrong("sizes that pass 64 bits"))?;
    // In elements of the tensor, which are those of the storage unless that has no type.
    let per_element = dtype.size() / storage.element();
    let has = view.len / per_element;
    let needed = if extent == 0 {
        Some(0)
    } else {
        offset.checked_add(extent)
    };
    if needed.is_none_or(|needed| needed > has) {
        return Err(Fault::OutOfBounds {
            key: storage.key.clone(),
            needed: needed.unwrap_or(u64::MAX),
            has,
            pickle: machine.pickle(),
            offset: machine.at,
        });
    }
    let elements = shape
        .iter()
        .try_fold(dtype.size(), |n, &d| n.checked_mul(d));
    let start = offset
        .checked_mul(dtype.size())
        .zip(view.offset.checked_mul(storage.element()))
        .and_then(|(offset, view)| offset.checked_add(view));
    let (Some(_), Some(start)) = (elements, start) else {
        return Err(wrong("sizes that pass 64 bits"));
    };
    machine.charge(shape.len().saturating_mul(2))?;
    let tensor = Tensor {
        storage: view.storage,
        dtype,
        start,
        shape,
        strides,
    };
    machine.new_value(Value::Tensor(tensor))
}

/// Elements from the first to the last that such a tensor uses, both counted; 0 if it is empty.
pub(in super::super) fn extent(shape: &[u64], strides: &[u64]) -> Option<u64> {
    if shape.contains(&0) {
        return Some(0);
    }
    let mut last = 0_u64;
    for (&size, &stride) in shape.iter().zip(strides) {
        last = last.checked_add(size.checked_sub(1)?.checked_mul(stride)?)?;
    }
    last.checked_add(1)
}
