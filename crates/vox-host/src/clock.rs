//! The time of one call: guest, host, and what may be spent.
//!
//! The engine's ticker asks a running guest every [`TICK`] whether it may go on; only then is
//! the thread's processor time read, so that a call that ends sooner pays for no clock at all.
//! From the first tick on, the time that the thread spends in host functions is measured and taken
//! off again: a host function that blocks or computes does not count against the guest, and neither
//! does a time slice that the system gave to somebody else.
//!
//! The limit is therefore enforced to within two ticks. One plugin's deadline is never another's:
//! the ticker ticks for all at a fixed interval, and each asks its own clock.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::account::{Meter, Timing};
use crate::platform;

/// How often a running guest is asked whether it may go on.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// How long a guest may go on after its run was cancelled, to find that out and tidy up.
pub(crate) const CANCEL_GRACE: Duration = Duration::from_millis(100);

/// The call's time is measured from its beginning.
const TIMED: u8 = 1;
/// The call has lasted longer than a tick.
const TICKED: u8 = 2;

/// The clock of one instance. Atomics because a native plugin may call from threads of its own;
/// a component's are touched by the thread inside it alone.
#[derive(Debug, Default)]
pub(crate) struct CallClock {
    mode: AtomicU8,
    /// Wall time in host functions while `mode` is not 0, in nanoseconds.
    host: AtomicU64,
    /// The thread's processor time at the first tick.
    processor_at_tick: AtomicU64,
    /// Processor time in host functions since the first tick.
    host_processor: AtomicU64,
    /// When the call has to be over, in nanoseconds since [`EPOCH`]; 0 for never.
    deadline: AtomicU64,
    /// When the first tick came, for calls that are not timed. Guards nothing else.
    ticked: Mutex<Option<Instant>>,
}

/// What deadlines count from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A stay in a host function.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostStay(Option<(Instant, u64)>);

impl CallClock {
    /// Begins a call whose time is measured. Calls that are not need no beginning.
    #[cold]
    pub(crate) fn begin(&self) {
        self.mode.store(TIMED, Ordering::Relaxed);
        self.host.store(0, Ordering::Relaxed);
    }

    /// Whether there is time to charge: the call was timed, or has lasted longer than a tick.
    #[inline]
    pub(crate) fn has_run(&self) -> bool {
        self.mode.load(Ordering::Relaxed) != 0
    }

    /// Ends a call and charges its time.
    #[cold]
    pub(crate) fn end(&self, timing: Option<Timing>, meter: &Meter) {
        let mode = self.mode.load(Ordering::Relaxed);
        let host = Duration::from_nanos(self.host.load(Ordering::Relaxed));
        match timing {
            Some(timing) => {
                let whole = timing.since.elapsed();
                // A component's long calls are all charged, and a native plugin's are too few for
                // one to stand for others.
                let is_long = mode & TICKED != 0 || whole >= TICK;
                meter.count_time(whole, host, if is_long { 1 } else { timing.weight });
            }
            None => {
                let since = *self.ticked.lock().unwrap_or_else(PoisonError::into_inner);
                let whole = since.map_or(Duration::ZERO, |since| since.elapsed());
                meter.count_time(whole, host, 1);
            }
        }
        self.mode.store(0, Ordering::Relaxed);
    }

    /// Sets when calls have to be over.
    pub(crate) fn set_deadline(&self, deadline: Option<Instant>) {
        let nanos = deadline.map_or(0, |deadline| {
            (deadline.saturating_duration_since(*EPOCH).as_nanos() as u64).max(1)
        });
        self.deadline.store(nanos, Ordering::Relaxed);
    }

    /// When the call has to be over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.deadline.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(*EPOCH + Duration::from_nanos(nanos)),
        }
    }

    /// Whether the call should be over.
    pub(crate) fn is_late(&self) -> bool {
        self.deadline()
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// The guest enters a host function.
    #[inline]
    pub(crate) fn leave_guest(&self) -> HostStay {
        match self.mode.load(Ordering::Relaxed) {
            0 => HostStay(None),
            mode => Self::stay(mode),
        }
    }

    #[cold]
    fn stay(mode: u8) -> HostStay {
        let processor = if mode & TICKED != 0 {
            nanos(platform::thread_processor_time())
        } else {
            0
        };
        HostStay(Some((Instant::now(), processor)))
    }

    /// The guest goes on.
    #[inline]
    pub(crate) fn enter_guest(&self, stay: HostStay) {
        if let HostStay(Some((since, processor))) = stay {
            self.count_stay(since, processor);
        }
    }

    #[cold]
    fn count_stay(&self, since: Instant, processor: u64) {
        self.host
            .fetch_add(nanos(since.elapsed()), Ordering::Relaxed);
        if processor != 0 {
            let now = nanos(platform::thread_processor_time());
            self.host_processor
                .fetch_add(now.saturating_sub(processor), Ordering::Relaxed);
        }
    }

    /// A tick; answers the processor time of the guest since the first one.
    pub(crate) fn tick(&self) -> Duration {
        let now = nanos(platform::thread_processor_time());
        let mode = self.mode.load(Ordering::Relaxed);
        if mode & TICKED == 0 {
            self.mode.store(mode | TICKED, Ordering::Relaxed);
            self.processor_at_tick.store(now, Ordering::Relaxed);
            self.host_processor.store(0, Ordering::Relaxed);
            if mode & TIMED == 0 {
                self.host.store(0, Ordering::Relaxed);
                *self.ticked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            }
            return Duration::ZERO;
        }
        let whole = now.saturating_sub(self.processor_at_tick.load(Ordering::Relaxed));
        Duration::from_nanos(whole.saturating_sub(self.host_processor.load(Ordering::Relaxed)))
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
