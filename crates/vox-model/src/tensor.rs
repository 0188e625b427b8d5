//! Tensors by name, as every format gives and takes them.
//!
//! A [`TensorSource`] is a file, or several, of which each tensor can be asked for once its name, type
//! and shape are known. What must stay true: the bytes that a source writes for a tensor are exactly
//! [`TensorInfo::byte_len`] bytes, little-endian, in row-major order (the last dimension varies
//! fastest), whatever the file's own layout; and asking for one tensor never reads the whole file.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

/// The type of a tensor's elements, by the names of the
/// [SafeTensors format](https://github.com/huggingface/safetensors#format).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// A byte that is 0 or 1.
    Bool,
    /// Unsigned 8 bits.
    U8,
    /// Signed 8 bits.
    I8,
    /// 8-bit float with 5 bits of exponent.
    F8E5M2,
    /// 8-bit float with 4 bits of exponent.
    F8E4M3,
    /// 8-bit exponent, for scales.
    F8E8M0,
    /// Unsigned 16 bits.
    U16,
    /// Signed 16 bits.
    I16,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an [`F32`](Self::F32).
    BF16,
    /// Unsigned 32 bits.
    U32,
    /// Signed 32 bits.
    I32,
    /// IEEE 754 single precision.
    F32,
    /// A pair of [`F32`](Self::F32).
    C64,
    /// Unsigned 64 bits.
    U64,
    /// Signed 64 bits.
    I64,
    /// IEEE 754 double precision.
    F64,
}

impl Dtype {
    /// Every type.
    pub const ALL: &'static [Self] = &[
        Self::Bool,
        Self::U8,
        Self::I8,
        Self::F8E5M2,
        Self::F8E4M3,
        Self::F8E8M0,
        Self::U16,
        Self::I16,
        Self::F16,
        Self::BF16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::C64,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// The name in a SafeTensors header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::U8 => "U8",
            Self::I8 => "I8",
            Self::F8E5M2 => "F8_E5M2",
            Self::F8E4M3 => "F8_E4M3",
            Self::F8E8M0 => "F8_E8M0",
            Self::U16 => "U16",
            Self::I16 => "I16",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::U32 => "U32",
            Self::I32 => "I32",
            Self::F32 => "F32",
            Self::C64 => "C64",
            Self::U64 => "U64",
            Self::I64 => "I64",
            Self::F64 => "F64",
        }
    }

    /// Bytes of one element.
    pub const fn size(self) -> u64 {
        match self {
            Self::Bool | Self::U8 | Self::I8 | Self::F8E5M2 | Self::F8E4M3 | Self::F8E8M0 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::C64 | Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Dtype {
    type Err = UnknownDtype;

    fn from_str(text: &str) -> Result<Self, UnknownDtype> {
        let found = Self::ALL.iter().find(|dtype| dtype.name() == text);
        found.copied().ok_or_else(|| UnknownDtype(text.to_owned()))
    }
}

/// A name that is no [`Dtype`]'s.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no type of elements that Vox knows", .0.escape_debug())]
pub struct UnknownDtype(pub String);

/// What is known of a tensor before its data is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, unique within its source.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions, the slowest first; none for a scalar.
    pub shape: Vec<u64>,
}

impl TensorInfo {
    /// Number of elements; `None` when it passes 64 bits.
    pub fn elements(&self) -> Option<u64> {
        self.shape
            .iter()
            .try_fold(1_u64, |product, &dimension| product.checked_mul(dimension))
    }

    /// Bytes of its data; `None` when they pass 64 bits.
    pub fn byte_len(&self) -> Option<u64> {
        self.elements()?.checked_mul(self.dtype.size())
    }
}

/// Where tensors come from: a SafeTensors file, a GGUF file as it is dequantised, a PyTorch archive.
pub trait TensorSource {
    /// The tensors in the order in which the source holds them; every [`TensorInfo::byte_len`] is
    /// `Some`.
    fn tensors(&self) -> &[TensorInfo];

    /// Writes the data of tensor number `index` of [`tensors`](Self::tensors).
    ///
    /// # Errors
    ///
    /// Whatever reading or writing fails with; what is wrong with the source itself comes as
    /// [`io::ErrorKind::InvalidData`], which holds the format's own error.
    ///
    /// # Panics
    ///
    /// When there is no such tensor.
    fn write_tensor(&self, index: usize, out: &mut dyn Write) -> io::Result<()>;
}
