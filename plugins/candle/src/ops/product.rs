//! Products of matrices in host memory.

use gemm::{Parallelism, gemm};

/// A matrix in a slice, or its transpose.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    floats: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix whose rows lie one after another.
    ///
    /// # Panics
    ///
    /// Where the slice is too short.
    pub fn new(floats: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::with_stride(floats, rows, columns, columns)
    }

    /// A matrix whose rows begin `row_stride` elements from each other.
    ///
    /// # Panics
    ///
    /// Where the slice is too short.
    pub fn with_stride(floats: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            fits(floats.len(), rows, columns, row_stride),
            "{rows} rows of {columns} do not fit"
        );
        Self {
            floats,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Where a product goes.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    floats: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// A matrix whose rows lie one after another.
    ///
    /// # Panics
    ///
    /// Where the slice is too short.
    pub fn new(floats: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::with_stride(floats, rows, columns, columns)
    }

    /// A matrix whose rows begin `row_stride` elements from each other.
    ///
    /// # Panics
    ///
    /// Where the slice is too short or rows overlap.
    pub fn with_stride(
        floats: &'a mut [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Self {
        assert!(
            fits(floats.len(), rows, columns, row_stride),
            "{rows} rows of {columns} do not fit"
        );
        assert!(
            rows < 2 || row_stride >= columns,
            "rows of {columns} overlap"
        );
        Self {
            floats,
            rows,
            columns,
            row_stride,
        }
    }
}

fn fits(length: usize, rows: usize, columns: usize, row_stride: usize) -> bool {
    rows == 0 || columns == 0 || (rows - 1) * row_stride + columns <= length
}

/// What becomes of what is in the target of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The product takes its place.
    Set,
    /// The product is added to it.
    Add,
}

/// Which threads compute a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The one that calls.
    One,
    /// All of the current pool. The result is the same.
    All,
}

/// `out = scale · a b`, or that added to `out`.
///
/// # Panics
///
/// Where the shapes do not fit together.
pub fn multiply(
    out: MatrixMut<'_>,
    target: Target,
    scale: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    threads: Threads,
) {
    assert_eq!(a.columns, b.rows, "columns of one and rows of the other");
    assert_eq!(
        (out.rows, out.columns),
        (a.rows, b.columns),
        "the product's shape"
    );
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    // SAFETY: each matrix was checked to lie inside of its slice with its strides, the slices are borrowed for
    // the call, `out` alone is written to, and its elements do not overlap.
    unsafe {
        gemm(
            out.rows,
            out.columns,
            a.columns,
            out.floats.as_mut_ptr(),
            1,
            out.row_stride as isize,
            target == Target::Add,
            a.floats.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.floats.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0_f32,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
