//! Leases: what a running process needs, whether or not a reference says so.
//!
//! Each handle that stores something has a file in `leases/` and a directory of the same name in `tmp/`. It
//! holds a lock on the file for as long as it lives. A lease whose lock is free belongs to nobody any
//! more: the lease and what its process left unfinished are removed by the next who opens the store.
//!
//! What must stay true: the lease is there before its directory in `tmp/` and goes after it, so that
//! a directory without a lease is a dead one; and a name is used once only.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use vox_crypto::Digest;

use crate::error::{Error, failed};
use crate::layout::{self, Layout};
use crate::lock;

/// The first line of a lease, before the process's number.
const FIRST: &str = "vox lease 1 process ";

/// Something that a dead process left and that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repair {
    /// The lease of a process that is gone: what it alone needed may go.
    Lease {
        /// Number of the process, when the lease says it.
        process: Option<u32>,
    },
    /// What it had begun to write.
    Unfinished {
        /// The file, which is gone now.
        path: PathBuf,
        /// Bytes that it had.
        bytes: u64,
    },
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease { process: Some(id) } => {
                write!(f, "freed what process {id}, which is gone, had claimed")
            }
            Self::Lease { process: None } => {
                f.write_str("freed what a process that is gone had claimed")
            }
            Self::Unfinished { path, bytes } => write!(
                f,
                "removed {} with {bytes} bytes, which a process that is gone had not finished",
                path.display()
            ),
        }
    }
}

/// The lease of this handle.
#[derive(Debug)]
pub(crate) struct Lease {
    path: PathBuf,
    /// The directory for what this handle has not finished.
    tmp: PathBuf,
    held: Mutex<Held>,
}

/// What a lease says, and the file in which it says it. Nothing is called while it is locked.
#[derive(Debug)]
struct Held {
    file: File,
    digests: HashSet<Digest>,
}

impl Lease {
    pub(crate) fn new(layout: &Layout) -> Result<Self, Error> {
        let (path, mut file, name) = loop {
            let name = layout::random_name()?;
            let path = layout.directory("leases").join(&name);
            let file = OpenOptions::new()
                .read(true)
                .append(true)
                .create_new(true)
                .open(&path)
                .map_err(failed("create", &path))?;
            // Until it is locked it looks dead, and somebody may have removed it.
            if lock::try_lock(&file, &path)? && layout::is_file(&path) {
                break (path, file, name);
            }
        };
        let tmp = layout.directory("tmp").join(name);
        file.write_all(format!("{FIRST}{}\n", std::process::id()).as_bytes())
            .map_err(failed("write", &path))?;
        fs::create_dir(&tmp).map_err(failed("create", &tmp))?;
        Ok(Self {
            path,
            tmp,
            held: Mutex::new(Held {
                file,
                digests: HashSet::new(),
            }),
        })
    }

    /// A path for a file that is not finished.
    pub(crate) fn temporary(&self) -> Result<PathBuf, Error> {
        Ok(self.tmp.join(layout::random_name()?))
    }

    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        self.held().digests.contains(digest)
    }

    /// Claims an object. To be called while the store's lock is shared.
    pub(crate) fn hold(&self, digest: &Digest) -> Result<(), Error> {
        let mut held = self.held();
        if held.digests.contains(digest) {
            return Ok(());
        }
        let before = held.file.metadata().map_err(failed("read", &self.path))?;
        if let Err(error) = held.file.write_all(format!("{digest}\n").as_bytes()) {
            // A part of a line would swallow the next one.
            held.file
                .set_len(before.len())
                .map_err(failed("write", &self.path))?;
            return Err(failed("write", &self.path)(error));
        }
        held.digests.insert(*digest);
        Ok(())
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What fails here is removed by the next who opens the store: the lock is free then.
        let _ = fs::remove_dir_all(&self.tmp);
        let _ = fs::remove_file(&self.path);
    }
}

/// What the lease of a running process says.
pub(crate) struct Claim {
    pub(crate) process: Option<u32>,
    pub(crate) digests: Vec<Digest>,
}

/// The claims of running processes; leases of others are removed on the way. To be called while the
/// store's lock is held alone: then no lease grows.
pub(crate) fn claims(layout: &Layout) -> Result<Vec<Claim>, Error> {
    let mut claims = Vec::new();
    for (path, file) in leases(layout)? {
        if lock::try_lock(&file, &path)? {
            continue;
        }
        claims.push(read(&path, &file)?);
    }
    Ok(claims)
}

/// Removes what processes left that are gone.
pub(crate) fn clear_dead(layout: &Layout) -> Result<Vec<Repair>, Error> {
    let mut repairs = Vec::new();
    for (path, file) in leases(layout)? {
        if !lock::try_lock(&file, &path)? {
            continue;
        }
        // Of a lease that is gone by now the process ended by itself, and left nothing.
        let process = first_line(&file);
        let name = path.file_name().unwrap_or_default();
        clear_unfinished(&layout.directory("tmp").join(name), &mut repairs)?;
        // An empty one was being made, by a process that takes another name now, or is gone.
        let said = file.metadata().is_ok_and(|metadata| metadata.len() > 0);
        if layout::remove_file(&path)? && said {
            repairs.push(Repair::Lease { process });
        }
    }
    let tmp = layout.directory("tmp");
    for name in layout::names_in(&tmp)? {
        if !layout::is_file(&layout.directory("leases").join(&name)) {
            clear_unfinished(&tmp.join(&name), &mut repairs)?;
        }
    }
    for repair in &repairs {
        tracing::info!(store = %layout.root.display(), "{repair}");
    }
    Ok(repairs)
}

fn leases(layout: &Layout) -> Result<Vec<(PathBuf, File)>, Error> {
    let directory = layout.directory("leases");
    let mut found = Vec::new();
    for name in layout::names_in(&directory)? {
        let path = directory.join(name);
        match layout::open_no_follow(&path) {
            Ok(Some((file, _))) => found.push((path, file)),
            Ok(None) => return Err(Error::BadLease { path }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("open", &path)(error)),
        }
    }
    Ok(found)
}

fn clear_unfinished(directory: &Path, repairs: &mut Vec<Repair>) -> Result<(), Error> {
    if layout::is_file(directory) {
        layout::remove_file(directory)?;
        return Ok(());
    }
    for name in layout::names_in(directory)? {
        clear_file(&directory.join(name), repairs)?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("remove", directory)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a file that a dead process had not finished.
pub(crate) fn clear_file(path: &Path, repairs: &mut Vec<Repair>) -> Result<(), Error> {
    let bytes = fs::symlink_metadata(path).map_or(0, |metadata| metadata.len());
    if layout::remove_file(path)? {
        let path = path.into();
        repairs.push(Repair::Unfinished { path, bytes });
    }
    Ok(())
}

fn first_line(file: &File) -> Option<u32> {
    use std::io::Read as _;
    let mut line = String::new();
    BufReader::new(file).take(64).read_line(&mut line).ok()?;
    line.trim_end().strip_prefix(FIRST)?.parse().ok()
}

fn read(path: &Path, file: &File) -> Result<Claim, Error> {
    let bad = || Error::BadLease { path: path.into() };
    let mut claim = Claim {
        process: None,
        digests: Vec::new(),
    };
    let mut reader = BufReader::new(file);
    let mut line = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line).map_err(failed("read", path))?;
        // A line without an end was never claimed: whoever wrote it was told so.
        let Some(text) = line.strip_suffix('\n') else {
            return Ok(claim);
        };
        if let Some(process) = text.strip_prefix(FIRST) {
            claim.process = process.parse().ok();
        } else {
            claim.digests.push(text.parse().map_err(|_| bad())?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_says_what_it_holds_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout {
            root: dir.path().into(),
        };
        for name in layout::DIRECTORIES {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let lease = Lease::new(&layout).unwrap();
        let digest = vox_crypto::hash(b"needed");
        lease.hold(&digest).unwrap();
        lease.hold(&digest).unwrap();
        let claims_now = claims(&layout).unwrap();
        assert_eq!(claims_now.len(), 1);
        assert_eq!(claims_now[0].digests, [digest]);
        assert_eq!(claims_now[0].process, Some(std::process::id()));
        assert!(clear_dead(&layout).unwrap().is_empty());
        drop(lease);
        assert!(claims(&layout).unwrap().is_empty());
        assert!(clear_dead(&layout).unwrap().is_empty());
        assert!(
            layout::names_in(&layout.directory("tmp"))
                .unwrap()
                .is_empty()
        );
    }
}
