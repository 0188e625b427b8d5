//! What a modality is written over: a file that is read by ranges, and the stream that its chunks go
//! to.
//!
//! ```
//! use vox_plugin::decode::{Blob, Chunks, HostBlob, HostSink, Reader, Sink};
//! use vox_plugin::{Modality, Result, plugin};
//!
//! /// Hands a file of bytes on in pieces.
//! #[plugin(modality)]
//! #[derive(Default)]
//! struct Pieces;
//!
//! impl Modality for Pieces {
//!     fn detect(&mut self, name: &str, _prefix: &[u8]) -> Option<String> {
//!         name.ends_with(".bin").then(|| "application/octet-stream".to_owned())
//!     }
//!
//!     fn decode(&mut self, blob: &str, _arguments: &str) -> Result<u64> {
//!         pieces(Reader::new(HostBlob::new(blob))?, Chunks::new(HostSink))
//!     }
//! }
//!
//! // Over the traits, so that a test runs it without a host: see `decode::Memory`.
//! fn pieces(mut file: Reader<impl Blob>, mut chunks: Chunks<impl Sink>) -> Result<u64> {
//!     while let Some(piece) = file.piece()? {
//!         chunks.push("application/octet-stream", 0, Vec::new(), piece)?;
//!     }
//!     Ok(chunks.count())
//! }
//! # fn main() {}
//! ```
//!
//! What must stay true: however large a file is, and whatever it says of itself, a [`Reader`] holds
//! one piece of it, [`Reader::PIECE`] bytes at most.

use std::cell::RefCell;
use std::io::{self, BufRead, Read, Seek, SeekFrom};

use crate::{Attribute, Chunk, ChunkHead, Error, Result, host};

/// A file that is read by ranges.
pub trait Blob {
    /// Its size in bytes.
    ///
    /// # Errors
    ///
    /// It cannot be had.
    fn size(&self) -> Result<u64>;

    /// Up to `length` bytes from `offset`; fewer only at the end.
    ///
    /// # Errors
    ///
    /// It cannot be read, or the run was cancelled.
    fn read(&self, offset: u64, length: u32) -> Result<Vec<u8>>;
}

/// Where chunks go.
pub trait Sink {
    /// Hands a chunk on.
    ///
    /// # Errors
    ///
    /// Nobody takes it.
    fn push(&self, head: &ChunkHead, data: &[u8]) -> Result<()>;
}

/// A blob of the host. Needs the capability `blob`.
#[derive(Debug, Clone, Copy)]
pub struct HostBlob<'a>(&'a str);

impl<'a> HostBlob<'a> {
    /// The blob of this id.
    pub const fn new(id: &'a str) -> Self {
        Self(id)
    }
}

impl Blob for HostBlob<'_> {
    fn size(&self) -> Result<u64> {
        host::blob::size(self.0)
    }

    fn read(&self, offset: u64, length: u32) -> Result<Vec<u8>> {
        if host::cancel::should_cancel() {
            return Err(Error::Cancelled);
        }
        host::blob::read(self.0, offset, length)
    }
}

/// The port `out`. Needs the capability `stream_io`.
#[derive(Debug, Clone, Copy)]
pub struct HostSink;

impl Sink for HostSink {
    fn push(&self, head: &ChunkHead, data: &[u8]) -> Result<()> {
        host::stream::push("out", head, data, None)
    }
}

/// Reads a blob from its beginning, or from where it was sought, one piece at a time.
///
/// An [`Error`] of the blob passes through [`io::Error`] and comes out again by
/// [`From`](Error#impl-From<Error>-for-Error).
#[derive(Debug)]
pub struct Reader<B> {
    blob: B,
    size: u64,
    piece: Vec<u8>,
    /// Where the piece begins in the file.
    begins: u64,
    /// How much of the piece is consumed.
    consumed: usize,
}

impl<B: Blob> Reader<B> {
    /// Bytes that are asked for at once.
    pub const PIECE: u32 = 64 * 1024;

    /// A reader at the beginning of a blob.
    ///
    /// # Errors
    ///
    /// The blob does not exist, or may not be read.
    pub fn new(blob: B) -> Result<Self> {
        Ok(Self {
            size: blob.size()?,
            blob,
            piece: Vec::new(),
            begins: 0,
            consumed: 0,
        })
    }

    /// Size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where the next byte stands in the file.
    pub fn position(&self) -> u64 {
        self.begins + self.consumed as u64
    }

    /// Goes to a place of the file, which may be behind its end.
    pub fn go_to(&mut self, offset: u64) {
        match offset.checked_sub(self.begins) {
            Some(within) if within <= self.piece.len() as u64 => self.consumed = within as usize,
            _ => {
                self.piece.clear();
                self.begins = offset;
                self.consumed = 0;
            }
        }
    }

    /// The bytes that come next, one or more and all of them consumed; none at the end.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or ends before its size.
    pub fn piece(&mut self) -> Result<Option<&[u8]>> {
        self.fill()?;
        let from = std::mem::replace(&mut self.consumed, self.piece.len());
        let piece = &self.piece[from..];
        Ok((!piece.is_empty()).then_some(piece))
    }

    /// Makes sure that there is something to consume, unless the file is at its end.
    fn fill(&mut self) -> Result<()> {
        if self.consumed < self.piece.len() {
            return Ok(());
        }
        self.begins += self.piece.len() as u64;
        self.consumed = 0;
        self.piece.clear();
        if self.begins >= self.size {
            return Ok(());
        }
        let length = u64::from(Self::PIECE).min(self.size - self.begins) as u32;
        let piece = self.blob.read(self.begins, length)?;
        if piece.is_empty() || piece.len() > length as usize {
            return Err(Error::Failed(format!(
                "the file has {} bytes and gave {} of {length} at offset {}; it was changed while it \
                 was read",
                self.size,
                piece.len(),
                self.begins
            )));
        }
        self.piece = piece;
        Ok(())
    }
}

impl<B: Blob> BufRead for Reader<B> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.fill().map_err(io::Error::other)?;
        Ok(&self.piece[self.consumed..])
    }

    fn consume(&mut self, amount: usize) {
        self.consumed = (self.consumed + amount).min(self.piece.len());
    }
}

impl<B: Blob> Read for Reader<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let count = available.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<B: Blob> Seek for Reader<B> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let offset = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.position().checked_add_signed(by),
        };
        let offset = offset.ok_or(io::ErrorKind::InvalidInput)?;
        self.go_to(offset);
        Ok(offset)
    }
}

/// Chunks on their way to a sink, counted.
#[derive(Debug)]
pub struct Chunks<S> {
    sink: S,
    sequence: u64,
}

impl<S: Sink> Chunks<S> {
    /// At the beginning of a stream.
    pub const fn new(sink: S) -> Self {
        Self { sink, sequence: 0 }
    }

    /// Hands the next chunk on.
    ///
    /// # Errors
    ///
    /// As [`Sink::push`].
    pub fn push(
        &mut self,
        modality: &str,
        timestamp: u64,
        attributes: Vec<Attribute>,
        data: &[u8],
    ) -> Result<()> {
        let head = ChunkHead {
            modality: modality.to_owned(),
            sequence: self.sequence,
            timestamp,
            attributes,
        };
        self.sink.push(&head, data)?;
        self.sequence += 1;
        Ok(())
    }

    /// How many chunks there were.
    pub fn count(&self) -> u64 {
        self.sequence
    }
}

/// A file and a stream in memory, for the tests of a modality.
#[derive(Debug, Default)]
pub struct Memory {
    file: Vec<u8>,
    /// The size that the file says it has, where that is not so.
    claimed: Option<u64>,
    pushed: RefCell<Vec<Chunk>>,
    /// After this many chunks the run is cancelled.
    cancelled_after: Option<usize>,
}

impl Memory {
    /// With a file of these bytes.
    pub fn new(file: impl Into<Vec<u8>>) -> Self {
        Self {
            file: file.into(),
            ..Self::default()
        }
    }

    /// The same, which says that it has `size` bytes.
    #[must_use]
    pub fn claiming(self, size: u64) -> Self {
        Self {
            claimed: Some(size),
            ..self
        }
    }

    /// The same, where the run is cancelled after `chunks` chunks.
    #[must_use]
    pub fn cancelled_after(self, chunks: usize) -> Self {
        Self {
            cancelled_after: Some(chunks),
            ..self
        }
    }

    /// A reader of the file.
    ///
    /// # Errors
    ///
    /// None; it answers what [`Reader::new`] answers.
    pub fn reader(&self) -> Result<Reader<&Self>> {
        Reader::new(self)
    }

    /// The beginning of the stream.
    pub fn chunks(&self) -> Chunks<&Self> {
        Chunks::new(self)
    }

    /// Takes what was pushed.
    pub fn take(&self) -> Vec<Chunk> {
        self.pushed.take()
    }
}

impl Blob for &Memory {
    fn size(&self) -> Result<u64> {
        Ok(self.claimed.unwrap_or(self.file.len() as u64))
    }

    fn read(&self, offset: u64, length: u32) -> Result<Vec<u8>> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.file.get(from..).unwrap_or_default();
        Ok(rest[..rest.len().min(length as usize)].to_vec())
    }
}

impl Sink for &Memory {
    fn push(&self, head: &ChunkHead, data: &[u8]) -> Result<()> {
        let mut pushed = self.pushed.borrow_mut();
        if self.cancelled_after == Some(pushed.len()) {
            return Err(Error::Cancelled);
        }
        pushed.push(Chunk {
            head: head.clone(),
            data: data.to_vec(),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn a_file_is_read_in_bounded_pieces() {
        let file = bytes(200_000);
        let memory = Memory::new(file.clone());
        let mut reader = memory.reader().unwrap();
        let mut read = Vec::new();
        while let Some(piece) = reader.piece().unwrap() {
            assert!(piece.len() <= Reader::<&Memory>::PIECE as usize);
            read.extend_from_slice(piece);
        }
        assert_eq!(read, file);
        assert_eq!(reader.position(), 200_000);
    }

    #[test]
    fn a_reader_goes_where_it_is_sent() {
        let file = bytes(200_000);
        let memory = Memory::new(file.clone());
        let mut reader = memory.reader().unwrap();
        for at in [150_000_u64, 3, 10, 199_999, 65_536, 65_535] {
            reader.seek(SeekFrom::Start(at)).unwrap();
            let mut byte = [0];
            reader.read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], file[at as usize]);
            assert_eq!(reader.stream_position().unwrap(), at + 1);
        }
        reader.seek(SeekFrom::End(5)).unwrap();
        assert_eq!(reader.piece().unwrap(), None);
        assert!(reader.seek(SeekFrom::Current(-300_000)).is_err());
    }

    #[test]
    fn a_file_that_is_shorter_than_it_says_is_an_error() {
        let memory = Memory::new(bytes(100)).claiming(1 << 50);
        let mut reader = memory.reader().unwrap();
        let error = Error::from(reader.read_to_end(&mut Vec::new()).unwrap_err());
        assert!(error.to_string().contains("offset 100"), "{error}");
    }

    #[test]
    fn an_error_of_the_sink_ends_the_stream() {
        let memory = Memory::new([]).cancelled_after(1);
        let mut chunks = memory.chunks();
        chunks.push("text", 0, Vec::new(), b"a").unwrap();
        let ended = chunks.push("text", 0, Vec::new(), b"b");
        assert_eq!(ended, Err(Error::Cancelled));
        assert_eq!(chunks.count(), 1);
        assert_eq!(memory.take().len(), 1);
    }
}
