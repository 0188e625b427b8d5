//! Causal attention inside segments and windows, with fewer heads of keys than of queries where there are.
//!
//! Probabilities are not kept: the way back computes them again from the logarithm of each query's sum, as in
//! FlashAttention (Dao et al. 2022). A thread holds the scores of `QUERIES` queries at a time.

use std::sync::{Arc, Mutex};

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::lanes;
use super::product::{Matrix, MatrixMut, Target, Threads, multiply};
use super::{composed, host};

/// Queries whose scores are computed in one go.
const QUERIES: usize = 64;

/// What queries of a batch see.
#[derive(Debug, Clone)]
pub struct Sight {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Of each token the first column of its row that is of the same segment.
    pub(super) starts: Arc<[u32]>,
    /// What is added to scores on a device: made when it is first needed, for all layers.
    pub(super) masks: Arc<Mutex<Masks>>,
}

/// Masks by the window.
pub(super) type Masks = Vec<(Option<usize>, Tensor)>;

impl Sight {
    /// That of a batch whose tokens belong to these segments, row by row. A segment ends where the next token
    /// has another number, wherever the number comes again.
    ///
    /// # Panics
    ///
    /// Where `segments` are not as many as a batch of `columns` in a row has, or `columns` is 0.
    pub fn new(segments: &[u32], columns: usize) -> Self {
        assert!(
            segments.len().is_multiple_of(columns),
            "rows of {columns} tokens"
        );
        let mut starts = Vec::with_capacity(segments.len());
        for row in segments.chunks(columns) {
            let mut start = 0;
            for column in 0..columns {
                if column > 0 && row[column] != row[column - 1] {
                    start = column;
                }
                starts.push(start as u32);
            }
        }
        Self {
            rows: segments.len() / columns,
            columns,
            starts: starts.into(),
            masks: Arc::default(),
        }
    }

    /// The positions of tokens in their segments.
    pub fn positions(&self) -> Vec<u32> {
        let columns = (0..self.columns as u32).cycle();
        columns
            .zip(self.starts.iter())
            .map(|(column, start)| column - start)
            .collect()
    }

    /// The first column that the query at `column` of `row` sees.
    pub(super) fn first(&self, row: usize, column: usize, window: Option<usize>) -> usize {
        let start = self.starts[row * self.columns + column] as usize;
        window.map_or(start, |window| {
            start.max((column + 1).saturating_sub(window))
        })
    }
}

/// The shape of an attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head: usize,
    /// What products of queries and keys are multiplied by.
    pub scale: f32,
    /// The tokens that a query sees, its own among them.
    pub window: Option<usize>,
}

/// What attention gives.
#[derive(Debug, Clone)]
pub struct Attended {
    /// (tokens, heads × head).
    pub output: Tensor,
    /// The logarithms of the sums of exponentials of each query's scores: (rows, heads, columns).
    pub log_sums: Tensor,
}

/// One head of one row: where its parts lie.
#[derive(Clone, Copy)]
struct Head<'a> {
    shape: Attention,
    sight: &'a Sight,
    row: usize,
    head: usize,
}

impl<'a> Head<'a> {
    /// A head's part of queries, or of what has their layout, from one column to before another.
    fn queries(self, floats: &'a [f32], from: usize, to: usize) -> Matrix<'a> {
        let width = self.shape.heads * self.shape.head;
        self.part(floats, width, self.head, from, to)
    }

    /// The part of keys or values that the head sees.
    fn keys(self, floats: &'a [f32], from: usize, to: usize) -> Matrix<'a> {
        let width = self.shape.kv_heads * self.shape.head;
        let head = self.head / (self.shape.heads / self.shape.kv_heads);
        self.part(floats, width, head, from, to)
    }

    fn part(
        self,
        floats: &'a [f32],
        width: usize,
        head: usize,
        from: usize,
        to: usize,
    ) -> Matrix<'a> {
        let offset = (self.row * self.sight.columns + from) * width + head * self.shape.head;
        Matrix::with_stride(&floats[offset..], to - from, self.shape.head, width)
    }

    /// The blocks of queries, each with the first key that one of them sees.
    fn blocks(self) -> impl Iterator<Item = (usize, usize, usize)> {
        let columns = self.sight.columns;
        (0..columns).step_by(QUERIES).map(move |from| {
            let to = (from + QUERIES).min(columns);
            let first =
                (from..to).map(|column| self.sight.first(self.row, column, self.shape.window));
            (from, to, first.min().unwrap_or(from))
        })
    }

    /// The keys of a block that the query at a column sees, counted from the block's first key.
    fn seen(self, column: usize, first: usize) -> std::ops::Range<usize> {
        self.sight.first(self.row, column, self.shape.window) - first..column + 1 - first
    }
}

impl Attention {
    /// The attention of `q` (tokens, heads × head) to `k` and `v` (tokens, kv_heads × head).
    ///
    /// # Errors
    ///
    /// What the framework says.
    pub fn forward(self, q: &Tensor, k: &Tensor, v: &Tensor, sight: &Sight) -> Result<Attended> {
        if !host::is_host(q) {
            return composed::attention(self, q, k, v, sight);
        }
        let (q, k, v) = (host::floats(q)?, host::floats(k)?, host::floats(v)?);
        let (q, k, v): (&[f32], &[f32], &[f32]) = (&q, &k, &v);
        let columns = sight.columns;
        let part = columns * self.head;
        let mut outputs = vec![0.0; sight.rows * self.heads * part];
        let mut log_sums = vec![0.0; sight.rows * self.heads * columns];
        outputs
            .par_chunks_mut(part)
            .zip(log_sums.par_chunks_mut(columns))
            .enumerate()
            .for_each(|(at, (output, log_sums))| {
                self.head_of(sight, at).forward(q, k, v, output, log_sums);
            });
        Ok(Attended {
            output: self.by_token(&outputs, sight, self.heads, 1)?,
            log_sums: host::tensor(log_sums, &[sight.rows, self.heads, columns])?,
        })
    }

    /// The gradients of `q`, `k` and `v` by that of the output.
    ///
    /// # Errors
    ///
    /// What the framework says.
    pub fn backward(
        self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        sight: &Sight,
        attended: &Attended,
        gradient: &Tensor,
    ) -> Result<[Tensor; 3]> {
        if !host::is_host(q) {
            return composed::attention_backward(self, q, k, v, sight, attended, gradient);
        }
        let (q, k, v) = (host::floats(q)?, host::floats(k)?, host::floats(v)?);
        let log_sums = host::floats(&attended.log_sums)?;
        let (output, slope) = (host::floats(&attended.output)?, host::floats(gradient)?);
        let way = Way {
            q: &q,
            k: &k,
            v: &v,
            output: &output,
            slope: &slope,
        };
        let columns = sight.columns;
        let part = columns * self.head;
        let zeros = || vec![0.0; sight.rows * self.heads * part];
        let (mut to_q, mut to_k, mut to_v) = (zeros(), zeros(), zeros());
        to_q.par_chunks_mut(part)
            .zip(to_k.par_chunks_mut(part).zip(to_v.par_chunks_mut(part)))
            .zip(log_sums.par_chunks(columns))
            .enumerate()
            .for_each(|(at, ((to_q, (to_k, to_v)), log_sums))| {
                self.head_of(sight, at)
                    .backward(way, log_sums, to_q, to_k, to_v);
            });
        let group = self.heads / self.kv_heads;
        Ok([
            self.by_token(&to_q, sight, self.heads, 1)?,
            self.by_token(&to_k, sight, self.kv_heads, group)?,
            self.by_token(&to_v, sight, self.kv_heads, group)?,
        ])
    }

    fn head_of(self, sight: &Sight, at: usize) -> Head<'_> {
        Head {
            shape: self,
            sight,
            row: at / self.heads,
            head: at % self.heads,
        }
    }

    /// Puts parts of (rows, heads, group, columns, head) into the order (rows, columns, heads, head), the sum of
    /// each group's.
    fn by_token(self, parts: &[f32], sight: &Sight, heads: usize, group: usize) -> Result<Tensor> {
        let (columns, head) = (sight.columns, self.head);
        let width = heads * head;
        let mut out = vec![0.0; sight.rows * columns * width];
        out.par_chunks_mut(width)
            .enumerate()
            .for_each(|(token, out)| {
                let (row, column) = (token / columns, token % columns);
                for (at, out) in out.chunks_exact_mut(head).enumerate() {
                    for member in 0..group {
                        let part = (row * heads + at) * group + member;
                        lanes::add(out, &parts[(part * columns + column) * head..][..head]);
                    }
                }
            });
        host::tensor(out, &[sight.rows * columns, width])
    }
}

/// What the way back reads.
#[derive(Clone, Copy)]
struct Way<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    output: &'a [f32],
    slope: &'a [f32],
}

impl<'a> Head<'a> {
    fn forward(
        self,
        q: &'a [f32],
        k: &'a [f32],
        v: &'a [f32],
        output: &mut [f32],
        log_sums: &mut [f32],
    ) {
        let mut scores = Vec::new();
        let head = self.shape.head;
        for (from, to, first) in self.blocks() {
            let (queries, keys) = (to - from, to - first);
            self.scores(q, k, (from, to, first), &mut scores);
            for (row, column) in scores.chunks_exact_mut(keys).zip(from..to) {
                let seen = self.seen(column, first);
                row[..seen.start].fill(0.0);
                row[seen.end..].fill(0.0);
                let row = &mut row[seen];
                let most = lanes::greatest(row);
                let sum = lanes::exp_shifted(row, most);
                lanes::scale(row, 1.0 / sum);
                log_sums[column] = most + sum.ln();
            }
            let out = MatrixMut::new(&mut output[from * head..to * head], queries, head);
            let probabilities = Matrix::new(&scores, queries, keys);
            let values = self.keys(v, first, to);
            multiply(out, Target::Set, 1.0, probabilities, values, Threads::One);
        }
    }

    fn backward(
        self,
        way: Way<'a>,
        log_sums: &[f32],
        to_q: &mut [f32],
        to_k: &mut [f32],
        to_v: &mut [f32],
    ) {
        let (mut scores, mut slopes) = (Vec::new(), Vec::new());
        let (head, scale) = (self.shape.head, self.shape.scale);
        let width = self.shape.heads * head;
        for (from, to, first) in self.blocks() {
            let (queries, keys) = (to - from, to - first);
            self.scores(way.q, way.k, (from, to, first), &mut scores);
            for (row, column) in scores.chunks_exact_mut(keys).zip(from..to) {
                let seen = self.seen(column, first);
                row[..seen.start].fill(0.0);
                row[seen.end..].fill(0.0);
                lanes::exp_shifted(&mut row[seen], log_sums[column]);
            }
            let slope = self.queries(way.slope, from, to);
            let probabilities = Matrix::new(&scores, queries, keys);
            let out = MatrixMut::new(&mut to_v[first * head..to * head], keys, head);
            multiply(
                out,
                Target::Add,
                1.0,
                probabilities.t(),
                slope,
                Threads::One,
            );
            slopes.resize(queries * keys, 0.0);
            let values = self.keys(way.v, first, to);
            let out = MatrixMut::new(&mut slopes, queries, keys);
            multiply(out, Target::Set, 1.0, slope, values.t(), Threads::One);
            let rows = slopes.chunks_exact_mut(keys).zip(scores.chunks_exact(keys));
            for ((slopes, probabilities), column) in rows.zip(from..to) {
                let token = self.row * self.sight.columns + column;
                let at = token * width + self.head * head;
                let mean = lanes::dot(&way.slope[at..at + head], &way.output[at..at + head]);
                for (slope, probability) in slopes.iter_mut().zip(probabilities) {
                    *slope = probability * (*slope - mean) * scale;
                }
            }
            let slopes = Matrix::new(&slopes, queries, keys);
            let out = MatrixMut::new(&mut to_q[from * head..to * head], queries, head);
            multiply(
                out,
                Target::Set,
                1.0,
                slopes,
                self.keys(way.k, first, to),
                Threads::One,
            );
            let out = MatrixMut::new(&mut to_k[first * head..to * head], keys, head);
            let queries = self.queries(way.q, from, to);
            multiply(out, Target::Add, 1.0, slopes.t(), queries, Threads::One);
        }
    }

    /// The scores of a block of queries with all keys that one of them sees.
    fn scores(
        self,
        q: &'a [f32],
        k: &'a [f32],
        (from, to, first): (usize, usize, usize),
        scores: &mut Vec<f32>,
    ) {
        scores.resize((to - from) * (to - first), 0.0);
        multiply(
            MatrixMut::new(scores, to - from, to - first),
            Target::Set,
            self.shape.scale,
            self.queries(q, from, to),
            self.keys(k, first, to).t(),
            Threads::One,
        );
    }
}
