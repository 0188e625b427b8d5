//! Pieces of weights of 5 and 6 bits: nibbles, and the bits above them in planes.
//!
//! A plane has a byte for each of four columns of sixteen rows, as a chunk of weights has; the bits of one chunk after
//! the other lie in it from the lowest on.

use half::f16;
use vox_quant::blocks::{BLOCK, Q5_0, Q6K, SUPER_BLOCK};

use super::groups::{Nibbles, Piece, Row, get_nibbles, prefetch, rolled, set_nibbles};
use crate::kernels::inputs::InputBlock;
use crate::kernels::simd::{LANES, Simd};

/// A byte for each of four columns of sixteen rows.
type Plane = [u8; 4 * LANES];

/// The fours of either half of a block of inputs.
type Halves<'x> = (&'x [[i8; 4]], &'x [[i8; 4]]);

/// 32 columns of 5 bits, 352 bytes.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct Q5Piece {
    /// The scales of the rows, in half precision.
    scales: [u16; LANES],
    nibbles: Nibbles,
    /// The fifth bits.
    fifths: Plane,
}

impl Piece for Q5Piece {
    type Input = InputBlock;
    const COLUMNS: usize = BLOCK;
    const INPUTS: usize = 1;

    fn pack(rows: &[Row<'_>; LANES], index: usize) -> Self {
        let mut piece = Self {
            scales: [0; LANES],
            nibbles: [[0; 4 * LANES]; BLOCK / 8],
            fifths: [0; 4 * LANES],
        };
        for (row, x) in rows.iter().enumerate() {
            let block: Q5_0 = x.block(index);
            piece.scales[row] = block.d;
            let levels = block.levels();
            set_nibbles(&mut piece.nibbles, row, &levels.map(|level| level & 15));
            for (column, level) in levels.iter().enumerate() {
                piece.fifths[4 * row + column % 4] |= (level >> 4) << (column / 4);
            }
        }
        piece
    }

    fn unpack(&self, row: usize, to: &mut [f32]) {
        let scale = f16::from_bits(self.scales[row]).to_f32();
        let lower = get_nibbles(&self.nibbles, row);
        for (column, (to, lower)) in to.iter_mut().zip(lower).enumerate() {
            let fifth = (self.fifths[4 * row + column % 4] >> (column / 4)) & 1;
            *to = (f32::from(lower | (fifth << 4)) - 16.0) * scale;
        }
    }

    #[inline(always)]
    fn products<S: Simd, const M: usize, const G: usize>(
        simd: S,
        groups: [&[Self]; G],
        mut x: [&[InputBlock]; M],
    ) -> [[S::F; G]; M] {
        let chunks = rolled::<M>(BLOCK / 8);
        let mut products = [[simd.splat(0.0); G]; M];
        for g in 0..G {
            let group = groups[g];
            for m in 0..M {
                x[m] = &x[m][..group.len()];
            }
            let mut sums = [simd.splat(0.0); M];
            for (index, piece) in group.iter().enumerate() {
                prefetch::<S, _, M>(simd, piece);
                let mut whole = [simd.begin_bytes(0); M];
                for m in 0..M {
                    whole[m] = simd.begin_bytes(x[m][index].sum);
                }
                let mut inputs = [&InputBlock::ZERO; M];
                for m in 0..M {
                    inputs[m] = &x[m][index];
                }
                let halves = halves(inputs, chunks);
                for (chunk, bytes) in piece.nibbles[..chunks].iter().enumerate() {
                    let (low, high) = simd.nibbles(bytes);
                    let low = simd.upper(low, &piece.fifths, chunk as i32, 1);
                    let high = simd.upper(high, &piece.fifths, (chunk + 4) as i32, 1);
                    for m in 0..M {
                        whole[m] = simd.dot_bytes(whole[m], low, halves[m].0[chunk]);
                        whole[m] = simd.dot_bytes(whole[m], high, halves[m].1[chunk]);
                    }
                }
                let scales = simd.load_f16(&piece.scales);
                for m in 0..M {
                    let scale = simd.mul(scales, simd.splat(x[m][index].scale));
                    sums[m] = simd.fma(simd.float(whole[m]), scale, sums[m]);
                }
            }
            for m in 0..M {
                products[m][g] = sums[m];
            }
        }
        products
    }
}

/// 256 columns of 6 bits in sixteen parts with scales, 3360 bytes.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct Q6KPiece {
    /// The rows' scales of scales, in half precision.
    d: [u16; LANES],
    /// The rows' scales plus 128, part after part.
    scales: [[u8; LANES]; SUPER_BLOCK / 16],
    /// Of 32 columns after the other: the nibbles, and of either half the bits above them.
    nibbles: [Nibbles; 8],
    upper: [[Plane; 2]; 8],
}

impl Piece for Q6KPiece {
    type Input = InputBlock;
    const COLUMNS: usize = SUPER_BLOCK;
    const INPUTS: usize = SUPER_BLOCK / BLOCK;

    fn pack(rows: &[Row<'_>; LANES], index: usize) -> Self {
        let mut piece = Self {
            d: [0; LANES],
            scales: [[0; LANES]; SUPER_BLOCK / 16],
            nibbles: [[[0; 4 * LANES]; BLOCK / 8]; 8],
            upper: [[[0; 4 * LANES]; 2]; 8],
        };
        for (row, x) in rows.iter().enumerate() {
            let block: Q6K = x.block(index);
            piece.d[row] = block.d;
            for (scales, scale) in piece.scales.iter_mut().zip(block.scales) {
                scales[row] = (i16::from(scale) + 128) as u8;
            }
            let levels = block.levels();
            for (part, levels) in levels.as_chunks::<BLOCK>().0.iter().enumerate() {
                set_nibbles(
                    &mut piece.nibbles[part],
                    row,
                    &levels.map(|level| level & 15),
                );
                for (column, level) in levels.iter().enumerate() {
                    let (half, column) = (column / 16, column % 16);
                    let byte = &mut piece.upper[part][half][4 * row + column % 4];
                    *byte |= (level >> 4) << (2 * (column / 4));
                }
            }
        }
        piece
    }

    fn unpack(&self, row: usize, to: &mut [f32]) {
        let d = f16::from_bits(self.d[row]).to_f32();
        for (part, to) in to.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            let lower = get_nibbles(&self.nibbles[part], row);
            for (column, (to, lower)) in to.iter_mut().zip(lower).enumerate() {
                let (half, column) = (column / 16, column % 16);
                let byte = self.upper[part][half][4 * row + column % 4];
                let upper = (byte >> (2 * (column / 4))) & 3;
                let scale = d * (f32::from(self.scales[2 * part + half][row]) - 128.0);
                *to = scale * (f32::from(lower | (upper << 4)) - 32.0);
            }
        }
    }

    #[inline(always)]
    fn products<S: Simd, const M: usize, const G: usize>(
        simd: S,
        groups: [&[Self]; G],
        mut x: [&[InputBlock]; M],
    ) -> [[S::F; G]; M] {
        let chunks = rolled::<M>(BLOCK / 8);
        let mut products = [[simd.splat(0.0); G]; M];
        for g in 0..G {
            let group = groups[g];
            for m in 0..M {
                x[m] = &x[m][..group.len() * Self::INPUTS];
            }
            let mut sums = [simd.splat(0.0); M];
            for (index, piece) in group.iter().enumerate() {
                prefetch::<S, _, M>(simd, piece);
                let d = simd.load_f16(&piece.d);
                for part in 0..Self::INPUTS {
                    let block = index * Self::INPUTS + part;
                    let [low_planes, high_planes] = &piece.upper[part];
                    let mut low_sums = [simd.begin_bytes(0); M];
                    let mut high_sums = [simd.begin_bytes(0); M];
                    for m in 0..M {
                        let first = first_half(&x[m][block]);
                        low_sums[m] = simd.begin_bytes(first);
                        high_sums[m] = simd.begin_bytes(x[m][block].sum - first);
                    }
                    let mut inputs = [&InputBlock::ZERO; M];
                    for m in 0..M {
                        inputs[m] = &x[m][block];
                    }
                    let halves = halves(inputs, chunks);
                    for (chunk, bytes) in piece.nibbles[part][..chunks].iter().enumerate() {
                        let (low, high) = simd.nibbles(bytes);
                        let low = simd.upper(low, low_planes, 2 * chunk as i32, 3);
                        let high = simd.upper(high, high_planes, 2 * chunk as i32, 3);
                        for m in 0..M {
                            low_sums[m] = simd.dot_bytes(low_sums[m], low, halves[m].0[chunk]);
                            high_sums[m] = simd.dot_bytes(high_sums[m], high, halves[m].1[chunk]);
                        }
                    }
                    let middle = simd.splat(128.0);
                    let low = simd.sub(simd.load_u8(&piece.scales[2 * part]), middle);
                    let high = simd.sub(simd.load_u8(&piece.scales[2 * part + 1]), middle);
                    let (low, high) = (simd.mul(d, low), simd.mul(d, high));
                    for m in 0..M {
                        let scale = simd.splat(x[m][block].scale);
                        let both = simd.mul(simd.float(low_sums[m]), low);
                        let both = simd.fma(simd.float(high_sums[m]), high, both);
                        sums[m] = simd.fma(both, scale, sums[m]);
                    }
                }
            }
            for m in 0..M {
                products[m][g] = sums[m];
            }
        }
        products
    }
}

/// The first and the second sixteen inputs of blocks, of which `chunks` fours are met.
#[inline(always)]
fn halves<const M: usize>(x: [&InputBlock; M], chunks: usize) -> [Halves<'_>; M] {
    let mut halves = [(&InputBlock::ZERO.quants[..0], &InputBlock::ZERO.quants[..0]); M];
    for m in 0..M {
        let (low, high) = x[m].quants.split_at(BLOCK / 8);
        halves[m] = (&low[..chunks], &high[..chunks]);
    }
    halves
}

/// The sum of the first sixteen inputs of a block.
#[inline(always)]
fn first_half(x: &InputBlock) -> i32 {
    let mut sum = 0;
    for four in &x.quants[..4] {
        for &quant in four {
            sum += i32::from(quant);
        }
    }
    sum
}
