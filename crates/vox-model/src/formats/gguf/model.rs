//! A file as the tensors of a Hugging Face model.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::path::Path;

use super::config;
use super::error::{GgufError, GgufFault};
use super::family::{Attention, Family, Place};
use super::file::Gguf;
use super::header::StoredTensor;
use super::metadata::required;
use super::stream::{Elements, Rows, Stream};
use super::tokenizer;
use super::types::GgmlType;
use crate::{Dtype, TensorInfo, TensorSource};

/// What a model's tensors come out as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Precision {
    /// Single precision: what dequantising gives, bit for bit.
    #[default]
    F32,
    /// Each value rounded to half precision, to the nearest and ties to even.
    F16,
    /// Each value rounded to `bf16`, likewise.
    BF16,
    /// The blocks as they stand; see [`GgufModel::safetensors_metadata`].
    Quantised,
}

/// A tensor of the file that the model does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its name in the file.
    pub tensor: String,
    /// Why it has no place.
    pub why: &'static str,
}

/// A file that was rebuilt from the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The file's text, the same for the same metadata.
    pub text: String,
    /// What a user should know: what was assumed, and what could not be carried over.
    pub notes: Vec<String>,
}

/// A GGUF file whose tensors have the names, the layout and the values that the model has at Hugging
/// Face: what llama.cpp's converter did to them is undone.
#[derive(Debug)]
pub struct GgufModel {
    gguf: Gguf,
    family: Family,
    precision: Precision,
    infos: Vec<TensorInfo>,
    parts: Vec<Part>,
    skipped: Vec<Skipped>,
}

/// How a tensor of the model comes out of the file.
#[derive(Debug)]
struct Part {
    /// Its number in the file.
    stored: usize,
    rows: Rows,
    elements: Elements,
}

impl GgufModel {
    /// Opens a file; only its header is read.
    ///
    /// # Errors
    ///
    /// [`GgufError`]: also for an unknown architecture, and for tensors that are missing, unknown or
    /// of a type that is not dequantised.
    pub fn open(path: &Path, precision: Precision) -> Result<Self, GgufError> {
        Self::new(Gguf::open(path)?, precision)
    }

    /// A file that is open already.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn new(gguf: Gguf, precision: Precision) -> Result<Self, GgufError> {
        let family = config::family(gguf.metadata()).map_err(|fault| gguf.fault(fault))?;
        let mut model = Self {
            gguf,
            family,
            precision,
            infos: Vec::new(),
            parts: Vec::new(),
            skipped: Vec::new(),
        };
        match model.place_all() {
            Ok(()) => Ok(model),
            Err(fault) => Err(model.gguf.fault(fault)),
        }
    }

    fn place_all(&mut self) -> Result<(), GgufFault> {
        let metadata = self.gguf.metadata();
        let prefix = self.family.architecture();
        if metadata
            .whole("split.count")?
            .is_some_and(|count| count > 1)
        {
            return Err(GgufFault::WrongValue {
                key: "split.count".to_owned(),
                wanted: "a file that is whole (`llama-gguf-split --merge` joins the parts)",
                found: "one of several parts".to_owned(),
            });
        }
        let key = format!("{prefix}.block_count");
        let blocks = required(&key, metadata.whole(&key)?)?;
        let stored = self.gguf.tensors().iter();
        let names: HashSet<&str> = stored.map(|tensor| tensor.name.as_str()).collect();
        for tensor in self.family.required(blocks) {
            if !names.contains(tensor.as_str()) {
                return Err(GgufFault::MissingTensor { tensor });
            }
        }
        for (stored, tensor) in self.gguf.tensors().iter().enumerate() {
            match self.family.place(&tensor.name, blocks)? {
                Place::Skipped(why) => self.skipped.push(Skipped {
                    tensor: tensor.name.clone(),
                    why,
                }),
                Place::Model { name, attention } => {
                    let rows = self.rows(tensor, attention)?;
                    let (info, elements) = self.shown(tensor, name)?;
                    self.infos.push(info);
                    self.parts.push(Part {
                        stored,
                        rows,
                        elements,
                    });
                }
            }
        }
        Ok(())
    }

    /// The order in which a tensor's rows come out.
    fn rows(&self, tensor: &StoredTensor, attention: Option<Attention>) -> Result<Rows, GgufFault> {
        let Some(attention) = attention.filter(|_| self.family.interleaves_heads()) else {
            return Ok(Rows::AsStored);
        };
        let heads = config::heads(self.gguf.metadata(), self.family)?;
        let heads = match attention {
            Attention::Queries => heads.queries,
            Attention::Keys => heads.keys,
        };
        // A bias is one row whose elements stand for the rows of its weight.
        let rows = match tensor.shape.as_slice() {
            [elements] => *elements,
            _ => tensor.rows(),
        };
        let fault = || GgufFault::Heads {
            tensor: tensor.name.clone(),
            rows,
            heads,
        };
        let head = rows.checked_div(heads).ok_or_else(fault)?;
        let divides = heads.checked_mul(head) == Some(rows) && head % 2 == 0 && head > 0;
        let is_bias_in_blocks = tensor.shape.len() == 1 && tensor.kind.is_quantised();
        if !divides || is_bias_in_blocks {
            return Err(fault());
        }
        Ok(Rows::Halves(head))
    }

    /// What a tensor is in the model, and what is done to its elements.
    fn shown(
        &self,
        tensor: &StoredTensor,
        name: String,
    ) -> Result<(TensorInfo, Elements), GgufFault> {
        let less = if self.family.stores_norms_plus_one() && name.ends_with("norm.weight") {
            1.0
        } else {
            0.0
        };
        let own = unquantised(tensor.kind);
        let (dtype, elements) = match self.precision {
            Precision::F32 => (Dtype::F32, Elements::F32 { less }),
            Precision::F16 => (Dtype::F16, Elements::F16 { less }),
            Precision::BF16 => (Dtype::BF16, Elements::BF16 { less }),
            Precision::Quantised if less != 0.0 => (Dtype::F32, Elements::F32 { less }),
            Precision::Quantised => (own.unwrap_or(Dtype::U8), Elements::AsStored),
        };
        let as_stored = elements == Elements::AsStored || (own == Some(dtype) && less == 0.0);
        if !as_stored && !tensor.kind.is_dequantised() {
            return Err(GgufFault::NotDequantised {
                tensor: tensor.name.clone(),
                kind: tensor.kind,
            });
        }
        let shape = if dtype == Dtype::U8 {
            vec![tensor.rows(), tensor.row_bytes()]
        } else {
            tensor.shape.clone()
        };
        let elements = if as_stored {
            Elements::AsStored
        } else {
            elements
        };
        Ok((TensorInfo { name, dtype, shape }, elements))
    }

    /// The file.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The family that the model is of.
    pub fn family(&self) -> Family {
        self.family
    }

    /// What the tensors come out as.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Tensors of the file that the model does not have.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The tensor of the file that tensor number `index` of the model comes from.
    pub fn stored(&self, index: usize) -> Option<&StoredTensor> {
        let part = self.parts.get(index)?;
        self.gguf.tensors().get(part.stored)
    }

    /// Number of the model's parameters, whatever they are stored as.
    pub fn parameters(&self) -> u64 {
        let stored = (0..self.parts.len()).filter_map(|index| self.stored(index));
        stored.fold(0, |sum, tensor| {
            let count = tensor.rows().saturating_mul(tensor.row_len());
            count.saturating_add(sum)
        })
    }

    /// The name of the mix of types that the file was quantised to, such as `Q4_K_M`, where
    /// `general.file_type` says so.
    pub fn quantisation(&self) -> Option<&'static str> {
        let number = self.gguf.metadata().whole("general.file_type").ok()??;
        config::file_type(number)
    }

    /// What should stand under `__metadata__` of the SafeTensors file that the tensors go into.
    ///
    /// Besides `format`, for each tensor that is kept as blocks, a key `ggml.` and its name, with
    /// the type and the shape in elements: `ggml.lm_head.weight` is `Q8_0 49152 576`. Such a tensor
    /// is of [`Dtype::U8`] with the shape of its rows and the bytes of a row, which are blocks of
    /// ggml one after another.
    pub fn safetensors_metadata(&self) -> BTreeMap<String, String> {
        let mut metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        for (index, info) in self.infos.iter().enumerate() {
            if let Some(stored) = self.stored(index)
                && info.dtype == Dtype::U8
            {
                let mut text = stored.kind.name().to_owned();
                for dimension in &stored.shape {
                    text = format!("{text} {dimension}");
                }
                metadata.insert(format!("ggml.{}", info.name), text);
            }
        }
        metadata
    }

    /// `config.json`.
    ///
    /// # Errors
    ///
    /// Keys that are missing or hold something else.
    pub fn config(&self) -> Result<Rebuilt, GgufError> {
        config::rebuild(self)
    }

    /// `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// [`GgufFault::TokenizerModel`], [`GgufFault::PreTokenizer`], [`GgufFault::Tokenizer`], and keys
    /// that are missing or hold something else.
    pub fn tokenizer(&self) -> Result<Rebuilt, GgufError> {
        tokenizer::rebuild(self).map_err(|fault| self.gguf.fault(fault))
    }

    /// `tokenizer_config.json`, with the special tokens and the chat template.
    ///
    /// # Errors
    ///
    /// As [`tokenizer`](Self::tokenizer).
    pub fn tokenizer_config(&self) -> Result<Rebuilt, GgufError> {
        tokenizer::rebuild_config(self).map_err(|fault| self.gguf.fault(fault))
    }
}

impl TensorSource for GgufModel {
    fn tensors(&self) -> &[TensorInfo] {
        &self.infos
    }

    fn write_tensor(&self, index: usize, out: &mut dyn Write) -> io::Result<()> {
        let part = self.parts.get(index);
        let part = part.unwrap_or_else(|| panic!("there is no tensor number {index}"));
        let tensor = self.gguf.tensors().get(part.stored);
        let tensor = tensor.unwrap_or_else(|| panic!("there is no tensor number {index}"));
        Stream {
            gguf: &self.gguf,
            tensor,
            rows: part.rows,
            elements: part.elements,
        }
        .write(out)
    }
}

/// The same type without blocks, where it is one.
fn unquantised(kind: GgmlType) -> Option<Dtype> {
    match kind {
        GgmlType::F32 => Some(Dtype::F32),
        GgmlType::F16 => Some(Dtype::F16),
        GgmlType::BF16 => Some(Dtype::BF16),
        GgmlType::F64 => Some(Dtype::F64),
        GgmlType::I8 => Some(Dtype::I8),
        GgmlType::I16 => Some(Dtype::I16),
        GgmlType::I32 => Some(Dtype::I32),
        GgmlType::I64 => Some(Dtype::I64),
        _ => None,
    }
}
