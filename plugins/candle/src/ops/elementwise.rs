//! Sums of tensors, and of their rows.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{host, lanes};

/// Elements that are added in one go.
const CHUNK: usize = 1 << 14;

/// The sum of two tensors of one shape.
///
/// # Errors
///
/// What the framework says.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !host::is_host(a) {
        return a.add(b);
    }
    let (x, y) = (host::floats(a)?, host::floats(b)?);
    let mut out = x.to_vec();
    add_slices(&mut out, &y);
    host::tensor(out, a.dims())
}

/// Adds a gradient to those that there are; the first takes their place.
///
/// # Errors
///
/// What the framework says.
pub fn accumulate(sum: &mut Option<Tensor>, gradient: Tensor) -> Result<()> {
    match sum {
        None => *sum = Some(gradient),
        Some(tensor) if host::is_host(tensor) => {
            let floats = host::floats(&gradient)?;
            host::change(tensor, |sum| add_slices(sum, &floats))?;
        }
        Some(tensor) => *tensor = tensor.add(&gradient)?,
    }
    Ok(())
}

/// A tensor whose elements are multiplied by a number.
///
/// # Errors
///
/// What the framework says.
pub fn scaled(x: &Tensor, by: f32) -> Result<Tensor> {
    if !host::is_host(x) {
        return x.affine(f64::from(by), 0.0);
    }
    let floats = host::floats(x)?;
    host::tensor(floats.iter().map(|x| x * by).collect(), x.dims())
}

/// The sum of all rows: (rows, width) gives (width).
///
/// # Errors
///
/// What the framework says.
pub fn sum_of_rows(x: &Tensor) -> Result<Tensor> {
    if !host::is_host(x) {
        return x.sum(0);
    }
    let (_, width) = x.dims2()?;
    let floats = host::floats(x)?;
    let mut sum = vec![0.0; width];
    for row in floats.chunks_exact(width) {
        lanes::add(&mut sum, row);
    }
    host::tensor(sum, &[width])
}

/// The sum of squares of all elements of each tensor. Of tensors on a device they are read in one go, as a device
/// stands still while something is read.
///
/// # Errors
///
/// What the framework says.
pub fn sums_of_squares<'t>(tensors: impl Iterator<Item = &'t Tensor>) -> Result<Vec<f64>> {
    let (mut sums, mut on_device) = (Vec::new(), Vec::new());
    for tensor in tensors {
        match host::is_host(tensor) {
            true => sums.push(sum_of_squares(tensor)?),
            false => on_device.push(tensor.sqr()?.sum_all()?),
        }
    }
    if !on_device.is_empty() {
        let read: Vec<f32> = Tensor::stack(&on_device, 0)?.to_vec1()?;
        sums.extend(read.into_iter().map(f64::from));
    }
    Ok(sums)
}

/// The sum of squares of all elements in host memory, in 64-bit floats and in an order that does not depend on
/// threads.
///
/// # Errors
///
/// What the framework says.
pub fn sum_of_squares(x: &Tensor) -> Result<f64> {
    let floats = host::floats(x)?;
    let parts: Vec<f64> = floats
        .par_chunks(CHUNK)
        .map(|part| {
            part.chunks(256)
                .map(|part| f64::from(lanes::dot(part, part)))
                .sum()
        })
        .collect();
    Ok(parts.iter().sum())
}

fn add_slices(to: &mut [f32], x: &[f32]) {
    to.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(to, x)| lanes::add(to, x));
}
