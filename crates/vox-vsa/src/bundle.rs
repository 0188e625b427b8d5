//! Superposition of many bipolar vectors by majority.

use std::borrow::Borrow;

use crate::tally::{self, Tally};
use crate::{Error, Hypervector};

/// Name of the symbol whose vector breaks ties: it casts one more vote in a bundle of an even
/// number of vectors.
pub const TIE_BREAK: &str = "vox:bundle:tie-break";

impl Hypervector {
    /// Superposes vectors: each dimension gets the value that most of them have there. The order
    /// does not matter. Of an even number of vectors the vector of [`TIE_BREAK`] is bundled with
    /// them, which decides where they are split evenly and nowhere else.
    ///
    /// The result has with each of `n` unrelated vectors a similarity of about `sqrt(2 / (pi * n))`
    /// for large odd `n`; it is 1/2 for three, 3/8 for five.
    ///
    /// # Errors
    /// [`Error::EmptyBundle`] without vectors, [`Error::Mismatch`] when their numbers of dimensions
    /// differ.
    pub fn bundle<V: Borrow<Self>>(vectors: &[V]) -> Result<Self, Error> {
        let mut votes: Vec<&Self> = vectors.iter().map(Borrow::borrow).collect();
        let Some(first) = votes.first().copied() else {
            return Err(Error::EmptyBundle);
        };
        for vector in &votes {
            first.check_match(vector)?;
        }
        let tie_break;
        if votes.len().is_multiple_of(2) {
            tie_break = Self::symbol(TIE_BREAK, first.dimensions())?;
            votes.push(&tie_break);
        }

        let words = first.words().len();
        let mut tally = Tally::new(votes.len());
        let mut majority = Vec::with_capacity(words);
        for start in tally::starts(words) {
            tally.clear();
            let block = |vote: &&Self| tally::block(vote.words(), start);
            for votes in votes.chunks(2) {
                let second = votes.get(1).map(block);
                tally.add(&block(&votes[0]), &second.unwrap_or_default());
            }
            tally::extend(&mut majority, &tally.at_least(votes.len() / 2 + 1), words);
        }
        Ok(Self::from_words(majority, first.dimensions()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn symbol(name: impl ToString) -> Hypervector {
        Hypervector::symbol(&name.to_string(), 10_000).unwrap()
    }

    /// Whether dimension `index` is -1.
    fn negative(vector: &Hypervector, index: usize) -> bool {
        vector.words()[index / 64] >> (index % 64) & 1 == 1
    }

    proptest! {
        #[test]
        fn a_bundle_has_the_majority_of_each_dimension(
            members in (1_usize..10).prop_flat_map(|bytes| {
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), bytes), 1..40)
            }),
        ) {
            let members: Vec<_> = members
                .iter()
                .map(|bytes| Hypervector::from_bytes(bytes).unwrap())
                .collect();
            let bundle = Hypervector::bundle(&members).unwrap();
            let tie_break = Hypervector::symbol(TIE_BREAK, bundle.dimensions()).unwrap();
            for index in 0..bundle.dimensions() {
                let votes = members.iter().filter(|member| negative(member, index)).count();
                let expected = match (2 * votes).cmp(&members.len()) {
                    std::cmp::Ordering::Less => false,
                    std::cmp::Ordering::Equal => negative(&tie_break, index),
                    std::cmp::Ordering::Greater => true,
                };
                prop_assert_eq!(negative(&bundle, index), expected, "dimension {}", index);
            }
        }

        /// Theory says 1/2, with a standard deviation below 0.01 at 10,000 dimensions.
        #[test]
        fn a_bundle_of_three_bindings_gives_each_back(seed: u64) {
            let roles = ["sound", "sight", "text"].map(symbol);
            let fillers = [0, 1, 2].map(|index| symbol(format!("{seed}/{index}")));
            let bindings: Vec<_> = roles
                .iter()
                .zip(&fillers)
                .map(|(role, filler)| role.bind(filler).unwrap())
                .collect();
            let bundle = Hypervector::bundle(&bindings).unwrap();
            for (role, filler) in roles.iter().zip(&fillers) {
                let found = bundle.unbind(role).unwrap();
                let similarity = found.similarity(filler).unwrap();
                prop_assert!((0.4..0.6).contains(&similarity), "{}", similarity);
                for other in fillers.iter().filter(|other| *other != filler) {
                    prop_assert!(found.similarity(other).unwrap().abs() < 0.06);
                }
            }
        }
    }

    #[test]
    fn a_bundle_of_one_is_that_vector() {
        assert_eq!(Hypervector::bundle(&[symbol("a")]), Ok(symbol("a")));
    }

    #[test]
    fn a_bundle_of_many_stays_like_each_of_them() {
        let members: Vec<_> = (0..101).map(symbol).collect();
        let bundle = Hypervector::bundle(&members).unwrap();
        let mean = members
            .iter()
            .map(|member| bundle.similarity(member).unwrap())
            .sum::<f32>()
            / 101.0;
        let theory = (2.0 / (std::f32::consts::PI * 101.0)).sqrt();
        assert!((mean - theory).abs() < 0.01, "{mean} against {theory}");
    }

    #[test]
    fn nothing_and_vectors_of_different_lengths_make_no_bundle() {
        let nothing: [Hypervector; 0] = [];
        assert_eq!(Hypervector::bundle(&nothing), Err(Error::EmptyBundle));
        let short = Hypervector::from_bytes(&[0; 2]).unwrap();
        let mismatch = Error::Mismatch {
            left: 10_000,
            right: 16,
        };
        let members = [symbol("a"), symbol("b"), short];
        assert_eq!(Hypervector::bundle(&members), Err(mismatch));
    }
}
