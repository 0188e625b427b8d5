//! How large the store is.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::layout::{self, Kind};
use crate::store::Store;

/// How long a size that was counted is taken for true, beside what this handle adds to it.
const COUNTED_FOR: Duration = Duration::from_secs(60);

/// The size that was counted last. Nothing is called while it is locked.
#[derive(Debug, Default)]
pub(crate) struct Size(Mutex<Option<(u64, Instant)>>);

impl Size {
    /// Adds what this handle stored.
    pub(crate) fn add(&self, bytes: u64) {
        if let Some((size, _)) = &mut *self.cell() {
            *size = size.saturating_add(bytes);
        }
    }

    /// Forgets what was counted.
    pub(crate) fn forget(&self) {
        *self.cell() = None;
    }

    fn cell(&self) -> std::sync::MutexGuard<'_, Option<(u64, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Bytes of all objects together, their trees included, by the lengths of their files. The files
    /// are counted at most once a minute; between, what this handle stored is added, and what was
    /// stored twice counts twice.
    ///
    /// # Errors
    /// Failures of the file system.
    pub fn size(&self) -> Result<u64, Error> {
        if let Some((size, counted)) = *self.inner.size.cell()
            && counted.elapsed() < COUNTED_FOR
        {
            return Ok(size);
        }
        self.count()
    }

    /// Counts anew.
    pub(crate) fn count(&self) -> Result<u64, Error> {
        let mut size = 0_u64;
        for kind in Kind::ALL {
            let directory = self.inner.layout.directory(kind.directory());
            for shard in layout::names_in(&directory)? {
                let shard = directory.join(shard);
                if !shard.is_dir() {
                    continue;
                }
                for file in layout::names_in(&shard)? {
                    let len = fs::symlink_metadata(shard.join(file)).map_or(0, |file| file.len());
                    size = size.saturating_add(len);
                }
            }
        }
        *self.inner.size.cell() = Some((size, Instant::now()));
        Ok(size)
    }

    /// Bytes that the store is over the budget with which it was opened; 0 when it is within it or has
    /// none. Ask after storing something, and call [`evict`](Self::evict) if it is not 0: storing
    /// itself removes nothing, because only the caller knows what its op-log needs.
    ///
    /// # Errors
    /// As [`size`](Self::size).
    pub fn over_budget(&self) -> Result<u64, Error> {
        match self.inner.budget {
            Some(budget) => Ok(self.size()?.saturating_sub(budget)),
            None => Ok(0),
        }
    }
}
