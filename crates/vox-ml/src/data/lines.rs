//! Lines of a file, one at a time, however the file was written.
//!
//! What must stay true: memory does not grow with the file, nor beyond [`MAX_LINE_BYTES`] with a
//! line; and a line that cannot be used does not hide those after it.

use std::io::{self, BufRead, Read as _};

use crate::error::LineFault;

/// The longest line that is read: 64 MiB. A book is a hundredth of that; what is longer is a file
/// without line breaks, which would have to be held in memory several times over.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Gives one line after the other, without its end (`\n` or `\r\n`) and without a byte order mark.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: R,
    /// Lines that were given.
    number: u64,
    /// Bytes that were read.
    bytes: u64,
    limit: usize,
    buffer: Vec<u8>,
}

/// A line with its number, counted from 1.
pub(crate) type Numbered<'a> = (u64, Result<&'a str, LineFault>);

impl<R: BufRead> Lines<R> {
    pub fn new(reader: R) -> Self {
        Self::with_limit(reader, MAX_LINE_BYTES)
    }

    fn with_limit(reader: R, limit: usize) -> Self {
        Self {
            reader,
            number: 0,
            bytes: 0,
            limit,
            buffer: Vec::new(),
        }
    }

    /// Bytes that were read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next line; none after the last. A file that ends with a line break has no empty line
    /// after it.
    pub fn next(&mut self) -> io::Result<Option<Numbered<'_>>> {
        self.buffer.clear();
        // Two more than a line has room for its end.
        let room = self.limit as u64 + 2;
        let read = (&mut self.reader)
            .take(room)
            .read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.bytes += read as u64;
        let ended = self.buffer.last() == Some(&b'\n');
        if !ended && read as u64 == room {
            self.bytes += self.reader.skip_until(b'\n')? as u64;
            return Ok(Some((self.number, Err(LineFault::TooLong))));
        }
        let mut line = self.buffer.as_slice();
        line = line.strip_suffix(b"\n").unwrap_or(line);
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.number == 1 {
            line = line.strip_prefix(MARK).unwrap_or(line);
        }
        if line.len() > self.limit {
            return Ok(Some((self.number, Err(LineFault::TooLong))));
        }
        let text = str::from_utf8(line).map_err(|error| LineFault::Encoding {
            column: error.valid_up_to() + 1,
        });
        Ok(Some((self.number, text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], limit: usize) -> Vec<(u64, Result<String, LineFault>)> {
        let mut lines = Lines::with_limit(bytes, limit);
        let mut found = Vec::new();
        while let Some((number, line)) = lines.next().unwrap() {
            found.push((number, line.map(str::to_owned)));
        }
        found
    }

    #[test]
    fn ends_of_lines_and_a_byte_order_mark_are_no_part_of_a_line() {
        let found = all(b"\xef\xbb\xbfa\r\n\n  b \rc", 100);
        let texts: Vec<_> = found.into_iter().map(|(_, line)| line.unwrap()).collect();
        assert_eq!(texts, ["a", "", "  b \rc"]);
    }

    #[test]
    fn a_line_break_at_the_end_makes_no_line() {
        assert_eq!(all(b"a\n", 100).len(), 1);
        assert!(all(b"", 100).is_empty());
    }

    #[test]
    fn a_huge_line_is_refused_and_the_next_is_read() {
        let found = all(b"12345678\n1234\r\n1234567890", 4);
        assert_eq!(
            found,
            [
                (1, Err(LineFault::TooLong)),
                (2, Ok("1234".into())),
                (3, Err(LineFault::TooLong)),
            ]
        );
    }

    #[test]
    fn a_line_that_is_not_utf8_is_refused_at_its_byte_and_the_next_is_read() {
        let found = all(b"ab\xff\nc", 100);
        assert_eq!(found[0], (1, Err(LineFault::Encoding { column: 3 })));
        assert_eq!(found[1], (2, Ok("c".into())));
    }
}
