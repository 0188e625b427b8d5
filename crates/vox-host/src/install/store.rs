//! The directory that installed plugins live in, `<data>/plugins`, opened for a change.
//!
//! Owns the steps that make a change appear at once or not at all. A plugin is built up in a
//! directory whose name begins with a dot, which discovery does not look at, made durable, and then
//! renamed to its place. A replaced or removed plugin is renamed away before it is deleted.
//!
//! **What a crash leaves behind**, and what the next [`Store::open`] does about it:
//!
//! | name | left by | mended by |
//! |---|---|---|
//! | `.staging-*` | a crash before the rename | deleting it |
//! | `.removed-*` | a crash while deleting | deleting it |
//! | `.replaced-<id>@<version>` | a crash between two renames, where the system cannot swap | moving it back if its place is empty, else deleting it |
//!
//! **Invariant.** All of this happens under an exclusive lock on `.lock`, which the system drops
//! with the process, so what begins with those names and is seen on opening belongs to nobody.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::{InstallError, Progress, Watch, files};
use crate::platform;

const STAGING: &str = ".staging-";
const REMOVED: &str = ".removed-";
const REPLACED: &str = ".replaced-";

/// The locked directory. Dropping it unlocks.
pub(super) struct Store {
    root: PathBuf,
    _lock: File,
}

/// A directory in which a plugin is built up; deleted when it is dropped before it was placed.
pub(super) struct Staging {
    path: PathBuf,
}

impl Staging {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be deleted now is deleted when the store is opened next.
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Store {
    /// Makes the directory if there is none, waits for its lock, and clears away what an
    /// interrupted change left.
    pub(super) fn open(root: &Path, watch: &mut Watch<'_>) -> Result<Self, InstallError> {
        fs::create_dir_all(root).map_err(InstallError::io("create", root))?;
        let path = root.join(".lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let lock = lock.map_err(InstallError::io("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                watch.report(Progress::Waiting)?;
                lock.lock().map_err(InstallError::io("lock", &path))?;
            }
            Err(TryLockError::Error(error)) => {
                return Err(InstallError::io("lock", &path)(error));
            }
        }
        let store = Self {
            root: root.to_path_buf(),
            _lock: lock,
        };
        store.sweep()?;
        Ok(store)
    }

    /// The directory of one version.
    pub(super) fn place_of(&self, id: &str, version: &str) -> PathBuf {
        self.root.join(id).join(version)
    }

    /// A new directory to build a plugin up in.
    pub(super) fn staging(&self) -> Result<Staging, InstallError> {
        let path = self.root.join(format!("{STAGING}{}", std::process::id()));
        fs::create_dir(&path).map_err(InstallError::io("create", &path))?;
        Ok(Staging { path })
    }

    /// Makes what was staged durable and moves it to `<id>/<version>`, in one step for every
    /// observer. What stands there is replaced.
    pub(super) fn place(
        &self,
        staging: Staging,
        id: &str,
        version: &str,
    ) -> Result<PathBuf, InstallError> {
        let place = self.place_of(id, version);
        let versions = self.root.join(id);
        files::sync(staging.path())?;
        fs::create_dir_all(&versions).map_err(InstallError::io("create", &versions))?;
        if place.exists() {
            self.replace(&staging, &place, &format!("{REPLACED}{id}@{version}"))?;
        } else {
            fs::rename(staging.path(), &place).map_err(InstallError::io("create", &place))?;
        }
        for directory in [&versions, &self.root] {
            platform::sync_directory(directory).map_err(InstallError::io("write", directory))?;
        }
        Ok(place)
    }

    /// Makes a directory of the store invisible in one step, then deletes it; `path` lies below
    /// the store.
    pub(super) fn remove(&self, path: &Path) -> Result<(), InstallError> {
        let aside = self.root.join(format!("{REMOVED}{}", std::process::id()));
        fs::rename(path, &aside).map_err(InstallError::io("remove", path))?;
        let parent = path.parent().unwrap_or(&self.root);
        platform::sync_directory(parent).map_err(InstallError::io("write", parent))?;
        if parent != self.root {
            // Only an empty directory goes; one that holds another version stays.
            let _ = fs::remove_dir(parent);
        }
        fs::remove_dir_all(&aside).map_err(InstallError::io("delete", &aside))
    }

    fn replace(&self, staging: &Staging, place: &Path, aside: &str) -> Result<(), InstallError> {
        let swapped = platform::exchange(staging.path(), place);
        if swapped.map_err(InstallError::io("replace", place))? {
            // The old version is in the staging directory now, and goes with it.
            return Ok(());
        }
        let aside = self.root.join(aside);
        fs::rename(place, &aside).map_err(InstallError::io("replace", place))?;
        if let Err(error) = fs::rename(staging.path(), place) {
            fs::rename(&aside, place).map_err(InstallError::io("restore", place))?;
            return Err(InstallError::io("replace", place)(error));
        }
        fs::remove_dir_all(&aside).map_err(InstallError::io("delete", &aside))
    }

    fn sweep(&self) -> Result<(), InstallError> {
        let read = InstallError::io("read", &self.root);
        let entries = fs::read_dir(&self.root).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        for entry in entries.map_err(read)? {
            let name = entry.file_name();
            let (path, name) = (entry.path(), name.to_string_lossy());
            if let Some((id, version)) = name
                .strip_prefix(REPLACED)
                .and_then(|name| name.split_once('@'))
                && !self.place_of(id, version).exists()
            {
                let place = self.place_of(id, version);
                fs::rename(&path, &place).map_err(InstallError::io("restore", &place))?;
            } else if [STAGING, REMOVED, REPLACED]
                .iter()
                .any(|left| name.starts_with(left))
            {
                fs::remove_dir_all(&path).map_err(InstallError::io("delete", &path))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(root: &Path) -> Store {
        Store::open(root, &mut Watch::silent()).unwrap()
    }

    #[test]
    fn opening_clears_away_what_a_crash_left() {
        let root = tempfile::tempdir().unwrap();
        for left in [".staging-1/redact", ".removed-1"] {
            fs::create_dir_all(root.path().join(left)).unwrap();
        }
        fs::create_dir_all(root.path().join("redact/0.1.0")).unwrap();
        open(root.path());
        let mut names: Vec<_> = fs::read_dir(root.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, [".lock", "redact"]);
    }

    #[test]
    fn a_replaced_version_comes_back_when_its_successor_never_arrived() {
        let root = tempfile::tempdir().unwrap();
        let aside = root.path().join(".replaced-redact@0.1.0");
        fs::create_dir_all(&aside).unwrap();
        fs::write(aside.join("Plugin.toml"), "old").unwrap();
        fs::create_dir(root.path().join("redact")).unwrap();
        open(root.path());
        let place = root.path().join("redact/0.1.0/Plugin.toml");
        assert_eq!(fs::read_to_string(place).unwrap(), "old");
        assert!(!aside.exists());

        fs::create_dir(&aside).unwrap();
        open(root.path());
        assert!(
            !aside.exists(),
            "its place is taken, so it is not wanted any more"
        );
    }
}
