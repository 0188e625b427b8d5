//! The level that every machine has, and that the others are held against.

use half::{bf16, f16};

use super::{LANES, Simd};

/// Arrays and loops, which compilers turn into what vectors the target has.
#[derive(Clone, Copy)]
pub(super) struct Portable;

/// Each lane of `$from` through an expression.
macro_rules! lanes {
    ($($name:ident in $from:expr),+ => $result:expr) => {{
        let mut lanes = [Default::default(); LANES];
        for (index, lane) in lanes.iter_mut().enumerate() {
            $(let $name = $from[index];)+
            *lane = $result;
        }
        lanes
    }};
}

impl Simd for Portable {
    const ROWS: usize = 1;
    type F = [f32; LANES];
    type I = [i32; LANES];
    type Bytes = [i8; 64];
    type Nibbles = [i8; 64];
    type NibbleSums = [i32; LANES];

    #[inline(always)]
    fn prefetch<T>(self, _: &T, _: usize) {}

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        *from
    }

    #[inline(always)]
    fn store(self, x: Self::F, to: &mut [f32; LANES]) {
        *to = x;
    }

    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> Self::F {
        lanes!(x in from => f16::from_bits(x).to_f32_const())
    }

    #[inline(always)]
    fn store_f16(self, x: Self::F, to: &mut [u16; LANES]) {
        *to = lanes!(x in x => f16::from_f32_const(x).to_bits());
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u16; LANES]) -> Self::F {
        lanes!(x in from => bf16::from_bits(x).to_f32_const())
    }

    #[inline(always)]
    fn load_u8(self, from: &[u8; LANES]) -> Self::F {
        lanes!(x in from => f32::from(x))
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(a in a, b in b => a + b)
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(a in a, b in b => a - b)
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(a in a, b in b => a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(a in a, b in b => a / b)
    }

    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        lanes!(a in a, b in b, c in c => f32::mul_add(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(a in a, b in b => if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(a in a, b in b => if a < b { a } else { b })
    }

    #[inline(always)]
    fn abs(self, x: Self::F) -> Self::F {
        lanes!(x in x => x.abs())
    }

    #[inline(always)]
    fn round(self, x: Self::F) -> Self::I {
        lanes!(x in x => x.round_ties_even() as i32)
    }

    #[inline(always)]
    fn float(self, x: Self::I) -> Self::F {
        lanes!(x in x => x as f32)
    }

    #[inline(always)]
    fn exp2(self, n: Self::I) -> Self::F {
        lanes!(n in n => f32::from_bits(((n + 127) << 23) as u32))
    }

    #[inline(always)]
    fn store_i8(self, x: Self::I, to: &mut [i8; LANES]) {
        *to = lanes!(x in x => x as i8);
    }

    #[inline(always)]
    fn bytes(self, chunk: &[i8; 64]) -> Self::Bytes {
        *chunk
    }

    #[inline(always)]
    fn begin_bytes(self, _: i32) -> Self::I {
        [0; LANES]
    }

    #[inline(always)]
    fn dot_bytes(self, mut sums: Self::I, weights: Self::Bytes, x: [i8; 4]) -> Self::I {
        for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<4>().0) {
            for (weight, x) in weights.iter().zip(x) {
                *sum += i32::from(*weight) * i32::from(x);
            }
        }
        sums
    }

    #[inline(always)]
    fn nibbles(self, chunk: &[u8; 64]) -> (Self::Nibbles, Self::Nibbles) {
        let (mut low, mut high) = ([0; 64], [0; 64]);
        for (index, byte) in chunk.iter().enumerate() {
            low[index] = (byte & 15) as i8;
            high[index] = (byte >> 4) as i8;
        }
        (low, high)
    }

    #[inline(always)]
    fn upper(self, lower: Self::Nibbles, plane: &[u8; 64], shift: i32, mask: i8) -> Self::Bytes {
        let mut weights = lower;
        for (weight, &byte) in weights.iter_mut().zip(plane) {
            let upper = (byte >> shift) as i8 & mask;
            *weight = (*weight | (upper << 4)) - 8 * (mask + 1);
        }
        weights
    }

    #[inline(always)]
    fn begin_nibbles(self, start: i32) -> Self::NibbleSums {
        [start; LANES]
    }

    #[inline(always)]
    fn dot_nibbles(
        self,
        sums: Self::NibbleSums,
        weights: Self::Nibbles,
        x: [i8; 4],
    ) -> Self::NibbleSums {
        self.dot_bytes(sums, weights, x)
    }

    #[inline(always)]
    fn end_nibbles(self, sums: Self::NibbleSums) -> Self::I {
        sums
    }
}
