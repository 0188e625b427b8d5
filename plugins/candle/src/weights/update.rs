//! Low-rank updates of matrices: `W + scale · B A`, added as rows are read.

use std::ops::Range;

/// What is added to a matrix of (rows, columns).
#[derive(Debug)]
pub struct Update {
    /// Of shape (rank, columns).
    pub a: Vec<f32>,
    /// Of shape (rows, rank).
    pub b: Vec<f32>,
    /// Rows of `a`.
    pub rank: usize,
    /// What the product is multiplied by.
    pub scale: f32,
}

impl Update {
    /// Adds its rows to those of the matrix.
    pub(super) fn add(&self, rows: Range<usize>, to: &mut [f32]) {
        let columns = self.a.len() / self.rank;
        let factors = &self.b[rows.start * self.rank..rows.end * self.rank];
        for (to, factors) in to
            .chunks_exact_mut(columns)
            .zip(factors.chunks_exact(self.rank))
        {
            for (a, factor) in self.a.chunks_exact(columns).zip(factors) {
                let factor = self.scale * factor;
                to.iter_mut().zip(a).for_each(|(to, a)| *to += factor * a);
            }
        }
    }
}
