//! Vectors of sixteen numbers, on whatever the processor has.
//!
//! Every kernel is written once, as a [`Kernel`] over a type that implements [`Simd`], and is compiled for
//! each [`Level`]. A value of such a type is the proof that the processor has what it needs, so kernels are
//! safe code; `unsafe` stands in the files of the levels alone.
//!
//! **All levels give the same bits.** Sums run in one order, multiplications that are followed by an addition are
//! rounded once (`f32::mul_add` where there is no such instruction), integers are exact. The tests hold every
//! level that the machine has against the portable one.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::sync::OnceLock;

/// Numbers in a vector, rows in a group of packed weights.
pub const LANES: usize = 16;

/// Computation that is compiled for every [`Level`].
pub trait Kernel {
    /// What comes back.
    type Output;

    /// Runs it. Implementations are `#[inline(always)]`, and so are the functions that they call, as nothing else
    /// is compiled with the instructions of `S`; closures are not, so there are none.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// A set of instructions that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// No instructions beyond those that the target has anyway. Without a fused multiply-add among them it is slow.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 (F, BW, VL) with VNNI.
    Avx512Vnni,
    /// NEON.
    Neon,
    /// NEON with dot products of bytes.
    NeonDotprod,
}

impl Level {
    /// All levels, of each architecture worst first.
    pub const ALL: [Self; 5] = [
        Self::Portable,
        Self::Avx2,
        Self::Avx512Vnni,
        Self::Neon,
        Self::NeonDotprod,
    ];

    /// All levels that this machine has, worst first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|level| level.is_available())
    }

    /// The best level of this machine; looked up once in a process.
    pub fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().unwrap_or(Self::Portable))
    }

    /// Its name, as records of a run state it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Neon => "neon",
            Self::NeonDotprod => "neon-dotprod",
        }
    }

    /// The machine has it.
    #[cfg(target_arch = "x86_64")]
    pub fn is_available(self) -> bool {
        // AMX is never asked for: there are machines that announce it and fault.
        match self {
            Self::Portable => true,
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            Self::Avx512Vnni => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            Self::Neon | Self::NeonDotprod => false,
        }
    }

    /// The machine has it.
    #[cfg(target_arch = "aarch64")]
    pub fn is_available(self) -> bool {
        use std::arch::is_aarch64_feature_detected;
        match self {
            Self::Portable => true,
            Self::Avx2 | Self::Avx512Vnni => false,
            Self::Neon => is_aarch64_feature_detected!("neon"),
            Self::NeonDotprod => {
                Self::Neon.is_available() && is_aarch64_feature_detected!("dotprod")
            }
        }
    }

    /// The machine has it.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn is_available(self) -> bool {
        self == Self::Portable
    }

    /// Runs a kernel with the instructions of this level, or of the portable one where the machine lacks them.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        match self {
            // The detection of features is a load and a test.
            Self::Avx2 if self.is_available() => return avx2::run(kernel),
            Self::Avx512Vnni if self.is_available() => return avx512::run(kernel),
            _ => {}
        }
        #[cfg(target_arch = "aarch64")]
        match self {
            Self::Neon if self.is_available() => return neon::run(kernel),
            Self::NeonDotprod if self.is_available() => return neon::run_dotprod(kernel),
            _ => {}
        }
        kernel.run(portable::Portable)
    }
}

/// Sixteen numbers at a time. A value proves that the processor has the instructions.
///
/// The products of weights and quantised inputs follow the layout of [`packed`](super::packed): a chunk of 64
/// bytes holds four consecutive weights of each of sixteen rows, row after row; the same four inputs meet all
/// rows.
pub trait Simd: Copy {
    /// Rows of inputs that meet a group of weights while it is in registers.
    const ROWS: usize;

    /// 16 × f32.
    type F: Copy;
    /// 16 × i32.
    type I: Copy;
    /// 64 weights of 8 bits.
    type Bytes: Copy;
    /// 64 weights of 4 bits, 0 to 15.
    type Nibbles: Copy;
    /// Sixteen sums of products with weights of 4 bits.
    type NibbleSums: Copy;

    /// Brings a line of 64 bytes near, `ahead` bytes after the beginning of `from`, where the processor has such an
    /// instruction. There may be nothing.
    fn prefetch<T>(self, from: &T, ahead: usize);

    /// The same number sixteen times.
    fn splat(self, x: f32) -> Self::F;
    /// Reads numbers.
    fn load(self, from: &[f32; LANES]) -> Self::F;
    /// Writes numbers.
    fn store(self, x: Self::F, to: &mut [f32; LANES]);
    /// Reads IEEE half-precision numbers, exactly.
    fn load_f16(self, from: &[u16; LANES]) -> Self::F;
    /// Writes half-precision numbers, rounded to the nearest, ties to even.
    fn store_f16(self, x: Self::F, to: &mut [u16; LANES]);
    /// Reads bfloat16 numbers, exactly.
    fn load_bf16(self, from: &[u16; LANES]) -> Self::F;
    /// Reads whole numbers.
    fn load_u8(self, from: &[u8; LANES]) -> Self::F;

    /// a + b.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// a − b.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// a · b.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// a / b.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// a · b + c, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger; neither may be NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller; neither may be NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// |x|.
    fn abs(self, x: Self::F) -> Self::F;
    /// The nearest whole number, ties to even; |x| below 2³¹.
    fn round(self, x: Self::F) -> Self::I;
    /// Whole numbers as floats; |x| up to 2²⁴ is exact.
    fn float(self, x: Self::I) -> Self::F;
    /// 2ⁿ for n from −126 to 127.
    fn exp2(self, n: Self::I) -> Self::F;
    /// Writes numbers from −128 to 127.
    fn store_i8(self, x: Self::I, to: &mut [i8; LANES]);

    /// Reads weights of 8 bits.
    fn bytes(self, chunk: &[i8; 64]) -> Self::Bytes;
    /// What sums of products with weights of 8 bits begin with, where the inputs of the block sum up to `sum`.
    fn begin_bytes(self, sum: i32) -> Self::I;
    /// sums + weights · inputs; `x` is four inputs from −127 to 127.
    fn dot_bytes(self, sums: Self::I, weights: Self::Bytes, x: [i8; 4]) -> Self::I;

    /// Reads 128 weights of 4 bits: those of the low halves of the bytes, then those of the high halves.
    fn nibbles(self, chunk: &[u8; 64]) -> (Self::Nibbles, Self::Nibbles);
    /// Weights of more bits than 4, less the half of their range: the lower four, and above them those of each byte of
    /// `plane` that are left of its lowest `shift` and in `mask`, which is 1 or 3.
    fn upper(self, lower: Self::Nibbles, plane: &[u8; 64], shift: i32, mask: i8) -> Self::Bytes;
    /// What the sums of a block of 32 begin with. `start` is added to them, and is −8 times the sum of the block's
    /// inputs or 0: that alone is sure not to overflow.
    fn begin_nibbles(self, start: i32) -> Self::NibbleSums;
    /// sums + weights · inputs; `x` is four inputs from −127 to 127. At most eight times for a block.
    fn dot_nibbles(
        self,
        sums: Self::NibbleSums,
        weights: Self::Nibbles,
        x: [i8; 4],
    ) -> Self::NibbleSums;
    /// The sums of a block.
    fn end_nibbles(self, sums: Self::NibbleSums) -> Self::I;
}

/// The sum of a vector, in an order that is the same on all levels.
#[inline(always)]
pub fn sum<S: Simd>(simd: S, x: S::F) -> f32 {
    let mut lanes = [0.0; LANES];
    simd.store(x, &mut lanes);
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The largest of a vector.
#[inline(always)]
pub fn largest<S: Simd>(simd: S, x: S::F) -> f32 {
    let mut lanes = [0.0; LANES];
    simd.store(x, &mut lanes);
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            if lanes[lane + width] > lanes[lane] {
                lanes[lane] = lanes[lane + width];
            }
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
pub(crate) mod tests;
