//! The zip format, which `torch.save` writes since PyTorch 1.6.
//!
//! All entries are in one folder whose name is arbitrary: `data.pkl`, the storages as `data/<key>`,
//! `version`, and `byteorder` since PyTorch 2.1. PyTorch stores them without compression.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use zip::{CompressionMethod, ZipArchive};

use super::layout::Stored;
use super::pickle::{self, Heap, Id};
use super::{Bytes, Fault};

/// Entries of an archive at most.
pub const MAX_ENTRIES: usize = 1 << 18;
/// How many times larger than their packed forms all storages may be together.
pub const MAX_RATIO: u64 = 100;
/// Bytes of all storages up to which any ratio is believed.
pub const RATIO_FREE_BYTES: u64 = 64 << 20;

/// How the pickle is called in errors.
const PICKLE: &str = "data.pkl";

pub(super) fn read(
    bytes: &mut Box<dyn Bytes>,
    heap: &mut Heap,
) -> Result<(Id, Vec<Stored>), Fault> {
    let file_len = bytes.seek(SeekFrom::End(0)).map_err(Fault::Read)?;
    let mut archive = ZipArchive::new(bytes).map_err(zip_fault)?;
    if archive.len() > MAX_ENTRIES {
        return Err(Fault::Archive {
            why: "it has more than 262,144 entries",
        });
    }
    if archive.has_duplicate_names() {
        return Err(Fault::DuplicateEntry);
    }
    let folder = Folder::find(&archive)?;
    if let Some(&number) = folder.entries.get("byteorder") {
        let mut order = Vec::new();
        let entry = archive.by_index(number).map_err(zip_fault)?;
        entry
            .take(16)
            .read_to_end(&mut order)
            .map_err(Fault::Read)?;
        match &*order {
            b"little" => {}
            b"big" => return Err(Fault::BigEndian),
            _ => {
                return Err(Fault::Archive {
                    why: "its `byteorder` is neither `little` nor `big`",
                });
            }
        }
    }
    let mut entry = archive.by_index(folder.pickle).map_err(zip_fault)?;
    let root = pickle::load(&mut entry, PICKLE, heap)?;
    drop(entry);
    let mut data = Vec::new();
    let (mut packed, mut unpacked) = (0_u64, 0_u64);
    for storage in heap.storages() {
        let missing = || Fault::MissingStorage {
            key: storage.key.clone(),
        };
        let number = folder.entries.get(&*format!("data/{}", storage.key));
        let entry = archive
            .by_index_raw(*number.ok_or_else(missing)?)
            .map_err(zip_fault)?;
        let stored = Stored {
            key: storage.key.clone(),
            at: entry.data_start().ok_or_else(missing)?,
            len: entry.size(),
            packed: match entry.compression() {
                CompressionMethod::Stored => None,
                CompressionMethod::Deflated => Some(entry.compressed_size()),
                _ => {
                    return Err(Fault::Archive {
                        why: "a storage is compressed in another way than deflate",
                    });
                }
            },
            // Writers that were told to compute none leave a zero.
            crc: Some(entry.crc32()).filter(|&crc| crc != 0),
        };
        if entry.encrypted() {
            return Err(Fault::Archive {
                why: "a storage is encrypted",
            });
        }
        check_size(&stored, entry.compressed_size(), storage)?;
        packed = packed.saturating_add(entry.compressed_size());
        unpacked = unpacked.saturating_add(stored.len);
        if packed > file_len {
            return Err(Fault::Archive {
                why: "its storages overlap or reach past its end",
            });
        }
        if unpacked > RATIO_FREE_BYTES && unpacked / MAX_RATIO > packed {
            return Err(Fault::Bomb { packed, unpacked });
        }
        data.push(stored);
    }
    Ok((root, data))
}

/// Compares what the archive and the pickle say about a storage's size.
fn check_size(stored: &Stored, packed: u64, storage: &pickle::Storage) -> Result<(), Fault> {
    let expected = storage.element().saturating_mul(storage.len);
    if stored.len != expected {
        return Err(Fault::StorageSize {
            key: stored.key.clone(),
            expected,
            found: stored.len,
        });
    }
    if stored.packed.is_none() && packed != stored.len {
        return Err(Fault::StorageSize {
            key: stored.key.clone(),
            expected,
            found: packed,
        });
    }
    Ok(())
}

/// The entries of the one folder, by their names in it.
struct Folder {
    entries: HashMap<String, usize>,
    pickle: usize,
}

impl Folder {
    fn find<R: Read + Seek>(archive: &ZipArchive<R>) -> Result<Self, Fault> {
        let mut pickles = Vec::new();
        for name in archive.file_names_raw() {
            if let Some((folder, "data.pkl")) = split(name) {
                pickles.push(folder.to_owned());
            }
        }
        let folder = match &*pickles {
            [folder] => folder,
            [] => {
                return Err(Fault::Archive {
                    why: "it has no `data.pkl` in a folder",
                });
            }
            _ => {
                return Err(Fault::Archive {
                    why: "it has `data.pkl` in several folders",
                });
            }
        };
        let names = archive.file_names_raw().enumerate();
        let entries: HashMap<String, usize> = names
            .filter_map(|(number, name)| match split(name) {
                Some((of, name)) if of == folder => Some((name.to_owned(), number)),
                _ => None,
            })
            .collect();
        if entries.contains_key("constants.pkl")
            || entries.keys().any(|name| name.starts_with("code/"))
        {
            return Err(Fault::TorchScript);
        }
        let pickle = entries.get(PICKLE).copied();
        Ok(Self {
            pickle: pickle.ok_or(Fault::Archive {
                why: "it has no `data.pkl` in a folder",
            })?,
            entries,
        })
    }
}

fn split(name: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(name).ok()?.split_once('/')
}

fn zip_fault(error: zip::result::ZipError) -> Fault {
    match error {
        zip::result::ZipError::Io(error)
            if error.kind() != std::io::ErrorKind::UnexpectedEof
                && error.kind() != std::io::ErrorKind::InvalidData
                && error.kind() != std::io::ErrorKind::InvalidInput =>
        {
            Fault::Read(error)
        }
        error => Fault::Zip(error.to_string().escape_debug().to_string()),
    }
}
