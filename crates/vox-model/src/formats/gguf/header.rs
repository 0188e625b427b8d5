//! What the first bytes of a file say.

use std::collections::HashSet;
use std::io::{self, Read};
use std::ops::Range;

use super::error::{GgufError, GgufFault};
use super::metadata::{Array, MAX_NESTING, Metadata, Value};
use super::types::GgmlType;

/// The longest header that is read, in bytes. The largest vocabularies take about 20 MB.
pub const MAX_HEADER_BYTES: u64 = 128 << 20;

/// The most dimensions of a tensor, as ggml has it.
pub const MAX_TENSOR_DIMENSIONS: u32 = 4;

/// The most tensors, and the most metadata keys: hundreds of times what models have.
const MAX_ENTRIES: u64 = 1 << 18;

/// What a file's tensors are aligned to when it does not say.
const DEFAULT_ALIGNMENT: u32 = 32;

/// Room that is made before it is known how much really comes.
const FIRST_ROOM: usize = 1 << 12;

/// A header that has been checked against the file's length.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    version: u32,
    metadata: Metadata,
    tensors: Vec<StoredTensor>,
    data_offset: u64,
}

/// A tensor as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// Its name.
    pub name: String,
    /// The type of its blocks.
    pub kind: GgmlType,
    /// Its dimensions, the slowest first: the reverse of the file's order.
    pub shape: Vec<u64>,
    /// Where its data stand, in bytes from the file's beginning.
    pub range: Range<u64>,
}

impl StoredTensor {
    /// Elements of a row; whole blocks.
    pub fn row_len(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> u64 {
        self.kind.bytes_of(self.row_len()).unwrap_or(0)
    }

    /// Number of rows, over all dimensions but the last.
    pub fn rows(&self) -> u64 {
        let slower = self.shape.split_last().map(|(_, slower)| slower);
        slower.unwrap_or_default().iter().product()
    }
}

/// Why a header could not be read: what is wrong with it, or that reading failed.
#[derive(Debug)]
pub(super) enum ReadError {
    Fault(GgufFault),
    Io(io::Error),
}

impl From<GgufFault> for ReadError {
    fn from(fault: GgufFault) -> Self {
        Self::Fault(fault)
    }
}

impl Header {
    /// Reads the header of a file of `file_len` bytes whose first bytes come out of `input`.
    ///
    /// No more than the header is needed of `input`, and no more than a few times what it really
    /// gives is held, whatever the header claims.
    ///
    /// # Errors
    ///
    /// [`GgufFault`] as [`io::ErrorKind::InvalidData`], or what `input` fails with.
    pub fn read(input: &mut dyn Read, file_len: u64) -> io::Result<Self> {
        Self::read_checked(input, file_len).map_err(|error| match error {
            ReadError::Fault(fault) => io::Error::new(io::ErrorKind::InvalidData, fault),
            ReadError::Io(error) => error,
        })
    }

    /// As [`read`](Self::read), out of memory.
    ///
    /// # Errors
    ///
    /// What is wrong with the header.
    pub fn parse(mut bytes: &[u8], file_len: u64) -> Result<Self, GgufFault> {
        Self::read_checked(&mut bytes, file_len).map_err(|error| match error {
            ReadError::Fault(fault) => fault,
            ReadError::Io(_) => GgufFault::Truncated { what: "its header" },
        })
    }

    pub(super) fn read_checked(input: &mut dyn Read, file_len: u64) -> Result<Self, ReadError> {
        let mut reader = Reader {
            input,
            position: 0,
            end: file_len.min(MAX_HEADER_BYTES),
            file_len,
        };
        let version = reader.preamble()?;
        let tensor_count = reader.u64("the number of tensors")?;
        let key_count = reader.u64("the number of metadata keys")?;
        // A tensor takes the lengths of its name and dimensions, its type and its offset; a key takes
        // its length, its type and a byte.
        reader.count("tensors", tensor_count, 24)?;
        reader.count("metadata keys", key_count, 13)?;
        for (what, count) in [("tensors", tensor_count), ("metadata keys", key_count)] {
            if count > MAX_ENTRIES {
                return Err(GgufFault::Count { what, count }.into());
            }
        }
        let mut metadata = Metadata::default();
        for _ in 0..key_count {
            let key = reader.text("the metadata keys")?;
            let number = reader.u32("the metadata")?;
            let value = reader.value(&key, number)?;
            metadata.insert(key, value)?;
        }
        let mut raw = Vec::new();
        let mut names = HashSet::new();
        for _ in 0..tensor_count {
            let tensor = reader.tensor()?;
            if !names.insert(tensor.name.clone()) {
                return Err(GgufFault::DuplicateTensor { name: tensor.name }.into());
            }
            raw.push(tensor);
        }
        let alignment = alignment(&metadata)?;
        let data_offset = reader.position.next_multiple_of(alignment.into());
        let tensors = placed(raw, data_offset, alignment, file_len)?;
        Ok(Self {
            version,
            metadata,
            tensors,
            data_offset,
        })
    }

    /// 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors in the file's order.
    pub fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    /// Where the tensors' data begin, in bytes from the file's beginning.
    pub fn data_offset(&self) -> u64 {
        self.data_offset
    }
}

impl ReadError {
    pub(super) fn with_path(self, path: &std::path::Path) -> GgufError {
        let path = path.to_owned();
        match self {
            Self::Fault(fault) => GgufError::File { path, fault },
            Self::Io(source) => GgufError::Io {
                action: "read",
                path,
                source,
            },
        }
    }
}

fn alignment(metadata: &Metadata) -> Result<u32, GgufFault> {
    let Some(alignment) = metadata.whole("general.alignment")? else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    let alignment = u32::try_from(alignment).unwrap_or(u32::MAX);
    if !alignment.is_power_of_two() {
        return Err(GgufFault::Alignment { alignment });
    }
    Ok(alignment)
}

/// A tensor whose place is not checked yet.
struct RawTensor {
    name: String,
    kind: GgmlType,
    shape: Vec<u64>,
    offset: u64,
}

/// The tensors with their places in the file, none of which overlap.
fn placed(
    raw: Vec<RawTensor>,
    data_offset: u64,
    alignment: u32,
    file_len: u64,
) -> Result<Vec<StoredTensor>, GgufFault> {
    let mut tensors = Vec::with_capacity(raw.len());
    for RawTensor {
        name,
        kind,
        shape,
        offset,
    } in raw
    {
        let row = shape.last().copied().unwrap_or(1);
        if row % kind.block_len() != 0 {
            return Err(GgufFault::PartialBlock {
                tensor: name,
                kind,
                row,
            });
        }
        // Every product that is ever formed of these dimensions fits.
        let elements = shape.iter().try_fold(1_u64, |product, &dimension| {
            product.checked_mul(dimension.max(1))
        });
        let overflow = GgufFault::SizeOverflow {
            tensor: name.clone(),
        };
        let Some(largest) = elements.filter(|&count| count.checked_mul(8).is_some()) else {
            return Err(overflow);
        };
        let empty = shape.contains(&0);
        let Some(bytes) = kind.bytes_of(if empty { 0 } else { largest }) else {
            return Err(overflow);
        };
        if offset % u64::from(alignment) != 0 {
            return Err(GgufFault::Unaligned {
                tensor: name,
                offset,
                alignment,
            });
        }
        let start = data_offset.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(bytes));
        let (Some(start), Some(end)) = (start, end) else {
            return Err(overflow);
        };
        if end > file_len {
            return Err(GgufFault::OutOfBounds {
                tensor: name,
                end,
                file: file_len,
            });
        }
        tensors.push(StoredTensor {
            name,
            kind,
            shape,
            range: start..end,
        });
    }
    let mut by_place: Vec<&StoredTensor> = tensors.iter().collect();
    by_place.sort_by_key(|tensor| (tensor.range.start, tensor.range.end));
    for pair in by_place.windows(2) {
        if let [first, second] = pair
            && second.range.start < first.range.end
        {
            return Err(GgufFault::Overlap {
                first: first.name.clone(),
                second: second.name.clone(),
            });
        }
    }
    Ok(tensors)
}

/// Reads values one after another and knows how much can still come.
struct Reader<'a> {
    input: &'a mut dyn Read,
    position: u64,
    end: u64,
    file_len: u64,
}

impl Reader<'_> {
    fn preamble(&mut self) -> Result<u32, ReadError> {
        let magic: [u8; 4] = self.bytes("the magic number")?;
        if &magic != b"GGUF" {
            return Err(GgufFault::Magic { found: magic }.into());
        }
        match self.u32("the version")? {
            version @ (2 | 3) => Ok(version),
            version if version != 0 && version & 0xffff == 0 => Err(GgufFault::BigEndian.into()),
            version => Err(GgufFault::Version { version }.into()),
        }
    }

    /// What is said of a header that goes on past [`end`](Self::end).
    fn past_end(&self, what: &'static str) -> GgufFault {
        if self.end < self.file_len {
            GgufFault::HeaderTooLarge
        } else {
            GgufFault::Truncated { what }
        }
    }

    fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ReadError> {
        if self.end.saturating_sub(self.position) < N as u64 {
            return Err(self.past_end(what).into());
        }
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                ReadError::Fault(GgufFault::Truncated { what })
            } else {
                ReadError::Io(error)
            }
        })?;
        self.position += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, ReadError> {
        self.bytes(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, ReadError> {
        self.bytes(what).map(u64::from_le_bytes)
    }

    /// Refuses a count of things that take at least so many bytes each, where those cannot come.
    fn count(&self, what: &'static str, count: u64, bytes: u64) -> Result<(), GgufFault> {
        let left = self.end.saturating_sub(self.position);
        match count.checked_mul(bytes) {
            Some(needed) if needed <= left => Ok(()),
            _ => Err(GgufFault::Count { what, count }),
        }
    }

    fn text(&mut self, what: &'static str) -> Result<String, ReadError> {
        let len = self.u64(what)?;
        if len > self.end.saturating_sub(self.position) {
            return Err(GgufFault::TextTooLong { what, len }.into());
        }
        let room = usize::try_from(len).unwrap_or(usize::MAX).min(FIRST_ROOM);
        let mut bytes = Vec::with_capacity(room);
        let mut input = (&mut *self.input).take(len);
        input.read_to_end(&mut bytes).map_err(ReadError::Io)?;
        if bytes.len() as u64 != len {
            return Err(GgufFault::Truncated { what }.into());
        }
        self.position += len;
        let text = String::from_utf8(bytes).map_err(|error| GgufFault::NotUtf8 {
            what: what.to_owned(),
            at: error.utf8_error().valid_up_to(),
        })?;
        Ok(text)
    }

    fn tensor(&mut self) -> Result<RawTensor, ReadError> {
        let name = self.text("the tensors' names")?;
        let what = "the list of tensors";
        let count = self.u32(what)?;
        if count > MAX_TENSOR_DIMENSIONS {
            return Err(GgufFault::Dimensions {
                tensor: name,
                count,
            }
            .into());
        }
        let mut shape = Vec::new();
        for _ in 0..count {
            shape.push(self.u64(what)?);
        }
        shape.reverse();
        let number = self.u32(what)?;
        let offset = self.u64(what)?;
        let Some(kind) = GgmlType::from_number(number) else {
            return Err(GgufFault::TensorType {
                tensor: name,
                number,
            }
            .into());
        };
        Ok(RawTensor {
            name,
            kind,
            shape,
            offset,
        })
    }

    fn value(&mut self, key: &str, number: u32) -> Result<Value, ReadError> {
        let what = "the metadata";
        Ok(match number {
            0 => Value::U8(u8::from_le_bytes(self.bytes(what)?)),
            1 => Value::I8(i8::from_le_bytes(self.bytes(what)?)),
            2 => Value::U16(u16::from_le_bytes(self.bytes(what)?)),
            3 => Value::I16(i16::from_le_bytes(self.bytes(what)?)),
            4 => Value::U32(u32::from_le_bytes(self.bytes(what)?)),
            5 => Value::I32(i32::from_le_bytes(self.bytes(what)?)),
            6 => Value::F32(f32::from_le_bytes(self.bytes(what)?)),
            7 => Value::Bool(self.bool(key)?),
            8 => Value::Text(self.text_of(key)?),
            9 => Value::Array(self.array(key, 1)?),
            10 => Value::U64(u64::from_le_bytes(self.bytes(what)?)),
            11 => Value::I64(i64::from_le_bytes(self.bytes(what)?)),
            12 => Value::F64(f64::from_le_bytes(self.bytes(what)?)),
            number => return Err(unknown_type(key, number)),
        })
    }

    fn bool(&mut self, key: &str) -> Result<bool, ReadError> {
        match self.bytes::<1>("the metadata")? {
            [0] => Ok(false),
            [1] => Ok(true),
            [found] => Err(GgufFault::Bool {
                key: key.to_owned(),
                found,
            }
            .into()),
        }
    }

    /// A text in the metadata; where it is not UTF-8, the key is named.
    fn text_of(&mut self, key: &str) -> Result<String, ReadError> {
        self.text("the metadata").map_err(|error| match error {
            ReadError::Fault(GgufFault::NotUtf8 { at, .. }) => GgufFault::NotUtf8 {
                what: format!("the metadata key `{}`", key.escape_debug()),
                at,
            }
            .into(),
            error => error,
        })
    }

    fn array(&mut self, key: &str, depth: usize) -> Result<Array, ReadError> {
        if depth > MAX_NESTING {
            return Err(GgufFault::Nesting {
                key: key.to_owned(),
            }
            .into());
        }
        let what = "the metadata";
        let number = self.u32(what)?;
        let count = self.u64(what)?;
        let least = match number {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => 12,
            number => return Err(unknown_type(key, number)),
        };
        self.count("values of a metadata key", count, least)?;
        macro_rules! numbers {
            ($variant:ident, $type:ty) => {
                Array::$variant(self.items(count, |reader| {
                    reader.bytes(what).map(<$type>::from_le_bytes)
                })?)
            };
        }
        Ok(match number {
            0 => numbers!(U8, u8),
            1 => numbers!(I8, i8),
            2 => numbers!(U16, u16),
            3 => numbers!(I16, i16),
            4 => numbers!(U32, u32),
            5 => numbers!(I32, i32),
            6 => numbers!(F32, f32),
            7 => Array::Bool(self.items(count, |reader| reader.bool(key))?),
            8 => Array::Text(self.items(count, |reader| reader.text_of(key))?),
            9 => Array::Array(self.items(count, |reader| reader.array(key, depth + 1))?),
            10 => numbers!(U64, u64),
            11 => numbers!(I64, i64),
            12 => numbers!(F64, f64),
            number => return Err(unknown_type(key, number)),
        })
    }

    fn items<T>(
        &mut self,
        count: u64,
        mut read: impl FnMut(&mut Self) -> Result<T, ReadError>,
    ) -> Result<Vec<T>, ReadError> {
        let room = usize::try_from(count).unwrap_or(usize::MAX).min(FIRST_ROOM);
        let mut items = Vec::with_capacity(room);
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }
}

fn unknown_type(key: &str, number: u32) -> ReadError {
    GgufFault::ValueType {
        key: key.to_owned(),
        number,
    }
    .into()
}
