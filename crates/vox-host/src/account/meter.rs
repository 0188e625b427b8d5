//! The counters of one instance.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Usage;

/// Calls of an instance that are all timed; later every [`STRIDE`]th is.
const TIMED: u64 = 64;
/// How many later calls a timed one stands for.
const STRIDE: u64 = 64;

/// Counters that the thread inside an instance writes and anybody reads.
///
/// A native plugin may call the host from threads of its own, so that two threads may write at
/// once; what one of them counts may then be lost. Components cannot.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    calls: Counter,
    errors: Counter,
    traps: Counter,
    host_calls: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
    guest_nanos: Counter,
    host_nanos: Counter,
}

/// A number with one writer.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    /// Adds without a locked instruction; answers what it was.
    #[inline]
    fn add(&self, more: u64) -> u64 {
        let was = self.0.load(Ordering::Relaxed);
        self.0.store(was.wrapping_add(more), Ordering::Relaxed);
        was
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How one call is timed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// When it began.
    pub(crate) since: Instant,
    /// How many calls it stands for.
    pub(crate) weight: u32,
}

impl Timing {
    /// Of the call with this number.
    #[cold]
    fn begin(number: u64) -> Self {
        Self {
            since: Instant::now(),
            weight: if number < TIMED { 1 } else { STRIDE as u32 },
        }
    }
}

impl Meter {
    /// Counts a call with `bytes` of arguments; answers how it is timed, if it is.
    #[inline]
    pub(crate) fn count_call(&self, bytes: usize) -> Option<Timing> {
        self.bytes_in.add(bytes as u64);
        let number = self.calls.add(1);
        if number >= TIMED && !number.is_multiple_of(STRIDE) {
            return None;
        }
        Some(Timing::begin(number))
    }

    /// Counts an answer that is an error.
    pub(crate) fn count_error(&self) {
        self.errors.add(1);
    }

    /// Counts a call that did not come back.
    pub(crate) fn count_trap(&self) {
        self.traps.add(1);
    }

    /// Counts a call of a host function.
    #[inline]
    pub(crate) fn count_host_call(&self, bytes: usize) {
        self.host_calls.add(1);
        self.bytes_out.add(bytes as u64);
    }

    /// Counts bytes that a host function handed in.
    #[inline]
    pub(crate) fn count_in(&self, bytes: usize) {
        self.bytes_in.add(bytes as u64);
    }

    /// Counts bytes that a call answered.
    #[inline]
    pub(crate) fn count_out(&self, bytes: usize) {
        self.bytes_out.add(bytes as u64);
    }

    /// Counts the time of a call, of which `host` was spent in host functions.
    pub(crate) fn count_time(&self, whole: Duration, host: Duration, weight: u32) {
        let nanos = |time: Duration| time.as_nanos() as u64 * u64::from(weight);
        self.guest_nanos.add(nanos(whole.saturating_sub(host)));
        self.host_nanos.add(nanos(host));
    }

    /// Adds these counters to a sum.
    pub(super) fn add_to(&self, usage: &mut Usage) {
        usage.calls += self.calls.get();
        usage.errors += self.errors.get();
        usage.traps += self.traps.get();
        usage.host_calls += self.host_calls.get();
        usage.bytes_in += self.bytes_in.get();
        usage.bytes_out += self.bytes_out.get();
        usage.guest_time += Duration::from_nanos(self.guest_nanos.get());
        usage.host_time += Duration::from_nanos(self.host_nanos.get());
    }
}
