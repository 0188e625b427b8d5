//! The types of ggml's tensors.

use std::fmt;

/// The type of a tensor's blocks, by the names and numbers of
/// [`ggml.h`](https://github.com/ggml-org/ggml/blob/master/include/ggml.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(non_camel_case_types, missing_docs)]
#[non_exhaustive]
pub enum GgmlType {
    F32,
    F16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    Q8_K,
    IQ2_XXS,
    IQ2_XS,
    IQ3_XXS,
    IQ1_S,
    IQ4_NL,
    IQ3_S,
    IQ2_S,
    IQ4_XS,
    I8,
    I16,
    I32,
    I64,
    F64,
    IQ1_M,
    BF16,
    TQ1_0,
    TQ2_0,
    MXFP4,
    NVFP4,
    Q1_0,
}

/// Type, number, name, elements of a block, bytes of a block, whether it is dequantised.
type Row = (GgmlType, u32, &'static str, u64, u64, bool);

impl GgmlType {
    /// In the order of the variants.
    const TABLE: &'static [Row] = &[
        (Self::F32, 0, "F32", 1, 4, true),
        (Self::F16, 1, "F16", 1, 2, true),
        (Self::Q4_0, 2, "Q4_0", 32, 18, true),
        (Self::Q4_1, 3, "Q4_1", 32, 20, true),
        (Self::Q5_0, 6, "Q5_0", 32, 22, true),
        (Self::Q5_1, 7, "Q5_1", 32, 24, true),
        (Self::Q8_0, 8, "Q8_0", 32, 34, true),
        (Self::Q8_1, 9, "Q8_1", 32, 40, false),
        (Self::Q2_K, 10, "Q2_K", 256, 84, true),
        (Self::Q3_K, 11, "Q3_K", 256, 110, true),
        (Self::Q4_K, 12, "Q4_K", 256, 144, true),
        (Self::Q5_K, 13, "Q5_K", 256, 176, true),
        (Self::Q6_K, 14, "Q6_K", 256, 210, true),
        (Self::Q8_K, 15, "Q8_K", 256, 292, false),
        (Self::IQ2_XXS, 16, "IQ2_XXS", 256, 66, false),
        (Self::IQ2_XS, 17, "IQ2_XS", 256, 74, false),
        (Self::IQ3_XXS, 18, "IQ3_XXS", 256, 98, false),
        (Self::IQ1_S, 19, "IQ1_S", 256, 50, false),
        (Self::IQ4_NL, 20, "IQ4_NL", 32, 18, true),
        (Self::IQ3_S, 21, "IQ3_S", 256, 110, false),
        (Self::IQ2_S, 22, "IQ2_S", 256, 82, false),
        (Self::IQ4_XS, 23, "IQ4_XS", 256, 136, true),
        (Self::I8, 24, "I8", 1, 1, true),
        (Self::I16, 25, "I16", 1, 2, true),
        (Self::I32, 26, "I32", 1, 4, true),
        (Self::I64, 27, "I64", 1, 8, true),
        (Self::F64, 28, "F64", 1, 8, true),
        (Self::IQ1_M, 29, "IQ1_M", 256, 56, false),
        (Self::BF16, 30, "BF16", 1, 2, true),
        (Self::TQ1_0, 34, "TQ1_0", 256, 54, true),
        (Self::TQ2_0, 35, "TQ2_0", 256, 66, true),
        (Self::MXFP4, 39, "MXFP4", 32, 17, true),
        (Self::NVFP4, 40, "NVFP4", 64, 36, false),
        (Self::Q1_0, 41, "Q1_0", 128, 18, false),
    ];

    /// Every type.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::TABLE.iter().map(|row| row.0)
    }

    /// The type of that number in a file.
    pub fn from_number(number: u32) -> Option<Self> {
        let row = Self::TABLE.iter().find(|row| row.1 == number);
        row.map(|row| row.0)
    }

    const fn row(self) -> &'static Row {
        &Self::TABLE[self as usize]
    }

    /// Its number in a file.
    pub const fn number(self) -> u32 {
        self.row().1
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.row().2
    }

    /// Elements of a block; 1 for what is not quantised.
    pub const fn block_len(self) -> u64 {
        self.row().3
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> u64 {
        self.row().4
    }

    /// True where [`dequantise`](super::dequantise) takes it.
    pub const fn is_dequantised(self) -> bool {
        self.row().5
    }

    /// True for what stands in blocks of several elements.
    pub const fn is_quantised(self) -> bool {
        self.block_len() > 1
    }

    /// Bytes of so many elements; `None` where they are no whole blocks or pass 64 bits.
    pub const fn bytes_of(self, elements: u64) -> Option<u64> {
        if !elements.is_multiple_of(self.block_len()) {
            return None;
        }
        (elements / self.block_len()).checked_mul(self.block_bytes())
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_variants() {
        for (place, kind) in GgmlType::all().enumerate() {
            assert_eq!(kind as usize, place, "{kind}");
            assert_eq!(GgmlType::from_number(kind.number()), Some(kind));
        }
    }
}
