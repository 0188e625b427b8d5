//! `trust.toml` on disk.
//!
//! Two files count, as with grants: the user's, which only [`TrustStore::change`] writes, and the
//! one that came with the distribution, which nobody writes. Changes happen under a lock and replace
//! the file in one step. A file that cannot be read is an error and is never overwritten.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use vox_contract::ManifestError;
use vox_contract::document::read_text;

use super::{SigningError, TrustStore};
use crate::directories::Directories;
use crate::platform;

impl TrustStore {
    /// All that is trusted, the files taken together. Where both know a key or a plugin, the user's
    /// counts.
    ///
    /// # Errors
    /// When one of the files is there and cannot be read, or is refused.
    pub fn load(directories: &Directories) -> Result<Self, SigningError> {
        let mut all = Self::default();
        for file in directories.trust() {
            all.merge(read(&file)?);
        }
        Ok(all)
    }

    /// What the user's own file says, without what came with the distribution.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or is refused.
    pub fn load_own(directories: &Directories) -> Result<Self, SigningError> {
        read(&own(directories))
    }

    /// Changes the user's file, and answers what `change` does.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is refused.
    pub fn change<T>(
        directories: &Directories,
        change: impl FnOnce(&mut Self) -> T,
    ) -> Result<T, SigningError> {
        let directory = &directories.data;
        fs::create_dir_all(directory).map_err(SigningError::io("create", directory))?;
        let lock_path = directory.join(".trust.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path);
        let lock = lock.map_err(SigningError::io("open", &lock_path))?;
        lock.lock().map_err(SigningError::io("lock", &lock_path))?;

        let path = own(directories);
        let before = read(&path)?;
        let mut store = before.clone();
        let answer = change(&mut store);
        if store == before {
            return Ok(answer);
        }
        let staged = directory.join(".trust.toml.new");
        let write = |text: &str| {
            let mut output = platform::create_private_file(&staged)?;
            output.write_all(text.as_bytes())?;
            output.sync_all()
        };
        write(&store.to_toml()).map_err(SigningError::io("write", &staged))?;
        fs::rename(&staged, &path).map_err(SigningError::io("write", &path))?;
        platform::sync_directory(directory).map_err(SigningError::io("write", directory))?;
        Ok(answer)
    }
}

fn own(directories: &Directories) -> PathBuf {
    directories.data.join("trust.toml")
}

/// What a file trusts; nothing when there is no file.
fn read(file: &Path) -> Result<TrustStore, SigningError> {
    match read_text(file) {
        Ok(text) => Ok(TrustStore::parse(&text, file)?),
        Err(ManifestError::Unreadable { source, .. })
            if source.kind() == io::ErrorKind::NotFound =>
        {
            Ok(TrustStore::default())
        }
        Err(error) => Err(error.into()),
    }
}
