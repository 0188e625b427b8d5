//! Results that later runs may take over.
//!
//! The unit is a group: a step, or the steps that streams join. Its key is made of everything that its
//! result may depend on (see [`key`]); under the key the store keeps a node with what the steps said
//! and what they made.
//!
//! | module | owns |
//! |---|---|
//! | [`key`] | what a key is made of, and how two keys differ |
//! | [`artifact`] | files and directories as objects of the store |
//! | `place` | putting what a step makes in its place, whole or not at all |
//!
//! What must stay true: two groups with one key have the same result, as far as what a plan says of
//! its steps is true; a result is taken over whole or not at all, and nothing on disk is touched
//! before all of it was fetched; and a cache that cannot be read or written slows a run down and
//! never fails it.

pub mod artifact;
pub mod key;
pub(crate) mod place;

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use vox_crypto::{Digest, canonical};
use vox_host::contract::Attribute;
use vox_oplog::micros;
use vox_store::{Class, Error, Store};

pub use artifact::Artifact;
pub(crate) use key::Keyed;
pub use key::{Difference, Key, Parts};

use crate::event::RunId;

/// The namespace of results in the store.
pub const NAMESPACE: &str = "run-cache";

/// Version of what stands in the cache; another one is another key. Results of version 1 may depend on
/// variables that components inherited.
pub(crate) const VERSION: u32 = 2;

/// The result of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CachedResult {
    /// The run that it comes from.
    pub run: RunId,
    /// When, in microseconds since the Unix epoch.
    pub time: i64,
    /// The steps, in the order of the group.
    pub steps: Vec<CachedStep>,
}

/// The result of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CachedStep {
    /// Its key in the plan that it comes from.
    pub step: String,
    /// What was done, in one line.
    pub summary: String,
    /// Facts that the runner left.
    pub attributes: Vec<Attribute>,
    /// How long it took, in microseconds.
    pub micros: u64,
    /// What it made, by name.
    pub outputs: BTreeMap<String, Artifact>,
}

/// A result in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheEntry {
    /// The key, in hexadecimal.
    pub key: String,
    /// The node of the result.
    pub node: Digest,
    /// The result.
    pub result: CachedResult,
    /// Bytes of the result and of what the steps made.
    pub bytes: u64,
}

/// The results in a store.
#[derive(Clone, Debug)]
pub struct Cache {
    store: Store,
}

impl Cache {
    /// The results in this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The result under this key, if it is there.
    ///
    /// # Errors
    ///
    /// What is there cannot be read.
    pub fn get(&self, key: &Key) -> Result<Option<CachedResult>, Error> {
        self.find(key.as_str())
    }

    /// The result under this key in hexadecimal, if it is there.
    ///
    /// # Errors
    ///
    /// What is there cannot be read.
    pub fn find(&self, key: &str) -> Result<Option<CachedResult>, Error> {
        let Some(found) = self.store.get_ref(NAMESPACE, key)? else {
            return Ok(None);
        };
        match self.store.get_node(&found.digest) {
            Ok(result) => Ok(Some(result)),
            // It was evicted a moment ago.
            Err(Error::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps a result, whose artefacts are in the store.
    ///
    /// # Errors
    ///
    /// The store cannot be written.
    pub fn put(&self, key: &Key, run: RunId, steps: Vec<CachedStep>) -> Result<(), Error> {
        let node = self.store.put_node(&CachedResult {
            run,
            time: micros(SystemTime::now()),
            steps,
        })?;
        self.store
            .set_ref(NAMESPACE, key.as_str(), &node, Class::Evictable)
    }

    /// All results, the newest first.
    ///
    /// # Errors
    ///
    /// One of them cannot be read.
    pub fn list(&self) -> Result<Vec<CacheEntry>, Error> {
        let mut entries = Vec::new();
        for found in self.store.refs(NAMESPACE)? {
            let result: CachedResult = match self.store.get_node(&found.digest) {
                Err(Error::Missing { .. }) => continue,
                read => read?,
            };
            // A node is exactly the encoding of its value.
            let own = canonical::encode(&result).map_or(0, |node| node.len() as u64);
            let outputs = result.steps.iter().flat_map(|step| step.outputs.values());
            let bytes = outputs.map(|artifact| artifact.bytes).sum::<u64>() + own;
            entries.push(CacheEntry {
                key: found.name.name().to_owned(),
                node: found.digest,
                result,
                bytes,
            });
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.result.time));
        Ok(entries)
    }

    /// Lets a result go, by its key in hexadecimal; says whether it was there.
    ///
    /// # Errors
    ///
    /// The store cannot be written.
    pub fn remove(&self, key: &str) -> Result<bool, Error> {
        self.store.remove_ref(NAMESPACE, key)
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }
}
