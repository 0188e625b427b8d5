//! Weights rearranged for the processor, and the products `y = x Wᵀ` with them.
//!
//! Sixteen rows of a weight make a group; a group's columns follow each other, of all its rows together, with their
//! scales beside them (the pieces of [`groups`]). So a product with one row of inputs reads the weights once, front to
//! back, and needs no sums across a vector. Quantised weights take the bytes of their ggml formats.

mod format;
mod gated;
pub mod groups;
mod wide;

use std::ops::Range;

use vox_quant::blocks::BLOCK;

use super::inputs::InputBlock;
use super::pool::{Pool, Tile, Tiles};
use super::simd::{Kernel, LANES, Level, Simd};
use groups::{Bf16, F16, Piece, Q4KPiece, Q4Piece, Q8Piece, Row};
use wide::{Q5Piece, Q6KPiece};

pub use format::Format;
pub use gated::Gated;

/// Rows of inputs that weights meet, as the format of the weights wants them.
#[derive(Debug, Clone, Copy)]
pub enum Inputs<'a> {
    /// Rows of as many numbers as a weight has columns, for formats that are not quantised.
    Plain(&'a [f32]),
    /// Rows of blocks, for the other formats.
    Quantised(&'a [InputBlock]),
}

/// The pieces of a matrix.
#[derive(Debug)]
enum Pieces {
    F32(Vec<[f32; LANES]>),
    F16(Vec<[F16; LANES]>),
    Bf16(Vec<[Bf16; LANES]>),
    Q8(Vec<Q8Piece>),
    Q5(Vec<Q5Piece>),
    Q4(Vec<Q4Piece>),
    Q6K(Vec<Q6KPiece>),
    Q4K(Vec<Q4KPiece>),
}

/// Evaluates an expression with `$pieces` and, in the type `$piece`, what they are.
macro_rules! with_pieces {
    ($matrix:expr, $inputs:expr, |$pieces:ident, $x:ident| $body:expr) => {
        match (&$matrix.pieces, $inputs) {
            (Pieces::F32($pieces), Inputs::Plain($x)) => $body,
            (Pieces::F16($pieces), Inputs::Plain($x)) => $body,
            (Pieces::Bf16($pieces), Inputs::Plain($x)) => $body,
            (Pieces::Q8($pieces), Inputs::Quantised($x)) => $body,
            (Pieces::Q5($pieces), Inputs::Quantised($x)) => $body,
            (Pieces::Q4($pieces), Inputs::Quantised($x)) => $body,
            (Pieces::Q6K($pieces), Inputs::Quantised($x)) => $body,
            (Pieces::Q4K($pieces), Inputs::Quantised($x)) => $body,
            _ => panic!(
                "weights of the format {:?} meet inputs of another",
                $matrix.format()
            ),
        }
    };
}

/// A matrix of weights `W` with rows of outputs and columns of inputs.
#[derive(Debug)]
pub struct Packed {
    rows: usize,
    columns: usize,
    /// Pieces in a group.
    length: usize,
    pieces: Pieces,
}

impl Packed {
    /// The matrix whose rows `read` writes, on all threads of the pool.
    ///
    /// # Panics
    ///
    /// Where a size is 0, or `format` is [`Format::Q6K`] or [`Format::Q4K`] and `columns` is no multiple of 256.
    pub fn new(
        format: Format,
        rows: usize,
        columns: usize,
        pool: &mut Pool,
        read: &(impl Fn(usize, &mut [f32]) + Sync),
    ) -> Self {
        Self::of_blocks(
            format,
            rows,
            columns,
            pool,
            &|row: usize, to: &mut [f32]| {
                read(row, to);
                None
            },
        )
    }

    /// [`new`](Self::new) of rows some of which exist in blocks of the format already: `read` answers their bytes, which
    /// are then held as they are, and writes the numbers of the others.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new), and where a row has blocks of a format without blocks, or too few of them.
    pub fn of_blocks<'b>(
        format: Format,
        rows: usize,
        columns: usize,
        pool: &mut Pool,
        read: &(impl Fn(usize, &mut [f32]) -> Option<&'b [u8]> + Sync),
    ) -> Self {
        assert!(rows > 0 && columns > 0, "a matrix has rows and columns");
        assert!(
            format.holds(columns),
            "rows of {format:?} are whole blocks, and {columns} columns are not",
        );
        let length = columns.div_ceil(format.columns());
        let pieces = match format {
            Format::F32 => Pieces::F32(pack(rows, columns, length, pool, read)),
            Format::F16 => Pieces::F16(pack(rows, columns, length, pool, read)),
            Format::Bf16 => Pieces::Bf16(pack(rows, columns, length, pool, read)),
            Format::Q8_0 => Pieces::Q8(pack(rows, columns, length, pool, read)),
            Format::Q5_0 => Pieces::Q5(pack(rows, columns, length, pool, read)),
            Format::Q4_0 => Pieces::Q4(pack(rows, columns, length, pool, read)),
            Format::Q6K => Pieces::Q6K(pack(rows, columns, length, pool, read)),
            Format::Q4K => Pieces::Q4K(pack(rows, columns, length, pool, read)),
        };
        Self {
            rows,
            columns,
            length,
            pieces,
        }
    }

    /// How the weights are held.
    pub fn format(&self) -> Format {
        match self.pieces {
            Pieces::F32(_) => Format::F32,
            Pieces::F16(_) => Format::F16,
            Pieces::Bf16(_) => Format::Bf16,
            Pieces::Q8(_) => Format::Q8_0,
            Pieces::Q5(_) => Format::Q5_0,
            Pieces::Q4(_) => Format::Q4_0,
            Pieces::Q6K(_) => Format::Q6K,
            Pieces::Q4K(_) => Format::Q4K,
        }
    }

    /// Rows: outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: inputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        match &self.pieces {
            Pieces::F32(pieces) => size_of_val(&pieces[..]),
            Pieces::F16(pieces) => size_of_val(&pieces[..]),
            Pieces::Bf16(pieces) => size_of_val(&pieces[..]),
            Pieces::Q8(pieces) => size_of_val(&pieces[..]),
            Pieces::Q5(pieces) => size_of_val(&pieces[..]),
            Pieces::Q4(pieces) => size_of_val(&pieces[..]),
            Pieces::Q6K(pieces) => size_of_val(&pieces[..]),
            Pieces::Q4K(pieces) => size_of_val(&pieces[..]),
        }
    }

    /// Writes a row of the weights as they are held, `columns` numbers.
    ///
    /// # Panics
    ///
    /// Where there is no such row, or `to` is of another length.
    pub fn row(&self, row: usize, to: &mut [f32]) {
        assert!(
            row < self.rows && to.len() == self.columns,
            "row {row} of {}",
            self.rows
        );
        match &self.pieces {
            Pieces::F32(pieces) => unpack(self.group(pieces, row / LANES), row % LANES, to),
            Pieces::F16(pieces) => unpack(self.group(pieces, row / LANES), row % LANES, to),
            Pieces::Bf16(pieces) => unpack(self.group(pieces, row / LANES), row % LANES, to),
            Pieces::Q8(pieces) => unpack(self.group(pieces, row / LANES), row % LANES, to),
            Pieces::Q5(pieces) => unpack(self.group(pieces, row / LANES), row % LANES, to),
            Pieces::Q4(pieces) => unpack(self.group(pieces, row / LANES), row % LANES, to),
            Pieces::Q6K(pieces) => unpack(self.group(pieces, row / LANES), row % LANES, to),
            Pieces::Q4K(pieces) => unpack(self.group(pieces, row / LANES), row % LANES, to),
        }
    }

    fn group<'a, P>(&self, pieces: &'a [P], group: usize) -> &'a [P] {
        &pieces[group * self.length..][..self.length]
    }

    /// Numbers or blocks in a row of inputs.
    fn input_stride(&self) -> usize {
        if self.format().is_quantised() {
            self.columns.div_ceil(BLOCK)
        } else {
            self.columns
        }
    }
}

/// Packs groups on all threads.
fn pack<'b, P: Piece>(
    rows: usize,
    columns: usize,
    length: usize,
    pool: &mut Pool,
    read: &(impl Fn(usize, &mut [f32]) -> Option<&'b [u8]> + Sync),
) -> Vec<P> {
    let padded =
        || -> [Vec<f32>; LANES] { std::array::from_fn(|_| vec![0.0; length * P::COLUMNS]) };
    let mut scratches: Vec<_> = (0..pool.threads()).map(|_| padded()).collect();
    let zeros = vec![0.0; P::COLUMNS];
    let zero = P::pack(&[Row::Numbers(&zeros); LANES], 0);
    let mut pieces = vec![zero; rows.div_ceil(LANES) * length];
    pool.tiles(
        Tiles::rows(&mut pieces, length),
        &mut scratches,
        |tile, scratch| {
            let first = tile.first_row * LANES;
            let mut blocks = [None; LANES];
            for (index, row) in scratch.iter_mut().enumerate() {
                if first + index < rows {
                    blocks[index] = read(first + index, &mut row[..columns]);
                } else {
                    row.fill(0.0);
                }
            }
            let of_lane = |lane: usize| match blocks[lane] {
                Some(bytes) => Row::Blocks(bytes),
                None => Row::Numbers(&scratch[lane]),
            };
            let lanes: [Row<'_>; LANES] = std::array::from_fn(of_lane);
            for (index, piece) in tile.row(0).iter_mut().enumerate() {
                *piece = P::pack(&lanes, index);
            }
        },
    );
    pieces
}

fn unpack<P: Piece>(group: &[P], row: usize, to: &mut [f32]) {
    for (piece, to) in group.iter().zip(to.chunks_mut(P::COLUMNS)) {
        if to.len() == P::COLUMNS {
            piece.unpack(row, to);
        } else {
            let mut whole = [0.0; BLOCK];
            piece.unpack(row, &mut whole);
            to.copy_from_slice(&whole[..to.len()]);
        }
    }
}

/// What becomes of products.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// A number for each row of the weight that is added, in [`padded`](Epilogue::padded) form.
    pub bias: Option<&'a [[f32; LANES]]>,
    /// Products are added to what is there.
    pub add: bool,
}

impl Epilogue<'_> {
    /// A bias, filled up with zeros to whole groups.
    pub fn padded(bias: &[f32]) -> Vec<[f32; LANES]> {
        let mut padded = vec![[0.0; LANES]; bias.len().div_ceil(LANES)];
        padded.as_flattened_mut()[..bias.len()].copy_from_slice(bias);
        padded
    }

    /// Writes the products of a group with a row; `to` is what the row has of the group.
    #[inline(always)]
    pub(super) fn write<S: Simd>(self, simd: S, mut products: S::F, group: usize, to: &mut [f32]) {
        if let Some(bias) = self.bias {
            products = simd.add(products, simd.load(&bias[group]));
        }
        if let Ok(to) = <&mut [f32; LANES]>::try_from(&mut *to) {
            if self.add {
                products = simd.add(products, simd.load(to));
            }
            simd.store(products, to);
        } else {
            let mut lanes = [0.0; LANES];
            simd.store(products, &mut lanes);
            for (to, product) in to.iter_mut().zip(lanes) {
                *to = if self.add { *to + product } else { product };
            }
        }
    }
}

/// Columns of the output that a thread computes at once; tiles are cut at multiples of it.
pub const OUTPUTS: usize = LANES;

impl Packed {
    /// The columns of a tile of `x Wᵀ`, with all rows. A tile begins with a multiple of [`OUTPUTS`].
    ///
    /// # Panics
    ///
    /// Where the inputs are not those of the format, or fewer rows than the tile has, or the tile is not within the
    /// outputs.
    pub fn multiply(
        &self,
        level: Level,
        inputs: Inputs<'_>,
        out: &mut Tile<'_, f32>,
        epilogue: Epilogue<'_>,
    ) {
        let first = out.first_column;
        assert!(
            first.is_multiple_of(LANES) && first + out.columns() <= self.rows,
            "columns {first}.. are not outputs of a matrix of {} rows",
            self.rows,
        );
        let groups = first / LANES..(first + out.columns()).div_ceil(LANES);
        let stride = self.input_stride();
        with_pieces!(self, inputs, |pieces, x| level.run(Multiply {
            pieces,
            length: self.length,
            groups,
            x: &x[out.first_row * stride..][..out.rows() * stride],
            stride,
            out,
            epilogue,
        }));
    }
}

/// Some groups of a matrix with some rows of inputs.
pub(super) struct Multiply<'a, 't, P: Piece> {
    /// The matrix.
    pub(super) pieces: &'a [P],
    /// Pieces in a group.
    pub(super) length: usize,
    /// The groups.
    pub(super) groups: Range<usize>,
    /// Rows of inputs.
    pub(super) x: &'a [P::Input],
    /// Inputs in a row.
    pub(super) stride: usize,
    /// Where products go: columns of the groups, as many rows as there are of inputs.
    pub(super) out: &'a mut Tile<'t, f32>,
    /// What becomes of them.
    pub(super) epilogue: Epilogue<'a>,
}

impl<P: Piece> Multiply<'_, '_, P> {
    #[inline(always)]
    fn group(&self, group: usize) -> &[P] {
        &self.pieces[group * self.length..][..self.length]
    }

    /// `G` groups from `group` on with `M` rows from `row` on.
    #[inline(always)]
    fn block<S: Simd, const M: usize, const G: usize>(
        &mut self,
        simd: S,
        group: usize,
        row: usize,
    ) {
        let mut weights: [&[P]; G] = [&[]; G];
        for g in 0..G {
            weights[g] = self.group(group + g);
        }
        let mut x: [&[P::Input]; M] = [&[]; M];
        for m in 0..M {
            x[m] = &self.x[(row + m) * self.stride..][..self.length * P::INPUTS];
        }
        let products = P::products::<S, M, G>(simd, weights, x);
        for m in 0..M {
            let to = self.out.row(row + m);
            for g in 0..G {
                let first = (group + g - self.groups.start) * LANES;
                let last = to.len().min(first + LANES);
                self.epilogue
                    .write(simd, products[m][g], group + g, &mut to[first..last]);
            }
        }
    }
}

impl<P: Piece> Kernel for Multiply<'_, '_, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let rows = self.out.rows();
        let groups = self.groups.clone();
        if rows == 1 {
            let mut group = groups.start;
            while group + 4 <= groups.end {
                self.block::<S, 1, 4>(simd, group, 0);
                group += 4;
            }
            while group < groups.end {
                self.block::<S, 1, 1>(simd, group, 0);
                group += 1;
            }
            return;
        }
        for group in groups {
            let mut row = 0;
            if S::ROWS >= 8 {
                while row + 8 <= rows {
                    self.block::<S, 8, 1>(simd, group, row);
                    row += 8;
                }
            }
            if S::ROWS >= 4 {
                while row + 4 <= rows {
                    self.block::<S, 4, 1>(simd, group, row);
                    row += 4;
                }
            }
            while row < rows {
                self.block::<S, 1, 1>(simd, group, row);
                row += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
