//! Inputs of products with quantised weights: rows in blocks of 32 numbers of 8 bits.

use vox_quant::blocks::BLOCK;

use super::simd::{Kernel, LANES, Level, Simd, largest};

/// 32 numbers `scale · q`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct InputBlock {
    /// The numbers in units of the scale, −127 to 127, in fours as they meet weights.
    pub quants: [[i8; 4]; BLOCK / 4],
    /// The scale.
    pub scale: f32,
    /// The sum of `quants`.
    pub sum: i32,
}

impl InputBlock {
    /// 32 zeros.
    pub const ZERO: Self = Self {
        quants: [[0; 4]; BLOCK / 4],
        scale: 0.0,
        sum: 0,
    };

    /// Its numbers.
    pub fn dequantise(&self) -> [f32; BLOCK] {
        let mut x = [0.0; BLOCK];
        for (x, &q) in x.iter_mut().zip(self.quants.as_flattened()) {
            *x = f32::from(q) * self.scale;
        }
        x
    }
}

/// Quantises a row. Each block's scale is its largest absolute value over 127, and is not rounded to half precision as
/// Q8_0's is; numbers are rounded to the nearest, ties to even. What is missing to a whole block is zero.
///
/// # Panics
///
/// Where `blocks` are not as many as `x` fills.
pub fn quantise(level: Level, x: &[f32], blocks: &mut [InputBlock]) {
    assert_eq!(
        blocks.len(),
        x.len().div_ceil(BLOCK),
        "blocks for {} numbers",
        x.len()
    );
    level.run(Quantise { x, blocks });
}

struct Quantise<'a> {
    x: &'a [f32],
    blocks: &'a mut [InputBlock],
}

impl Kernel for Quantise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (whole, rest) = self.x.as_chunks::<BLOCK>();
        for (x, block) in whole.iter().zip(&mut *self.blocks) {
            quantise_block(simd, x, block);
        }
        if !rest.is_empty() {
            let mut x = [0.0; BLOCK];
            x[..rest.len()].copy_from_slice(rest);
            quantise_block(simd, &x, &mut self.blocks[whole.len()]);
        }
    }
}

/// Quantises one block.
#[inline(always)]
pub(super) fn quantise_block<S: Simd>(simd: S, x: &[f32; BLOCK], block: &mut InputBlock) {
    let halves = x.as_chunks::<LANES>().0;
    let (low, high) = (simd.load(&halves[0]), simd.load(&halves[1]));
    let most = largest(simd, simd.max(simd.abs(low), simd.abs(high)));
    block.scale = most / 127.0;
    let inverse = simd.splat(if most > 0.0 { 127.0 / most } else { 0.0 });
    let quants = block.quants.as_flattened_mut().as_chunks_mut::<LANES>().0;
    simd.store_i8(simd.round(simd.mul(low, inverse)), &mut quants[0]);
    simd.store_i8(simd.round(simd.mul(high, inverse)), &mut quants[1]);
    let mut sum = 0;
    for &quant in quants.as_flattened() {
        sum += i32::from(quant);
    }
    block.sum = sum;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::tests::{levels, numbers};

    #[test]
    fn every_level_quantises_to_the_same_blocks() {
        let x = numbers(7, 100);
        let mut expected = [InputBlock::ZERO; 4];
        quantise(Level::Portable, &x, &mut expected);
        for level in levels() {
            let mut blocks = [InputBlock::ZERO; 4];
            quantise(level, &x, &mut blocks);
            assert_eq!(blocks, expected, "{}", level.name());
        }
    }

    #[test]
    fn a_quantised_input_is_within_half_a_unit_and_padded_with_zeros() {
        let x = numbers(3, 40);
        let mut blocks = [InputBlock::ZERO; 2];
        quantise(Level::best(), &x, &mut blocks);
        let back: Vec<f32> = blocks.iter().flat_map(InputBlock::dequantise).collect();
        for (index, back) in back.iter().enumerate() {
            let unit = blocks[index / BLOCK].scale;
            let x = x.get(index).copied().unwrap_or(0.0);
            assert!((x - back).abs() <= unit * 0.5001, "{x} became {back}");
        }
        assert!(back[40..].iter().all(|&x| x == 0.0));
        for block in &blocks {
            let sum: i32 = block
                .quants
                .as_flattened()
                .iter()
                .map(|&q| i32::from(q))
                .sum();
            assert_eq!(block.sum, sum);
        }
    }

    #[test]
    fn zeros_are_quantised_to_zeros() {
        let mut blocks = [InputBlock {
            sum: 5,
            ..InputBlock::ZERO
        }];
        quantise(Level::best(), &[0.0; BLOCK], &mut blocks);
        assert_eq!(blocks, [InputBlock::ZERO]);
    }
}
