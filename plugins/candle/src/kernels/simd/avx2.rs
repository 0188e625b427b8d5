//! AVX2, FMA and F16C: a vector is two registers.

use std::arch::x86_64::*;

use super::{Kernel, LANES, Level, Simd};

/// The proof that the processor has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Runs a kernel with AVX2, FMA and F16C.
///
/// # Panics
///
/// Where the processor lacks them.
#[inline]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn with_features<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx2(()))
    }
    assert!(Level::Avx2.is_available());
    // SAFETY: the processor has the features, as was just asserted.
    unsafe { with_features(kernel) }
}

/// Calls of intrinsics. `self` is an [`Avx2`] wherever it is used, and only where the processor has the features
/// are there values of that; pointers come from references to as many bytes as are read or written.
macro_rules! intrinsics {
    ($body:expr) => {
        // SAFETY: as the macro says.
        unsafe { $body }
    };
}

/// An intrinsic on both registers.
macro_rules! both {
    ($name:ident($($x:expr),+)) => {
        intrinsics!(($name($($x.0),+), $name($($x.1),+)))
    };
}

impl Simd for Avx2 {
    const ROWS: usize = 4;
    type F = (__m256, __m256);
    type I = (__m256i, __m256i);
    /// The weights and their absolute values.
    type Bytes = ([__m256i; 2], [__m256i; 2]);
    type Nibbles = (__m256i, __m256i);
    /// Two sums of 16 bits for every lane.
    type NibbleSums = (__m256i, __m256i);

    #[inline(always)]
    fn prefetch<T>(self, from: &T, ahead: usize) {
        // It reads nothing, whatever the address.
        let line = std::ptr::from_ref(from).wrapping_byte_add(ahead);
        intrinsics!(_mm_prefetch::<_MM_HINT_T0>(line.cast()));
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        intrinsics!((_mm256_set1_ps(x), _mm256_set1_ps(x)))
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        let from = from.as_ptr();
        intrinsics!((_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))))
    }

    #[inline(always)]
    fn store(self, x: Self::F, to: &mut [f32; LANES]) {
        let to = to.as_mut_ptr();
        intrinsics!({
            _mm256_storeu_ps(to, x.0);
            _mm256_storeu_ps(to.add(8), x.1);
        });
    }

    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> Self::F {
        let from = from.as_ptr();
        intrinsics!((
            _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())),
        ))
    }

    #[inline(always)]
    fn store_f16(self, x: Self::F, to: &mut [u16; LANES]) {
        let to = to.as_mut_ptr();
        intrinsics!({
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x.0));
            let high = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x.1);
            _mm_storeu_si128(to.add(8).cast(), high);
        });
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u16; LANES]) -> Self::F {
        let from = from.as_ptr();
        intrinsics!({
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(8).cast()));
            (
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            )
        })
    }

    #[inline(always)]
    fn load_u8(self, from: &[u8; LANES]) -> Self::F {
        intrinsics!({
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            let high = _mm_srli_si128::<8>(bytes);
            (
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(high)),
            )
        })
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        both!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_min_ps(a, b))
    }

    #[inline(always)]
    fn abs(self, x: Self::F) -> Self::F {
        let sign = self.splat(-0.0);
        both!(_mm256_andnot_ps(sign, x))
    }

    #[inline(always)]
    fn round(self, x: Self::F) -> Self::I {
        both!(_mm256_cvtps_epi32(x))
    }

    #[inline(always)]
    fn float(self, x: Self::I) -> Self::F {
        both!(_mm256_cvtepi32_ps(x))
    }

    #[inline(always)]
    fn exp2(self, n: Self::I) -> Self::F {
        intrinsics!({
            let bias = _mm256_set1_epi32(127);
            let low = _mm256_slli_epi32::<23>(_mm256_add_epi32(n.0, bias));
            let high = _mm256_slli_epi32::<23>(_mm256_add_epi32(n.1, bias));
            (_mm256_castsi256_ps(low), _mm256_castsi256_ps(high))
        })
    }

    #[inline(always)]
    fn store_i8(self, x: Self::I, to: &mut [i8; LANES]) {
        intrinsics!({
            // Both halves of the registers are packed by themselves, so the words come out of order.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(x.0, x.1));
            let low = _mm256_castsi256_si128(words);
            let bytes = _mm_packs_epi16(low, _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        });
    }

    #[inline(always)]
    fn bytes(self, chunk: &[i8; 64]) -> Self::Bytes {
        let chunk = chunk.as_ptr();
        intrinsics!({
            let low = _mm256_loadu_si256(chunk.cast());
            let high = _mm256_loadu_si256(chunk.add(32).cast());
            ([low, high], [_mm256_abs_epi8(low), _mm256_abs_epi8(high)])
        })
    }

    #[inline(always)]
    fn begin_bytes(self, _: i32) -> Self::I {
        intrinsics!((_mm256_setzero_si256(), _mm256_setzero_si256()))
    }

    #[inline(always)]
    fn dot_bytes(self, sums: Self::I, weights: Self::Bytes, x: [i8; 4]) -> Self::I {
        // One factor must be unsigned: |w| · (x with the sign of w). Pairs are at most 2 · 128 · 127, which 16 bits hold.
        intrinsics!({
            let x = _mm256_set1_epi32(i32::from_ne_bytes(x.map(|x| x as u8)));
            let ones = _mm256_set1_epi16(1);
            let low = _mm256_maddubs_epi16(weights.1[0], _mm256_sign_epi8(x, weights.0[0]));
            let high = _mm256_maddubs_epi16(weights.1[1], _mm256_sign_epi8(x, weights.0[1]));
            (
                _mm256_add_epi32(sums.0, _mm256_madd_epi16(low, ones)),
                _mm256_add_epi32(sums.1, _mm256_madd_epi16(high, ones)),
            )
        })
    }

    #[inline(always)]
    fn nibbles(self, chunk: &[u8; 64]) -> (Self::Nibbles, Self::Nibbles) {
        let chunk = chunk.as_ptr();
        intrinsics!({
            let mask = _mm256_set1_epi8(15);
            let first = _mm256_loadu_si256(chunk.cast());
            let second = _mm256_loadu_si256(chunk.add(32).cast());
            let low = (
                _mm256_and_si256(first, mask),
                _mm256_and_si256(second, mask),
            );
            let high = (
                _mm256_and_si256(_mm256_srli_epi16::<4>(first), mask),
                _mm256_and_si256(_mm256_srli_epi16::<4>(second), mask),
            );
            (low, high)
        })
    }

    #[inline(always)]
    fn upper(self, lower: Self::Nibbles, plane: &[u8; 64], shift: i32, mask: i8) -> Self::Bytes {
        let plane = plane.as_ptr();
        intrinsics!({
            let shift = _mm_cvtsi32_si128(shift);
            let (bits, half) = (_mm256_set1_epi8(mask), _mm256_set1_epi8(8 * (mask + 1)));
            let first = _mm256_srl_epi16(_mm256_loadu_si256(plane.cast()), shift);
            let second = _mm256_srl_epi16(_mm256_loadu_si256(plane.add(32).cast()), shift);
            let first = _mm256_slli_epi16::<4>(_mm256_and_si256(first, bits));
            let second = _mm256_slli_epi16::<4>(_mm256_and_si256(second, bits));
            let low = _mm256_sub_epi8(_mm256_or_si256(lower.0, first), half);
            let high = _mm256_sub_epi8(_mm256_or_si256(lower.1, second), half);
            ([low, high], [_mm256_abs_epi8(low), _mm256_abs_epi8(high)])
        })
    }

    #[inline(always)]
    fn begin_nibbles(self, start: i32) -> Self::NibbleSums {
        // In the first of the two sums of every lane: Σ(w − 8)x over its 16 inputs and −8Σx over the other's are
        // each at most 8 · 16 · 127, so their sum fits, and what wraps on the way wraps back.
        let start = intrinsics!(_mm256_set1_epi32(start & 0xffff));
        (start, start)
    }

    #[inline(always)]
    fn dot_nibbles(
        self,
        sums: Self::NibbleSums,
        weights: Self::Nibbles,
        x: [i8; 4],
    ) -> Self::NibbleSums {
        // Eight pairs are at most 16 · 15 · 127, which 16 bits hold.
        intrinsics!({
            let x = _mm256_set1_epi32(i32::from_ne_bytes(x.map(|x| x as u8)));
            (
                _mm256_add_epi16(sums.0, _mm256_maddubs_epi16(weights.0, x)),
                _mm256_add_epi16(sums.1, _mm256_maddubs_epi16(weights.1, x)),
            )
        })
    }

    #[inline(always)]
    fn end_nibbles(self, sums: Self::NibbleSums) -> Self::I {
        let ones = intrinsics!(_mm256_set1_epi16(1));
        let ones = (ones, ones);
        both!(_mm256_madd_epi16(sums, ones))
    }
}
