//! Packs a distribution: the same files give the same bytes.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use crate::install::{Entry, InstallError, list};
use crate::platform;

/// Packs the files below `directory` as an archive at `target`, each under `prefix`.
///
/// The bytes depend on the files' paths, contents and executability alone: entries are sorted,
/// owners and times are zero. `target` appears when it is complete.
pub(super) fn pack(directory: &Path, prefix: &Path, target: &Path) -> Result<(), InstallError> {
    let mut staged = target.as_os_str().to_owned();
    staged.push(".part");
    let staged = Path::new(&staged);
    let output = File::create(staged).map_err(InstallError::io("create", staged))?;
    let encoder: GzEncoder<BufWriter<File>> = GzBuilder::new()
        .mtime(0)
        .write(BufWriter::new(output), Compression::default());
    let mut tar = Builder::new(encoder);
    for entry in list(directory)? {
        append(&mut tar, directory, prefix, &entry)?;
    }
    let finish = |tar: Builder<GzEncoder<BufWriter<File>>>| -> io::Result<()> {
        let mut buffered = tar.into_inner()?.finish()?;
        buffered.flush()?;
        buffered.get_ref().sync_all()
    };
    finish(tar).map_err(InstallError::io("write", staged))?;
    std::fs::rename(staged, target).map_err(InstallError::io("create", target))
}

fn append<W: Write>(
    tar: &mut Builder<W>,
    directory: &Path,
    prefix: &Path,
    entry: &Entry,
) -> Result<(), InstallError> {
    let source = directory.join(&entry.path);
    let inside = prefix.join(&entry.path);
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    let fail = InstallError::io("pack", &source);
    if entry.directory {
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        return tar
            .append_data(&mut header, &inside, io::empty())
            .map_err(fail);
    }
    let file = File::open(&source).map_err(InstallError::io("open", &source))?;
    let metadata = file.metadata().map_err(InstallError::io("read", &source))?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(if platform::is_executable(&metadata) {
        0o755
    } else {
        0o644
    });
    header.set_size(metadata.len());
    tar.append_data(&mut header, &inside, file.take(metadata.len()))
        .map_err(fail)
}
