//! How the weights of a bundle are stored, in one word.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Dtype;

/// Makes the enum and its names from one list.
macro_rules! quantisations {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// How weights are stored: the type of nearly all of them. The names are those that the
        /// formats' own tools use.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Quantisation {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Quantisation {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

quantisations! {
    /// IEEE 754 double precision.
    F64 = "F64",
    /// IEEE 754 single precision.
    F32 = "F32",
    /// IEEE 754 half precision.
    F16 = "F16",
    /// The upper half of single precision.
    BF16 = "BF16",
    /// 8-bit floats.
    F8 = "F8",
    /// Whole numbers of 8 bits.
    I8 = "I8",
    /// Blocks of 32 signed bytes with one scale.
    Q8_0 = "Q8_0",
    /// Blocks of 32 values of 4 bits with a scale.
    Q4_0 = "Q4_0",
    /// Blocks of 32 values of 4 bits with a scale and a minimum.
    Q4_1 = "Q4_1",
    /// Blocks of 32 values of 5 bits with a scale.
    Q5_0 = "Q5_0",
    /// Blocks of 32 values of 5 bits with a scale and a minimum.
    Q5_1 = "Q5_1",
    /// K-quants of 2 bits.
    Q2K = "Q2_K",
    /// K-quants of 3 bits.
    Q3K = "Q3_K",
    /// K-quants of 4 bits throughout.
    Q4K = "Q4_K",
    /// K-quants of 4 bits, with more for the tensors that need it most.
    Q4KM = "Q4_K_M",
    /// K-quants of 5 bits.
    Q5K = "Q5_K",
    /// K-quants of 5 bits, with more for the tensors that need it most.
    Q5KM = "Q5_K_M",
    /// K-quants of 6 bits.
    Q6K = "Q6_K",
    /// 4 bits on a non-linear scale, blocks of 32.
    Iq4Nl = "IQ4_NL",
    /// 4 bits on a non-linear scale, super-blocks of 256.
    Iq4Xs = "IQ4_XS",
    /// Three values, 1.6875 bits each.
    Tq1_0 = "TQ1_0",
    /// Three values, 2.0625 bits each.
    Tq2_0 = "TQ2_0",
    /// 4-bit floats with a shared exponent (OCP microscaling).
    Mxfp4 = "MXFP4",
    /// 4 bits on the quantiles of a normal distribution (QLoRA).
    Nf4 = "NF4",
    /// No type has most of the weights.
    Mixed = "mixed",
}

impl Quantisation {
    /// That of weights whose elements have this type.
    pub fn of_dtype(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F64 | Dtype::C64 => Self::F64,
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::BF16,
            Dtype::F8E5M2 | Dtype::F8E4M3 | Dtype::F8E8M0 => Self::F8,
            Dtype::I8 | Dtype::U8 => Self::I8,
            _ => Self::Mixed,
        }
    }

    /// That of most of the elements: of each part the number of its elements and how they are stored.
    /// [`Mixed`](Self::Mixed) when none has half of them.
    pub fn of_parts(parts: impl IntoIterator<Item = (u64, Self)>) -> Self {
        let mut counts = std::collections::BTreeMap::<Self, u64>::new();
        for (elements, quantisation) in parts {
            let count = counts.entry(quantisation).or_default();
            *count = count.saturating_add(elements);
        }
        let all = counts
            .values()
            .fold(0_u64, |sum, count| sum.saturating_add(*count));
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        most.filter(|(_, count)| *count > all / 2)
            .map_or(Self::Mixed, |(quantisation, _)| quantisation)
    }
}

impl fmt::Display for Quantisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no [`Quantisation`]'s.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no quantisation that Vox knows", .0.escape_debug())]
pub struct UnknownQuantisation(pub String);

impl FromStr for Quantisation {
    type Err = UnknownQuantisation;

    fn from_str(text: &str) -> Result<Self, UnknownQuantisation> {
        let found = Self::ALL
            .iter()
            .find(|known| known.name().eq_ignore_ascii_case(text));
        found
            .copied()
            .ok_or_else(|| UnknownQuantisation(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quantisation_reads_back_from_its_name() {
        for quantisation in Quantisation::ALL {
            assert_eq!(quantisation.name().parse(), Ok(*quantisation));
            let json = serde_json::to_string(quantisation).unwrap();
            assert_eq!(json, format!("\"{quantisation}\""));
        }
        assert!("Q9_9".parse::<Quantisation>().is_err());
    }

    #[test]
    fn the_quantisation_of_several_parts_is_that_of_most_elements() {
        let q4 = (100, Quantisation::Q4_1);
        let of = |parts: &[(u64, Quantisation)]| Quantisation::of_parts(parts.iter().copied());
        assert_eq!(of(&[q4, (30, Quantisation::F32)]), Quantisation::Q4_1);
        assert_eq!(of(&[q4, (100, Quantisation::F32)]), Quantisation::Mixed);
        assert_eq!(of(&[]), Quantisation::Mixed);
    }
}
