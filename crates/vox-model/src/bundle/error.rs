//! What is wrong with a bundle.

use std::io;
use std::path::PathBuf;

use vox_crypto::{Algorithm, Digest, KeyId};

use super::manifest::{Kind, MANIFEST_VERSION, MAX_FILES};

/// Why a manifest does not agree with itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestFault {
    /// It was written by a newer Vox.
    #[error(
        "it is of version {found}, and this Vox reads version {MANIFEST_VERSION}; use a newer Vox"
    )]
    Version {
        /// Its version.
        found: u32,
    },
    /// It lists too many files.
    #[error("it lists {found} files; a bundle has at most {MAX_FILES}")]
    TooManyFiles {
        /// How many.
        found: usize,
    },
    /// A path leads out of the bundle.
    #[error(
        "the path `{}` is none within a bundle: parts with `/` between them, without `..`, `\\` \
         and `:`", path.escape_debug()
    )]
    Path {
        /// The path.
        path: String,
    },
    /// Two files have one path, or paths that are one on some file systems.
    #[error("it has more than one file `{}`", path.escape_debug())]
    DuplicatePath {
        /// The path.
        path: String,
    },
    /// Its files are not in the order of their paths.
    #[error("its files are not in the order of their paths")]
    Order,
    /// A digest of a file is of another algorithm.
    #[error("the file `{}` has no {expected} digest where one belongs", path.escape_debug())]
    Algorithm {
        /// The file.
        path: String,
        /// What belongs there.
        expected: Algorithm,
    },
    /// It has no weights.
    #[error("it has no weights")]
    NoWeights,
    /// A hash does not follow from the files.
    #[error("its {name} is not that of its files")]
    Hash {
        /// Which.
        name: &'static str,
    },
    /// A checkpoint without a state of training, or something else with one.
    #[error("a {kind} bundle {} the state of a training", if *.kind == Kind::Checkpoint { "has" } else { "does not have" })]
    Training {
        /// What it is.
        kind: Kind,
    },
    /// An adapter that does not say what it changes.
    #[error("an adapter says which bundle it changes, in provenance.derived_from")]
    NoBase,
}

/// Why a bundle cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// There is no such bundle.
    #[error("there is no bundle `{}`{}", name.escape_debug(), nearest(.near))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Names that are like it.
        near: Vec<String>,
    },
    /// Several bundles are meant.
    #[error("`{}` may be {}; write more of it", name.escape_debug(), .candidates.join(" or "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// What it may be.
        candidates: Vec<String>,
    },
    /// The bundle is of another kind.
    #[error("`{}` is a {found} bundle, and a {expected} is needed", name.escape_debug())]
    WrongKind {
        /// The bundle.
        name: String,
        /// What it is.
        found: Kind,
        /// What is needed.
        expected: Kind,
    },
    /// The manifest is not one, or does not agree with itself.
    #[error("the manifest {digest} is refused: {fault}")]
    Manifest {
        /// The manifest.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        fault: ManifestFault,
    },
    /// The manifest is not signed by who it says.
    #[error(
        "the manifest {digest} is not signed by its signer {signer}: it was changed after it was \
         signed, or somebody else wrote it"
    )]
    Signature {
        /// The manifest.
        digest: Digest,
        /// Who is said to have signed.
        signer: KeyId,
    },
    /// A file of the bundle is not in the store.
    #[error(
        "the file `{}` of the bundle is not in the store ({digest}); import the bundle again", path.escape_debug()
    )]
    MissingFile {
        /// The file.
        path: String,
        /// Its name in the store.
        digest: Digest,
    },
    /// A file has other bytes than the manifest says.
    #[error(
        "the file `{}` of the bundle is not what its manifest says ({what}); import the bundle again", path.escape_debug()
    )]
    WrongFile {
        /// The file.
        path: String,
        /// What differs.
        what: &'static str,
    },
    /// A name that bundles cannot have.
    #[error(
        "`{}` cannot be the name of a bundle: 1 to 128 of a-z, A-Z, 0-9, `-`, `_`, `.` and `/`, and \
         no part of it begins with `.`", name.escape_debug()
    )]
    Name {
        /// The name.
        name: String,
    },
    /// Another bundle has the name.
    #[error(
        "`{}` is another bundle already ({existing}); choose a name with `--name`, or replace it \
         with `--force`", name.escape_debug()
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The bundle that has it.
        existing: Digest,
    },
    /// The bundle is pinned.
    #[error("`{}` is pinned; let it go first with `vox model unpin`", name.escape_debug())]
    Pinned {
        /// The bundle.
        name: String,
    },
    /// Somebody wants it no longer.
    #[error("interrupted")]
    Cancelled,
    /// A directory that is to be written is there already.
    #[error("{} is there already, and nothing is written over; name another directory", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
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
    /// The store refused something.
    #[error(transparent)]
    Store(#[from] vox_store::Error),
    /// The log refused something.
    #[error(transparent)]
    Log(#[from] vox_oplog::Error),
    /// A value cannot be encoded.
    #[error(transparent)]
    Canonical(#[from] vox_crypto::canonical::Error),
}

fn nearest(near: &[String]) -> String {
    match near {
        [] => "; `vox model ls` lists those that there are".to_owned(),
        near => format!("; like it are {}", near.join(", ")),
    }
}
