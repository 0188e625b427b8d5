//! The cross-entropy of a head's logits, which are never there as a whole.
//!
//! Rows of hidden states that have a target are taken together; of [`ROWS`] of them at a time there are logits,
//! from which the gradient follows at once.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::frozen::Frozen;
use super::product::{Matrix, MatrixMut, Target, Threads, multiply};
use super::{composed, embedding, host, lanes, linear};

/// Hidden states whose logits are there at a time.
pub const ROWS: usize = 128;

/// The same on a device, which is not busy with fewer.
pub const DEVICE_ROWS: usize = 512;

/// Rows of the head that are floats at a time, where the head is not held as such.
const PART: usize = 4096;

/// The target of a place where nothing is foretold.
pub const IGNORED: i32 = -1;

/// The head: (vocabulary, hidden).
#[derive(Debug, Clone, Copy)]
pub enum Head<'a> {
    /// Its weights are trained.
    Trained(&'a Tensor),
    /// They are not.
    Frozen(&'a Frozen),
}

impl Head<'_> {
    fn vocabulary(&self) -> Result<usize> {
        match self {
            Self::Trained(weights) => weights.dim(0),
            Self::Frozen(frozen) => Ok(frozen.shape().0),
        }
    }

    fn part(&self, from: usize, to: usize) -> Result<Tensor> {
        match self {
            Self::Trained(weights) => weights.narrow(0, from, to - from),
            Self::Frozen(frozen) => frozen.part(from, to),
        }
    }
}

/// The sum of losses, and what follows from it.
#[derive(Debug)]
pub struct Loss {
    /// The sum over all targets of the negative natural logarithm of their probability.
    pub sum: f64,
    /// How many targets there were.
    pub targets: u64,
    /// The gradient of the sum for each hidden state, where it was asked for: (tokens, hidden).
    pub gradient: Option<Tensor>,
}

/// The loss of hidden states (tokens, hidden) at their targets, [`IGNORED`] for none. With `wants_gradient` also
/// the gradient of the hidden states; and with `head_gradient` that of the head is added to it.
///
/// # Errors
///
/// What the framework says, as when a target is not below the vocabulary.
pub fn cross_entropy(
    hidden: &Tensor,
    head: Head<'_>,
    targets: &[i32],
    wants_gradient: bool,
    mut head_gradient: Option<&mut Option<Tensor>>,
) -> Result<Loss> {
    let (tokens, width) = hidden.dims2()?;
    let vocabulary = head.vocabulary()?;
    let places = (0_u32..)
        .zip(targets)
        .filter(|&(_, &target)| target != IGNORED);
    let (places, targets): (Vec<u32>, Vec<u32>) =
        places.map(|(at, &target)| (at, target as u32)).unzip();
    if let Some(target) = targets
        .iter()
        .find(|&&target| target as usize >= vocabulary)
    {
        candle_core::bail!(
            "the target {} is not one of {vocabulary} tokens",
            *target as i32
        )
    }
    let mut sum = 0.0;
    let mut gradient = None;
    let rows = match host::is_host(hidden) {
        true => ROWS,
        false => DEVICE_ROWS,
    };
    for (places, targets) in places.chunks(rows).zip(targets.chunks(rows)) {
        let states = embedding::gather(hidden, places, 1.0)?;
        let part = if host::is_host(hidden) {
            on_host(
                &states,
                head,
                targets,
                wants_gradient,
                head_gradient.as_deref_mut(),
            )?
        } else {
            on_device(&states, head, targets, head_gradient.as_deref_mut())?
        };
        sum += part.sum;
        if let Some(part) = part.gradient.filter(|_| wants_gradient) {
            embedding::scatter(&mut gradient, tokens, places, &part, 1.0)?;
        }
    }
    if wants_gradient && gradient.is_none() {
        gradient = Some(host::zeros(&[tokens, width], hidden.device())?);
    }
    Ok(Loss {
        sum,
        targets: targets.len() as u64,
        gradient,
    })
}

fn on_device(
    states: &Tensor,
    head: Head<'_>,
    targets: &[u32],
    head_gradient: Option<&mut Option<Tensor>>,
) -> Result<Loss> {
    let weights = head.part(0, head.vocabulary()?)?;
    let logits = linear::forward(states, &weights, 1.0)?;
    let (sum, slopes) = composed::cross_entropy(&logits, targets)?;
    if let Some(total) = head_gradient {
        linear::weight_gradient(total, &slopes, states, 1.0)?;
    }
    Ok(Loss {
        sum,
        targets: targets.len() as u64,
        gradient: Some(linear::input_gradient(None, &slopes, &weights, 1.0)?),
    })
}

fn on_host(
    states: &Tensor,
    head: Head<'_>,
    targets: &[u32],
    wants_gradient: bool,
    head_gradient: Option<&mut Option<Tensor>>,
) -> Result<Loss> {
    let (rows, width) = states.dims2()?;
    let vocabulary = head.vocabulary()?;
    let x = host::floats(states)?;
    let mut logits = vec![0.0; rows * vocabulary];
    for from in (0..vocabulary).step_by(PART) {
        let to = (from + PART).min(vocabulary);
        let weights = head.part(from, to)?;
        multiply(
            MatrixMut::with_stride(&mut logits[from..], rows, to - from, vocabulary),
            Target::Set,
            1.0,
            Matrix::new(&x, rows, width),
            Matrix::new(&host::floats(&weights)?, to - from, width).t(),
            Threads::All,
        );
    }
    let losses: Vec<f64> = logits
        .par_chunks_mut(vocabulary)
        .zip(targets)
        .map(|(logits, &target)| row_loss(logits, target as usize, wants_gradient))
        .collect();
    let sum = losses.iter().sum();
    let mut gradient = None;
    if wants_gradient {
        let mut out = vec![0.0; rows * width];
        for from in (0..vocabulary).step_by(PART) {
            let to = (from + PART).min(vocabulary);
            let weights = head.part(from, to)?;
            multiply(
                MatrixMut::new(&mut out, rows, width),
                Target::Add,
                1.0,
                Matrix::with_stride(&logits[from..], rows, to - from, vocabulary),
                Matrix::new(&host::floats(&weights)?, to - from, width),
                Threads::All,
            );
        }
        gradient = Some(host::tensor(out, &[rows, width])?);
    }
    drop(x);
    if let Some(total) = head_gradient {
        let slopes = Tensor::from_vec(logits, (rows, vocabulary), &Device::Cpu)?;
        linear::weight_gradient(total, &slopes, states, 1.0)?;
    }
    Ok(Loss {
        sum,
        targets: targets.len() as u64,
        gradient,
    })
}

/// The loss of a row of logits, in whose place comes the gradient where it is asked for.
fn row_loss(logits: &mut [f32], target: usize, wants_gradient: bool) -> f64 {
    let most = lanes::greatest(logits);
    let chosen = logits[target];
    let sum = if wants_gradient {
        let sum = lanes::exp_shifted(logits, most);
        lanes::scale(logits, 1.0 / sum);
        logits[target] -= 1.0;
        sum
    } else {
        lanes::sum_of_exp(logits, most)
    };
    f64::from(most) + f64::from(sum).ln() - f64::from(chosen)
}
