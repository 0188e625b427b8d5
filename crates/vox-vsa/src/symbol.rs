//! The vector of a name.
//!
//! Word `i` of the vector of `name` is output `i` of SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast
//! splittable pseudorandom number generators", OOPSLA 2014; constants of S. Vigna's public-domain
//! code), seeded with the 64-bit FNV-1a hash of the name's UTF-8 bytes (draft-eastlake-fnv). Each
//! word depends on the seed and its own index only, so that vectors of different lengths share
//! their first words and a word can be made without those before it.
//!
//! These bits are part of the contract: vectors that were stored must stay like those made later.

use crate::hypervector::checked;
use crate::{Error, Hypervector};

impl Hypervector {
    /// The vector of a name: the same for the same name and number of dimensions everywhere, and
    /// unlike the vector of any other name.
    ///
    /// # Errors
    /// [`Error::Dimensions`] when `dimensions` is not a positive multiple of 8.
    pub fn symbol(name: &str, dimensions: usize) -> Result<Self, Error> {
        let dimensions = checked(dimensions)?;
        let seed = fnv1a(name.as_bytes());
        let count = dimensions.div_ceil(u64::BITS as usize);
        let words = (0..count as u64).map(|index| split_mix(seed, index));
        Ok(Self::from_words(words.collect(), dimensions))
    }
}

/// FNV-1a with 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Output `index`, counted from 0, of SplitMix64 with this seed.
fn split_mix(seed: u64, index: u64) -> u64 {
    let step = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut word = seed.wrapping_add(step);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// FNV-1a: the vectors of draft-eastlake-fnv for "", "a" and "foobar". SplitMix64: the first
    /// outputs of Vigna's code for seed 1234567.
    #[test]
    fn the_generator_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(split_mix(1_234_567, 0), 6_457_827_717_110_365_317);
        assert_eq!(split_mix(1_234_567, 1), 3_203_168_211_198_807_973);
    }

    #[test]
    fn only_positive_multiples_of_8_are_dimensions() {
        for dimensions in [0, 1, 12, 10_001] {
            let refusal = Err(Error::Dimensions { dimensions });
            assert_eq!(Hypervector::symbol("x", dimensions), refusal);
        }
    }

    proptest! {
        #[test]
        fn a_symbol_is_the_same_each_time_and_a_prefix_of_longer_ones(name: String) {
            let short = Hypervector::symbol(&name, 1000).unwrap();
            let long = Hypervector::symbol(&name, 10_000).unwrap();
            prop_assert_eq!(&short, &Hypervector::symbol(&name, 1000).unwrap());
            prop_assert_eq!(short.to_bytes(), &long.to_bytes()[..125]);
        }

        /// Six standard deviations of the similarity of independent vectors: 6 / sqrt(10,000).
        #[test]
        fn symbols_of_different_names_are_unlike(a: String, b: String) {
            prop_assume!(a != b);
            let a = Hypervector::symbol(&a, 10_000).unwrap();
            let b = Hypervector::symbol(&b, 10_000).unwrap();
            prop_assert!(a.similarity(&b).unwrap().abs() < 0.06);
        }
    }
}
