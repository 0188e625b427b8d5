//! The files of a plugin's directory: listed, copied, compared.
//!
//! What must stay true: a directory is taken whole or refused. Nothing in it is passed over, a link
//! or a device is an error (what it leads to is not part of the plugin), and the bounds are those
//! of an archive.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::archive::{MAX_BYTES, MAX_ENTRIES};
use super::{InstallError, Progress, Watch};
use crate::platform;

/// A file or directory inside a plugin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// Relative to the plugin's directory.
    pub path: PathBuf,
    pub directory: bool,
    pub executable: bool,
    /// Zero for a directory.
    pub bytes: u64,
}

/// Everything below `directory`, sorted by path, so that a directory comes before what is in it.
pub(crate) fn list(directory: &Path) -> Result<Vec<Entry>, InstallError> {
    let mut entries = Vec::new();
    let mut total = 0_u64;
    let mut open = vec![PathBuf::new()];
    while let Some(inside) = open.pop() {
        let here = directory.join(&inside);
        for entry in fs::read_dir(&here).map_err(InstallError::io("read", &here))? {
            let entry = entry.map_err(InstallError::io("read", &here))?;
            let path = inside.join(entry.file_name());
            let full = directory.join(&path);
            // Of the entry itself, not of what a link leads to.
            let metadata = fs::symlink_metadata(&full).map_err(InstallError::io("read", &full))?;
            let (is_directory, is_file) = (metadata.is_dir(), metadata.is_file());
            if !is_directory && !is_file {
                return Err(InstallError::NotAFile { path: full });
            }
            if is_directory {
                open.push(path.clone());
            }
            let bytes = if is_file { metadata.len() } else { 0 };
            let executable = is_file && platform::is_executable(&metadata);
            entries.push(Entry {
                path,
                directory: is_directory,
                executable,
                bytes,
            });
            total = total.saturating_add(bytes);
            if entries.len() > MAX_ENTRIES || total > MAX_BYTES {
                return Err(InstallError::TooLarge {
                    path: directory.to_path_buf(),
                });
            }
        }
    }
    entries.sort();
    Ok(entries)
}

/// Copies everything below `from` into `to`, an empty directory, and makes each file durable.
pub(super) fn copy(from: &Path, to: &Path, watch: &mut Watch<'_>) -> Result<(), InstallError> {
    for entry in list(from)? {
        let (source, target) = (from.join(&entry.path), to.join(&entry.path));
        if entry.directory {
            fs::create_dir(&target).map_err(InstallError::io("create", &target))?;
            continue;
        }
        let mut input = File::open(&source).map_err(InstallError::io("open", &source))?;
        let mut output = File::create_new(&target).map_err(InstallError::io("create", &target))?;
        io::copy(&mut (&mut input).take(MAX_BYTES), &mut output)
            .map_err(InstallError::io("copy", &source))?;
        finish(&output, entry.executable).map_err(InstallError::io("write", &target))?;
        watch.report(Progress::Staged(&entry.path))?;
    }
    Ok(())
}

/// Sets the permissions of a file just written and makes it durable.
pub(super) fn finish(file: &File, executable: bool) -> io::Result<()> {
    platform::set_permissions(file, executable)?;
    file.sync_all()
}

/// Makes the entries of `directory` and of each directory below it durable.
pub(super) fn sync(directory: &Path) -> Result<(), InstallError> {
    for entry in list(directory)?.iter().filter(|entry| entry.directory) {
        let path = directory.join(&entry.path);
        platform::sync_directory(&path).map_err(InstallError::io("write", &path))?;
    }
    platform::sync_directory(directory).map_err(InstallError::io("write", directory))
}

/// True when both directories hold the same files with the same content.
pub(super) fn same(one: &Path, other: &Path) -> Result<bool, InstallError> {
    let entries = list(one)?;
    if entries != list(other)? {
        return Ok(false);
    }
    for entry in entries.iter().filter(|entry| !entry.directory) {
        let (one, other) = (one.join(&entry.path), other.join(&entry.path));
        if !same_bytes(&one, &other)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn same_bytes(one: &Path, other: &Path) -> Result<bool, InstallError> {
    let digest = |path: &Path| {
        let file = File::open(path).map_err(InstallError::io("open", path))?;
        vox_crypto::hash_reader(file).map_err(InstallError::io("read", path))
    };
    Ok(digest(one)? == digest(other)?)
}

/// Copies a plugin's directory to `to`, a directory that is made, with the rules of an
/// installation.
pub(crate) fn copy_directory(from: &Path, to: &Path) -> Result<(), InstallError> {
    fs::create_dir_all(to).map_err(InstallError::io("create", to))?;
    copy(from, to, &mut Watch::silent())
}
