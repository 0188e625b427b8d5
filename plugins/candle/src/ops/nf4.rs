//! NF4 with double quantisation: the 4 bits of QLoRA (Dettmers et al. 2023), as the library bitsandbytes has
//! them.
//!
//! Weights, row by row, are cut into blocks of [`BLOCK`]. A block is its greatest magnitude and for each weight
//! the nearest of 16 quantiles of a normal distribution, two to a byte, the first in the high half. The
//! magnitudes, less their mean, are cut into blocks of [`SCALES`] in turn, each a float and for each magnitude
//! one of the 256 numbers of [`dynamic_map`]. That makes 4.127 bits a weight.
//! A block of nothing but zeros is of the code of 0, where that library has the code of -1 times nothing, which
//! the second quantisation makes something of.

use std::sync::LazyLock;

use rayon::prelude::*;

/// Weights of a block.
pub const BLOCK: usize = 64;

/// Magnitudes of a block of them.
pub const SCALES: usize = 256;

/// The code book: `bitsandbytes/functional.py`, `get_4bit_type("nf4")`.
pub const CODE_BOOK: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The 256 numbers from -0.993 to 1 for magnitudes: seven powers of ten, of which each has twice as many numbers
/// as the next lower one. `bitsandbytes/functional.py`, `create_dynamic_map()`; in host memory that library then
/// writes -1 over the first number.
pub fn dynamic_map() -> &'static [f32; 256] {
    static MAP: LazyLock<[f32; 256]> = LazyLock::new(|| {
        let mut map = Vec::with_capacity(256);
        for exponent in 0..7_i32 {
            let items = 1_u32 << exponent;
            let step = (1.0 - 0.1_f32) / items as f32;
            // `torch.linspace`: from both ends, in fused operations of 32 bits.
            let boundary = |at: u32| {
                if at < items.div_ceil(2) {
                    step.mul_add(at as f32, 0.1)
                } else {
                    (-step).mul_add((items - at) as f32, 1.0)
                }
            };
            let power = 10_f64.powi(exponent - 6) as f32;
            for at in 0..items {
                let mean = (boundary(at) + boundary(at + 1)) / 2.0 * power;
                map.extend([mean, -mean]);
            }
        }
        map.extend([0.0, 1.0]);
        map.sort_by(f32::total_cmp);
        let mut numbers = [0.0; 256];
        numbers.copy_from_slice(&map);
        numbers
    });
    &MAP
}

/// Weights in this format.
#[derive(Debug, Clone, PartialEq)]
pub struct Nf4 {
    /// Two weights a byte, [`BLOCK`]` / 2` bytes a block; what is missing in the last block is 0.
    pub codes: Vec<u8>,
    /// Of each block the number of its magnitude in [`dynamic_map`].
    pub scales: Vec<u8>,
    /// Of each [`SCALES`] blocks what the numbers are multiplied by.
    pub magnitudes: Vec<f32>,
    /// The mean of all magnitudes, which is added to each.
    pub mean: f32,
}

impl Nf4 {
    /// Quantises weights.
    pub fn quantise(weights: &[f32]) -> Self {
        let greatest = |block: &[f32]| block.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let absolute: Vec<f32> = weights.par_chunks(BLOCK).map(greatest).collect();
        let mut codes = vec![0x77; absolute.len() * BLOCK / 2];
        codes
            .par_chunks_mut(BLOCK / 2)
            .zip(weights.par_chunks(BLOCK))
            .zip(&absolute)
            .for_each(|((codes, block), &most)| quantise_block(codes, block, most));
        let mean =
            absolute.iter().map(|&x| f64::from(x)).sum::<f64>() / absolute.len().max(1) as f64;
        let mean = mean as f32;
        let rest: Vec<f32> = absolute.iter().map(|x| x - mean).collect();
        let magnitudes: Vec<f32> = rest.chunks(SCALES).map(greatest).collect();
        let scales = rest
            .chunks(SCALES)
            .zip(&magnitudes)
            .flat_map(|(block, &most)| {
                block.iter().map(move |x| {
                    if most > 0.0 {
                        nearest(dynamic_map(), x / most)
                    } else {
                        127
                    }
                })
            });
        Self {
            codes,
            scales: scales.collect(),
            magnitudes,
            mean,
        }
    }

    /// The magnitude of a block.
    pub fn magnitude(&self, block: usize) -> f32 {
        let number = dynamic_map()[usize::from(self.scales[block])];
        number * self.magnitudes[block / SCALES] + self.mean
    }

    /// Writes the weights that this stands for.
    ///
    /// # Panics
    ///
    /// Where `out` is longer than the blocks.
    pub fn dequantise(&self, out: &mut [f32]) {
        out.par_chunks_mut(BLOCK * 64)
            .enumerate()
            .for_each(|(part, out)| {
                for (at, out) in out.chunks_mut(BLOCK).enumerate() {
                    let block = part * 64 + at;
                    let most = self.magnitude(block);
                    let table = CODE_BOOK.map(|quantile| quantile * most);
                    let codes = &self.codes[block * BLOCK / 2..][..BLOCK / 2];
                    for (out, code) in out.chunks_mut(2).zip(codes) {
                        out[0] = table[usize::from(code >> 4)];
                        if let Some(second) = out.get_mut(1) {
                            *second = table[usize::from(code & 15)];
                        }
                    }
                }
            });
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        (self.codes.len() + self.scales.len() + 4 * self.magnitudes.len() + 4) as u64
    }
}

fn quantise_block(codes: &mut [u8], block: &[f32], most: f32) {
    if most <= 0.0 {
        return;
    }
    for (code, pair) in codes.iter_mut().zip(block.chunks(2)) {
        let number = |at: usize| pair.get(at).map_or(7, |x| nearest(&CODE_BOOK, x / most));
        *code = number(0) << 4 | number(1);
    }
}

/// The number of the nearest in a sorted table; of two that are as near, the lower.
fn nearest(table: &[f32], x: f32) -> u8 {
    let above = table
        .partition_point(|&entry| entry < x)
        .min(table.len() - 1);
    let below = above.saturating_sub(1);
    let is_above = (table[above] - x).abs() < (x - table[below]).abs();
    (if is_above { above } else { below }) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dynamic_map_is_that_of_bitsandbytes() {
        let map = dynamic_map();
        // The first and last numbers of `create_dynamic_map()`.
        assert_eq!(map[0], -0.992_968_74);
        assert_eq!(map[1], -0.978_906_3);
        assert_eq!(map[127], 0.0);
        assert_eq!(map[128], 5.500_000_4e-7);
        assert_eq!(map[254], 0.992_968_74);
        assert_eq!(map[255], 1.0);
    }

    #[test]
    fn quantiles_of_a_block_come_back_as_they_were() {
        let magnitudes = [3.0_f32, 0.5];
        let mut weights = Vec::new();
        for most in magnitudes {
            weights.extend((0..BLOCK).map(|at| CODE_BOOK[at * 7 % 16] * most));
        }
        let quantised = Nf4::quantise(&weights);
        assert_eq!(quantised.codes[..2], [0x07, 0xe5]);
        let mut back = vec![0.0; weights.len()];
        quantised.dequantise(&mut back);
        for (weight, back) in weights.iter().zip(back) {
            assert!(
                (weight - back).abs() <= weight.abs() * 0.02,
                "{weight} came back as {back}"
            );
        }
    }

    #[test]
    fn every_weight_becomes_the_nearest_quantile() {
        let mut weights: Vec<f32> = (0..1000).map(|at| (at as f32 * 0.37).sin()).collect();
        weights[999] = 1.0;
        let quantised = Nf4::quantise(&weights);
        for (at, weight) in weights.iter().enumerate() {
            let block = &weights[at / BLOCK * BLOCK..(at / BLOCK * BLOCK + BLOCK).min(1000)];
            let most = block.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let code = quantised.codes[at / 2];
            let code = if at % 2 == 0 { code >> 4 } else { code & 15 };
            let distance = |quantile: f32| (quantile - weight / most).abs();
            let least = CODE_BOOK.map(distance).into_iter().fold(f32::MAX, f32::min);
            assert!(distance(CODE_BOOK[usize::from(code)]) <= least + 1e-6);
        }
    }

    #[test]
    fn blocks_of_zeros_stay_zeros() {
        let quantised = Nf4::quantise(&[0.0; 130]);
        let mut back = [1.0; 130];
        quantised.dequantise(&mut back);
        assert_eq!(back, [0.0; 130]);
    }
}
