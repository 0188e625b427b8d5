//! Tensors that are trained.

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};
use crate::ops::host;

/// A tensor that is trained, its gradient and its moments. In host memory all change where they are.
#[derive(Debug)]
pub struct Parameter {
    /// Its name, as in the file that holds it.
    pub name: String,
    /// Its value.
    pub value: Tensor,
    /// The gradient, since the last step; none as long as nothing was added.
    pub gradient: Option<Tensor>,
    /// The mean of gradients.
    pub first: Tensor,
    /// The mean of their squares.
    pub second: Tensor,
}

impl Parameter {
    /// One that begins as these numbers.
    ///
    /// # Errors
    ///
    /// [`Error::Compute`] where the device has no room.
    pub fn new(name: String, values: Vec<f32>, shape: &[usize], device: &Device) -> Result<Self> {
        let make = || {
            candle_core::Result::Ok((
                Tensor::from_vec(values, shape, device)?,
                host::zeros(shape, device)?,
                host::zeros(shape, device)?,
            ))
        };
        let made = make().map_err(Error::compute(format!("hold `{name}`")))?;
        let (value, first, second) = made;
        Ok(Self {
            name,
            value,
            gradient: None,
            first,
            second,
        })
    }

    /// Numbers in it.
    pub fn elements(&self) -> u64 {
        self.value.elem_count() as u64
    }

    /// Whether weights decay: those of matrices do, not those of norms and biases.
    pub fn decays(&self) -> bool {
        self.value.rank() > 1
    }
}
