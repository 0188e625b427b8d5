//! What a user does with plugins while they run, and what there is to see of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use semver::Version;
use serde::Serialize;
use vox_contract::{Carrier, EffectiveLimits, GrantsFile, PluginId};
use vox_crypto::Digest;

use super::{Host, Inner, lock};
use crate::account::Usage;
use crate::error::Error;
use crate::install::GrantStore;
use crate::lifecycle::{State, Step};
use crate::slot::{ReloadRecord, Slot};

/// A plugin as it stands in a host.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PluginStatus {
    /// Its id.
    pub plugin: PluginId,
    /// The version that serves.
    pub version: Version,
    /// Its state.
    pub state: State,
    /// Why it is in that state, where that is not plain.
    pub reason: Option<String>,
    /// What it has cost.
    pub usage: Usage,
    /// What bounds it.
    #[serde(skip)]
    pub limits: EffectiveLimits,
    /// How its last reloads went, the newest last.
    pub reloads: Vec<ReloadRecord>,
}

impl Host {
    /// Every plugin of which this host has made or loaded anything, in the order of the ids.
    pub fn plugins(&self) -> Vec<PluginStatus> {
        let slots: Vec<_> = lock(&self.0.slots).values().map(Arc::clone).collect();
        let mut plugins: Vec<_> = slots.iter().map(|slot| status(slot)).collect();
        plugins.sort_by(|a, b| (&a.plugin, &a.version).cmp(&(&b.plugin, &b.version)));
        plugins
    }

    /// One plugin as it stands.
    ///
    /// # Errors
    ///
    /// It is not installed, or none of its versions can be used.
    pub fn status(&self, plugin: &PluginId) -> Result<PluginStatus, Error> {
        Ok(status(&*self.0.slot_of(plugin)?))
    }

    /// The hash of the code with which a plugin serves by a carrier, as
    /// [`Instance::code`](crate::Instance::code) is of an instance that is made now; none while it is
    /// not loaded.
    pub fn code(&self, plugin: &PluginId, carrier: Carrier) -> Option<Digest> {
        let slot = self.0.slot_of(plugin).ok()?;
        let code = slot.release().code(carrier)?;
        Some(code.digest)
    }

    /// How long the code of a plugin took to load; none while none of it is loaded.
    pub(crate) fn load_time(&self, plugin: &PluginId) -> Option<Duration> {
        let slots: Vec<_> = lock(&self.0.slots).values().map(Arc::clone).collect();
        slots
            .iter()
            .filter(|slot| slot.id() == plugin)
            .flat_map(|slot| slot.release().loaded())
            .map(|(_, code)| code.took)
            .max()
    }

    /// The plugin whose manifest stands in a directory.
    pub(crate) fn plugin_in(&self, directory: &Path) -> Option<PluginId> {
        let found = self.inventory().found().iter();
        found
            .filter(|plugin| plugin.directory == directory)
            .map(|plugin| plugin.id().clone())
            .next()
    }

    /// What all plugins together have cost.
    pub fn usage(&self) -> Usage {
        let mut all = Usage::default();
        self.plugins()
            .iter()
            .for_each(|plugin| all.add(&plugin.usage));
        all
    }

    /// Bytes of memory that all component instances may hold together.
    pub fn memory_budget(&self) -> u64 {
        self.0.budget.total()
    }

    /// Bytes of native libraries that no release uses any more. They stay mapped until the process
    /// ends, as statics, threads and thread-locals of theirs may live on.
    pub fn retained_bytes(&self) -> u64 {
        self.0.retained_bytes()
    }

    /// Holds a plugin's calls back: those that are inside finish, later ones wait.
    ///
    /// # Errors
    ///
    /// It is not installed, or not [`State::Active`].
    pub fn pause(&self, plugin: &PluginId) -> Result<(), Error> {
        self.0
            .take_step(&*self.0.slot_of(plugin)?, Step::Pause, None)?;
        Ok(())
    }

    /// Lets a paused plugin's calls go on.
    ///
    /// # Errors
    ///
    /// It is not installed, or not [`State::Paused`].
    pub fn resume(&self, plugin: &PluginId) -> Result<(), Error> {
        self.0
            .take_step(&*self.0.slot_of(plugin)?, Step::Resume, None)?;
        Ok(())
    }

    /// Lets a plugin go: calls that are inside finish, later ones are refused. It is
    /// [`State::Unloaded`] when the last of its instances is dropped, and loaded again when one is
    /// asked for after that.
    ///
    /// # Errors
    ///
    /// It is not installed, or in a state from which it cannot be let go.
    pub fn unload(&self, plugin: &PluginId) -> Result<(), Error> {
        let place = self.0.place(plugin)?;
        let slot = self.0.slot(&place);
        self.0.take_step(&slot, Step::Unload, None)?;
        let idle = lock(&self.0.idle).remove(&place.directory);
        drop(idle);
        slot.let_go();
        Ok(())
    }

    /// Grants as somebody else left them on disk: what was given or taken away counts from the
    /// next call on.
    ///
    /// # Errors
    ///
    /// The grants cannot be read; what was granted before stands.
    pub fn refresh_grants(&self) -> Result<(), Error> {
        let project = self.0.directories.project.as_deref();
        let store = GrantStore::open(&self.0.directories);
        let (mut grants, _) = store.load_in(&self.0.settings, project)?;
        grants.merge(self.0.extra_grants.clone());
        self.0.set_grants(grants);
        Ok(())
    }

    /// Replaces all grants of this host, without writing them to disk.
    pub fn set_grants(&self, grants: GrantsFile) {
        self.0.set_grants(grants);
    }
}

impl Inner {
    pub(super) fn slot_of(&self, plugin: &PluginId) -> Result<Arc<Slot>, Error> {
        Ok(self.slot(&*self.place(plugin)?))
    }

    fn set_grants(&self, grants: GrantsFile) {
        *self.grants.write().unwrap_or_else(PoisonError::into_inner) = grants;
        let permits: BTreeMap<_, _> = lock(&self.permits)
            .iter()
            .map(|(id, permits)| (id.clone(), Arc::clone(permits)))
            .collect();
        for (id, permits) in permits {
            if permits.replace(self.grants(&id)) {
                tracing::info!(plugin = %id, "its grants have changed");
            }
        }
    }

    pub(super) fn retained_bytes(&self) -> u64 {
        let slots: Vec<_> = lock(&self.slots).values().map(Arc::clone).collect();
        let used: Vec<_> = slots
            .iter()
            .flat_map(|slot| slot.release().loaded())
            .map(|(_, code)| code.digest)
            .collect();
        lock(&self.libraries)
            .iter()
            .filter(|(digest, _)| !used.contains(digest))
            .map(|(_, bytes)| bytes)
            .sum()
    }
}

fn status(slot: &Slot) -> PluginStatus {
    let (state, reason) = slot.state();
    let release = slot.release();
    PluginStatus {
        plugin: slot.id().clone(),
        version: release.installed.version().clone(),
        state,
        reason,
        usage: slot.account.usage(),
        limits: release.limits,
        reloads: slot.reloads(),
    }
}
