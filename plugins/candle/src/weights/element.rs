//! What is stored for a number, and how it becomes a float.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

use candle_core::quantized::{GgmlDType, QTensor, ggml_file};
use candle_core::{DType, Device, Result};
use half::{bf16, f16};
use safetensors::Dtype;
use vox_quant::BlockKind;

/// What is stored for a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// A float by itself.
    Plain(DType),
    /// A part of a block of ggml.
    Blocks(GgmlDType),
    /// Something else than weights are made of.
    Other(Dtype),
}

impl Element {
    pub(super) fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F64 => Self::Plain(DType::F64),
            Dtype::F32 => Self::Plain(DType::F32),
            Dtype::F16 => Self::Plain(DType::F16),
            Dtype::BF16 => Self::Plain(DType::BF16),
            other => Self::Other(other),
        }
    }

    /// Reads the type and the shape under a key `ggml.<tensor>`: `Q8_0 49152 576`.
    pub(super) fn of_note(note: &str) -> Option<(GgmlDType, Vec<usize>)> {
        let mut words = note.split(' ');
        let kind = match words.next()? {
            "Q4_0" => GgmlDType::Q4_0,
            "Q4_1" => GgmlDType::Q4_1,
            "Q5_0" => GgmlDType::Q5_0,
            "Q5_1" => GgmlDType::Q5_1,
            "Q8_0" => GgmlDType::Q8_0,
            "Q2_K" => GgmlDType::Q2K,
            "Q3_K" => GgmlDType::Q3K,
            "Q4_K" => GgmlDType::Q4K,
            "Q5_K" => GgmlDType::Q5K,
            "Q6_K" => GgmlDType::Q6K,
            _ => return None,
        };
        let shape = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
        Some((kind, shape))
    }

    /// The blocks that are made here too.
    pub(super) fn block_kind(self) -> Option<BlockKind> {
        match self {
            Self::Blocks(GgmlDType::Q8_0) => Some(BlockKind::Q8_0),
            Self::Blocks(GgmlDType::Q5_0) => Some(BlockKind::Q5_0),
            Self::Blocks(GgmlDType::Q4_0) => Some(BlockKind::Q4_0),
            Self::Blocks(GgmlDType::Q6K) => Some(BlockKind::Q6K),
            Self::Blocks(GgmlDType::Q4K) => Some(BlockKind::Q4K),
            _ => None,
        }
    }

    /// Its name, as the format has it.
    pub fn name(self) -> String {
        match self {
            Self::Plain(dtype) => dtype.as_str().to_uppercase(),
            Self::Blocks(kind) => match kind {
                GgmlDType::Q2K => "Q2_K".to_owned(),
                GgmlDType::Q3K => "Q3_K".to_owned(),
                GgmlDType::Q4K => "Q4_K".to_owned(),
                GgmlDType::Q5K => "Q5_K".to_owned(),
                GgmlDType::Q6K => "Q6_K".to_owned(),
                GgmlDType::Q8K => "Q8_K".to_owned(),
                other => format!("{other:?}"),
            },
            Self::Other(dtype) => format!("{dtype:?}"),
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(&other.name())
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

/// Makes floats of stored bytes that are a tensor of this shape; `false` where they hold no floats.
pub(super) fn floats(
    element: Element,
    stored: &[u8],
    shape: &[usize],
    out: &mut [f32],
) -> Result<bool> {
    match element {
        Element::Plain(DType::F32) => each(stored, out, f32::from_le_bytes),
        Element::Plain(DType::F16) => each(stored, out, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Element::Plain(DType::BF16) => {
            each(stored, out, |bytes| bf16::from_le_bytes(bytes).to_f32())
        }
        Element::Plain(DType::F64) => each(stored, out, |bytes| f64::from_le_bytes(bytes) as f32),
        Element::Plain(_) | Element::Other(_) => return Ok(false),
        Element::Blocks(kind) => {
            let blocks = blocks(kind, stored, shape, &Device::Cpu)?;
            let floats = blocks.dequantize(&Device::Cpu)?.flatten_all()?;
            out.copy_from_slice(&floats.to_vec1::<f32>()?);
        }
    }
    Ok(true)
}

fn each<const N: usize>(stored: &[u8], out: &mut [f32], float: impl Fn([u8; N]) -> f32) {
    let (numbers, _) = stored.as_chunks::<N>();
    for (out, &number) in out.iter_mut().zip(numbers) {
        *out = float(number);
    }
}

/// Whether all that stored bytes stand for are numbers, and finite. Of blocks their scales and minima say it: those
/// are halves, and what whole numbers make of a half is finite as a float.
pub(super) fn are_numbers(element: Element, stored: &[u8]) -> bool {
    match element {
        Element::Plain(DType::F32) => all(stored, |bytes| f32::from_le_bytes(bytes).is_finite()),
        Element::Plain(DType::F16) => all(stored, |bytes| f16::from_le_bytes(bytes).is_finite()),
        Element::Plain(DType::BF16) => all(stored, |bytes| bf16::from_le_bytes(bytes).is_finite()),
        Element::Plain(DType::F64) => all(stored, |bytes| {
            (f64::from_le_bytes(bytes) as f32).is_finite()
        }),
        // They hold no floats, which whoever reads them is told.
        Element::Plain(_) | Element::Other(_) => true,
        Element::Blocks(kind) => {
            let halves = halves(kind);
            let mut blocks = stored.chunks_exact(kind.type_size());
            blocks.all(|block| {
                all(&block[halves.clone()], |bytes| {
                    f16::from_le_bytes(bytes).is_finite()
                })
            })
        }
    }
}

fn all<const N: usize>(stored: &[u8], is_number: impl Fn([u8; N]) -> bool) -> bool {
    let (numbers, _) = stored.as_chunks::<N>();
    numbers
        .iter()
        .fold(true, |so_far, &number| so_far & is_number(number))
}

/// Where the scales and minima of a block lie, which are halves (ggml, `ggml-common.h`).
fn halves(kind: GgmlDType) -> Range<usize> {
    match kind {
        GgmlDType::Q4_1 | GgmlDType::Q5_1 | GgmlDType::Q4K | GgmlDType::Q5K => 0..4,
        GgmlDType::Q2K => 80..84,
        GgmlDType::Q3K => 108..110,
        GgmlDType::Q6K => 208..210,
        // Q4_0, Q5_0 and Q8_0; no others are read ([`Element::of_note`]).
        _ => 0..2,
    }
}

/// Stored blocks as a tensor on a device.
pub(super) fn blocks(
    kind: GgmlDType,
    stored: &[u8],
    shape: &[usize],
    device: &Device,
) -> Result<QTensor> {
    let row = shape.last().copied().unwrap_or(1);
    let elements: usize = shape.iter().product();
    let bytes = elements / kind.block_size() * kind.type_size();
    if !row.is_multiple_of(kind.block_size()) || bytes != stored.len() {
        candle_core::bail!(
            "{} bytes of {kind:?} are no tensor of shape {shape:?}",
            stored.len()
        );
    }
    // The framework reads the bytes as blocks where they lie, and these may begin with a 32-bit float.
    if stored.as_ptr().align_offset(4) == 0 {
        return ggml_file::qtensor_from_ggml(kind, stored, shape.to_vec(), device);
    }
    let mut aligned = vec![0_u8; stored.len() + 3];
    let start = aligned.as_ptr().align_offset(4);
    let aligned = &mut aligned[start..start + stored.len()];
    aligned.copy_from_slice(stored);
    ggml_file::qtensor_from_ggml(kind, aligned, shape.to_vec(), device)
}
