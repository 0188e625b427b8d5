//! Elements that are left out by chance (Srivastava et al. 2014).
//!
//! Which ones is a function of the generator and their place, so the way back finds them without keeping
//! anything.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::host;
use crate::random::Random;

/// Elements that are computed in one go; a multiple of the words of a position.
const CHUNK: usize = 1 << 12;

/// Leaves out elements with a chance of `rate`, and divides the others by `1 - rate`. The way back is the same.
///
/// # Errors
///
/// What the framework says.
pub fn apply(x: &Tensor, random: Random, rate: f32) -> Result<Tensor> {
    if host::is_host(x) {
        let mut out = host::floats(x)?.to_vec();
        multiply(&mut out, random, rate);
        return host::tensor(out, x.dims());
    }
    let mut factors = vec![1.0; x.elem_count()];
    multiply(&mut factors, random, rate);
    x.mul(&Tensor::from_vec(factors, x.dims(), x.device())?)
}

fn multiply(x: &mut [f32], random: Random, rate: f32) {
    let bound = (f64::from(rate) * (f64::from(u32::MAX) + 1.0)) as u64;
    let factor = 1.0 / (1.0 - rate);
    x.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, x)| {
        let first = chunk * CHUNK / 4;
        for (at, x) in x.chunks_mut(4).enumerate() {
            let words = random.words((first + at) as u64);
            for (x, word) in x.iter_mut().zip(words) {
                *x = if u64::from(word) < bound {
                    0.0
                } else {
                    *x * factor
                };
            }
        }
    });
}
