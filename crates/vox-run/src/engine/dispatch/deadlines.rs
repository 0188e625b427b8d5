//! Tries of steps that may take only so long.
//!
//! The dispatcher holds the deadlines and waits no longer than to the earliest. What must stay true:
//! a deadline ends its own try and no later one of the step, as each try has a stop of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Dispatcher;
use crate::engine::execute::{Reason, Stop};

/// A moment at which a try of a step has taken too long. The earliest is the greatest.
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) limit: Duration,
    pub(super) stop: Arc<Stop>,
}

impl PartialEq for Deadline {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Deadline {}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Deadline {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.cmp(&self.at)
    }
}

impl Dispatcher<'_> {
    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        // Those of tries that have ended are passed over: nobody else holds their stop.
        while self
            .deadlines
            .peek()
            .is_some_and(|deadline| Arc::strong_count(&deadline.stop) == 1)
        {
            self.deadlines.pop();
        }
        self.deadlines.peek().map(|deadline| deadline.at)
    }

    /// Ends the tries that have taken too long by now.
    pub(super) fn time_out(&mut self) {
        let is_over = |deadline: &Deadline| deadline.at <= Instant::now();
        while self.deadlines.peek().is_some_and(is_over) {
            if let Some(Deadline { limit, stop, .. }) = self.deadlines.pop() {
                stop.stop(Reason::TimedOut(limit));
            }
        }
    }
}
