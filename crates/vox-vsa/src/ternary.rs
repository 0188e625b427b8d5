//! Vectors with a third value: 0, for what is not known.

use crate::hypervector::{checked, matching};
use crate::tally::{self, Tally};
use crate::{Error, Hypervector, words};

/// A ternary vector, two bits a dimension: every dimension is +1, -1 or 0.
///
/// A zero says nothing about its dimension. It comes of a [`bundle`](Self::bundle) whose members
/// disagree, and spreads to whatever the vector is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ternary {
    /// A set bit for -1. Clear where `non_zero` is, and beyond `dimensions`.
    signs: Box<[u64]>,
    /// A set bit for -1 and for +1. Clear beyond `dimensions`.
    non_zero: Box<[u64]>,
    /// A positive multiple of 8.
    dimensions: usize,
}

/// A vector that ternary vectors can be combined with: [`Hypervector`], [`Ternary`], or a reference
/// to one.
pub trait TernaryOperand: planes::Planes {}

impl<V: planes::Planes> TernaryOperand for V {}

/// Seals [`TernaryOperand`].
pub(crate) mod planes {
    use crate::{Hypervector, Ternary};

    /// The bits of a vector with up to three values.
    pub trait Planes {
        /// Number of dimensions.
        fn dimensions(&self) -> usize;
        /// A set bit for -1.
        fn signs(&self) -> &[u64];
        /// A set bit for -1 and for +1; none when no dimension is 0.
        fn non_zero(&self) -> Option<&[u64]>;
    }

    impl Planes for Hypervector {
        fn dimensions(&self) -> usize {
            self.dimensions()
        }

        fn signs(&self) -> &[u64] {
            self.words()
        }

        fn non_zero(&self) -> Option<&[u64]> {
            None
        }
    }

    impl Planes for Ternary {
        fn dimensions(&self) -> usize {
            self.dimensions
        }

        fn signs(&self) -> &[u64] {
            &self.signs
        }

        fn non_zero(&self) -> Option<&[u64]> {
            Some(&self.non_zero)
        }
    }

    impl<V: Planes> Planes for &V {
        fn dimensions(&self) -> usize {
            (**self).dimensions()
        }

        fn signs(&self) -> &[u64] {
            (**self).signs()
        }

        fn non_zero(&self) -> Option<&[u64]> {
            (**self).non_zero()
        }
    }
}

impl Ternary {
    /// Reads a vector of `4 * bytes.len()` dimensions. The first half of the bytes has a set bit for
    /// each -1 and is laid out like a [`Hypervector`]; the second half has a set bit for each -1 and
    /// each +1. In both the first dimension is the least significant bit of the first byte.
    ///
    /// # Errors
    /// [`Error::TernaryBytes`] when there are no bytes or they have no halves,
    /// [`Error::SignedZero`] when a bit is set in the first half and clear in the second: each
    /// vector has one form only.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(2) {
            return Err(Error::TernaryBytes { bytes: bytes.len() });
        }
        let (signs, non_zero) = bytes.split_at(bytes.len() / 2);
        let signed_zero = |(index, (sign, non_zero)): (usize, (&u8, &u8))| match sign & !non_zero {
            0 => None,
            wrong => Some(8 * index + wrong.trailing_zeros() as usize),
        };
        let mut zipped = signs.iter().zip(non_zero).enumerate();
        if let Some(dimension) = zipped.find_map(signed_zero) {
            return Err(Error::SignedZero { dimension });
        }
        Ok(Self {
            dimensions: checked(signs.len() * 8)?,
            signs: words::from_bytes(signs),
            non_zero: words::from_bytes(non_zero),
        })
    }

    /// The vector as `dimensions / 4` bytes; [`from_bytes`](Self::from_bytes) reads them back.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 * self.signs.len() * size_of::<u64>());
        words::extend_bytes(&mut bytes, &self.signs, self.dimensions);
        words::extend_bytes(&mut bytes, &self.non_zero, self.dimensions);
        bytes
    }

    /// Number of dimensions.
    pub const fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Number of dimensions that are not 0.
    pub fn non_zero(&self) -> usize {
        // Not above `dimensions`.
        words::count_ones([&self.non_zero], |[word]| word) as usize
    }

    /// Binds two vectors: each dimension gets the product of both. Binding commutes, and a zero of
    /// either is a zero of the result.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when the numbers of dimensions differ.
    pub fn bind(&self, other: &impl TernaryOperand) -> Result<Self, Error> {
        matching(self.dimensions, other.dimensions())?;
        let signs = self.signs.iter().zip(other.signs()).map(|(a, b)| a ^ b);
        let Some(other_non_zero) = other.non_zero() else {
            // The other one may be -1 where this one is 0.
            let signs = signs.zip(&self.non_zero).map(|(sign, mask)| sign & mask);
            return Ok(Self {
                signs: signs.collect(),
                non_zero: self.non_zero.clone(),
                dimensions: self.dimensions,
            });
        };
        let masks = self.non_zero.iter().zip(other_non_zero);
        let signs = signs.zip(masks.clone()).map(|(sign, (a, b))| sign & a & b);
        Ok(Self {
            signs: signs.collect(),
            non_zero: masks.map(|(a, b)| a & b).collect(),
            dimensions: self.dimensions,
        })
    }

    /// Takes `key` out of a binding: each dimension is multiplied with it once more. By a bipolar
    /// key all comes back. Where a ternary key is 0, nothing can: the product was 0 whatever it was
    /// bound to, and so is the result.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when the numbers of dimensions differ.
    pub fn unbind(&self, key: &impl TernaryOperand) -> Result<Self, Error> {
        self.bind(key)
    }

    /// Superposes vectors: each dimension gets the sign of its sum, and 0 where that is 0. The order
    /// does not matter. How alike the result is to each member says
    /// [`ternary_member`](crate::accuracy::ternary_member).
    ///
    /// # Errors
    /// [`Error::EmptyBundle`] without vectors, [`Error::Mismatch`] when their numbers of dimensions
    /// differ.
    pub fn bundle<V: TernaryOperand>(vectors: &[V]) -> Result<Self, Error> {
        Self::bundle_beyond(vectors, 0)
    }

    /// Superposes vectors, with 0 wherever the sum is not beyond `threshold`, upwards or downwards:
    /// what only a few more members say than deny is left open. With `threshold` as large as the
    /// number of vectors all is 0.
    ///
    /// # Errors
    /// [`Error::EmptyBundle`] without vectors, [`Error::Mismatch`] when their numbers of dimensions
    /// differ.
    pub fn bundle_beyond<V: TernaryOperand>(
        vectors: &[V],
        threshold: usize,
    ) -> Result<Self, Error> {
        let Some(first) = vectors.first() else {
            return Err(Error::EmptyBundle);
        };
        let dimensions = first.dimensions();
        for vector in vectors {
            matching(dimensions, vector.dimensions())?;
        }
        let words = first.signs().len();
        let (mut signs, mut non_zero) = (Vec::with_capacity(words), Vec::with_capacity(words));
        // Every member counts for one more than it says: 0, 1 or 2. So sums start at 0.
        let none = vectors.len();
        let mut tally = Tally::new(2 * none);
        for start in tally::starts(words) {
            tally.clear();
            for vector in vectors {
                let said = |words| tally::block(words, start);
                let sign = said(vector.signs());
                let known = vector.non_zero().map_or([!0; _], said);
                let plus = std::array::from_fn(|at| known[at] & !sign[at]);
                tally.add_one_or_two(&known.map(|word| !word), &plus);
            }
            let plus = tally.at_least(none.saturating_add(threshold).saturating_add(1));
            let minus = tally
                .at_least(none.saturating_sub(threshold))
                .map(|word| !word);
            let either = std::array::from_fn(|at| plus[at] | minus[at]);
            tally::extend(&mut signs, &minus, words);
            tally::extend(&mut non_zero, &either, words);
        }
        Ok(Self::from_planes(signs, non_zero, dimensions))
    }

    /// Rotates the vector: what was in dimension `i` is then in dimension `i + positions`, counted
    /// around the end. A negative number undoes the same positive one.
    pub fn permute(&self, positions: isize) -> Self {
        let rotated = |words| words::rotated(words, self.dimensions, positions);
        Self::from_planes(
            rotated(&self.signs),
            rotated(&self.non_zero),
            self.dimensions,
        )
    }

    /// Cosine of the angle between two vectors: 1 for equal, -1 for opposite, around 0 for unrelated
    /// ones. It is 0 when one of them has no dimension that is not 0.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when the numbers of dimensions differ.
    pub fn similarity(&self, other: &impl TernaryOperand) -> Result<f32, Error> {
        matching(self.dimensions, other.dimensions())?;
        let norms = squared_norm(self) as f64 * squared_norm(other) as f64;
        if norms == 0.0 {
            return Ok(0.0);
        }
        Ok((dot(self, other) as f64 / norms.sqrt()) as f32)
    }

    /// The bipolar vector that has the values of `fill` where this one has 0: those of an unrelated
    /// vector say nothing there, those of an earlier one keep what was known.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when the numbers of dimensions differ.
    pub fn filled(&self, fill: &Hypervector) -> Result<Hypervector, Error> {
        matching(self.dimensions, fill.dimensions())?;
        let masks = self.non_zero.iter().zip(fill.words());
        let words = self.signs.iter().zip(masks);
        let words = words.map(|(sign, (mask, fill))| sign | fill & !mask);
        Ok(Hypervector::from_words(words.collect(), self.dimensions))
    }

    /// A vector of these planes, with the bits beyond `dimensions` cleared.
    fn from_planes(mut signs: Vec<u64>, mut non_zero: Vec<u64>, dimensions: usize) -> Self {
        words::clear_beyond(&mut signs, dimensions);
        words::clear_beyond(&mut non_zero, dimensions);
        Self {
            signs: signs.into(),
            non_zero: non_zero.into(),
            dimensions,
        }
    }
}

impl From<&Hypervector> for Ternary {
    /// The same vector; none of its dimensions is 0.
    fn from(vector: &Hypervector) -> Self {
        let signs = vector.words().to_vec();
        let non_zero = vec![!0; signs.len()];
        Self::from_planes(signs, non_zero, vector.dimensions())
    }
}

impl TryFrom<&Ternary> for Hypervector {
    type Error = Error;

    /// The same vector, or [`Error::Zeros`] when a dimension is 0; [`Ternary::filled`] fills them.
    fn try_from(vector: &Ternary) -> Result<Self, Error> {
        match vector.dimensions - vector.non_zero() {
            0 => Ok(Self::from_words(vector.signs.to_vec(), vector.dimensions)),
            zeros => Err(Error::Zeros { zeros }),
        }
    }
}

/// Sum of the products of each dimension, of vectors with as many.
pub(crate) fn dot(a: &impl planes::Planes, b: &impl planes::Planes) -> i64 {
    let (known, opposite) = match (a.non_zero(), b.non_zero()) {
        (None, None) => (
            a.dimensions() as u64,
            words::count_ones([a.signs(), b.signs()], |[a, b]| a ^ b),
        ),
        (Some(mask), None) | (None, Some(mask)) => (
            words::count_ones([mask], |[mask]| mask),
            words::count_ones([a.signs(), b.signs(), mask], |[a, b, mask]| (a ^ b) & mask),
        ),
        (Some(mask_a), Some(mask_b)) => (
            words::count_ones([mask_a, mask_b], |[a, b]| a & b),
            words::count_ones(
                [a.signs(), b.signs(), mask_a, mask_b],
                |[a, b, mask_a, mask_b]| (a ^ b) & mask_a & mask_b,
            ),
        ),
    };
    // Neither is above the number of dimensions, which fits.
    known as i64 - 2 * opposite as i64
}

/// Number of dimensions that are not 0.
pub(crate) fn squared_norm(vector: &impl planes::Planes) -> u64 {
    vector
        .non_zero()
        .map_or(vector.dimensions() as u64, |mask| {
            words::count_ones([mask], |[mask]| mask)
        })
}
