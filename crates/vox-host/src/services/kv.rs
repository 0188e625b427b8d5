//! Small durable values, private to each plugin.
//!
//! A value is a file `<data>/kv/<plugin id>/<hash of the key>`, written aside, flushed and renamed
//! into place, so that a reader sees the old value or the new one and a set that returned is on
//! disk. What a plugin's values take together, with a fixed part for each, is capped; writers of all processes take turns on a lock
//! file, so that the cap holds between them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use vox_contract::{Capability, LimitName, PluginId};

use super::Services;
use crate::contract::{Error, Exceeded, kv::Kv};

/// Bytes that a value costs besides its own: what a key and a file take, so that empty values
/// are not free.
const ENTRY: u64 = 64;
/// Longest key in bytes.
const MAX_KEY: usize = 256;
/// File on which writers take turns.
const LOCK: &str = ".lock";

/// One plugin's values.
#[derive(Debug)]
pub(crate) struct KvStore {
    plugin: PluginId,
    directory: PathBuf,
    capacity: u64,
}

impl KvStore {
    /// The values of `plugin` under the data directory. Nothing is touched before the first use.
    pub(crate) fn new(data: &Path, plugin: &PluginId, capacity: u64) -> Self {
        Self {
            plugin: plugin.clone(),
            directory: data.join("kv").join(plugin.as_str()),
            capacity,
        }
    }

    fn file(&self, key: &str) -> Result<PathBuf, Error> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(Error::Invalid(format!(
                "a key has 1 to {MAX_KEY} bytes, this one has {}",
                key.len()
            )));
        }
        Ok(self
            .directory
            .join(vox_crypto::hash(key.as_bytes()).to_hex()))
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        match fs::read(self.file(key)?) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(key, &error)),
        }
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        let file = self.file(key)?;
        let io = |error: io::Error| failed(key, &error);
        if !self.directory.is_dir() {
            crate::platform::create_private_dir(&self.directory).map_err(io)?;
            // The names of the new directories must outlive a crash too.
            for parent in self.directory.ancestors().skip(1).take(2) {
                crate::platform::sync_directory(parent).map_err(io)?;
            }
        }
        let _turn = self.turn().map_err(io)?;
        let others = self.used_besides(&file).map_err(io)?;
        if others + ENTRY + value.len() as u64 > self.capacity {
            return Err(Error::Exceeded(Exceeded {
                limit: LimitName::Kv.name().to_owned(),
                value: self.capacity,
                remedy: format!("delete values, or {}", LimitName::Kv.remedy(&self.plugin)),
            }));
        }
        let mut aside = tempfile::NamedTempFile::new_in(&self.directory).map_err(io)?;
        aside.write_all(value).map_err(io)?;
        aside.as_file().sync_all().map_err(io)?;
        aside.persist(&file).map_err(|error| io(error.error))?;
        crate::platform::sync_directory(&self.directory).map_err(io)
    }

    fn delete(&self, key: &str) -> Result<bool, Error> {
        let file = self.file(key)?;
        let _turn = match self.turn() {
            Ok(turn) => turn,
            // Nothing was ever set.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(key, &error)),
        };
        match fs::remove_file(file) {
            Ok(()) => {
                crate::platform::sync_directory(&self.directory)
                    .map_err(|error| failed(key, &error))?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(key, &error)),
        }
    }

    /// A writer's turn; it ends when the file is dropped.
    fn turn(&self) -> io::Result<File> {
        let lock = File::create(self.directory.join(LOCK))?;
        lock.lock()?;
        Ok(lock)
    }

    /// Bytes of all values but the one in `file`. Files that a killed writer left aside do not
    /// count; the caller holds the lock, so they are swept.
    fn used_besides(&self, file: &Path) -> io::Result<u64> {
        let mut used = 0;
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.path() == file || name == LOCK {
                continue;
            }
            if name.to_string_lossy().starts_with(".tmp") {
                fs::remove_file(entry.path())?;
                continue;
            }
            used += ENTRY + entry.metadata()?.len();
        }
        Ok(used)
    }
}

fn failed(key: &str, error: &io::Error) -> Error {
    Error::Failed(format!("value `{key}`: {error}"))
}

impl Kv for Services {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.authorise(Capability::Kv, "")?;
        self.kv.get(key)
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.authorise(Capability::Kv, "")?;
        self.kv.set(key, value)
    }

    fn delete(&self, key: &str) -> Result<bool, Error> {
        self.authorise(Capability::Kv, "")?;
        self.kv.delete(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(capacity: u64) -> (tempfile::TempDir, KvStore) {
        let data = tempfile::tempdir().unwrap();
        let store = KvStore::new(data.path(), &PluginId::new("notes").unwrap(), capacity);
        (data, store)
    }

    #[test]
    fn a_value_is_read_back_replaced_and_deleted() {
        let (_data, store) = store(1000);
        assert_eq!(store.get("a").unwrap(), None);
        store.set("a", b"1").unwrap();
        store.set("a", b"22").unwrap();
        assert_eq!(store.get("a").unwrap().as_deref(), Some(b"22".as_slice()));
        assert!(store.delete("a").unwrap());
        assert!(!store.delete("a").unwrap());
    }

    #[test]
    fn the_cap_counts_all_values_and_a_refused_set_changes_nothing() {
        let capacity = 2 * ENTRY + 10;
        let (_data, store) = store(capacity);
        store.set("a", &[0; 6]).unwrap();
        assert!(
            matches!(store.set("b", &[0; 5]), Err(Error::Exceeded(limit)) if limit.value == capacity)
        );
        assert_eq!(store.get("b").unwrap(), None);
        store.set("a", &[0; 10]).unwrap();
    }

    #[test]
    fn empty_values_are_not_free() {
        let (_data, store) = store(3 * ENTRY);
        for key in ["a", "b", "c"] {
            store.set(key, b"").unwrap();
        }
        assert!(matches!(store.set("d", b""), Err(Error::Exceeded(_))));
    }

    #[test]
    fn a_delete_never_disturbs_a_set() {
        let (data, store) = store(1000);
        let id = PluginId::new("notes").unwrap();
        std::thread::scope(|scope| {
            for key in ["a", "b", "c"] {
                let other = KvStore::new(data.path(), &id, 1000);
                scope.spawn(move || {
                    for _ in 0..200 {
                        other.set(key, b"1").unwrap();
                        other.delete(key).unwrap();
                    }
                });
            }
        });
        assert_eq!(store.get("a").unwrap(), None);
    }

    #[test]
    fn what_a_killed_writer_left_is_swept() {
        let (_data, store) = store(1000);
        store.set("a", b"1").unwrap();
        fs::write(store.directory.join(".tmpleft"), [0; 50]).unwrap();
        store.set("b", b"2").unwrap();
        assert!(!store.directory.join(".tmpleft").exists());
    }

    #[test]
    fn a_key_may_hold_anything_but_not_be_empty_or_huge() {
        let (_data, store) = store(1000);
        store.set("../../etc/passwd", b"x").unwrap();
        assert_eq!(
            store.get("../../etc/passwd").unwrap().as_deref(),
            Some(b"x".as_slice())
        );
        assert!(matches!(store.set("", b"x"), Err(Error::Invalid(_))));
        assert!(matches!(
            store.set(&"k".repeat(257), b"x"),
            Err(Error::Invalid(_))
        ));
    }
}
