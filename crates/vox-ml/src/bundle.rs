//! Bundles as directories, which is how a backend takes them.
//!
//! What must stay true: nothing comes of a bundle in the store before every byte of it was compared with
//! its hash. That is not remembered from one time to the next: what a disk loses changes neither the size
//! nor the time of a file, and that time is set anew when the file is used. Where it would be waited for, it
//! is done while the model is loaded.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use vox_crypto::{Digest, hash, hash_reader};
use vox_model::bundle::{BundleError, FileEntry, Kind, Manifest};
use vox_model::library::Library;
use vox_store::Store;

/// The settings of an adapter in the layout of PEFT.
const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The key in it that says which model the adapter changes.
const ADAPTER_BASE: &str = "base_model_name_or_path";

/// Files up to this size are verified before anybody sees them: the host reads some of them itself.
const SMALL_BYTES: u64 = 1 << 20;

/// A bundle as a directory.
#[derive(Debug)]
pub struct View {
    directory: PathBuf,
    manifest: Option<Manifest>,
    /// Where its files are; none for a directory of a user's own.
    store: Option<Store>,
    /// Removed at the end: links to the files in the store.
    _links: Option<tempfile::TempDir>,
}

impl View {
    /// A directory of a user's own.
    pub fn of_directory(directory: PathBuf) -> Self {
        Self {
            directory,
            manifest: None,
            store: None,
            _links: None,
        }
    }

    /// A bundle in the store by its name, its hash, or the begin of one of them, every byte verified; a text
    /// with a `/` in it, or `.`, is a directory. Nothing is copied: the directory has links to the store,
    /// which keeps the bundle meanwhile.
    ///
    /// # Errors
    ///
    /// There is no such bundle, it is damaged, or the file system refuses the links.
    pub fn of(library: &Library, name: &str) -> Result<Self, BundleError> {
        let view = Self::unverified(library, name)?;
        view.verify()?;
        Ok(view)
    }

    /// As [`View::of`], with large files that nobody has verified. They may be read; nothing may come of that
    /// before [`View::verify`] says that they are whole.
    ///
    /// # Errors
    ///
    /// As [`View::of`].
    pub fn unverified(library: &Library, name: &str) -> Result<Self, BundleError> {
        if name == "." || name == ".." || name.contains('/') {
            return Ok(Self::of_directory(PathBuf::from(name)));
        }
        let entry = library.find(name)?;
        Self::of_manifest(library.store(), entry.manifest)
    }

    /// Reads large files whole, and compares them with their hashes; small ones were verified when it was
    /// opened. Of a directory of a user's own there is nothing to compare with.
    ///
    /// # Errors
    ///
    /// [`BundleError::WrongFile`], and what keeps the store from reading.
    pub fn verify(&self) -> Result<(), BundleError> {
        let (Some(store), Some(manifest)) = (&self.store, &self.manifest) else {
            return Ok(());
        };
        let large = manifest.files.iter().filter(|file| is_large(file));
        verify(store, large)
    }

    fn of_manifest(store: &Store, manifest: Manifest) -> Result<Self, BundleError> {
        let links = tempfile::Builder::new()
            .prefix("vox-bundle-")
            .tempdir()
            .map_err(failed("create a directory in", &std::env::temp_dir()))?;
        for file in &manifest.files {
            store.hold(&file.blake3)?;
            let from = store.path_of(&file.blake3)?;
            let to = links.path().join(&file.path);
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).map_err(failed("create", parent))?;
            }
            link(&from, &to).map_err(failed("link to", &to))?;
        }
        let small = manifest.files.iter().filter(|file| !is_large(file));
        verify(store, small)?;
        Ok(Self {
            directory: links.path().to_owned(),
            manifest: Some(manifest),
            store: Some(store.clone()),
            _links: Some(links),
        })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the store says of it; none for a directory of a user's own.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Its hash, where it is in the store.
    pub fn bundle_hash(&self) -> Option<Digest> {
        self.manifest.as_ref().map(|manifest| manifest.bundle_hash)
    }

    /// What names its content: its hash in the store, or a hash over the files of a user's own directory, which
    /// reads them whole.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn content(&self) -> Result<Digest, crate::Error> {
        if let Some(hash) = self.bundle_hash() {
            return Ok(hash);
        }
        let unreadable = |path: &Path, error| crate::Error::read(path)(error);
        let mut names = Vec::new();
        let entries = fs::read_dir(&self.directory);
        for entry in entries.map_err(|error| unreadable(&self.directory, error))? {
            let entry = entry.map_err(|error| unreadable(&self.directory, error))?;
            if entry.path().is_file() {
                names.push(entry.file_name());
            }
        }
        names.sort_unstable();
        let mut listing = String::new();
        for name in names {
            let path = self.directory.join(&name);
            let file = fs::File::open(&path).map_err(|error| unreadable(&path, error))?;
            let hash = hash_reader(file).map_err(|error| unreadable(&path, error))?;
            // Writing to a `String` cannot fail.
            let _ = writeln!(listing, "{hash} {name:?}");
        }
        Ok(hash(listing.as_bytes()))
    }

    /// Whether it is an adapter, whose weights change those of another bundle.
    pub fn is_adapter(&self) -> bool {
        match &self.manifest {
            Some(manifest) => manifest.kind == Kind::Adapter,
            None => self.directory.join(ADAPTER_CONFIG).exists(),
        }
    }

    /// What an adapter calls the bundle that it changes, for [`View::of`]: what its manifest says, or else its
    /// `adapter_config.json`, in which others write names of their own.
    pub fn base(&self) -> Option<String> {
        let derived = self
            .manifest()
            .and_then(|manifest| manifest.provenance.derived_from);
        if let Some(base) = derived {
            return Some(base.to_string());
        }
        let text = fs::read_to_string(self.directory.join(ADAPTER_CONFIG)).ok()?;
        let config: Value = serde_json::from_str(&text).ok()?;
        Some(config.get(ADAPTER_BASE)?.as_str()?.to_owned())
    }

    /// Writes into the settings of an adapter in `directory`, where there is one, that it changes this bundle: by
    /// its hash, or by its directory where it is not in the store.
    ///
    /// # Errors
    ///
    /// The settings cannot be read or written.
    pub fn name_as_base_of(&self, directory: &Path) -> Result<(), crate::Error> {
        let path = directory.join(ADAPTER_CONFIG);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            text => text.map_err(crate::Error::read(&path))?,
        };
        let wrong = |message: String| crate::Error::ModelFile {
            path: path.clone(),
            message,
        };
        let mut config: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let name = match self.bundle_hash() {
            Some(hash) => hash.to_string(),
            None => {
                let directory = self.directory.canonicalize();
                let directory = directory.unwrap_or_else(|_| self.directory.clone());
                directory.to_string_lossy().into_owned()
            }
        };
        config.insert(ADAPTER_BASE.to_owned(), Value::String(name));
        let text = format!("{:#}\n", Value::Object(config));
        fs::write(&path, text).map_err(|error| wrong(error.to_string()))
    }
}

fn is_large(file: &FileEntry) -> bool {
    file.len > SMALL_BYTES
}

/// Compares files with their hashes.
fn verify<'a>(
    store: &Store,
    files: impl IntoIterator<Item = &'a FileEntry>,
) -> Result<(), BundleError> {
    for file in files {
        store.verify(&file.blake3).map_err(|error| match error {
            vox_store::Error::Corrupt { .. } => BundleError::WrongFile {
                path: file.path.clone(),
                what: "its BLAKE3",
            },
            error => error.into(),
        })?;
    }
    Ok(())
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ()))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BundleError {
    let path = path.to_owned();
    move |error| BundleError::Io {
        action,
        path,
        source: error,
    }
}

/// A number in a model's `config.json`.
///
/// # Errors
///
/// The file cannot be read, or has no such number.
pub fn read_number(directory: &Path, key: &str) -> Result<u32, crate::Error> {
    let path = directory.join("config.json");
    let text = fs::read_to_string(&path).map_err(crate::Error::read(&path))?;
    let wrong = |message: String| crate::Error::ModelFile {
        path: path.clone(),
        message,
    };
    let config: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let text_config = config.get("text_config").unwrap_or(&config);
    [&config, text_config]
        .into_iter()
        .find_map(|config| config.get(key)?.as_u64())
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| wrong(format!("it has no number `{key}`")))
}
