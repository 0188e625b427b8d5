//! One text: its keys and values, and all buffers of its computation.
//!
//! Layers are computed in steps, each of which all threads share: norms row by row, products by columns of their
//! outputs, attention by heads. Between steps the threads meet.
//!
//! | module | owns |
//! |---|---|
//! | `attention` | what is kept of keys and values, and the answers to queries |
//! | `products` | how products are cut for threads and caches |
//!
//! The buffers, what may be asked and the way through the layers are here.

mod attention;
mod products;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use vox_quant::blocks::BLOCK;

use super::model::Model;
use super::rotation::Rotation;
use crate::error::{Error, Result};
use crate::kernels::attention::{Cache, CacheFormat, scores};
use crate::kernels::inputs::{InputBlock, quantise};
use crate::kernels::packed::Inputs;
use crate::kernels::pool::{Pool, Tiles};
use crate::kernels::rows::rms_norm;
use crate::kernels::simd::Level;
use attention::QUERIES;
use products::{Reads, multiply};

/// Most tokens that are computed at once.
const ROWS: usize = 256;

/// How a sequence is computed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Most tokens of the sequence.
    pub context: usize,
    /// Tokens whose keys and values have room from the beginning; where there are more, the room doubles.
    pub reserved: usize,
    /// Threads.
    pub threads: NonZeroUsize,
    /// How keys and values are held.
    pub cache: CacheFormat,
    /// The instructions; all give the same results.
    pub level: Level,
}

/// Rows of inputs of products, plain or quantised.
#[derive(Debug)]
enum Rows {
    Plain(Vec<f32>),
    Quantised(Vec<InputBlock>),
}

impl Rows {
    fn new(is_quantised: bool, rows: usize, columns: usize) -> Self {
        if is_quantised {
            Self::Quantised(vec![InputBlock::ZERO; rows * columns.div_ceil(BLOCK)])
        } else {
            Self::Plain(vec![0.0; rows * columns])
        }
    }

    fn inputs(&self) -> Inputs<'_> {
        match self {
            Self::Plain(rows) => Inputs::Plain(rows),
            Self::Quantised(rows) => Inputs::Quantised(rows),
        }
    }
}

/// What a thread has for itself.
#[derive(Debug)]
struct Scratch {
    /// A row of the widest kind.
    row: Vec<f32>,
    queries: Vec<f32>,
    scores: Vec<f32>,
    attended: Vec<f32>,
}

/// One text.
#[derive(Debug)]
pub struct Sequence {
    model: Arc<Model>,
    options: Options,
    pool: Pool,
    caches: Vec<Cache>,
    /// Places whose keys and values are kept.
    length: usize,
    rotation: Rotation,
    local_rotation: Option<Rotation>,
    scratches: Vec<Scratch>,
    /// Hidden states.
    states: Vec<f32>,
    /// What a block adds to them, where that goes through a norm before.
    change: Vec<f32>,
    /// Inputs of products that are as wide as states.
    normed: Rows,
    qkv: Vec<f32>,
    attended: Rows,
    gated: Rows,
}

/// What layers read.
#[derive(Debug, Clone, Copy)]
pub enum States<'a> {
    /// Tokens, for layer 0.
    Tokens(&'a [u32]),
    /// Hidden states, row by row.
    Hidden(&'a [f32]),
}

impl Sequence {
    /// A sequence without tokens. All memory is taken now, but for keys and values of more tokens than are reserved.
    ///
    /// # Panics
    ///
    /// Where the context is 0.
    pub fn new(model: Arc<Model>, options: Options) -> Self {
        let architecture = model.architecture();
        let is_quantised = model.is_quantised();
        let rows = ROWS.min(options.context);
        let (hidden, head) = (architecture.hidden, architecture.head);
        let (queries, keys) = (architecture.query_width(), architecture.kv_width());
        let room = options.reserved.clamp(1, options.context);
        let cache = || Cache::new(options.cache, architecture.kv_heads, head, room);
        let pool = Pool::new(options.threads);
        let together = head * QUERIES.max(architecture.heads / architecture.kv_heads);
        let scratch = || Scratch {
            row: vec![0.0; hidden.max(queries)],
            queries: vec![0.0; together],
            attended: vec![0.0; together],
            scores: vec![0.0; scores(together / head, room)],
        };
        let rotation = |rope| Rotation::new(rope, head, rows);
        Self {
            caches: (0..architecture.layers).map(|_| cache()).collect(),
            length: 0,
            rotation: rotation(&architecture.rope),
            local_rotation: architecture.local_rope.as_ref().map(rotation),
            scratches: (0..pool.threads()).map(|_| scratch()).collect(),
            states: vec![0.0; rows * hidden],
            change: vec![
                0.0;
                if architecture.post_norms {
                    rows * hidden
                } else {
                    0
                }
            ],
            normed: Rows::new(is_quantised, rows, hidden),
            qkv: vec![0.0; rows * (queries + 2 * keys)],
            attended: Rows::new(is_quantised, rows, queries),
            gated: Rows::new(is_quantised, rows, architecture.intermediate),
            pool,
            options,
            model,
        }
    }

    /// Places whose keys and values are kept.
    pub fn len(&self) -> usize {
        self.length
    }

    /// No place is kept.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Forgets the places from `length` on.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.caches.iter().map(Cache::bytes).sum()
    }

    /// Threads that compute it.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Computes the places of tokens from `position` on; `logits` becomes those of the last. It allocates only where
    /// `logits` has not the capacity, or more tokens come than there is room for.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for no tokens, tokens that are not embedded, a position beyond [`len`](Self::len) and places
    /// beyond the context.
    pub fn forward(
        &mut self,
        tokens: &[u32],
        position: usize,
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        let model = Arc::clone(&self.model);
        let vocabulary = model.architecture().vocabulary;
        let last = self.run(
            0..model.layers.len(),
            States::Tokens(tokens),
            position,
            None,
        )?;
        logits.resize(vocabulary, 0.0);
        self.norm_rows(&model.norm, last - 1..last);
        self.head(&model, 1, logits);
        Ok(())
    }

    /// Computes the places of tokens as [`forward`](Self::forward) does; `out` becomes the states that the head would
    /// read, place by place.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn states(&mut self, tokens: &[u32], position: usize, out: &mut Vec<f32>) -> Result<()> {
        let model = Arc::clone(&self.model);
        let (hidden, epsilon) = (model.architecture().hidden, self.epsilon());
        self.run(
            0..model.layers.len(),
            States::Tokens(tokens),
            position,
            Some(out),
        )?;
        let level = self.options.level;
        let row = &mut self.scratches[0].row[..hidden];
        for states in out.chunks_exact_mut(hidden) {
            row.copy_from_slice(states);
            rms_norm(level, row, &model.norm, epsilon, states);
        }
        Ok(())
    }

    /// Computes a range of layers; `out` becomes the hidden states after them, or after the model's last layer the
    /// logits, place by place. One sequence computes one range alone.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward); also for layers that there are not, and an input that is not theirs.
    pub fn forward_layers(
        &mut self,
        layers: Range<usize>,
        input: States<'_>,
        position: usize,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let model = Arc::clone(&self.model);
        let is_last = layers.end == model.layers.len();
        let mut hidden = Vec::new();
        self.run(layers, input, position, Some(&mut hidden))?;
        if !is_last {
            *out = hidden;
            return Ok(());
        }
        let architecture = model.architecture();
        let (width, vocabulary) = (architecture.hidden, architecture.vocabulary);
        let rows = hidden.len() / width;
        out.clear();
        out.resize(rows * vocabulary, 0.0);
        let parts = hidden
            .chunks(ROWS * width)
            .zip(out.chunks_mut(ROWS * vocabulary));
        for (hidden, logits) in parts {
            let rows = hidden.len() / width;
            self.states[..hidden.len()].copy_from_slice(hidden);
            self.norm_rows(&model.norm, 0..rows);
            self.head(&model, rows, logits);
        }
        Ok(())
    }

    fn epsilon(&self) -> f32 {
        self.model.architecture().norm_epsilon as f32
    }

    /// Refuses what cannot be computed; comes back with the number of places.
    fn check(&self, layers: &Range<usize>, input: States<'_>, position: usize) -> Result<usize> {
        let architecture = self.model.architecture();
        if layers.is_empty() || layers.end > architecture.layers {
            let why = format!(
                "{layers:?} are no layers of a model that has {}",
                architecture.layers
            );
            return Err(Error::request("layers", why));
        }
        let places = match input {
            States::Tokens(tokens) if layers.start == 0 => {
                let vocabulary = architecture.vocabulary;
                if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
                    let why =
                        format!("token {token} is none of the {vocabulary} that are embedded");
                    return Err(Error::request("tokens", why));
                }
                tokens.len()
            }
            States::Hidden(states) if layers.start > 0 => {
                if !states.len().is_multiple_of(architecture.hidden) {
                    let (found, wanted) = (states.len(), architecture.hidden);
                    let why = format!("{found} numbers are no states of {wanted} each");
                    return Err(Error::request("hidden", why));
                }
                states.len() / architecture.hidden
            }
            _ => {
                let why = "layer 0 reads tokens, and every other one hidden states";
                return Err(Error::request("layers", why));
            }
        };
        if places == 0 {
            return Err(Error::request("tokens", "there are none"));
        }
        if position > self.length {
            let known = self.length;
            let why = format!("it is {position}, and only {known} places are known before it");
            return Err(Error::request("position", why));
        }
        let context = self.options.context;
        if position + places > context {
            let why =
                format!("{places} places from {position} on are beyond the context of {context}");
            return Err(Error::request("position", why));
        }
        Ok(places)
    }

    /// Runs layers over all places, some at a time; comes back with the rows of the last time, which are in `states`. All
    /// rows go to `out` where there is one.
    fn run(
        &mut self,
        layers: Range<usize>,
        input: States<'_>,
        position: usize,
        mut out: Option<&mut Vec<f32>>,
    ) -> Result<usize> {
        let places = self.check(&layers, input, position)?;
        let model = Arc::clone(&self.model);
        let hidden = model.architecture().hidden;
        self.reserve(position + places);
        if let Some(out) = &mut out {
            out.clear();
            out.reserve(places * hidden);
        }
        let mut rows = 0;
        for first in (0..places).step_by(ROWS) {
            rows = ROWS.min(places - first);
            match input {
                States::Tokens(tokens) => self.embed(&model, &tokens[first..first + rows]),
                States::Hidden(states) => self.states[..rows * hidden]
                    .copy_from_slice(&states[first * hidden..][..rows * hidden]),
            }
            let position = position + first;
            self.rotation.set(position, rows);
            if let Some(rotation) = &mut self.local_rotation {
                rotation.set(position, rows);
            }
            for layer in layers.clone() {
                self.layer(&model, layer, rows, position);
            }
            self.length = position + rows;
            if let Some(out) = &mut out {
                out.extend_from_slice(&self.states[..rows * hidden]);
            }
        }
        Ok(rows)
    }

    /// Makes room for so many places, and not for the next few only.
    fn reserve(&mut self, places: usize) {
        let room = self.caches.first().map_or(places, Cache::capacity);
        if places <= room {
            return;
        }
        let room = places.max(2 * room).min(self.options.context);
        for cache in &mut self.caches {
            cache.reserve(room);
        }
        let head = self.model.architecture().head;
        for scratch in &mut self.scratches {
            let rows = scratch.queries.len() / head;
            scratch.scores.resize(scores(rows, room), 0.0);
        }
    }

    /// The states of tokens before the first layer.
    fn embed(&mut self, model: &Model, tokens: &[u32]) {
        let architecture = model.architecture();
        let scale = architecture.embedding_scale as f32;
        let states = &mut self.states[..tokens.len() * architecture.hidden];
        let tiles = Tiles::rows(states, architecture.hidden);
        self.pool.tiles(tiles, &mut self.scratches, |tile, _| {
            let token = tokens[tile.first_row] as usize;
            let row = tile.row(0);
            model.embedding.row(token, row);
            if scale != 1.0 {
                for x in row {
                    *x *= scale;
                }
            }
        });
    }

    /// A layer over the rows of `states`.
    fn layer(&mut self, model: &Model, number: usize, rows: usize, position: usize) {
        let layer = &model.layers[number];
        self.norm_rows(&layer.attention_norm, 0..rows);
        let width = layer.qkv.weight.rows();
        multiply(
            (&mut self.pool, &mut self.scratches[..]),
            self.options.level,
            &layer.qkv,
            self.normed.inputs(),
            (&mut self.qkv[..rows * width], rows),
            false,
        );
        self.keep(model, number, rows, position);
        self.attention(model, number, rows, position);
        let norms = layer.post_norms.as_ref();
        self.change_states(
            &layer.output,
            Reads::Attended,
            norms.map(|norms| &norms[0]),
            rows,
        );
        self.norm_rows(&layer.mlp_norm, 0..rows);
        self.gate(layer, rows);
        self.change_states(
            &layer.down,
            Reads::Gated,
            norms.map(|norms| &norms[1]),
            rows,
        );
    }

    /// The norm of some rows of `states`, as inputs of products; they become the first rows of `normed`.
    fn norm_rows(&mut self, weight: &[f32], of: Range<usize>) {
        let (level, epsilon, hidden) = (self.options.level, self.epsilon(), weight.len());
        let states = &self.states[of.start * hidden..of.end * hidden];
        let state = |row: usize| &states[row * hidden..][..hidden];
        match &mut self.normed {
            Rows::Plain(normed) => {
                let tiles = Tiles::rows(&mut normed[..of.len() * hidden], hidden);
                self.pool.tiles(tiles, &mut self.scratches, |tile, _| {
                    rms_norm(level, state(tile.first_row), weight, epsilon, tile.row(0));
                });
            }
            Rows::Quantised(normed) => {
                let blocks = hidden.div_ceil(BLOCK);
                let tiles = Tiles::rows(&mut normed[..of.len() * blocks], blocks);
                self.pool
                    .tiles(tiles, &mut self.scratches, |tile, scratch| {
                        let row = &mut scratch.row[..hidden];
                        rms_norm(level, state(tile.first_row), weight, epsilon, row);
                        quantise(level, row, tile.row(0));
                    });
            }
        }
    }
}
