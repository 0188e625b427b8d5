//! The operations out of the framework's own, for devices: the same results but for rounding.

use std::sync::PoisonError;

use candle_core::{D, DType, Device, Result, Tensor};

use super::attention::{Attended, Attention, Sight};
use super::gate::{CUBIC, LINEAR};
use super::norm::Norm;
use super::rope::{Direction, Turns};
use crate::architecture::Activation;

/// `1 / sqrt(mean(x²) + ε)` of each row.
fn reciprocal(norm: Norm, x: &Tensor) -> Result<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    mean.affine(1.0, f64::from(norm.epsilon))?.sqrt()?.recip()
}

pub(super) fn norm(norm: Norm, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let weight = weight.affine(1.0, f64::from(norm.base()))?;
    x.broadcast_mul(&reciprocal(norm, x)?)?
        .broadcast_mul(&weight)
}

pub(super) fn norm_backward(
    norm: Norm,
    x: &Tensor,
    weight: &Tensor,
    gradient: &Tensor,
    wants_weight: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let factor = reciprocal(norm, x)?;
    let unit = x.broadcast_mul(&factor)?;
    let slope = gradient.broadcast_mul(&weight.affine(1.0, f64::from(norm.base()))?)?;
    let along = slope.mul(&unit)?.mean_keepdim(D::Minus1)?;
    let to_x = slope
        .sub(&unit.broadcast_mul(&along)?)?
        .broadcast_mul(&factor)?;
    let to_weight = if wants_weight {
        let width = weight.elem_count();
        Some(gradient.mul(&unit)?.reshape(((), width))?.sum(0)?)
    } else {
        None
    };
    Ok((to_x, to_weight))
}

pub(super) fn turn(turns: &Turns, x: &Tensor, direction: Direction) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    let half = turns.cos.dim(1)?;
    let x = x.reshape((tokens, width / (2 * half), 2 * half))?;
    let (a, b) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
    let cos = turns.cos.unsqueeze(1)?;
    let sin = match direction {
        Direction::Forward => turns.sin.unsqueeze(1)?,
        Direction::Back => turns.sin.neg()?.unsqueeze(1)?,
    };
    let first = a.broadcast_mul(&cos)?.sub(&b.broadcast_mul(&sin)?)?;
    let second = b.broadcast_mul(&cos)?.add(&a.broadcast_mul(&sin)?)?;
    Tensor::cat(&[first, second], 2)?.reshape((tokens, width))
}

/// An activation of `g`, and its derivative.
fn activation(activation: Activation, g: &Tensor) -> Result<(Tensor, Tensor)> {
    let sigmoid = |x: &Tensor| x.neg()?.exp()?.affine(1.0, 1.0)?.recip();
    match activation {
        Activation::Silu => {
            let sigmoid = sigmoid(g)?;
            let slope = g.mul(&sigmoid.affine(-1.0, 1.0)?)?.affine(1.0, 1.0)?;
            Ok((g.mul(&sigmoid)?, sigmoid.mul(&slope)?))
        }
        Activation::GeluTanh => {
            let (linear, cubic) = (f64::from(LINEAR), f64::from(CUBIC));
            let squares = g.sqr()?;
            let sigmoid = sigmoid(&g.mul(&squares.affine(cubic, linear)?)?)?;
            let inner = squares.affine(3.0 * cubic, linear)?;
            let slope = g
                .mul(&sigmoid.affine(-1.0, 1.0)?)?
                .mul(&inner)?
                .affine(1.0, 1.0)?;
            Ok((g.mul(&sigmoid)?, sigmoid.mul(&slope)?))
        }
        Activation::Gelu => {
            let below = g
                .affine(std::f64::consts::FRAC_1_SQRT_2, 0.0)?
                .erf()?
                .affine(0.5, 0.5)?;
            let density = g.sqr()?.affine(-0.5, 0.0)?.exp()?;
            let density = density.affine(1.0 / (2.0 * std::f64::consts::PI).sqrt(), 0.0)?;
            Ok((g.mul(&below)?, below.add(&g.mul(&density)?)?))
        }
    }
}

pub(super) fn gate(kind: Activation, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    activation(kind, gate)?.0.mul(up)
}

pub(super) fn gate_backward(
    kind: Activation,
    gate: &Tensor,
    up: &Tensor,
    gradient: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let (active, derivative) = activation(kind, gate)?;
    Ok((gradient.mul(up)?.mul(&derivative)?, gradient.mul(&active)?))
}

/// (tokens, heads × head) as (rows, heads, columns, head), each head of keys as often as queries share it.
fn by_head(shape: Attention, sight: &Sight, x: &Tensor, heads: usize) -> Result<Tensor> {
    let x = x
        .reshape((sight.rows, sight.columns, heads, shape.head))?
        .transpose(1, 2)?;
    let group = shape.heads / heads;
    let size = (sight.rows, heads, group, sight.columns, shape.head);
    let x = x.unsqueeze(2)?.broadcast_as(size)?.contiguous()?;
    x.reshape((sight.rows, shape.heads, sight.columns, shape.head))
}

/// The inverse of [`by_head`], with the gradients of what was there more than once added.
fn by_token(shape: Attention, sight: &Sight, x: &Tensor, heads: usize) -> Result<Tensor> {
    let group = shape.heads / heads;
    let x = x
        .reshape((sight.rows, heads, group, sight.columns, shape.head))?
        .sum(2)?;
    x.transpose(1, 2)?
        .contiguous()?
        .reshape((sight.rows * sight.columns, heads * shape.head))
}

/// 0 for scores of what is seen and minus infinity for others: (rows, 1, columns, columns).
fn mask(sight: &Sight, window: Option<usize>, device: &Device) -> Result<Tensor> {
    // Nothing is called under the lock but the copy to the device.
    let mut masks = sight.masks.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, mask)) = masks.iter().find(|(of, _)| *of == window) {
        return Ok(mask.clone());
    }
    let columns = sight.columns;
    let mut mask = vec![f32::NEG_INFINITY; sight.rows * columns * columns];
    for (at, seen) in mask.chunks_exact_mut(columns).enumerate() {
        let (row, column) = (at / columns, at % columns);
        seen[sight.first(row, column, window)..=column].fill(0.0);
    }
    let mask = Tensor::from_vec(mask, (sight.rows, 1, columns, columns), device)?;
    masks.push((window, mask.clone()));
    Ok(mask)
}

/// The scores of queries with keys, those that are not seen below all others.
fn scores(shape: Attention, sight: &Sight, q: &Tensor, k: &Tensor) -> Result<Tensor> {
    let scores = q.matmul(&k.t()?)?.affine(f64::from(shape.scale), 0.0)?;
    scores.broadcast_add(&mask(sight, shape.window, q.device())?)
}

pub(super) fn attention(
    shape: Attention,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    sight: &Sight,
) -> Result<Attended> {
    let q = by_head(shape, sight, q, shape.heads)?;
    let k = by_head(shape, sight, k, shape.kv_heads)?;
    let v = by_head(shape, sight, v, shape.kv_heads)?;
    let scores = scores(shape, sight, &q, &k)?;
    let most = scores.max_keepdim(D::Minus1)?;
    let exponentials = scores.broadcast_sub(&most)?.exp()?;
    let sums = exponentials.sum_keepdim(D::Minus1)?;
    let output = exponentials.broadcast_div(&sums)?.matmul(&v)?;
    Ok(Attended {
        output: by_token(shape, sight, &output, shape.heads)?,
        log_sums: most.add(&sums.log()?)?.squeeze(D::Minus1)?,
    })
}

pub(super) fn attention_backward(
    shape: Attention,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    sight: &Sight,
    attended: &Attended,
    gradient: &Tensor,
) -> Result<[Tensor; 3]> {
    let heads = |x: &Tensor, heads| by_head(shape, sight, x, heads);
    let (q, k, v) = (
        heads(q, shape.heads)?,
        heads(k, shape.kv_heads)?,
        heads(v, shape.kv_heads)?,
    );
    let output = heads(&attended.output, shape.heads)?;
    let slope = heads(gradient, shape.heads)?;
    let log_sums = attended.log_sums.unsqueeze(D::Minus1)?;
    let probabilities = scores(shape, sight, &q, &k)?
        .broadcast_sub(&log_sums)?
        .exp()?;
    let to_v = probabilities.t()?.contiguous()?.matmul(&slope)?;
    let means = slope.mul(&output)?.sum_keepdim(D::Minus1)?;
    let slopes = slope.matmul(&v.t()?)?.broadcast_sub(&means)?;
    let slopes = slopes
        .mul(&probabilities)?
        .affine(f64::from(shape.scale), 0.0)?;
    let to_q = slopes.matmul(&k)?;
    let to_k = slopes.t()?.contiguous()?.matmul(&q)?;
    Ok([
        by_token(shape, sight, &to_q, shape.heads)?,
        by_token(shape, sight, &to_k, shape.kv_heads)?,
        by_token(shape, sight, &to_v, shape.kv_heads)?,
    ])
}

/// The losses' sum of rows of logits at their targets, and the gradient of it for each logit.
pub(super) fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<(f64, Tensor)> {
    let (rows, vocabulary) = logits.dims2()?;
    let targets = Tensor::from_slice(targets, (rows, 1), logits.device())?;
    let most = logits.max_keepdim(D::Minus1)?;
    let shifted = logits.broadcast_sub(&most)?;
    let exponentials = shifted.exp()?;
    let sums = exponentials.sum_keepdim(D::Minus1)?;
    let chosen = shifted.gather(&targets, 1)?;
    let losses: Vec<f32> = sums.log()?.sub(&chosen)?.flatten_all()?.to_vec1()?;
    let ones = Tensor::ones((rows, 1), DType::F32, logits.device())?;
    let hot = Tensor::zeros((rows, vocabulary), DType::F32, logits.device())?;
    let hot = hot.scatter_add(&targets, &ones, 1)?;
    let gradient = exponentials.broadcast_div(&sums)?.sub(&hot)?;
    Ok((losses.iter().map(|&loss| f64::from(loss)).sum(), gradient))
}
