//! A plugin's directory and its `Plugin.sig`.
//!
//! What must stay true: every file is covered, whatever the manifest says of it, and a directory
//! with anything but files and directories in it is refused. Directories themselves, and whether a
//! file may be executed, are not signed: neither changes what is loaded.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use vox_contract::{MANIFEST_FILE, Manifest};
use vox_crypto::{Hasher, SigningKey};

use super::listing::{is_plain, slashed};
use super::{
    Difference, MAX_SIGNATURE_FILE_BYTES, SIGNATURE_FILE, SignedFile, SignedFiles, SigningError,
    Time,
};
use crate::install::{self, InstallError, MAX_BYTES};

/// Signs the plugin in `directory` as it is now and writes its `Plugin.sig`, in place of one that is
/// there. A crash while it is written leaves one that is refused; sign again.
///
/// # Errors
/// The manifest is refused, the directory holds what no plugin may hold or a file whose path is not
/// the same everywhere, or the file system refuses something.
pub fn sign(
    directory: &Path,
    key: &SigningKey,
    signed: Time,
    expires: Option<Time>,
) -> Result<SignedFiles, SigningError> {
    let Manifest { id, version, .. } = Manifest::load(&directory.join(MANIFEST_FILE))?;
    let mut files = BTreeMap::new();
    for path in paths(directory)? {
        let file = hash(&directory.join(&path), MAX_BYTES)?;
        files.insert(path, file);
    }
    let listing = SignedFiles::make(key, (id, version), (signed, expires), files);
    let file = directory.join(SIGNATURE_FILE);
    fs::write(&file, listing.to_text()).map_err(SigningError::io("write", &file))?;
    Ok(listing)
}

/// What the `Plugin.sig` in `directory` says; none when there is none. The files are not looked at.
///
/// # Errors
/// It cannot be read, is not exactly what signing writes, or was not signed by the key in it.
pub fn read(directory: &Path) -> Result<Option<SignedFiles>, SigningError> {
    let path = directory.join(SIGNATURE_FILE);
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(InstallError::NotAFile { path }.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SigningError::io("read", &path)(error)),
    }
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| {
            file.take(MAX_SIGNATURE_FILE_BYTES + 1)
                .read_to_end(&mut bytes)
        })
        .map_err(SigningError::io("read", &path))?;
    if bytes.len() as u64 > MAX_SIGNATURE_FILE_BYTES {
        return Err(SigningError::Malformed {
            file: path,
            line: 1,
            what: format!("it is larger than {MAX_SIGNATURE_FILE_BYTES} bytes"),
        });
    }
    SignedFiles::parse(&bytes, &path).map(Some)
}

/// Verifies that the plugin in `directory` is what its `Plugin.sig` was made for: this id and
/// version, these files with these bytes, and no others.
///
/// # Errors
/// [`SigningError`], [`SigningError::NotSigned`] when there is no signature.
pub fn verify(directory: &Path) -> Result<SignedFiles, SigningError> {
    verify_if_signed(directory)?.ok_or_else(|| SigningError::NotSigned {
        directory: directory.to_path_buf(),
    })
}

/// As [`verify`]; none when there is no signature.
pub(crate) fn verify_if_signed(directory: &Path) -> Result<Option<SignedFiles>, SigningError> {
    let Some(signed) = read(directory)? else {
        return Ok(None);
    };
    let found = paths(directory)?;
    let mut differences = Vec::new();
    for path in &found {
        match signed.file(Path::new(path)) {
            None => differences.push(Difference::Added(path.clone())),
            Some(file) if hash(&directory.join(path), file.bytes)? != *file => {
                differences.push(Difference::Changed(path.clone()));
            }
            Some(_) => {}
        }
    }
    let missing = signed.files().map(|(path, _)| path);
    let missing =
        missing.filter(|path| found.binary_search_by(|found| (**found).cmp(path)).is_err());
    differences.extend(missing.map(|path| Difference::Missing(path.to_owned())));
    if !differences.is_empty() {
        return Err(SigningError::Changed {
            directory: directory.to_path_buf(),
            differences,
        });
    }
    let file = directory.join(MANIFEST_FILE);
    let text = fs::read_to_string(&file).map_err(SigningError::io("read", &file))?;
    signed.check(Path::new(MANIFEST_FILE), text.as_bytes())?;
    let manifest = Manifest::parse(&text, &file)?;
    if manifest.id != *signed.plugin() || manifest.version != *signed.version() {
        return Err(SigningError::OtherPlugin {
            directory: directory.to_path_buf(),
            signed: format!("{} {}", signed.plugin(), signed.version()),
            found: format!("{} {}", manifest.id, manifest.version),
        });
    }
    Ok(Some(signed))
}

/// The paths of all files but `Plugin.sig`, in their byte order.
fn paths(directory: &Path) -> Result<Vec<String>, SigningError> {
    let mut paths = Vec::new();
    for entry in install::list(directory)? {
        if entry.directory || entry.path == Path::new(SIGNATURE_FILE) {
            continue;
        }
        match slashed(&entry.path).filter(|path| is_plain(path)) {
            Some(path) => paths.push(path),
            None => return Err(SigningError::Path { path: entry.path }),
        }
    }
    paths.sort();
    Ok(paths)
}

/// The hash and the length of a file; of one that is longer than `most`, those of a beginning that
/// is longer too.
fn hash(path: &Path, most: u64) -> Result<SignedFile, SigningError> {
    let file = File::open(path).map_err(SigningError::io("open", path))?;
    let mut hasher = Hasher::new();
    let bytes = io::copy(&mut file.take(most.saturating_add(1)), &mut hasher)
        .map_err(SigningError::io("read", path))?;
    Ok(SignedFile {
        digest: hasher.finish(),
        bytes,
    })
}
