//! Lines of bounded length, read and written in bounded time.
//!
//! A time-out of the system counts for one read or write, so that whoever sends a byte now and then
//! is never late. Here it counts for the whole line.

use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

use super::platform::Stream;

/// Bytes that are asked for at once.
const PIECE: usize = 4 << 10;

/// Why there is no line.
#[derive(Debug)]
pub(super) enum NoLine {
    /// Nothing more comes, and nothing began.
    End,
    /// It has more bytes than it may.
    TooLong,
    /// It did not come in time.
    TimedOut,
    /// The connection broke, perhaps within the line.
    Broken(io::Error),
}

/// The lines that come over a stream.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    stream: &'a Stream,
    /// What came behind the last line.
    pending: Vec<u8>,
}

impl<'a> Lines<'a> {
    pub fn new(stream: &'a Stream) -> Self {
        Self {
            stream,
            pending: Vec::new(),
        }
    }

    /// The next line without its end. It has at most `most` bytes and comes `within` a time.
    pub fn next(&mut self, most: usize, within: Duration) -> Result<Vec<u8>, NoLine> {
        let until = Instant::now() + within;
        let mut searched = 0;
        loop {
            if let Some(end) = self.pending[searched..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let rest = self.pending.split_off(searched + end + 1);
                let mut line = std::mem::replace(&mut self.pending, rest);
                if line.len() > most {
                    return Err(NoLine::TooLong);
                }
                line.pop();
                return Ok(line);
            }
            if self.pending.len() >= most {
                return Err(NoLine::TooLong);
            }
            searched = self.pending.len();
            self.fill(until)?;
        }
    }

    fn fill(&mut self, until: Instant) -> Result<(), NoLine> {
        let broken = NoLine::Broken;
        let mut piece = [0; PIECE];
        let left = time_left(until).ok_or(NoLine::TimedOut)?;
        self.stream.set_read_timeout(Some(left)).map_err(broken)?;
        let mut stream = self.stream;
        match stream.read(&mut piece) {
            Ok(0) if self.pending.is_empty() => Err(NoLine::End),
            Ok(0) => Err(broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                self.pending.extend_from_slice(&piece[..count]);
                Ok(())
            }
            Err(error) if is_time_out(&error) => Err(NoLine::TimedOut),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(broken(error)),
        }
    }
}

/// Writes bytes `within` a time.
pub(super) fn send(mut stream: &Stream, mut bytes: &[u8], within: Duration) -> io::Result<()> {
    let until = Instant::now() + within;
    while !bytes.is_empty() {
        let left = time_left(until).ok_or(io::ErrorKind::TimedOut)?;
        stream.set_write_timeout(Some(left))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether an error means that the time was over.
pub(super) fn is_time_out(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Time until a moment; none when it is over. The system takes no time-out of zero.
fn time_left(until: Instant) -> Option<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    (left >= Duration::from_micros(1)).then_some(left)
}
