//! Which hooks are on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use vox_contract::{HookPoint, PluginId};

/// Switches single hooks on and off while they are in use; clones are the same switches.
///
/// A hook is on unless `hooks-off` in the project's Vox.toml names it; what is switched here
/// counts more. A change is in force for every chain that has these switches from its next
/// question on.
#[derive(Clone, Debug, Default)]
pub struct HookSwitches(Arc<Switches>);

#[derive(Debug, Default)]
struct Switches {
    /// Counts the changes; moves after each, under the lock.
    changes: AtomicU64,
    /// Guards the table alone.
    set: Mutex<BTreeMap<PluginId, BTreeMap<HookPoint, bool>>>,
}

impl HookSwitches {
    /// Switches the hook of `plugin` at `point` on or off.
    pub fn switch(&self, plugin: &PluginId, point: &HookPoint, on: bool) {
        let mut set = self.0.set.lock().unwrap_or_else(PoisonError::into_inner);
        set.entry(plugin.clone())
            .or_default()
            .insert(point.clone(), on);
        self.0.changes.fetch_add(1, Ordering::Release);
    }

    /// How the hook was switched last; none if it never was.
    pub fn switched(&self, plugin: &PluginId, point: &HookPoint) -> Option<bool> {
        let set = self.0.set.lock().unwrap_or_else(PoisonError::into_inner);
        set.get(plugin)?.get(point).copied()
    }

    /// How often something was switched. Whoever reads this before the switches learns of every
    /// later change.
    #[inline]
    pub(super) fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Acquire)
    }
}
