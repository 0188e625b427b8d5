//! Attention of a layer: keys and values are kept, and queries are answered from all that are.
//!
//! Queries, keys and values are norms and rotations of what the layer's first product left in `qkv`. What must stay true:
//! keys and values of the rows are kept before their queries are answered, and a head's results do not depend on how many
//! heads or rows a thread takes at once.

use std::ops::Range;

use vox_quant::blocks::BLOCK;

use super::{Rows, Scratch, Sequence};
use crate::cpu::model::Model;
use crate::cpu::rotation::Rotation;
use crate::kernels::attention::{Cache, HeadShape, HeadTiles, Queries, attend};
use crate::kernels::inputs::quantise;
use crate::kernels::packed::groups::Number;
use crate::kernels::pool::{Tile, Tiles};
use crate::kernels::rows::{rms_norm, rope};
use crate::kernels::simd::{LANES, Level};

/// Queries of one head that a thread computes at once.
pub(super) const QUERIES: usize = 16;

/// Positions from which on heads that share keys are computed together, however few threads that leaves busy.
const LONG: usize = 2048;

impl Sequence {
    /// Keeps the keys and values of `qkv`.
    pub(super) fn keep(&mut self, model: &Model, number: usize, rows: usize, position: usize) {
        let architecture = model.architecture();
        let rotation = match &self.local_rotation {
            Some(rotation) if architecture.windows[number].is_some() => rotation,
            _ => &self.rotation,
        };
        let kept = Kept {
            level: self.options.level,
            qkv: &self.qkv,
            width: architecture.query_width() + 2 * architecture.kv_width(),
            keys: architecture.query_width(),
            values: architecture.query_width() + architecture.kv_width(),
            head: architecture.head,
            norm: model.layers[number]
                .qk_norms
                .as_ref()
                .map(|[_, norm]| &norm[..]),
            epsilon: architecture.norm_epsilon as f32,
            rotation,
            rows,
            position,
        };
        let (pool, scratches) = (&mut self.pool, &mut self.scratches);
        match self.caches[number].heads() {
            HeadTiles::F32(tiles, shape) => {
                pool.tiles(tiles, scratches, |tile, scratch| {
                    kept.head(tile, shape, scratch)
                });
            }
            HeadTiles::F16(tiles, shape) => {
                pool.tiles(tiles, scratches, |tile, scratch| {
                    kept.head(tile, shape, scratch)
                });
            }
        }
    }

    /// Attention of the queries of `qkv`, into `attended`.
    pub(super) fn attention(&mut self, model: &Model, number: usize, rows: usize, position: usize) {
        let architecture = model.architecture();
        let (head, width) = (architecture.head, architecture.query_width());
        let shared = architecture.heads / architecture.kv_heads;
        let attention = architecture.attention(number);
        let is_busy = architecture.kv_heads >= 2 * self.pool.threads();
        let is_together = rows == 1 && (is_busy || position >= LONG);
        let asked = Asked {
            level: self.options.level,
            cache: &self.caches[number],
            qkv: &self.qkv,
            width: width + 2 * architecture.kv_width(),
            head,
            shared,
            norm: model.layers[number]
                .qk_norms
                .as_ref()
                .map(|[norm, _]| &norm[..]),
            epsilon: architecture.norm_epsilon as f32,
            scale: architecture.attention_scale as f32,
            rotation: match &self.local_rotation {
                Some(rotation) if attention.window.is_some() => rotation,
                _ => &self.rotation,
            },
            window: attention.window,
            position,
            heads_at_once: if is_together { shared } else { 1 },
        };
        let (pool, scratches) = (&mut self.pool, &mut self.scratches);
        let heads = asked.heads_at_once;
        match &mut self.attended {
            Rows::Plain(attended) => {
                let attended = &mut attended[..rows * width];
                let tiles = Tiles::new(attended, width, QUERIES, heads * head);
                pool.tiles(tiles, scratches, |tile, scratch| {
                    let (first, count) = (tile.first_row, tile.rows());
                    asked.attend(first..first + count, tile.first_column / head, scratch);
                    for row in 0..count {
                        let to = tile.row(row).chunks_exact_mut(head);
                        for (of_head, to) in to.enumerate() {
                            let from = (of_head * count + row) * head;
                            to.copy_from_slice(&scratch.attended[from..from + head]);
                        }
                    }
                });
            }
            // A head's blocks are its own.
            Rows::Quantised(attended) if head.is_multiple_of(BLOCK) => {
                let blocks = head / BLOCK;
                let attended = &mut attended[..rows * width / BLOCK];
                let tiles = Tiles::new(attended, width / BLOCK, QUERIES, heads * blocks);
                pool.tiles(tiles, scratches, |tile, scratch| {
                    let (first, count) = (tile.first_row, tile.rows());
                    asked.attend(first..first + count, tile.first_column / blocks, scratch);
                    for row in 0..count {
                        let to = tile.row(row).chunks_exact_mut(blocks);
                        for (of_head, to) in to.enumerate() {
                            let from = (of_head * count + row) * head;
                            quantise(asked.level, &scratch.attended[from..from + head], to);
                        }
                    }
                });
            }
            Rows::Quantised(attended) => {
                let blocks = width.div_ceil(BLOCK);
                let tiles = Tiles::rows(&mut attended[..rows * blocks], blocks);
                pool.tiles(tiles, scratches, |tile, scratch| {
                    for of_head in 0..architecture.heads {
                        asked.attend_one(tile.first_row, of_head, scratch);
                        scratch.row[of_head * head..][..head]
                            .copy_from_slice(&scratch.attended[..head]);
                    }
                    quantise(asked.level, &scratch.row[..width], tile.row(0));
                });
            }
        }
    }
}

/// Keys and values that are to be kept.
struct Kept<'a> {
    level: Level,
    qkv: &'a [f32],
    /// Numbers in a row of `qkv`, and where in it keys and values begin.
    width: usize,
    keys: usize,
    values: usize,
    head: usize,
    norm: Option<&'a [f32]>,
    epsilon: f32,
    rotation: &'a Rotation,
    rows: usize,
    position: usize,
}

impl Kept<'_> {
    /// Keeps those of a head.
    fn head<N: Number>(
        &self,
        tile: &mut Tile<'_, [N; LANES]>,
        shape: HeadShape,
        scratch: &mut Scratch,
    ) {
        let of_head = tile.first_row * self.head;
        for row in 0..self.rows {
            let qkv = &self.qkv[row * self.width..][..self.width];
            let key = &qkv[self.keys + of_head..][..self.head];
            let value = &qkv[self.values + of_head..][..self.head];
            let turned = &mut scratch.row[..self.head];
            match self.norm {
                Some(norm) => rms_norm(self.level, key, norm, self.epsilon, turned),
                None => turned.copy_from_slice(key),
            }
            let (cosines, sines) = self.rotation.row(row);
            rope(self.level, turned, cosines, sines);
            shape.write(tile, self.position + row, turned, value);
        }
    }
}

/// Queries that are to be answered.
struct Asked<'a> {
    level: Level,
    cache: &'a Cache,
    qkv: &'a [f32],
    /// Numbers in a row of `qkv`.
    width: usize,
    head: usize,
    /// Heads that share a head of keys and values.
    shared: usize,
    norm: Option<&'a [f32]>,
    epsilon: f32,
    scale: f32,
    rotation: &'a Rotation,
    window: Option<usize>,
    position: usize,
    /// Heads that are computed together.
    heads_at_once: usize,
}

impl Asked<'_> {
    /// Attention of some rows and [`heads_at_once`](Self::heads_at_once) heads from `first` on, into the scratch: all rows of
    /// a head, then those of the next.
    fn attend(&self, rows: Range<usize>, first: usize, scratch: &mut Scratch) {
        self.heads(rows, first..first + self.heads_at_once, scratch);
    }

    /// Attention of one row and head.
    fn attend_one(&self, row: usize, of_head: usize, scratch: &mut Scratch) {
        self.heads(row..row + 1, of_head..of_head + 1, scratch);
    }

    fn heads(&self, rows: Range<usize>, heads: Range<usize>, scratch: &mut Scratch) {
        let size = heads.len() * rows.len() * self.head;
        let mut queries = scratch.queries[..size].chunks_exact_mut(self.head);
        for of_head in heads.clone() {
            for row in rows.clone() {
                let Some(to) = queries.next() else { return };
                let query = &self.qkv[row * self.width + of_head * self.head..][..self.head];
                match self.norm {
                    Some(norm) => rms_norm(self.level, query, norm, self.epsilon, to),
                    None => to.copy_from_slice(query),
                }
                let (cosines, sines) = self.rotation.row(row);
                rope(self.level, to, cosines, sines);
                for x in to {
                    *x *= self.scale;
                }
            }
        }
        let queries = Queries {
            kv_head: heads.start / self.shared,
            rows: &scratch.queries[..size],
            position: self.position + rows.start,
            rows_of_head: rows.len(),
            window: self.window,
        };
        let out = &mut scratch.attended[..size];
        attend(self.level, self.cache, queries, &mut scratch.scores, out);
    }
}
