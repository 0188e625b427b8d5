//! Weights that become blocks of ggml on their way.
//!
//! A [`Quantised`] stands before another source: the matrices that [`Role::of_stored`] knows come out of it in the
//! blocks of a [`Mix`], everything else as it is. What must stay true: the blocks are those that backends make of the
//! same numbers as they load them, whatever the source and however many cores there are; and of a tensor no more than
//! a piece is in memory.

use std::io::{self, Write};
use std::panic::resume_unwind;
use std::thread;

use half::{bf16, f16};
use vox_quant::{BlockKind, Mix, Role};

use crate::tensor::{Dtype, TensorInfo, TensorSource};

/// Numbers of a piece; whole blocks of every kind.
const PIECE: usize = 1 << 20;

/// What the key of a tensor's note begins with.
pub(crate) const NOTE: &str = "ggml.";

/// A source whose matrices come out in blocks.
pub struct Quantised<'a> {
    source: &'a dyn TensorSource,
    tensors: Vec<TensorInfo>,
    /// Of each tensor the blocks that it becomes.
    kinds: Vec<Option<BlockKind>>,
}

impl<'a> Quantised<'a> {
    /// The tensors of a source by the rule of a mix.
    pub fn new(source: &'a dyn TensorSource, mix: Mix) -> Self {
        let names = source.tensors().iter().map(|tensor| tensor.name.as_str());
        let layers = Role::layers(names);
        let kinds: Vec<_> = source
            .tensors()
            .iter()
            .map(|tensor| kind_of(tensor, mix, layers))
            .collect();
        let tensors = source.tensors().iter().zip(&kinds);
        Self {
            source,
            tensors: tensors.map(|(tensor, kind)| shown(tensor, *kind)).collect(),
            kinds,
        }
    }

    /// Numbers that come out in blocks.
    pub fn quantised(&self) -> u64 {
        let tensors = self.source.tensors().iter().zip(&self.kinds);
        tensors
            .filter(|(_, kind)| kind.is_some())
            .fold(0, |sum, (tensor, _)| {
                sum.saturating_add(tensor.elements().unwrap_or(0))
            })
    }

    /// What should stand under `__metadata__` of the SafeTensors file that the tensors go into, as in
    /// [`GgufModel::safetensors_metadata`](crate::formats::gguf::GgufModel::safetensors_metadata).
    pub fn notes(&self) -> impl Iterator<Item = (String, String)> {
        let tensors = self.source.tensors().iter().zip(&self.kinds);
        tensors.filter_map(|(tensor, kind)| {
            let mut text = (*kind)?.name().to_owned();
            for dimension in &tensor.shape {
                text = format!("{text} {dimension}");
            }
            Some((format!("{NOTE}{}", tensor.name), text))
        })
    }
}

/// The blocks that a tensor becomes; `None` for one that stays as it is.
fn kind_of(tensor: &TensorInfo, mix: Mix, layers: usize) -> Option<BlockKind> {
    let is_float = matches!(
        tensor.dtype,
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16
    );
    let [_, columns] = tensor.shape.as_slice() else {
        return None;
    };
    let role = Role::of_stored(&tensor.name, layers).filter(|_| is_float)?;
    mix.blocks(role, usize::try_from(*columns).ok()?)
}

/// What a tensor is once it is in blocks: the bytes of its rows.
fn shown(tensor: &TensorInfo, kind: Option<BlockKind>) -> TensorInfo {
    let (Some(kind), [rows, columns]) = (kind, tensor.shape.as_slice()) else {
        return tensor.clone();
    };
    let row = columns / kind.numbers() as u64 * kind.bytes() as u64;
    TensorInfo {
        name: tensor.name.clone(),
        dtype: Dtype::U8,
        shape: vec![*rows, row],
    }
}

impl TensorSource for Quantised<'_> {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn write_tensor(&self, index: usize, out: &mut dyn Write) -> io::Result<()> {
        let Some(kind) = self.kinds[index] else {
            return self.source.write_tensor(index, out);
        };
        let tensor = &self.source.tensors()[index];
        let mut blocks = Blocks {
            tensor,
            kind,
            waiting: Vec::new(),
            out,
        };
        self.source.write_tensor(index, &mut blocks)?;
        blocks.pass_on()
    }
}

/// Takes the bytes of a tensor's numbers, and passes on those of their blocks.
struct Blocks<'a> {
    tensor: &'a TensorInfo,
    kind: BlockKind,
    /// Bytes that are no whole piece yet.
    waiting: Vec<u8>,
    out: &'a mut dyn Write,
}

impl Blocks<'_> {
    /// Passes on the blocks of what waits. Numbers that are no whole block are dropped, as a source that gives them gives
    /// fewer than it should, which whoever reads from this notices.
    fn pass_on(&mut self) -> io::Result<()> {
        let numbers = floats(self.tensor.dtype, &self.waiting);
        self.waiting.clear();
        if !numbers.iter().all(|number| number.is_finite()) {
            // Blocks would make zeros of it, and nobody would know.
            let why = format!(
                "the tensor `{}` holds what is no number, or is infinite, and cannot be quantised",
                self.tensor.name.escape_debug()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let blocks = (numbers.len() / self.kind.numbers()).div_ceil(threads);
        let part = blocks.max(1) * self.kind.numbers();
        let kind = self.kind;
        thread::scope(|scope| {
            let parts = numbers.chunks(part);
            let parts: Vec<_> = parts
                .map(|part| scope.spawn(move || kind.quantise(part)))
                .collect();
            for part in parts {
                let bytes = part.join().unwrap_or_else(|panic| resume_unwind(panic));
                self.out.write_all(&bytes)?;
            }
            Ok(())
        })
    }
}

impl Write for Blocks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = PIECE * self.tensor.dtype.size() as usize;
        let taken = bytes.len().min(piece - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..taken]);
        if self.waiting.len() == piece {
            self.pass_on()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The numbers of bytes, as every backend reads them: rounded where they are longer than 32 bits.
fn floats(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::F64 => each(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        Dtype::F16 => each(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => each(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        // Of other types no tensor becomes blocks.
        _ => each(bytes, f32::from_le_bytes),
    }
}

fn each<const BYTES: usize>(bytes: &[u8], float: impl Fn([u8; BYTES]) -> f32) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks::<BYTES>();
    numbers.iter().map(|&number| float(number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tensors with the bytes of their data, given out in writes of so many bytes.
    struct Memory {
        tensors: Vec<TensorInfo>,
        data: Vec<Vec<u8>>,
        step: usize,
    }

    impl TensorSource for Memory {
        fn tensors(&self) -> &[TensorInfo] {
            &self.tensors
        }

        fn write_tensor(&self, index: usize, out: &mut dyn Write) -> io::Result<()> {
            self.data[index]
                .chunks(self.step)
                .try_for_each(|bytes| out.write_all(bytes))
        }
    }

    /// Numbers that are the same on every machine.
    fn numbers(count: usize) -> Vec<f32> {
        let number = |at: usize| ((at * 7919 + at / 13 * 31) % 2003) as f32 / 1001.0 - 1.0;
        (0..count).map(number).collect()
    }

    fn info(name: &str, dtype: Dtype, shape: &[u64]) -> TensorInfo {
        TensorInfo {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
        }
    }

    fn bytes_of(source: &dyn TensorSource, index: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        source.write_tensor(index, &mut bytes).unwrap();
        bytes
    }

    const QUERIES: &str = "model.layers.0.self_attn.q_proj.weight";

    #[test]
    fn matrices_come_out_in_the_bytes_of_their_blocks_whatever_their_type_and_the_pieces() {
        // More than a piece, so that there are several.
        let x = numbers(PIECE + 512 * 3);
        let rows = x.len() as u64 / 512;
        for dtype in [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::BF16] {
            let round = |x: f32| match dtype {
                Dtype::F16 => f16::from_f32(x).to_f32(),
                Dtype::BF16 => bf16::from_f32(x).to_f32(),
                _ => x,
            };
            let stored = x.iter().flat_map(|&x| match dtype {
                Dtype::F64 => f64::from(x).to_le_bytes().to_vec(),
                Dtype::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
                Dtype::BF16 => bf16::from_f32(x).to_le_bytes().to_vec(),
                _ => x.to_le_bytes().to_vec(),
            });
            let source = Memory {
                tensors: vec![info(QUERIES, dtype, &[rows, 512])],
                data: vec![stored.collect()],
                step: 100_003,
            };
            let rounded: Vec<f32> = x.iter().map(|&x| round(x)).collect();
            for (mix, kind) in [
                (Mix::Q8_0, BlockKind::Q8_0),
                (Mix::Q4_0, BlockKind::Q4_0),
                (Mix::Q4KM, BlockKind::Q4K),
            ] {
                let quantised = Quantised::new(&source, mix);
                let wanted = kind.quantise(&rounded);
                assert!(bytes_of(&quantised, 0) == wanted, "{dtype} in {mix}");
                let row = wanted.len() as u64 / rows;
                assert_eq!(
                    quantised.tensors(),
                    [info(QUERIES, Dtype::U8, &[rows, row])]
                );
                let note = (format!("ggml.{QUERIES}"), format!("{kind} {rows} 512"));
                assert_eq!(quantised.notes().collect::<Vec<_>>(), [note]);
            }
        }
    }

    #[test]
    fn what_the_rule_leaves_comes_out_as_it_is() {
        let left = [
            info("model.norm.weight", Dtype::F32, &[64]),
            info("model.layers.0.self_attn.q_proj.bias", Dtype::F16, &[64]),
            info("embeddings.word_embeddings.weight", Dtype::F32, &[2, 64]),
            // Rows that are no whole blocks, and numbers that are no floats.
            info(QUERIES, Dtype::F32, &[2, 40]),
            info("model.layers.0.mlp.up_proj.weight", Dtype::I8, &[2, 64]),
        ];
        let source = Memory {
            data: left
                .iter()
                .map(|info| (0..info.byte_len().unwrap()).map(|at| at as u8).collect())
                .collect(),
            tensors: left.to_vec(),
            step: 64,
        };
        let quantised = Quantised::new(&source, Mix::Q4KM);
        assert_eq!(quantised.tensors(), left);
        assert_eq!(quantised.quantised(), 0);
        assert_eq!(quantised.notes().count(), 0);
        for (index, data) in source.data.iter().enumerate() {
            assert_eq!(bytes_of(&quantised, index), *data);
        }
    }

    #[test]
    fn a_tensor_that_holds_what_is_no_number_is_named() {
        for wrong in [f32::NAN, f32::INFINITY] {
            let mut x = numbers(64);
            x[33] = wrong;
            let source = Memory {
                tensors: vec![info(QUERIES, Dtype::F32, &[1, 64])],
                data: vec![x.iter().flat_map(|x| x.to_le_bytes()).collect()],
                step: 64,
            };
            let quantised = Quantised::new(&source, Mix::Q8_0);
            let error = quantised.write_tensor(0, &mut io::sink()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let said = format!("the tensor `{QUERIES}` holds what is no number");
            assert!(error.to_string().starts_with(&said), "{error}");
        }
    }
}
