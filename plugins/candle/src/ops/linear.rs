//! `y = x Wᵀ + b`, and the gradients of its parts.

use candle_core::{Result, Tensor};

use super::product::{Matrix, MatrixMut, Target, Threads, multiply};
use super::{host, lanes};

/// `scale · x Wᵀ` of `x` (tokens, inputs) and `weight` (outputs, inputs): (tokens, outputs).
///
/// # Errors
///
/// What the framework says.
pub fn forward(x: &Tensor, weight: &Tensor, scale: f32) -> Result<Tensor> {
    let ((tokens, inputs), (outputs, _)) = (x.dims2()?, weight.dims2()?);
    if !host::is_host(x) {
        return scale_if(x.matmul(&weight.t()?)?, scale);
    }
    let (x, weight) = (host::floats(x)?, host::floats(weight)?);
    let mut out = vec![0.0; tokens * outputs];
    multiply(
        MatrixMut::new(&mut out, tokens, outputs),
        Target::Set,
        scale,
        Matrix::new(&x, tokens, inputs),
        Matrix::new(&weight, outputs, inputs).t(),
        Threads::All,
    );
    host::tensor(out, &[tokens, outputs])
}

/// Adds `scale · x Wᵀ` to `y`.
///
/// # Errors
///
/// What the framework says.
pub fn add_forward(y: Tensor, x: &Tensor, weight: &Tensor, scale: f32) -> Result<Tensor> {
    let ((tokens, inputs), (outputs, _)) = (x.dims2()?, weight.dims2()?);
    if !host::is_host(x) {
        return y.add(&forward(x, weight, scale)?);
    }
    let (x, weight) = (host::floats(x)?, host::floats(weight)?);
    host::change(&y, |y| {
        multiply(
            MatrixMut::new(y, tokens, outputs),
            Target::Add,
            scale,
            Matrix::new(&x, tokens, inputs),
            Matrix::new(&weight, outputs, inputs).t(),
            Threads::All,
        );
    })?;
    Ok(y)
}

/// Adds a bias (outputs) to every row of `y`.
///
/// # Errors
///
/// What the framework says.
pub fn add_bias(y: Tensor, bias: &Tensor) -> Result<Tensor> {
    if !host::is_host(&y) {
        return y.broadcast_add(bias);
    }
    let bias = host::floats(bias)?;
    host::change(&y, |y| {
        for row in y.chunks_exact_mut(bias.len()) {
            lanes::add(row, &bias);
        }
    })?;
    Ok(y)
}

/// The gradient of `x`, `scale · dy W` of `gradient` (tokens, outputs), added to `sum`, which is that of `x` by
/// other ways.
///
/// # Errors
///
/// What the framework says.
pub fn input_gradient(
    sum: Option<Tensor>,
    gradient: &Tensor,
    weight: &Tensor,
    scale: f32,
) -> Result<Tensor> {
    let (tokens, outputs) = gradient.dims2()?;
    let (_, inputs) = weight.dims2()?;
    if !host::is_host(gradient) {
        let product = scale_if(gradient.matmul(weight)?, scale)?;
        return match sum {
            Some(sum) => sum.add(&product),
            None => Ok(product),
        };
    }
    let (gradient, weight) = (host::floats(gradient)?, host::floats(weight)?);
    let (sum, target) = match sum {
        Some(sum) => (sum, Target::Add),
        None => (
            host::zeros(&[tokens, inputs], &candle_core::Device::Cpu)?,
            Target::Set,
        ),
    };
    host::change(&sum, |sum| {
        multiply(
            MatrixMut::new(sum, tokens, inputs),
            target,
            scale,
            Matrix::new(&gradient, tokens, outputs),
            Matrix::new(&weight, outputs, inputs),
            Threads::All,
        );
    })?;
    Ok(sum)
}

/// Adds the gradient of the weight, `scale · dyᵀ x`, to those that there are.
///
/// # Errors
///
/// What the framework says.
pub fn weight_gradient(
    sum: &mut Option<Tensor>,
    gradient: &Tensor,
    x: &Tensor,
    scale: f32,
) -> Result<()> {
    let ((tokens, outputs), (_, inputs)) = (gradient.dims2()?, x.dims2()?);
    if !host::is_host(gradient) {
        let product = scale_if(gradient.t()?.matmul(x)?, scale)?;
        *sum = Some(match sum.take() {
            Some(sum) => sum.add(&product)?,
            None => product,
        });
        return Ok(());
    }
    let (gradient, x) = (host::floats(gradient)?, host::floats(x)?);
    let (tensor, target) = match sum {
        Some(tensor) => (tensor, Target::Add),
        None => {
            let zeros = host::zeros(&[outputs, inputs], &candle_core::Device::Cpu)?;
            (sum.insert(zeros), Target::Set)
        }
    };
    host::change(tensor, |sum| {
        multiply(
            MatrixMut::new(sum, outputs, inputs),
            target,
            scale,
            Matrix::new(&gradient, tokens, outputs).t(),
            Matrix::new(&x, tokens, inputs),
            Threads::All,
        );
    })
}

fn scale_if(x: Tensor, scale: f32) -> Result<Tensor> {
    if scale == 1.0 {
        Ok(x)
    } else {
        x.affine(f64::from(scale), 0.0)
    }
}
