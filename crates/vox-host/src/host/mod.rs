//! The host: everything that is installed, and the way to live instances of it.
//!
//! [`Host::open`] reads manifests and nothing else. Engines start, payloads are compiled or opened
//! and instances are made when somebody asks for them, and a plugin that cannot be had is an error
//! for whoever asked; the others go on being served.

mod calls;
mod control;
mod load;
mod reload;
mod samples;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use serde_json::Value;
use vox_contract::{Carrier as CarrierKind, Catalog, Grants, GrantsFile, PluginId, Settings};
use vox_crypto::Digest;

pub use control::PluginStatus;
pub(crate) use load::{Origin, is_failure};
pub use reload::Reloaded;
pub use samples::HOST_SAMPLES;

use crate::account::MemoryBudget;
use crate::carriers::component;
use crate::carriers::component::wasi::{Resolver, SystemResolver};
use crate::contract::EXPORTS;
use crate::directories::Directories;
use crate::error::Error;
use crate::install::{Allowance, GrantStore};
use crate::instance::Instance;
use crate::inventory::{Finding, Installed, Inventory};
use crate::registry::Registry;
use crate::resolution::{self, Selection};
use crate::services::{
    BlobSource, Caller, CancelToken, EventSink, Generation, IgnoreEvents, NoBlobs, NoGeneration,
    NoPorts, NoReduction, Permits, Ports, Reduction, Topics,
};
use crate::signing::TrustStore;
use crate::slot::Slot;
use crate::{platform, settings};

/// What a host is opened with.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct HostOptions {
    /// Plugins that are known but perhaps not installed, for messages that say what to install.
    pub catalog: Catalog,
    /// Verbs that the command line serves itself, so that no plugin may.
    pub built_in_verbs: Vec<&'static str>,
    /// Grants on top of those on disk, for this host only.
    pub grants: GrantsFile,
    /// Whom to trust besides those on disk, for this host only.
    pub trust: TrustStore,
}

/// What an instance is connected to. The default connects it to nothing.
#[non_exhaustive]
pub struct InstanceOptions {
    /// The carrier to use; none leaves it to the project's settings, and then to the plugin: its
    /// component where it has one.
    pub carrier: Option<CarrierKind>,
    /// Members that replace those of the plugin's configuration in the project's settings.
    pub config: serde_json::Map<String, Value>,
    /// Its streams.
    pub ports: Arc<dyn Ports>,
    /// Its blobs.
    pub blobs: Arc<dyn BlobSource>,
    /// Who hears its events.
    pub events: Arc<dyn EventSink>,
    /// What is done with its gradients, where it is a backend for training.
    pub reduction: Arc<dyn Reduction>,
    /// Where its answers go, where it is a backend for inference.
    pub generation: Arc<dyn Generation>,
    /// It stays on the release that it began with until it crashes, because what it holds cannot be handed over, as
    /// a model on a device.
    pub stays: bool,
    /// How it is told to stop.
    pub cancel: CancelToken,
    /// How many hooks are inside each other when it is entered as one: 0 for all that are none.
    pub(crate) hook_depth: u32,
    /// Who looks up the names of hosts for it.
    pub resolver: Arc<dyn Resolver>,
}

impl Default for InstanceOptions {
    fn default() -> Self {
        Self {
            carrier: None,
            config: serde_json::Map::new(),
            ports: Arc::new(NoPorts),
            blobs: Arc::new(NoBlobs),
            events: Arc::new(IgnoreEvents),
            reduction: Arc::new(NoReduction),
            generation: Arc::new(NoGeneration),
            stays: false,
            cancel: CancelToken::new(),
            hook_depth: 0,
            resolver: Arc::new(SystemResolver),
        }
    }
}

/// A host with its plugins. Clones are the same host.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

pub(crate) struct Inner {
    directories: Directories,
    settings: Settings,
    inventory: Inventory,
    selection: Selection,
    registry: Registry,
    findings: Vec<Finding>,
    /// What whoever opened the host granted on top of what is on disk.
    extra_grants: GrantsFile,
    /// Whom whoever opened the host trusts on top of what is on disk.
    extra_trust: TrustStore,
    grants: RwLock<GrantsFile>,
    /// What instances see of the grants. Guards the table only.
    permits: Mutex<HashMap<PluginId, Arc<Permits>>>,
    runtimes: component::Runtimes,
    budget: MemoryBudget,
    /// Counts releases.
    releases: AtomicU64,
    /// The places of plugins, by the directory in which they were found when the host was opened.
    /// Guards the table only.
    slots: Mutex<HashMap<PathBuf, Arc<Slot>>>,
    /// Every native library that was ever opened, with its size. Guards nothing else.
    libraries: Mutex<HashMap<Digest, u64>>,
    /// Instances that plugins reach through `call`, while nobody is inside. Guards the table only:
    /// an instance is taken out to be entered, so no call ever waits for another.
    idle: Mutex<HashMap<PathBuf, Vec<Instance>>>,
    topics: Arc<Topics>,
    this: Weak<Inner>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Host")
            .field("directories", &self.0.directories)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// Opens a host over the plugins in `directories`.
    ///
    /// # Errors
    ///
    /// The project's `Vox.toml` or a grants file is there and cannot be read. A plugin that cannot
    /// be used is no error but one of [`Host::findings`].
    pub fn open(directories: Directories, options: HostOptions) -> Result<Self, Error> {
        let _span = tracing::info_span!("vox.plugin.discover").entered();
        let settings = settings::of_project(&directories)?;
        let store = GrantStore::open(&directories);
        let (mut grants, of_project) = store.load_in(&settings, directories.project.as_deref())?;
        grants.merge(options.grants.clone());
        let inventory = Inventory::scan(&directories);
        let (selection, unresolved) = resolution::select_all(&inventory, &settings);
        let catalog = Arc::new(options.catalog);
        let (registry, contested) =
            Registry::build(&selection, &inventory, catalog, &options.built_in_verbs);
        let mut findings = inventory.findings();
        findings.extend(unresolved);
        findings.extend(contested);
        let not_allowed = of_project.filter(|project| project.allowance != Allowance::Allowed);
        findings.extend(not_allowed.map(Finding::ProjectGrants));
        for plugin in selection.iter() {
            let limits = plugin.manifest.limits.above_ceiling();
            findings.extend(limits.map(|above| Finding::AboveCeiling {
                plugin: plugin.id().clone(),
                above,
            }));
        }
        tracing::debug!(
            plugins = selection.len(),
            findings = findings.len(),
            "opened"
        );
        let budget = settings
            .host
            .memory
            .map_or_else(|| default_budget(&platform::memory()), |bytes| bytes.0);
        Ok(Self(Arc::new_cyclic(|this| Inner {
            extra_grants: options.grants,
            extra_trust: options.trust,
            permits: Mutex::default(),
            runtimes: component::Runtimes::new(&directories.cache),
            budget: MemoryBudget::new(budget),
            releases: AtomicU64::new(0),
            slots: Mutex::default(),
            libraries: Mutex::default(),
            directories,
            settings,
            inventory,
            selection,
            registry,
            findings,
            grants: RwLock::new(grants),
            idle: Mutex::default(),
            topics: Arc::default(),
            this: Weak::clone(this),
        })))
    }

    /// Where this host looks.
    pub fn directories(&self) -> &Directories {
        &self.0.directories
    }

    /// The project's settings.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Every version of every plugin that was found, and what was passed over.
    pub fn inventory(&self) -> &Inventory {
        &self.0.inventory
    }

    /// The version that serves, for each plugin.
    pub fn selection(&self) -> &Selection {
        &self.0.selection
    }

    /// Who serves which name.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// What was noticed while looking at manifests: plugins that cannot be used, and why.
    pub fn findings(&self) -> &[Finding] {
        &self.0.findings
    }

    /// What a plugin is granted.
    pub fn grants(&self, plugin: &PluginId) -> Grants {
        self.0.grants(plugin)
    }

    /// The version of a plugin that serves.
    ///
    /// # Errors
    ///
    /// It is not installed, or none of its versions can be used.
    pub fn plugin(&self, id: &PluginId) -> Result<Arc<Installed>, Error> {
        self.0.plugin(id)
    }

    /// Loads a plugin's payload and checks it against its manifest, without making an instance;
    /// answers the names of the interfaces that it exports.
    ///
    /// # Errors
    ///
    /// Everything that keeps a plugin from being used, up to `init`.
    pub fn check(
        &self,
        plugin: &Installed,
        carrier: CarrierKind,
    ) -> Result<Vec<&'static str>, Error> {
        let slot = self.0.slot(plugin);
        let code = self.0.code(&slot, &slot.release(), carrier)?;
        let exported = code.payload.exported();
        Ok(EXPORTS
            .iter()
            .zip(exported)
            .filter(|(_, has)| **has)
            .map(|(known, _)| known.name)
            .collect())
    }

    /// Makes an initialised instance of a plugin.
    ///
    /// # Errors
    ///
    /// The plugin is not installed, something that it depends on or needs of this machine is
    /// missing, its payload cannot be loaded or is not what its manifest says, or its `init`
    /// fails.
    pub fn instance(&self, id: &PluginId, options: InstanceOptions) -> Result<Instance, Error> {
        let plugin = self.0.place(id)?;
        let caller = Caller {
            cancel: options.cancel.clone(),
            ..Caller::default()
        };
        self.0.instance(&self.0.slot(&plugin), options, &caller)
    }
}

impl Inner {
    /// The plugin as it was found when the host was opened; its slot knows what serves now.
    fn place(&self, id: &PluginId) -> Result<Arc<Installed>, Error> {
        if let Some(plugin) = self.selection.get(id) {
            return Ok(Arc::clone(plugin));
        }
        let resolved =
            resolution::resolve(&self.inventory, &self.settings, std::slice::from_ref(id))?;
        resolved
            .get(id)
            .cloned()
            .ok_or_else(|| Error::NotInstalled { plugin: id.clone() })
    }

    /// The version that serves.
    fn plugin(&self, id: &PluginId) -> Result<Arc<Installed>, Error> {
        let place = self.place(id)?;
        let slot = lock(&self.slots).get(&place.directory).map(Arc::clone);
        Ok(slot.map_or(place, |slot| Arc::clone(&slot.release().installed)))
    }

    fn grants(&self, plugin: &PluginId) -> Grants {
        let grants = self.grants.read().unwrap_or_else(PoisonError::into_inner);
        grants.of(plugin).cloned().unwrap_or_default()
    }

    fn count_release(&self) -> u64 {
        self.releases.fetch_add(1, Ordering::Relaxed)
    }
}

/// Memory for all plugins where the user sets none: half of what this process can ever have, and where
/// the system does not tell, 1 GiB.
fn default_budget(memory: &vox_probe::Memory) -> u64 {
    memory.most().map_or(1 << 30, |bytes| bytes / 2)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use vox_probe::Memory;

    use super::*;

    const GIB: u64 = 1 << 30;

    /// The memory of a machine with 16 GiB, of which control groups allow the process so much.
    fn limited(limit: Option<u64>) -> Memory {
        Memory {
            total: Some(16 * GIB),
            limit,
            ..Memory::default()
        }
    }

    #[test]
    fn plugins_share_half_of_what_the_control_groups_allow() {
        assert_eq!(default_budget(&limited(None)), 8 * GIB);
        assert_eq!(default_budget(&limited(Some(2 * GIB))), GIB);
        assert_eq!(default_budget(&Memory::default()), GIB);
    }

    #[test]
    fn a_host_is_opened_with_half_of_what_this_process_can_have() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let directories = Directories::new(at("data"), at("cache"));
        let host = Host::open(directories, HostOptions::default()).unwrap();
        assert_eq!(host.0.budget.total(), default_budget(&platform::memory()));
    }
}
