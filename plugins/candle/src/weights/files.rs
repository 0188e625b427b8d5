//! Which files hold the weights, and what their headers say.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use safetensors::SafeTensors;

use super::{Element, TensorInfo, Weights};
use crate::architecture::fields::{Fields, read_object};
use crate::error::{Error, Result};

/// The bytes of a SafeTensors file before its header: the header's length.
const LENGTH_BYTES: usize = 8;

/// A tensor: where its bytes lie, and what they are.
#[derive(Debug)]
pub(super) struct Entry {
    /// The number of the file.
    pub(super) file: usize,
    /// The bytes in the file.
    pub(super) range: Range<usize>,
    pub(super) info: TensorInfo,
}

/// A file in the address space.
#[derive(Debug)]
pub(super) struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// Maps a file and reads its header.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<(String, Entry)>)> {
        let file = fs::File::open(path).map_err(Error::io("open", path))?;
        // SAFETY: bundles are content of the store, whose files are written once and then never changed, and a
        // byte that changes all the same changes numbers alone: nothing here trusts what it read twice.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(Error::format(path))?;
        let notes = metadata.metadata().as_ref();
        let mut entries = Vec::new();
        for (name, stored) in metadata.tensors() {
            let start = LENGTH_BYTES + header;
            let (from, to) = stored.data_offsets;
            let bytes = to - from;
            entries.push((
                name.clone(),
                Entry {
                    file: 0,
                    range: start + from..start + to,
                    info: info(path, &name, stored, bytes, notes)?,
                },
            ));
        }
        let file = Self {
            path: path.to_path_buf(),
            map,
        };
        Ok((file, entries))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Gives memory back that holds a part of the file. Whoever reads the part again has it from the file.
    pub(super) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        {
            let unused = UncheckedAdvice::DontNeed;
            // SAFETY: the map is of a file and read-only, so a page that is given back comes again as it was: none
            // holds anything that the file does not.
            let advised = unsafe {
                self.map
                    .unchecked_advise_range(unused, range.start, range.len())
            };
            // Where the system does not take the advice, the memory stays in use.
            let _ = advised;
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

/// What a tensor is: that of the header, or that of the note on its blocks.
fn info(
    path: &Path,
    name: &str,
    stored: &safetensors::tensor::TensorInfo,
    bytes: usize,
    notes: Option<&HashMap<String, String>>,
) -> Result<TensorInfo> {
    let key = format!("ggml.{name}");
    let Some(note) = notes.and_then(|notes| notes.get(&key)) else {
        return Ok(TensorInfo {
            element: Element::of(stored.dtype),
            shape: stored.shape.clone(),
        });
    };
    let refuse = |why: &str| Error::Format {
        path: path.to_path_buf(),
        why: format!(
            "`__metadata__` says `{}` of `{name}`, {why}",
            note.escape_debug()
        ),
    };
    let (kind, shape) = Element::of_note(note)
        .ok_or_else(|| refuse("which is no type of blocks that is read here with a shape"))?;
    let product = shape
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size));
    let row = shape.last().copied().unwrap_or(0);
    let fits = product.is_some_and(|elements| {
        let blocks = elements / kind.block_size();
        row.is_multiple_of(kind.block_size()) && blocks.checked_mul(kind.type_size()) == Some(bytes)
    });
    if !fits {
        return Err(refuse(&format!("which does not make its {bytes} bytes")));
    }
    Ok(TensorInfo {
        element: Element::Blocks(kind),
        shape,
    })
}

/// The weights whose tensors are in the files that an index names.
pub(super) fn sharded(directory: &Path, index: &Path) -> Result<Weights> {
    let object = read_object(index)?;
    let fields = Fields::new(index, &object);
    let map = fields.value("weight_map").and_then(|map| map.as_object());
    let map = map.ok_or_else(|| fields.fault("weight_map", "it is missing, or no object"))?;
    let mut shards = BTreeMap::new();
    for (tensor, shard) in map {
        let shard = shard.as_str().filter(|shard| is_file_name(shard));
        let shard = shard.ok_or_else(|| {
            fields.fault(&format!("weight_map.{tensor}"), "it is no name of a file")
        })?;
        if shards.insert(shard, tensor).is_none() && !directory.join(shard).is_file() {
            return Err(Error::MissingShard {
                index: index.to_path_buf(),
                shard: shard.to_owned(),
                tensor: tensor.clone(),
            });
        }
    }
    let paths: Vec<PathBuf> = shards.keys().map(|shard| directory.join(shard)).collect();
    let mut weights = Weights::of_files(directory, &paths)?;
    for (tensor, shard) in map {
        let held = weights.tensors.get(tensor);
        let place = held.map(|entry| weights.files[entry.file].path());
        let named = shard.as_str().map(|shard| directory.join(shard));
        if let Some(named) = named.filter(|named| place != Some(named)) {
            return Err(Error::MissingTensor {
                place: named,
                tensor: tensor.clone(),
            });
        }
    }
    // What shards hold beside what the index names is of no model.
    weights.tensors.retain(|name, _| map.contains_key(name));
    Ok(weights)
}

/// Whether a name is that of a file in the same directory.
fn is_file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}
