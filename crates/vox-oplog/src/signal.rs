//! Tells those who wait within this process that a log has grown.
//!
//! There is one [`Signal`] for each directory, shared by every handle on it, so that a reader learns of
//! what any writer of the process committed. Of other processes it learns through
//! [`crate::Reader::refresh`].
//!
//! What must stay true: whoever waits looks at the database before it waits, with the number of the
//! last poke in hand, so that no poke is missed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Instant;

/// A counter of changes that can be waited for.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

/// Guarded alone; nothing is called under the lock.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct State {
    /// Pokes so far.
    pub pokes: u64,
    /// Handles of this process that may append.
    pub writers: usize,
}

/// The signals of the logs that are open. Entries go with their last handle.
static SIGNALS: Mutex<Option<HashMap<PathBuf, Weak<Signal>>>> = Mutex::new(None);

impl Signal {
    /// The signal of the log in this directory.
    pub fn of(dir: &Path) -> Arc<Self> {
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let mut signals = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
        let signals = signals.get_or_insert_default();
        if let Some(signal) = signals.get(&dir).and_then(Weak::upgrade) {
            return signal;
        }
        signals.retain(|_, signal| signal.strong_count() > 0);
        let signal = Arc::new(Self::default());
        signals.insert(dir, Arc::downgrade(&signal));
        signal
    }

    /// What is so now.
    pub fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everybody who waits.
    pub fn poke(&self) {
        self.change(|_| ());
    }

    pub fn add_writer(&self) {
        self.change(|state| state.writers += 1);
    }

    pub fn remove_writer(&self) {
        self.change(|state| state.writers = state.writers.saturating_sub(1));
    }

    fn change(&self, how: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        how(&mut state);
        state.pokes += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until there were other than `seen` pokes, or until the deadline: then it is false.
    pub fn wait(&self, seen: u64, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.pokes == seen {
            state = match deadline {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        true
    }
}
