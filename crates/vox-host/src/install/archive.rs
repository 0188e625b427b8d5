//! Plugin archives: `.vox`, a gzip-compressed tar of a plugin's directory.
//!
//! Owns the unpacking, which trusts nothing: an archive may come from anywhere.
//!
//! **What unpacking refuses**, before it writes the entry: a path that is absolute, climbs with
//! `..`, or holds a character that is a separator somewhere; anything but files and directories
//! (links lead out of the directory, devices are not data); a path that comes twice; more than
//! [`MAX_ENTRIES`] entries or [`MAX_BYTES`] bytes unpacked, counted as they come and not as the
//! headers claim. Owners, times and modes are not taken over; that a file may be executed is.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use tar::{Archive, EntryType};

use super::{InstallError, Progress, Watch, files};

/// The most bytes that a plugin may have, its files taken together: 1 GiB.
pub const MAX_BYTES: u64 = 1 << 30;

/// The most files and directories that a plugin may have.
pub const MAX_ENTRIES: usize = 10_000;

/// The longest path inside a plugin, in bytes.
pub const MAX_PATH_BYTES: usize = 1024;

/// The longest name of a file or directory, in bytes: what common file systems take.
const MAX_COMPONENT_BYTES: usize = 255;

/// The most bytes that may follow the last entry; tar pads to records of 10 KiB.
const MAX_PADDING: u64 = 1 << 20;

/// The file name extension of a plugin archive.
pub const EXTENSION: &str = "vox";

/// What is wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveFault {
    /// It is not gzip, not tar, or it ends early.
    #[error("it is not a complete gzip-compressed tar archive ({0})")]
    Unreadable(String),
    /// An entry would land outside the plugin's directory.
    #[error("its entry `{0}` is not a plain path below the plugin's directory")]
    Outside(String),
    /// An entry is neither file nor directory.
    #[error("its entry `{path}` is a {kind}, and a plugin consists of files and directories")]
    NotAFile {
        /// The entry.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// Two entries have one path.
    #[error("its entry `{0}` comes twice")]
    Twice(String),
    /// An entry has a directory where another entry is a file.
    #[error("its entry `{0}` needs a directory where another entry is a file")]
    BelowFile(String),
    /// There are more entries than [`MAX_ENTRIES`].
    #[error("it has more than {MAX_ENTRIES} entries")]
    TooManyEntries,
    /// Unpacked it is larger than [`MAX_BYTES`].
    #[error("unpacked it is larger than {MAX_BYTES} bytes")]
    TooLarge,
}

/// Unpacks an archive into `target`, an empty directory, and makes each file durable.
pub(super) fn unpack(
    archive: &Path,
    target: &Path,
    watch: &mut Watch<'_>,
) -> Result<(), InstallError> {
    unpack_within(MAX_BYTES, archive, target, watch)
}

/// As [`unpack`], with a bound of its own on the bytes of all files.
fn unpack_within(
    mut budget: u64,
    archive: &Path,
    target: &Path,
    watch: &mut Watch<'_>,
) -> Result<(), InstallError> {
    let refuse = |fault| InstallError::Archive {
        path: archive.to_path_buf(),
        fault,
    };
    // The message of a bad header has what stands in it.
    let unreadable = |error: io::Error| {
        let shown = error.to_string().escape_debug().to_string();
        refuse(ArchiveFault::Unreadable(shown))
    };

    let create_directory = |place: &Path, shown: &str| {
        std::fs::create_dir_all(place).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                refuse(ArchiveFault::BelowFile(shown.to_owned()))
            }
            _ => InstallError::io("create", place)(error),
        })
    };

    let file = File::open(archive).map_err(InstallError::io("open", archive))?;
    let mut tar = Archive::new(GzDecoder::new(BufReader::new(file)));
    let mut entries = 0_usize;
    // A path too long for its header comes in an entry before it.
    let mut long_path: Option<Vec<u8>> = None;
    // Raw entries, because an extension is otherwise read into memory whatever its size.
    for entry in tar.entries().map_err(unreadable)?.raw(true) {
        let mut entry = entry.map_err(unreadable)?;
        entries += 1;
        if entries > MAX_ENTRIES {
            return Err(refuse(ArchiveFault::TooManyEntries));
        }
        let kind = entry.header().entry_type();
        if let Some(read_path) = extension(kind) {
            if entry.size() > 4 * MAX_PATH_BYTES as u64 {
                return Err(refuse(ArchiveFault::Outside(
                    "a path that is too long".to_owned(),
                )));
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(unreadable)?;
            long_path = read_path(&bytes).or(long_path);
            continue;
        }
        let bytes = long_path
            .take()
            .unwrap_or_else(|| entry.path_bytes().into_owned());
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let shown = String::from_utf8_lossy(&bytes).escape_debug().to_string();
        if !matches!(
            kind,
            EntryType::Regular | EntryType::Continuous | EntryType::Directory
        ) {
            return Err(refuse(ArchiveFault::NotAFile {
                path: shown,
                kind: kind_name(kind),
            }));
        }
        let Some(path) = plain_path(&bytes) else {
            return Err(refuse(ArchiveFault::Outside(shown)));
        };
        let place = target.join(&path);
        if kind == EntryType::Directory {
            create_directory(&place, &shown)?;
            continue;
        }
        if let Some(parent) = place.parent() {
            create_directory(parent, &shown)?;
        }
        let mut output = match File::create_new(&place) {
            Ok(output) => output,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(refuse(ArchiveFault::Twice(shown)));
            }
            Err(error) => return Err(InstallError::io("create", &place)(error)),
        };
        let executable = entry.header().mode().is_ok_and(|mode| mode & 0o111 != 0);
        let mut content = (&mut entry).take(budget.saturating_add(1));
        let written = copy(&mut content, &mut output).map_err(|error| match error {
            CopyError::Read(error) => unreadable(error),
            CopyError::Write(error) => InstallError::io("write", &place)(error),
        })?;
        budget = budget
            .checked_sub(written)
            .ok_or_else(|| refuse(ArchiveFault::TooLarge))?;
        files::finish(&output, executable).map_err(InstallError::io("write", &place))?;
        watch.report(Progress::Staged(&path))?;
    }
    // The checksum comes at the very end, after the padding.
    let mut rest = tar.into_inner().take(MAX_PADDING + 1);
    match io::copy(&mut rest, &mut io::sink()).map_err(unreadable)? {
        0..=MAX_PADDING => Ok(()),
        _ => Err(refuse(ArchiveFault::TooLarge)),
    }
}

/// How the path is read from an entry that only carries the path of the next one.
type PathReader = fn(&[u8]) -> Option<Vec<u8>>;

fn extension(kind: EntryType) -> Option<PathReader> {
    match kind {
        EntryType::GNULongName => Some(|bytes| {
            let end = bytes
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(bytes.len());
            Some(bytes[..end].to_vec())
        }),
        EntryType::XHeader => Some(|bytes| {
            tar::PaxExtensions::new(bytes)
                .flatten()
                .find(|extension| extension.key_bytes() == b"path")
                .map(|extension| extension.value_bytes().to_vec())
        }),
        _ => None,
    }
}

/// The path as one below a directory, or `None` when it is not plainly that on every system.
fn plain_path(bytes: &[u8]) -> Option<PathBuf> {
    let text = std::str::from_utf8(bytes).ok()?;
    let foreign = |c: char| c == '\\' || c == ':' || c.is_control();
    if text.is_empty() || text.len() > MAX_PATH_BYTES || text.contains(foreign) {
        return None;
    }
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) if name.len() <= MAX_COMPONENT_BYTES => path.push(name),
            Component::Normal(_) => return None,
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

fn kind_name(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Link => "hard link",
        EntryType::Symlink => "symbolic link",
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "pipe",
        EntryType::GNUSparse => "sparse file",
        _ => "special entry",
    }
}

/// Tells a broken archive from a full disk.
enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<u64, CopyError> {
    let mut buffer = vec![0; 64 * 1024];
    let mut copied = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(length) => {
                to.write_all(&buffer[..length]).map_err(CopyError::Write)?;
                copied += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CopyError::Read(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_are_taken() {
        for path in ["a", "a/b.wasm", "./a", "a/./b", "ä/ö"] {
            assert!(plain_path(path.as_bytes()).is_some(), "{path}");
        }
        let long = "a/".repeat(MAX_PATH_BYTES);
        for path in [
            "", "/a", "..", "a/../b", "a\\..\\b", "C:/a", "a\0b", "a\nb", &long,
        ] {
            assert!(plain_path(path.as_bytes()).is_none(), "{path:?}");
        }
        assert!(plain_path(b"\xff").is_none());
        assert!(plain_path(&[b'a'; MAX_COMPONENT_BYTES]).is_some());
        assert!(plain_path(&[b'a'; MAX_COMPONENT_BYTES + 1]).is_none());
    }

    #[test]
    fn the_bytes_of_all_files_together_are_bounded() {
        let place = tempfile::tempdir().unwrap();
        let archive = place.path().join("plugin.vox");
        let file = File::create(&archive).unwrap();
        let gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        for name in ["a", "b"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(600);
            tar.append_data(&mut header, name, &[0; 600][..]).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        let unpack = |budget, name: &str| {
            let target = place.path().join(name);
            std::fs::create_dir(&target).unwrap();
            unpack_within(budget, &archive, &target, &mut Watch::silent())
        };
        unpack(1200, "whole").unwrap();
        let error = unpack(1199, "part").unwrap_err();
        assert!(error.to_string().contains("larger than"), "{error}");
    }

    #[test]
    fn what_stands_in_a_bad_header_is_shown_without_control_characters() {
        let place = tempfile::tempdir().unwrap();
        let archive = place.path().join("plugin.vox");
        let mut header = tar::Header::new_gnu();
        header.set_path("a").unwrap();
        header.as_mut_bytes()[124..136].copy_from_slice(b"\x1b[2J\t000000\0");
        header.set_cksum();
        let file = File::create(&archive).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        gzip.write_all(header.as_bytes()).unwrap();
        gzip.finish().unwrap();
        let error = unpack(&archive, &place.path().join("out"), &mut Watch::silent()).unwrap_err();
        let error = error.to_string();
        assert!(!error.contains(char::is_control), "{error:?}");
        assert!(error.contains("\\u{1b}[2J"), "{error:?}");
    }

    #[test]
    fn an_entry_below_a_file_is_refused_as_a_fault_of_the_archive() {
        for second in ["a/b", "a/b/c"] {
            let place = tempfile::tempdir().unwrap();
            let archive = place.path().join("plugin.vox");
            let file = File::create(&archive).unwrap();
            let gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            let mut tar = tar::Builder::new(gzip);
            for name in ["a", second] {
                let mut header = tar::Header::new_gnu();
                header.set_size(1);
                tar.append_data(&mut header, name, &b"x"[..]).unwrap();
            }
            tar.into_inner().unwrap().finish().unwrap();
            let target = place.path().join("out");
            std::fs::create_dir(&target).unwrap();
            let error = unpack(&archive, &target, &mut Watch::silent()).unwrap_err();
            let fault = ArchiveFault::BelowFile(second.to_owned());
            assert!(
                matches!(&error, InstallError::Archive { fault: found, .. } if *found == fault),
                "{error}"
            );
        }
    }
}
