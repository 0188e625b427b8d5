//! Micro-batches: what a backend computes on at once, at a position of the training.
//!
//! A training of `ranks` processes takes, in each step, `accumulation` micro-batches of `rows` rows
//! in each of them. All of these lie one after another in the order of the data:
//!
//! `position = ((step × accumulation + micro) × ranks + rank) × rows + row`
//!
//! so that a micro-batch follows from its address alone, ranks never see the same row in an epoch,
//! and one rank with twice the accumulation sees the same rows in a step as two ranks do. Rows are
//! never dropped: what would be the last, smaller batch of an epoch is filled from the next.

use std::sync::Arc;

use vox_crypto::Digest;

use super::order::Order;
use super::pack::{Layout, Packing};
use super::token_file::TokenFile;
use crate::error::Error;

/// A target that is not learnt.
pub const NO_TARGET: i32 = -1;

/// Padded rows are as long as a multiple of this, so that few shapes occur.
const PADDED_TO: usize = 16;

/// Rows of tokens. Each list has `rows × columns` members, one row after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// Tokens of a row.
    pub columns: usize,
    /// Token ids; 0 where there is padding.
    pub tokens: Vec<u32>,
    /// For each token, the one that is to be predicted after it, or [`NO_TARGET`].
    pub targets: Vec<i32>,
    /// For each token, the number of its example in its row, counted from 1; 0 where there is
    /// padding. A token may look at those before it with the same number, and positions count from
    /// where its example begins.
    pub segments: Vec<u32>,
}

impl Batch {
    /// Number of targets that are learnt.
    pub fn learnt(&self) -> u64 {
        let learnt = self.targets.iter().filter(|target| **target >= 0);
        learnt.count() as u64
    }

    /// Number of tokens that are no padding.
    pub fn filled(&self) -> u64 {
        self.segments.iter().filter(|segment| **segment > 0).count() as u64
    }
}

/// Rows of a dataset: those to train on, or those to evaluate on.
#[derive(Debug, Clone)]
pub struct Part {
    file: Arc<TokenFile>,
    /// Numbers of its examples in the file.
    members: Vec<u32>,
    layout: Layout,
    columns: u32,
    packing: Packing,
}

impl Part {
    pub(crate) fn new(
        file: Arc<TokenFile>,
        members: Vec<u32>,
        layout: Layout,
        columns: u32,
        packing: Packing,
    ) -> Self {
        Self {
            file,
            members,
            layout,
            columns,
            packing,
        }
    }

    pub(crate) fn file(&self) -> &TokenFile {
        &self.file
    }

    /// Number of examples.
    pub fn examples(&self) -> u64 {
        self.members.len() as u64
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.layout.rows()
    }

    /// The part of the rows that is no padding, between 0 and 1.
    pub fn density(&self) -> f64 {
        let filled: u64 = self
            .members
            .iter()
            .map(|member| u64::from(self.file.columns(*member)))
            .sum();
        filled as f64 / (self.rows() * u64::from(self.columns)).max(1) as f64
    }

    /// The batch of these rows.
    ///
    /// # Errors
    /// [`Error::Read`] when the file of tokens cannot be read.
    pub fn batch(&self, rows: impl IntoIterator<Item = u64>) -> Result<Batch, Error> {
        let mut read = Vec::new();
        for row in rows {
            let members = self.layout.row(row).iter();
            let examples = members.filter_map(|at| self.members.get(*at as usize));
            let examples = examples.map(|example| self.file.example(*example));
            read.push(examples.collect::<Result<Vec<_>, _>>()?);
        }
        let columns = match self.packing {
            Packing::Packed => self.columns as usize,
            Packing::Padded => {
                let longest = read.iter().flatten().map(|example| example.columns()).max();
                let padded = longest.unwrap_or(1).next_multiple_of(PADDED_TO);
                padded.min(self.columns as usize)
            }
        };
        let size = read.len() * columns;
        let mut batch = Batch {
            rows: read.len(),
            columns,
            tokens: vec![0; size],
            targets: vec![NO_TARGET; size],
            segments: vec![0; size],
        };
        for (row, examples) in read.iter().enumerate() {
            let mut at = row * columns;
            let end = at + columns;
            for (segment, example) in (1..).zip(examples) {
                let follow = example.tokens.iter().zip(&example.learnt).skip(1);
                for (token, (next, learnt)) in example.tokens.iter().zip(follow) {
                    if at == end {
                        break;
                    }
                    batch.tokens[at] = *token;
                    if *learnt {
                        batch.targets[at] = i32::try_from(*next).unwrap_or(NO_TARGET);
                    }
                    batch.segments[at] = segment;
                    at += 1;
                }
            }
        }
        Ok(batch)
    }

    /// All rows in their own order, `rows` at a time; the last batch may have fewer.
    pub fn batches(&self, rows: u32) -> impl Iterator<Item = Result<Batch, Error>> + '_ {
        let step = u64::from(rows.max(1));
        let starts = (0..self.rows()).step_by(step as usize);
        starts.map(move |start| self.batch(start..self.rows().min(start + step)))
    }
}

/// How the rows of a step are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of a micro-batch.
    pub rows: u32,
    /// Micro-batches of each rank in a step, whose gradients are added up.
    pub accumulation: u32,
    /// Processes that train together.
    pub ranks: u32,
}

impl Shape {
    /// Rows that all ranks see in a step.
    pub fn rows_of_a_step(self) -> u64 {
        u64::from(self.rows) * u64::from(self.accumulation) * u64::from(self.ranks)
    }
}

/// Which micro-batch of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Steps of the optimizer before it.
    pub step: u64,
    /// Micro-batches of the same rank in the step before it.
    pub micro: u32,
    /// Who computes it, counted from 0.
    pub rank: u32,
}

/// Hands out the micro-batches of a training. It has no state: the same address is the same batch.
#[derive(Debug, Clone, Copy)]
pub struct Feed<'d> {
    part: &'d Part,
    order: Order,
    shape: Shape,
}

impl<'d> Feed<'d> {
    /// The feed of a training on `part` of the dataset with this hash.
    ///
    /// # Panics
    /// When the part has no rows, or the shape has none; a [`Dataset`](super::Dataset) has rows, and
    /// a configuration's batch too.
    pub fn new(part: &'d Part, dataset: Digest, seed: u64, shape: Shape) -> Self {
        assert!(shape.rows_of_a_step() > 0, "a step needs rows: {shape:?}");
        Self {
            part,
            order: Order::new(dataset, seed, part.rows()),
            shape,
        }
    }

    /// The rows of a micro-batch, in order.
    pub fn rows(&self, address: Address) -> Vec<u64> {
        let Shape {
            rows,
            accumulation,
            ranks,
        } = self.shape;
        let micro = address.step * u64::from(accumulation) + u64::from(address.micro);
        let first = (micro * u64::from(ranks) + u64::from(address.rank)) * u64::from(rows);
        let positions = first..first + u64::from(rows);
        positions
            .map(|position| self.order.at(position).row)
            .collect()
    }

    /// A micro-batch.
    ///
    /// # Errors
    /// [`Error::Read`] when the file of tokens cannot be read.
    pub fn batch(&self, address: Address) -> Result<Batch, Error> {
        self.part.batch(self.rows(address))
    }

    /// Steps in which all rows are seen `epochs` times; the last may see some once more.
    pub fn steps_of(&self, epochs: f64) -> u64 {
        let rows = self.part.rows() as f64 * epochs;
        // Conversion saturates: nobody trains for 2^64 steps.
        ((rows / self.shape.rows_of_a_step() as f64).ceil() as u64).max(1)
    }

    /// How often all rows were seen before `step`, with the part of the epoch that is done.
    pub fn epochs_before(&self, step: u64) -> f64 {
        step as f64 * self.shape.rows_of_a_step() as f64 / self.part.rows() as f64
    }
}
