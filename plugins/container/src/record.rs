//! Podman's own record of a container's output.
//!
//! Podman hands output on to whoever is attached only as fast as they can take it just then, and
//! drops what they cannot; its record is complete. So the output of a Podman container is read from
//! the record, a file of lines `<time> <stdout|stderr> <F|P> <text>`, where `P` stands for a text
//! that goes on without the end of a line.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::streams::Port;

/// Bytes that are read at a time.
const READ: usize = 256 * 1024;

/// A record that is being read while it is written.
pub struct Record {
    file: File,
    /// What was read and is no whole line yet.
    rest: Vec<u8>,
    /// Bytes of the file that were read.
    position: u64,
}

impl Record {
    /// Opens a record.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be read by this user.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path)?,
            rest: Vec::new(),
            position: 0,
        })
    }

    /// Bytes of the file that were read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What was written since the last time, as much of it as is taken at a time: pieces of output
    /// in their order, neighbours of one port together. Empty when there is no more yet.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read(&mut self) -> io::Result<Vec<(Port, Vec<u8>)>> {
        let before = self.rest.len();
        self.rest.resize(before + READ, 0);
        let read = self.file.read(&mut self.rest[before..]);
        self.rest.truncate(before + *read.as_ref().unwrap_or(&0));
        self.position += read? as u64;
        let mut pieces: Vec<(Port, Vec<u8>)> = Vec::new();
        let mut begin = 0;
        while let Some(length) = self.rest[begin..].iter().position(|byte| *byte == b'\n') {
            let line = &self.rest[begin..=begin + length];
            begin += length + 1;
            let Some((port, text)) = parse(line) else {
                continue;
            };
            match pieces.last_mut() {
                Some((last, piece)) if *last == port => piece.extend_from_slice(text),
                _ => pieces.push((port, text.to_vec())),
            }
        }
        self.rest.drain(..begin);
        Ok(pieces)
    }

    /// Whether all that was written so far is read.
    pub fn is_read(&self) -> bool {
        let length = self.file.metadata().map_or(0, |meta| meta.len());
        length <= self.position
    }
}

/// The port and the text of a line, which ends with the end of the text's line where it has one.
fn parse(line: &[u8]) -> Option<(Port, &[u8])> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let _time = fields.next()?;
    let port = match fields.next()? {
        b"stdout" => Port::Out,
        b"stderr" => Port::Err,
        _ => return None,
    };
    let kind = fields.next()?;
    let text = fields.next()?;
    match kind {
        b"F" => Some((port, text)),
        b"P" => Some((port, &text[..text.len() - 1])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_record_is_read_as_it_grows() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut record = Record::open(file.path()).unwrap();
        assert!(record.read().unwrap().is_empty());
        file.write_all(b"t stdout F a b\nt stdout P c\r\nt stderr F e\nt std")
            .unwrap();
        let pieces = record.read().unwrap();
        assert_eq!(
            pieces,
            [
                (Port::Out, b"a b\nc\r".to_vec()),
                (Port::Err, b"e\n".to_vec())
            ]
        );
        file.write_all(b"out F \nnonsense\n").unwrap();
        assert_eq!(record.read().unwrap(), [(Port::Out, b"\n".to_vec())]);
        assert!(record.is_read());
    }
}
