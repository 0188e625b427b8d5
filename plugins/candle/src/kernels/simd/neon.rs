//! NEON, with the dot products of bytes where the processor has them: a vector is four registers.

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Kernel, LANES, Level, Simd};

/// The proof that the processor has NEON, and the dot products of bytes (`dotprod`) where `DOTPROD` says so.
#[derive(Clone, Copy)]
pub(super) struct Neon<const DOTPROD: bool>(());

/// Runs a kernel with NEON.
///
/// # Panics
///
/// Where the processor lacks it.
#[inline]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    #[target_feature(enable = "neon")]
    fn with_features<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Neon::<false>(()))
    }
    assert!(Level::Neon.is_available());
    // SAFETY: the processor has the feature, as was just asserted.
    unsafe { with_features(kernel) }
}

/// Runs a kernel with NEON and dot products of bytes.
///
/// # Panics
///
/// Where the processor lacks them.
#[inline]
pub(super) fn run_dotprod<K: Kernel>(kernel: K) -> K::Output {
    #[target_feature(enable = "neon,dotprod")]
    fn with_features<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Neon::<true>(()))
    }
    assert!(Level::NeonDotprod.is_available());
    // SAFETY: the processor has the features, as was just asserted.
    unsafe { with_features(kernel) }
}

/// Calls of intrinsics. `self` is a [`Neon`] wherever it is used, and only where the processor has the features
/// are there values of that; pointers come from references to as many bytes as are read or written.
macro_rules! intrinsics {
    ($body:expr) => {
        // SAFETY: as the macro says.
        unsafe { $body }
    };
}

/// An expression for each of the four registers.
macro_rules! four {
    ($register:ident => $body:expr) => {
        intrinsics!([
            {
                let $register = 0;
                $body
            },
            {
                let $register = 1;
                $body
            },
            {
                let $register = 2;
                $body
            },
            {
                let $register = 3;
                $body
            },
        ])
    };
}

/// Adds the products of four weights and inputs to each of four sums, with the instruction whose intrinsic is not
/// stable yet.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn add_products(mut sums: int32x4_t, weights: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction is one of the function's features, and touches these registers alone.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {weights:v}.16b, {x:v}.16b",
            sums = inout(vreg) sums,
            weights = in(vreg) weights,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// [`add_products`] without that instruction.
#[inline]
#[target_feature(enable = "neon")]
fn add_widened(sums: int32x4_t, weights: int8x16_t, x: int8x16_t) -> int32x4_t {
    // Pairs are at most 2 · 128 · 127, which 16 bits hold.
    let low = vmull_s8(vget_low_s8(weights), vget_low_s8(x));
    let high = vmull_high_s8(weights, x);
    vpadalq_s16(sums, vpaddq_s16(low, high))
}

impl<const DOTPROD: bool> Simd for Neon<DOTPROD> {
    const ROWS: usize = 4;
    type F = [float32x4_t; 4];
    type I = [int32x4_t; 4];
    type Bytes = [int8x16_t; 4];
    type Nibbles = [int8x16_t; 4];
    type NibbleSums = [int32x4_t; 4];

    #[inline(always)]
    fn prefetch<T>(self, from: &T, ahead: usize) {
        let line = std::ptr::from_ref(from).wrapping_byte_add(ahead);
        // SAFETY: it reads nothing, whatever the address.
        unsafe {
            asm!(
                "prfm pldl1keep, [{line}]",
                line = in(reg) line.cast::<u8>(),
                options(nomem, nostack, preserves_flags),
            );
        }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        intrinsics!([vdupq_n_f32(x); 4])
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        let from = from.as_ptr();
        four!(i => vld1q_f32(from.add(4 * i)))
    }

    #[inline(always)]
    fn store(self, x: Self::F, to: &mut [f32; LANES]) {
        let to = to.as_mut_ptr();
        four!(i => vst1q_f32(to.add(4 * i), x[i]));
    }

    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> Self::F {
        let from = from.as_ptr();
        four!(i => vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from.add(4 * i)))))
    }

    #[inline(always)]
    fn store_f16(self, x: Self::F, to: &mut [u16; LANES]) {
        let to = to.as_mut_ptr();
        four!(i => vst1_u16(to.add(4 * i), vreinterpret_u16_f16(vcvt_f16_f32(x[i]))));
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u16; LANES]) -> Self::F {
        let from = from.as_ptr();
        four!(i => {
            let words = vmovl_u16(vld1_u16(from.add(4 * i)));
            vreinterpretq_f32_u32(vshlq_n_u32::<16>(words))
        })
    }

    #[inline(always)]
    fn load_u8(self, from: &[u8; LANES]) -> Self::F {
        intrinsics!({
            let bytes = vld1q_u8(from.as_ptr());
            let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
            [
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))),
                vcvtq_f32_u32(vmovl_high_u16(low)),
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))),
                vcvtq_f32_u32(vmovl_high_u16(high)),
            ]
        })
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        four!(i => vaddq_f32(a[i], b[i]))
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        four!(i => vsubq_f32(a[i], b[i]))
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        four!(i => vmulq_f32(a[i], b[i]))
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        four!(i => vdivq_f32(a[i], b[i]))
    }

    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        four!(i => vfmaq_f32(c[i], a[i], b[i]))
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        // Of zeros of both signs the other levels give the second, and the instruction for it the positive one.
        four!(i => vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i]))
    }

    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        four!(i => vbslq_f32(vcltq_f32(a[i], b[i]), a[i], b[i]))
    }

    #[inline(always)]
    fn abs(self, x: Self::F) -> Self::F {
        four!(i => vabsq_f32(x[i]))
    }

    #[inline(always)]
    fn round(self, x: Self::F) -> Self::I {
        four!(i => vcvtnq_s32_f32(x[i]))
    }

    #[inline(always)]
    fn float(self, x: Self::I) -> Self::F {
        four!(i => vcvtq_f32_s32(x[i]))
    }

    #[inline(always)]
    fn exp2(self, n: Self::I) -> Self::F {
        four!(i => {
            let biased = vaddq_s32(n[i], vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        })
    }

    #[inline(always)]
    fn store_i8(self, x: Self::I, to: &mut [i8; LANES]) {
        intrinsics!({
            let low = vmovn_high_s32(vmovn_s32(x[0]), x[1]);
            let high = vmovn_high_s32(vmovn_s32(x[2]), x[3]);
            vst1q_s8(to.as_mut_ptr(), vmovn_high_s16(vmovn_s16(low), high));
        });
    }

    #[inline(always)]
    fn bytes(self, chunk: &[i8; 64]) -> Self::Bytes {
        let chunk = chunk.as_ptr();
        four!(i => vld1q_s8(chunk.add(16 * i)))
    }

    #[inline(always)]
    fn begin_bytes(self, _: i32) -> Self::I {
        intrinsics!([vdupq_n_s32(0); 4])
    }

    #[inline(always)]
    fn dot_bytes(self, sums: Self::I, weights: Self::Bytes, x: [i8; 4]) -> Self::I {
        // The first input in the lowest byte, whatever the order in memory.
        let x = i32::from_le_bytes(x.map(|x| x as u8));
        let x = intrinsics!(vreinterpretq_s8_s32(vdupq_n_s32(x)));
        if DOTPROD {
            four!(i => add_products(sums[i], weights[i], x))
        } else {
            four!(i => add_widened(sums[i], weights[i], x))
        }
    }

    #[inline(always)]
    fn nibbles(self, chunk: &[u8; 64]) -> (Self::Nibbles, Self::Nibbles) {
        let chunk = chunk.as_ptr();
        let both = four!(i => vld1q_u8(chunk.add(16 * i)));
        let low = four!(i => vreinterpretq_s8_u8(vandq_u8(both[i], vdupq_n_u8(15))));
        let high = four!(i => vreinterpretq_s8_u8(vshrq_n_u8::<4>(both[i])));
        (low, high)
    }

    #[inline(always)]
    fn upper(self, lower: Self::Nibbles, plane: &[u8; 64], shift: i32, mask: i8) -> Self::Bytes {
        let plane = plane.as_ptr();
        four!(i => {
            // To the left by less than nothing is to the right.
            let upper = vshlq_u8(vld1q_u8(plane.add(16 * i)), vdupq_n_s8(-(shift as i8)));
            let upper = vandq_s8(vreinterpretq_s8_u8(upper), vdupq_n_s8(mask));
            let weights = vsliq_n_s8::<4>(lower[i], upper);
            vsubq_s8(weights, vdupq_n_s8(8 * (mask + 1)))
        })
    }

    #[inline(always)]
    fn begin_nibbles(self, start: i32) -> Self::NibbleSums {
        intrinsics!([vdupq_n_s32(start); 4])
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
