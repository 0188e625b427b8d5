//! Which examples are held back for evaluation.
//!
//! It is decided by each example's own hash. So the same examples are held back whatever stands
//! around them and in whatever order, and an example that is in the data twice is never on both
//! sides.

use serde::{Deserialize, Serialize};

/// How much is held back.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Nothing.
    #[default]
    None,
    /// About this part, between 0 and 1, and at least one example: those whose hash lies below it.
    /// What is held back stays so when data are added.
    Fraction(f64),
    /// This many: those with the smallest hashes; more where several of the last are the same.
    Count(u64),
}

/// The numbers of the examples on both sides, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sides {
    /// To train on.
    pub training: Vec<u32>,
    /// Held back.
    pub evaluation: Vec<u32>,
}

impl Split {
    /// Divides examples that have these hashes.
    pub fn divide(self, hashes: &[u64]) -> Sides {
        let limit = match self {
            Self::None => None,
            Self::Fraction(part) => {
                let smallest = hashes.iter().min().copied();
                // Conversion saturates, and is exact enough for a part of all.
                smallest.map(|smallest| smallest.max((part * u64::MAX as f64) as u64))
            }
            Self::Count(0) => None,
            Self::Count(count) => {
                let mut sorted = hashes.to_vec();
                sorted.sort_unstable();
                let last = usize::try_from(count - 1).unwrap_or(usize::MAX);
                sorted.get(last).or(sorted.last()).copied()
            }
        };
        let mut sides = Sides::default();
        for (example, hash) in (0..).zip(hashes) {
            if limit.is_some_and(|limit| *hash <= limit) {
                sides.evaluation.push(example);
            } else {
                sides.training.push(example);
            }
        }
        sides
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(count: u64) -> Vec<u64> {
        let hash = |at: u64| vox_crypto::hash(&at.to_le_bytes());
        (0..count)
            .map(|at| u64::from_le_bytes(*hash(at).as_bytes().first_chunk().unwrap()))
            .collect()
    }

    #[test]
    fn about_the_wanted_part_is_held_back() {
        let sides = Split::Fraction(0.1).divide(&hashes(10_000));
        assert!((800..1200).contains(&sides.evaluation.len()));
        assert_eq!(sides.evaluation.len() + sides.training.len(), 10_000);
        assert!(sides.evaluation.is_sorted() && sides.training.is_sorted());
    }

    #[test]
    fn what_is_held_back_stays_so_when_data_are_added() {
        let before = Split::Fraction(0.2).divide(&hashes(500)).evaluation;
        let after = Split::Fraction(0.2).divide(&hashes(1000)).evaluation;
        assert!(after.starts_with(&before));
    }

    #[test]
    fn a_small_part_of_few_is_one() {
        assert_eq!(Split::Fraction(1e-9).divide(&hashes(5)).evaluation.len(), 1);
    }

    #[test]
    fn the_wanted_number_is_held_back_and_twins_stay_together() {
        assert_eq!(Split::Count(7).divide(&hashes(100)).evaluation.len(), 7);
        let sides = Split::Count(2).divide(&[5, 3, 9, 5, 7]);
        assert_eq!(sides.evaluation, [0, 1, 3]);
        assert_eq!(sides.training, [2, 4]);
        assert_eq!(Split::Count(9).divide(&[5, 3]).training, [0_u32; 0]);
    }

    #[test]
    fn nothing_is_held_back_where_nothing_is_asked_for() {
        assert!(Split::None.divide(&hashes(10)).evaluation.is_empty());
        assert!(Split::Count(0).divide(&hashes(10)).evaluation.is_empty());
        assert!(Split::Fraction(0.5).divide(&[]).evaluation.is_empty());
    }
}
