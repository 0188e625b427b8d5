//! Listings in key order, out of a tree of any size in bounded memory.
//!
//! A directory is read as often as it has batches of names: a pass keeps the [`BATCH`] smallest of
//! those that come after the last pass's. At any time there is one batch for each level of the tree.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use vox_plugin::storage::Entry;
use vox_plugin::{Error, Result, host};

use crate::keys::Name;

/// Names of one directory that are held at a time.
const BATCH: usize = 1024;

/// A listing under way.
pub struct Listing<'a> {
    prefix: &'a [u8],
    after: &'a [u8],
    limit: usize,
    entries: Vec<Entry>,
}

/// Something in a directory. The order is that of the keys that lie there.
struct Child {
    key: Vec<u8>,
    path: PathBuf,
    is_object: bool,
}

impl PartialEq for Child {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Child {}

impl PartialOrd for Child {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Child {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl<'a> Listing<'a> {
    /// The objects below `root` whose key starts with `prefix` and comes after `after`, at most
    /// `limit` of them.
    pub fn of(root: &Path, prefix: &'a str, after: &'a str, limit: u32) -> Result<Vec<Entry>> {
        let mut listing = Self {
            prefix: prefix.as_bytes(),
            after: after.as_bytes(),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            entries: Vec::new(),
        };
        listing.walk(root, &[])?;
        Ok(listing.entries)
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= self.limit
    }

    /// Lists a directory, whose keys all begin with `base`.
    fn walk(&mut self, directory: &Path, base: &[u8]) -> Result<()> {
        let mut last = None;
        while !self.is_full() {
            if host::cancel::should_cancel() {
                return Err(Error::Cancelled);
            }
            let batch = self.batch(directory, base, last.as_deref())?;
            let is_last = batch.len() < BATCH;
            last = batch.last().map(|child| child.key.clone());
            for child in batch {
                if self.is_full() {
                    break;
                }
                if child.is_object {
                    self.add(child)?;
                } else {
                    self.walk(&child.path, &child.key)?;
                }
            }
            if is_last {
                break;
            }
        }
        Ok(())
    }

    /// The next children of a directory, in order.
    fn batch(&self, directory: &Path, base: &[u8], last: Option<&[u8]>) -> Result<Vec<Child>> {
        let mut smallest = BinaryHeap::new();
        let Some(names) = unless_gone(fs::read_dir(directory))? else {
            return Ok(Vec::new());
        };
        for entry in names {
            let entry = entry?;
            // What is not of this tree has no key.
            let Some(name) = entry.file_name().to_str().and_then(Name::read) else {
                continue;
            };
            let child = Child {
                key: [base, &name.text].concat(),
                path: entry.path(),
                is_object: name.is_object,
            };
            if !self.may_list(&child) || last.is_some_and(|last| child.key.as_slice() <= last) {
                continue;
            }
            smallest.push(child);
            if smallest.len() > BATCH {
                smallest.pop();
            }
        }
        Ok(smallest.into_sorted_vec())
    }

    /// Whether the object is asked for, or something below the directory may be.
    fn may_list(&self, child: &Child) -> bool {
        let key = child.key.as_slice();
        if child.is_object {
            return key.starts_with(self.prefix) && key > self.after;
        }
        (key.starts_with(self.prefix) || self.prefix.starts_with(key))
            && (key > self.after || self.after.starts_with(key))
    }

    /// Adds an object, unless it has been removed meanwhile.
    fn add(&mut self, child: Child) -> Result<()> {
        let (Some(metadata), Ok(key)) = (
            unless_gone(fs::metadata(&child.path))?,
            String::from_utf8(child.key),
        ) else {
            return Ok(());
        };
        self.entries.push(Entry {
            key,
            size: metadata.len(),
        });
        Ok(())
    }
}

/// None for what does not exist.
pub fn unless_gone<T>(answer: io::Result<T>) -> io::Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
