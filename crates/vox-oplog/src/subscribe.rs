//! Every op from a position on, those that are there and those that come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::query::Query;
use crate::signal::Signal;
use crate::{Error, Op, OpLog, Reader};

/// Ops that are read at once.
const PAGE: u64 = 256;

/// An iterator over the ops of a log that waits for those to come. After an error it ends.
#[derive(Debug)]
pub struct Subscription {
    reader: Reader,
    next: u64,
    /// Whether it ends when no handle of this process can append any more.
    until_closed: bool,
    cancelled: Arc<AtomicBool>,
    page: VecDeque<Op>,
    failed: bool,
}

impl Subscription {
    pub(crate) fn new(reader: Reader, next: u64, until_closed: bool) -> Self {
        Self {
            reader,
            next,
            until_closed,
            cancelled: Arc::default(),
            page: VecDeque::new(),
            failed: false,
        }
    }

    /// What calls this subscription off, from any thread.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            cancelled: self.cancelled.clone(),
            signal: self.reader.signal.clone(),
        }
    }

    /// The number of the next op that it looks for.
    pub fn position(&self) -> u64 {
        self.next
    }

    fn fill(&mut self) -> Result<(), Error> {
        let query = Query {
            limit: Some(PAGE),
            ..Query::from(self.next)
        };
        self.page = self.reader.ops(query).collect::<Result<_, _>>()?;
        Ok(())
    }
}

impl Iterator for Subscription {
    type Item = Result<Op, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.failed || self.cancelled.load(Ordering::Acquire) {
                return None;
            }
            if let Some(op) = self.page.pop_front() {
                self.next = op.seq + 1;
                return Some(Ok(op));
            }
            // Before the look: what is written after it counts as another poke.
            let state = self.reader.signal.state();
            if let Err(error) = self.fill() {
                self.failed = true;
                return Some(Err(error));
            }
            if self.page.is_empty() {
                if self.until_closed && state.writers == 0 {
                    return None;
                }
                // It may have been called off since.
                if !self.cancelled.load(Ordering::Acquire) {
                    self.reader.signal.wait(state.pokes, None);
                }
            }
        }
    }
}

/// Calls a [`Subscription`] off.
#[derive(Debug, Clone)]
pub struct Canceller {
    cancelled: Arc<AtomicBool>,
    signal: Arc<Signal>,
}

impl Canceller {
    /// Ends the subscription, also when it waits.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.signal.poke();
    }
}

impl OpLog {
    /// As [`Reader::subscribe`]; it also ends when the last handle of this process on the log is closed
    /// and everything was seen.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn subscribe(&self, from: u64) -> Result<Subscription, Error> {
        Ok(Subscription::new(self.reader()?, from, true))
    }
}
