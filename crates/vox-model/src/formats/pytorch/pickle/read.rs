//! The bytes of a pickle, counted.

use std::io::{self, Read};

use super::super::Fault;
use super::machine::MAX_NAME_BYTES;

/// Bytes of one pickle at most.
pub const MAX_PICKLE_BYTES: u64 = 64 << 20;
/// Bytes of one text or byte string at most.
pub const MAX_TEXT_BYTES: u64 = 1 << 20;
/// Bytes of one whole number at most.
pub const MAX_INTEGER_BYTES: u64 = 1 << 10;

/// A pickle as it is read, which knows its own name for errors.
pub(super) struct Bytes<'a> {
    from: &'a mut dyn Read,
    /// Bytes that were taken so far.
    pub(super) offset: u64,
    pub(super) pickle: &'static str,
}

impl<'a> Bytes<'a> {
    pub(super) fn new(from: &'a mut dyn Read, pickle: &'static str) -> Self {
        Self {
            from,
            offset: 0,
            pickle,
        }
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                self.truncated(what)
            } else {
                Fault::Read(error)
            }
        })?;
        self.advance(N as u64)?;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self, what: &'static str) -> Result<u8, Fault> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// As many bytes as the file claims, unless there are too many or too few. Room is made as they
    /// arrive.
    pub(super) fn many(
        &mut self,
        len: u64,
        limit: u64,
        what: &'static str,
    ) -> Result<Vec<u8>, Fault> {
        if len > limit {
            return Err(self.limit(what, limit));
        }
        let mut bytes = Vec::new();
        let read = self.from.take(len).read_to_end(&mut bytes);
        read.map_err(Fault::Read)?;
        self.advance(bytes.len() as u64)?;
        if bytes.len() as u64 == len {
            Ok(bytes)
        } else {
            Err(self.truncated(what))
        }
    }

    /// A line of text without its end.
    pub(super) fn line(&mut self, what: &'static str) -> Result<String, Fault> {
        let mut line = Vec::new();
        loop {
            match self.byte(what)? {
                b'\n' => break,
                byte if line.len() < MAX_NAME_BYTES => line.push(byte),
                _ => return Err(self.limit(what, MAX_NAME_BYTES as u64)),
            }
        }
        String::from_utf8(line).map_err(|_| self.damaged("a name is not UTF-8"))
    }

    fn advance(&mut self, count: u64) -> Result<(), Fault> {
        self.offset = self.offset.saturating_add(count);
        if self.offset > MAX_PICKLE_BYTES {
            return Err(self.limit("the bytes", MAX_PICKLE_BYTES));
        }
        Ok(())
    }

    pub(super) fn truncated(&self, what: &'static str) -> Fault {
        Fault::Truncated {
            what,
            pickle: self.pickle,
            offset: self.offset,
        }
    }

    pub(super) fn limit(&self, what: &'static str, limit: u64) -> Fault {
        Fault::Limit {
            what,
            limit,
            pickle: self.pickle,
            offset: self.offset,
        }
    }

    pub(super) fn damaged(&self, why: &'static str) -> Fault {
        Fault::Pickle {
            why,
            pickle: self.pickle,
            offset: self.offset,
        }
    }
}
