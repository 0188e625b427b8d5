//! What is wrong with GGUF files and with what is asked of them.

use std::io;
use std::path::PathBuf;

use super::header::{MAX_HEADER_BYTES, MAX_TENSOR_DIMENSIONS};
use super::metadata::MAX_NESTING;
use super::types::GgmlType;

/// Why a file cannot be read as a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is no GGUF file, a broken one, or one that Vox cannot convert.
    #[error("{}: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        fault: GgufFault,
    },
}

/// What is wrong with a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufFault {
    /// The file starts as another format does.
    #[error("it is no GGUF file: it begins with {found:?} and not with \"GGUF\"")]
    Magic {
        /// The first bytes.
        found: [u8; 4],
    },
    /// The version is not one that is read.
    #[error(
        "it is of GGUF version {version}, and Vox reads 2 and 3; convert it anew with a current \
         llama.cpp"
    )]
    Version {
        /// The version.
        version: u32,
    },
    /// The numbers in it are big-endian.
    #[error("it is a big-endian GGUF file; `gguf_convert_endian.py` of llama.cpp converts it")]
    BigEndian,
    /// The file ends within its header.
    #[error("it ends within {what}; it is cut off")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// The header is larger than any vocabulary needs.
    #[error("its header passes {MAX_HEADER_BYTES} bytes, which no model needs")]
    HeaderTooLarge,
    /// A count says more than the file has room for.
    #[error("it claims {count} {what}, more than it has room for or any model needs")]
    Count {
        /// What is counted.
        what: &'static str,
        /// The claimed count.
        count: u64,
    },
    /// A text reaches past the end of the file, or the largest header.
    #[error("a text of {len} bytes in {what} reaches past the end of the file")]
    TextTooLong {
        /// Where the text stands.
        what: &'static str,
        /// Its claimed length.
        len: u64,
    },
    /// A text is not UTF-8.
    #[error("a text in {what} is not UTF-8 (at byte {at} of the text)")]
    NotUtf8 {
        /// Where the text stands.
        what: String,
        /// Where its first wrong byte is.
        at: usize,
    },
    /// The number of a metadata type is unknown.
    #[error("the metadata key `{}` has type number {number}, which is none", key.escape_debug())]
    ValueType {
        /// The key.
        key: String,
        /// The number.
        number: u32,
    },
    /// A truth value is neither 0 nor 1.
    #[error("the metadata key `{}` has a truth value of {found}", key.escape_debug())]
    Bool {
        /// The key.
        key: String,
        /// The byte.
        found: u8,
    },
    /// Lists within lists, too deep.
    #[error(
        "the metadata key `{}` has lists in lists, more than {MAX_NESTING} deep", key.escape_debug()
    )]
    Nesting {
        /// The key.
        key: String,
    },
    /// A key stands twice.
    #[error("the metadata key `{}` stands twice", key.escape_debug())]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A tensor's name stands twice.
    #[error("two tensors are named `{}`", name.escape_debug())]
    DuplicateTensor {
        /// The name.
        name: String,
    },
    /// The alignment is no power of two.
    #[error("`general.alignment` is {alignment}, which is no power of two")]
    Alignment {
        /// The alignment.
        alignment: u32,
    },
    /// More dimensions than ggml has.
    #[error(
        "the tensor `{}` has {count} dimensions, and ggml has at most {MAX_TENSOR_DIMENSIONS}",
        tensor.escape_debug()
    )]
    Dimensions {
        /// The tensor.
        tensor: String,
        /// Its claimed dimensions.
        count: u32,
    },
    /// The number of an element type is unknown.
    #[error(
        "the tensor `{}` has type number {number}, which Vox does not know; it may come from a newer \
         llama.cpp", tensor.escape_debug()
    )]
    TensorType {
        /// The tensor.
        tensor: String,
        /// The number.
        number: u32,
    },
    /// The rows are no multiple of the type's block.
    #[error(
        "the tensor `{}` is of {kind}, which goes by blocks of {}, but its rows have {row} elements",
        tensor.escape_debug(), kind.block_len()
    )]
    PartialBlock {
        /// The tensor.
        tensor: String,
        /// Its type.
        kind: GgmlType,
        /// Elements of a row.
        row: u64,
    },
    /// The size passes 64 bits.
    #[error("the size of the tensor `{}` passes 64 bits", tensor.escape_debug())]
    SizeOverflow {
        /// The tensor.
        tensor: String,
    },
    /// The data stand at no multiple of the alignment.
    #[error(
        "the data of the tensor `{}` stand at {offset}, which is no multiple of {alignment}",
        tensor.escape_debug()
    )]
    Unaligned {
        /// The tensor.
        tensor: String,
        /// Its offset within the data.
        offset: u64,
        /// What it should be a multiple of.
        alignment: u32,
    },
    /// Two tensors share bytes.
    #[error(
        "the data of the tensors `{}` and `{}` overlap", first.escape_debug(), second.escape_debug()
    )]
    Overlap {
        /// The tensor that begins first.
        first: String,
        /// The one that begins before the first one ends.
        second: String,
    },
    /// Data would lie past the end of the file.
    #[error(
        "the data of the tensor `{}` end at {end}, and the file at {file}; it is cut off",
        tensor.escape_debug()
    )]
    OutOfBounds {
        /// The tensor.
        tensor: String,
        /// Where its data end in the file.
        end: u64,
        /// The file's length.
        file: u64,
    },
    /// A key that is needed is missing.
    #[error("the metadata key `{}` is missing", key.escape_debug())]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A key holds another kind of value.
    #[error("the metadata key `{}` holds {found}, where {wanted} is needed", key.escape_debug())]
    WrongValue {
        /// The key.
        key: String,
        /// What is needed.
        wanted: &'static str,
        /// What is there.
        found: String,
    },
    /// No Hugging Face form of this architecture is known.
    #[error(
        "the architecture `{}` is not one that Vox converts; it knows {}",
        architecture.escape_debug(), super::family::known()
    )]
    Architecture {
        /// `general.architecture`.
        architecture: String,
    },
    /// A tensor has no place in the Hugging Face form of its architecture.
    #[error(
        "the tensor `{}` has no place in a model of architecture `{architecture}`; it is a variant \
         that Vox does not convert", tensor.escape_debug()
    )]
    UnknownTensor {
        /// The tensor.
        tensor: String,
        /// The architecture.
        architecture: &'static str,
    },
    /// A tensor of the model is missing.
    #[error("the tensor `{tensor}` is missing; the file is one part of several, or cut by hand")]
    MissingTensor {
        /// The tensor.
        tensor: String,
    },
    /// Elements are of a type that is not dequantised.
    #[error(
        "the tensor `{}` is of {kind}, which Vox does not dequantise; keep the model quantised, or \
         take a file of another quantisation, such as Q4_K_M or Q8_0", tensor.escape_debug()
    )]
    NotDequantised {
        /// The tensor.
        tensor: String,
        /// Its type.
        kind: GgmlType,
    },
    /// The rows of queries or keys do not divide by the heads.
    #[error(
        "the tensor `{}` has {rows} rows, which do not divide into {heads} heads of an even number",
        tensor.escape_debug()
    )]
    Heads {
        /// The tensor.
        tensor: String,
        /// Its rows.
        rows: u64,
        /// The heads as the metadata have them.
        heads: u64,
    },
    /// The tokenizer is of a kind that is not rebuilt.
    #[error(
        "the tokenizer is of the kind `{}`, which Vox does not rebuild; it knows `gpt2` and `llama`. \
         Import the model without one, or give its `tokenizer.json`", model.escape_debug()
    )]
    TokenizerModel {
        /// `tokenizer.ggml.model`.
        model: String,
    },
    /// The tokenizer splits text in an unknown way.
    #[error(
        "the tokenizer splits text as `{}` does (`tokenizer.ggml.pre`), which Vox does not know; it \
         knows {known}. Import the model without one, or give its `tokenizer.json`",
        pre.escape_debug()
    )]
    PreTokenizer {
        /// `tokenizer.ggml.pre`.
        pre: String,
        /// Those that are known.
        known: String,
    },
    /// The vocabulary contradicts itself.
    #[error("the tokenizer is broken: {why}")]
    Tokenizer {
        /// In what way.
        why: String,
    },
}
