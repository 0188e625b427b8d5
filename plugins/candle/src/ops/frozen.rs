//! Weights that are not trained: plain, halves, or quantised.
//!
//! Quantised weights become floats each time they are used, forward and back, and are given back after: what
//! QLoRA saves is what all layers together would need.

use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

use super::nf4::{self, Nf4};
use super::{embedding, host};

/// How weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Floats of 32 bits.
    F32,
    /// Floats of 16 bits with the exponents of those of 32.
    Bf16,
    /// Floats of 16 bits.
    F16,
    /// Blocks of 32 weights of 8 bits with a scale, as ggml has them.
    Q8_0,
    /// Blocks of 32 weights of 4 bits with a scale, as ggml has them.
    Q4_0,
    /// [`Nf4`].
    Nf4,
}

impl Format {
    /// Bytes of a matrix in memory.
    pub fn bytes(self, elements: u64) -> u64 {
        let blocks = |size: u64| elements.div_ceil(size);
        match self {
            Self::F32 => elements * 4,
            Self::Bf16 | Self::F16 => elements * 2,
            Self::Q8_0 => blocks(32) * 34,
            Self::Q4_0 => blocks(32) * 18,
            Self::Nf4 => {
                let blocks = blocks(nf4::BLOCK as u64);
                blocks * (nf4::BLOCK as u64 / 2 + 1) + blocks.div_ceil(nf4::SCALES as u64) * 4 + 4
            }
        }
    }

    /// Whether weights become floats each time they are used.
    pub fn is_quantised(self) -> bool {
        matches!(self, Self::Q8_0 | Self::Q4_0 | Self::Nf4)
    }
}

/// Weights of a block of ggml.
const BLOCK: usize = 32;

/// A matrix of weights that are not trained.
#[derive(Debug)]
pub struct Frozen {
    rows: usize,
    columns: usize,
    format: Format,
    store: Store,
}

#[derive(Debug)]
enum Store {
    /// Floats of any size.
    Plain(Tensor),
    /// Blocks of ggml in host memory: the codes of all, and the scales.
    Blocks(Vec<u8>, Vec<f16>),
    Nf4(Nf4),
    /// Codes as numbers of rows of a table (256, weights of a code), and what each block is multiplied by.
    ///
    /// The framework takes the greatest number of its type for no row at all, and gives zeros. So codes are
    /// [turned](zero_code) such that the one that stands for zeros is the greatest.
    Device {
        codes: Tensor,
        table: Tensor,
        scales: Tensor,
    },
}

impl Frozen {
    /// Takes weights (rows, columns), row by row, into a format on a device.
    ///
    /// # Errors
    ///
    /// What the framework says.
    ///
    /// # Panics
    ///
    /// Where there are not as many weights.
    pub fn new(
        weights: Vec<f32>,
        rows: usize,
        columns: usize,
        format: Format,
        device: &Device,
    ) -> Result<Self> {
        assert_eq!(
            weights.len(),
            rows * columns,
            "weights of {rows} rows of {columns}"
        );
        let plain = |dtype| {
            Tensor::from_vec(weights.clone(), (rows, columns), &Device::Cpu)?.to_dtype(dtype)
        };
        let store = match format {
            Format::F32 => Store::Plain(Tensor::from_vec(weights, (rows, columns), device)?),
            Format::Bf16 => Store::Plain(plain(DType::BF16)?.to_device(device)?),
            Format::F16 => Store::Plain(plain(DType::F16)?.to_device(device)?),
            Format::Q8_0 => blocks(&weights, 32, quantise_q8_0),
            Format::Q4_0 => blocks(&weights, 16, quantise_q4_0),
            Format::Nf4 => Store::Nf4(Nf4::quantise(&weights)),
        };
        let store = match host::computes_here(device) {
            true => store,
            false => store.on(device, format)?,
        };
        Ok(Self {
            rows,
            columns,
            format,
            store,
        })
    }

    /// The shape: outputs, inputs.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// How the weights are held.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        self.format.bytes((self.rows * self.columns) as u64)
    }

    /// The weights as floats (rows, columns).
    ///
    /// # Errors
    ///
    /// What the framework says.
    pub fn weights(&self) -> Result<Tensor> {
        self.part(0, self.rows)
    }

    /// Some rows of the weights as floats. Of quantised weights all rows become floats for it.
    ///
    /// # Errors
    ///
    /// What the framework says.
    pub fn part(&self, from: usize, to: usize) -> Result<Tensor> {
        let shape = [self.rows, self.columns];
        let all = match &self.store {
            Store::Plain(tensor) => return plain_part(&tensor.narrow(0, from, to - from)?),
            Store::Blocks(codes, scales) => {
                let mut out = vec![0.0; self.rows * self.columns];
                dequantise_blocks(self.format, codes, scales, &mut out);
                host::tensor(out, &shape)?
            }
            Store::Nf4(nf4) => {
                let mut out = vec![0.0; self.rows * self.columns];
                nf4.dequantise(&mut out);
                host::tensor(out, &shape)?
            }
            Store::Device {
                codes,
                table,
                scales,
            } => {
                let blocks = scales.elem_count();
                let weights = table.index_select(codes, 0)?;
                let weights = match self.format {
                    // A byte holds weights that are half a block apart.
                    Format::Q4_0 => weights.reshape((blocks, BLOCK / 2, 2))?.t()?.contiguous()?,
                    _ => weights,
                };
                let weights = weights.reshape((blocks, ()))?.broadcast_mul(scales)?;
                let elements = self.rows * self.columns;
                weights
                    .flatten_all()?
                    .narrow(0, 0, elements)?
                    .reshape(&shape[..])?
            }
        };
        all.narrow(0, from, to - from)
    }

    /// Rows by their numbers, multiplied by `scale`: (numbers, columns).
    ///
    /// # Errors
    ///
    /// What the framework says, as when a number is not below the rows.
    pub fn gather(&self, numbers: &[u32], scale: f32) -> Result<Tensor> {
        match &self.store {
            Store::Plain(tensor) if tensor.dtype() != DType::F32 => {
                let at = Tensor::new(numbers, tensor.device())?;
                let rows = tensor.index_select(&at, 0)?.to_dtype(DType::F32)?;
                rows.affine(f64::from(scale), 0.0)
            }
            _ => embedding::gather(&self.weights()?, numbers, scale),
        }
    }
}

/// Plain weights as floats of 32 bits.
fn plain_part(tensor: &Tensor) -> Result<Tensor> {
    if tensor.dtype() == DType::F32 || !host::is_host(tensor) {
        return tensor.to_dtype(DType::F32);
    }
    let (storage, layout) = tensor.storage_and_layout();
    let Some((from, to)) = layout.contiguous_offsets() else {
        return tensor.to_dtype(DType::F32);
    };
    let mut out = vec![0.0; to - from];
    const CHUNK: usize = 1 << 14;
    match &*storage {
        Storage::Cpu(CpuStorage::BF16(halves)) => out
            .par_chunks_mut(CHUNK)
            .zip(halves[from..to].par_chunks(CHUNK))
            .for_each(|(out, halves)| {
                for (out, half) in out.iter_mut().zip(halves) {
                    *out = f32::from_bits(u32::from(bf16::to_bits(*half)) << 16);
                }
            }),
        Storage::Cpu(CpuStorage::F16(halves)) => out
            .par_chunks_mut(CHUNK)
            .zip(halves[from..to].par_chunks(CHUNK))
            .for_each(|(out, halves)| {
                for (out, half) in out.iter_mut().zip(halves) {
                    *out = half.to_f32();
                }
            }),
        _ => return tensor.to_dtype(DType::F32),
    }
    host::tensor(out, tensor.dims())
}

/// Blocks of ggml, each of `bytes` codes.
fn blocks(weights: &[f32], bytes: usize, quantise: fn(&[f32; BLOCK], &mut [u8]) -> f16) -> Store {
    let count = weights.len().div_ceil(BLOCK);
    let mut codes = vec![0; count * bytes];
    let scales = codes
        .par_chunks_mut(bytes)
        .zip(weights.par_chunks(BLOCK))
        .map(|(codes, weights)| {
            let mut block = [0.0; BLOCK];
            block[..weights.len()].copy_from_slice(weights);
            quantise(&block, codes)
        })
        .collect();
    Store::Blocks(codes, scales)
}

/// `quantize_row_q8_0_ref` of ggml.
fn quantise_q8_0(weights: &[f32; BLOCK], codes: &mut [u8]) -> f16 {
    let most = weights.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let scale = most / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    for (code, weight) in codes.iter_mut().zip(weights) {
        *code = (weight * inverse).round() as i8 as u8;
    }
    f16::from_f32(scale)
}

/// `quantize_row_q4_0_ref` of ggml.
fn quantise_q4_0(weights: &[f32; BLOCK], codes: &mut [u8]) -> f16 {
    let most = weights.iter().fold(
        0.0_f32,
        |most, &x| if x.abs() > most.abs() { x } else { most },
    );
    let scale = most / -8.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let number = |weight: f32| ((weight * inverse + 8.5) as u8).min(15);
    for (at, code) in codes.iter_mut().enumerate() {
        *code = number(weights[at]) | number(weights[at + BLOCK / 2]) << 4;
    }
    f16::from_f32(scale)
}

/// The weights that blocks of ggml stand for.
fn dequantise_blocks(format: Format, codes: &[u8], scales: &[f16], out: &mut [f32]) {
    const BLOCKS: usize = 128;
    let bytes = codes.len() / scales.len().max(1);
    out.par_chunks_mut(BLOCK * BLOCKS)
        .zip(
            codes
                .par_chunks(bytes * BLOCKS)
                .zip(scales.par_chunks(BLOCKS)),
        )
        .for_each(|(out, (codes, scales))| {
            let blocks = codes.chunks_exact(bytes).zip(scales);
            for (out, (codes, scale)) in out.chunks_mut(BLOCK).zip(blocks) {
                dequantise_block(format, codes, scale.to_f32(), out);
            }
        });
}

fn dequantise_block(format: Format, codes: &[u8], scale: f32, out: &mut [f32]) {
    if format == Format::Q8_0 {
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = f32::from(code as i8) * scale;
        }
        return;
    }
    let halves = codes
        .iter()
        .map(|code| code & 15)
        .chain(codes.iter().map(|code| code >> 4));
    for (out, code) in out.iter_mut().zip(halves) {
        *out = (f32::from(code) - 8.0) * scale;
    }
}

/// The byte that stands for nothing but weights of 0.
fn zero_code(format: Format) -> u8 {
    match format {
        Format::Nf4 => 0x77,
        Format::Q4_0 => 0x88,
        _ => 0,
    }
}

impl Store {
    /// What is in host memory, on a device.
    fn on(self, device: &Device, format: Format) -> Result<Self> {
        let turn = zero_code(format) ^ u8::MAX;
        let rows = || (0..=u8::MAX).map(|number| number ^ turn);
        let (mut codes, table, scales): (Vec<u8>, Vec<f32>, Vec<f32>) = match self {
            Self::Plain(_) | Self::Device { .. } => return Ok(self),
            Self::Nf4(nf4) => {
                let quantile = |code: u8| nf4::CODE_BOOK[usize::from(code)];
                let pair = |code: u8| [quantile(code >> 4), quantile(code & 15)];
                let scales = (0..nf4.scales.len())
                    .map(|block| nf4.magnitude(block))
                    .collect();
                (nf4.codes, rows().flat_map(pair).collect(), scales)
            }
            Self::Blocks(codes, scales) => {
                let table = if format == Format::Q8_0 {
                    rows().map(|code| f32::from(code as i8)).collect()
                } else {
                    let number = |code: u8| f32::from(code) - 8.0;
                    let pair = |code: u8| [number(code & 15), number(code >> 4)];
                    rows().flat_map(pair).collect()
                };
                (
                    codes,
                    table,
                    scales.iter().map(|scale| scale.to_f32()).collect(),
                )
            }
        };
        codes.iter_mut().for_each(|code| *code ^= turn);
        let (bytes, blocks) = (codes.len(), scales.len());
        Ok(Self::Device {
            codes: Tensor::from_vec(codes, bytes, device)?,
            table: Tensor::from_vec(table, (256, ()), device)?,
            scales: Tensor::from_vec(scales, (blocks, 1), device)?,
        })
    }
}
