//! A tensor's data on their way out: read in pieces, converted, written.
//!
//! A large tensor is read and converted on a thread of its own while the caller's writes what is
//! done, so that hashing and writing wait for arithmetic only where that is slower.

use std::io::{self, Write};
use std::sync::mpsc;
use std::thread;

use half::slice::HalfFloatSliceExt;

use super::dequant::dequantise;
use super::error::GgufFault;
use super::file::Gguf;
use super::header::StoredTensor;

/// Elements of a piece.
const PIECE: u64 = 1 << 17;

/// Elements from which on a second thread is worth its start.
const PARALLEL: u64 = 1 << 20;

/// In which order the rows of the file come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// As they stand.
    AsStored,
    /// Heads of so many rows each, within which rows of both halves alternate in the file and come
    /// out one half after the other. The number is even.
    Halves(u64),
}

impl Rows {
    /// The place in the file of the row that comes out as number `row`.
    fn stored(self, row: u64) -> u64 {
        match self {
            Self::AsStored => row,
            Self::Halves(head) => {
                let (base, place) = (row - row % head, row % head);
                let half = head / 2;
                base + place % half * 2 + place / half
            }
        }
    }
}

/// What comes out for the elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Elements {
    /// The very bytes.
    AsStored,
    /// `f32`, less so much.
    F32 { less: f32 },
    /// The same, rounded to half precision.
    F16 { less: f32 },
    /// The same, rounded to `bf16`.
    BF16 { less: f32 },
}

/// One tensor's way out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream<'a> {
    pub(super) gguf: &'a Gguf,
    pub(super) tensor: &'a StoredTensor,
    pub(super) rows: Rows,
    pub(super) elements: Elements,
}

impl Stream<'_> {
    /// Writes all of it.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let elements = self.tensor.rows().saturating_mul(self.tensor.row_len());
        if elements < PARALLEL || self.elements == Elements::AsStored {
            let mut pieces = Pieces::new(self);
            let mut bytes = Vec::new();
            while pieces.next_into(&mut bytes)? {
                out.write_all(&bytes)?;
            }
            return Ok(());
        }
        thread::scope(|scope| {
            let (done, pieces) = mpsc::sync_channel::<io::Result<Vec<u8>>>(2);
            let (give_back, spare) = mpsc::channel::<Vec<u8>>();
            scope.spawn(move || {
                let mut pieces = Pieces::new(self);
                loop {
                    let mut bytes = spare.try_recv().unwrap_or_default();
                    let piece = match pieces.next_into(&mut bytes) {
                        Ok(true) => Ok(bytes),
                        Ok(false) => return,
                        Err(error) => Err(error),
                    };
                    let failed = piece.is_err();
                    // Nobody receives any more when writing has failed.
                    if done.send(piece).is_err() || failed {
                        return;
                    }
                }
            });
            for piece in pieces {
                let bytes = piece?;
                out.write_all(&bytes)?;
                // The other side is gone once everything is sent.
                let _ = give_back.send(bytes);
            }
            Ok(())
        })
    }
}

/// What of a stream is still to come.
struct Pieces<'a> {
    stream: &'a Stream<'a>,
    /// Bytes of the file that have come out, counted in the order in which they do.
    position: u64,
    blocks: Vec<u8>,
    values: Vec<f32>,
}

impl<'a> Pieces<'a> {
    fn new(stream: &'a Stream<'a>) -> Self {
        Self {
            stream,
            position: 0,
            blocks: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Puts the next piece into `bytes` in place of what is there; false at the end.
    fn next_into(&mut self, bytes: &mut Vec<u8>) -> io::Result<bool> {
        let tensor = self.stream.tensor;
        if self.stream.elements == Elements::AsStored {
            std::mem::swap(&mut self.blocks, bytes);
            let more = self.read();
            std::mem::swap(&mut self.blocks, bytes);
            return more;
        }
        if !self.read()? {
            return Ok(false);
        }
        if !dequantise(tensor.kind, &self.blocks, &mut self.values) {
            let fault = GgufFault::NotDequantised {
                tensor: tensor.name.clone(),
                kind: tensor.kind,
            };
            return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
        }
        match self.stream.elements {
            Elements::AsStored => {}
            Elements::F32 { less } => {
                self.lessen(less);
                spread(&self.values, bytes, |value: f32| value.to_le_bytes());
            }
            Elements::F16 { less } => {
                self.lessen(less);
                let mut rounded = vec![half::f16::ZERO; self.values.len()];
                rounded.convert_from_f32_slice(&self.values);
                spread(&rounded, bytes, half::f16::to_le_bytes);
            }
            Elements::BF16 { less } => {
                self.lessen(less);
                spread(&self.values, bytes, |value: f32| {
                    half::bf16::from_f32(value).to_le_bytes()
                });
            }
        }
        Ok(true)
    }

    /// Subtracts from each value. Not done for 0, which would turn -0 into what it is anyway but
    /// costs time.
    fn lessen(&mut self, less: f32) {
        if less != 0.0 {
            for value in &mut self.values {
                *value -= less;
            }
        }
    }

    /// Reads the next blocks; false at the end.
    fn read(&mut self) -> io::Result<bool> {
        let Stream {
            gguf, tensor, rows, ..
        } = *self.stream;
        let total = tensor.range.end - tensor.range.start;
        let most = PIECE / tensor.kind.block_len() * tensor.kind.block_bytes();
        let len = most.min(total.saturating_sub(self.position));
        self.blocks.resize(usize::try_from(len).unwrap_or(0), 0);
        if len == 0 {
            return Ok(false);
        }
        // A bias has an element for each row of its weight.
        let row_bytes = match tensor.shape.as_slice() {
            [_] => tensor.kind.block_bytes(),
            _ => tensor.row_bytes(),
        };
        let mut rest = self.blocks.as_mut_slice();
        while !rest.is_empty() {
            let (at, count) = match rows {
                Rows::AsStored => (self.position, rest.len()),
                Rows::Halves(_) => {
                    let (row, within) = (self.position / row_bytes, self.position % row_bytes);
                    let left = usize::try_from(row_bytes - within).unwrap_or(usize::MAX);
                    let at = rows.stored(row) * row_bytes + within;
                    (at, left.min(rest.len()))
                }
            };
            let (piece, after) = rest.split_at_mut(count);
            gguf.read_at(piece, tensor.range.start + at)?;
            self.position += count as u64;
            rest = after;
        }
        Ok(true)
    }
}

/// The bytes of values, in place of what is there.
fn spread<T: Copy, const BYTES: usize>(
    values: &[T],
    bytes: &mut Vec<u8>,
    split: impl Fn(T) -> [u8; BYTES],
) {
    bytes.resize(values.len() * BYTES, 0);
    let (places, _) = bytes.as_chunks_mut::<BYTES>();
    for (place, &value) in places.iter_mut().zip(values) {
        *place = split(value);
    }
}
