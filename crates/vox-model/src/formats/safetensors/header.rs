//! What the first bytes of a file say.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::error::HeaderFault;
use super::json::{RawHeader, RawTensor};
use crate::{Dtype, TensorInfo};

/// The longest header, in bytes, as the format's own library has it.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The most dimensions of a tensor.
pub const MAX_RANK: usize = 64;

/// Bytes of the header's length, which the file begins with.
pub(super) const PREFIX_BYTES: u64 = 8;

/// A header that has been checked against the file's length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    tensors: Vec<TensorInfo>,
    ranges: Vec<Range<u64>>,
    metadata: BTreeMap<String, String>,
    len: u64,
}

impl Header {
    /// Reads the header of a file of `file_len` bytes that begins with `bytes`: at least the 8 bytes
    /// of the length and the header itself.
    ///
    /// # Errors
    ///
    /// What is wrong with it. Bytes that end before the header does are
    /// [`HeaderFault::Truncated`] or [`HeaderFault::LongerThanFile`].
    pub fn parse(bytes: &[u8], file_len: u64) -> Result<Self, HeaderFault> {
        let len = Self::claimed_len(bytes, file_len)?;
        let rest = bytes.get(8..).unwrap_or_default();
        let text = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        let text = text.ok_or(HeaderFault::LongerThanFile {
            header: len,
            file: bytes.len() as u64,
        })?;
        Self::parse_text(text, file_len)
    }

    /// The header's length as the first 8 bytes give it, once that is possible in such a file.
    pub(super) fn claimed_len(bytes: &[u8], file_len: u64) -> Result<u64, HeaderFault> {
        let prefix = bytes.first_chunk::<8>();
        let prefix = prefix.ok_or(HeaderFault::Truncated { len: file_len })?;
        let len = u64::from_le_bytes(*prefix);
        let after = file_len.checked_sub(PREFIX_BYTES);
        let after = after.ok_or(HeaderFault::Truncated { len: file_len })?;
        if len > MAX_HEADER_BYTES {
            return Err(HeaderFault::TooLarge { bytes: len });
        }
        if len > after {
            return Err(HeaderFault::LongerThanFile {
                header: len,
                file: file_len,
            });
        }
        Ok(len)
    }

    /// Reads the header's JSON.
    pub(super) fn parse_text(text: &[u8], file_len: u64) -> Result<Self, HeaderFault> {
        let text = str::from_utf8(text).map_err(|error| HeaderFault::NotUtf8 {
            at: error.valid_up_to(),
        })?;
        if !text.starts_with('{') {
            return Err(HeaderFault::NotAnObject);
        }
        let raw: RawHeader = serde_json::from_str(text).map_err(|error| HeaderFault::Json {
            line: error.line(),
            column: error.column(),
            why: without_place(&error),
        })?;
        let len = text.len() as u64;
        let metadata = metadata(&raw)?;
        let (tensors, ranges) = tensors(raw.tensors, PREFIX_BYTES + len, file_len)?;
        Ok(Self {
            tensors,
            ranges,
            metadata,
            len,
        })
    }

    /// The tensors in the order of their data.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Where the data of tensor number `index` stand, in bytes from the file's beginning.
    pub fn data_range(&self, index: usize) -> Option<Range<u64>> {
        self.ranges.get(index).cloned()
    }

    /// What stands under `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Where the data of the first tensor begin, in bytes from the file's beginning.
    pub fn data_offset(&self) -> u64 {
        PREFIX_BYTES + self.len
    }
}

/// The message of a JSON error without the place, which is told apart.
pub(super) fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ") {
        Some(end) => message.get(..end).unwrap_or(&message).to_owned(),
        None => message,
    }
}

fn metadata(raw: &RawHeader) -> Result<BTreeMap<String, String>, HeaderFault> {
    if raw.metadata.len() > 1 {
        return Err(HeaderFault::DuplicateMetadata {
            key: "__metadata__".to_owned(),
        });
    }
    let mut metadata = BTreeMap::new();
    for (key, value) in raw.metadata.iter().flat_map(|metadata| &metadata.0) {
        let value = value
            .clone()
            .ok_or_else(|| HeaderFault::MetadataNotText { key: key.clone() })?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(HeaderFault::DuplicateMetadata { key: key.clone() });
        }
    }
    Ok(metadata)
}

/// The tensors in the order of their data, with where those stand in the file.
fn tensors(
    raw: Vec<(String, RawTensor)>,
    data_offset: u64,
    file_len: u64,
) -> Result<(Vec<TensorInfo>, Vec<Range<u64>>), HeaderFault> {
    let mut names = HashSet::with_capacity(raw.len());
    if let Some((name, _)) = raw.iter().find(|(name, _)| !names.insert(name.as_str())) {
        return Err(HeaderFault::DuplicateTensor { name: name.clone() });
    }
    drop(names);
    let available = file_len.saturating_sub(data_offset);
    let mut sized = raw
        .into_iter()
        .map(|(name, tensor)| sized(name, tensor, available))
        .collect::<Result<Vec<_>, _>>()?;
    // Tensors of no bytes may stand where another begins.
    sized.sort_by(|(left, a), (right, b)| {
        (a.start, a.end, &left.name).cmp(&(b.start, b.end, &right.name))
    });
    let mut end = 0;
    let mut previous = "";
    for (tensor, range) in &sized {
        if range.start < end {
            return Err(HeaderFault::Overlap {
                first: previous.to_owned(),
                second: tensor.name.clone(),
            });
        }
        if range.start > end {
            return Err(HeaderFault::Hole {
                tensor: tensor.name.clone(),
                bytes: range.start - end,
            });
        }
        end = range.end;
        previous = &tensor.name;
    }
    if end < available {
        return Err(HeaderFault::TrailingBytes {
            bytes: available - end,
        });
    }
    let absolute = |range: Range<u64>| data_offset + range.start..data_offset + range.end;
    Ok(sized
        .into_iter()
        .map(|(tensor, range)| (tensor, absolute(range)))
        .unzip())
}

/// A tensor whose data have the size that its shape needs and lie in the file.
fn sized(
    name: String,
    raw: RawTensor,
    available: u64,
) -> Result<(TensorInfo, Range<u64>), HeaderFault> {
    let (begin, end) = raw.data_offsets;
    let shape = raw.shape.0;
    if shape.len() > MAX_RANK {
        return Err(HeaderFault::TooManyDimensions { tensor: name });
    }
    let Ok(dtype) = raw.dtype.parse::<Dtype>() else {
        return Err(HeaderFault::UnknownDtype {
            tensor: name,
            dtype: raw.dtype,
        });
    };
    let info = TensorInfo { name, dtype, shape };
    let Some(needed) = info.byte_len() else {
        return Err(HeaderFault::SizeOverflow { tensor: info.name });
    };
    if end.checked_sub(begin) != Some(needed) {
        return Err(HeaderFault::SizeMismatch {
            tensor: info.name,
            dtype,
            shape: info.shape,
            needed,
            begin,
            end,
        });
    }
    if end > available {
        return Err(HeaderFault::OutOfBounds {
            tensor: info.name,
            end,
            available,
        });
    }
    Ok((info, begin..end))
}
