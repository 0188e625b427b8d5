//! How often a plugin failed in a row, and how long it rests.

use std::time::{Duration, Instant};

/// Failures in a row after which a plugin is not started again until somebody asks for it.
const TOO_MANY: u32 = 8;
/// The rest after the second failure; it doubles with each one more.
const FIRST_REST: Duration = Duration::from_millis(10);

/// Failures without a success between them.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    count: u32,
    rests_until: Option<Instant>,
    last: String,
}

/// What remains of a rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) failures: u32,
    pub(crate) left: Duration,
    pub(crate) last: String,
}

impl Failures {
    /// How many there were.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// One more; true when that is too many. After the first the plugin may start at once: an
    /// input that nobody foresaw is more likely than a broken plugin.
    pub(crate) fn add(&mut self, reason: &str, now: Instant) -> bool {
        self.count += 1;
        reason.clone_into(&mut self.last);
        self.rests_until = self
            .count
            .checked_sub(2)
            .map(|doublings| now + FIRST_REST * 2u32.saturating_pow(doublings));
        self.count >= TOO_MANY
    }

    /// What remains of the rest.
    pub(crate) fn rest(&self, now: Instant) -> Option<Rest> {
        let left = self.rests_until?.checked_duration_since(now)?;
        (!left.is_zero()).then(|| Rest {
            failures: self.count,
            left,
            last: self.last.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_costs_no_rest_and_each_later_one_twice_the_last() {
        let now = Instant::now();
        let mut failures = Failures::default();
        let mut rests = Vec::new();
        for number in 1..=TOO_MANY {
            assert_eq!(failures.add("why", now), number == TOO_MANY);
            rests.push(failures.rest(now).map_or(0, |rest| rest.left.as_millis()));
        }
        assert_eq!(rests, [0, 10, 20, 40, 80, 160, 320, 640]);
        assert_eq!(failures.rest(now + Duration::from_millis(640)), None);
    }
}
