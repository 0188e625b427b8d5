//! How weights are held in memory.

use std::fmt;
use std::str::FromStr;

use candle_core::DType;
use candle_core::quantized::GgmlDType;

use crate::architecture::{Architecture, DecoderArchitecture};
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

    /// The type of blocks of a matrix with rows of so many elements; `None` for plain numbers, and where the
    /// rows are no whole blocks of any type.
    ///
    /// The mixes are those of llama.cpp (`llama-quant.cpp`, `use_more_bits`), where the head of a model in
    /// Q4_0 has 6 bits too; where rows are no multiple
    /// of 256, its 4-bit blocks become those of Q5_0 and its 6-bit blocks those of Q8_0, as there.
    pub(crate) fn blocks(self, role: Role, columns: usize) -> Option<GgmlDType> {
        let wanted = match self {
            Self::F32 | Self::BF16 | Self::F16 => return None,
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q4_0 if role == Role::Vocabulary => GgmlDType::Q6K,
            Self::Q4_0 => GgmlDType::Q4_0,
            Self::Q4KM if role.wants_more_bits() => GgmlDType::Q6K,
            Self::Q4KM => GgmlDType::Q4K,
        };
        let fits = |kind: &GgmlDType| columns.is_multiple_of(kind.block_size());
        let smaller = match wanted {
            GgmlDType::Q4K => GgmlDType::Q5_0,
            _ => GgmlDType::Q8_0,
        };
        [wanted, smaller].into_iter().find(fits)
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

/// What a matrix is for, as far as that decides on its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The embedding or the head.
    Vocabulary,
    /// Values, or the second map of a feed-forward block, in a layer of so many.
    Sensitive {
        /// The layer.
        layer: usize,
        /// How many there are.
        layers: usize,
    },
    /// Any other map.
    Usual,
}

impl Role {
    /// That of a tensor of a model with so many layers.
    pub(crate) fn of(name: &str, layers: usize) -> Self {
        if name == DecoderArchitecture::EMBEDDING || name == DecoderArchitecture::HEAD {
            return Self::Vocabulary;
        }
        if !name.contains("v_proj") && !name.contains("down_proj") {
            return Self::Usual;
        }
        let number = name.split('.').find_map(|part| part.parse().ok());
        number.map_or(Self::Usual, |layer| Self::Sensitive { layer, layers })
    }

    /// Whether Q4_K_M gives it 6 bits.
    fn wants_more_bits(self) -> bool {
        match self {
            Self::Vocabulary => true,
            Self::Usual => false,
            Self::Sensitive { layer, layers } => {
                let eighth = layers / 8;
                layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
            }
        }
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
    fn rows_that_are_no_whole_blocks_get_smaller_ones() {
        let blocks = |format: WeightFormat, columns| format.blocks(Role::Usual, columns);
        assert_eq!(blocks(WeightFormat::Q4KM, 512), Some(GgmlDType::Q4K));
        assert_eq!(blocks(WeightFormat::Q4KM, 576), Some(GgmlDType::Q5_0));
        assert_eq!(
            WeightFormat::Q4KM.blocks(Role::Vocabulary, 576),
            Some(GgmlDType::Q8_0)
        );
        assert_eq!(blocks(WeightFormat::Q4_0, 40), None);
        assert_eq!(blocks(WeightFormat::BF16, 512), None);
    }

    #[test]
    fn the_layers_with_more_bits_are_those_of_llama_cpp() {
        let more = |layer| {
            let name = format!("model.layers.{layer}.mlp.down_proj.weight");
            Role::of(&name, 16).wants_more_bits()
        };
        let layers: Vec<usize> = (0..16).filter(|&layer| more(layer)).collect();
        assert_eq!(layers, [0, 1, 4, 7, 10, 13, 14, 15]);
    }
}
