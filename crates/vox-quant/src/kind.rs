//! A block format as a value.

use std::fmt;

use crate::blocks::{Block, Q4_0, Q4K, Q5_0, Q6K, Q8_0};

/// A block format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockKind {
    /// 8 bits, with a scale for every 32.
    Q8_0,
    /// 5 bits, with a scale for every 32.
    Q5_0,
    /// 4 bits, with a scale for every 32.
    Q4_0,
    /// 6 bits, with a scale for every 16, in blocks of 256.
    Q6K,
    /// 4 bits, with a scale and a minimum for every 32, in blocks of 256.
    Q4K,
}

impl BlockKind {
    /// Every format.
    pub const ALL: &'static [Self] = &[Self::Q8_0, Self::Q5_0, Self::Q4_0, Self::Q6K, Self::Q4K];

    /// Its name, as ggml has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "Q8_0",
            Self::Q5_0 => "Q5_0",
            Self::Q4_0 => "Q4_0",
            Self::Q6K => "Q6_K",
            Self::Q4K => "Q4_K",
        }
    }

    /// Numbers in a block.
    pub const fn numbers(self) -> usize {
        match self {
            Self::Q8_0 => Q8_0::NUMBERS,
            Self::Q5_0 => Q5_0::NUMBERS,
            Self::Q4_0 => Q4_0::NUMBERS,
            Self::Q6K => Q6K::NUMBERS,
            Self::Q4K => Q4K::NUMBERS,
        }
    }

    /// Bytes of a block.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Q8_0 => Q8_0::BYTES,
            Self::Q5_0 => Q5_0::BYTES,
            Self::Q4_0 => Q4_0::BYTES,
            Self::Q6K => Q6K::BYTES,
            Self::Q4K => Q4K::BYTES,
        }
    }

    /// The bytes of the blocks of these numbers, one block after the other. Numbers after the last whole block are not
    /// looked at.
    pub fn quantise(self, numbers: &[f32]) -> Vec<u8> {
        match self {
            Self::Q8_0 => bytes_of::<Q8_0>(numbers),
            Self::Q5_0 => bytes_of::<Q5_0>(numbers),
            Self::Q4_0 => bytes_of::<Q4_0>(numbers),
            Self::Q6K => bytes_of::<Q6K>(numbers),
            Self::Q4K => bytes_of::<Q4K>(numbers),
        }
    }

    /// Makes of numbers those that their blocks hold. Numbers after the last whole block stay as they are.
    pub fn round(self, numbers: &mut [f32]) {
        match self {
            Self::Q8_0 => round_to::<Q8_0>(numbers),
            Self::Q5_0 => round_to::<Q5_0>(numbers),
            Self::Q4_0 => round_to::<Q4_0>(numbers),
            Self::Q6K => round_to::<Q6K>(numbers),
            Self::Q4K => round_to::<Q4K>(numbers),
        }
    }
}

fn round_to<B: Block>(numbers: &mut [f32]) {
    for numbers in numbers.chunks_exact_mut(B::NUMBERS) {
        B::of_numbers(numbers).put(numbers);
    }
}

fn bytes_of<B: Block>(numbers: &[f32]) -> Vec<u8> {
    let blocks = numbers.chunks_exact(B::NUMBERS);
    let mut bytes = Vec::with_capacity(blocks.len() * B::BYTES);
    for numbers in blocks {
        B::of_numbers(numbers).write(&mut bytes);
    }
    bytes
}

impl fmt::Display for BlockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
