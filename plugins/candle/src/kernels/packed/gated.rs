//! The first half of a gated feed-forward block: two products with the same inputs, of which only what both make together
//! is written.

use vox_quant::blocks::BLOCK;

use super::groups::Piece;
use super::{Epilogue, Format, Inputs, Packed, Pieces};
use crate::kernels::inputs::{InputBlock, quantise_block};
use crate::kernels::pool::Tile;
use crate::kernels::rows::Activation;
use crate::kernels::simd::{Kernel, LANES, Level, Simd};

/// The first half of a gated feed-forward block: `activation(x Gᵀ + a) · (x Uᵀ + b)`.
#[derive(Debug)]
pub struct Gated {
    gate: Packed,
    up: Packed,
    biases: Option<[Vec<[f32; LANES]>; 2]>,
    activation: Activation,
}

impl Gated {
    /// The block with these two matrices and biases.
    ///
    /// # Panics
    ///
    /// Where they are not of one shape and format.
    pub fn new(
        gate: Packed,
        up: Packed,
        biases: Option<[&[f32]; 2]>,
        activation: Activation,
    ) -> Self {
        let shape = |matrix: &Packed| (matrix.rows, matrix.columns, matrix.format());
        assert_eq!(shape(&gate), shape(&up), "gate and up projection are alike");
        if let Some(biases) = biases {
            assert!(
                biases.iter().all(|bias| bias.len() == gate.rows),
                "a bias for every output"
            );
        }
        Self {
            gate,
            up,
            biases: biases.map(|biases| biases.map(Epilogue::padded)),
            activation,
        }
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.gate.rows
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.gate.bytes() + self.up.bytes()
    }

    /// How the weights are held.
    pub fn format(&self) -> Format {
        self.gate.format()
    }

    /// A tile of the outputs, quantised: columns are blocks of 32 outputs.
    ///
    /// # Panics
    ///
    /// As [`Packed::multiply`].
    pub fn quantised(&self, level: Level, inputs: Inputs<'_>, out: &mut Tile<'_, InputBlock>) {
        self.compute(level, inputs, out);
    }

    /// A tile of the outputs; it begins with a multiple of 32.
    ///
    /// # Panics
    ///
    /// As [`Packed::multiply`].
    pub fn plain(&self, level: Level, inputs: Inputs<'_>, out: &mut Tile<'_, f32>) {
        assert!(
            out.first_column.is_multiple_of(BLOCK),
            "tiles are whole blocks"
        );
        self.compute(level, inputs, out);
    }

    fn compute<T: Written>(&self, level: Level, inputs: Inputs<'_>, out: &mut Tile<'_, T>) {
        let stride = self.gate.input_stride();
        let rows = out.first_row * stride..(out.first_row + out.rows()) * stride;
        /// Pairs the pieces of both matrices.
        macro_rules! run {
            ($gate:ident, $up:ident, $x:ident) => {
                level.run(GatedKernel {
                    block: self,
                    gate: $gate,
                    up: $up,
                    x: &$x[rows],
                    stride,
                    out,
                })
            };
        }
        match (&self.gate.pieces, &self.up.pieces, inputs) {
            (Pieces::F32(gate), Pieces::F32(up), Inputs::Plain(x)) => run!(gate, up, x),
            (Pieces::F16(gate), Pieces::F16(up), Inputs::Plain(x)) => run!(gate, up, x),
            (Pieces::Bf16(gate), Pieces::Bf16(up), Inputs::Plain(x)) => run!(gate, up, x),
            (Pieces::Q8(gate), Pieces::Q8(up), Inputs::Quantised(x)) => run!(gate, up, x),
            (Pieces::Q5(gate), Pieces::Q5(up), Inputs::Quantised(x)) => run!(gate, up, x),
            (Pieces::Q4(gate), Pieces::Q4(up), Inputs::Quantised(x)) => run!(gate, up, x),
            (Pieces::Q6K(gate), Pieces::Q6K(up), Inputs::Quantised(x)) => run!(gate, up, x),
            (Pieces::Q4K(gate), Pieces::Q4K(up), Inputs::Quantised(x)) => run!(gate, up, x),
            _ => panic!(
                "weights of the format {:?} meet inputs of another",
                self.format()
            ),
        }
    }
}

/// What a gated block's outputs are written as, 32 at a time.
trait Written {
    /// Elements of a tile that 32 outputs take.
    const WIDTH: usize;
    /// Writes 32 outputs, or fewer where the row of a tile ends.
    fn write<S: Simd>(simd: S, x: &[f32; BLOCK], to: &mut [Self])
    where
        Self: Sized;
}

impl Written for f32 {
    const WIDTH: usize = BLOCK;
    #[inline(always)]
    fn write<S: Simd>(_: S, x: &[f32; BLOCK], to: &mut [Self]) {
        to.copy_from_slice(&x[..to.len()]);
    }
}

impl Written for InputBlock {
    const WIDTH: usize = 1;
    #[inline(always)]
    fn write<S: Simd>(simd: S, x: &[f32; BLOCK], to: &mut [Self]) {
        quantise_block(simd, x, &mut to[0]);
    }
}

struct GatedKernel<'a, 't, P: Piece, T> {
    block: &'a Gated,
    gate: &'a [P],
    up: &'a [P],
    x: &'a [P::Input],
    stride: usize,
    out: &'a mut Tile<'t, T>,
}

impl<P: Piece, T: Written> GatedKernel<'_, '_, P, T> {
    /// Two groups from `group` on, the second of which may be missing, with `M` rows from `row` on.
    #[inline(always)]
    fn rows<S: Simd, const M: usize>(&mut self, simd: S, group: usize, column: usize, row: usize) {
        let length = self.block.gate.length;
        let mut x: [&[P::Input]; M] = [&[]; M];
        for m in 0..M {
            x[m] = &self.x[(row + m) * self.stride..][..length * P::INPUTS];
        }
        let mut outputs = [[0.0; BLOCK]; M];
        for half in 0..2 {
            let group = group + half;
            if group * length >= self.gate.len() {
                break;
            }
            let of = group * length..(group + 1) * length;
            let gates = P::products::<S, M, 1>(simd, [&self.gate[of.clone()]], x);
            let ups = P::products::<S, M, 1>(simd, [&self.up[of]], x);
            for m in 0..M {
                let (mut gate, mut up) = (gates[m][0], ups[m][0]);
                if let Some([gates, ups]) = &self.block.biases {
                    gate = simd.add(gate, simd.load(&gates[group]));
                    up = simd.add(up, simd.load(&ups[group]));
                }
                let output = simd.mul(self.block.activation.of(simd, gate), up);
                simd.store(output, &mut outputs[m].as_chunks_mut::<LANES>().0[half]);
            }
        }
        for m in 0..M {
            let to = self.out.row(row + m);
            let last = to.len().min(column + T::WIDTH);
            T::write(simd, &outputs[m], &mut to[column..last]);
        }
    }
}

impl<P: Piece, T: Written> Kernel for GatedKernel<'_, '_, P, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let rows = self.out.rows();
        let mut column = 0;
        while column < self.out.columns() {
            let group = (self.out.first_column + column) / T::WIDTH * (BLOCK / LANES);
            let mut row = 0;
            if S::ROWS >= 8 {
                while row + 8 <= rows {
                    self.rows::<S, 8>(simd, group, column, row);
                    row += 8;
                }
            }
            if S::ROWS >= 4 {
                while row + 4 <= rows {
                    self.rows::<S, 4>(simd, group, column, row);
                    row += 4;
                }
            }
            while row < rows {
                self.rows::<S, 1>(simd, group, column, row);
                row += 1;
            }
            column += T::WIDTH;
        }
    }
}
