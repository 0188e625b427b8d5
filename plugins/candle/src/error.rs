//! What can go wrong with a model, its files and its use.

use std::io;
use std::path::{Path, PathBuf};

/// The results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, with the names that the user knows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the bundle could not be read or mapped.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Io {
        /// What was tried, as in `read`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A JSON file lacks a field, or the field holds something else than it should.
    #[error("{}: `{field}`: {why}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, with the fields around it: `rope_scaling.factor`.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file of the bundle is not what its name says.
    #[error("{}: {why}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where and why reading ended.
        why: String,
    },
    /// The configuration names an architecture that is not built in.
    #[error(
        "{}: the architecture `{}` is unknown; known are {known}", path.display(), found.escape_debug()
    )]
    UnknownArchitecture {
        /// The configuration.
        path: PathBuf,
        /// What it names.
        found: String,
        /// What is known.
        known: String,
    },
    /// A model of one kind was asked for what another can do.
    #[error("a model of the architecture `{found}` cannot {wanted}")]
    WrongKind {
        /// The architecture.
        found: &'static str,
        /// What was asked for, after `cannot`.
        wanted: &'static str,
    },
    /// There are no weights in the directory.
    #[error(
        "{}: there is neither `model.safetensors` nor `model.safetensors.index.json`; is this a bundle \
         of a model?", .0.display()
    )]
    NoWeights(PathBuf),
    /// A file that the index of a sharded model names is not there.
    #[error("{}: the shard `{shard}`, which holds `{tensor}`, is missing", index.display())]
    MissingShard {
        /// The index.
        index: PathBuf,
        /// The file that it names.
        shard: String,
        /// A tensor that it should hold.
        tensor: String,
    },
    /// A tensor that the architecture has is not among the weights.
    #[error("{}: the tensor `{tensor}` is missing", place.display())]
    MissingTensor {
        /// The file, or the directory where several files hold the weights.
        place: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor's shape is not what the configuration makes of it.
    #[error(
        "{}: the tensor `{tensor}` is of shape {found:?}, and by config.json it should be {wanted:?}",
        path.display()
    )]
    Shape {
        /// The file that holds it.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that the architecture gives it.
        wanted: Vec<usize>,
    },
    /// A tensor's elements are of a type that is not read here.
    #[error("{}: the tensor `{tensor}` is of type {found}, which is no type of weights", path.display())]
    ElementType {
        /// The file that holds it.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The type.
        found: String,
    },
    /// The tokenizer knows tokens for which the model has no embedding.
    #[error(
        "{}: the tokenizer has tokens up to number {highest}, and the model embeds {vocabulary}: they \
         belong to different models", path.display()
    )]
    Vocabulary {
        /// The tokenizer.
        path: PathBuf,
        /// The highest number of a token.
        highest: u32,
        /// Rows of the embedding.
        vocabulary: usize,
    },
    /// Text could not be made into tokens, or tokens into text.
    #[error("the tokenizer cannot {doing}: {why}")]
    Tokens {
        /// What was tried.
        doing: &'static str,
        /// What the tokenizer says.
        why: String,
    },
    /// A request asks for something impossible.
    #[error("`{field}`: {why}")]
    Request {
        /// The part of the request.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A device is asked for that this build or this machine does not have.
    #[error("the device `{device}` cannot be used: {why}")]
    Device {
        /// The device.
        device: String,
        /// Why.
        why: String,
    },
    /// More memory is needed than there is.
    #[error("{what} needs {needed} bytes of memory, and {available} are available")]
    Memory {
        /// What was to be loaded.
        what: String,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that there are.
        available: u64,
    },
    /// A computation failed.
    #[error("cannot {doing}: {source}")]
    Compute {
        /// What was computed, as in `run layer 3`.
        doing: String,
        /// What the framework says.
        source: candle_core::Error,
    },
}

impl Error {
    /// For `map_err` of what the system refuses.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing,
            path: path.to_path_buf(),
            source,
        }
    }

    /// For `map_err` of what a file's format breaks.
    pub fn format<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> Self {
        move |why| Self::Format {
            path: path.to_path_buf(),
            why: why.to_string(),
        }
    }

    /// For `map_err` of what the framework cannot compute.
    pub fn compute(doing: impl Into<String>) -> impl FnOnce(candle_core::Error) -> Self {
        move |source| Self::Compute {
            doing: doing.into(),
            source,
        }
    }

    /// A request whose part `field` is impossible.
    pub fn request(field: &'static str, why: impl Into<String>) -> Self {
        Self::Request {
            field,
            why: why.into(),
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(source: candle_core::Error) -> Self {
        Self::Compute {
            doing: "compute".to_owned(),
            source,
        }
    }
}
