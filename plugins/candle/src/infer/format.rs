//! How weights are held in memory.

use std::fmt;
use std::str::FromStr;

use candle_core::DType;
use candle_core::quantized::GgmlDType;
use vox_quant::{BlockKind, Mix, Role};

use crate::architecture::Architecture;
use crate::error::{Error, Result};

/// How the matrices of a model are held in memory; its vectors are always plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightFormat {
    /// Single precision.
    F32,
    /// The upper half of single precision.
    BF16,
    /// Half precision.
    F16,
    /// Blocks of 32 weights of 8 bits with one scale.
    Q8_0,
    /// Blocks of 32 weights of 4 bits with one scale.
    Q4_0,
    /// Blocks of 256 weights of 4 bits, with the tensors that matter most at 6 bits.
    Q4KM,
}

impl WeightFormat {
    /// Every format, the most exact first.
    pub const ALL: &'static [Self] = &[
        Self::F32,
        Self::BF16,
        Self::F16,
        Self::Q8_0,
        Self::Q4KM,
        Self::Q4_0,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::BF16 => "bf16",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4KM => "q4_k_m",
        }
    }

    /// The type of plain numbers; `None` for blocks.
    pub(crate) const fn plain(self) -> Option<DType> {
        match self {
            Self::F32 => Some(DType::F32),
            Self::BF16 => Some(DType::BF16),
            Self::F16 => Some(DType::F16),
            Self::Q8_0 | Self::Q4_0 | Self::Q4KM => None,
        }
    }

    /// The mix of blocks; `None` for plain numbers.
    const fn mix(self) -> Option<Mix> {
        match self {
            Self::F32 | Self::BF16 | Self::F16 => None,
            Self::Q8_0 => Some(Mix::Q8_0),
            Self::Q4_0 => Some(Mix::Q4_0),
            Self::Q4KM => Some(Mix::Q4KM),
        }
    }

    /// The type of blocks of a matrix with rows of so many elements; `None` for plain numbers, and where the
    /// rows are no whole blocks of any type. The rule is that of [`Mix::blocks`].
    pub(crate) fn blocks(self, role: Role, columns: usize) -> Option<GgmlDType> {
        let kind = self.mix()?.blocks(role, columns)?;
        Some(match kind {
            BlockKind::Q8_0 => GgmlDType::Q8_0,
            BlockKind::Q5_0 => GgmlDType::Q5_0,
            BlockKind::Q4_0 => GgmlDType::Q4_0,
            BlockKind::Q6K => GgmlDType::Q6K,
            BlockKind::Q4K => GgmlDType::Q4K,
        })
    }

    /// Bytes of an architecture's weights in this format.
    pub fn bytes(self, architecture: &Architecture) -> u64 {
        let of = |shape: &[usize], role: Role| {
            let elements: u64 = shape.iter().map(|&size| size as u64).product();
            let columns = shape.last().copied().unwrap_or(1);
            let plain = self.plain().map_or(4, |dtype| dtype.size_in_bytes() as u64);
            if shape.len() < 2 {
                return elements * plain;
            }
            match self.blocks(role, columns) {
                Some(kind) => elements / kind.block_size() as u64 * kind.type_size() as u64,
                None => elements * plain,
            }
        };
        let layers = architecture.layers();
        let tensors = architecture.tensors();
        let bytes = tensors
            .iter()
            .map(|tensor| of(&tensor.shape, Role::of(&tensor.name, layers)));
        bytes.sum()
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for WeightFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL
            .iter()
            .find(|known| known.name().eq_ignore_ascii_case(text));
        found.copied().ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|format| format.name()).collect();
            let why = format!(
                "`{}` is unknown; known are {}",
                text.escape_debug(),
                known.join(", ")
            );
            Error::request("format", why)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_reads_back_from_its_name() {
        for &format in WeightFormat::ALL {
            assert_eq!(format.name().parse::<WeightFormat>().unwrap(), format);
        }
        let message = "q9".parse::<WeightFormat>().unwrap_err().to_string();
        assert!(
            message.contains("`q9` is unknown; known are f32"),
            "{message}"
        );
    }

    #[test]
    fn plain_numbers_have_no_blocks_and_a_mix_has_those_of_its_rule() {
        let blocks = |format: WeightFormat| format.blocks(Role::Usual, 512);
        assert_eq!(blocks(WeightFormat::BF16), None);
        assert_eq!(blocks(WeightFormat::Q4_0), Some(GgmlDType::Q4_0));
        assert_eq!(blocks(WeightFormat::Q4KM), Some(GgmlDType::Q4K));
        let head = WeightFormat::Q4KM.blocks(Role::Vocabulary, 512);
        assert_eq!(head, Some(GgmlDType::Q6K));
    }
}
