//! How often something may happen.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A token bucket: so many a second, and as many at once after a quiet second.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: f64,
    /// Guards the level; nothing is called under it.
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    level: f64,
    filled: Instant,
    refused: u64,
}

/// Whether one more may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It may; before it, so many were refused since the last that could.
    Taken {
        /// How many were refused.
        refused: u64,
    },
    /// It may not.
    Refused,
}

impl Rate {
    /// So many a second; the bucket is full.
    pub(crate) fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self {
            per_second,
            bucket: Mutex::new(Bucket {
                level: per_second,
                filled: Instant::now(),
                refused: 0,
            }),
        }
    }

    /// Takes a turn now.
    pub(crate) fn take(&self) -> Turn {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> Turn {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.level = (bucket.level + gone * self.per_second).min(self.per_second);
        bucket.filled = now;
        if bucket.level < 1.0 {
            bucket.refused += 1;
            return Turn::Refused;
        }
        bucket.level -= 1.0;
        Turn::Taken {
            refused: std::mem::take(&mut bucket.refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_of_nothing_lets_nothing_through() {
        let rate = Rate::new(0);
        let much_later = Instant::now() + Duration::from_secs(3600);
        assert_eq!(rate.take_at(much_later), Turn::Refused);
    }

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_at_the_rate() {
        let rate = Rate::new(10);
        let start = Instant::now();
        let taken = (0..100)
            .filter(|_| rate.take_at(start) != Turn::Refused)
            .count();
        assert_eq!(taken, 10);
        let later = start + Duration::from_millis(150);
        assert_eq!(rate.take_at(later), Turn::Taken { refused: 90 });
        assert_eq!(rate.take_at(later), Turn::Refused);
    }
}
