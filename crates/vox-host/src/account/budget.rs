//! The memory that all plugins of a host share.
//!
//! Half of the budget is kept for the plugins by weight: a plugin with a quarter of all weights is
//! sure of a quarter of that half, however greedy the others are. The other half goes to whoever
//! asks first. A plugin counts as soon as it has a [`Share`], so that what is kept for it is
//! there when it needs it.
//!
//! What must stay true: the sum of what is used never passes the budget, and whoever stays within
//! what is kept for it is never refused unless a plugin joined after the others had grown.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Memory that all plugins of a host share.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: u64,
    /// Growing memory is rare and slow, so one lock over all shares costs nothing that is felt.
    /// Nothing is called under it.
    table: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    weight: u32,
    used: u64,
    peak: u64,
}

/// One plugin's part in a budget; dropping it gives everything back.
#[derive(Debug)]
pub(crate) struct Share {
    budget: MemoryBudget,
    id: u64,
}

impl MemoryBudget {
    /// A budget of `total` bytes.
    pub(crate) fn new(total: u64) -> Self {
        Self(Arc::new(Shared {
            total,
            table: Mutex::default(),
        }))
    }

    /// Bytes in all.
    pub(crate) fn total(&self) -> u64 {
        self.0.total
    }

    /// Bytes that are in use.
    #[cfg(test)]
    fn used(&self) -> u64 {
        self.table().iter().map(|entry| entry.used).sum()
    }

    /// A part for one more plugin.
    pub(crate) fn share(&self, weight: u32) -> Share {
        let mut table = self.table();
        let id = table.last().map_or(0, |entry| entry.id + 1);
        table.push(Entry {
            id,
            weight: weight.max(1),
            used: 0,
            peak: 0,
        });
        Share {
            budget: self.clone(),
            id,
        }
    }

    fn table(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Bytes of the whole budget.
    pub(crate) fn budget(&self) -> u64 {
        self.budget.total()
    }

    /// Takes `bytes` more; false where the others would lose what is kept for them.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let total = self.budget.0.total;
        let mut table = self.budget.table();
        let weights: u64 = table.iter().map(|entry| u64::from(entry.weight)).sum();
        let kept = |entry: &Entry| {
            let part = u128::from(total / 2) * u128::from(entry.weight) / u128::from(weights);
            part as u64
        };
        let used: u64 = table.iter().map(|entry| entry.used).sum();
        let for_others: u64 = table
            .iter()
            .filter(|entry| entry.id != self.id)
            .map(|entry| kept(entry).saturating_sub(entry.used))
            .sum();
        let Some(own) = table.iter_mut().find(|entry| entry.id == self.id) else {
            return false;
        };
        let Some(wanted) = own.used.checked_add(bytes) else {
            return false;
        };
        let within_own = wanted <= kept(own);
        let after = used.saturating_add(bytes);
        if after > total || !within_own && after.saturating_add(for_others) > total {
            return false;
        }
        own.used = wanted;
        own.peak = own.peak.max(wanted);
        true
    }

    /// Gives `bytes` back.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.with(|own| own.used = own.used.saturating_sub(bytes));
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.with(|own| own.used)
    }

    /// The most bytes that were in use at one moment.
    pub(crate) fn peak(&self) -> u64 {
        self.with(|own| own.peak)
    }

    fn with<R: Default>(&self, look: impl FnOnce(&mut Entry) -> R) -> R {
        let mut table = self.budget.table();
        let own = table.iter_mut().find(|entry| entry.id == self.id);
        own.map(look).unwrap_or_default()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.table().retain(|entry| entry.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_greedy_plugin_leaves_the_others_what_their_weights_keep_for_them() {
        let budget = MemoryBudget::new(1000);
        let greedy = budget.share(100);
        let modest = budget.share(300);
        while greedy.take(1) {}
        // Half of the budget is kept by weight, three quarters of that half for `modest`.
        assert_eq!(greedy.used(), 625);
        assert!(modest.take(375));
        assert!(!modest.take(1));
        drop(greedy);
        assert!(modest.take(625));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_the_peak_stays() {
        let budget = MemoryBudget::new(100);
        let share = budget.share(1);
        assert!(share.take(100));
        share.give_back(60);
        assert_eq!((share.used(), share.peak()), (40, 100));
        assert!(share.take(60));
        assert!(!share.take(u64::MAX));
    }

    proptest! {
        #[test]
        fn the_sum_never_passes_the_budget(
            steps in proptest::collection::vec((0..4usize, 0..400u64, any::<bool>()), 1..200),
        ) {
            let budget = MemoryBudget::new(1000);
            let shares = [1, 10, 100, 7].map(|weight| budget.share(weight));
            for (index, bytes, take) in steps {
                if take {
                    shares[index].take(bytes);
                } else {
                    shares[index].give_back(bytes.min(shares[index].used()));
                }
                prop_assert!(budget.used() <= budget.total());
            }
        }
    }
}
