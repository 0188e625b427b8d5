//! An archive of a plugin: its directory as one file.
//!
//! The format is a gzipped tar of the directory's contents, `Plugin.toml` at the top. What must stay
//! true: equal contents give equal bytes. Entries are in the order of their names; times, owners
//! and the umask of whoever built the plugin leave no trace.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use crate::BuildError;

/// File name extension of an archive.
pub const ARCHIVE_EXTENSION: &str = "vox";

/// The value of gzip's operating system field that means unknown (RFC 1952, section 2.3.1).
const UNKNOWN_SYSTEM: u8 = 255;

/// Writes the contents of `directory` to the archive `file`, replacing it once the new one is
/// complete.
///
/// # Errors
/// [`BuildError::NotArchivable`] for a symbolic link or anything else that is neither file nor
/// directory, and [`BuildError::Io`].
pub fn archive(directory: &Path, file: &Path) -> Result<(), BuildError> {
    let mut entries = Vec::new();
    collect(directory, "", &mut entries)?;
    entries.sort();

    let parent = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(BuildError::io("create", parent))?;
    let staged = tempfile::Builder::new()
        .prefix(".vox-build-")
        .tempfile_in(parent)
        .map_err(BuildError::io("create a file in", parent))?;

    let gzip = GzBuilder::new()
        .mtime(0)
        .operating_system(UNKNOWN_SYSTEM)
        .write(BufWriter::new(staged.as_file()), Compression::best());
    let mut tar = Builder::new(gzip);
    for entry in &entries {
        append(&mut tar, directory, entry)?;
    }
    tar.into_inner()
        .and_then(GzEncoder::finish)
        .and_then(|mut writer| writer.flush())
        .map_err(BuildError::io("write", file))?;
    share(staged.as_file()).map_err(BuildError::io("write", file))?;
    staged
        .persist(file)
        .map_err(|error| BuildError::io("write", file)(error.error))?;
    Ok(())
}

/// A file or directory, by its name in the archive: a path with slashes.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    name: String,
    is_directory: bool,
}

/// Lists everything below `root/prefix`.
fn collect(root: &Path, prefix: &str, entries: &mut Vec<Entry>) -> Result<(), BuildError> {
    let directory = root.join(prefix);
    let unreadable = || BuildError::io("read", &directory);
    for entry in fs::read_dir(&directory).map_err(unreadable())? {
        let entry = entry.map_err(unreadable())?;
        let kind = entry.file_type().map_err(unreadable())?;
        let not_archivable = || BuildError::NotArchivable { path: entry.path() };
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(not_archivable)?;
        let name = format!("{prefix}{name}");
        if kind.is_dir() {
            collect(root, &format!("{name}/"), entries)?;
        } else if !kind.is_file() {
            return Err(not_archivable());
        }
        entries.push(Entry {
            name,
            is_directory: kind.is_dir(),
        });
    }
    Ok(())
}

/// Appends one entry, with nothing of its metadata but whether it may be run.
fn append<W: Write>(tar: &mut Builder<W>, root: &Path, entry: &Entry) -> Result<(), BuildError> {
    let path: PathBuf = root.join(&entry.name);
    let mut header = Header::new_ustar();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    let appended = if entry.is_directory {
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        tar.append_data(&mut header, format!("{}/", entry.name), io::empty())
    } else {
        File::open(&path).and_then(|file| {
            let metadata = file.metadata()?;
            header.set_mode(if is_executable(&metadata) {
                0o755
            } else {
                0o644
            });
            header.set_size(metadata.len());
            tar.append_data(&mut header, &entry.name, file)
        })
    };
    appended.map_err(BuildError::io("archive", &path))
}

#[cfg(unix)]
fn is_executable(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    false
}

/// Lets others read the archive, where temporary files are for their owner alone.
fn share(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    let _ = file;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;

    fn fill(directory: &Path, order: &[&str]) {
        for name in order {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("contents of {name}")).unwrap();
        }
    }

    #[test]
    fn equal_contents_give_equal_bytes_in_the_order_of_names() {
        let work = tempfile::tempdir().unwrap();
        let (a, b) = (work.path().join("a"), work.path().join("b"));
        fill(&a, &["Plugin.toml", "x/one", "x/two", "x.wasm"]);
        fill(&b, &["x.wasm", "x/two", "x/one", "Plugin.toml"]);
        let earlier = std::time::SystemTime::UNIX_EPOCH;
        let old = File::options().write(true).open(b.join("x.wasm")).unwrap();
        old.set_modified(earlier).unwrap();

        let (first, second) = (work.path().join("a.vox"), work.path().join("b.vox"));
        archive(&a, &first).unwrap();
        archive(&b, &second).unwrap();
        assert_eq!(fs::read(&first).unwrap(), fs::read(second).unwrap());

        let mut tar = tar::Archive::new(GzDecoder::new(File::open(first).unwrap()));
        let names: Vec<_> = tar
            .entries()
            .unwrap()
            .map(|entry| String::from_utf8(entry.unwrap().path_bytes().into()).unwrap())
            .collect();
        assert_eq!(names, ["Plugin.toml", "x/", "x.wasm", "x/one", "x/two"]);
    }

    #[test]
    fn an_archive_unpacks_to_what_went_in_long_names_too() {
        let work = tempfile::tempdir().unwrap();
        let source = work.path().join("source");
        let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
        fill(&source, &["Plugin.toml", &long]);
        let file = work.path().join("out/it.vox");
        archive(&source, &file).unwrap();

        let unpacked = work.path().join("unpacked");
        let mut tar = tar::Archive::new(GzDecoder::new(File::open(file).unwrap()));
        tar.unpack(&unpacked).unwrap();
        for name in ["Plugin.toml", &long] {
            let expected = format!("contents of {name}");
            assert_eq!(fs::read_to_string(unpacked.join(name)).unwrap(), expected);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_is_refused_by_name_and_no_archive_is_left() {
        let work = tempfile::tempdir().unwrap();
        let source = work.path().join("source");
        fill(&source, &["Plugin.toml"]);
        std::os::unix::fs::symlink("/etc/passwd", source.join("link")).unwrap();
        let file = work.path().join("it.vox");
        let error = archive(&source, &file).unwrap_err();
        assert!(error.to_string().contains("source/link"), "{error}");
        assert!(!file.exists());
    }
}
