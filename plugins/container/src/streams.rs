//! Between a container's output and the step's ports, and between the port `stdin` and a container.
//!
//! A call of the host may wait for whoever is at the other end, so each port has a thread of its
//! own, and only bounded queues lie between these and the container. What must stay true: the
//! bytes of a stream arrive in the order in which the container wrote them, and none is missing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc;
use vox_plugin::{Error, Result};

/// Bytes of a chunk at most.
const CHUNK: usize = 64 * 1024;
/// Pieces of output, each at most a chunk, that wait for a port.
const WAITING: usize = 64;
/// How long a pull waits before the thread looks whether the container still runs.
const IDLE: Duration = Duration::from_millis(50);
/// Lines of the container's last words.
const LAST_LINES: usize = 20;
/// Bytes of a line of them.
const LAST_LINE: usize = 512;

/// What a container needs of the host.
pub trait Streams: Send + Sync + 'static {
    /// Hands a chunk of text on.
    fn push(&self, port: &str, sequence: u64, data: &[u8]) -> Result<()>;
    /// The next chunk of a port; none at its end.
    fn pull(&self, port: &str, timeout: Duration) -> Result<Option<Vec<u8>>>;
    /// Whether the step shall end.
    fn should_cancel(&self) -> bool;
    /// Tells people what they should know, though the step goes on.
    fn warn(&self, text: &str);
}

/// One of a container's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// `stdout`
    Out,
    /// `stderr`
    Err,
}

impl Port {
    fn name(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
        }
    }
}

/// Where a container's output goes in.
pub struct Sink {
    out: mpsc::Sender<Vec<u8>>,
    err: mpsc::Sender<Vec<u8>>,
    state: Arc<State>,
}

impl Sink {
    /// Takes what the container wrote. Waits while the port's receiver is behind.
    pub async fn take(&self, port: Port, bytes: Vec<u8>) {
        let sender = match port {
            Port::Out => &self.out,
            Port::Err => &self.err,
        };
        self.state.waiting.fetch_add(1, Ordering::AcqRel);
        // The thread goes on until this is dropped.
        let _ = sender.send(bytes).await;
    }
}

/// The way of a container's output to the ports.
pub struct Outputs {
    threads: Vec<JoinHandle<()>>,
    state: Arc<State>,
}

/// What the threads of the outputs tell.
#[derive(Default)]
struct State {
    /// Pieces that have gone into the sink and are not pushed yet.
    waiting: AtomicUsize,
    failure: Mutex<Option<Error>>,
    unwanted: AtomicBool,
    last: Mutex<LastLines>,
}

impl Outputs {
    /// Starts the threads. They end when the sink is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when no thread can be started.
    pub fn new(streams: &Arc<dyn Streams>) -> Result<(Sink, Self)> {
        let state = Arc::new(State::default());
        let mut threads = Vec::new();
        let mut start = |port: Port| -> Result<_> {
            let (send, receive) = mpsc::channel(WAITING);
            let (streams, state) = (Arc::clone(streams), Arc::clone(&state));
            threads.push(spawn(move || push_all(receive, port, &*streams, &state))?);
            Ok(send)
        };
        let (out, err) = (start(Port::Out)?, start(Port::Err)?);
        let sink = Sink {
            out,
            err,
            state: Arc::clone(&state),
        };
        Ok((sink, Self { threads, state }))
    }

    /// Whether a port refused its chunk because nobody takes them any more.
    pub fn is_unwanted(&self) -> bool {
        self.state.unwanted.load(Ordering::Acquire)
    }

    /// Why a port cannot be written, if so.
    pub fn failure(&self) -> Option<Error> {
        lock(&self.state.failure).clone()
    }

    /// Whether everything that has gone into the sink was pushed.
    pub fn is_idle(&self) -> bool {
        self.state.waiting.load(Ordering::Acquire) == 0
    }

    /// Waits until all that went into the sink, which must be dropped, is pushed, and answers the
    /// container's last words.
    ///
    /// # Errors
    ///
    /// A port could not be written.
    pub async fn finish(self) -> Result<Vec<String>> {
        while !self.threads.iter().all(JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        match lock(&self.state.failure).take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut *lock(&self.state.last)).finish()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread.
///
/// # Errors
///
/// [`Error::Unavailable`] when there can be no more.
pub fn spawn(body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("container".to_owned())
        .spawn(body)
        .map_err(|error| Error::Unavailable(format!("no thread can be started: {error}")))
}

/// Pushes what comes, in whole lines where a chunk holds them, until no more can.
fn push_all(mut pieces: mpsc::Receiver<Vec<u8>>, port: Port, streams: &dyn Streams, state: &State) {
    let mut lines = Lines::default();
    let mut sequence = 0;
    let mut push = |data: &[u8]| match streams.push(port.name(), sequence, data) {
        Ok(()) => {
            sequence += 1;
            true
        }
        // Nothing is connected there, and the program need not know.
        Err(Error::NotFound(_)) => true,
        Err(Error::Unavailable(_)) => {
            state.unwanted.store(true, Ordering::Release);
            false
        }
        Err(error) => {
            lock(&state.failure).get_or_insert(error);
            false
        }
    };
    let mut wanted = true;
    while let Some(piece) = pieces.blocking_recv() {
        if port == Port::Err {
            lock(&state.last).take(&piece);
        }
        // What nobody wants is read nevertheless: a container has no pipe that could be closed.
        wanted = wanted && lines.take(&piece, &mut push);
        state.waiting.fetch_sub(1, Ordering::AcqRel);
    }
    if wanted {
        lines.finish(&mut push);
    }
}

/// Cuts a stream into chunks that end with a line where they can.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Hands whole lines on to `push`; false as soon as that wants no more.
    fn take(&mut self, bytes: &[u8], mut push: impl FnMut(&[u8]) -> bool) -> bool {
        self.0.extend_from_slice(bytes);
        let mut begin = 0;
        loop {
            let rest = &self.0[begin..];
            let window = &rest[..rest.len().min(CHUNK)];
            let end = match window.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None if window.len() == CHUNK => CHUNK,
                None => break,
            };
            if !push(&rest[..end]) {
                return false;
            }
            begin += end;
        }
        self.0.drain(..begin);
        true
    }

    /// Hands the last line on, which has no end.
    fn finish(self, mut push: impl FnMut(&[u8]) -> bool) {
        if !self.0.is_empty() {
            push(&self.0);
        }
    }
}

/// The way from the port `stdin` to a container.
pub struct Input {
    /// What came from the port; closed at its end.
    pub chunks: mpsc::Receiver<Result<Vec<u8>>>,
    ended: Arc<AtomicBool>,
}

impl Input {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when no thread can be started.
    pub fn new(streams: &Arc<dyn Streams>) -> Result<Self> {
        let (send, chunks) = mpsc::channel(4);
        let ended = Arc::new(AtomicBool::new(false));
        let (streams, stop) = (Arc::clone(streams), Arc::clone(&ended));
        spawn(move || {
            while !stop.load(Ordering::Acquire) {
                let chunk = match streams.pull("stdin", IDLE) {
                    Ok(None) => break,
                    Err(Error::TimedOut(_)) => continue,
                    Ok(Some(chunk)) => Ok(chunk),
                    Err(error) => Err(error),
                };
                let is_last = chunk.is_err();
                if send.blocking_send(chunk).is_err() || is_last {
                    break;
                }
            }
        })?;
        Ok(Self { chunks, ended })
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// The last lines that a program wrote.
#[derive(Debug, Default)]
struct LastLines {
    lines: VecDeque<String>,
    /// The line that is not complete, as much of it as is kept.
    partial: Vec<u8>,
}

impl LastLines {
    fn take(&mut self, bytes: &[u8]) {
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

    fn finish(mut self) -> Vec<String> {
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

    fn chunks(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        let mut lines = Lines::default();
        for piece in pieces {
            lines.take(piece, |chunk| {
                chunks.push(chunk.to_vec());
                true
            });
        }
        lines.finish(|chunk| {
            chunks.push(chunk.to_vec());
            true
        });
        chunks
    }

    #[test]
    fn chunks_end_with_a_line_where_they_can() {
        let pieces: [&[u8]; 4] = [b"a", b"b\nc", b"d\n", b"e"];
        assert_eq!(chunks(&pieces), [&b"ab\n"[..], b"cd\n", b"e"]);
    }

    #[test]
    fn a_line_longer_than_a_chunk_goes_in_pieces() {
        let lengths: Vec<usize> = chunks(&[&b"x".repeat(2 * CHUNK + 1)])
            .iter()
            .map(Vec::len)
            .collect();
        assert_eq!(lengths, [CHUNK, CHUNK, 1]);
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
