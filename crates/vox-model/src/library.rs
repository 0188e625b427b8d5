//! The bundles of a store by their names.
//!
//! A name is a ref in the namespace `models` to a signed manifest; a pin is one of the same name in the
//! namespace `pins`. What must stay true: a name leads to a manifest that was verified before the name
//! was given, and is verified again whenever it is followed.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use vox_crypto::{Algorithm, Digest, Hasher};
use vox_store::{Class, PINS, Store};

use crate::bundle::{Bundle, BundleError, FileEntry, Manifest, SignedManifest};
use crate::formats::safetensors::{Header, MAX_HEADER_BYTES};
use crate::progress::Progress;
use crate::tensor::TensorInfo;

/// Where names stand in the store.
pub const MODELS: &str = "models";

/// Bytes that are read at once where a bundle is verified or written out.
const BUFFER_BYTES: usize = 1 << 20;

/// The bundles of a store.
#[derive(Debug, Clone)]
pub struct Library {
    store: Store,
}

/// A bundle by its name.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name; none for a bundle that was found by its hash and has none.
    pub name: Option<String>,
    /// The signed manifest.
    pub digest: Digest,
    /// What it says.
    pub manifest: Manifest,
    /// Whether it is kept whatever the store needs room for.
    pub pinned: bool,
}

impl Entry {
    /// What to call it.
    pub fn title(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.digest.to_string())
    }
}

/// A name, and what it leads to if that is in order.
#[derive(Debug)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The signed manifest.
    pub digest: Digest,
    /// The bundle.
    pub entry: Result<Entry, BundleError>,
}

impl Library {
    /// The bundles of this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Every name, in order. One that leads to something broken is listed with what is wrong.
    ///
    /// # Errors
    ///
    /// [`BundleError::Store`] when the names cannot be read.
    pub fn list(&self) -> Result<Vec<Named>, BundleError> {
        let refs = self.store.refs(MODELS)?;
        let named = refs.into_iter().map(|reference| {
            let (name, digest) = (reference.name.name().to_owned(), reference.digest);
            let entry = self.entry(Some(name.clone()), digest);
            Named {
                name,
                digest,
                entry,
            }
        });
        Ok(named.collect())
    }

    /// The bundle that a user means: by its name, its `bundle_hash`, the digest of its manifest, or the
    /// begin of one of these.
    ///
    /// # Errors
    ///
    /// [`BundleError::Unknown`] and [`BundleError::Ambiguous`], and what is wrong with the one found.
    pub fn find(&self, text: &str) -> Result<Entry, BundleError> {
        if let Ok(checked) = check_name(text)
            && let Some(reference) = self.store.get_ref(MODELS, checked)?
        {
            return self.entry(Some(text.to_owned()), reference.digest);
        }
        let named = self.list()?;
        if let Ok(digest) = text.parse::<Digest>()
            && digest.algorithm() == Algorithm::Blake3
        {
            let name = named
                .iter()
                .find(|named| named.digest == digest)
                .map(|named| named.name.clone());
            return match self.entry(name, digest) {
                Err(BundleError::Store(vox_store::Error::Missing { .. })) => {
                    Err(unknown(text, &named))
                }
                found => found,
            };
        }
        let means = |named: &&Named| {
            let hash = |entry: &Entry| entry.manifest.bundle_hash.to_string().starts_with(text);
            named.name.starts_with(text)
                || text.contains(':')
                    && (named.digest.to_string().starts_with(text)
                        || named.entry.as_ref().is_ok_and(hash))
        };
        let meant: Vec<_> = named.iter().filter(means).collect();
        let (Some(first), false) = (meant.first(), text.is_empty()) else {
            return Err(unknown(text, &named));
        };
        if meant.iter().any(|other| other.digest != first.digest) {
            let candidates = meant
                .iter()
                .map(|named| format!("`{}`", named.name))
                .collect();
            return Err(BundleError::Ambiguous {
                name: text.to_owned(),
                candidates,
            });
        }
        self.entry(Some(first.name.clone()), first.digest)
    }

    /// The bundle that a user means, of the kind that is needed.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find), and [`BundleError::WrongKind`].
    pub fn open<B: Bundle>(&self, text: &str) -> Result<B, BundleError> {
        let Entry {
            digest, manifest, ..
        } = self.find(text)?;
        let found = manifest.kind;
        B::of(digest, manifest).ok_or_else(|| BundleError::WrongKind {
            name: text.to_owned(),
            found,
            expected: B::KIND,
        })
    }

    /// The bundle of a signed manifest, verified.
    ///
    /// # Errors
    ///
    /// What is wrong with it; [`BundleError::Store`] when it is not there.
    pub fn entry(&self, name: Option<String>, digest: Digest) -> Result<Entry, BundleError> {
        let signed: SignedManifest = self.store.get_node(&digest)?;
        signed.verify(digest)?;
        let pinned = match &name {
            Some(name) => self
                .store
                .get_ref(PINS, name)?
                .is_some_and(|pin| pin.digest == digest),
            None => false,
        };
        Ok(Entry {
            name,
            digest,
            manifest: signed.manifest,
            pinned,
        })
    }

    /// Makes a bundle visible under a name: stores its manifest and sets the name.
    ///
    /// # Errors
    ///
    /// [`BundleError::NameTaken`] when another bundle has the name and it is not to be `replaced`,
    /// [`BundleError::Pinned`] when that one is pinned, [`BundleError::Name`], and what the store refuses.
    pub fn publish(
        &self,
        name: &str,
        signed: &SignedManifest,
        replace: bool,
    ) -> Result<Digest, BundleError> {
        check_name(name)?;
        if let Some(existing) = self.store.get_ref(MODELS, name)? {
            let same = self.store.get_node::<SignedManifest>(&existing.digest);
            let is_same =
                same.is_ok_and(|same| same.manifest.bundle_hash == signed.manifest.bundle_hash);
            if !is_same && self.store.get_ref(PINS, name)?.is_some() {
                return Err(BundleError::Pinned {
                    name: name.to_owned(),
                });
            }
            if !is_same && !replace {
                return Err(BundleError::NameTaken {
                    name: name.to_owned(),
                    existing: existing.digest,
                });
            }
        }
        let digest = self.store.put_node(signed)?;
        self.store
            .set_ref(MODELS, name, &digest, Class::Evictable)?;
        Ok(digest)
    }

    /// Lets a name go. What it led to stays until garbage is collected, if nothing else needs it.
    ///
    /// # Errors
    ///
    /// [`BundleError::Pinned`], [`BundleError::Unknown`].
    pub fn remove(&self, name: &str) -> Result<(), BundleError> {
        if self.store.get_ref(PINS, name)?.is_some() {
            return Err(BundleError::Pinned {
                name: name.to_owned(),
            });
        }
        if !self.store.remove_ref(MODELS, name)? {
            return Err(unknown(name, &self.list()?));
        }
        Ok(())
    }

    /// Keeps a bundle whatever the store needs room for.
    ///
    /// # Errors
    ///
    /// [`BundleError::Store`].
    pub fn pin(&self, name: &str, digest: &Digest) -> Result<(), BundleError> {
        Ok(self.store.pin(name, digest)?)
    }

    /// Lets a pinned bundle go; whether it was pinned.
    ///
    /// # Errors
    ///
    /// [`BundleError::Store`].
    pub fn unpin(&self, name: &str) -> Result<bool, BundleError> {
        Ok(self.store.unpin(name)?)
    }

    /// Reads every file of a bundle and compares it with both of its digests. The faults are in the
    /// order of the files; none means that the bundle is whole.
    ///
    /// # Errors
    ///
    /// [`BundleError::Cancelled`].
    pub fn verify(
        &self,
        manifest: &Manifest,
        progress: &dyn Progress,
    ) -> Result<Vec<BundleError>, BundleError> {
        progress.begin("verifying", Some(manifest.len()));
        let waiting = Mutex::new(manifest.files.iter().enumerate().collect::<VecDeque<_>>());
        let faults = Mutex::new(Vec::new());
        let work = || {
            loop {
                let next = lock(&waiting).pop_front();
                let Some((place, file)) = next else { return };
                if let Err(fault) = self.verify_file(file, progress) {
                    lock(&faults).push((place, fault));
                }
            }
        };
        // SHA3-512 is a chain within a file, so threads share out files.
        let threads = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(manifest.files.len());
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        progress.end();
        if progress.is_cancelled() {
            return Err(BundleError::Cancelled);
        }
        let mut faults = faults
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        faults.sort_by_key(|(place, _)| *place);
        Ok(faults.into_iter().map(|(_, fault)| fault).collect())
    }

    fn verify_file(&self, file: &FileEntry, progress: &dyn Progress) -> Result<(), BundleError> {
        let wrong = |what| BundleError::WrongFile {
            path: file.path.clone(),
            what,
        };
        let mut hasher = Hasher::of(Algorithm::Sha3_512);
        let len = self.read(file, progress, &mut hasher)?;
        if len != file.len {
            return Err(wrong("its length"));
        }
        if hasher.finish() != file.sha3_512 {
            return Err(wrong("its SHA3-512"));
        }
        Ok(())
    }

    /// Hands the bytes of a file, each verified, to a writer; answers how many there were.
    fn read(
        &self,
        file: &FileEntry,
        progress: &dyn Progress,
        out: &mut dyn Write,
    ) -> Result<u64, BundleError> {
        let mut reader = match self.store.get(&file.blake3) {
            Err(vox_store::Error::Missing { digest, .. }) => {
                return Err(BundleError::MissingFile {
                    path: file.path.clone(),
                    digest,
                });
            }
            reader => reader?,
        };
        let failed = |action| {
            let path = PathBuf::from(&file.path);
            // What the store has to say comes within the error of the reader.
            move |error: io::Error| match error.downcast::<vox_store::Error>() {
                Ok(error) => BundleError::Store(error),
                Err(source) => BundleError::Io {
                    action,
                    path,
                    source,
                },
            }
        };
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut len = 0;
        loop {
            if progress.is_cancelled() {
                return Err(BundleError::Cancelled);
            }
            let read = reader.read(&mut buffer).map_err(failed("read"))?;
            if read == 0 {
                return Ok(len);
            }
            out.write_all(&buffer[..read]).map_err(failed("write"))?;
            len += read as u64;
            progress.advance(read as u64);
        }
    }

    /// The tensors of a file of weights, by its header, which is verified.
    ///
    /// # Errors
    ///
    /// [`BundleError::WrongFile`] when it is no SafeTensors file, and what the store refuses.
    pub fn tensors(&self, file: &FileEntry) -> Result<Vec<TensorInfo>, BundleError> {
        let wrong = |what| BundleError::WrongFile {
            path: file.path.clone(),
            what,
        };
        let mut reader = self.store.get(&file.blake3)?;
        let prefix = reader.read_range(0, 8.min(file.len))?;
        let prefix = prefix
            .first_chunk::<8>()
            .ok_or_else(|| wrong("it is too short"))?;
        let len = u64::from_le_bytes(*prefix);
        if len > MAX_HEADER_BYTES || len.saturating_add(8) > file.len {
            return Err(wrong("its header is longer than it"));
        }
        let bytes = reader.read_range(0, 8 + len)?;
        let header = Header::parse(&bytes, file.len).map_err(|_| wrong("its header"))?;
        Ok(header.tensors().to_vec())
    }

    /// Writes a bundle's files to a new directory. It appears once all of them are in it.
    ///
    /// # Errors
    ///
    /// [`BundleError::Exists`], what is wrong with a file, and what the file system refuses.
    pub fn export(
        &self,
        manifest: &Manifest,
        directory: &Path,
        progress: &dyn Progress,
    ) -> Result<(), BundleError> {
        if fs::symlink_metadata(directory).is_ok() {
            return Err(BundleError::Exists {
                path: directory.to_path_buf(),
            });
        }
        let parent = match directory.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(failed("create", parent))?;
        let unfinished = tempfile::Builder::new()
            .prefix(".vox-export-")
            .tempdir_in(parent)
            .map_err(failed("create a directory in", parent))?;
        progress.begin("writing", Some(manifest.len()));
        for file in &manifest.files {
            self.export_file(file, unfinished.path(), progress)?;
        }
        progress.end();
        // A directory that came to be in the meantime is not replaced.
        fs::rename(unfinished.path(), directory).map_err(failed("create", directory))?;
        let _ = unfinished.keep();
        open_to_all(directory);
        fs::File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(failed("write", parent))
    }

    fn export_file(
        &self,
        file: &FileEntry,
        directory: &Path,
        progress: &dyn Progress,
    ) -> Result<(), BundleError> {
        let path = directory.join(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed("create", parent))?;
        }
        let mut out = fs::File::create_new(&path).map_err(failed("create", &path))?;
        self.read(file, progress, &mut out)?;
        out.sync_all().map_err(failed("write", &path))
    }
}

/// A temporary directory is for its owner alone; what was asked for is as any other directory.
fn open_to_all(directory: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o755));
    }
    #[cfg(not(unix))]
    let _ = directory;
}

/// The name, if bundles can have it.
///
/// # Errors
///
/// [`BundleError::Name`].
pub fn check_name(name: &str) -> Result<&str, BundleError> {
    let is_letter =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '/');
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.');
    if name.len() <= 128 && name.chars().all(is_letter) && name.split('/').all(is_part) {
        return Ok(name);
    }
    Err(BundleError::Name {
        name: name.to_owned(),
    })
}

fn unknown(name: &str, named: &[Named]) -> BundleError {
    let wanted = name.to_lowercase();
    let mut near: Vec<_> = named
        .iter()
        .map(|named| {
            (
                strsim::jaro_winkler(&named.name.to_lowercase(), &wanted),
                &named.name,
            )
        })
        .filter(|(likeness, _)| *likeness > 0.75)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near = near
        .into_iter()
        .take(3)
        .map(|(_, name)| format!("`{name}`"))
        .collect();
    BundleError::Unknown {
        name: name.to_owned(),
        near,
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BundleError {
    let path = path.to_path_buf();
    move |source| BundleError::Io {
        action,
        path,
        source,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
