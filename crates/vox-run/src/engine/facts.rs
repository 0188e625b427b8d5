//! What is known of plugins that results depend on.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use vox_contract::{Capability, Carrier, PluginId};
use vox_crypto::Digest;
use vox_host::{Host, Instance, InstanceOptions};

/// What of a plugin a result depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    /// How the code is carried.
    pub carrier: Carrier,
    /// Id and version.
    pub name: String,
    /// The hash of its code.
    pub code: Digest,
    /// The hash of its configuration, in hexadecimal.
    pub config: String,
}

impl Fact {
    /// All of it as a part of a key has it.
    pub fn text(&self) -> String {
        format!("{} {} {}", self.name, self.code.to_hex(), self.config)
    }
}

/// Facts of plugins as they serve, kept until other code takes over: a plugin may be reloaded while a run
/// goes on.
pub(crate) struct Facts {
    host: Host,
    known: Mutex<HashMap<PluginId, Fact>>,
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts").finish_non_exhaustive()
    }
}

impl Facts {
    pub fn new(host: &Host) -> Self {
        Self {
            host: host.clone(),
            known: Mutex::default(),
        }
    }

    /// Takes note of what is in an instance.
    pub fn learn(&self, instance: &Instance) -> Option<Fact> {
        let plugin = instance.plugin();
        let config = self.host.settings().of(plugin);
        let config = Value::Object(config.map(|own| own.config.clone()).unwrap_or_default());
        let fact = Fact {
            carrier: instance.carrier_kind(),
            name: format!("{plugin} {}", instance.version()),
            code: instance.code()?,
            config: vox_crypto::hash(config.to_string().as_bytes()).to_hex(),
        };
        self.known().insert(plugin.clone(), fact.clone());
        Some(fact)
    }

    /// What is known of a plugin as it serves now, which is loaded for that where it is not; none when it
    /// cannot be.
    pub fn of(&self, plugin: &PluginId) -> Option<Fact> {
        let known = self.known().get(plugin).cloned();
        if let Some(fact) = known
            && self.host.code(plugin, fact.carrier) == Some(fact.code)
        {
            return Some(fact);
        }
        let instance = self.host.instance(plugin, InstanceOptions::default());
        instance.ok().and_then(|instance| self.learn(&instance))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<PluginId, Fact>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    /// How a plugin's code is carried.
    pub fn carrier(&self, plugin: &PluginId) -> Option<Carrier> {
        self.of(plugin).map(|fact| fact.carrier)
    }
}

/// Whether a component with what it is granted can know nothing but what it is given.
pub(crate) fn is_pure(host: &Host, plugin: &PluginId) -> bool {
    let harmless = |capability: Capability| {
        matches!(
            capability,
            Capability::StreamIo
                | Capability::VsaOps
                | Capability::Events
                | Capability::Metrics
                | Capability::Blob
        )
    };
    host.grants(plugin)
        .iter()
        .all(|(capability, _)| harmless(capability))
}
