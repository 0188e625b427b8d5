//! Norms, rotary positions, softmax and activations of rows.

use super::simd::{Kernel, LANES, Level, Simd, largest, sum};

/// The function between the two halves of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// `x · Φ(x)` by its approximation with `tanh`.
    GeluTanh,
}

impl Activation {
    /// Its values. Of GELU: `0.5x(1 + tanh u)` is `x · sigmoid(2u)`, with `u = √(2/π)(x + 0.044715x³)`
    /// (Hendrycks and Gimpel, "Gaussian Error Linear Units").
    #[inline(always)]
    pub(super) fn of<S: Simd>(self, simd: S, x: S::F) -> S::F {
        let one = simd.splat(1.0);
        let exponent = match self {
            Self::Silu => x,
            Self::GeluTanh => {
                let cubic = simd.fma(simd.mul(x, x), simd.splat(0.044_715), one);
                let root = 2.0 * 0.797_884_6;
                simd.mul(simd.mul(x, simd.splat(root)), cubic)
            }
        };
        let exponential = exp(simd, simd.sub(simd.splat(0.0), exponent));
        simd.div(x, simd.add(one, exponential))
    }
}

/// eˣ, within 2 units in the last place for x from −87.3 to 88.3, and the value at these ends beyond them.
///
/// `x = n ln 2 + r`, |r| ≤ ½ ln 2; eʳ by the polynomial of Cephes' `expf` (Moshier, `single/expf.c`).
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::F) -> S::F {
    let x = simd.min(simd.max(x, simd.splat(-87.3)), simd.splat(88.3));
    let n = simd.round(simd.mul(x, simd.splat(std::f32::consts::LOG2_E)));
    let whole = simd.float(n);
    // ln 2 in two parts, so that the product with the first is exact.
    let r = simd.fma(whole, simd.splat(-0.693_359_4), x);
    let r = simd.fma(whole, simd.splat(2.121_944_4e-4), r);
    let mut p = simd.splat(1.987_569_1e-4);
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        5e-1,
    ] {
        p = simd.fma(p, r, simd.splat(coefficient));
    }
    let p = simd.add(simd.fma(p, simd.mul(r, r), r), simd.splat(1.0));
    simd.mul(p, simd.exp2(n))
}

/// Sixteen numbers of a slice from `first` on, and zeros for what it lacks.
#[inline(always)]
fn padded(x: &[f32], first: usize, otherwise: f32) -> [f32; LANES] {
    let mut lanes = [otherwise; LANES];
    let rest = &x[first..];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}

/// `xᵢ / √(mean of x² + ε) · wᵢ`.
///
/// # Panics
///
/// Where the slices are not of one length.
pub fn rms_norm(level: Level, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    assert!(
        x.len() == weight.len() && x.len() == out.len(),
        "a norm's rows are of one length"
    );
    level.run(RmsNorm {
        x,
        weight,
        epsilon,
        out,
    });
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let whole = self.x.as_chunks::<LANES>().0;
        let rest = whole.len() * LANES;
        let mut squares = simd.splat(0.0);
        for x in whole {
            let x = simd.load(x);
            squares = simd.fma(x, x, squares);
        }
        if rest < self.x.len() {
            let x = simd.load(&padded(self.x, rest, 0.0));
            squares = simd.fma(x, x, squares);
        }
        let mean = sum(simd, squares) / self.x.len() as f32;
        let factor = 1.0 / (mean + self.epsilon).sqrt();
        let scale = simd.splat(factor);
        let weights = self.weight.as_chunks::<LANES>().0;
        let outs = self.out.as_chunks_mut::<LANES>().0;
        for ((x, weight), out) in whole.iter().zip(weights).zip(outs) {
            let x = simd.mul(simd.load(x), scale);
            simd.store(simd.mul(x, simd.load(weight)), out);
        }
        for index in rest..self.x.len() {
            self.out[index] = self.x[index] * factor * self.weight[index];
        }
    }
}

/// Turns a head by its position, in place: numbers `i` and `i + n/2` are the coordinates that the angle `i` turns
/// (`rotate_half` of the Transformers library).
///
/// # Panics
///
/// Where there are not half as many cosines and sines as numbers.
pub fn rope(level: Level, head: &mut [f32], cosines: &[f32], sines: &[f32]) {
    let half = head.len() / 2;
    assert!(
        head.len().is_multiple_of(2) && cosines.len() == half && sines.len() == half,
        "an angle for every pair of coordinates",
    );
    level.run(Rope {
        head,
        cosines,
        sines,
    });
}

struct Rope<'a> {
    head: &'a mut [f32],
    cosines: &'a [f32],
    sines: &'a [f32],
}

impl Kernel for Rope<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (first, second) = self.head.split_at_mut(self.cosines.len());
        let rest = first.len() / LANES * LANES;
        let cosines = self.cosines.as_chunks::<LANES>().0;
        let sines = self.sines.as_chunks::<LANES>().0;
        let heads = first.as_chunks_mut::<LANES>().0.iter_mut();
        let heads = heads.zip(second.as_chunks_mut::<LANES>().0);
        for ((a, b), (cosine, sine)) in heads.zip(cosines.iter().zip(sines)) {
            let (x, y) = (simd.load(a), simd.load(b));
            let (cosine, sine) = (simd.load(cosine), simd.load(sine));
            let (y_sine, y_cosine) = (simd.mul(y, sine), simd.mul(y, cosine));
            simd.store(simd.sub(simd.mul(x, cosine), y_sine), a);
            simd.store(simd.fma(x, sine, y_cosine), b);
        }
        for index in rest..first.len() {
            let (x, y) = (first[index], second[index]);
            let (cosine, sine) = (self.cosines[index], self.sines[index]);
            first[index] = x * cosine - y * sine;
            second[index] = x.mul_add(sine, y * cosine);
        }
    }
}

/// Makes `scores[visible]` into `exp(score − largest)` and all others into 0; comes back with the reciprocal of their
/// sum. Its length is a multiple of 16, and `visible` is not empty.
#[inline(always)]
pub(super) fn softmax<S: Simd>(
    simd: S,
    scores: &mut [f32],
    visible: std::ops::Range<usize>,
) -> f32 {
    let (before, rest) = scores.split_at_mut(visible.start);
    let (seen, after) = rest.split_at_mut(visible.len());
    // What is not seen is set so low that its exponential adds nothing; it is made zero at the end.
    before.fill(f32::MIN);
    after.fill(f32::MIN);
    let _ = seen;
    let chunks = scores.as_chunks_mut::<LANES>().0;
    let mut most = simd.splat(f32::MIN);
    for chunk in &*chunks {
        most = simd.max(simd.load(chunk), most);
    }
    let most = simd.splat(largest(simd, most));
    let mut total = simd.splat(0.0);
    for chunk in &mut *chunks {
        let exponential = exp(simd, simd.sub(simd.load(chunk), most));
        simd.store(exponential, chunk);
    }
    scores[..visible.start].fill(0.0);
    scores[visible.end..].fill(0.0);
    for chunk in scores.as_chunks::<LANES>().0 {
        total = simd.add(total, simd.load(chunk));
    }
    1.0 / sum(simd, total)
}

/// Adds `b` to `a`.
///
/// # Panics
///
/// Where they are not of one length.
pub fn add(a: &mut [f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "rows that are added are of one length");
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

#[cfg(test)]
mod tests;
