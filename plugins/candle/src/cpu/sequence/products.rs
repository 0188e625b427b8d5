//! Products of a layer: how outputs are cut for threads and caches, and what becomes of them.
//!
//! What must stay true: each output is computed by one thread, whole, so that cuts change how fast it comes and nothing
//! else.

use vox_quant::blocks::BLOCK;

use super::{Rows, Scratch, Sequence};
use crate::cpu::model::{Layer, Linear, Model};
use crate::kernels::inputs::InputBlock;
use crate::kernels::packed::{Inputs, OUTPUTS, Packed};
use crate::kernels::pool::{Pool, Tiles};
use crate::kernels::rows::{add, rms_norm};
use crate::kernels::simd::{LANES, Level};

/// Bytes of inputs that should stay in a core's cache while weights pass by.
const INPUT_BYTES: usize = 192 << 10;

impl Sequence {
    /// Adds a map of `attended` or `gated` to the states, through a norm where there is one.
    pub(super) fn change_states(
        &mut self,
        map: &Linear,
        reads: Reads,
        norm: Option<&Vec<f32>>,
        rows: usize,
    ) {
        let (level, epsilon) = (self.options.level, self.epsilon());
        let hidden = map.weight.rows();
        let inputs = match reads {
            Reads::Attended => self.attended.inputs(),
            Reads::Gated => self.gated.inputs(),
        };
        let states = &mut self.states[..rows * hidden];
        let Some(norm) = norm else {
            let threads = (&mut self.pool, &mut self.scratches[..]);
            multiply(threads, level, map, inputs, (states, rows), true);
            return;
        };
        let change = &mut self.change[..rows * hidden];
        let threads = (&mut self.pool, &mut self.scratches[..]);
        multiply(threads, level, map, inputs, (change, rows), false);
        let change = &self.change;
        let tiles = Tiles::rows(states, hidden);
        self.pool
            .tiles(tiles, &mut self.scratches, |tile, scratch| {
                let row = &mut scratch.row[..hidden];
                let change = &change[tile.first_row * hidden..][..hidden];
                rms_norm(level, change, norm, epsilon, row);
                add(tile.row(0), row);
            });
    }

    /// The first half of the feed-forward block, of `normed` into `gated`.
    pub(super) fn gate(&mut self, layer: &Layer, rows: usize) {
        let level = self.options.level;
        let block = &layer.gated;
        let height = height(self.normed.inputs(), self.model.architecture().hidden, rows);
        let inputs = self.normed.inputs();
        let (pool, scratches) = (&mut self.pool, &mut self.scratches);
        match &mut self.gated {
            Rows::Plain(gated) => {
                let width = block.rows();
                let tiles = Tiles::new(&mut gated[..rows * width], width, height, BLOCK);
                pool.tiles(tiles, scratches, |tile, _| block.plain(level, inputs, tile));
            }
            Rows::Quantised(gated) => {
                let width = block.rows().div_ceil(BLOCK);
                let tiles = Tiles::new(&mut gated[..rows * width], width, height, 1);
                pool.tiles(tiles, scratches, |tile, _| {
                    block.quantised(level, inputs, tile)
                });
            }
        }
    }

    /// The logits of the first rows of `normed`.
    pub(super) fn head(&mut self, model: &Model, rows: usize, logits: &mut [f32]) {
        let head = model.head();
        let level = self.options.level;
        let inputs = self.normed.inputs();
        let tiles = output_tiles(head, inputs, logits, rows, self.pool.threads());
        self.pool.tiles(tiles, &mut self.scratches, |tile, _| {
            head.multiply(level, inputs, tile, Default::default());
        });
    }
}

/// What a map that changes states reads.
#[derive(Clone, Copy)]
pub(super) enum Reads {
    Attended,
    Gated,
}

/// A map of rows of inputs, shared by all threads.
pub(super) fn multiply(
    (pool, scratches): (&mut Pool, &mut [Scratch]),
    level: Level,
    map: &Linear,
    inputs: Inputs<'_>,
    (out, rows): (&mut [f32], usize),
    add: bool,
) {
    let tiles = output_tiles(&map.weight, inputs, out, rows, pool.threads());
    let epilogue = map.epilogue(add);
    pool.tiles(tiles, scratches, |tile, _| {
        map.weight.multiply(level, inputs, tile, epilogue);
    });
}

/// How outputs of a product are cut: as many rows as stay in a core's cache, and columns for all threads.
fn output_tiles<'a>(
    weight: &Packed,
    inputs: Inputs<'_>,
    out: &'a mut [f32],
    rows: usize,
    threads: usize,
) -> Tiles<'a, f32> {
    // With one row, groups that go side by side wait less for each other.
    let is_wide = rows == 1 && weight.rows() >= 16 * threads * 4 * OUTPUTS;
    let width = if is_wide { 4 * OUTPUTS } else { OUTPUTS };
    Tiles::new(
        out,
        weight.rows(),
        height(inputs, weight.columns(), rows),
        width,
    )
}

/// Rows of inputs that stay in a core's cache.
fn height(inputs: Inputs<'_>, columns: usize, rows: usize) -> usize {
    let bytes = match inputs {
        Inputs::Plain(_) => columns * size_of::<f32>(),
        Inputs::Quantised(_) => columns.div_ceil(BLOCK) * size_of::<InputBlock>(),
    };
    let fitting = (INPUT_BYTES / bytes.max(1)) / LANES * LANES;
    fitting.max(LANES).min(rows)
}
