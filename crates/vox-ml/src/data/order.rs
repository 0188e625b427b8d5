//! The order in which rows are seen: a shuffle whose every position is known without those before it.
//!
//! Row number `position` of a training is `permutation(epoch)(position mod rows)` with
//! `epoch = position / rows`; each epoch has a permutation of its own, which follows from the
//! dataset's hash, the seed and the epoch. A training that resumes therefore needs to know nothing
//! but the position at which it stopped, and ranks take their parts without talking to each other.
//!
//! The permutation is a Feistel network: both halves of a number of `2w` bits are changed in turn by
//! a keyed function of the other (M. Luby and C. Rackoff, "How to construct pseudorandom permutations
//! from pseudorandom functions", 1988), here in 12 rounds of the finaliser of SplitMix64 with keys
//! out of BLAKE3. A network permutes `0..4^w`; a number that comes out beyond the rows is put in
//! again until one comes out within (cycle walking: J. Black and P. Rogaway, "Ciphers with arbitrary
//! finite domains", 2002, section 3). With the smallest `w` for which `4^w` is enough, that takes
//! fewer than four rounds of it on average.

use vox_crypto::{Digest, Hasher};

/// Rounds of the network. Four suffice in theory, for halves of many bits; small sets have small
/// halves.
const ROUNDS: usize = 12;

/// What the keys are made for, so that no other use of the same values has the same keys.
const DOMAIN: &[u8] = b"vox/ml/order/1";

/// Where in the data a position of the training lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// How often all rows were seen before.
    pub epoch: u64,
    /// The row.
    pub row: u64,
}

/// The order of all epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    dataset: Digest,
    seed: u64,
    rows: u64,
}

impl Order {
    /// The order of the `rows` rows of a dataset.
    ///
    /// # Panics
    /// When `rows` is 0.
    pub fn new(dataset: Digest, seed: u64, rows: u64) -> Self {
        assert!(rows > 0, "an order needs rows");
        Self {
            dataset,
            seed,
            rows,
        }
    }

    /// Where `position`, counted from 0 over all epochs, lies. It takes constant time and depends on
    /// no other position.
    pub fn at(&self, position: u64) -> Place {
        let epoch = position / self.rows;
        let row =
            Permutation::new(&self.dataset, self.seed, epoch, self.rows).at(position % self.rows);
        Place { epoch, row }
    }
}

/// The permutation of one epoch.
#[derive(Debug, Clone)]
pub struct Permutation {
    rows: u64,
    /// Bits of a half.
    bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// The permutation of `0..rows` in an epoch.
    pub fn new(dataset: &Digest, seed: u64, epoch: u64, rows: u64) -> Self {
        let written = dataset.to_string();
        let mut keys = [0; ROUNDS];
        for (round, key) in (0_u64..).zip(&mut keys) {
            let mut hasher = Hasher::new();
            hasher.update(DOMAIN).update(written.as_bytes());
            for number in [seed, epoch, rows, round] {
                hasher.update(&number.to_le_bytes());
            }
            let digest = hasher.finish();
            *key = digest
                .as_bytes()
                .first_chunk()
                .map_or(0, |head| u64::from_le_bytes(*head));
        }
        let used = u64::BITS - rows.saturating_sub(1).leading_zeros();
        Self {
            rows,
            bits: used.div_ceil(2).max(1),
            keys,
        }
    }

    /// The row at `index`, which is below the number of rows.
    pub fn at(&self, index: u64) -> u64 {
        debug_assert!(index < self.rows, "{index} of {}", self.rows);
        let mut number = self.network(index);
        while number >= self.rows {
            number = self.network(number);
        }
        number
    }

    fn network(&self, number: u64) -> u64 {
        let mask = u64::MAX >> (u64::BITS - self.bits);
        let (mut left, mut right) = (number >> self.bits, number & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mixed(right ^ key) & mask));
        }
        left << self.bits | right
    }
}

/// The finaliser of SplitMix64 (G. Steele et al., "Fast splittable pseudorandom number generators",
/// 2014), of which the upper bits are the better ones.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).reverse_bits()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(seed: u64, rows: u64) -> Order {
        Order::new(vox_crypto::hash(b"data"), seed, rows)
    }

    #[test]
    fn epochs_seeds_and_datasets_have_orders_of_their_own() {
        let first = |order: Order, epoch: u64| -> Vec<u64> {
            (0..100).map(|at| order.at(100 * epoch + at).row).collect()
        };
        let one = first(order(1, 100), 0);
        assert_ne!(one, first(order(1, 100), 1));
        assert_ne!(one, first(order(2, 100), 0));
        assert_ne!(
            one,
            first(Order::new(vox_crypto::hash(b"other"), 1, 100), 0)
        );
        assert_eq!(one, first(order(1, 100), 0));
        assert_ne!(one, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn an_order_never_changes() {
        // A training that resumes with a newer Vox must see the same rows: these are pinned.
        let rows: Vec<u64> = (0..12).map(|at| order(7, 10).at(at).row).collect();
        assert_eq!(rows, PINNED);
        assert_eq!(order(7, 10).at(25).epoch, 2);
    }

    const PINNED: [u64; 12] = [9, 3, 0, 7, 4, 5, 2, 8, 1, 6, 6, 8];

    #[test]
    fn each_row_stands_at_each_place_about_as_often() {
        for rows in [2_u64, 3, 5, 8] {
            let mut counts = vec![vec![0_u32; rows as usize]; rows as usize];
            let epochs = 2000;
            let order = order(3, rows);
            for position in 0..epochs * rows {
                counts[(position % rows) as usize][order.at(position).row as usize] += 1;
            }
            // A binomial count lies within six standard deviations of its mean.
            let mean = epochs as f64 / rows as f64;
            let bound = 6.0 * (mean * (1.0 - 1.0 / rows as f64)).sqrt();
            for count in counts.iter().flatten() {
                assert!(
                    (f64::from(*count) - mean).abs() < bound,
                    "{rows}: {counts:?}"
                );
            }
        }
    }

    #[test]
    fn neighbours_do_not_stay_neighbours() {
        let permutation = Permutation::new(&vox_crypto::hash(b"data"), 1, 0, 10_000);
        let rows: Vec<u64> = (0..10_000).map(|at| permutation.at(at)).collect();
        let close = rows
            .windows(2)
            .filter(|pair| pair[0].abs_diff(pair[1]) <= 10);
        // 20 of 10,000 distances are that short: 20 pairs are expected.
        assert!(close.count() < 60);
    }

    proptest! {
        #[test]
        fn an_epoch_sees_each_row_once(
            rows in 1_u64..2000,
            seed: u64,
            epoch in 0_u64..1000,
        ) {
            let permutation = Permutation::new(&vox_crypto::hash(b"data"), seed, epoch, rows);
            let mut seen = vec![false; rows as usize];
            for at in 0..rows {
                let row = permutation.at(at) as usize;
                prop_assert!(!std::mem::replace(&mut seen[row], true));
            }
        }

        #[test]
        fn any_position_is_found_without_those_before_it(
            rows in 1_u64..u64::MAX / 2,
            position: u64,
        ) {
            let place = order(5, rows).at(position);
            prop_assert!(place.row < rows);
            prop_assert_eq!(place.epoch, position / rows);
            prop_assert_eq!(place, order(5, rows).at(position));
        }
    }
}
