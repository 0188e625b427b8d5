//! Files and directories as objects of the store.
//!
//! A file is a blob, a directory a node that lists its members by name, a symbolic link the text that it
//! holds. Of a file's metadata only whether it can be executed counts, so that the same content has the
//! same hash wherever and whenever it was made.
//!
//! What must stay true: the hash of what is on disk can be known without storing it; a directory that is
//! fetched is fetched whole; nothing outside the directory is followed, read or written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vox_crypto::{Digest, canonical};
use vox_store::Store;

/// The deepest directory that is taken, below which nobody makes one by intent.
const MAX_DEPTH: usize = 128;

/// A file or directory under its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// What it is.
    pub entry: Entry,
    /// Bytes of all files in it.
    pub bytes: u64,
}

/// A member of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry {
    /// A file: its content, and whether it can be executed.
    File(Digest, bool),
    /// A directory: the node that lists its members.
    Directory(Digest),
    /// A symbolic link: what it holds.
    Link(String),
}

/// The members of a directory, by name.
type Members = BTreeMap<String, Entry>;

/// Why a file or directory cannot be stored or fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// It cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is neither a file, nor a directory, nor a link.
    #[error("{} is neither a file nor a directory: {kind}", path.display())]
    Special {
        /// Where.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A name is not UTF-8.
    #[error("{} has a name that is not UTF-8", path.display())]
    Name {
        /// Where.
        path: PathBuf,
    },
    /// Directories are too deep inside each other.
    #[error("{} lies more than {MAX_DEPTH} directories deep", path.display())]
    Deep {
        /// Where.
        path: PathBuf,
    },
    /// The store cannot take more.
    #[error("the store cannot be written: {source}")]
    Keep {
        /// Why not.
        source: io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] vox_store::Error),
    /// What the store holds is no directory that Vox has stored.
    #[error("the store's directory {digest} holds a name that leads out of it: `{}`", name.escape_debug())]
    Escapes {
        /// The node.
        digest: Digest,
        /// The name.
        name: String,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArtifactError {
    let path = path.to_owned();
    move |source| ArtifactError::Io {
        action,
        path,
        source,
    }
}

impl Artifact {
    /// The hash of all of it, in hexadecimal.
    pub fn hash(&self) -> String {
        match &self.entry {
            Entry::File(digest, false) => digest.to_hex(),
            Entry::File(digest, true) => format!("{}+x", digest.to_hex()),
            Entry::Directory(digest) => format!("{}/", digest.to_hex()),
            Entry::Link(target) => format!("link:{target}"),
        }
    }

    /// What is on disk at `path`, without storing it.
    ///
    /// # Errors
    ///
    /// [`ArtifactError`].
    pub fn of(path: &Path) -> Result<Self, ArtifactError> {
        take(path, None)
    }

    /// Stores what is on disk at `path`.
    ///
    /// # Errors
    ///
    /// [`ArtifactError`].
    pub fn store(path: &Path, store: &Store) -> Result<Self, ArtifactError> {
        take(path, Some(store))
    }

    /// Makes it at `path`, where nothing is yet.
    ///
    /// # Errors
    ///
    /// [`ArtifactError`]; what was made until then stays for the caller to remove.
    pub fn fetch(&self, path: &Path, store: &Store) -> Result<(), ArtifactError> {
        give(&self.entry, path, store, 0)
    }
}

fn take(path: &Path, store: Option<&Store>) -> Result<Artifact, ArtifactError> {
    let mut bytes = 0;
    // What the plan names may be a link to what is meant; below it, links are links.
    let meta = fs::metadata(path).map_err(failed("read", path))?;
    let entry = entry(path, &meta, store, &mut bytes, 0)?;
    Ok(Artifact { entry, bytes })
}

fn entry(
    path: &Path,
    meta: &fs::Metadata,
    store: Option<&Store>,
    bytes: &mut u64,
    depth: usize,
) -> Result<Entry, ArtifactError> {
    if depth > MAX_DEPTH {
        return Err(ArtifactError::Deep { path: path.into() });
    }
    let kind = meta.file_type();
    if kind.is_file() {
        *bytes += meta.len();
        let digest = match store {
            Some(store) => {
                let mut writer = store.writer()?;
                let mut file = File::open(path).map_err(failed("open", path))?;
                let mut piece = vec![0; 256 << 10];
                loop {
                    let read = file.read(&mut piece).map_err(failed("read", path))?;
                    if read == 0 {
                        break;
                    }
                    writer
                        .write_all(&piece[..read])
                        .map_err(|source| ArtifactError::Keep { source })?;
                }
                writer.commit()?.digest
            }
            None => {
                let file = File::open(path).map_err(failed("open", path))?;
                vox_crypto::hash_reader(file).map_err(failed("read", path))?
            }
        };
        return Ok(Entry::File(digest, is_executable(meta)));
    }
    if kind.is_symlink() {
        let target = fs::read_link(path).map_err(failed("read", path))?;
        let target = target.into_os_string().into_string();
        let target = target.map_err(|_| ArtifactError::Name { path: path.into() })?;
        return Ok(Entry::Link(target));
    }
    if !kind.is_dir() {
        return Err(ArtifactError::Special {
            path: path.into(),
            kind: "a device, a socket or a pipe",
        });
    }
    let mut members = Members::new();
    for member in fs::read_dir(path).map_err(failed("list", path))? {
        let member = member.map_err(failed("list", path))?;
        let place = member.path();
        let name = member.file_name().into_string();
        let name = name.map_err(|_| ArtifactError::Name {
            path: place.clone(),
        })?;
        let meta = fs::symlink_metadata(&place).map_err(failed("read", &place))?;
        members.insert(name, entry(&place, &meta, store, bytes, depth + 1)?);
    }
    let digest = match store {
        Some(store) => store.put_node(&members)?,
        None => {
            let encoded = canonical::encode(&members);
            // A table of texts and digests can be encoded.
            vox_crypto::hash(&encoded.unwrap_or_default())
        }
    };
    Ok(Entry::Directory(digest))
}

fn give(entry: &Entry, path: &Path, store: &Store, depth: usize) -> Result<(), ArtifactError> {
    if depth > MAX_DEPTH {
        return Err(ArtifactError::Deep { path: path.into() });
    }
    match entry {
        Entry::File(digest, executable) => {
            let mut blob = store.get(digest)?;
            let mut file = File::create_new(path).map_err(failed("create", path))?;
            let mut piece = vec![0; 256 << 10];
            loop {
                let read = blob.read(&mut piece).map_err(failed("fetch", path))?;
                if read == 0 {
                    break;
                }
                file.write_all(&piece[..read])
                    .map_err(failed("write", path))?;
            }
            if *executable {
                make_executable(&file).map_err(failed("change the mode of", path))?;
            }
            Ok(())
        }
        Entry::Link(target) => link(target, path).map_err(failed("create", path)),
        Entry::Directory(digest) => {
            fs::create_dir(path).map_err(failed("create", path))?;
            let members: Members = store.get_node(digest)?;
            for (name, entry) in &members {
                if name.is_empty()
                    || matches!(name.as_str(), "." | "..")
                    || name.contains(['/', '\0'])
                {
                    return Err(ArtifactError::Escapes {
                        digest: *digest,
                        name: name.clone(),
                    });
                }
                give(entry, &path.join(name), store, depth + 1)?;
            }
            Ok(())
        }
    }
}

#[cfg(unix)]
fn is_executable(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    meta.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    false
}

#[cfg(unix)]
fn make_executable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut permissions = file.metadata()?.permissions();
    let mode = permissions.mode();
    // As many may execute it as may read it.
    permissions.set_mode(mode | (mode & 0o444) >> 2);
    file.set_permissions(permissions)
}

#[cfg(not(unix))]
fn make_executable(_: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn link(target: &str, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn link(_: &str, _: &Path) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "symbolic links cannot be made here",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vox_store::Options;

    fn store(world: &Path) -> Store {
        let (store, _) = Store::open(world.join("store"), Options::default()).unwrap();
        store
    }

    /// A directory with this member, as somebody may have put it into the store.
    fn forged(store: &Store, name: &str, member: Entry) -> Artifact {
        let members = Members::from([(name.to_owned(), member)]);
        Artifact {
            entry: Entry::Directory(store.put_node(&members).unwrap()),
            bytes: 0,
        }
    }

    #[test]
    fn a_directory_of_the_store_whose_names_lead_out_of_it_is_not_fetched() {
        let world = tempfile::tempdir().unwrap();
        let store = store(world.path());
        let place = world.path().join("place");
        for name in ["..", ".", "", "../out", "/out", "in/out", "a\0b"] {
            let forged = forged(&store, name, Entry::Link("nowhere".to_owned()));
            let error = forged.fetch(&place, &store).unwrap_err();
            assert!(
                matches!(error, ArtifactError::Escapes { .. }),
                "{name:?}: {error}"
            );
            // Nothing was made in it.
            fs::remove_dir(&place).unwrap();
        }
        assert_eq!(fs::read_dir(world.path()).unwrap().count(), 1);
    }

    #[test]
    fn directories_are_as_deep_as_is_allowed_on_disk_and_in_the_store() {
        let world = tempfile::tempdir().unwrap();
        let store = store(world.path());
        let made = world.path().join("made");
        let deepest = made.join(["d"; MAX_DEPTH].join("/"));
        fs::create_dir_all(&deepest).unwrap();
        let stored = Artifact::store(&made, &store).unwrap();
        let place = world.path().join("place");
        stored.fetch(&place, &store).unwrap();
        assert_eq!(Artifact::of(&place).unwrap(), stored);
        let forged = forged(&store, "d", stored.entry);
        let deeper = world.path().join("deeper");
        let refused = forged.fetch(&deeper, &store).unwrap_err();
        assert!(matches!(refused, ArtifactError::Deep { .. }), "{refused}");
        fs::create_dir(deepest.join("d")).unwrap();
        let refused = Artifact::of(&made).unwrap_err();
        assert!(matches!(refused, ArtifactError::Deep { .. }), "{refused}");
    }
}
