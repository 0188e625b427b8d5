//! What backends hand out while they compute: gradients and the pieces of answers.

use super::Services;
use crate::contract::{Error, generation, generation::Piece, reduction};

/// What is done with the gradients of a training step before they are applied.
pub trait Reduction: Send + Sync {
    /// Changes the gradient of one tensor to what it shall be. `shape` multiplies to the number of
    /// values.
    ///
    /// # Errors
    ///
    /// The gradient cannot be had from the others; the step is then not applied.
    fn exchange(&self, name: &str, shape: &[u64], gradient: &mut [f32]) -> Result<(), Error>;
}

/// Nobody to exchange gradients with.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoReduction;

impl Reduction for NoReduction {
    fn exchange(&self, _: &str, _: &[u64], _: &mut [f32]) -> Result<(), Error> {
        Err(Error::Unavailable(
            "nobody asked for gradients: they are handed out inside `ml-backend.gradients` alone"
                .to_owned(),
        ))
    }
}

/// Where the pieces of an answer go.
pub trait Generation: Send + Sync {
    /// Takes a piece; false when no more is wanted.
    fn emit(&self, piece: Piece) -> bool;
}

/// Nobody who wants an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoGeneration;

impl Generation for NoGeneration {
    fn emit(&self, _: Piece) -> bool {
        false
    }
}

impl reduction::Reduction for Services {
    fn exchange(&self, name: &str, shape: &[u64], gradient: &mut [f32]) -> Result<(), Error> {
        self.reduction.exchange(name, shape, gradient)
    }
}

impl generation::Generation for Services {
    fn emit(&self, piece: Piece) -> bool {
        !self.is_cancelled() && self.generation.emit(piece)
    }
}
