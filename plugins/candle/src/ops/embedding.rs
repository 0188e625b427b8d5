//! Rows of a table by their numbers.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{host, lanes};

/// The rows of a table of (rows, width) by their numbers, multiplied by `scale`: (numbers, width).
///
/// # Errors
///
/// What the framework says, as when a number is not below the rows.
pub fn gather(table: &Tensor, numbers: &[u32], scale: f32) -> Result<Tensor> {
    let (rows, width) = table.dims2()?;
    check(numbers, rows)?;
    if !host::is_host(table) {
        let numbers = Tensor::new(numbers, table.device())?;
        return table
            .index_select(&numbers, 0)?
            .affine(f64::from(scale), 0.0);
    }
    let floats = host::floats(table)?;
    let mut out = vec![0.0; numbers.len() * width];
    for (out, &number) in out.chunks_exact_mut(width).zip(numbers) {
        let from = number as usize * width;
        for (out, x) in out.iter_mut().zip(&floats[from..from + width]) {
            *out = x * scale;
        }
    }
    host::tensor(out, &[numbers.len(), width])
}

/// Adds gradients (numbers, width), multiplied by `scale`, to those of the rows of a table, each row's in the
/// order of the numbers.
///
/// # Errors
///
/// As [`gather`].
pub fn scatter(
    table: &mut Option<Tensor>,
    rows: usize,
    numbers: &[u32],
    gradient: &Tensor,
    scale: f32,
) -> Result<()> {
    let (_, width) = gradient.dims2()?;
    check(numbers, rows)?;
    let sum = match table {
        Some(sum) => sum,
        None => table.insert(host::zeros(&[rows, width], gradient.device())?),
    };
    if !host::is_host(gradient) {
        let numbers = Tensor::new(numbers, gradient.device())?;
        *sum = sum.index_add(&numbers, &gradient.affine(f64::from(scale), 0.0)?, 0)?;
        return Ok(());
    }
    let floats = host::floats(gradient)?;
    host::change(sum, |sum| {
        // Each row belongs to one thread, which adds in the order of the numbers: the sort is stable.
        let mut order: Vec<usize> = (0..numbers.len()).collect();
        order.sort_by_key(|&at| numbers[at]);
        let mut groups: Vec<(&mut [f32], &[usize])> = Vec::new();
        let mut rest = sum;
        let mut passed = 0;
        for group in order.chunk_by(|&a, &b| numbers[a] == numbers[b]) {
            let row = numbers[group[0]] as usize;
            let (_, from_row) = std::mem::take(&mut rest).split_at_mut((row - passed) * width);
            let (row_floats, after) = from_row.split_at_mut(width);
            groups.push((row_floats, group));
            (rest, passed) = (after, row + 1);
        }
        groups.into_par_iter().for_each(|(row, group)| {
            for &at in group {
                lanes::add_scaled(row, &floats[at * width..][..width], scale);
            }
        });
    })
}

fn check(numbers: &[u32], rows: usize) -> Result<()> {
    match numbers.iter().find(|&&number| number as usize >= rows) {
        Some(number) => candle_core::bail!("the number {number} is not one of {rows} rows"),
        None => Ok(()),
    }
}
