//! Nodes: canonical values whose texts that are digests are links, as a bundle's manifest.
//!
//! What must stay true: a node is exactly the canonical encoding of its value, so that its links are
//! found without knowing its type; and a node that is read was compared with its name.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;

use serde::{Deserialize, Serialize};
use vox_crypto::{Algorithm, Digest, canonical};

use crate::error::{Error, Fault, failed};
use crate::layout::{self, Kind};
use crate::store::{Store, missing};

/// The largest node, in bytes. Nodes are read whole, by garbage collection too.
pub const MAX_NODE_BYTES: u64 = 16 * 1024 * 1024;

impl Store {
    /// Stores a value as a node, and makes it durable.
    ///
    /// # Errors
    /// [`Error::Canonical`], [`Error::NodeTooLarge`], and failures of the file system.
    pub fn put_node(&self, value: &(impl Serialize + ?Sized)) -> Result<Digest, Error> {
        let bytes = canonical::encode(value).map_err(|source| Error::Canonical {
            digest: None,
            source,
        })?;
        self.put_checked_node(&bytes)
    }

    /// Stores a node that came in writing, for example from another store.
    ///
    /// # Errors
    /// As [`put_node`](Self::put_node), also when the bytes are not canonical.
    pub fn put_node_bytes(&self, bytes: &[u8]) -> Result<Digest, Error> {
        canonical::check(bytes).map_err(|source| Error::Canonical {
            digest: None,
            source,
        })?;
        self.put_checked_node(bytes)
    }

    fn put_checked_node(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let len = bytes.len() as u64;
        if len > MAX_NODE_BYTES {
            return Err(Error::NodeTooLarge { len });
        }
        self.put_small(Kind::Node, bytes)
    }

    /// The value of a node.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Corrupt`], and [`Error::Canonical`] when it is of another type.
    pub fn get_node<T>(&self, digest: &Digest) -> Result<T, Error>
    where
        T: for<'a> Deserialize<'a> + Serialize,
    {
        let bytes = self.get_node_bytes(digest)?;
        canonical::decode(&bytes).map_err(|source| Error::Canonical {
            digest: Some(*digest),
            source,
        })
    }

    /// A node in writing.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Corrupt`].
    pub fn get_node_bytes(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let (file, len) = self.open_object(Kind::Node, digest)?;
        self.read_node(digest, file, len)
    }

    /// The objects of this and other stores to which a node links: every digest by BLAKE3 that stands
    /// in it as a text. Digests by other algorithms name no objects.
    ///
    /// # Errors
    /// As [`get_node_bytes`](Self::get_node_bytes).
    pub fn links(&self, digest: &Digest) -> Result<BTreeSet<Digest>, Error> {
        let bytes = self.get_node_bytes(digest)?;
        self.links_in(digest, &bytes)
    }

    /// As [`links`](Self::links), without a claim on the node; `None` when there is no such node.
    pub(crate) fn peek_links(&self, digest: &Digest) -> Result<Option<BTreeSet<Digest>>, Error> {
        let path = self.inner.layout.object(Kind::Node, digest);
        let Some((file, len)) = layout::open_object(&path, digest)? else {
            return Ok(None);
        };
        let bytes = self.read_node(digest, file, len)?;
        self.links_in(digest, &bytes).map(Some)
    }

    fn links_in(&self, digest: &Digest, bytes: &[u8]) -> Result<BTreeSet<Digest>, Error> {
        let mut links =
            canonical::links(bytes).map_err(|_| self.bad_node(digest, Fault::NotCanonical))?;
        links.retain(|link| link.algorithm() == Algorithm::Blake3);
        Ok(links)
    }

    fn read_node(&self, digest: &Digest, file: File, len: u64) -> Result<Vec<u8>, Error> {
        let path = self.inner.layout.object(Kind::Node, digest);
        let whole = || self.bad_node(digest, Fault::Whole);
        if len > MAX_NODE_BYTES {
            return Err(whole());
        }
        let mut bytes = Vec::new();
        file.take(MAX_NODE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed("read", &path))?;
        if vox_crypto::hash(&bytes) != *digest {
            return Err(whole());
        }
        canonical::check(&bytes).map_err(|_| self.bad_node(digest, Fault::NotCanonical))?;
        Ok(bytes)
    }

    fn bad_node(&self, digest: &Digest, fault: Fault) -> Error {
        Error::Corrupt {
            digest: *digest,
            path: self.inner.layout.object(Kind::Node, digest),
            fault,
        }
    }

    /// Checks that an object and everything it links to is here; returns all of it.
    pub(crate) fn check_complete(
        &self,
        digest: &Digest,
    ) -> Result<BTreeSet<(Kind, Digest)>, Error> {
        layout::check_name(digest)?;
        if !self.contains(digest) {
            return Err(missing(digest));
        }
        let mut found = BTreeSet::new();
        let mut waiting = vec![*digest];
        while let Some(at) = waiting.pop() {
            if self.is_present(Kind::Blob, &at) {
                found.insert((Kind::Blob, at));
            }
            if found.contains(&(Kind::Node, at)) {
                continue;
            }
            let Some(links) = self.peek_links(&at)? else {
                continue;
            };
            found.insert((Kind::Node, at));
            for link in links {
                if !self.contains(&link) {
                    return Err(Error::Missing {
                        digest: link,
                        needed_by: Some(format!("node {at}")),
                    });
                }
                waiting.push(link);
            }
        }
        Ok(found)
    }
}
