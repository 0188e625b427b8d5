//! Moving bytes between a program's pipes and the step's streams.
//!
//! Each pump is a thread of its own and knows nothing of the others. What must stay true: a pump
//! never keeps the step from ending. It answers within [`IDLE`] that the program has ended, or says
//! that it is [waiting](Drain::is_waiting) for a pipe that some other process holds open.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vox_plugin::{Error, Result};

/// Bytes of a chunk at most.
pub const CHUNK: usize = 64 * 1024;
/// How long a pull waits before the pump looks whether the program still reads.
pub const IDLE: Duration = Duration::from_millis(50);
/// Lines of the program's last words.
const LAST_LINES: usize = 20;
/// Bytes of a line of them.
const LAST_LINE: usize = 512;

/// What a program needs of the host.
pub trait Streams: Send + Sync + 'static {
    /// Hands a chunk of text on.
    fn push(&self, port: &str, sequence: u64, data: &[u8]) -> Result<()>;
    /// The next chunk of a port; none at its end.
    fn pull(&self, port: &str, timeout: Duration) -> Result<Option<Vec<u8>>>;
    /// Whether the step shall end.
    fn should_cancel(&self) -> bool;
}

/// How a stream of the program's output has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Drained {
    /// The program closed it.
    Closed,
    /// Nobody takes it any more, so it was closed in the program's face.
    Unwanted,
}

/// A pump from the program's output to a port.
pub struct Drain {
    waiting: AtomicBool,
}

impl Drain {
    /// A pump that has not begun.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            waiting: AtomicBool::new(false),
        })
    }

    /// Whether the pump waits for the program to write.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Pushes what comes out of `pipe`, in whole lines where a chunk holds them, until there is no
    /// more. `seen` gets every byte that was read.
    ///
    /// # Errors
    ///
    /// The pipe cannot be read, or the port refuses a chunk for another reason than that nobody
    /// takes it.
    pub fn run(
        &self,
        mut pipe: impl Read,
        port: &str,
        streams: &dyn Streams,
        mut seen: impl FnMut(&[u8]),
    ) -> Result<Drained> {
        let mut buffer = vec![0; CHUNK];
        let mut filled = 0;
        let mut sequence = 0;
        loop {
            self.waiting.store(true, Ordering::Release);
            let read = pipe.read(&mut buffer[filled..]);
            self.waiting.store(false, Ordering::Release);
            let read = match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Error::Failed(format!("`{port}` cannot be read: {error}")));
                }
                Ok(read) => read,
            };
            let fresh = filled..filled + read;
            seen(&buffer[fresh.clone()]);
            filled = fresh.end;
            let whole = match buffer[fresh].iter().rposition(|byte| *byte == b'\n') {
                _ if read == 0 => filled,
                Some(end) => filled - read + end + 1,
                None if filled == CHUNK => filled,
                None => continue,
            };
            if whole > 0 {
                match streams.push(port, sequence, &buffer[..whole]) {
                    Ok(()) => sequence += 1,
                    // Nothing is connected there, and the program need not know.
                    Err(Error::NotFound(_)) => {}
                    Err(Error::Unavailable(_)) => return Ok(Drained::Unwanted),
                    Err(error) => return Err(error),
                }
            }
            if read == 0 {
                return Ok(Drained::Closed);
            }
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
        }
    }
}

/// Writes what comes from a port into `pipe`, until either ends or `ended` is set.
///
/// # Errors
///
/// The stream ended before its time, or the pipe cannot be written for another reason than that the
/// program reads no more.
pub fn fill(
    mut pipe: impl Write,
    port: &str,
    streams: &dyn Streams,
    ended: &AtomicBool,
) -> Result<()> {
    while !ended.load(Ordering::Acquire) {
        let chunk = match streams.pull(port, IDLE) {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(Error::TimedOut(_)) => continue,
            Err(error) => return Err(error),
        };
        match pipe.write_all(&chunk) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => {
                return Err(Error::Failed(format!(
                    "`{port}` cannot be written: {error}"
                )));
            }
        }
    }
    Ok(())
}

/// The last lines that a program wrote.
#[derive(Debug, Default)]
pub struct LastLines {
    lines: VecDeque<String>,
    /// The line that is not complete, as much of it as is kept.
    partial: Vec<u8>,
}

impl LastLines {
    /// Takes what the program wrote.
    pub fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = piece.strip_suffix(b"\n");
            let text = line.unwrap_or(piece);
            let room = LAST_LINE - self.partial.len();
            self.partial
                .extend_from_slice(&text[..text.len().min(room)]);
            if line.is_some() {
                self.end_line();
            }
        }
    }

    /// The lines, the last one also without its end.
    pub fn finish(mut self) -> Vec<String> {
        self.end_line();
        self.lines.into()
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.partial).trim_end().to_owned();
        self.partial.clear();
        if !line.is_empty() {
            self.lines.push_back(line);
        }
        if self.lines.len() > LAST_LINES {
            self.lines.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Memory;

    fn drained(output: &[u8], streams: &Memory) -> Result<Drained> {
        Drain::new().run(output, "stdout", streams, |_| {})
    }

    #[test]
    fn chunks_end_with_a_line_where_they_can() {
        let streams = Memory::default();
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        let output = [line.repeat(1000), b"rest".to_vec()].concat();
        assert_eq!(drained(&output, &streams), Ok(Drained::Closed));
        let chunks = streams.chunks("stdout");
        assert_eq!(chunks.concat(), output);
        let (rest, whole) = chunks.split_last().unwrap();
        assert_eq!(rest, b"rest");
        assert!(
            whole
                .iter()
                .all(|chunk| chunk.ends_with(b"\n") && chunk.len() <= CHUNK)
        );
    }

    #[test]
    fn a_line_longer_than_a_chunk_goes_in_pieces() {
        let streams = Memory::default();
        let output = b"x".repeat(CHUNK + 1);
        assert_eq!(drained(&output, &streams), Ok(Drained::Closed));
        let lengths: Vec<usize> = streams.chunks("stdout").iter().map(Vec::len).collect();
        assert_eq!(lengths, [CHUNK, 1]);
    }

    #[test]
    fn output_to_a_port_that_is_not_there_is_read_and_dropped() {
        let streams = Memory::refusing(|| Error::NotFound(String::new()));
        assert_eq!(drained(b"a\nb\n", &streams), Ok(Drained::Closed));
    }

    #[test]
    fn output_that_nobody_takes_is_not_read_any_more() {
        let streams = Memory::refusing(|| Error::Unavailable(String::new()));
        assert_eq!(drained(b"a\n", &streams), Ok(Drained::Unwanted));
    }

    #[test]
    fn a_refused_push_is_an_error() {
        let streams = Memory::refusing(|| Error::Cancelled);
        assert_eq!(drained(b"a\n", &streams), Err(Error::Cancelled));
    }

    #[test]
    fn the_last_words_are_the_last_twenty_lines() {
        let mut last = LastLines::default();
        for number in 0..30 {
            last.take(format!("line {number}\r\n\n").as_bytes());
        }
        last.take(&b"y".repeat(2 * LAST_LINE));
        let lines = last.finish();
        assert_eq!(lines.len(), LAST_LINES);
        assert_eq!(lines[0], "line 11");
        assert_eq!(lines[19], "y".repeat(LAST_LINE));
    }
}
