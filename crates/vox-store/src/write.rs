//! Writing a blob: its bytes are hashed while they are written.
//!
//! BLAKE3 and its tree are made on the thread that writes. Every other digest that is asked for has a
//! thread of its own, fed through a short queue of shared buffers: a hash such as SHA3-512, which is
//! slower than the disk may be, then runs beside reading and writing, and never waits for them for
//! longer than the queue lasts.
//!
//! What must stay true: until [`BlobWriter::commit`] has returned nothing of the blob can be seen, and
//! what it has returned stays.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use vox_crypto::tree::{Tree, TreeHasher};
use vox_crypto::{Algorithm, Digest, Hasher};

use crate::error::{Error, failed};
use crate::layout::Kind;
use crate::store::{Store, Unfinished, needing, new_file};

/// Bytes of a buffer: enough that handing it over costs nothing beside hashing it.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Buffers that wait for a thread that hashes, at most.
const QUEUED: usize = 16;

/// After so many bytes the system is asked to begin writing them to the disk, so that little is left
/// to wait for at the end.
const WRITE_BACK_BYTES: u64 = 8 * 1024 * 1024;

/// A blob that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blob {
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes.
    pub len: u64,
    /// The other digests that were asked for, in the order in which they were.
    pub also: Vec<Digest>,
}

/// Writes a blob. Dropped without [`commit`](Self::commit) it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    unfinished: Unfinished,
    file: File,
    pipeline: Pipeline,
    /// What was taken and is not hashed and written yet; less than a buffer.
    pending: Vec<u8>,
    /// Where the part begins that the system was not asked yet to write to the disk.
    behind: u64,
}

impl BlobWriter {
    pub(crate) fn new(store: Store, also: &[Algorithm]) -> Result<Self, Error> {
        let unfinished = Unfinished::of(store.lease()?.temporary()?);
        let file = new_file(&unfinished.path)?;
        Ok(Self {
            store,
            unfinished,
            file,
            pipeline: Pipeline::new(also)?,
            pending: Vec::new(),
            behind: 0,
        })
    }

    /// Lets these digests be made too, each on a thread of its own. To be called before anything is
    /// written.
    ///
    /// # Errors
    /// [`Error::Io`] when a thread cannot be started, or something was written already.
    pub fn also(mut self, algorithms: &[Algorithm]) -> Result<Self, Error> {
        if !self.is_empty() {
            return Err(Error::Io {
                action: "hash anew",
                path: self.unfinished.path.clone(),
                source: io::Error::other("a part of it was written already"),
            });
        }
        self.pipeline = Pipeline::new(algorithms)?;
        Ok(self)
    }

    /// Bytes that came so far.
    pub fn len(&self) -> u64 {
        self.pipeline.len + self.pending.len() as u64
    }

    /// Whether nothing came so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes all of these bytes.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let room = BUFFER_BYTES - self.pending.len();
            let (part, rest) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(part);
            bytes = rest;
            if self.pending.len() == BUFFER_BYTES {
                self.flush_pending()?;
            }
        }
        Ok(())
    }

    /// Takes as much as the reader gives at once, up to a buffer; none at its end.
    pub(crate) fn take_from(&mut self, reader: &mut impl Read, from: &Path) -> Result<u64, Error> {
        self.flush_pending()?;
        let mut buffer = self.pipeline.buffer();
        let got = read_buffer(reader, &mut buffer).map_err(failed("read", from))?;
        if got > 0 {
            self.append(buffer)?;
        }
        Ok(got)
    }

    fn flush_pending(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut buffer = self.pipeline.buffer();
        std::mem::swap(&mut self.pending, &mut buffer);
        self.append(buffer)
    }

    fn append(&mut self, buffer: Vec<u8>) -> Result<(), Error> {
        let path = &self.unfinished.path;
        let file = &mut self.file;
        let (behind, at) = (&mut self.behind, self.pipeline.len);
        let len = buffer.len() as u64;
        self.pipeline.feed(buffer, |bytes| {
            let written = if is_zero(bytes) {
                // A hole reads as zeros and takes no space.
                file.seek(SeekFrom::Current(bytes.len() as i64)).map(drop)
            } else {
                file.write_all(bytes)
            };
            written
                .map_err(failed("write", path))
                .map_err(|error| needing(error, at + len))?;
            if at + len - *behind >= WRITE_BACK_BYTES {
                begin_write_back(file, *behind, at + len - *behind);
                *behind = at + len;
            }
            Ok(())
        })
    }

    /// Makes the blob durable and visible under its name.
    ///
    /// # Errors
    /// [`Error::NoSpace`] and others of the file system; then nothing is left.
    pub fn commit(mut self) -> Result<Blob, Error> {
        self.flush_pending()?;
        begin_write_back(&self.file, self.behind, 0);
        let path = &self.unfinished.path;
        let digested = self.pipeline.finish()?;
        let len = digested.len;
        self.file
            .set_len(len)
            .and_then(|()| self.file.sync_all())
            .map_err(failed("write", path))
            .map_err(|error| needing(error, len))?;
        publish_blob(&self.store, &digested, &self.unfinished)?;
        Ok(digested.into_blob())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes)?;
        Ok(bytes.len())
    }

    /// Does nothing: what was written counts from [`BlobWriter::commit`] on.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Publishes a file whose bytes are durable, and its tree.
pub(crate) fn publish_blob(
    store: &Store,
    digested: &Digested,
    unfinished: &Unfinished,
) -> Result<(), Error> {
    let mut tree = None;
    let bytes = digested.tree.to_bytes();
    if !bytes.is_empty() {
        let file = Unfinished::of(store.lease()?.temporary()?);
        store.write_whole(&file.path, &bytes)?;
        tree = Some(file);
    }
    store.publish(Kind::Blob, &digested.digest, unfinished, tree.as_ref())?;
    store.inner.size.add(digested.len + bytes.len() as u64);
    Ok(())
}

/// What came out of a pipeline.
#[derive(Debug)]
pub(crate) struct Digested {
    pub(crate) digest: Digest,
    pub(crate) tree: Tree,
    pub(crate) len: u64,
    also: Vec<Digest>,
}

impl Digested {
    pub(crate) fn into_blob(self) -> Blob {
        Blob {
            digest: self.digest,
            len: self.len,
            also: self.also,
        }
    }
}

/// A thread that hashes, and where it gets its buffers from.
type Beside = (SyncSender<Arc<Vec<u8>>>, JoinHandle<Digest>);

/// Makes all digests of bytes that pass through once.
#[derive(Debug)]
pub(crate) struct Pipeline {
    tree: TreeHasher,
    pub(crate) len: u64,
    threads: Vec<Beside>,
    /// Buffers that were handed to the threads, the oldest first; those that came back are used again.
    lent: VecDeque<Arc<Vec<u8>>>,
}

impl Pipeline {
    pub(crate) fn new(also: &[Algorithm]) -> Result<Self, Error> {
        let threads = also.iter().map(|algorithm| hash_beside(*algorithm));
        Ok(Self {
            tree: TreeHasher::new(),
            len: 0,
            threads: threads.collect::<Result<_, _>>()?,
            lent: VecDeque::new(),
        })
    }

    /// An empty buffer.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        let returned = self.lent.front_mut().and_then(|oldest| {
            let buffer = Arc::get_mut(oldest)?;
            buffer.clear();
            Some(std::mem::take(buffer))
        });
        match returned {
            Some(buffer) => {
                self.lent.pop_front();
                buffer
            }
            None => Vec::with_capacity(BUFFER_BYTES),
        }
    }

    /// Passes a buffer to all hashes, and to `write` while the threads work on it.
    pub(crate) fn feed(
        &mut self,
        buffer: Vec<u8>,
        write: impl FnOnce(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let buffer = Arc::new(buffer);
        for (sender, _) in &self.threads {
            // The thread is gone only if it panicked, which `finish` finds.
            let _ = sender.send(Arc::clone(&buffer));
        }
        write(&buffer)?;
        self.tree.update(&buffer);
        self.len += buffer.len() as u64;
        self.lent.push_back(buffer);
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Digested, Error> {
        let (digest, tree) = self.tree.finish();
        let mut also = Vec::new();
        for (sender, thread) in self.threads {
            drop(sender);
            also.push(thread.join().map_err(|_| Error::Io {
                action: "hash",
                path: "a blob".into(),
                source: io::Error::other("the thread that hashed it died"),
            })?);
        }
        Ok(Digested {
            digest,
            tree,
            len: self.len,
            also,
        })
    }
}

fn hash_beside(algorithm: Algorithm) -> Result<Beside, Error> {
    let (sender, buffers) = sync_channel::<Arc<Vec<u8>>>(QUEUED);
    let thread = std::thread::Builder::new()
        .name(format!("vox-store {algorithm}"))
        .spawn(move || {
            let mut hasher = Hasher::of(algorithm);
            for buffer in buffers {
                hasher.update(&buffer);
            }
            hasher.finish()
        })
        .map_err(|source| Error::Io {
            action: "start a thread for",
            path: algorithm.name().into(),
            source,
        })?;
    Ok((sender, thread))
}

/// Whether there are only zeros, which the first byte denies for almost everything.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Reads until the buffer is full or nothing more comes; returns the bytes read.
pub(crate) fn read_buffer(reader: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<u64> {
    reader
        .take(BUFFER_BYTES as u64)
        .read_to_end(buffer)
        .map(|got| got as u64)
}

/// Asks the system to begin writing a part of a file to the disk; a length of 0 means to its end.
///
/// Linux does so for pages of which it is told that they are not needed. Those that are not on the
/// disk yet stay in memory, so that nothing is read again.
fn begin_write_back(file: &File, offset: u64, len: u64) {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{Advice, fadvise};
        let _ = fadvise(
            file,
            offset,
            std::num::NonZeroU64::new(len),
            Advice::DontNeed,
        );
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, len);
}
