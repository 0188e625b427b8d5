//! Ops on their way to the writer, and the answers on their way back.
//!
//! What must stay true: every op that was taken gets an answer, also when the writer dies: an op that
//! is dropped without one answers by itself.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::{Error, Hash, Op};

/// Where an op went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

/// An op that was handed over and may not be durable yet.
#[derive(Debug)]
#[must_use = "whether the op was written is told by waiting for it"]
pub struct Pending(Arc<Slot>);

impl Pending {
    /// Waits until the op is durable.
    ///
    /// # Errors
    /// Why it was not written; then nothing of it is in the log, except with [`Error::WriterDied`],
    /// which does not know.
    pub fn wait(self) -> Result<Receipt, Error> {
        let mut answer = self.0.lock();
        loop {
            match answer.as_ref() {
                Some(result) => return result.clone(),
                None => {
                    answer = self
                        .0
                        .answered
                        .wait(answer)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// The answer, if it is there already.
    pub fn poll(&self) -> Option<Result<Receipt, Error>> {
        self.0.lock().clone()
    }
}

/// Where the answer to one op goes. The lock guards it alone.
#[derive(Debug, Default)]
struct Slot {
    answer: Mutex<Option<Result<Receipt, Error>>>,
    answered: Condvar,
}

impl Slot {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Result<Receipt, Error>>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who waits for an op.
#[derive(Debug)]
pub(crate) struct Waiter {
    slot: Arc<Slot>,
    dir: Arc<Path>,
}

impl Waiter {
    pub fn answer(self, result: Result<Receipt, Error>) {
        self.give(result);
    }

    fn give(&self, result: Result<Receipt, Error>) {
        let mut answer = self.slot.lock();
        if answer.is_none() {
            *answer = Some(result);
            drop(answer);
            self.slot.answered.notify_all();
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.give(Err(Error::WriterDied {
            path: self.dir.to_path_buf(),
        }));
    }
}

/// What a queue holds and a batch takes at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub ops: usize,
    pub bytes: usize,
}

/// Ops that wait for the writer, in order.
#[derive(Debug)]
pub(crate) struct Queue {
    dir: Arc<Path>,
    bounds: Bounds,
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
}

/// Guarded alone; nothing is called under the lock.
#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(Op, Waiter)>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    pub fn new(dir: Arc<Path>, bounds: Bounds) -> Self {
        Self {
            dir,
            bounds,
            state: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an op, and waits while the queue is full.
    pub fn push(&self, op: Op) -> Result<Pending, Error> {
        let weight = op.weight();
        let slot = Arc::new(Slot::default());
        let waiter = Waiter {
            slot: slot.clone(),
            dir: self.dir.clone(),
        };
        let mut state = self.lock();
        loop {
            if state.closed {
                return Err(Error::Closed {
                    path: self.dir.to_path_buf(),
                });
            }
            let full = state.waiting.len() >= self.bounds.ops
                || state.bytes.saturating_add(weight) > self.bounds.bytes;
            // One op is always taken, however large it is.
            if !full || state.waiting.is_empty() {
                break;
            }
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.push_back((op, waiter));
        state.bytes = state.bytes.saturating_add(weight);
        let first = state.waiting.len() == 1;
        drop(state);
        if first {
            self.work.notify_one();
        }
        Ok(Pending(slot))
    }

    /// The next ops, at least one; none when the queue was closed and is empty.
    pub fn take(&self, batch: Bounds) -> Option<(Vec<Op>, Vec<Waiter>)> {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let (mut taken, mut bytes) = (0, 0usize);
        for (op, _) in state.waiting.iter().take(batch.ops.max(1)) {
            bytes = bytes.saturating_add(op.weight());
            if taken > 0 && bytes > batch.bytes {
                bytes -= op.weight();
                break;
            }
            taken += 1;
        }
        let ops = state.waiting.drain(..taken).unzip();
        state.bytes = state.bytes.saturating_sub(bytes);
        drop(state);
        self.room.notify_all();
        Some(ops)
    }

    /// Takes nothing any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
        self.room.notify_all();
    }

    /// Takes nothing any more, and answers what waits.
    pub fn abandon(&self) {
        self.close();
        let waiting = std::mem::take(&mut self.lock().waiting);
        drop(waiting);
    }
}
