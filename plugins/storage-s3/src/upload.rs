//! An object that is being written: at most one part of it is in memory.
//!
//! What fits one part is sent in one request at the commit. Of a larger object each part is sent as
//! soon as there is more, and the store makes the object of them at the commit.

use std::mem;
use std::sync::Arc;

use vox_plugin::{Error, Exceeded, Result};

use crate::store::{Part, Store};

/// What S3 takes of an object.
const MOST_PARTS: usize = 10_000;

/// An object that is being written.
pub struct Upload {
    key: String,
    /// What no part has yet; never more than one.
    pending: Vec<u8>,
    /// The store's name for the upload, once there are parts.
    id: Option<String>,
    parts: Vec<Part>,
    /// Bytes of the parts.
    size: u64,
}

impl Upload {
    /// Begins an object; `key` is the one in the bucket.
    pub fn new(key: String) -> Self {
        Self {
            key,
            pending: Vec::new(),
            id: None,
            parts: Vec::new(),
            size: 0,
        }
    }

    /// Adds bytes; after an error the upload is of no more use.
    pub fn append(&mut self, store: &Store, mut data: &[u8]) -> Result<()> {
        let part_size = store.config.part_size;
        while !data.is_empty() {
            if self.pending.len() == part_size {
                self.send_part(store)?;
            }
            let room = part_size - self.pending.len();
            let (now, later) = data.split_at(room.min(data.len()));
            self.pending.extend_from_slice(now);
            data = later;
        }
        Ok(())
    }

    /// Makes the object visible. What is already done is not done again by the next attempt.
    pub fn commit(&mut self, store: &Store) -> Result<()> {
        if self.id.is_none() {
            let body = Arc::new(mem::take(&mut self.pending));
            let answer = store.put(&self.key, &body);
            if answer.is_err() {
                self.pending = Arc::unwrap_or_clone(body);
            }
            return answer;
        }
        if !self.pending.is_empty() {
            self.send_part(store)?;
        }
        let id = self.id.as_deref().unwrap_or_default();
        store.complete(&self.key, id, &self.parts, self.size)
    }

    /// Forgets the object, also in the store.
    pub fn abort(&mut self, store: &Store) -> Result<()> {
        match self.id.take() {
            Some(id) => store.abort(&self.key, &id),
            None => Ok(()),
        }
    }

    fn send_part(&mut self, store: &Store) -> Result<()> {
        let number = self.parts.len() + 1;
        let (true, Ok(number)) = (number <= MOST_PARTS, u16::try_from(number)) else {
            return Err(Error::Exceeded(Exceeded {
                limit: "part-size".to_owned(),
                value: store.config.part_size as u64,
                remedy: format!(
                    "{:?} has more than {MOST_PARTS} parts; raise `part-size` under \
                     `[plugin.storage-s3.config]`",
                    self.key
                ),
            }));
        };
        let id = match self.id.take() {
            Some(id) => id,
            None => store.create(&self.key)?,
        };
        let id = self.id.insert(id);
        let body = Arc::new(mem::take(&mut self.pending));
        let answer = store.part(&self.key, id, number, &body);
        let size = body.len() as u64;
        // The memory is used again, unless a request that was given up still has it.
        let mut body = Arc::unwrap_or_clone(body);
        match answer {
            Ok(part) => {
                self.parts.push(part);
                self.size += size;
                body.clear();
                self.pending = body;
                Ok(())
            }
            Err(error) => {
                self.pending = body;
                Err(error)
            }
        }
    }
}
