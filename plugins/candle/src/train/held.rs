//! Weights, trained or not, and linear maps with their adapters.

use candle_core::{Result, Tensor};

use super::parameter::Parameter;
use super::random::Randomness;
use crate::ops::frozen::Frozen;
use crate::ops::norm::Norm;
use crate::ops::{dropout, elementwise, linear};

/// A matrix.
#[derive(Debug)]
pub(super) enum Matrix {
    /// The parameter of this number.
    Trained(usize),
    /// One that is not trained.
    Frozen(Frozen),
}

impl Matrix {
    pub(super) fn weights(&self, parameters: &[Parameter]) -> Result<Tensor> {
        match self {
            Self::Trained(at) => Ok(parameters[*at].value.clone()),
            Self::Frozen(frozen) => frozen.weights(),
        }
    }

    pub(super) fn is_trained(&self) -> bool {
        matches!(self, Self::Trained(_))
    }

    /// Bytes of what is not trained.
    pub(super) fn frozen_bytes(&self) -> u64 {
        match self {
            Self::Trained(_) => 0,
            Self::Frozen(frozen) => frozen.bytes(),
        }
    }
}

/// A vector: the weight of a norm, or a bias.
#[derive(Debug)]
pub(super) enum Vector {
    /// The parameter of this number.
    Trained(usize),
    /// One that is not trained.
    Frozen(Tensor),
}

impl Vector {
    pub(super) fn value<'a>(&'a self, parameters: &'a [Parameter]) -> &'a Tensor {
        match self {
            Self::Trained(at) => &parameters[*at].value,
            Self::Frozen(tensor) => tensor,
        }
    }

    pub(super) fn is_trained(&self) -> bool {
        matches!(self, Self::Trained(_))
    }

    /// Bytes of what is not trained.
    pub(super) fn frozen_bytes(&self) -> u64 {
        match self {
            Self::Trained(_) => 0,
            Self::Frozen(tensor) => tensor.elem_count() as u64 * 4,
        }
    }

    /// Adds a gradient, where the vector is trained.
    fn add_gradient(&self, parameters: &mut [Parameter], gradient: Tensor) -> Result<()> {
        match self {
            Self::Trained(at) => elementwise::accumulate(&mut parameters[*at].gradient, gradient),
            Self::Frozen(_) => Ok(()),
        }
    }
}

/// A norm with its weight.
#[derive(Debug)]
pub(super) struct HeldNorm {
    pub(super) norm: Norm,
    pub(super) weight: Vector,
}

impl HeldNorm {
    pub(super) fn forward(&self, parameters: &[Parameter], x: &Tensor) -> Result<Tensor> {
        self.norm.forward(x, self.weight.value(parameters))
    }

    /// The gradient of the input; that of the weight is added to its parameter.
    pub(super) fn backward(
        &self,
        parameters: &mut [Parameter],
        x: &Tensor,
        gradient: &Tensor,
    ) -> Result<Tensor> {
        let weight = self.weight.value(parameters);
        let (to_x, to_weight) =
            self.norm
                .backward(x, weight, gradient, self.weight.is_trained())?;
        if let Some(to_weight) = to_weight {
            self.weight.add_gradient(parameters, to_weight)?;
        }
        Ok(to_x)
    }
}

/// An adapter: `y += scale · dropout(x) Aᵀ Bᵀ`.
#[derive(Debug)]
pub(super) struct HeldAdapter {
    /// The parameter A: (rank, inputs).
    pub(super) a: usize,
    /// The parameter B: (outputs, rank).
    pub(super) b: usize,
    pub(super) scale: f32,
    pub(super) dropout: f32,
}

/// What is drawn for a batch; none for an evaluation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draws {
    pub(super) randomness: Randomness,
    pub(super) position: u64,
}

/// A linear map.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) name: String,
    pub(super) weight: Matrix,
    pub(super) bias: Option<Vector>,
    pub(super) adapter: Option<HeldAdapter>,
}

impl Linear {
    pub(super) fn forward(
        &self,
        parameters: &[Parameter],
        x: &Tensor,
        draws: Option<Draws>,
    ) -> Result<Tensor> {
        let mut y = linear::forward(x, &self.weight.weights(parameters)?, 1.0)?;
        if let Some(bias) = &self.bias {
            y = linear::add_bias(y, bias.value(parameters))?;
        }
        if let Some(adapter) = &self.adapter {
            let low = self.low(adapter, parameters, &self.dropped(adapter, x, draws)?)?;
            y = linear::add_forward(y, &low, &parameters[adapter.b].value, adapter.scale)?;
        }
        Ok(y)
    }

    /// Adds the gradients of what is trained, and answers that of the input, added to `sum`, where `wants_input`.
    ///
    /// `x` is what came in; nothing reads it where nothing is trained.
    pub(super) fn backward(
        &self,
        parameters: &mut [Parameter],
        x: Option<&Tensor>,
        gradient: &Tensor,
        draws: Option<Draws>,
        sum: Option<Tensor>,
        wants_input: bool,
    ) -> Result<Option<Tensor>> {
        if let (Matrix::Trained(at), Some(x)) = (&self.weight, x) {
            linear::weight_gradient(&mut parameters[*at].gradient, gradient, x, 1.0)?;
        }
        if let Some(bias) = self.bias.as_ref().filter(|bias| bias.is_trained()) {
            bias.add_gradient(parameters, elementwise::sum_of_rows(gradient)?)?;
        }
        let mut sum = sum;
        if wants_input {
            let weights = self.weight.weights(parameters)?;
            sum = Some(linear::input_gradient(sum, gradient, &weights, 1.0)?);
        }
        let (Some(adapter), Some(x)) = (&self.adapter, x) else {
            return Ok(sum);
        };
        let dropped = self.dropped(adapter, x, draws)?;
        let low = self.low(adapter, parameters, &dropped)?;
        linear::weight_gradient(
            &mut parameters[adapter.b].gradient,
            gradient,
            &low,
            adapter.scale,
        )?;
        let to_low =
            linear::input_gradient(None, gradient, &parameters[adapter.b].value, adapter.scale)?;
        linear::weight_gradient(&mut parameters[adapter.a].gradient, &to_low, &dropped, 1.0)?;
        if !wants_input {
            return Ok(sum);
        }
        let a = &parameters[adapter.a].value;
        if adapter.dropout == 0.0 || draws.is_none() {
            return Ok(Some(linear::input_gradient(sum, &to_low, a, 1.0)?));
        }
        let through = linear::input_gradient(None, &to_low, a, 1.0)?;
        let through = self.dropped(adapter, &through, draws)?;
        elementwise::accumulate(&mut sum, through)?;
        Ok(sum)
    }

    /// Whether the way back reads the input.
    pub(super) fn reads_input(&self) -> bool {
        self.weight.is_trained() || self.adapter.is_some()
    }

    /// Whether anything of it is trained.
    pub(super) fn is_trained(&self) -> bool {
        self.reads_input() || self.bias.as_ref().is_some_and(Vector::is_trained)
    }

    /// Bytes of what is not trained.
    pub(super) fn frozen_bytes(&self) -> u64 {
        let bias = self.bias.as_ref().map_or(0, Vector::frozen_bytes);
        self.weight.frozen_bytes() + bias
    }

    /// The input of the adapter.
    fn dropped(&self, adapter: &HeldAdapter, x: &Tensor, draws: Option<Draws>) -> Result<Tensor> {
        match draws.filter(|_| adapter.dropout > 0.0) {
            Some(draws) => {
                let random = draws.randomness.dropout(&self.name, draws.position);
                dropout::apply(x, random, adapter.dropout)
            }
            None => Ok(x.clone()),
        }
    }

    /// What is between the two halves of the adapter: (tokens, rank).
    fn low(&self, adapter: &HeldAdapter, parameters: &[Parameter], x: &Tensor) -> Result<Tensor> {
        linear::forward(x, &parameters[adapter.a].value, 1.0)
    }
}
