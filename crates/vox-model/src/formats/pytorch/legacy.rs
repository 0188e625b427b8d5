//! The format before PyTorch 1.6, which `torch.save` still writes when it is asked to.
//!
//! Five pickles follow each other: a magic number, the version of the protocol (1001), facts about the
//! machine, the state dict, and the keys of the storages; then each storage in the order of the keys,
//! the number of its elements first.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use super::layout::Stored;
use super::pickle::{self, Heap, Id, Storage, Value};
use super::{Bytes, Fault};

/// The first pickle's beginning: protocol 2, a whole number of ten bytes.
pub(super) const MAGIC: [u8; 14] = [
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
];
const PROTOCOL_VERSION: i128 = 1001;

pub(super) fn read(
    bytes: &mut Box<dyn Bytes>,
    heap: &mut Heap,
) -> Result<(Id, Vec<Stored>), Fault> {
    let mut small = Heap::default();
    pickle::load(bytes, "magic number", &mut small)?;
    let version = pickle::load(bytes, "protocol version", &mut small)?;
    if !matches!(small.get(version), Value::Int(PROTOCOL_VERSION)) {
        return Err(Fault::Archive {
            why: "its protocol version is not 1001",
        });
    }
    let machine = pickle::load(bytes, "machine facts", &mut small)?;
    if is_big_endian(&small, machine) {
        return Err(Fault::BigEndian);
    }
    let root = pickle::load(bytes, "state dict", heap)?;
    let keys = pickle::load(bytes, "storage keys", &mut small)?;
    let keys = small.sequence(keys).ok_or(Fault::Archive {
        why: "its storage keys are no list",
    })?;
    let names = keys.iter().map(|&key| small.text(key));
    let names: Option<Vec<&str>> = names.collect();
    let names = names.ok_or(Fault::Archive {
        why: "its storage keys are no texts",
    })?;
    data(bytes, heap.storages(), &names).map(|data| (root, data))
}

fn is_big_endian(heap: &Heap, facts: Id) -> bool {
    let Value::Dict(facts) = heap.get(facts) else {
        return false;
    };
    facts.iter().any(|&(key, value)| {
        heap.text(key) == Some("little_endian") && matches!(heap.get(value), Value::Bool(false))
    })
}

/// Where each storage's data is, in the order of the storages; the reader stands right before the first
/// in the order of the keys.
fn data(
    bytes: &mut Box<dyn Bytes>,
    storages: &[Storage],
    keys: &[&str],
) -> Result<Vec<Stored>, Fault> {
    let mut at = bytes.stream_position().map_err(Fault::Read)?;
    let end = bytes.seek(SeekFrom::End(0)).map_err(Fault::Read)?;
    let numbers: HashMap<&str, usize> = storages
        .iter()
        .enumerate()
        .map(|(number, storage)| (storage.key.as_str(), number))
        .collect();
    let mut found: Vec<Option<Stored>> = vec![None; storages.len()];
    for &key in keys {
        let Some((storage, place)) = numbers
            .get(key)
            .and_then(|&number| storages.get(number).zip(found.get_mut(number)))
        else {
            return Err(Fault::Archive {
                why: "it has the data of a storage that no tensor uses",
            });
        };
        let missing = || Fault::MissingStorage {
            key: key.to_owned(),
        };
        if end.saturating_sub(at) < 8 {
            return Err(missing());
        }
        let mut len = [0; 8];
        bytes.seek(SeekFrom::Start(at)).map_err(Fault::Read)?;
        bytes.read_exact(&mut len).map_err(Fault::Read)?;
        at = at.saturating_add(8);
        let expected = storage.element().saturating_mul(storage.len);
        let claimed = u64::from_le_bytes(len).saturating_mul(storage.element());
        let rest = end.saturating_sub(at);
        if claimed != expected || rest < expected {
            return Err(Fault::StorageSize {
                key: key.to_owned(),
                expected,
                found: if claimed == expected { rest } else { claimed },
            });
        }
        let stored = Stored {
            key: key.to_owned(),
            at,
            len: expected,
            packed: None,
            crc: None,
        };
        if place.replace(stored).is_some() {
            return Err(Fault::StorageDisagrees {
                key: key.to_owned(),
            });
        }
        at = at.saturating_add(expected);
    }
    let missing = |storage: &Storage| Fault::MissingStorage {
        key: storage.key.clone(),
    };
    found
        .into_iter()
        .zip(storages)
        .map(|(stored, storage)| stored.ok_or_else(|| missing(storage)))
        .collect()
}
