//! Named references: what is to stay, by a name that can be given another digest later.
//!
//! | module | owns |
//! |---|---|
//! | `name` | names, and how they become names of files |
//! | `file` | the file of a reference |
//!
//! A namespace is a directory in `refs/` that says whose references these are: `models`, `runs`,
//! `pins`. What must stay true: when a reference is set, what it names and everything that links from
//! there is in the store and durable; and a change of a reference is whole and durable when it returns.

mod file;
mod name;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use vox_crypto::Digest;

pub use name::{MAX_NAME_BYTES, MAX_NAMESPACE_BYTES, RefName};

use crate::error::{Error, Moved, failed};
use crate::layout;
use crate::lock;
use crate::store::{Store, Unfinished};

/// The namespace of pins.
pub const PINS: &str = "pins";

/// Whether a reference may go when the store is over its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It stays until it is removed.
    Kept,
    /// It may be removed by [`Store::evict`], the one that was not used for longest first.
    Evictable,
}

impl Class {
    const fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Evictable => "evictable",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::Kept, Self::Evictable]
            .into_iter()
            .find(|class| class.name() == name)
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A reference.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ref {
    /// Namespace and name.
    pub name: RefName,
    /// What it names: a blob or a node.
    pub digest: Digest,
    /// Whether it may go.
    pub class: Class,
    /// When it was set, to the millisecond.
    pub time: SystemTime,
}

impl Store {
    /// Sets a reference, whatever it named before.
    ///
    /// # Errors
    /// [`Error::Missing`] when the object or one to which it links, directly or not, is not here;
    /// [`Error::Corrupt`] when a node among them is damaged; [`Error::BadRefName`],
    /// [`Error::ReadOnly`], and failures of the file system.
    pub fn set_ref(
        &self,
        namespace: &str,
        name: &str,
        digest: &Digest,
        class: Class,
    ) -> Result<(), Error> {
        let name = RefName::new(namespace, name)?;
        self.change(&name, None, Some((digest, class))).map(drop)
    }

    /// Sets or removes a reference if it names what is expected; `None` is for one that is not there.
    ///
    /// # Errors
    /// [`Error::RefMoved`] when it names something else; otherwise as [`set_ref`](Self::set_ref).
    pub fn compare_and_set_ref(
        &self,
        namespace: &str,
        name: &str,
        expected: Option<&Digest>,
        new: Option<(&Digest, Class)>,
    ) -> Result<(), Error> {
        let name = RefName::new(namespace, name)?;
        self.change(&name, Some(expected), new).map(drop)
    }

    /// Removes a reference; says whether it was there. What it named may go then.
    ///
    /// # Errors
    /// [`Error::BadRefName`], [`Error::ReadOnly`], and failures of the file system. A reference that
    /// is damaged can be removed too.
    pub fn remove_ref(&self, namespace: &str, name: &str) -> Result<bool, Error> {
        let name = RefName::new(namespace, name)?;
        self.change(&name, None, None)
    }

    /// A reference, if it is set.
    ///
    /// # Errors
    /// [`Error::BadRef`] when it is damaged, [`Error::BadRefName`].
    pub fn get_ref(&self, namespace: &str, name: &str) -> Result<Option<Ref>, Error> {
        self.read_ref(&RefName::new(namespace, name)?)
    }

    /// The references of a namespace, by name.
    ///
    /// # Errors
    /// [`Error::BadRef`] when one is damaged.
    pub fn refs(&self, namespace: &str) -> Result<Vec<Ref>, Error> {
        let mut refs = Vec::new();
        for file in self.ref_files(namespace)? {
            // One that is not there any more was removed since its directory was listed.
            refs.extend(file::read(&file, namespace)?);
        }
        refs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(refs)
    }

    /// The namespaces that have references, or had.
    ///
    /// # Errors
    /// Failures of the file system; [`Error::BadRef`] for a directory that is no namespace.
    pub fn namespaces(&self) -> Result<Vec<String>, Error> {
        let refs = self.inner.layout.directory("refs");
        let mut spaces = Vec::new();
        for file in layout::names_in(&refs)? {
            spaces.push(name::decode(&file).ok_or_else(|| Error::BadRef {
                path: refs.join(&file),
                fault: "it is no namespace",
            })?);
        }
        spaces.sort_unstable();
        Ok(spaces)
    }

    /// Every reference.
    ///
    /// # Errors
    /// As [`namespaces`](Self::namespaces) and [`refs`](Self::refs).
    pub fn all_refs(&self) -> Result<Vec<Ref>, Error> {
        let mut all = Vec::new();
        for space in self.namespaces()? {
            all.extend(self.refs(&space)?);
        }
        Ok(all)
    }

    /// Pins an object: it and what it links to stays until it is unpinned.
    ///
    /// # Errors
    /// As [`set_ref`](Self::set_ref).
    pub fn pin(&self, name: &str, digest: &Digest) -> Result<(), Error> {
        self.set_ref(PINS, name, digest, Class::Kept)
    }

    /// Removes a pin; says whether it was there.
    ///
    /// # Errors
    /// As [`remove_ref`](Self::remove_ref).
    pub fn unpin(&self, name: &str) -> Result<bool, Error> {
        self.remove_ref(PINS, name)
    }

    /// The files of a namespace's references.
    pub(crate) fn ref_files(&self, namespace: &str) -> Result<Vec<PathBuf>, Error> {
        let directory = self.ref_directory(namespace);
        let names = layout::names_in(&directory)?;
        Ok(names.into_iter().map(|name| directory.join(name)).collect())
    }

    /// The reference in a file of a namespace.
    pub(crate) fn ref_in(&self, file: &Path, namespace: &str) -> Result<Option<Ref>, Error> {
        file::read(file, namespace)
    }

    /// The namespace whose directory has this name, if it is one.
    pub(crate) fn namespace_of(&self, directory: &str) -> Option<String> {
        let path = self.inner.layout.directory("refs").join(directory);
        layout::check_directory(&path).ok()?;
        name::decode(directory)
    }

    /// Makes every change of a reference durable, also one that another process has not yet.
    pub(crate) fn sync_refs(&self) -> Result<(), Error> {
        for space in self.namespaces()? {
            layout::sync_directory(&self.ref_directory(&space))?;
        }
        layout::sync_directory(&self.inner.layout.directory("refs"))
    }

    fn ref_directory(&self, namespace: &str) -> PathBuf {
        let refs = self.inner.layout.directory("refs");
        refs.join(name::encode(namespace))
    }

    pub(crate) fn ref_file(&self, name: &RefName) -> PathBuf {
        self.ref_directory(name.namespace())
            .join(name::file_name(name.name()))
    }

    fn read_ref(&self, name: &RefName) -> Result<Option<Ref>, Error> {
        file::read(&self.ref_file(name), name.namespace())
    }

    /// Changes a reference; says whether it was there.
    fn change(
        &self,
        name: &RefName,
        expected: Option<Option<&Digest>>,
        new: Option<(&Digest, Class)>,
    ) -> Result<bool, Error> {
        let layout = &self.inner.layout;
        let path = self.ref_file(name);
        let directory = self.ref_directory(name.namespace());
        let written = match new {
            Some((digest, class)) => Some(self.write_ref(name, digest, class)?),
            None => self.may_remove().map(|()| None)?,
        };
        let was_there = {
            let _publishing = lock::share(layout)?;
            let _changing = lock::references(layout)?;
            if let Some(expected) = expected {
                let found = self.read_ref(name)?.map(|reference| reference.digest);
                if found.as_ref() != expected {
                    return Err(Error::RefMoved(Box::new(Moved {
                        name: name.clone(),
                        expected: expected.copied(),
                        found,
                    })));
                }
            }
            match (&written, new) {
                (Some(written), Some((digest, _))) => {
                    self.make_durable(digest)?;
                    layout::make_directory(&directory)?;
                    let was_there = layout::is_file(&path);
                    fs::rename(&written.path, &path).map_err(failed("set", &path))?;
                    was_there
                }
                _ => layout::remove_file(&path)?,
            }
        };
        if layout::is_present(&directory) {
            layout::sync_directory(&directory)?;
            self.sync_parent_once(&directory)?;
        }
        Ok(was_there)
    }

    fn write_ref(
        &self,
        name: &RefName,
        digest: &Digest,
        class: Class,
    ) -> Result<Unfinished, Error> {
        let unfinished = Unfinished::of(self.lease()?.temporary()?);
        let reference = Ref {
            name: name.clone(),
            digest: *digest,
            class,
            time: SystemTime::now(),
        };
        self.write_whole(&unfinished.path, file::write(&reference).as_bytes())?;
        Ok(unfinished)
    }

    /// Makes the names of an object and of what it links to durable, after checking that it is all
    /// here. Who wrote them may be another process that has not come that far.
    fn make_durable(&self, digest: &Digest) -> Result<(), Error> {
        let mut shards = std::collections::BTreeSet::new();
        for (kind, digest) in self.check_complete(digest)? {
            if !self.published_here(kind, &digest) {
                shards.insert(self.inner.layout.shard(kind, &digest));
            }
        }
        for shard in shards {
            layout::sync_directory(&shard)?;
            self.sync_parent_once(&shard)?;
        }
        Ok(())
    }
}
