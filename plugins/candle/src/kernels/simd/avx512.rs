//! AVX-512 with VNNI: a vector is one register.

use std::arch::x86_64::*;

use super::{Kernel, LANES, Level, Simd};

/// The proof that the processor has AVX-512 F, BW, VL and VNNI, and what AVX2's level has.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

/// Runs a kernel with AVX-512 and VNNI.
///
/// # Panics
///
/// Where the processor lacks them.
#[inline]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
    fn with_features<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx512(()))
    }
    assert!(Level::Avx512Vnni.is_available());
    // SAFETY: the processor has the features, as was just asserted.
    unsafe { with_features(kernel) }
}

/// Calls of intrinsics. `self` is an [`Avx512`] wherever it is used, and only where the processor has the features
/// are there values of that; pointers come from references to as many bytes as are read or written.
macro_rules! intrinsics {
    ($body:expr) => {
        // SAFETY: as the macro says.
        unsafe { $body }
    };
}

impl Simd for Avx512 {
    const ROWS: usize = 8;
    type F = __m512;
    type I = __m512i;
    /// The weights plus 128.
    type Bytes = __m512i;
    type Nibbles = __m512i;
    type NibbleSums = __m512i;

    #[inline(always)]
    fn prefetch<T>(self, from: &T, ahead: usize) {
        // It reads nothing, whatever the address.
        let line = std::ptr::from_ref(from).wrapping_byte_add(ahead);
        intrinsics!(_mm_prefetch::<_MM_HINT_T0>(line.cast()));
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        intrinsics!(_mm512_set1_ps(x))
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        intrinsics!(_mm512_loadu_ps(from.as_ptr()))
    }

    #[inline(always)]
    fn store(self, x: Self::F, to: &mut [f32; LANES]) {
        intrinsics!(_mm512_storeu_ps(to.as_mut_ptr(), x));
    }

    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> Self::F {
        intrinsics!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn store_f16(self, x: Self::F, to: &mut [u16; LANES]) {
        intrinsics!({
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), halves);
        });
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u16; LANES]) -> Self::F {
        intrinsics!({
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
        })
    }

    #[inline(always)]
    fn load_u8(self, from: &[u8; LANES]) -> Self::F {
        intrinsics!({
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))
        })
    }

    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        intrinsics!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        intrinsics!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        intrinsics!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        intrinsics!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        intrinsics!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        intrinsics!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        intrinsics!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn abs(self, x: Self::F) -> Self::F {
        intrinsics!(_mm512_abs_ps(x))
    }

    #[inline(always)]
    fn round(self, x: Self::F) -> Self::I {
        intrinsics!(_mm512_cvtps_epi32(x))
    }

    #[inline(always)]
    fn float(self, x: Self::I) -> Self::F {
        intrinsics!(_mm512_cvtepi32_ps(x))
    }

    #[inline(always)]
    fn exp2(self, n: Self::I) -> Self::F {
        intrinsics!({
            let biased = _mm512_add_epi32(n, _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        })
    }

    #[inline(always)]
    fn store_i8(self, x: Self::I, to: &mut [i8; LANES]) {
        intrinsics!(_mm_storeu_si128(
            to.as_mut_ptr().cast(),
            _mm512_cvtepi32_epi8(x)
        ));
    }

    #[inline(always)]
    fn bytes(self, chunk: &[i8; 64]) -> Self::Bytes {
        intrinsics!({
            let weights = _mm512_loadu_si512(chunk.as_ptr().cast());
            _mm512_xor_si512(weights, _mm512_set1_epi8(-128))
        })
    }

    #[inline(always)]
    fn begin_bytes(self, sum: i32) -> Self::I {
        // Σ(w + 128)x − 128Σx is Σwx.
        intrinsics!(_mm512_set1_epi32(-128 * sum))
    }

    #[inline(always)]
    fn dot_bytes(self, sums: Self::I, weights: Self::Bytes, x: [i8; 4]) -> Self::I {
        intrinsics!({
            let x = _mm512_set1_epi32(i32::from_ne_bytes(x.map(|x| x as u8)));
            _mm512_dpbusd_epi32(sums, weights, x)
        })
    }

    #[inline(always)]
    fn nibbles(self, chunk: &[u8; 64]) -> (Self::Nibbles, Self::Nibbles) {
        intrinsics!({
            let mask = _mm512_set1_epi8(15);
            let both = _mm512_loadu_si512(chunk.as_ptr().cast());
            let high = _mm512_srli_epi16::<4>(both);
            (_mm512_and_si512(both, mask), _mm512_and_si512(high, mask))
        })
    }

    #[inline(always)]
    fn upper(self, lower: Self::Nibbles, plane: &[u8; 64], shift: i32, mask: i8) -> Self::Bytes {
        intrinsics!({
            let plane = _mm512_loadu_si512(plane.as_ptr().cast());
            let upper = _mm512_srl_epi16(plane, _mm_cvtsi32_si128(shift));
            let upper = _mm512_slli_epi16::<4>(_mm512_and_si512(upper, _mm512_set1_epi8(mask)));
            // Less the half of their range, plus 128.
            let rest = _mm512_set1_epi8((128 - 8 * (i32::from(mask) + 1)) as i8);
            _mm512_add_epi8(_mm512_or_si512(lower, upper), rest)
        })
    }

    #[inline(always)]
    fn begin_nibbles(self, start: i32) -> Self::NibbleSums {
        intrinsics!(_mm512_set1_epi32(start))
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
