//! A file that has not arrived in full.
//!
//! `<name>.part` holds the bytes, `<name>.part.json` says of which file they are the first ones: bytes
//! are only added to those of the same address and length, and of the same entity tag or towards the same
//! expected digest. The lock on the bytes keeps a second process away and ends with its holder.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vox_crypto::{Digest, Hasher};

use super::Error;

/// Of which file the bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Origin {
    pub(super) url: String,
    /// A strong entity tag, if the server gives one.
    pub(super) etag: Option<String>,
    /// What the whole file is to have, if that is known.
    pub(super) digest: Option<Digest>,
    pub(super) len: u64,
}

impl Origin {
    /// Whether a wrong continuation would be noticed: by the server, which compares the tag, or at the
    /// end, by the digest.
    fn is_continuable(&self, url: &str, digest: Option<Digest>) -> bool {
        let same = digest.is_some() && self.digest == digest;
        self.url == url && (self.etag.is_some() || same)
    }
}

pub(super) struct Partial {
    pub(super) file: File,
    pub(super) path: PathBuf,
    sidecar: PathBuf,
    to: PathBuf,
}

impl Partial {
    /// Opens or makes the partial file beside `to`.
    pub(super) fn open(to: &Path) -> Result<Self, Error> {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(|error| Error::io("make", folder, error))?;
        }
        let (path, sidecar) = (beside(to, ".part"), beside(to, ".part.json"));
        let file = loop {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(|error| Error::io("write", &path, error))?;
            match file.try_lock() {
                // Its last holder may have finished it meanwhile: then it has its final name, and
                // nothing may happen to it any more.
                Ok(()) if is_at(&file, &path) => break file,
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: to.into() }),
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path, error)),
            }
        };
        Ok(Self {
            file,
            path,
            sidecar,
            to: to.into(),
        })
    }

    /// What the bytes are of and how many there are, if they can be continued for this address. What
    /// cannot be is emptied.
    pub(super) fn resume(
        &mut self,
        url: &str,
        digest: Option<Digest>,
    ) -> Result<Option<(Origin, u64)>, Error> {
        let len = self.file.seek(SeekFrom::End(0));
        let len = len.map_err(|error| Error::io("read", &self.path, error))?;
        let origin = self.origin();
        let fits =
            |origin: &Origin| origin.is_continuable(url, digest) && len > 0 && len <= origin.len;
        match origin.filter(fits) {
            Some(origin) => Ok(Some((origin, len))),
            None => {
                self.restart()?;
                Ok(None)
            }
        }
    }

    fn origin(&self) -> Option<Origin> {
        let mut text = Vec::new();
        let file = File::open(&self.sidecar).ok()?;
        file.take(64 << 10).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Forgets what has arrived.
    pub(super) fn restart(&mut self) -> Result<(), Error> {
        remove(&self.sidecar)?;
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|error| Error::io("empty", &self.path, error))?;
        Ok(())
    }

    /// Says of which file the bytes to come are.
    pub(super) fn describe(&self, origin: &Origin) -> Result<(), Error> {
        let text = serde_json::to_vec(origin)
            .map_err(|error| Error::io("write", &self.sidecar, io::Error::other(error)))?;
        fs::write(&self.sidecar, text).map_err(|error| Error::io("write", &self.sidecar, error))
    }

    /// Feeds what has arrived to a hasher and stands after it.
    pub(super) fn hash(&mut self, hasher: &mut Hasher) -> Result<(), Error> {
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| io::copy(&mut self.file, hasher))
            .map_err(|error| Error::io("read", &self.path, error))?;
        Ok(())
    }

    /// Gives the file its name, durably.
    pub(super) fn finish(self) -> Result<(), Error> {
        self.file
            .sync_all()
            .map_err(|error| Error::io("write", &self.path, error))?;
        fs::rename(&self.path, &self.to).map_err(|error| Error::io("name", &self.to, error))?;
        remove(&self.sidecar)?;
        #[cfg(unix)]
        if let Some(folder) = self
            .to
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| Error::io("write", folder, error))?;
        }
        Ok(())
    }

    /// Takes the bytes away: they are known to be wrong.
    pub(super) fn discard(self) -> Result<(), Error> {
        remove(&self.sidecar)?;
        remove(&self.path)
    }
}

/// Whether the open file is still the one of this path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Elsewhere a file that is open does not change its name.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, error))
        }
        _ => Ok(()),
    }
}
