//! AdamW (Loshchilov and Hutter 2019), in the order of operations of PyTorch's.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::parameter::Parameter;
use super::spec::{AdamW, Update};
use crate::ops::{elementwise, host};

/// Elements that are computed in one go.
const CHUNK: usize = 1 << 14;

/// The norm of all gradients together.
///
/// # Errors
///
/// What the framework says.
pub fn gradient_norm(parameters: &[Parameter]) -> Result<f64> {
    let gradients = parameters
        .iter()
        .filter_map(|parameter| parameter.gradient.as_ref());
    let sums = elementwise::sums_of_squares(gradients)?;
    Ok(sums.iter().sum::<f64>().sqrt())
}

/// The factors of one step.
#[derive(Debug, Clone, Copy)]
struct Factors {
    gradient: f32,
    keep: f32,
    first: f32,
    second: f32,
    step: f32,
    root: f32,
    epsilon: f32,
}

/// Applies the gradients, multiplied by `scale`, to all parameters that have one, and takes them away.
///
/// # Errors
///
/// What the framework says.
pub fn step(parameters: &mut [Parameter], adam: AdamW, update: &Update, scale: f64) -> Result<()> {
    let power = i32::try_from(update.step.max(1)).unwrap_or(i32::MAX);
    let correction = |beta: f64| 1.0 - beta.powi(power);
    for parameter in parameters {
        let Some(gradient) = parameter.gradient.take() else {
            continue;
        };
        let decay = if parameter.decays() {
            adam.weight_decay
        } else {
            0.0
        };
        let factors = Factors {
            gradient: scale as f32,
            keep: (1.0 - update.learning_rate * decay) as f32,
            first: adam.beta1 as f32,
            second: adam.beta2 as f32,
            step: (update.learning_rate / correction(adam.beta1)) as f32,
            root: correction(adam.beta2).sqrt() as f32,
            epsilon: adam.epsilon as f32,
        };
        if host::is_host(&gradient) {
            on_host(parameter, &gradient, factors)?;
        } else {
            on_device(parameter, &gradient, factors)?;
        }
    }
    Ok(())
}

fn on_host(parameter: &Parameter, gradient: &Tensor, factors: Factors) -> Result<()> {
    let gradient = host::floats(gradient)?;
    let Parameter {
        value,
        first,
        second,
        ..
    } = parameter;
    host::change(value, |value| {
        host::change(first, |first| {
            host::change(second, |second| {
                value
                    .par_chunks_mut(CHUNK)
                    .zip(
                        first
                            .par_chunks_mut(CHUNK)
                            .zip(second.par_chunks_mut(CHUNK)),
                    )
                    .zip(gradient.par_chunks(CHUNK))
                    .for_each(|((value, (first, second)), gradient)| {
                        step_slices(value, first, second, gradient, factors);
                    });
            })
        })
    })??
}

fn step_slices(
    value: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    f: Factors,
) {
    let moments = first.iter_mut().zip(second);
    for ((value, (first, second)), gradient) in value.iter_mut().zip(moments).zip(gradient) {
        let gradient = gradient * f.gradient;
        *first = *first * f.first + gradient * (1.0 - f.first);
        *second = *second * f.second + gradient * gradient * (1.0 - f.second);
        let root = second.sqrt() / f.root + f.epsilon;
        *value = *value * f.keep - f.step * *first / root;
    }
}

fn on_device(parameter: &mut Parameter, gradient: &Tensor, f: Factors) -> Result<()> {
    let wide = f64::from;
    let gradient = gradient.affine(wide(f.gradient), 0.0)?;
    let first = parameter.first.affine(wide(f.first), 0.0)?;
    parameter.first = first.add(&gradient.affine(1.0 - wide(f.first), 0.0)?)?;
    let second = parameter.second.affine(wide(f.second), 0.0)?;
    parameter.second = second.add(&gradient.sqr()?.affine(1.0 - wide(f.second), 0.0)?)?;
    let root = parameter
        .second
        .sqrt()?
        .affine(1.0 / wide(f.root), wide(f.epsilon))?;
    let change = parameter.first.affine(wide(f.step), 0.0)?.div(&root)?;
    parameter.value = parameter.value.affine(wide(f.keep), 0.0)?.sub(&change)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Ones in a matrix and in a vector, after a step without a gradient: all that is left is the decay.
    fn decayed() -> [Vec<f32>; 2] {
        let ones = |name: &str, shape: &[usize]| {
            let mut ones =
                Parameter::new(name.to_owned(), vec![1.0; 4], shape, &Device::Cpu).unwrap();
            ones.gradient = Some(host::zeros(shape, &Device::Cpu).unwrap());
            ones
        };
        let mut parameters = [ones("matrix", &[2, 2]), ones("vector", &[4])];
        let adam = AdamW {
            weight_decay: 0.5,
            ..AdamW::default()
        };
        let update = Update {
            step: 1,
            learning_rate: 0.1,
            scale: 1.0,
            clip: None,
        };
        step(&mut parameters, adam, &update, 1.0).unwrap();
        parameters.map(|one| one.value.flatten_all().unwrap().to_vec1().unwrap())
    }

    #[test]
    fn matrices_decay_by_rate_and_decay_and_vectors_do_not() {
        let wanted = [vec![0.95; 4], vec![1.0; 4]];
        assert_eq!(decayed(), wanted);
        assert_eq!(host::composing::with(decayed), wanted);
    }
}
