//! Cancellation: one token for all that belongs to a run.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender};

use super::Services;
use crate::contract::cancel::Cancel;

/// Tells everyone who holds a clone that the work is no longer wanted.
#[derive(Clone, Debug)]
pub struct CancelToken(Arc<State>);

#[derive(Debug)]
struct State {
    cancelled: AtomicBool,
    /// Dropped by `cancel`, which wakes whoever waits on `closed`.
    open: Mutex<Option<Sender<Infallible>>>,
    closed: Receiver<Infallible>,
}

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        let (sender, closed) = crossbeam_channel::bounded(0);
        Self(Arc::new(State {
            cancelled: AtomicBool::new(false),
            open: Mutex::new(Some(sender)),
            closed,
        }))
    }

    /// Cancels. Once is enough; more changes nothing.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
        self.0
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Whether it was cancelled.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// A channel that never carries anything and is disconnected by [`CancelToken::cancel`], for
    /// `select!`.
    pub fn cancelled(&self) -> &Receiver<Infallible> {
        &self.0.closed
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancel for Services {
    fn should_cancel(&self) -> bool {
        self.is_cancelled()
    }
}
