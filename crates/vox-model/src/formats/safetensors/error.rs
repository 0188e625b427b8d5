//! What is wrong with SafeTensors files and with what is to be written as one.

use std::io;
use std::path::PathBuf;

use super::header::{MAX_HEADER_BYTES, MAX_RANK};
use crate::Dtype;

/// Why a file cannot be read, or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafeTensorsError {
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
    /// The file is no SafeTensors file, or a broken one.
    #[error("{} is not a valid SafeTensors file: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        fault: HeaderFault,
    },
    /// Two tensors that are to be written have one name.
    #[error("two tensors are to be written as `{}`; rename one of them", name.escape_debug())]
    SameName {
        /// The name.
        name: String,
    },
    /// A tensor that is to be written has a name that the format keeps for itself.
    #[error("no tensor can be written as `__metadata__`: that name is the header's own")]
    ReservedName,
    /// The tensors together pass what a file can hold.
    #[error("the tensor `{}` does not fit: its file would pass 2^63 bytes", name.escape_debug())]
    TooLarge {
        /// The first tensor that does not fit.
        name: String,
    },
    /// The names and metadata pass what the format allows for a header.
    #[error(
        "the header would have {bytes} bytes, where the format allows {MAX_HEADER_BYTES}; write \
         fewer tensors into one file"
    )]
    HeaderTooLarge {
        /// The header's length.
        bytes: u64,
    },
    /// An index of shards cannot be used.
    #[error("the index of shards is not valid: {why}")]
    Index {
        /// What is wrong with it.
        why: String,
    },
}

/// What is wrong with a file's header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// It is too short for any header.
    #[error("it has {len} bytes, and the length of its header alone takes 8")]
    Truncated {
        /// The file's length.
        len: u64,
    },
    /// The header would reach past the end of the file.
    #[error(
        "its header of {header} bytes is longer than the file of {file}; it is cut off, or of another format"
    )]
    LongerThanFile {
        /// The header's claimed length.
        header: u64,
        /// The file's length.
        file: u64,
    },
    /// The header is larger than the format allows.
    #[error("its header claims {bytes} bytes, where the format allows {MAX_HEADER_BYTES}")]
    TooLarge {
        /// The claimed length.
        bytes: u64,
    },
    /// The header is not text.
    #[error("its header is not UTF-8 (at byte {at})")]
    NotUtf8 {
        /// Where the first wrong byte stands in the header.
        at: usize,
    },
    /// The header does not start as an object.
    #[error("its header does not begin with `{{`")]
    NotAnObject,
    /// The header is no JSON of the form that the format prescribes.
    #[error("its header is wrong at line {line}, column {column}: {why}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What the JSON reader says.
        why: String,
    },
    /// A name stands twice.
    #[error("two of its tensors are named `{}`", name.escape_debug())]
    DuplicateTensor {
        /// The name.
        name: String,
    },
    /// A key of the metadata stands twice, or the metadata themselves do.
    #[error("its metadata have `{}` twice", key.escape_debug())]
    DuplicateMetadata {
        /// The key.
        key: String,
    },
    /// A value of the metadata is not text.
    #[error("its metadata have something else than text under `{}`", key.escape_debug())]
    MetadataNotText {
        /// The key.
        key: String,
    },
    /// The elements are of a type that is not known.
    #[error(
        "the tensor `{}` is of type `{}`, which Vox does not know; convert it to one of F32, F16, BF16",
        tensor.escape_debug(), dtype.escape_debug()
    )]
    UnknownDtype {
        /// The tensor.
        tensor: String,
        /// Its type as written.
        dtype: String,
    },
    /// There are more dimensions than any tensor has.
    #[error("the tensor `{}` has more than {MAX_RANK} dimensions", tensor.escape_debug())]
    TooManyDimensions {
        /// The tensor.
        tensor: String,
    },
    /// Shape and type give a size past 64 bits.
    #[error("the size of the tensor `{}` passes 64 bits", tensor.escape_debug())]
    SizeOverflow {
        /// The tensor.
        tensor: String,
    },
    /// The range of data is not what shape and type need.
    #[error(
        "the tensor `{}` is of {dtype} with shape {shape:?}, which takes {needed} bytes, but its \
         offsets {begin} to {end} hold another number", tensor.escape_debug()
    )]
    SizeMismatch {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<u64>,
        /// Bytes that it takes.
        needed: u64,
        /// Where its data begin, within the file's data.
        begin: u64,
        /// Where they end.
        end: u64,
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
    /// Bytes between tensors belong to none.
    #[error(
        "{bytes} bytes before the data of the tensor `{}` belong to no tensor", tensor.escape_debug()
    )]
    Hole {
        /// The tensor after the hole.
        tensor: String,
        /// The hole's size.
        bytes: u64,
    },
    /// Data would lie past the end of the file.
    #[error(
        "the data of the tensor `{}` end at {end} of {available} bytes of data; the file is cut off",
        tensor.escape_debug()
    )]
    OutOfBounds {
        /// The tensor.
        tensor: String,
        /// Where its data end.
        end: u64,
        /// Bytes of data in the file.
        available: u64,
    },
    /// Something stands after the last tensor.
    #[error("{bytes} bytes after the last tensor belong to none")]
    TrailingBytes {
        /// How many.
        bytes: u64,
    },
}
