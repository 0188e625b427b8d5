//! Loops over slices that compilers make vectors of.
//!
//! Sums are those of [`LANES`] interleaved parts, so that they are the same whatever vectors the processor
//! has: each function is compiled a second time for AVX2, and no multiplication is fused with an addition.

/// Parts of a sum.
const LANES: usize = 16;

/// Makes a function that is compiled for the vectors of every x86-64 and for AVX2, and chooses between the two
/// when it is called.
macro_rules! wide {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $kind:ty),* $(,)?) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name($($arg: $kind),*) $(-> $result)? {
            #[inline(always)]
            fn body($($arg: $kind),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $kind),*) $(-> $result)? { body($($arg),*) }

                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2, as was just found out.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    )*};
}
pub(crate) use wide;

/// `e^x` to within 2 units of the last place; at least 2^-126 for small `x`, and not a number for what is none.
///
/// A polynomial after reduction by powers of 2, as in the Cephes library's `expf`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Below 2^23 the sum has no room for a fraction, which rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    let r = x - power * 0.693_359_4;
    let r = r + power * 2.121_944_4e-4;
    let mut sum = 1.987_569_2e-4;
    sum = sum * r + 1.398_2e-3;
    sum = sum * r + 8.333_452e-3;
    sum = sum * r + 4.166_579_6e-2;
    sum = sum * r + 1.666_666_5e-1;
    sum = sum * r + 0.5;
    let fraction = sum * (r * r) + r + 1.0;
    let exponent = rounded
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(127);
    fraction * f32::from_bits(exponent << 23)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The sum of the parts of a sum.
#[inline(always)]
fn total(lanes: [f32; LANES]) -> f32 {
    let mut lanes = lanes;
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The sum of products, for use inside of other loops.
#[inline(always)]
pub(crate) fn dot_here(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[lane] += a * b;
    }
    total(lanes)
}

wide! {
    /// The sum of products of two slices of one length.
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        dot_here(a, b)
    }

    /// The greatest element that is a number.
    fn greatest(x: &[f32]) -> f32 {
        let (chunks, rest) = x.as_chunks::<LANES>();
        let mut lanes = [f32::NEG_INFINITY; LANES];
        for chunk in chunks {
            for lane in 0..LANES {
                lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] };
            }
        }
        lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |most, &x| most.max(x))
    }

    /// Makes `e^(x - shift)` of every `x`, and answers their sum.
    fn exp_shifted(x: &mut [f32], shift: f32) -> f32 {
        let (chunks, rest) = x.as_chunks_mut::<LANES>();
        let mut lanes = [0.0; LANES];
        for chunk in chunks {
            for lane in 0..LANES {
                chunk[lane] = exp(chunk[lane] - shift);
                lanes[lane] += chunk[lane];
            }
        }
        for (lane, x) in rest.iter_mut().enumerate() {
            *x = exp(*x - shift);
            lanes[lane] += *x;
        }
        total(lanes)
    }

    /// The sum of `e^(x - shift)`.
    fn sum_of_exp(x: &[f32], shift: f32) -> f32 {
        let (chunks, rest) = x.as_chunks::<LANES>();
        let mut lanes = [0.0; LANES];
        for chunk in chunks {
            for lane in 0..LANES {
                lanes[lane] += exp(chunk[lane] - shift);
            }
        }
        for (lane, x) in rest.iter().enumerate() {
            lanes[lane] += exp(*x - shift);
        }
        total(lanes)
    }

    /// Multiplies every element.
    fn scale(x: &mut [f32], by: f32) {
        for x in x {
            *x *= by;
        }
    }

    /// Adds one slice to another.
    fn add(to: &mut [f32], x: &[f32]) {
        for (to, x) in to.iter_mut().zip(x) {
            *to += x;
        }
    }

    /// Adds the products of a slice and a number to another slice.
    fn add_scaled(to: &mut [f32], x: &[f32], by: f32) {
        for (to, x) in to.iter_mut().zip(x) {
            *to += x * by;
        }
    }
}
