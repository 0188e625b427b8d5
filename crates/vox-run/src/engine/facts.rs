//! What is known of plugins that results depend on.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use vox_contract::{Capability, Carrier, PluginId};
use vox_host::{Host, Instance, InstanceOptions};

/// What of a plugin a result depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    /// How the code is carried.
    pub carrier: Carrier,
    /// Id and version.
    pub name: String,
    /// The hash of its code, in hexadecimal.
    pub code: String,
    /// The hash of its configuration, in hexadecimal.
    pub config: String,
}

/// Facts, as they were when each plugin was first used.
pub(crate) struct Facts {
    host: Host,
    known: Mutex<HashMap<PluginId, Option<Fact>>>,
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
        let fact = instance.code().map(|code| Fact {
            carrier: instance.carrier_kind(),
            name: format!("{plugin} {}", instance.version()),
            code: code.to_hex(),
            config: vox_crypto::hash(config.to_string().as_bytes()).to_hex(),
        });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(plugin.clone(), fact.clone());
        fact
    }

    /// What is known of a plugin, which is loaded for that where it was not yet; none when it cannot
    /// be.
    pub fn of(&self, plugin: &PluginId) -> Option<Fact> {
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(fact) = known.get(plugin) {
                return fact.clone();
            }
        }
        let instance = self.host.instance(plugin, InstanceOptions::default());
        instance.ok().and_then(|instance| self.learn(&instance))
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
