//! Why something could not be imported.

use std::io;
use std::path::{Path, PathBuf};

use crate::bundle::BundleError;

/// Why something could not be imported. Nothing of it is visible then: neither a bundle nor a name. The one
/// exception is a log that refuses the record, which comes last: then the name is there, and importing it
/// again records it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The path is nothing that Vox can import.
    #[error(
        "{} is no model that Vox can import: {why}; it reads Hugging Face directories, SafeTensors, \
         GGUF and PyTorch files", path.display()
    )]
    NoModel {
        /// The path.
        path: PathBuf,
        /// What was looked for.
        why: String,
    },
    /// A file is not what its format says.
    #[error("{} is refused: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The index of a sharded model and its shards disagree.
    #[error("the index {} does not fit the shards: {why}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A configuration that is no JSON, or says something impossible.
    #[error("{} is refused: {why}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// An adapter whose base was not named.
    #[error(
        "this is an adapter{}; import the model that it changes and name it: `--base <name>`",
        base.as_ref().map(|base| format!(" of `{}`", base.escape_debug())).unwrap_or_default()
    )]
    NoBase {
        /// What the adapter itself calls its base.
        base: Option<String>,
    },
    /// The weights cannot be quantised on their way in.
    #[error("{} cannot be quantised: {why}", path.display())]
    Quantise {
        /// What was to be imported.
        path: PathBuf,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// Somebody wants it no longer.
    #[error("interrupted; nothing was imported")]
    Cancelled,
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
    /// The bundle cannot be made.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

impl ImportError {
    /// There are no weights at `path`.
    pub(crate) fn no_weights(path: &Path) -> Self {
        Self::NoModel {
            path: path.to_path_buf(),
            why: "it has no weights".to_owned(),
        }
    }

    /// For `map_err`: a file is not what its format says.
    pub(crate) fn format<E: std::error::Error + Send + Sync + 'static>(
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Format {
            path,
            source: Box::new(source),
        }
    }

    /// For `map_err`: the file system refused `action` with `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

impl From<vox_store::Error> for ImportError {
    fn from(error: vox_store::Error) -> Self {
        BundleError::from(error).into()
    }
}

impl From<vox_oplog::Error> for ImportError {
    fn from(error: vox_oplog::Error) -> Self {
        BundleError::from(error).into()
    }
}
