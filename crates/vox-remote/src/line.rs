//! Bytes to lines, however they are cut on the way.
//!
//! What must stay true: the lines are the same for every division of the bytes into pieces. They are
//! divided as bytes, so that a character that is cut in two is whole again in its line.

use std::fmt;

/// The longest line that is held, in bytes: an event with the log-probabilities of many alternatives
/// has some ten thousand.
pub const LONGEST_LINE: usize = 4 << 20;

/// A line that is longer than [`LONGEST_LINE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a line is longer than {} MiB", LONGEST_LINE >> 20)
    }
}

impl std::error::Error for TooLong {}

/// What ends a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// LF, or CR LF: lines of JSON.
    Lf,
    /// LF, CR LF, or CR alone: streams of events (HTML, "Server-sent events").
    LfOrCr,
}

/// Divides what it is given into lines.
#[derive(Debug)]
pub struct Lines {
    ends: Ends,
    pending: Vec<u8>,
    /// How much of `pending` is known to hold no end.
    searched: usize,
    /// The last line ended with CR, so that LF right after it belongs to that end.
    after_cr: bool,
}

impl Lines {
    /// No bytes yet.
    pub const fn new(ends: Ends) -> Self {
        Self {
            ends,
            pending: Vec::new(),
            searched: 0,
            after_cr: false,
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// [`TooLong`]: no line ends where one must.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.pending.extend_from_slice(bytes);
        // Many lines may be pending; only one that has no end yet can be too long for good.
        if self.pending.len() > LONGEST_LINE && self.end().is_none() {
            return Err(TooLong);
        }
        Ok(())
    }

    /// The next whole line, without its end. Bytes that are no UTF-8 become U+FFFD.
    pub fn next_line(&mut self) -> Option<String> {
        loop {
            let end = self.end()?;
            let mut line = &self.pending[..end];
            let is_cr = self.pending[end] == b'\r';
            if self.ends == Ends::Lf {
                line = line.strip_suffix(b"\r").unwrap_or(line);
            }
            let is_second_half = self.after_cr && end == 0 && !is_cr;
            let text = String::from_utf8_lossy(line).into_owned();
            self.pending.drain(..=end);
            self.searched = 0;
            self.after_cr = is_cr;
            if !is_second_half {
                return Some(text);
            }
        }
    }

    /// What is left once no more bytes come: a line without an end; none where there is nothing.
    pub fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.pending);
        self.searched = 0;
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }

    fn end(&mut self) -> Option<usize> {
        let unsearched = &self.pending[self.searched..];
        let found = match self.ends {
            Ends::Lf => memchr::memchr(b'\n', unsearched),
            Ends::LfOrCr => memchr::memchr2(b'\n', b'\r', unsearched),
        };
        match found {
            Some(at) => Some(self.searched + at),
            None => {
                self.searched = self.pending.len();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(ends: Ends, text: &[u8], piece: usize) -> Vec<String> {
        let mut lines = Lines::new(ends);
        let mut all = Vec::new();
        for bytes in text.chunks(piece) {
            lines.push(bytes).unwrap();
            while let Some(line) = lines.next_line() {
                all.push(line);
            }
        }
        all.extend(lines.rest());
        all
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_are_cut() {
        let text = "a\r\nß\u{1f980}\n\n\rb\rc".as_bytes();
        for piece in 1..=text.len() {
            let found = lines(Ends::LfOrCr, text, piece);
            assert_eq!(found, ["a", "ß\u{1f980}", "", "", "b", "c"], "{piece}");
        }
    }

    #[test]
    fn a_carriage_return_within_a_line_of_json_is_no_end() {
        for piece in 1..6 {
            assert_eq!(lines(Ends::Lf, b"a\rb\r\nc", piece), ["a\rb", "c"]);
        }
    }

    #[test]
    fn a_line_that_never_ends_is_refused() {
        let mut lines = Lines::new(Ends::Lf);
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..LONGEST_LINE >> 20 {
            lines.push(&piece).unwrap();
        }
        assert_eq!(lines.push(b"x"), Err(TooLong));
    }
}
