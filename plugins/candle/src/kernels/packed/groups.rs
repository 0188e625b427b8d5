//! Sixteen rows of weights, interleaved so that one vector holds the same columns of all of them, and the products
//! of such a group with rows of inputs.

use half::{bf16, f16};
use vox_quant::blocks::{BLOCK, Block, Q4_0, Q4K, Q8_0, SUPER_BLOCK};

use super::super::inputs::InputBlock;
use super::super::simd::{LANES, Simd};

/// A piece of a group: some columns of its sixteen rows. A group is a slice of them, from the first column to the
/// last.
pub trait Piece: Copy + Send + Sync {
    /// What the weights of a piece's columns meet, `INPUTS` of them.
    type Input: Copy + Send + Sync;
    /// Columns in a piece.
    const COLUMNS: usize;
    /// Inputs that a piece meets.
    const INPUTS: usize;

    /// The piece of that number of these rows of weights, whose blocks are of [`COLUMNS`](Self::COLUMNS) numbers.
    fn pack(rows: &[Row<'_>; LANES], index: usize) -> Self;

    /// The weights of one of the rows, `COLUMNS` of them.
    fn unpack(&self, row: usize, to: &mut [f32]);

    /// The products of `G` groups, all of one length, with `M` rows of inputs; of group `g` with row `m` in `[m][g]`.
    fn products<S: Simd, const M: usize, const G: usize>(
        simd: S,
        groups: [&[Self]; G],
        x: [&[Self::Input]; M],
    ) -> [[S::F; G]; M];
}

/// A row of weights before it is packed.
#[derive(Debug, Clone, Copy)]
pub enum Row<'a> {
    /// Its numbers.
    Numbers(&'a [f32]),
    /// The bytes of its blocks, as files have them.
    Blocks(&'a [u8]),
}

impl Row<'_> {
    /// The number of a column.
    ///
    /// # Panics
    ///
    /// Where the row is in blocks, or has no such column.
    fn number(self, column: usize) -> f32 {
        match self {
            Self::Numbers(x) => x[column],
            Self::Blocks(_) => panic!("blocks are not held as plain numbers"),
        }
    }

    /// The block of that number: the one that is there, or the nearest to the numbers.
    ///
    /// # Panics
    ///
    /// Where the row ends before it.
    pub(super) fn block<B: Block>(self, index: usize) -> B {
        match self {
            Self::Numbers(x) => B::of_numbers(&x[index * B::NUMBERS..][..B::NUMBERS]),
            Self::Blocks(bytes) => B::of_bytes(&bytes[index * B::BYTES..][..B::BYTES]),
        }
    }
}

/// A number that is loaded as f32.
pub trait Number: Copy + Send + Sync {
    /// The nearest one.
    fn nearest(x: f32) -> Self;
    /// Its value.
    fn value(self) -> f32;
    /// Reads sixteen.
    fn load<S: Simd>(simd: S, from: &[Self; LANES]) -> S::F;
    /// Writes the nearest to sixteen numbers.
    fn store<S: Simd>(simd: S, x: S::F, to: &mut [Self; LANES]);
}

impl Number for f32 {
    #[inline(always)]
    fn nearest(x: f32) -> Self {
        x
    }
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[Self; LANES]) -> S::F {
        simd.load(from)
    }
    #[inline(always)]
    fn store<S: Simd>(simd: S, x: S::F, to: &mut [Self; LANES]) {
        simd.store(x, to);
    }
}

/// A number in IEEE half precision, as its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct F16(pub u16);

/// A number in bfloat16, as its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Bf16(pub u16);

impl Number for F16 {
    #[inline(always)]
    fn nearest(x: f32) -> Self {
        Self(f16::from_f32_const(x).to_bits())
    }
    #[inline(always)]
    fn value(self) -> f32 {
        f16::from_bits(self.0).to_f32_const()
    }
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[Self; LANES]) -> S::F {
        simd.load_f16(&from.map(|x| x.0))
    }
    #[inline(always)]
    fn store<S: Simd>(simd: S, x: S::F, to: &mut [Self; LANES]) {
        let mut bits = [0; LANES];
        simd.store_f16(x, &mut bits);
        *to = bits.map(Self);
    }
}

impl Number for Bf16 {
    #[inline(always)]
    fn nearest(x: f32) -> Self {
        Self(bf16::from_f32_const(x).to_bits())
    }
    #[inline(always)]
    fn value(self) -> f32 {
        bf16::from_bits(self.0).to_f32_const()
    }
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[Self; LANES]) -> S::F {
        simd.load_bf16(&from.map(|x| x.0))
    }
    #[inline(always)]
    fn store<S: Simd>(simd: S, x: S::F, to: &mut [Self; LANES]) {
        let mut numbers = [0.0; LANES];
        simd.store(x, &mut numbers);
        for (to, x) in to.iter_mut().zip(numbers) {
            *to = Self::nearest(x);
        }
    }
}

/// One column, unquantised. The sum of a product runs from the first column to the last.
impl<N: Number> Piece for [N; LANES] {
    type Input = f32;
    const COLUMNS: usize = 1;
    const INPUTS: usize = 1;

    fn pack(rows: &[Row<'_>; LANES], index: usize) -> Self {
        rows.map(|row| N::nearest(row.number(index)))
    }

    fn unpack(&self, row: usize, to: &mut [f32]) {
        to[0] = self[row].value();
    }

    #[inline(always)]
    fn products<S: Simd, const M: usize, const G: usize>(
        simd: S,
        groups: [&[Self]; G],
        mut x: [&[f32]; M],
    ) -> [[S::F; G]; M] {
        let mut sums = [[simd.splat(0.0); G]; M];
        let length = groups[0].len();
        for m in 0..M {
            x[m] = &x[m][..length];
        }
        if M == 1 {
            // Additions wait for each other, so groups go side by side.
            let mut groups = groups;
            for g in 0..G {
                groups[g] = &groups[g][..length];
            }
            for column in 0..length {
                let x = simd.splat(x[0][column]);
                for g in 0..G {
                    sums[0][g] = simd.fma(x, N::load(simd, &groups[g][column]), sums[0][g]);
                }
            }
        } else {
            for g in 0..G {
                let mut of_group = [simd.splat(0.0); M];
                for (column, weights) in groups[g].iter().enumerate() {
                    let weights = N::load(simd, weights);
                    for m in 0..M {
                        of_group[m] = simd.fma(simd.splat(x[m][column]), weights, of_group[m]);
                    }
                }
                for m in 0..M {
                    sums[m][g] = of_group[m];
                }
            }
        }
        sums
    }
}

/// 32 columns of 8 bits, 544 bytes.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct Q8Piece {
    /// The scales of the rows, in half precision.
    scales: [u16; LANES],
    /// Of four columns after the other: of row after row four weights.
    quants: [[i8; 4 * LANES]; BLOCK / 4],
}

impl Piece for Q8Piece {
    type Input = InputBlock;
    const COLUMNS: usize = BLOCK;
    const INPUTS: usize = 1;

    fn pack(rows: &[Row<'_>; LANES], index: usize) -> Self {
        let mut piece = Self {
            scales: [0; LANES],
            quants: [[0; 4 * LANES]; BLOCK / 4],
        };
        for (row, x) in rows.iter().enumerate() {
            let block: Q8_0 = x.block(index);
            piece.scales[row] = block.d;
            for (chunk, four) in piece.quants.iter_mut().zip(block.quants.as_chunks::<4>().0) {
                chunk.as_chunks_mut::<4>().0[row] = *four;
            }
        }
        piece
    }

    fn unpack(&self, row: usize, to: &mut [f32]) {
        let scale = f16::from_bits(self.scales[row]).to_f32();
        for (to, chunk) in to.as_chunks_mut::<4>().0.iter_mut().zip(&self.quants) {
            *to = chunk.as_chunks::<4>().0[row].map(|q| f32::from(q) * scale);
        }
    }

    #[inline(always)]
    fn products<S: Simd, const M: usize, const G: usize>(
        simd: S,
        groups: [&[Self]; G],
        mut x: [&[InputBlock]; M],
    ) -> [[S::F; G]; M] {
        let chunks = rolled::<M>(BLOCK / 4);
        let mut products = [[simd.splat(0.0); G]; M];
        for g in 0..G {
            let group = groups[g];
            for m in 0..M {
                x[m] = &x[m][..group.len()];
            }
            let mut sums = [simd.splat(0.0); M];
            for (index, piece) in group.iter().enumerate() {
                prefetch::<S, _, M>(simd, piece);
                let mut whole = [simd.begin_bytes(0); M];
                for m in 0..M {
                    whole[m] = simd.begin_bytes(x[m][index].sum);
                }
                let mut inputs = [&InputBlock::ZERO.quants[..0]; M];
                for m in 0..M {
                    inputs[m] = &x[m][index].quants[..chunks];
                }
                for (chunk, weights) in piece.quants[..chunks].iter().enumerate() {
                    let weights = simd.bytes(weights);
                    for m in 0..M {
                        whole[m] = simd.dot_bytes(whole[m], weights, inputs[m][chunk]);
                    }
                }
                let scales = simd.load_f16(&piece.scales);
                for m in 0..M {
                    let scale = simd.mul(scales, simd.splat(x[m][index].scale));
                    sums[m] = simd.fma(simd.float(whole[m]), scale, sums[m]);
                }
            }
            for m in 0..M {
                products[m][g] = sums[m];
            }
        }
        products
    }
}

/// Of 32 columns of 4 bits and sixteen rows: of four columns after the other, of row after row four weights; those of
/// the first half in the low halves of the bytes, those of the second in the high halves.
pub(super) type Nibbles = [[u8; 4 * LANES]; BLOCK / 8];

/// Puts the levels of a row, 0 to 15, among those of the others.
pub(super) fn set_nibbles(nibbles: &mut Nibbles, row: usize, levels: &[u8; BLOCK]) {
    for (chunk, bytes) in nibbles.iter_mut().enumerate() {
        for (column, byte) in bytes.as_chunks_mut::<4>().0[row].iter_mut().enumerate() {
            let column = 4 * chunk + column;
            *byte = levels[column] | (levels[column + BLOCK / 2] << 4);
        }
    }
}

/// The levels of a row.
pub(super) fn get_nibbles(nibbles: &Nibbles, row: usize) -> [u8; BLOCK] {
    let mut levels = [0; BLOCK];
    for (chunk, bytes) in nibbles.iter().enumerate() {
        for (column, byte) in bytes.as_chunks::<4>().0[row].iter().enumerate() {
            let column = 4 * chunk + column;
            levels[column] = byte & 15;
            levels[column + BLOCK / 2] = byte >> 4;
        }
    }
    levels
}

/// A number of steps that the compiler does not know where there are several rows: it would write all steps out, in an
/// order for which the registers do not suffice.
#[inline(always)]
pub(super) fn rolled<const M: usize>(steps: usize) -> usize {
    if M == 1 {
        steps
    } else {
        std::hint::black_box(steps)
    }
}

/// Bytes ahead of what is read that are brought near. A group ends where the next begins, so they are those of the next
/// in the end.
const AHEAD: usize = 2048;

/// With one row, weights are read once, and faster than processors foresee.
#[inline(always)]
pub(super) fn prefetch<S: Simd, P, const M: usize>(simd: S, piece: &P) {
    if M == 1 {
        let mut line = 0;
        while line < size_of::<P>() {
            simd.prefetch(piece, AHEAD + line);
            line += 64;
        }
    }
}

/// The sums of 32 columns of 4 bits with `M` rows of inputs, each of which begins with `-offset` times the sum of its
/// inputs. `chunks` is the number of a block's chunks.
#[inline(always)]
fn nibble_sums<S: Simd, const M: usize>(
    simd: S,
    nibbles: &Nibbles,
    x: [&InputBlock; M],
    offset: i32,
    chunks: usize,
) -> [S::I; M] {
    let mut sums = [simd.begin_nibbles(0); M];
    for m in 0..M {
        sums[m] = simd.begin_nibbles(-offset * x[m].sum);
    }
    let mut halves = [(&InputBlock::ZERO.quants[..0], &InputBlock::ZERO.quants[..0]); M];
    for m in 0..M {
        let (low, high) = x[m].quants.split_at(BLOCK / 8);
        halves[m] = (&low[..chunks], &high[..chunks]);
    }
    for (chunk, bytes) in nibbles[..chunks].iter().enumerate() {
        let (low, high) = simd.nibbles(bytes);
        for m in 0..M {
            sums[m] = simd.dot_nibbles(sums[m], low, halves[m].0[chunk]);
        }
        for m in 0..M {
            sums[m] = simd.dot_nibbles(sums[m], high, halves[m].1[chunk]);
        }
    }
    let mut whole = [simd.begin_bytes(0); M];
    for m in 0..M {
        whole[m] = simd.end_nibbles(sums[m]);
    }
    whole
}

/// 32 columns of 4 bits, 288 bytes.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct Q4Piece {
    /// The scales of the rows, in half precision.
    scales: [u16; LANES],
    nibbles: Nibbles,
}

impl Piece for Q4Piece {
    type Input = InputBlock;
    const COLUMNS: usize = BLOCK;
    const INPUTS: usize = 1;

    fn pack(rows: &[Row<'_>; LANES], index: usize) -> Self {
        let mut piece = Self {
            scales: [0; LANES],
            nibbles: [[0; 4 * LANES]; BLOCK / 8],
        };
        for (row, x) in rows.iter().enumerate() {
            let block: Q4_0 = x.block(index);
            piece.scales[row] = block.d;
            set_nibbles(&mut piece.nibbles, row, &block.levels());
        }
        piece
    }

    fn unpack(&self, row: usize, to: &mut [f32]) {
        let scale = f16::from_bits(self.scales[row]).to_f32();
        for (to, level) in to.iter_mut().zip(get_nibbles(&self.nibbles, row)) {
            *to = (f32::from(level) - 8.0) * scale;
        }
    }

    #[inline(always)]
    fn products<S: Simd, const M: usize, const G: usize>(
        simd: S,
        groups: [&[Self]; G],
        mut x: [&[InputBlock]; M],
    ) -> [[S::F; G]; M] {
        let chunks = rolled::<M>(BLOCK / 8);
        let mut products = [[simd.splat(0.0); G]; M];
        for g in 0..G {
            let group = groups[g];
            for m in 0..M {
                x[m] = &x[m][..group.len()];
            }
            let mut sums = [simd.splat(0.0); M];
            for (index, piece) in group.iter().enumerate() {
                prefetch::<S, _, M>(simd, piece);
                let mut inputs = [&InputBlock::ZERO; M];
                for m in 0..M {
                    inputs[m] = &x[m][index];
                }
                let whole = nibble_sums(simd, &piece.nibbles, inputs, 8, chunks);
                let scales = simd.load_f16(&piece.scales);
                for m in 0..M {
                    let scale = simd.mul(scales, simd.splat(inputs[m].scale));
                    sums[m] = simd.fma(simd.float(whole[m]), scale, sums[m]);
                }
            }
            for m in 0..M {
                products[m][g] = sums[m];
            }
        }
        products
    }
}

/// 256 columns of 4 bits in eight parts with scales and minima, 2368 bytes: the factors of 6 bits take 8 here.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct Q4KPiece {
    /// The rows' scales of scales and of minima, in half precision.
    d: [u16; LANES],
    dmin: [u16; LANES],
    /// The rows' scales and minima, part after part.
    scales: [[u8; LANES]; 8],
    mins: [[u8; LANES]; 8],
    nibbles: [Nibbles; 8],
}

impl Piece for Q4KPiece {
    type Input = InputBlock;
    const COLUMNS: usize = SUPER_BLOCK;
    const INPUTS: usize = SUPER_BLOCK / BLOCK;

    fn pack(rows: &[Row<'_>; LANES], index: usize) -> Self {
        let mut piece = Self {
            d: [0; LANES],
            dmin: [0; LANES],
            scales: [[0; LANES]; 8],
            mins: [[0; LANES]; 8],
            nibbles: [[[0; 4 * LANES]; BLOCK / 8]; 8],
        };
        for (row, x) in rows.iter().enumerate() {
            let block: Q4K = x.block(index);
            piece.d[row] = block.d;
            piece.dmin[row] = block.dmin;
            let levels = block.levels();
            let parts = block
                .six_bits()
                .into_iter()
                .zip(levels.as_chunks::<BLOCK>().0);
            for (part, ((scale, min), levels)) in parts.enumerate() {
                piece.scales[part][row] = scale;
                piece.mins[part][row] = min;
                set_nibbles(&mut piece.nibbles[part], row, levels);
            }
        }
        piece
    }

    fn unpack(&self, row: usize, to: &mut [f32]) {
        let d = f16::from_bits(self.d[row]).to_f32();
        let dmin = f16::from_bits(self.dmin[row]).to_f32();
        for (part, to) in to.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            let scale = d * f32::from(self.scales[part][row]);
            let min = dmin * f32::from(self.mins[part][row]);
            for (to, level) in to.iter_mut().zip(get_nibbles(&self.nibbles[part], row)) {
                *to = scale * f32::from(level) - min;
            }
        }
    }

    #[inline(always)]
    fn products<S: Simd, const M: usize, const G: usize>(
        simd: S,
        groups: [&[Self]; G],
        mut x: [&[InputBlock]; M],
    ) -> [[S::F; G]; M] {
        let chunks = rolled::<M>(BLOCK / 8);
        let mut products = [[simd.splat(0.0); G]; M];
        for g in 0..G {
            let group = groups[g];
            for m in 0..M {
                x[m] = &x[m][..group.len() * Self::INPUTS];
            }
            let mut sums = [simd.splat(0.0); M];
            for (index, piece) in group.iter().enumerate() {
                prefetch::<S, _, M>(simd, piece);
                let (d, dmin) = (simd.load_f16(&piece.d), simd.load_f16(&piece.dmin));
                for part in 0..8 {
                    let mut inputs = [&InputBlock::ZERO; M];
                    for m in 0..M {
                        inputs[m] = &x[m][index * Self::INPUTS + part];
                    }
                    let whole = nibble_sums(simd, &piece.nibbles[part], inputs, 0, chunks);
                    let scales = simd.mul(d, simd.load_u8(&piece.scales[part]));
                    let mins = simd.mul(dmin, simd.load_u8(&piece.mins[part]));
                    for m in 0..M {
                        let scale = simd.mul(scales, simd.splat(inputs[m].scale));
                        sums[m] = simd.fma(simd.float(whole[m]), scale, sums[m]);
                        let lowered = simd.splat(-(inputs[m].scale * inputs[m].sum as f32));
                        sums[m] = simd.fma(mins, lowered, sums[m]);
                    }
                }
            }
            for m in 0..M {
                products[m][g] = sums[m];
            }
        }
        products
    }
}
