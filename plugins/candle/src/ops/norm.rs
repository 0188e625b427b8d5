//! Root mean square norms (Zhang and Sennrich 2019): `y = x / sqrt(mean(x²) + ε) · w`.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::lanes::{dot_here, wide};
use super::{composed, host};

/// Rows whose gradients of the weight are summed before they are added to those of other rows.
const ROWS: usize = 64;

/// What a norm is besides its weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// What is added to the mean square.
    pub epsilon: f32,
    /// Multiplies by `1 + w` instead of `w`.
    pub plus_one: bool,
}

impl Norm {
    /// What is added to a weight.
    pub(super) fn base(self) -> f32 {
        if self.plus_one { 1.0 } else { 0.0 }
    }

    /// Normalises rows: `x` (…, width) and `weight` (width) give a tensor of the shape of `x`.
    ///
    /// # Errors
    ///
    /// What the framework says.
    pub fn forward(self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        if !host::is_host(x) {
            return composed::norm(self, x, weight);
        }
        let (floats, weight) = (host::floats(x)?, host::floats(weight)?);
        let width = weight.len();
        let mut out = vec![0.0; floats.len()];
        out.par_chunks_mut(width * ROWS)
            .zip(floats.par_chunks(width * ROWS))
            .for_each(|(out, x)| forward_rows(out, x, &weight, self));
        host::tensor(out, x.dims())
    }

    /// The gradients of `x` and, where `wants_weight`, of `weight`, by that of the result.
    ///
    /// # Errors
    ///
    /// What the framework says.
    pub fn backward(
        self,
        x: &Tensor,
        weight: &Tensor,
        gradient: &Tensor,
        wants_weight: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        if !host::is_host(x) {
            return composed::norm_backward(self, x, weight, gradient, wants_weight);
        }
        let (floats, slope) = (host::floats(x)?, host::floats(gradient)?);
        let weights = host::floats(weight)?;
        let width = weights.len();
        let mut out = vec![0.0; floats.len()];
        let parts: Vec<Vec<f32>> = out
            .par_chunks_mut(width * ROWS)
            .zip(floats.par_chunks(width * ROWS))
            .zip(slope.par_chunks(width * ROWS))
            .map(|((out, x), slope)| {
                let mut part = vec![0.0; if wants_weight { width } else { 0 }];
                backward_rows(out, x, slope, &weights, self, &mut part);
                part
            })
            .collect();
        let weight_gradient = wants_weight.then(|| {
            let mut sum = vec![0.0; width];
            for part in &parts {
                super::lanes::add(&mut sum, part);
            }
            host::tensor(sum, &[width])
        });
        Ok((host::tensor(out, x.dims())?, weight_gradient.transpose()?))
    }
}

wide! {
    /// Normalises rows.
    fn forward_rows(out: &mut [f32], x: &[f32], weight: &[f32], norm: Norm) {
        let width = weight.len();
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let scale = reciprocal(x, norm);
            for at in 0..width {
                out[at] = x[at] * scale * (weight[at] + norm.base());
            }
        }
    }

    /// The gradients of rows; that of the weight is added to `weight_gradient` unless this is empty.
    fn backward_rows(
        out: &mut [f32],
        x: &[f32],
        slope: &[f32],
        weight: &[f32],
        norm: Norm,
        weight_gradient: &mut [f32],
    ) {
        let width = weight.len();
        let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width));
        for ((out, x), slope) in rows.zip(slope.chunks_exact(width)) {
            let scale = reciprocal(x, norm);
            for at in 0..width {
                out[at] = slope[at] * (weight[at] + norm.base());
            }
            let along = dot_here(out, x) * scale * scale / width as f32;
            for at in 0..width {
                out[at] = scale * (out[at] - x[at] * along);
            }
            for (sum, (slope, x)) in weight_gradient.iter_mut().zip(slope.iter().zip(x)) {
                *sum += slope * x * scale;
            }
        }
    }
}

/// What a row is multiplied by.
#[inline(always)]
fn reciprocal(x: &[f32], norm: Norm) -> f32 {
    1.0 / (dot_here(x, x) / x.len() as f32 + norm.epsilon).sqrt()
}
