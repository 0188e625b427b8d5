//! Hypervectors: one fixed-width vector that stands for a name, a pair, a set or a sequence.
//!
//! The algebra is that of the MAP architecture (multiply, add, permute; R. Gayler, "Multiplicative
//! binding, representation operators and analogy", 1998) on bipolar vectors, as P. Kanerva explains
//! it in "Hyperdimensional Computing" (Cognitive Computation 1, 2009). Every dimension is +1 or -1:
//!
//! | operation | meaning | on bipolar numbers | on bits |
//! |---|---|---|---|
//! | [`bind`](Hypervector::bind) | a pair; unlike both | product | exclusive or |
//! | [`unbind`](Hypervector::unbind) | the other half of a pair | product | exclusive or |
//! | [`bundle`](Hypervector::bundle) | a set; like each member | sign of the sum | majority |
//! | [`permute`](Hypervector::permute) | a place in a sequence; unlike the vector | rotation | rotation |
//! | [`similarity`](Hypervector::similarity) | how alike, from -1 to 1 | cosine | 1 - 2 · Hamming / D |
//!
//! [`Hypervector`] is such a vector, one bit a dimension. [`Ternary`] has 0 as a third value, two bits
//! a dimension, for what the members of a bundle do not agree on. [`ItemMemory`] makes the exact
//! vector of what comes back out of a bundle, which is only like it.
//!
//! What must stay true: a vector has a positive multiple of 8 dimensions, one bit each, least
//! significant bit first, a set bit for -1; bits beyond the last dimension are clear; and every
//! operation gives the same bits on every machine.
//!
//! ```
//! use vox_vsa::{Hypervector, ItemMemory};
//!
//! let symbol = |name: &str| Hypervector::symbol(name, 10_000);
//! let colour = symbol("colour")?.bind(&symbol("red")?)?;
//! let shape = symbol("shape")?.bind(&symbol("round")?)?;
//! let size = symbol("size")?.bind(&symbol("small")?)?;
//! let apple = Hypervector::bundle(&[colour, shape, size])?;
//!
//! let answer = apple.unbind(&symbol("colour")?)?;
//! assert!(answer.similarity(&symbol("red")?)? > 0.4);
//! assert!(answer.similarity(&symbol("round")?)? < 0.1);
//!
//! let mut known = ItemMemory::new(10_000, 1_000)?;
//! for name in ["red", "round", "small", "green"] {
//!     known.insert(name, symbol(name)?)?;
//! }
//! assert_eq!(known.nearest(&answer)?.unwrap().key, &"red");
//! # Ok::<(), vox_vsa::Error>(())
//! ```
//!
//! # Accuracy
//!
//! Binding, unbinding and permuting lose nothing: what is unbound from a pair is the other half, bit
//! for bit (but for the zeros of a ternary key). A bundle loses. At 10,000 dimensions a member is as
//! like its bundle as the left columns say, and as like is what a role gives back from a bundle of
//! pairs, with the standard deviation after `±`; of unrelated vectors it is 0 ± 0.01. The formulas
//! are in [`accuracy`]. The right columns were measured, over 300 bundles of random vectors each
//! (`tests/recall.rs`).
//!
//! | members | bipolar | ternary | beyond 1 | bipolar, measured | ternary | beyond 1 |
//! |---|---|---|---|---|---|---|
//! | 2 | 0.500 ± 0.0087 | 0.707 ± 0.0035 | 0.707 ± 0.0035 | 0.500 ± 0.0084 | 0.707 ± 0.0035 | 0.707 ± 0.0035 |
//! | 3 | 0.500 ± 0.0087 | 0.500 ± 0.0087 | 0.500 ± 0.0043 | 0.500 ± 0.0089 | 0.500 ± 0.0089 | 0.500 ± 0.0044 |
//! | 5 | 0.375 ± 0.0093 | 0.375 ± 0.0093 | 0.408 ± 0.0079 | 0.376 ± 0.0094 | 0.376 ± 0.0094 | 0.408 ± 0.0080 |
//! | 10 | 0.246 ± 0.0097 | 0.283 ± 0.0095 | 0.283 ± 0.0095 | 0.246 ± 0.0101 | 0.284 ± 0.0102 | 0.284 ± 0.0102 |
//! | 51 | 0.112 ± 0.0099 | 0.112 ± 0.0099 | 0.122 ± 0.0099 | 0.113 ± 0.0097 | 0.113 ± 0.0097 | 0.124 ± 0.0091 |
//!
//! The similarity of a bipolar member to a large bundle of `n` is about `sqrt(2 / (pi * n))`. No
//! bundle of three with values +1 and -1 is more like its members than 1/2, so what is to be exact
//! goes through an [`ItemMemory`], which takes a wrong vector as often as
//! [`accuracy::error_probability`] says: of three pairs at 10,000 dimensions and 1,000 items in fewer
//! than one of 10^100 cases. [`accuracy::capacity`] is how many pairs a bundle holds so that fewer
//! than 1 % of the answers are wrong:
//!
//! | dimensions | of 100 items | of 1,000 items | of 1,000,000 items |
//! |---|---|---|---|
//! | 1,000 | 25 | 19 | 11 |
//! | 10,000 | 247 | 193 | 121 |
//!
//! Measured in 40,000 trials with new vectors in each, wrong answers were: of 3 pairs at 128 dimensions
//! and 100 items 0.11 % (0.10 % by the formula), 9 at 256 and 50 2.4 % (2.5 %), 21 at 512 and 20 3.0 %
//! (2.9 %), 101 at 1,000 and 10 18.4 % (18.7 %), 5 at 64 and 2 1.47 % (1.48 %).
//!
//! These are figures of unrelated vectors, as [`Hypervector::symbol`] makes them. Similarities are
//! exact cosines, computed from integers and rounded once to 64 and once to 32 bits. Results are
//! compared with those of `torchhd` (`tests/torchhd.rs`).

pub mod accuracy;
mod bundle;
mod hypervector;
mod memory;
mod symbol;
mod tally;
mod ternary;
mod words;

pub use bundle::TIE_BREAK;
pub use hypervector::Hypervector;
pub use memory::{ItemMemory, Match};
pub use ternary::{Ternary, TernaryOperand};

/// Why an operation on hypervectors makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number of dimensions that cannot be stored as whole bytes, or none at all.
    #[error(
        "a hypervector cannot have {dimensions} dimensions: the number must be a positive multiple of 8"
    )]
    Dimensions {
        /// The number that was asked for.
        dimensions: usize,
    },

    /// Two vectors of one operation differ in their number of dimensions.
    #[error(
        "hypervectors of {left} and of {right} dimensions cannot be combined: \
         make both with the same number"
    )]
    Mismatch {
        /// Dimensions of the first vector.
        left: usize,
        /// Dimensions of the vector that does not fit it.
        right: usize,
    },

    /// Bytes that do not hold the two planes of a ternary vector.
    #[error(
        "{bytes} bytes are no ternary hypervector: it is two equal halves, \
         the signs and what is not zero"
    )]
    TernaryBytes {
        /// Number of bytes.
        bytes: usize,
    },

    /// A ternary vector with a sign where it is zero.
    #[error(
        "dimension {dimension} of the ternary hypervector is zero and has a sign: \
         clear its bit in the first half of the bytes"
    )]
    SignedZero {
        /// The first such dimension, counted from 0.
        dimension: usize,
    },

    /// A ternary vector with zeros, where a bipolar one was asked for.
    #[error(
        "{zeros} dimensions of the ternary hypervector are zero, which a bipolar one has not: \
         fill them with the values of another vector"
    )]
    Zeros {
        /// How many.
        zeros: usize,
    },

    /// A memory that has as many vectors as it may.
    #[error(
        "the item memory holds {limit} hypervectors, which is its limit: \
         remove one or make it with a higher limit"
    )]
    Full {
        /// The limit.
        limit: usize,
    },

    /// A bundle of no vectors, which would be like nothing.
    #[error("a bundle needs at least one hypervector")]
    EmptyBundle,
}
