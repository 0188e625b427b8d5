//! What is drawn for which tensor and batch.

use crate::random::Random;

/// The randomness of a training.
#[derive(Debug, Clone, Copy)]
pub(super) struct Randomness {
    pub(super) seed: u64,
    pub(super) rank: u32,
}

impl Randomness {
    /// The numbers that a tensor begins with, by its name; the same for every rank.
    pub(super) fn beginning(self, name: &str) -> Random {
        Random::new(self.seed, hash(name))
    }

    /// The numbers that decide which inputs of a linear map are left out of a batch.
    pub(super) fn dropout(self, name: &str, position: u64) -> Random {
        // Another purpose than `beginning`, by a seed that is far from its own.
        let stream = Random::new(
            !self.seed,
            hash(name).wrapping_add(u64::from(self.rank) << 32),
        );
        let [a, b, c, d] = stream.words(position);
        let wide = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        Random::new(wide(a, b), wide(c, d))
    }
}

/// FNV-1a, of 64 bits.
fn hash(name: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_differs_by_seed_rank_tensor_and_batch_and_by_nothing_else() {
        let words = |random: Random| [0, 1, 2].map(|at| random.words(at));
        let dropout = |seed, rank, name: &str, position| {
            words(Randomness { seed, rank }.dropout(name, position))
        };
        let one = dropout(1, 0, "a", 0);
        assert_eq!(one, dropout(1, 0, "a", 0));
        for other in [
            dropout(2, 0, "a", 0),
            dropout(1, 1, "a", 0),
            dropout(1, 0, "b", 0),
            dropout(1, 0, "a", 1),
            words(Randomness { seed: 1, rank: 0 }.beginning("a")),
        ] {
            assert_ne!(one, other);
        }
    }
}
