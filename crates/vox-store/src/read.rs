//! Reading a blob: no byte is handed out before it was verified.
//!
//! A blob of one group is hashed as a whole. Of a larger one the tree beside it is compared with the
//! blob's name once; then each group is compared with the tree when it is read. A tree that is missing
//! or damaged says nothing about the blob: it is made anew from the blob if that is sound.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use vox_crypto::Digest;
use vox_crypto::tree::{GROUP_BYTES, Tree, TreeHasher};

use crate::error::{Error, Fault, failed};
use crate::layout::{self, Kind};
use crate::store::{Store, Unfinished};

const GROUP: u64 = GROUP_BYTES as u64;

/// Bytes of one group's value in a written tree.
const VALUE_BYTES: u64 = 32;

/// Reads a blob, verified group by group. It goes on reading what it opened, whatever is removed or
/// replaced meanwhile.
///
/// As a [`Read`] it fails with an [`io::Error`] that has the [`Error`] inside.
#[derive(Debug)]
pub struct BlobReader {
    store: Store,
    digest: Digest,
    file: File,
    len: u64,
    /// None for a blob of one group.
    tree: Option<Tree>,
    position: u64,
    /// The group that was read last, verified, and its number.
    group: Option<(u64, Vec<u8>)>,
}

impl BlobReader {
    pub(crate) fn new(store: Store, digest: Digest, file: File, len: u64) -> Result<Self, Error> {
        let mut reader = Self {
            store,
            digest,
            file,
            len,
            tree: None,
            position: 0,
            group: None,
        };
        // Of an empty file no group will be read.
        if len == 0 && digest != vox_crypto::hash(b"") {
            return Err(reader.corrupt(Fault::Whole));
        }
        if len > GROUP {
            let stored = reader.stored_tree()?;
            reader.tree = Some(match stored {
                Some(tree) => tree,
                None => reader.rebuilt_tree()?,
            });
        }
        Ok(reader)
    }

    /// The blob's name.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Bytes of the blob.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the blob has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part of the blob. Only the groups in which it lies are read.
    ///
    /// # Errors
    /// [`Error::Range`] when the blob is shorter, [`Error::Corrupt`].
    pub fn read_range(&mut self, offset: u64, len: u64) -> Result<Vec<u8>, Error> {
        let range = || Error::Range {
            digest: self.digest,
            offset,
            len,
            blob: self.len,
        };
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(range());
        }
        let mut part = vec![0; usize::try_from(len).map_err(|_| range())?];
        let mut filled = 0;
        while let Some(rest) = part.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_at(offset + filled as u64, rest)? {
                0 => return Err(self.corrupt(Fault::Cut)),
                got => filled += got,
            }
        }
        Ok(part)
    }

    /// Reads from a place of the blob into `buffer`, and returns how many bytes; 0 at the end. Where
    /// [`Read`] goes on does not change.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and failures of the file system.
    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        if offset >= self.len || buffer.is_empty() {
            return Ok(0);
        }
        let (index, within) = (offset / GROUP, (offset % GROUP) as usize);
        let group = self.group(index)?;
        let part = group.get(within..).unwrap_or_default();
        let count = part.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), part.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    /// The typed error inside of one that [`Read`] gave.
    pub(crate) fn typed(&self, error: io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => failed("read", &self.path())(source),
        }
    }

    /// A group, verified.
    fn group(&mut self, index: u64) -> Result<&[u8], Error> {
        if self.group.as_ref().is_none_or(|(at, _)| *at != index) {
            let (_, mut bytes) = self.group.take().unwrap_or_default();
            let start = index * GROUP;
            let len = GROUP.min(self.len - start);
            bytes.resize(len as usize, 0);
            self.file
                .seek(SeekFrom::Start(start))
                .and_then(|_| self.file.read_exact(&mut bytes))
                .map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => self.corrupt(Fault::Cut),
                    _ => failed("read", &self.path())(error),
                })?;
            let sound = match &self.tree {
                Some(tree) => tree.verify(index as usize, &bytes),
                None => vox_crypto::hash(&bytes) == self.digest,
            };
            if !sound {
                return Err(self.corrupt(Fault::Bytes { offset: start, len }));
            }
            self.group = Some((index, bytes));
        }
        Ok(self.group.as_ref().map_or(&[], |(_, bytes)| bytes))
    }

    fn path(&self) -> std::path::PathBuf {
        self.store.inner.layout.object(Kind::Blob, &self.digest)
    }

    fn corrupt(&self, fault: Fault) -> Error {
        Error::Corrupt {
            digest: self.digest,
            path: self.path(),
            fault,
        }
    }

    /// The tree beside the blob, if it is the blob's.
    fn stored_tree(&self) -> Result<Option<Tree>, Error> {
        let path = self.store.inner.layout.tree(&self.digest);
        let (file, len) = match layout::open_no_follow(&path) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        // A tree with more groups than the blob has bytes for is not worth the memory.
        let groups = len / VALUE_BYTES;
        if len % VALUE_BYTES != 0 || groups > Tree::groups_of(self.len) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(len)
            .read_to_end(&mut bytes)
            .map_err(failed("read", &path))?;
        // Its shape, and so its digest, depends on the number of its groups alone.
        let own = Tree::from_bytes(groups.saturating_mul(GROUP), &bytes)
            .is_some_and(|tree| tree.digest() == Some(self.digest));
        match Tree::from_bytes(self.len, &bytes) {
            tree @ Some(_) if own => Ok(tree),
            None if own => Err(self.corrupt(Fault::Whole)),
            _ => Ok(None),
        }
    }

    /// The tree of the blob, made from the blob, which is sound then.
    fn rebuilt_tree(&mut self) -> Result<Tree, Error> {
        let mut hasher = TreeHasher::new();
        let mut buffer = vec![0; 4 * GROUP_BYTES];
        self.file.rewind().map_err(failed("read", &self.path()))?;
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(got) => hasher.update(buffer.get(..got).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed("read", &self.path())(error)),
            };
        }
        let (digest, tree) = hasher.finish();
        if digest != self.digest || tree.blob_len() != self.len {
            return Err(self.corrupt(Fault::Whole));
        }
        tracing::warn!(blob = %self.digest, "the tree of this blob was damaged and is made anew");
        if let Err(error) = self.keep_tree(&tree) {
            tracing::debug!(blob = %self.digest, %error, "the tree of this blob was not kept");
        }
        Ok(tree)
    }

    fn keep_tree(&self, tree: &Tree) -> Result<(), Error> {
        keep_tree(&self.store, &self.digest, tree)
    }
}

/// Puts a blob's tree beside it.
pub(crate) fn keep_tree(store: &Store, digest: &Digest, tree: &Tree) -> Result<(), Error> {
    let unfinished = Unfinished::of(store.lease()?.temporary()?);
    store.write_whole(&unfinished.path, &tree.to_bytes())?;
    let path = store.inner.layout.tree(digest);
    std::fs::rename(&unfinished.path, &path).map_err(failed("publish", &path))
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.read_at(self.position, buffer)?;
        self.position += got as u64;
        Ok(got)
    }
}

impl Seek for BlobReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "a place before the blob's begin",
            )
        })?;
        Ok(self.position)
    }
}
