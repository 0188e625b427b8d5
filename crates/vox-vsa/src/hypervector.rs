//! The vector and the operations on one or two of them.

use crate::{Error, words};

/// A bipolar vector, one bit a dimension: dimension `i` is bit `i % 64` of word `i / 64`, and a
/// set bit means -1.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hypervector {
    /// Bits beyond `dimensions` are clear, so that words can be compared and counted whole.
    words: Box<[u64]>,
    /// A positive multiple of 8.
    dimensions: usize,
}

impl Hypervector {
    /// Reads a vector of `8 * bytes.len()` dimensions, the first in the least significant bit of
    /// the first byte.
    ///
    /// # Errors
    /// [`Error::Dimensions`] when there are no bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let dimensions = checked(bytes.len() * 8)?;
        Ok(Self {
            words: words::from_bytes(bytes),
            dimensions,
        })
    }

    /// The vector as `dimensions / 8` bytes; [`from_bytes`](Self::from_bytes) reads them back.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.words.len() * size_of::<u64>());
        words::extend_bytes(&mut bytes, &self.words, self.dimensions);
        bytes
    }

    /// Number of dimensions.
    pub const fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The words in order; bits beyond the last dimension are clear.
    pub const fn words(&self) -> &[u64] {
        &self.words
    }

    /// Binds two vectors into one that stands for the pair and is unlike both. Binding commutes,
    /// keeps similarities, and is its own inverse.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when the numbers of dimensions differ.
    pub fn bind(&self, other: &Self) -> Result<Self, Error> {
        self.check_match(other)?;
        let words = self.words.iter().zip(&other.words).map(|(a, b)| a ^ b);
        Ok(Self {
            words: words.collect(),
            dimensions: self.dimensions,
        })
    }

    /// Takes `other` out of a binding. Out of a bundle of bindings it takes a vector that is like
    /// what `other` was bound to; the more members, the less so.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when the numbers of dimensions differ.
    pub fn unbind(&self, other: &Self) -> Result<Self, Error> {
        self.bind(other)
    }

    /// Rotates the vector: what was in dimension `i` is then in dimension `i + positions`, counted
    /// around the end. A negative number undoes the same positive one.
    pub fn permute(&self, positions: isize) -> Self {
        let words = words::rotated(&self.words, self.dimensions, positions);
        Self::from_words(words, self.dimensions)
    }

    /// Cosine of the angle between two vectors: 1 for equal, -1 for opposite, and for unrelated
    /// ones a value around 0 with standard deviation `1 / sqrt(dimensions)`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when the numbers of dimensions differ.
    pub fn similarity(&self, other: &Self) -> Result<f32, Error> {
        self.check_match(other)?;
        let hamming = words::count_ones([&self.words, &other.words], |[a, b]| a ^ b);
        Ok((1.0 - 2.0 * hamming as f64 / self.dimensions as f64) as f32)
    }

    /// A vector of these words, with the bits beyond `dimensions` cleared. The caller has checked
    /// `dimensions` and hands over as many words as they need.
    pub(crate) fn from_words(mut words: Vec<u64>, dimensions: usize) -> Self {
        words::clear_beyond(&mut words, dimensions);
        Self {
            words: words.into(),
            dimensions,
        }
    }

    /// Refuses a partner of another number of dimensions.
    pub(crate) fn check_match(&self, other: &Self) -> Result<(), Error> {
        matching(self.dimensions, other.dimensions)
    }
}

/// Refuses numbers of dimensions that differ.
pub(crate) fn matching(left: usize, right: usize) -> Result<(), Error> {
    if left == right {
        return Ok(());
    }
    Err(Error::Mismatch { left, right })
}

/// Refuses a number of dimensions that no vector has.
pub(crate) fn checked(dimensions: usize) -> Result<usize, Error> {
    if dimensions == 0 || !dimensions.is_multiple_of(8) {
        return Err(Error::Dimensions { dimensions });
    }
    Ok(dimensions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Up to 4,800 dimensions, most of them not a whole number of words or blocks.
    fn vector() -> impl Strategy<Value = Hypervector> {
        proptest::collection::vec(any::<u8>(), 1..=600)
            .prop_map(|bytes| Hypervector::from_bytes(&bytes).unwrap())
    }

    fn pair() -> impl Strategy<Value = (Hypervector, Hypervector)> {
        proptest::collection::vec(any::<(u8, u8)>(), 1..=600).prop_map(|bytes| {
            let (a, b): (Vec<u8>, Vec<u8>) = bytes.into_iter().unzip();
            let read = |bytes: &[u8]| Hypervector::from_bytes(bytes).unwrap();
            (read(&a), read(&b))
        })
    }

    /// The vector as the numbers that it stands for.
    fn bipolar(vector: &Hypervector) -> Vec<f64> {
        let bytes = vector.to_bytes();
        let bit = |index: usize| bytes[index / 8] >> (index % 8) & 1;
        (0..vector.dimensions())
            .map(|index| if bit(index) == 1 { -1.0 } else { 1.0 })
            .collect()
    }

    proptest! {
        #[test]
        fn bytes_read_back_as_the_same_vector(bytes in proptest::collection::vec(any::<u8>(), 1..99)) {
            let vector = Hypervector::from_bytes(&bytes).unwrap();
            prop_assert_eq!(vector.dimensions(), bytes.len() * 8);
            prop_assert_eq!(vector.to_bytes(), bytes);
        }

        #[test]
        fn binding_multiplies_each_dimension((a, b) in pair()) {
            let product: Vec<f64> = bipolar(&a).iter().zip(bipolar(&b)).map(|(a, b)| a * b).collect();
            prop_assert_eq!(bipolar(&a.bind(&b).unwrap()), product);
        }

        #[test]
        fn unbinding_gives_back_what_was_bound((a, b) in pair()) {
            let bound = a.bind(&b).unwrap();
            prop_assert_eq!(bound.unbind(&b).unwrap(), a.clone());
            prop_assert_eq!(bound.unbind(&a).unwrap(), b);
        }

        #[test]
        fn similarity_is_the_cosine_and_symmetric((a, b) in pair()) {
            let dot: f64 = bipolar(&a).iter().zip(bipolar(&b)).map(|(a, b)| a * b).sum();
            let similarity = a.similarity(&b).unwrap();
            prop_assert!((f64::from(similarity) - dot / a.dimensions() as f64).abs() < 1e-6);
            prop_assert_eq!(similarity, b.similarity(&a).unwrap());
            prop_assert_eq!(a.similarity(&a).unwrap(), 1.0);
        }

        #[test]
        fn permuting_rotates_each_dimension(a in vector(), positions in -9000_isize..9000) {
            let mut rotated = bipolar(&a);
            rotated.rotate_right(positions.rem_euclid(a.dimensions() as isize) as usize);
            let permuted = a.permute(positions);
            prop_assert_eq!(bipolar(&permuted), rotated);
            prop_assert_eq!(permuted.permute(-positions), a);
        }

        #[test]
        fn binding_keeps_similarities((a, b) in pair(), positions in 1_isize..999) {
            let key = a.permute(positions);
            let before = a.similarity(&b).unwrap();
            let after = a.bind(&key).unwrap().similarity(&b.bind(&key).unwrap()).unwrap();
            prop_assert_eq!(before, after);
        }
    }

    #[test]
    fn vectors_of_different_lengths_are_refused_with_both_named() {
        let short = Hypervector::from_bytes(&[0; 2]).unwrap();
        let long = Hypervector::from_bytes(&[0; 4]).unwrap();
        let mismatch = Error::Mismatch {
            left: 16,
            right: 32,
        };
        assert_eq!(short.bind(&long), Err(mismatch.clone()));
        assert_eq!(short.similarity(&long), Err(mismatch.clone()));
        assert!(mismatch.to_string().contains("16 and of 32"));
    }

    #[test]
    fn a_vector_without_dimensions_is_refused() {
        let refusal = Err(Error::Dimensions { dimensions: 0 });
        assert_eq!(Hypervector::from_bytes(&[]), refusal);
    }
}
