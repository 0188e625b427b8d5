//! Where things lie in a store, and how its files are opened, published and made durable.
//!
//! ```text
//! <root>/format                 the version of this layout
//! <root>/blobs/ab/cdef…         opaque bytes, named by their BLAKE3 digest in hexadecimal
//! <root>/blobs/ab/cdef….tree    chaining values of a blob of more than one group
//! <root>/nodes/ab/cdef…         canonical values whose texts that are digests are links
//! <root>/refs/<space>/<name>    named references
//! <root>/refs.lock              held by whoever changes a reference
//! <root>/leases/<id>            what a running process needs; it holds a lock on the file
//! <root>/tmp/<id>/…             what the process with this lease has not finished
//! <root>/quarantine/<kind>/…    what scrub found broken
//! <root>/lock                   shared at the moment of publishing, exclusive for removing
//! ```
//!
//! What must stay true: nothing is written at its place, it is renamed to it when it is whole and
//! durable; and no symbolic link in a place of the store's own is followed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use vox_crypto::{Algorithm, Digest};

use crate::error::{Error, Fault, failed};

/// The content of the file `format`.
pub(crate) const FORMAT: &str = "vox store 1\n";

/// The directories below the root.
pub(crate) const DIRECTORIES: [&str; 6] = ["blobs", "nodes", "refs", "leases", "tmp", "quarantine"];

/// The files beside them.
pub(crate) const FILES: [&str; 3] = ["format", "lock", "refs.lock"];

/// The two kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Opaque bytes.
    Blob,
    /// A canonical value that may link to others.
    Node,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Node, Self::Blob];

    /// The directory that holds objects of this kind.
    pub(crate) const fn directory(self) -> &'static str {
        match self {
            Self::Blob => "blobs",
            Self::Node => "nodes",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Blob => "blob",
            Self::Node => "node",
        })
    }
}

/// The paths of a store.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

impl Layout {
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn refs_lock(&self) -> PathBuf {
        self.root.join("refs.lock")
    }

    /// The directory in which an object of this name lies.
    pub(crate) fn shard(&self, kind: Kind, digest: &Digest) -> PathBuf {
        let hex = digest.to_hex();
        self.directory(kind.directory()).join(&hex[..2])
    }

    pub(crate) fn object(&self, kind: Kind, digest: &Digest) -> PathBuf {
        let hex = digest.to_hex();
        let mut path = self.directory(kind.directory());
        path.push(&hex[..2]);
        path.push(&hex[2..]);
        path
    }

    pub(crate) fn tree(&self, digest: &Digest) -> PathBuf {
        self.object(Kind::Blob, digest).with_extension("tree")
    }
}

/// Refuses a digest by which no object can be named.
pub(crate) fn check_name(digest: &Digest) -> Result<(), Error> {
    if digest.algorithm() == Algorithm::Blake3 {
        Ok(())
    } else {
        Err(Error::ForeignDigest { digest: *digest })
    }
}

/// The digest of the object whose file has this name in this shard.
pub(crate) fn name_of(shard: &str, file: &str) -> Option<Digest> {
    if shard.len() != 2 {
        return None;
    }
    format!("{}:{shard}{file}", Algorithm::Blake3).parse().ok()
}

/// Opens a file of the store for reading without following a symbolic link; `None` when nothing is
/// there.
pub(crate) fn open_object(path: &Path, digest: &Digest) -> Result<Option<(File, u64)>, Error> {
    let not_a_file = || Error::Corrupt {
        digest: *digest,
        path: path.into(),
        fault: Fault::NotAFile,
    };
    match open_no_follow(path) {
        Ok(Some((file, len))) => Ok(Some((file, len))),
        Ok(None) => Err(not_a_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("open", path)(error)),
    }
}

/// An open regular file and its length, or `None` when the path names something else.
pub(crate) fn open_no_follow(path: &Path) -> io::Result<Option<(File, u64)>> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;
        // Without NONBLOCK a pipe in the place of an object would be waited for.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    #[cfg(not(unix))]
    if fs::symlink_metadata(path)?.is_symlink() {
        return Ok(None);
    }
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
        // What the system says to a link that it was not to follow differs between systems.
        Err(error) => {
            return match fs::symlink_metadata(path) {
                Ok(metadata) if !metadata.is_file() => Ok(None),
                _ => Err(error),
            };
        }
    };
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some((file, metadata.len())))
}

/// Whether an object is at its place as a regular file.
pub(crate) fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// Whether anything has this name.
pub(crate) fn is_present(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Makes a directory unless it is there; says whether it is new.
pub(crate) fn make_directory(path: &Path) -> Result<bool, Error> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            check_directory(path)?;
            Ok(false)
        }
        Err(error) => Err(failed("create", path)(error)),
    }
}

/// Refuses anything but a directory of the store's own: what a link leads to may not be changed.
pub(crate) fn check_directory(path: &Path) -> Result<(), Error> {
    let metadata = fs::symlink_metadata(path).map_err(failed("open", path))?;
    if metadata.is_dir() {
        return Ok(());
    }
    Err(Error::Io {
        action: "use",
        path: path.into(),
        source: io::Error::other("it is a link or a file where the store has a directory"),
    })
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("sync", path))?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// The names in a directory of the store, sorted; none when it is not there. Names that are no
/// Unicode are shown as they can be.
pub(crate) fn names_in(path: &Path) -> Result<Vec<String>, Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        _ => check_directory(path)?,
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(failed("list", path))? {
        let entry = entry.map_err(failed("list", path))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes a file; says whether it was there.
pub(crate) fn remove_file(path: &Path) -> Result<bool, Error> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

/// A name that nobody else takes.
pub(crate) fn random_name() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::Io {
        action: "get random bytes for",
        path: "a new file".into(),
        source: io::Error::other(error.to_string()),
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
