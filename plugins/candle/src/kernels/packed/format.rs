//! How the weights of a matrix are held, and what follows from that for inputs and rows.

use vox_quant::BlockKind;
use vox_quant::blocks::{BLOCK, SUPER_BLOCK};

/// How the weights of a matrix are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// As f32.
    F32,
    /// In IEEE half precision.
    F16,
    /// As bfloat16.
    Bf16,
    /// 8 bits, with a scale for every 32; 8.5 bits a weight.
    Q8_0,
    /// 5 bits, with a scale for every 32; 5.5 bits a weight.
    Q5_0,
    /// 4 bits, with a scale for every 32; 4.5 bits a weight.
    Q4_0,
    /// 6 bits, with a scale for every 16; 6.6 bits a weight. Rows are whole blocks of 256.
    Q6K,
    /// 4 bits, with a scale and a minimum for every 32; 4.6 bits a weight. Rows are whole blocks of 256.
    Q4K,
}

impl Format {
    /// Its name: `q8_0`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q5_0 => "q5_0",
            Self::Q4_0 => "q4_0",
            Self::Q6K => "q6_k",
            Self::Q4K => "q4_k",
        }
    }

    /// Inputs are quantised too.
    pub const fn is_quantised(self) -> bool {
        self.blocks().is_some()
    }

    /// The blocks of ggml whose numbers it holds; `None` for plain numbers.
    pub const fn blocks(self) -> Option<BlockKind> {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => None,
            Self::Q8_0 => Some(BlockKind::Q8_0),
            Self::Q5_0 => Some(BlockKind::Q5_0),
            Self::Q4_0 => Some(BlockKind::Q4_0),
            Self::Q6K => Some(BlockKind::Q6K),
            Self::Q4K => Some(BlockKind::Q4K),
        }
    }

    /// Columns that are held together. Rows are padded to them, where these are not whole blocks of 256.
    pub(crate) const fn columns(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q8_0 | Self::Q5_0 | Self::Q4_0 => BLOCK,
            Self::Q6K | Self::Q4K => SUPER_BLOCK,
        }
    }

    /// Whether rows of so many columns can be held.
    pub(crate) const fn holds(self, columns: usize) -> bool {
        self.columns() <= BLOCK || columns.is_multiple_of(self.columns())
    }
}
