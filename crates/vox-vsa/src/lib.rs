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

mod bundle;
mod hypervector;
mod symbol;

pub use bundle::TIE_BREAK;
pub use hypervector::Hypervector;

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

    /// A bundle of no vectors, which would be like nothing.
    #[error("a bundle needs at least one hypervector")]
    EmptyBundle,
}
