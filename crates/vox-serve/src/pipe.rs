//! What was answered and not yet sent, in bounded size: from an answer's thread, which may wait, to its
//! connection, which must not.
//!
//! The writer waits where the pipe is full, in all no longer than its patience. Where the reader is gone,
//! because the client is, it learns so with its next write.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Why a write did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The reader is gone.
    Gone,
    /// It did not read for as long as the writer has patience.
    Slow,
}

/// What both ends share. Its lock guards all of it; nothing is called under it.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told when there is room, or the reader is gone.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    /// The writer is done.
    ended: bool,
    /// The reader is gone.
    gone: bool,
    reader: Option<Waker>,
}

/// Where an answer's thread writes.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    most: usize,
    patience: Duration,
}

/// Where its connection reads.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// A pipe that holds `most` bytes, or one piece that is larger; its writer waits for `patience` in all.
pub fn pipe(most: usize, patience: Duration) -> (Writer, Reader) {
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        room: Condvar::new(),
    });
    let writer = Writer {
        shared: Arc::clone(&shared),
        most,
        patience,
    };
    (writer, Reader { shared })
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Hands a piece on, and waits until there is room for it.
    pub fn push(&mut self, piece: Bytes) -> Result<(), Stopped> {
        let mut state = self.shared.state();
        let fits = |state: &State| state.bytes == 0 || state.bytes + piece.len() <= self.most;
        let mut began = None;
        while !state.gone && !fits(&state) {
            let began = *began.get_or_insert_with(Instant::now);
            let Some(left) = self.patience.checked_sub(began.elapsed()) else {
                self.patience = Duration::ZERO;
                return Err(Stopped::Slow);
            };
            state = self
                .shared
                .room
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        if let Some(began) = began {
            self.patience = self.patience.saturating_sub(began.elapsed());
        }
        if state.gone {
            return Err(Stopped::Gone);
        }
        state.put(piece);
        Ok(())
    }

    /// Hands a last piece on, also where there is no room for it.
    pub fn push_last(self, piece: Bytes) {
        self.shared.state().put(piece);
    }

    /// Whether the reader is gone.
    pub fn is_gone(&self) -> bool {
        self.shared.state().gone
    }
}

impl State {
    fn put(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        self.pieces.push_back(piece);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.ended = true;
        state.wake();
    }
}

impl Reader {
    /// The next piece; none after the last.
    pub fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.shared.state();
        if let Some(piece) = state.pieces.pop_front() {
            state.bytes -= piece.len();
            self.shared.room.notify_one();
            return Poll::Ready(Some(piece));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.gone = true;
        state.pieces = VecDeque::new();
        self.shared.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::thread;

    fn piece(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn read(reader: &mut Reader) -> Option<Bytes> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(poll_fn(|context| Pin::new(&mut *reader).poll(context)))
    }

    #[test]
    fn a_writer_waits_for_room_and_goes_on() {
        let (mut writer, mut reader) = pipe(4, Duration::from_secs(60));
        let writing = thread::spawn(move || {
            for _ in 0..100 {
                writer.push(piece("abc")).unwrap();
            }
        });
        let mut pieces = 0;
        while let Some(piece) = read(&mut reader) {
            assert_eq!(piece, "abc");
            pieces += 1;
        }
        assert_eq!(pieces, 100);
        writing.join().unwrap();
    }

    #[test]
    fn a_writer_has_one_patience_for_all_its_waits() {
        let (mut writer, _reader) = pipe(4, Duration::from_millis(20));
        writer.push(piece("a large piece goes in alone")).unwrap();
        let began = Instant::now();
        assert_eq!(writer.push(piece("x")), Err(Stopped::Slow));
        assert!(began.elapsed() >= Duration::from_millis(20));
        // Nothing is left of it for the next one.
        assert_eq!(writer.patience, Duration::ZERO);
        assert_eq!(writer.push(piece("x")), Err(Stopped::Slow));
    }

    #[test]
    fn a_reader_that_leaves_ends_the_wait() {
        let (mut writer, reader) = pipe(1, Duration::from_secs(60));
        writer.push(piece("x")).unwrap();
        let writing = thread::spawn(move || writer.push(piece("y")));
        drop(reader);
        assert_eq!(writing.join().unwrap(), Err(Stopped::Gone));
    }
}
