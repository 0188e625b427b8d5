//! A bounded queue between one writer and one reader, with every way in which it can end.
//!
//! Owns the chunks that were pushed and not yet pulled. What must stay true:
//!
//! - Never more than [`CAPACITY`] chunks wait, and never more than [`CAPACITY_BYTES`] of data
//!   unless one chunk alone is larger: it is let into an empty queue, so that every chunk passes.
//! - Chunks leave in the order in which they came; none is dropped while the channel is open or
//!   [finished](Channel::finish).
//! - Whoever waits is woken by what it waits for, by the end of its time, or by the channel's
//!   end. Nothing here sleeps and looks again.
//! - The first ending counts; a later one changes nothing.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Most chunks that wait in one stream before its writer waits too.
pub const CAPACITY: usize = 16;

/// Most bytes that wait in one stream before its writer waits too: 8 MiB.
pub const CAPACITY_BYTES: usize = 8 << 20;

/// Why a channel did not take or give a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// The caller's time went by. The chunk was not taken.
    TimedOut,
    /// The run, or the step at the other end, was cancelled.
    Cancelled,
    /// The reader takes no more. Only a writer sees this.
    ReaderGone,
    /// The stream ended before its time; the text says why.
    Broken(String),
}

/// How a channel came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ending {
    /// The writer is done; what waits is still to be read.
    Finished,
    ReaderGone,
    Broken(String),
    Cancelled,
}

impl Ending {
    /// What an end that still waits for the stream is told; none when it was finished.
    fn interruption(&self) -> Option<Interruption> {
        match self {
            Self::Finished => None,
            Self::ReaderGone => Some(Interruption::ReaderGone),
            Self::Broken(reason) => Some(Interruption::Broken(reason.clone())),
            Self::Cancelled => Some(Interruption::Cancelled),
        }
    }
}

/// The queue of one stream. Shared by its two ends and by whoever may cancel it.
#[derive(Debug)]
pub struct Channel<T> {
    state: Mutex<State<T>>,
    /// Notified when room may have appeared, and at the end.
    room: Condvar,
    /// Notified when a chunk has come, and at the end.
    chunk: Condvar,
}

/// Guarded by [`Channel::state`]; nothing is called while it is held.
#[derive(Debug)]
struct State<T> {
    queue: VecDeque<(T, usize)>,
    bytes: usize,
    ending: Option<Ending>,
}

impl<T> Default for Channel<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Channel<T> {
    /// An open channel that holds nothing.
    pub fn new() -> Self {
        let state = State {
            queue: VecDeque::new(),
            bytes: 0,
            ending: None,
        };
        Self {
            state: Mutex::new(state),
            room: Condvar::new(),
            chunk: Condvar::new(),
        }
    }

    /// Waits until a chunk of `bytes` bytes would be taken at once, at most until `deadline`
    /// (none: as long as it takes).
    ///
    /// # Errors
    ///
    /// Any [`Interruption`].
    pub fn wait_for_room(
        &self,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<(), Interruption> {
        self.lock_with_room(bytes, deadline).map(drop)
    }

    /// Appends a chunk whose data is `bytes` bytes long; waits like
    /// [`wait_for_room`](Self::wait_for_room).
    ///
    /// # Errors
    ///
    /// Any [`Interruption`]; the chunk was not taken then.
    pub fn push(
        &self,
        chunk: T,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<(), Interruption> {
        let mut state = self.lock_with_room(bytes, deadline)?;
        state.queue.push_back((chunk, bytes));
        state.bytes += bytes;
        drop(state);
        self.chunk.notify_one();
        Ok(())
    }

    /// Takes the oldest chunk, or none after the last one; waits at most until `deadline`.
    ///
    /// # Errors
    ///
    /// [`Interruption::TimedOut`], [`Interruption::Cancelled`] or [`Interruption::Broken`].
    pub fn pull(&self, deadline: Option<Instant>) -> Result<Option<T>, Interruption> {
        let mut state = self.lock();
        loop {
            match state.ending.as_ref().and_then(Ending::interruption) {
                // A reader that has hung up and still reads is told what it would be told then.
                Some(Interruption::ReaderGone) => return Err(Interruption::Cancelled),
                Some(interruption) => return Err(interruption),
                None => {}
            }
            if let Some((chunk, bytes)) = state.queue.pop_front() {
                state.bytes -= bytes;
                drop(state);
                self.room.notify_all();
                return Ok(Some(chunk));
            }
            if state.ending.is_some() {
                return Ok(None);
            }
            state = wait(&self.chunk, state, deadline)?;
        }
    }

    /// The writer is done: the reader gets what waits, then the end of the stream.
    pub fn finish(&self) {
        self.end(Ending::Finished);
    }

    /// The stream ends before its time. What waits is dropped, so that a reader cannot take a
    /// part for the whole.
    pub fn break_off(&self, reason: impl Into<String>) {
        self.end(Ending::Broken(reason.into()));
    }

    /// The reader takes no more; what waits is dropped.
    pub fn hang_up(&self) {
        self.end(Ending::ReaderGone);
    }

    /// Wakes both ends with [`Interruption::Cancelled`]; what waits is dropped.
    pub fn cancel(&self) {
        self.end(Ending::Cancelled);
    }

    /// How the stream ended for its writer, if not by being finished.
    pub fn interruption(&self) -> Option<Interruption> {
        self.lock().ending.as_ref().and_then(Ending::interruption)
    }

    fn end(&self, ending: Ending) {
        let mut state = self.lock();
        // A reader that has not yet read to the end can still be cancelled or go away.
        let settled = match &state.ending {
            None => false,
            Some(Ending::Finished) => ending == Ending::Finished,
            Some(_) => true,
        };
        if settled {
            return;
        }
        let dropped = if ending == Ending::Finished {
            VecDeque::new()
        } else {
            state.bytes = 0;
            std::mem::take(&mut state.queue)
        };
        state.ending = Some(ending);
        drop(state);
        drop(dropped);
        self.room.notify_all();
        self.chunk.notify_all();
    }

    fn lock_with_room(
        &self,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'_, State<T>>, Interruption> {
        let mut state = self.lock();
        loop {
            match &state.ending {
                None => {}
                Some(ended) => {
                    let finished = || Interruption::Broken("it was already finished".into());
                    return Err(ended.interruption().unwrap_or_else(finished));
                }
            }
            let fits = state.queue.len() < CAPACITY && state.bytes + bytes <= CAPACITY_BYTES;
            if fits || state.queue.is_empty() {
                return Ok(state);
            }
            state = wait(&self.room, state, deadline)?;
        }
    }

    /// A thread that panicked while it held the lock left a whole state behind: every change
    /// here is made by calls that cannot panic.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait<'a, T>(
    event: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> Result<MutexGuard<'a, T>, Interruption> {
    let Some(deadline) = deadline else {
        return Ok(event.wait(guard).unwrap_or_else(PoisonError::into_inner));
    };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Interruption::TimedOut);
    }
    let (guard, _) = event
        .wait_timeout(guard, left)
        .unwrap_or_else(PoisonError::into_inner);
    Ok(guard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    fn at_once() -> Option<Instant> {
        Some(Instant::now())
    }

    fn full() -> Channel<usize> {
        let channel = Channel::new();
        for number in 0..CAPACITY {
            channel.push(number, 1, at_once()).unwrap();
        }
        channel
    }

    #[test]
    fn chunks_leave_in_order_and_the_end_follows_the_last() {
        let channel = Channel::new();
        channel.push('a', 1, None).unwrap();
        channel.push('b', 1, None).unwrap();
        channel.finish();
        assert_eq!(channel.pull(None), Ok(Some('a')));
        assert_eq!(channel.pull(None), Ok(Some('b')));
        assert_eq!(channel.pull(None), Ok(None));
        assert_eq!(channel.pull(None), Ok(None));
    }

    #[test]
    fn a_full_channel_refuses_when_the_time_is_up_and_takes_nothing() {
        let channel = full();
        assert_eq!(channel.push(99, 1, at_once()), Err(Interruption::TimedOut));
        channel.finish();
        let read: Vec<_> = std::iter::from_fn(|| channel.pull(None).unwrap()).collect();
        assert_eq!(read, (0..CAPACITY).collect::<Vec<_>>());
    }

    #[test]
    fn bytes_bound_the_queue_too() {
        let channel = Channel::new();
        channel.push('a', CAPACITY_BYTES, None).unwrap();
        assert_eq!(channel.push('b', 1, at_once()), Err(Interruption::TimedOut));
        channel.pull(None).unwrap();
        channel.push('b', 1, at_once()).unwrap();
    }

    #[test]
    fn a_chunk_larger_than_the_bound_passes_alone() {
        let channel = Channel::new();
        channel.push('a', CAPACITY_BYTES + 1, at_once()).unwrap();
        assert_eq!(channel.pull(at_once()), Ok(Some('a')));
    }

    #[test]
    fn a_waiting_writer_goes_on_when_the_reader_makes_room() {
        let channel = Arc::new(full());
        let writer = thread::spawn({
            let channel = Arc::clone(&channel);
            move || channel.push(CAPACITY, 1, None)
        });
        assert_eq!(channel.pull(None), Ok(Some(0)));
        assert_eq!(writer.join().unwrap(), Ok(()));
    }

    #[test]
    fn an_empty_channel_answers_timed_out() {
        assert_eq!(
            Channel::<u8>::new().pull(at_once()),
            Err(Interruption::TimedOut)
        );
    }

    #[test]
    fn cancelling_wakes_a_waiting_reader_and_a_waiting_writer() {
        let empty = Arc::new(Channel::<usize>::new());
        let full = Arc::new(full());
        let reader = thread::spawn({
            let empty = Arc::clone(&empty);
            move || empty.pull(None)
        });
        let writer = thread::spawn({
            let full = Arc::clone(&full);
            move || full.push(0, 1, None)
        });
        empty.cancel();
        full.cancel();
        assert_eq!(reader.join().unwrap(), Err(Interruption::Cancelled));
        assert_eq!(writer.join().unwrap(), Err(Interruption::Cancelled));
    }

    #[test]
    fn a_writer_learns_that_its_reader_has_gone() {
        let channel = full();
        channel.hang_up();
        assert_eq!(channel.push(0, 1, None), Err(Interruption::ReaderGone));
    }

    #[test]
    fn a_broken_stream_never_looks_finished() {
        let channel = Channel::new();
        channel.push('a', 1, None).unwrap();
        channel.break_off("the writer failed");
        channel.finish();
        let broken = Interruption::Broken("the writer failed".into());
        assert_eq!(channel.pull(None), Err(broken.clone()));
        assert_eq!(channel.push('b', 1, None), Err(broken));
    }

    #[test]
    fn a_finished_stream_can_still_be_cancelled() {
        let channel = Channel::new();
        channel.push('a', 1, None).unwrap();
        channel.finish();
        channel.cancel();
        assert_eq!(channel.pull(None), Err(Interruption::Cancelled));
    }
}
