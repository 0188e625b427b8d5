//! The one file that given tensors make.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::error::SafeTensorsError;
use super::header::{MAX_HEADER_BYTES, PREFIX_BYTES};
use crate::{Dtype, TensorInfo, TensorSource};

/// A tensor that is to be written: what it is in the file, and which one of the source's it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its number among the [`TensorSource::tensors`] that it comes from.
    pub index: usize,
    /// What it is in the file; its name there may be another one than in the source.
    pub info: TensorInfo,
}

/// A file that is to be written: its header and the order of its tensors are settled, so its length
/// is known before a byte of data is.
///
/// The order is that of the format's own library: wider elements first, then by name; and the
/// header is padded with spaces to a multiple of 8 bytes. So equal tensors give equal bytes.
#[derive(Debug, Clone)]
pub struct WritePlan {
    header: Vec<u8>,
    tensors: Vec<PlannedTensor>,
    data_len: u64,
}

impl WritePlan {
    /// A file of all tensors of a source under their own names.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn new(
        tensors: &[TensorInfo],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, SafeTensorsError> {
        let planned = tensors.iter().cloned().enumerate();
        let planned = planned.map(|(index, info)| PlannedTensor { index, info });
        Self::of(planned.collect(), metadata)
    }

    /// A file of these tensors.
    ///
    /// # Errors
    ///
    /// [`SafeTensorsError::SameName`], [`ReservedName`](SafeTensorsError::ReservedName),
    /// [`TooLarge`](SafeTensorsError::TooLarge) and
    /// [`HeaderTooLarge`](SafeTensorsError::HeaderTooLarge).
    pub fn of(
        mut tensors: Vec<PlannedTensor>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, SafeTensorsError> {
        tensors.sort_by(|left, right| {
            let (left, right) = (&left.info, &right.info);
            let by_type = rank(right.dtype).cmp(&rank(left.dtype));
            by_type.then_with(|| left.name.cmp(&right.name))
        });
        let mut names = HashSet::with_capacity(tensors.len());
        let mut data_len = 0_u64;
        let mut entries = Vec::with_capacity(tensors.len());
        for PlannedTensor { info, .. } in &tensors {
            if info.name == "__metadata__" {
                return Err(SafeTensorsError::ReservedName);
            }
            if !names.insert(info.name.as_str()) {
                return Err(SafeTensorsError::SameName {
                    name: info.name.clone(),
                });
            }
            let end = info.byte_len().and_then(|len| data_len.checked_add(len));
            let end = end.filter(|&end| end < (1 << 63) - MAX_HEADER_BYTES - PREFIX_BYTES);
            let end = end.ok_or_else(|| SafeTensorsError::TooLarge {
                name: info.name.clone(),
            })?;
            entries.push((info, (data_len, end)));
            data_len = end;
        }
        let header = header(&entries, metadata)?;
        Ok(Self {
            header,
            tensors,
            data_len,
        })
    }

    /// The file's length in bytes.
    pub fn len(&self) -> u64 {
        self.header.len() as u64 + self.data_len
    }

    /// Never: a file has a header at least.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Bytes of all tensors' data.
    pub fn data_len(&self) -> u64 {
        self.data_len
    }

    /// The tensors in the order in which they are written.
    pub fn tensors(&self) -> &[PlannedTensor] {
        &self.tensors
    }

    /// Writes the file. `progress` hears after each tensor how many bytes of the file are written.
    ///
    /// # Errors
    ///
    /// What reading or writing fails with, and [`io::ErrorKind::InvalidData`] when the source gives
    /// another number of bytes for a tensor than its shape takes.
    pub fn write(
        &self,
        source: &dyn TensorSource,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        out.write_all(&self.header)?;
        let mut written = self.header.len() as u64;
        progress(written);
        for tensor in &self.tensors {
            let needed = tensor.info.byte_len().unwrap_or(u64::MAX);
            let mut counted = Counted {
                out,
                left: needed,
                passed: false,
            };
            source.write_tensor(tensor.index, &mut counted)?;
            if counted.left != 0 {
                return Err(wrong_length(&tensor.info, needed));
            }
            written = written.saturating_add(needed);
            progress(written);
        }
        Ok(())
    }
}

fn wrong_length(info: &TensorInfo, needed: u64) -> io::Error {
    let name = info.name.escape_debug();
    let message = format!("the tensor `{name}` takes {needed} bytes, but its source gave fewer");
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Passes on as many bytes as a tensor takes, and refuses the next one.
struct Counted<'a> {
    out: &'a mut dyn Write,
    left: u64,
    passed: bool,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len() as u64;
        if self.passed || count > self.left {
            self.passed = true;
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the source gave more bytes for a tensor than its shape takes",
            ));
        }
        let written = self.out.write(bytes)?;
        self.left = self.left.saturating_sub(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The place of a type in the order in which the format's own library writes them, last ones first.
const fn rank(dtype: Dtype) -> u8 {
    match dtype {
        Dtype::Bool => 0,
        Dtype::U8 => 1,
        Dtype::I8 => 2,
        Dtype::F8E5M2 => 3,
        Dtype::F8E4M3 => 4,
        Dtype::F8E8M0 => 5,
        Dtype::I16 => 6,
        Dtype::U16 => 7,
        Dtype::F16 => 8,
        Dtype::BF16 => 9,
        Dtype::I32 => 10,
        Dtype::U32 => 11,
        Dtype::F32 => 12,
        Dtype::C64 => 13,
        Dtype::F64 => 14,
        Dtype::I64 => 15,
        Dtype::U64 => 16,
    }
}

type Entry<'a> = (&'a TensorInfo, (u64, u64));

/// The length and the header, padded.
fn header(
    entries: &[Entry<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, SafeTensorsError> {
    let mut bytes = vec![0; 8];
    // Writing to memory cannot fail, and every key is text.
    let mut serializer = serde_json::Serializer::new(&mut bytes);
    let written = HeaderJson { entries, metadata }.serialize(&mut serializer);
    let len = bytes.len().saturating_sub(8).next_multiple_of(8);
    if written.is_err() || len as u64 > MAX_HEADER_BYTES {
        return Err(SafeTensorsError::HeaderTooLarge { bytes: len as u64 });
    }
    bytes.resize(len + 8, b' ');
    if let Some(prefix) = bytes.first_chunk_mut::<8>() {
        *prefix = (len as u64).to_le_bytes();
    }
    Ok(bytes)
}

struct HeaderJson<'a> {
    entries: &'a [Entry<'a>],
    metadata: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct EntryJson<'a> {
    dtype: &'static str,
    shape: &'a [u64],
    data_offsets: (u64, u64),
}

impl Serialize for HeaderJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry("__metadata__", self.metadata)?;
        }
        for (info, data_offsets) in self.entries {
            let entry = EntryJson {
                dtype: info.dtype.name(),
                shape: &info.shape,
                data_offsets: *data_offsets,
            };
            map.serialize_entry(&info.name, &entry)?;
        }
        map.end()
    }
}
