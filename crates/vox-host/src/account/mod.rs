//! What plugins cost: counted where it is spent, added up where it is asked for.
//!
//! An [`Account`] belongs to one plugin of one host and outlives its instances. Each instance has
//! a [`Meter`] of its own, to which only the thread inside it writes: a counter costs a load and a
//! store, never a locked instruction, so that ten instances on ten threads do not slow each other.
//! Asking ([`Account::usage`]) reads all meters; an instance that ends leaves its sum behind.
//!
//! **Time.** Reading a clock costs as much as a tenth of a call. A meter's first 64 calls are all
//! timed, then every sixty-fourth, which counts for as many; a component's call that lasts longer
//! than a tick of the engine is timed whatever its number. So the sums are estimates for plugins that make many
//! short calls and exact for all others. Enforcement ([`crate::carriers`]) does not rest on them.

mod budget;
mod meter;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use budget::{MemoryBudget, Share};
pub(crate) use meter::{Meter, Timing};

/// What a plugin, or all of them together, has cost so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// Live instances.
    pub instances: u64,
    /// Bytes of linear memory and tables that its component instances hold now. Nothing is known
    /// of what native code allocates.
    pub memory: u64,
    /// The most that these were at any moment.
    pub memory_peak: u64,
    /// Time inside its code, host functions not counted.
    #[serde(rename = "guest_seconds", with = "seconds")]
    pub guest_time: Duration,
    /// Time inside host functions that it called, plugins that it called included.
    #[serde(rename = "host_seconds", with = "seconds")]
    pub host_time: Duration,
    /// Calls made to it.
    pub calls: u64,
    /// Calls that it answered with an error.
    pub errors: u64,
    /// Calls that ended in a trap, a panic or at a limit.
    pub traps: u64,
    /// Calls that it made to the host.
    pub host_calls: u64,
    /// Bytes of text and data handed to it.
    pub bytes_in: u64,
    /// Bytes of text and data that it handed out.
    pub bytes_out: u64,
    /// Log records that were dropped because it wrote too many.
    pub dropped_records: u64,
}

/// A duration as a number of seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time.as_secs_f64())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Usage {
    /// Adds what another has cost. Peaks add up too: an upper bound, as they need not coincide.
    pub fn add(&mut self, other: &Self) {
        self.instances += other.instances;
        self.memory += other.memory;
        self.memory_peak += other.memory_peak;
        self.guest_time += other.guest_time;
        self.host_time += other.host_time;
        self.calls += other.calls;
        self.errors += other.errors;
        self.traps += other.traps;
        self.host_calls += other.host_calls;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.dropped_records += other.dropped_records;
    }
}

/// One plugin's costs in one host.
#[derive(Debug)]
pub(crate) struct Account {
    /// The plugin's part of the memory that all plugins share.
    share: Share,
    dropped_records: AtomicU64,
    /// Meters of live instances, and the sum of those that ended. Guards nothing else.
    meters: Mutex<Meters>,
}

#[derive(Debug, Default)]
struct Meters {
    live: Vec<Arc<Meter>>,
    ended: Usage,
}

impl Account {
    /// An account over a part of the memory budget.
    pub(crate) fn new(share: Share) -> Self {
        Self {
            share,
            dropped_records: AtomicU64::new(0),
            meters: Mutex::default(),
        }
    }

    /// The plugin's part of the memory that all plugins share.
    pub(crate) fn share(&self) -> &Share {
        &self.share
    }

    /// A meter for a new instance, unless `most` are running already.
    pub(crate) fn open_meter(self: &Arc<Self>, most: u32) -> Option<MeterGuard> {
        let mut meters = self.meters();
        if meters.live.len() >= most as usize {
            return None;
        }
        let meter = Arc::<Meter>::default();
        meters.live.push(Arc::clone(&meter));
        Some(MeterGuard {
            account: Arc::clone(self),
            meter,
        })
    }

    /// Live instances.
    pub(crate) fn instances(&self) -> usize {
        self.meters().live.len()
    }

    /// Counts log records that were dropped.
    pub(crate) fn drop_records(&self, count: u64) {
        self.dropped_records.fetch_add(count, Ordering::Relaxed);
    }

    /// What the plugin has cost so far.
    pub(crate) fn usage(&self) -> Usage {
        let meters = self.meters();
        let mut usage = meters.ended;
        meters
            .live
            .iter()
            .for_each(|meter| meter.add_to(&mut usage));
        usage.instances = meters.live.len() as u64;
        drop(meters);
        usage.memory = self.share.used();
        usage.memory_peak = self.share.peak();
        usage.dropped_records = self.dropped_records.load(Ordering::Relaxed);
        usage
    }

    fn meters(&self) -> MutexGuard<'_, Meters> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An instance's meter; dropping it leaves the sum in the account.
#[derive(Debug)]
pub(crate) struct MeterGuard {
    account: Arc<Account>,
    meter: Arc<Meter>,
}

impl MeterGuard {
    /// The meter, for a part of the instance that lives elsewhere.
    pub(crate) fn share(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }
}

impl std::ops::Deref for MeterGuard {
    type Target = Meter;

    #[inline]
    fn deref(&self) -> &Meter {
        &self.meter
    }
}

impl Drop for MeterGuard {
    fn drop(&mut self) {
        let mut meters = self.account.meters();
        if let Some(at) = meters
            .live
            .iter()
            .position(|meter| Arc::ptr_eq(meter, &self.meter))
        {
            meters.live.swap_remove(at);
        }
        self.meter.add_to(&mut meters.ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Arc<Account> {
        Arc::new(Account::new(MemoryBudget::new(1 << 20).share(100)))
    }

    #[test]
    fn what_an_ended_instance_cost_stays_counted() {
        let account = account();
        let meter = account.open_meter(8).unwrap();
        meter.count_call(3);
        meter.count_error();
        assert_eq!(account.usage().instances, 1);
        drop(meter);
        let usage = account.usage();
        assert_eq!(
            (usage.instances, usage.calls, usage.errors, usage.bytes_in),
            (0, 1, 1, 3)
        );
    }

    #[test]
    fn no_more_instances_run_than_the_limit_says() {
        let account = account();
        let first = account.open_meter(1).unwrap();
        assert!(account.open_meter(1).is_none());
        drop(first);
        assert!(account.open_meter(1).is_some());
    }
}
