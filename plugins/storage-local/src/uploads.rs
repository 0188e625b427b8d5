//! Objects that are being written: files of their own beside the objects, which a commit moves into
//! place.
//!
//! What must stay true: an object is there whole or not at all, also after a power failure: the file
//! and every directory on its way are on the disk before a commit answers. An upload holds a lock on
//! its file, so that what a process left behind when it died can be told from what another one writes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::keys;
use crate::listing::unless_gone;

/// How often a commit makes the directories anew that a removal takes away under its hands.
const ATTEMPTS: u32 = 16;

/// An object that is being written; its file is gone when this is dropped.
pub struct Upload {
    /// The key of the object.
    pub key: String,
    path: PathBuf,
    file: File,
}

impl Upload {
    /// Begins an object with a file in `directory`.
    pub fn new(directory: &Path, key: &str) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!("{}-{number}", process::id()));
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            };
            // Where a sweep came between creation and lock, the file is its own.
            if lock(&file) && path.try_exists()? {
                return Ok(Self {
                    key: key.to_owned(),
                    path,
                    file,
                });
            }
        }
    }

    /// Adds bytes.
    pub fn append(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data)
    }

    /// Makes the object visible below `objects`.
    pub fn commit(&self, objects: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        let target = objects.join(keys::path(&self.key));
        let parent = target.parent().unwrap_or(objects);
        let mut attempt = 1;
        loop {
            let moved = make_directories(parent).and_then(|()| fs::rename(&self.path, &target));
            match moved {
                Ok(()) => return sync_directory(parent),
                // A removal has just taken an empty directory away.
                Err(error) if error.kind() == ErrorKind::NotFound && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // After a commit there is nothing left; otherwise a later sweep tries again.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the files of uploads whose process has died.
pub fn sweep(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let Some(file) = unless_gone(OpenOptions::new().write(true).open(&path))? else {
            continue;
        };
        if lock(&file) {
            unless_gone(fs::remove_file(&path))?;
        }
    }
    Ok(())
}

/// Removes an object durably, and the directories that it leaves empty; false when there was none.
pub fn remove(objects: &Path, key: &str) -> io::Result<bool> {
    let path = objects.join(keys::path(key));
    if unless_gone(fs::remove_file(&path))?.is_none() {
        return Ok(false);
    }
    let parents = path.ancestors().skip(1);
    for directory in parents.take_while(|directory| *directory != objects) {
        if fs::remove_dir(directory).is_err() {
            unless_gone(sync_directory(directory))?;
            return Ok(true);
        }
    }
    sync_directory(objects)?;
    Ok(true)
}

/// Makes a directory and those above it, durably.
fn make_directories(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let Some(parent) = directory.parent() else {
                return Err(error);
            };
            make_directories(parent)?;
            if let Err(error) = fs::create_dir(directory)
                && error.kind() != ErrorKind::AlreadyExists
            {
                return Err(error);
            }
        }
        Err(error) => return Err(error),
    }
    directory.parent().map_or(Ok(()), sync_directory)
}

/// Whether the lock is ours. A file system without locks has no other process to ask either.
fn lock(file: &File) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Makes the names in a directory durable, which Windows does by itself.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
