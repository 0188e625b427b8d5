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
//! What must stay true: a vector has a positive multiple of 8 dimensions, one bit each, least
//! significant bit first, a set bit for -1; bits beyond the last dimension are clear; and every
//! operation gives the same bits on every machine.
//!
//! ```
//! use vox_vsa::Hypervector;
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
//! # Ok::<(), vox_vsa::Error>(())
//! ```

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
