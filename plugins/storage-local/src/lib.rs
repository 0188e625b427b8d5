//! The extension point `storage` over a directory of this machine.
//!
//! ```toml
//! [plugin.storage-local.config]
//! directory = "/srv/vox"
//! ```
//!
//! | setting | meaning |
//! |---|---|
//! | `directory` | where the objects are; `~/` is your home, and another relative path is taken from where `vox` was started |
//!
//! - **Layout.** `objects` has a file for each object, under a name that is made from its key;
//!   `uploads` has a file for each object that is being written. Other files are left alone.
//! - **Whole or not at all.** A commit is on the disk when it answers. A failed commit can be repeated;
//!   a failed append ends its upload.
//! - **Several processes** may use one directory at a time. Of two commits of one key the later one
//!   counts. What a process left behind when it died is removed when the next instance starts.
//! - **Keys** have at most 1,024 bytes of any text, without `.` and `..` between slashes.

mod keys;
mod listing;
#[cfg(test)]
mod tests;
mod uploads;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{self, Path, PathBuf};

use serde::Deserialize;
use vox_plugin::storage::Entry;
use vox_plugin::{Error, Lifecycle, Result, Storage, failed, from_json, plugin};

use crate::listing::{Listing, unless_gone};
use crate::uploads::Upload;

/// Bytes that are made room for before any have been read.
const FIRST_ROOM: u64 = 8 << 20;

/// The plugin's configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    directory: Option<PathBuf>,
}

/// The plugin: a directory, and what is being written to it.
#[plugin(storage, lifecycle)]
struct Local {
    objects: PathBuf,
    uploading: PathBuf,
    uploads: BTreeMap<u64, Upload>,
    last_upload: u64,
}

impl Lifecycle for Local {
    fn init(config: &str) -> Result<Self> {
        let Config { directory } = from_json(config)?;
        let Some(directory) = directory else {
            return Err(Error::Invalid(
                "storage-local needs a directory; write `directory = \"…\"` under \
                 `[plugin.storage-local.config]` in Vox.toml"
                    .to_owned(),
            ));
        };
        Self::open(&absolute(&directory)?)
    }

    fn shutdown(&mut self) -> Result<()> {
        self.uploads.clear();
        Ok(())
    }
}

impl Local {
    /// The storage in a directory, which is made where it is missing.
    fn open(directory: &Path) -> Result<Self> {
        let [objects, uploading] = ["objects", "uploads"].map(|name| directory.join(name));
        for part in [&objects, &uploading] {
            fs::create_dir_all(part).map_err(|error| {
                failed(format!(
                    "the directory {} cannot be made: {error}; make it, or let yourself write there",
                    part.display()
                ))
            })?;
        }
        uploads::sweep(&uploading).map_err(|error| at(&uploading, &error))?;
        Ok(Self {
            objects,
            uploading,
            uploads: BTreeMap::new(),
            last_upload: 0,
        })
    }

    fn object(&self, key: &str) -> Result<PathBuf> {
        keys::check(key)?;
        Ok(self.objects.join(keys::path(key)))
    }
}

impl Storage for Local {
    fn stat(&mut self, key: &str) -> Result<Option<u64>> {
        let path = self.object(key)?;
        let metadata = unless_gone(fs::metadata(&path)).map_err(|error| at(&path, &error))?;
        Ok(metadata.map(|metadata| metadata.len()))
    }

    fn read(&mut self, key: &str, offset: u64, length: u32) -> Result<Vec<u8>> {
        let path = self.object(key)?;
        let file = unless_gone(File::open(&path)).map_err(|error| at(&path, &error))?;
        let file = file.ok_or_else(|| Error::NotFound(format!("there is no object {key:?}")))?;
        read_range(file, offset, length).map_err(|error| at(&path, &error))
    }

    fn begin(&mut self, key: &str) -> Result<u64> {
        keys::check(key)?;
        let upload =
            Upload::new(&self.uploading, key).map_err(|error| at(&self.uploading, &error))?;
        self.last_upload += 1;
        self.uploads.insert(self.last_upload, upload);
        Ok(self.last_upload)
    }

    fn append(&mut self, upload: u64, data: &[u8]) -> Result<()> {
        let file = self.uploads.get_mut(&upload).ok_or_else(|| none(upload))?;
        file.append(data).map_err(|error| {
            // Nobody knows how much of it was written.
            self.uploads.remove(&upload);
            failed(format!(
                "upload {upload} has ended, as writing below {} failed: {error}; mend that and begin \
                 the object anew",
                self.uploading.display()
            ))
        })
    }

    fn commit(&mut self, upload: u64) -> Result<()> {
        let file = self.uploads.get(&upload).ok_or_else(|| none(upload))?;
        file.commit(&self.objects)
            .map_err(|error| at(&self.objects, &error))?;
        self.uploads.remove(&upload);
        Ok(())
    }

    fn abort(&mut self, upload: u64) -> Result<()> {
        let ended = self.uploads.remove(&upload);
        ended.map(drop).ok_or_else(|| none(upload))
    }

    fn remove(&mut self, key: &str) -> Result<bool> {
        keys::check(key)?;
        uploads::remove(&self.objects, key).map_err(|error| at(&self.objects, &error))
    }

    fn enumerate(&mut self, prefix: &str, after: &str, limit: u32) -> Result<Vec<Entry>> {
        Listing::of(&self.objects, prefix, after, limit)
    }
}

/// The bytes of a range, as far as the file has them.
fn read_range(mut file: File, offset: u64, length: u32) -> io::Result<Vec<u8>> {
    let rest = file.metadata()?.len().saturating_sub(offset);
    let length = rest.min(u64::from(length));
    let room = usize::try_from(length.min(FIRST_ROOM)).unwrap_or_default();
    let mut data = Vec::with_capacity(room);
    if length > 0 {
        file.seek(SeekFrom::Start(offset))?;
        file.take(length).read_to_end(&mut data)?;
    }
    Ok(data)
}

/// The path that the configuration means.
fn absolute(directory: &Path) -> Result<PathBuf> {
    let Ok(below_home) = directory.strip_prefix("~") else {
        return Ok(path::absolute(directory)?);
    };
    let home = env::home_dir().ok_or_else(|| {
        Error::Invalid(format!(
            "your home is not known here, so {} means nothing; write the directory's whole path",
            directory.display()
        ))
    })?;
    Ok(home.join(below_home))
}

fn none(upload: u64) -> Error {
    Error::NotFound(format!(
        "there is no upload {upload}; it has ended, or another instance began it"
    ))
}

/// Says what a file system refused, and where.
fn at(path: &Path, error: &io::Error) -> Error {
    failed(format!(
        "{}: {error}; let yourself read and write there, and see that there is room",
        path.display()
    ))
}
