//! The store's locks between processes.
//!
//! They are advisory locks on open files (`flock` on Unix), which the operating system frees when
//! their holder dies. The order is: the store's lock, then the lock of the references, then nothing;
//! whoever holds one waits for no other process while holding it.
//!
//! What must stay true: an object or a reference appears, and a lease grows, only while the store's
//! lock is shared; an object or a reference is removed only while it is held alone. So what removes
//! sees every claim, and what claims sees every object that will stay.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use crate::error::{Error, failed};
use crate::layout::Layout;

/// A lock that is held until this value is dropped.
///
/// Every guard has a file of its own: locks belong to open files, so that two threads with one file
/// would free each other's.
#[derive(Debug)]
pub(crate) struct Guard {
    _file: File,
}

/// Waits for a place among those that publish.
pub(crate) fn share(layout: &Layout) -> Result<Guard, Error> {
    let path = layout.lock();
    let file = open(&path)?;
    retried(|| file.lock_shared()).map_err(failed("lock", &path))?;
    Ok(Guard { _file: file })
}

/// Waits until nobody publishes and nobody else removes; with `wait` false it does not wait.
pub(crate) fn alone(layout: &Layout, wait: bool) -> Result<Guard, Error> {
    let path = layout.lock();
    let file = open(&path)?;
    if wait {
        retried(|| file.lock()).map_err(failed("lock", &path))?;
    } else if !try_lock(&file, &path)? {
        return Err(Error::Busy { path });
    }
    Ok(Guard { _file: file })
}

/// Waits until nobody else changes a reference.
pub(crate) fn references(layout: &Layout) -> Result<Guard, Error> {
    let path = layout.refs_lock();
    let file = open(&path)?;
    retried(|| file.lock()).map_err(failed("lock", &path))?;
    Ok(Guard { _file: file })
}

/// Takes a file's lock unless somebody holds it.
pub(crate) fn try_lock(file: &File, path: &Path) -> Result<bool, Error> {
    loop {
        return match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {
                continue;
            }
            Err(TryLockError::Error(error)) => Err(failed("lock", path)(error)),
        };
    }
}

fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed("open", path))
}

fn retried(mut lock: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
