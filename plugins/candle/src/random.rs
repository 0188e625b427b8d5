//! Random numbers that are a function of where they are used: no state, so nothing to save and nothing that
//! depends on the order of work.
//!
//! The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3",
//! SC 2011); the tests hold it to the known answers of its authors' Random123.

use std::f64::consts::PI;

/// The multipliers of a round.
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];

/// What the keys grow by from round to round.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Rounds of the mixing.
const ROUNDS: usize = 10;

/// Random numbers for one seed and one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Random {
    key: [u32; 2],
    stream: u64,
}

impl Random {
    /// The numbers of a seed; streams of one seed have nothing in common, and a stream is what the numbers
    /// are for, as in a step or a tensor.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            stream,
        }
    }

    /// Four words for a position.
    pub fn words(&self, position: u64) -> [u32; 4] {
        let Self { key, stream } = *self;
        let counter = [
            position as u32,
            (position >> 32) as u32,
            stream as u32,
            (stream >> 32) as u32,
        ];
        philox(counter, key)
    }

    /// A number from 0 to below 1 for a position, evenly spread, of 53 bits.
    pub fn uniform(&self, position: u64) -> f64 {
        let [low, high, ..] = self.words(position);
        let word = (u64::from(high) << 32) | u64::from(low);
        (word >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number of the standard normal distribution for a position (Box and Muller).
    pub fn normal(&self, position: u64) -> f64 {
        let [a, b, c, d] = self.words(position);
        let unit = |low: u32, high: u32| {
            let word = (u64::from(high) << 32) | u64::from(low);
            ((word >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
        };
        (-2.0 * unit(a, b).ln()).sqrt() * (2.0 * PI * unit(c, d)).cos()
    }
}

/// The generator itself.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let product = |at: usize, by: usize| u64::from(MULTIPLIERS[by]) * u64::from(counter[at]);
        let (first, second) = (product(0, 0), product(2, 1));
        counter = [
            (second >> 32) as u32 ^ counter[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ counter[3] ^ key[1],
            first as u32,
        ];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_known_answers_of_random123() {
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn normal_numbers_have_the_mean_and_the_variance_of_the_distribution() {
        let random = Random::new(7, 1);
        let numbers: Vec<f64> = (0..20_000).map(|at| random.normal(at)).collect();
        let mean = numbers.iter().sum::<f64>() / 2e4;
        let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 2e4;
        assert!(mean.abs() < 0.03, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }
}
