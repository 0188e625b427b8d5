//! Moving bytes between a program's pipes and the step's streams.
//!
//! A [`Drain`] moves what a program writes, one read at a time. Where the port is read by nobody it
//! never waits for anything but the pipe, and the loop that watches the program calls it; where
//! somebody reads the port it can wait for them, and has a thread of its own, like [`fill`]. Pipes
//! do not block on this side. What must stay true: a pump never keeps a step from ending. It looks
//! every [`IDLE`] whether it shall go on, whatever holds the other end of its pipe.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, read, write};
use vox_plugin::{Error, Result};

use crate::last::LastLines;
use crate::progress::Progress;

/// Bytes of a chunk at most.
pub const CHUNK: usize = 64 * 1024;
/// Bytes of a chunk of a program that writes little.
const FIRST_CHUNK: usize = 4 * 1024;
/// How long a pump waits before it looks whether it shall go on.
pub const IDLE: Duration = Duration::from_millis(50);

/// What a program needs of the host.
pub trait Streams: Send + Sync + 'static {
    /// Hands a chunk of text on.
    fn push(&self, port: &str, sequence: u64, data: &[u8]) -> Result<()>;
    /// The next chunk of a port; none at its end.
    fn pull(&self, port: &str, timeout: Duration) -> Result<Option<Vec<u8>>>;
    /// Tells whoever watches the run, in JSON.
    fn progress(&self, event: &str) -> Result<()>;
    /// Whether the step shall end.
    fn should_cancel(&self) -> bool;
}

/// Bytes that a program may still write, to all its streams together.
#[derive(Debug)]
pub struct Budget(AtomicU64);

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(AtomicU64::new(bytes))
    }

    /// How many of `bytes` there was room for.
    fn take(&self, bytes: usize) -> usize {
        let wanted = bytes as u64;
        let after = |left: u64| Some(left.saturating_sub(wanted));
        let left = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, after)
            .unwrap_or_default();
        left.min(wanted) as usize
    }
}

/// How a stream of the program's output has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// The program closed it.
    Closed,
    /// Nobody takes it any more, so it was closed in the program's face.
    Unwanted,
    /// The program wrote more than it may.
    Excess,
    /// It was given up while something held it open.
    Abandoned,
}

/// What a [`Drain`] has done.
#[derive(Debug, PartialEq, Eq)]
pub enum Drawn {
    /// It read, and there may be more at once.
    More,
    /// There was nothing more to read for now.
    Empty,
    /// The stream has ended.
    End(Drained),
}

/// A pump from the program's output to a port.
pub struct Drain {
    pipe: OwnedFd,
    port: &'static str,
    buffer: Vec<u8>,
    filled: usize,
    sequence: u64,
    progress: Progress,
    /// Where output is put together that progress was taken out of.
    kept: Vec<u8>,
    last: LastLines,
}

impl Drain {
    /// A pump that has not begun.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the pipe cannot be made not to block.
    pub fn new(pipe: OwnedFd, port: &'static str) -> Result<Self> {
        Ok(Self {
            pipe: unblocked(pipe, port)?,
            port,
            buffer: Vec::new(),
            filled: 0,
            sequence: 0,
            progress: Progress::default(),
            kept: Vec::new(),
            last: LastLines::default(),
        })
    }

    /// The pipe, to be waited for.
    pub fn pipe(&self) -> &OwnedFd {
        &self.pipe
    }

    /// The last lines that were read.
    pub fn into_last_lines(self) -> LastLines {
        self.last
    }

    /// Reads once, and pushes what came out of the pipe, in whole lines where a chunk holds them.
    ///
    /// # Errors
    ///
    /// The pipe cannot be read, or the port refuses a chunk for another reason than that nobody
    /// takes it.
    pub fn draw(&mut self, streams: &dyn Streams, budget: &Budget) -> Result<Drawn> {
        if self.filled == self.buffer.len() {
            let larger = (2 * self.buffer.len()).clamp(FIRST_CHUNK, CHUNK);
            self.buffer.resize(larger, 0);
        }
        let room = self.buffer.len() - self.filled;
        let came = match read(&self.pipe, &mut self.buffer[self.filled..]) {
            Err(Errno::AGAIN) => return Ok(Drawn::Empty),
            Err(Errno::INTR) => return Ok(Drawn::More),
            Err(error) => {
                return Err(Error::Failed(format!(
                    "`{}` cannot be read: {error}",
                    self.port
                )));
            }
            Ok(came) => came,
        };
        let allowed = budget.take(came);
        let is_end = came == 0 || allowed < came;
        let fresh = self.filled..self.filled + allowed;
        self.last.take(&self.buffer[fresh.clone()]);
        self.filled = fresh.end;
        let whole = match memchr::memrchr(b'\n', &self.buffer[fresh.clone()]) {
            _ if is_end => self.filled,
            Some(end) => fresh.start + end + 1,
            None if self.filled == CHUNK => self.filled,
            None => 0,
        };
        if whole > 0 {
            if !self.push(whole, streams)? {
                return Ok(Drawn::End(Drained::Unwanted));
            }
            self.buffer.copy_within(whole..self.filled, 0);
            self.filled -= whole;
        }
        Ok(match came {
            0 => Drawn::End(Drained::Closed),
            _ if is_end => Drawn::End(Drained::Excess),
            _ if came == room => Drawn::More,
            _ => Drawn::Empty,
        })
    }

    /// Draws until the stream ends, or `abandoned` is set while there is nothing to read.
    ///
    /// # Errors
    ///
    /// As [`Self::draw`].
    pub fn run(
        &mut self,
        streams: &dyn Streams,
        budget: &Budget,
        abandoned: &AtomicBool,
    ) -> Result<Drained> {
        loop {
            match self.draw(streams, budget)? {
                Drawn::More => {}
                Drawn::End(how) => return Ok(how),
                Drawn::Empty if abandoned.load(Ordering::Acquire) => return Ok(Drained::Abandoned),
                Drawn::Empty => wait(&self.pipe, PollFlags::IN),
            }
        }
    }

    /// Pushes the first `whole` bytes of the buffer; false when nobody takes them any more.
    fn push(&mut self, whole: usize, streams: &dyn Streams) -> Result<bool> {
        let text = &self.buffer[..whole];
        let emit = |event: &str| streams.progress(event);
        let output = self.progress.take(text, &mut self.kept, emit);
        if output.is_empty() {
            return Ok(true);
        }
        match streams.push(self.port, self.sequence, output) {
            Ok(()) => self.sequence += 1,
            // Nothing is connected there, and the program need not know.
            Err(Error::NotFound(_)) => {}
            Err(Error::Unavailable(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }
}

/// What a program reads.
pub enum Input {
    /// What comes from the port `stdin`.
    Port,
    /// A text that the step gives.
    Text(Vec<u8>),
}

/// Writes a program's input into `pipe`, until either ends or `ended` is set.
///
/// # Errors
///
/// The stream ended before its time, or the pipe cannot be written for another reason than that the
/// program reads no more.
pub fn fill(pipe: OwnedFd, input: Input, streams: &dyn Streams, ended: &AtomicBool) -> Result<()> {
    let pipe = unblocked(pipe, "stdin")?;
    if let Input::Text(text) = input {
        return write_all(&pipe, &text, ended).map(drop);
    }
    while !ended.load(Ordering::Acquire) {
        let chunk = match streams.pull("stdin", IDLE) {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(Error::TimedOut(_)) => continue,
            Err(error) => return Err(error),
        };
        if !write_all(&pipe, &chunk, ended)? {
            break;
        }
    }
    Ok(())
}

/// False when the program reads no more.
fn write_all(pipe: &OwnedFd, mut bytes: &[u8], ended: &AtomicBool) -> Result<bool> {
    while !bytes.is_empty() {
        match write(pipe, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::PIPE) => return Ok(false),
            Err(Errno::AGAIN) if ended.load(Ordering::Acquire) => return Ok(false),
            Err(Errno::AGAIN) => wait(pipe, PollFlags::OUT),
            Err(error) => {
                return Err(Error::Failed(format!("`stdin` cannot be written: {error}")));
            }
        }
    }
    Ok(true)
}

/// Waits for a pipe, at most [`IDLE`]; whoever waits tries again, whatever came of it.
fn wait(pipe: &OwnedFd, what: PollFlags) {
    let patience = Timespec::try_from(IDLE).ok();
    let _ = poll(&mut [PollFd::new(pipe, what)], patience.as_ref());
}

fn unblocked(pipe: OwnedFd, port: &str) -> Result<OwnedFd> {
    ioctl_fionbio(&pipe, true)
        .map_err(|error| Error::Failed(format!("the pipe of `{port}` is unusable: {error}")))?;
    Ok(pipe)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::thread;

    use super::*;
    use crate::testing::Memory;

    fn drained_within(output: &[u8], streams: &Memory, budget: u64) -> Result<Drained> {
        let (end, mut pipe) = io::pipe().unwrap();
        let output = output.to_vec();
        let writer = thread::spawn(move || pipe.write_all(&output));
        let mut drain = Drain::new(end.into(), "stdout").unwrap();
        let ended = drain.run(streams, &Budget::new(budget), &AtomicBool::new(false));
        drop(drain);
        // A stream that was closed in its face is not written to its end.
        let _ = writer.join().unwrap();
        ended
    }

    fn drained(output: &[u8], streams: &Memory) -> Result<Drained> {
        drained_within(output, streams, u64::MAX)
    }

    #[test]
    fn chunks_end_with_a_line_where_they_can() {
        let streams = Memory::default();
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        let output = [line.repeat(5000), b"rest".to_vec()].concat();
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
    fn of_output_beyond_the_budget_what_fits_goes_on() {
        let streams = Memory::default();
        assert_eq!(drained_within(b"a\nbc", &streams, 3), Ok(Drained::Excess));
        assert_eq!(streams.chunks("stdout").concat(), b"a\nb");
        let streams = Memory::default();
        assert_eq!(drained_within(b"a\nb", &streams, 3), Ok(Drained::Closed));
    }

    #[test]
    fn a_pump_that_is_given_up_ends_while_its_pipe_is_open() {
        let (end, pipe) = io::pipe().unwrap();
        let mut drain = Drain::new(end.into(), "stdout").unwrap();
        let ended = drain.run(&Memory::default(), &Budget::new(1), &AtomicBool::new(true));
        assert_eq!(ended, Ok(Drained::Abandoned));
        drop(pipe);
    }
}
