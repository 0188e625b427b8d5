//! Streams and blobs: bulk data that the maker of an instance connects it to.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use vox_contract::Capability;

use super::Services;
use crate::contract::{Chunk, ChunkHead, Error, blob::Blob, stream::Stream};

/// The streams that an instance is connected to, by port name.
pub trait Ports: Send + Sync {
    /// Hands a chunk to the stream behind `port`, waiting for room at most `timeout` (none: until
    /// cancelled).
    ///
    /// # Errors
    ///
    /// `not-found` when there is no such port, `timed-out`, `cancelled`, or what the receiver
    /// answers.
    fn push(
        &self,
        port: &str,
        head: ChunkHead,
        data: &[u8],
        timeout: Option<Duration>,
    ) -> Result<(), Error>;

    /// Takes the next chunk from the stream behind `port`; none at its end.
    ///
    /// # Errors
    ///
    /// As [`Ports::push`].
    fn pull(&self, port: &str, timeout: Option<Duration>) -> Result<Option<Chunk>, Error>;
}

/// No streams at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPorts;

impl Ports for NoPorts {
    fn push(&self, port: &str, _: ChunkHead, _: &[u8], _: Option<Duration>) -> Result<(), Error> {
        Err(no_port(port))
    }

    fn pull(&self, port: &str, _: Option<Duration>) -> Result<Option<Chunk>, Error> {
        Err(no_port(port))
    }
}

fn no_port(port: &str) -> Error {
    Error::NotFound(format!("no stream is connected to port `{port}`"))
}

impl Stream for Services {
    fn push(
        &self,
        port: &str,
        head: ChunkHead,
        data: &[u8],
        timeout_ms: Option<u32>,
    ) -> Result<(), Error> {
        self.authorise(Capability::StreamIo, "")?;
        self.ports.push(port, head, data, self.patience(timeout_ms))
    }

    fn pull(&self, port: &str, timeout_ms: Option<u32>) -> Result<Option<Chunk>, Error> {
        self.authorise(Capability::StreamIo, "")?;
        let chunk = self.ports.pull(port, self.patience(timeout_ms))?;
        let bytes = chunk.as_ref().map_or(0, |chunk| chunk.data.len());
        self.meter.count_in(bytes);
        Ok(chunk)
    }
}

impl Services {
    /// How long a stream may have the plugin wait: no longer than its caller waits.
    fn patience(&self, timeout_ms: Option<u32>) -> Option<Duration> {
        let asked = timeout_ms.map(|count| Duration::from_millis(count.into()));
        let deadline = self.clock.deadline();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        asked.into_iter().chain(left).min()
    }
}

/// Large read-only data by id.
pub trait BlobSource: Send + Sync {
    /// Size in bytes.
    ///
    /// # Errors
    ///
    /// `not-found`, or what reading it meets.
    fn size(&self, id: &str) -> Result<u64, Error>;

    /// Up to `length` bytes from `offset`; fewer at the end.
    ///
    /// # Errors
    ///
    /// As [`BlobSource::size`].
    fn read(&self, id: &str, offset: u64, length: u32) -> Result<Vec<u8>, Error>;
}

/// No blobs at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBlobs;

impl BlobSource for NoBlobs {
    fn size(&self, id: &str) -> Result<u64, Error> {
        Err(no_blob(id))
    }

    fn read(&self, id: &str, _: u64, _: u32) -> Result<Vec<u8>, Error> {
        Err(no_blob(id))
    }
}

/// Files as blobs, each under an id.
#[derive(Clone, Debug, Default)]
pub struct Files(BTreeMap<String, PathBuf>);

impl FromIterator<(String, PathBuf)> for Files {
    fn from_iter<I: IntoIterator<Item = (String, PathBuf)>>(files: I) -> Self {
        Self(files.into_iter().collect())
    }
}

impl Files {
    fn open(&self, id: &str) -> Result<File, Error> {
        let path = self.0.get(id).ok_or_else(|| no_blob(id))?;
        File::open(path)
            .map_err(|error| Error::Failed(format!("blob `{id}`: {}: {error}", path.display())))
    }
}

impl BlobSource for Files {
    fn size(&self, id: &str) -> Result<u64, Error> {
        let metadata = self.open(id)?.metadata();
        Ok(metadata.map_err(|error| unreadable(id, &error))?.len())
    }

    fn read(&self, id: &str, offset: u64, length: u32) -> Result<Vec<u8>, Error> {
        let mut file = self.open(id)?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.take(length.into()).read_to_end(&mut bytes))
            .map_err(|error| unreadable(id, &error))?;
        Ok(bytes)
    }
}

fn no_blob(id: &str) -> Error {
    Error::NotFound(format!("there is no blob `{id}`"))
}

fn unreadable(id: &str, error: &io::Error) -> Error {
    Error::Failed(format!("blob `{id}`: {error}"))
}

impl Blob for Services {
    fn size(&self, id: &str) -> Result<u64, Error> {
        self.authorise(Capability::Blob, "")?;
        self.blobs.size(id)
    }

    fn read(&self, id: &str, offset: u64, length: u32) -> Result<Vec<u8>, Error> {
        self.authorise(Capability::Blob, "")?;
        let length = length.min(self.limits.memory.try_into().unwrap_or(u32::MAX));
        let bytes = self.blobs.read(id, offset, length)?;
        self.meter.count_in(bytes.len());
        Ok(bytes)
    }
}
