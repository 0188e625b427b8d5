//! The middle of a feed-forward block: `activation(gate) · up`.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::lanes::{sigmoid, wide};
use super::{composed, host};
use crate::architecture::Activation;

/// Elements that are computed in one go.
const CHUNK: usize = 1 << 14;

/// `activation(gate) · up`, element by element.
///
/// # Errors
///
/// What the framework says.
pub fn forward(activation: Activation, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if !host::is_host(gate) || activation == Activation::Gelu {
        return composed::gate(activation, gate, up);
    }
    let (g, u) = (host::floats(gate)?, host::floats(up)?);
    let mut out = vec![0.0; g.len()];
    out.par_chunks_mut(CHUNK)
        .zip(g.par_chunks(CHUNK).zip(u.par_chunks(CHUNK)))
        .for_each(|(out, (g, u))| match activation {
            Activation::Silu => silu(out, g, u),
            _ => gelu_tanh(out, g, u),
        });
    host::tensor(out, gate.dims())
}

/// The gradients of `gate` and `up` by that of the result.
///
/// # Errors
///
/// What the framework says.
pub fn backward(
    activation: Activation,
    gate: &Tensor,
    up: &Tensor,
    gradient: &Tensor,
) -> Result<(Tensor, Tensor)> {
    if !host::is_host(gate) || activation == Activation::Gelu {
        return composed::gate_backward(activation, gate, up, gradient);
    }
    let (g, u, slope) = (
        host::floats(gate)?,
        host::floats(up)?,
        host::floats(gradient)?,
    );
    let (mut to_gate, mut to_up) = (vec![0.0; g.len()], vec![0.0; g.len()]);
    to_gate
        .par_chunks_mut(CHUNK)
        .zip(to_up.par_chunks_mut(CHUNK))
        .zip(g.par_chunks(CHUNK).zip(u.par_chunks(CHUNK)))
        .zip(slope.par_chunks(CHUNK))
        .for_each(|(((to_gate, to_up), (g, u)), slope)| match activation {
            Activation::Silu => silu_backward(to_gate, to_up, g, u, slope),
            _ => gelu_tanh_backward(to_gate, to_up, g, u, slope),
        });
    let shape = gate.dims();
    Ok((host::tensor(to_gate, shape)?, host::tensor(to_up, shape)?))
}

/// `sqrt(2/π)` and the cubic term, doubled: `gelu(x) = x · sigmoid(LINEAR · x + CUBIC · x³)`.
pub(super) const LINEAR: f32 = 1.595_769;
pub(super) const CUBIC: f32 = LINEAR * 0.044_715;

wide! {
    fn silu(out: &mut [f32], g: &[f32], u: &[f32]) {
        for (out, (g, u)) in out.iter_mut().zip(g.iter().zip(u)) {
            *out = g * sigmoid(*g) * u;
        }
    }

    fn silu_backward(to_gate: &mut [f32], to_up: &mut [f32], g: &[f32], u: &[f32], slope: &[f32]) {
        let out = to_gate.iter_mut().zip(to_up);
        for ((to_gate, to_up), ((g, u), slope)) in out.zip(g.iter().zip(u).zip(slope)) {
            let sigmoid = sigmoid(*g);
            *to_up = slope * g * sigmoid;
            *to_gate = slope * u * sigmoid * (1.0 + g * (1.0 - sigmoid));
        }
    }

    fn gelu_tanh(out: &mut [f32], g: &[f32], u: &[f32]) {
        for (out, (g, u)) in out.iter_mut().zip(g.iter().zip(u)) {
            *out = g * sigmoid(g * (LINEAR + CUBIC * g * g)) * u;
        }
    }

    fn gelu_tanh_backward(to_gate: &mut [f32], to_up: &mut [f32], g: &[f32], u: &[f32], slope: &[f32]) {
        let out = to_gate.iter_mut().zip(to_up);
        for ((to_gate, to_up), ((g, u), slope)) in out.zip(g.iter().zip(u).zip(slope)) {
            let sigmoid = sigmoid(g * (LINEAR + CUBIC * g * g));
            *to_up = slope * g * sigmoid;
            let inner = LINEAR + 3.0 * CUBIC * g * g;
            *to_gate = slope * u * sigmoid * (1.0 + g * (1.0 - sigmoid) * inner);
        }
    }
}
