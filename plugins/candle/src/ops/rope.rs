//! Rotary positions (Su et al. 2021), element `i` of the first half of a head against element `i` of the second.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::lanes::wide;
use super::{composed, host};
use crate::architecture::Rope;

/// Tokens that are turned in one go.
const ROWS: usize = 64;

/// Cosines and sines of the tokens of a batch, each (tokens, head / 2).
#[derive(Debug, Clone)]
pub struct Turns {
    pub(super) cos: Tensor,
    pub(super) sin: Tensor,
}

/// Which way heads are turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// By their position.
    Forward,
    /// Back, which is how gradients go.
    Back,
}

impl Turns {
    /// Those of tokens at these positions, for heads of `head` elements.
    ///
    /// # Errors
    ///
    /// What the framework says.
    pub fn new(rope: &Rope, head: usize, positions: &[u32], device: &Device) -> Result<Self> {
        let frequencies = rope.frequencies(head);
        let factor = rope.attention_factor() as f32;
        let size = positions.len() * frequencies.len();
        let (mut cos, mut sin) = (Vec::with_capacity(size), Vec::with_capacity(size));
        for &position in positions {
            for &frequency in &frequencies {
                let angle = position as f32 * frequency;
                cos.push(angle.cos() * factor);
                sin.push(angle.sin() * factor);
            }
        }
        let shape = (positions.len(), frequencies.len());
        Ok(Self {
            cos: Tensor::from_vec(cos, shape, device)?,
            sin: Tensor::from_vec(sin, shape, device)?,
        })
    }

    /// Turns the heads of `x` (tokens, heads × head).
    ///
    /// # Errors
    ///
    /// What the framework says.
    pub fn turn(&self, x: &Tensor, direction: Direction) -> Result<Tensor> {
        if !host::is_host(x) {
            return composed::turn(self, x, direction);
        }
        let (tokens, width) = x.dims2()?;
        let half = self.cos.dim(1)?;
        let (floats, cos, sin) = (
            host::floats(x)?,
            host::floats(&self.cos)?,
            host::floats(&self.sin)?,
        );
        let sign = if direction == Direction::Forward {
            1.0
        } else {
            -1.0
        };
        let mut out = vec![0.0; floats.len()];
        out.par_chunks_mut(width * ROWS)
            .zip(floats.par_chunks(width * ROWS))
            .zip(cos.par_chunks(half * ROWS).zip(sin.par_chunks(half * ROWS)))
            .for_each(|((out, x), (cos, sin))| turn_rows(out, x, cos, sin, width, half, sign));
        host::tensor(out, &[tokens, width])
    }
}

wide! {
    /// Turns rows of `width` elements in heads of `2 · half`.
    fn turn_rows(
        out: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], width: usize, half: usize, sign: f32,
    ) {
        let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width));
        let turns = cos.chunks_exact(half).zip(sin.chunks_exact(half));
        for ((out, x), (cos, sin)) in rows.zip(turns) {
            for (out, x) in out.chunks_exact_mut(2 * half).zip(x.chunks_exact(2 * half)) {
                let ((out_a, out_b), (a, b)) = (out.split_at_mut(half), x.split_at(half));
                for at in 0..half {
                    let sin = sin[at] * sign;
                    out_a[at] = a[at] * cos[at] - b[at] * sin;
                    out_b[at] = b[at] * cos[at] + a[at] * sin;
                }
            }
        }
    }
}
