//! What can go wrong in a store: each error names what, where and why, and says what to do next.

use std::io;
use std::path::{Path, PathBuf};

use vox_crypto::{Digest, canonical};

use crate::refs::{MAX_NAME_BYTES, MAX_NAMESPACE_BYTES, RefName};

/// What a caller's own source of roots failed with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory holds something else than a store.
    #[error(
        "{} is not a store: it holds other files; name an empty directory or one that does not exist",
        root.display()
    )]
    NotAStore {
        /// The directory.
        root: PathBuf,
    },

    /// The store was written by another version.
    #[error(
        "{} is a store of another version (`{}`, this Vox knows `{}`): use the Vox that wrote it, or \
         name another directory",
        root.display(),
        found.escape_debug(),
        crate::layout::FORMAT.trim_end()
    )]
    Format {
        /// The directory of the store.
        root: PathBuf,
        /// What its file `format` says.
        found: String,
    },

    /// The disk, or the user's part of it, is full. Nothing of what was to be written is left.
    #[error(
        "no space for {}{}: free some (`vox model gc`), or put the store on a larger disk; nothing \
         was stored",
        path.display(),
        needed.map(|bytes| format!(", which needs {bytes} bytes")).unwrap_or_default()
    )]
    NoSpace {
        /// The file that was being written.
        path: PathBuf,
        /// Bytes that it was to have, where that was known.
        needed: Option<u64>,
    },

    /// The operating system does not let this user do it.
    #[error(
        "may not {action} {}: {source}; give this user access, or name another directory",
        path.display()
    )]
    Permission {
        /// What was attempted, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// The store was opened for reading, or for reading and removing, or lies on a file system that is
    /// read-only.
    #[error(
        "the store {} can only be read: open it for writing, or use one on a writable disk",
        root.display()
    )]
    ReadOnly {
        /// The directory of the store, or the file that could not be written.
        root: PathBuf,
    },

    /// A file was written to, cut or replaced while it was imported.
    #[error(
        "{} changed while it was imported ({how}): wait until nothing writes it and import it again; \
         nothing was stored",
        path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// What was noticed.
        how: String,
    },

    /// What was to be imported is a directory, a pipe or a device.
    #[error("{} is not a regular file: name one that is", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },

    /// The file system cannot import in the way that was asked for.
    #[error(
        "cannot {how} {} into the store: {source}; import it as a copy",
        path.display()
    )]
    CannotLink {
        /// The file.
        path: PathBuf,
        /// `clone` or `hard-link`.
        how: &'static str,
        /// What the operating system said.
        source: io::Error,
    },

    /// An object is not what its name says.
    #[error(
        "{digest} is damaged: {fault} ({}); `scrub` sets it aside, then import or fetch it again",
        path.display()
    )]
    Corrupt {
        /// The name of the object.
        digest: Digest,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        fault: Fault,
    },

    /// An object is not in the store.
    #[error(
        "{digest} is not in the store{}: import or fetch it first",
        needed_by.as_ref().map(|who| format!(", and {who} needs it")).unwrap_or_default()
    )]
    Missing {
        /// The name of the object.
        digest: Digest,
        /// Who needs it, such as `ref pins/base`, where somebody does.
        needed_by: Option<String>,
    },

    /// Objects are named by BLAKE3, and this digest is another.
    #[error("{digest} names nothing in a store: objects go by their blake3 digest")]
    ForeignDigest {
        /// The digest.
        digest: Digest,
    },

    /// A node is larger than nodes may be.
    #[error(
        "a node of {len} bytes is too large, the limit is {} bytes: keep what is large as a blob and \
         link to it",
        crate::node::MAX_NODE_BYTES
    )]
    NodeTooLarge {
        /// Its size in bytes.
        len: u64,
    },

    /// A value could not be made a node, or a node is not of the type that was asked for.
    #[error("{}{source}", digest.map(|digest| format!("{digest} is another kind of node: ")).unwrap_or_default())]
    Canonical {
        /// The node, when it is in the store.
        digest: Option<Digest>,
        /// What is wrong with the value.
        source: canonical::Error,
    },

    /// A part of a blob was asked for that lies behind its end.
    #[error("{digest} has {blob} bytes: {len} bytes from byte {offset} are more than it has")]
    Range {
        /// The blob.
        digest: Digest,
        /// Where the part begins.
        offset: u64,
        /// Bytes of the part.
        len: u64,
        /// Bytes of the blob.
        blob: u64,
    },

    /// A reference cannot have this name.
    #[error(
        "`{}` cannot name a reference: names have 1 to {MAX_NAME_BYTES} bytes, \
         namespaces 1 to {MAX_NAMESPACE_BYTES}",
        name.chars().take(64).collect::<String>().escape_debug()
    )]
    BadRefName {
        /// The name or the namespace.
        name: String,
    },

    /// The file of a reference is not one that was written whole.
    #[error(
        "{} is no reference that can be read ({fault}): what it needs is unknown, so nothing is \
         removed; set it anew or remove the file",
        path.display()
    )]
    BadRef {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },

    /// A reference is not what a conditional change expected.
    #[error(
        "{} names {} and not {}: somebody changed it; read it again and decide anew",
        .0.name, or_nothing(&.0.found), or_nothing(&.0.expected)
    )]
    RefMoved(Box<Moved>),

    /// The file in which a running process says what it needs cannot be read.
    #[error(
        "{} does not say what a running process needs, so nothing is removed; end that process and \
         try again",
        path.display()
    )]
    BadLease {
        /// The file.
        path: PathBuf,
    },

    /// Others hold the store's lock, and waiting was not asked for.
    #[error("{} is in use by another process: try again, or wait for it", path.display())]
    Busy {
        /// The lock's file.
        path: PathBuf,
    },

    /// The caller's callback asked to stop.
    #[error("stopped as asked; nothing was stored or changed since")]
    Cancelled,

    /// The caller could not say what it needs.
    #[error("what is needed cannot be told, so nothing is removed: {0}")]
    Roots(BoxError),

    /// The operating system failed at something else.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A reference that is not what a conditional change expected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moved {
    /// The reference.
    pub name: RefName,
    /// What it was expected to name.
    pub expected: Option<Digest>,
    /// What it names.
    pub found: Option<Digest>,
}

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// These bytes are not those that were stored.
    Bytes {
        /// Where the part that is wrong begins, in bytes.
        offset: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// The file ends too early or too late, or another one took its place: it is wrong as a whole.
    Whole,
    /// It is a symbolic link, a directory or a device.
    NotAFile,
    /// The bytes are those that were stored, and no canonical CBOR.
    NotCanonical,
    /// The file shrank while it was read.
    Cut,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes { offset, len } => {
                write!(f, "some of the {len} bytes from byte {offset} were altered")
            }
            Self::Whole => f.write_str("its bytes are not those that were stored"),
            Self::NotAFile => f.write_str("it is no regular file"),
            Self::NotCanonical => f.write_str("it is no canonical CBOR"),
            Self::Cut => f.write_str("it was cut while it was read"),
        }
    }
}

fn or_nothing(digest: &Option<Digest>) -> String {
    digest.map_or_else(|| "nothing".into(), |digest| digest.to_string())
}

/// Sorts what the operating system said into the errors that a caller treats differently.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::NoSpace { path, needed: None }
        }
        io::ErrorKind::ReadOnlyFilesystem => Error::ReadOnly { root: path },
        io::ErrorKind::PermissionDenied => Error::Permission {
            action,
            path,
            source,
        },
        _ => Error::Io {
            action,
            path,
            source,
        },
    }
}

impl From<Error> for io::Error {
    /// For the implementations of `Read` and `Write`: the typed error is inside.
    fn from(error: Error) -> Self {
        match error {
            Error::Io { source, .. } => source,
            other => Self::other(other),
        }
    }
}
