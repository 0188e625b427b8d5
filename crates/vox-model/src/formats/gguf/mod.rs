//! [GGUF](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) files: metadata under typed keys
//! and tensors in the types of ggml, as llama.cpp reads and writes them.
//!
//! | module | owns |
//! |---|---|
//! | `header` | [`Header`]: what the first bytes of a file say, checked |
//! | `metadata` | [`Metadata`] and [`Value`]: the keys, and typed access that names the key at fault |
//! | `types` | [`GgmlType`]: the types by number, and the sizes of their blocks |
//! | `dequant` | [`dequantise`]: blocks to `f32`, with the very operations of ggml |
//! | `file` | [`Gguf`], a file whose tensors are read by range |
//! | `family` | [`Family`]: the architectures that have a Hugging Face form, and their tensors' names |
//! | `model` | [`GgufModel`]: a file as the tensors of a Hugging Face model |
//! | `config` | `config.json` from the metadata |
//! | `tokenizer` | `tokenizer.json` and `tokenizer_config.json` from the metadata |
//!
//! What must stay true: `f32` values are the same bits that the reference Python package `gguf` gives
//! (`cargo xtask reference` makes the fixtures that say so); and nothing of a file is left out
//! silently: what has no place in the Hugging Face form is refused, or reported.

mod config;
mod dequant;
mod error;
mod family;
mod file;
mod header;
mod metadata;
mod model;
mod stream;
mod tokenizer;
mod types;

pub use dequant::dequantise;
pub use error::{GgufError, GgufFault};
pub use family::Family;
pub use file::Gguf;
pub use header::{Header, MAX_HEADER_BYTES, MAX_TENSOR_DIMENSIONS, StoredTensor};
pub use metadata::{Array, MAX_NESTING, Metadata, Value};
pub use model::{GgufModel, Precision, Rebuilt, Skipped};
pub use types::GgmlType;
