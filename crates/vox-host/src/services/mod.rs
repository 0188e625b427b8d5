//! The host's side of the contract: what a plugin can call.
//!
//! One [`Services`] belongs to one instance; it implements the trait of every host interface, and
//! both carriers reach it. It owns what is the instance's own (its subscriptions, its last panic)
//! and borrows the rest from the host and from whoever made the instance.
//!
//! What must stay true: a function that needs a capability asks [`Services::authorise`] before it
//! does anything else, and a refusal is an answer, never a trap.

mod calls;
mod cancel;
mod events;
pub(crate) mod kv;
mod streams;
mod topics;
mod vectors;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::Value;
use vox_contract::{Capability, Grants, PluginId, Scope};

pub use cancel::CancelToken;
pub use events::{EventSink, IgnoreEvents};
pub use streams::{BlobSource, Files, NoBlobs, NoPorts, Ports};

pub(crate) use calls::{Calls, extension_point};
pub(crate) use kv::KvStore;
pub(crate) use topics::{Subscriptions, Topics};

use crate::contract::{self, Attribute, Denial, config::Config, log};
use crate::resolution::Selection;

/// What an instance may use of the world around it.
pub(crate) struct Services {
    pub(crate) plugin: PluginId,
    pub(crate) grants: Grants,
    /// The plugin's configuration, an object.
    pub(crate) config: Value,
    pub(crate) ports: Arc<dyn Ports>,
    pub(crate) blobs: Arc<dyn BlobSource>,
    pub(crate) events: Arc<dyn EventSink>,
    pub(crate) cancel: CancelToken,
    pub(crate) kv: KvStore,
    pub(crate) subscriptions: Subscriptions,
    /// The plugin with all that it depends on, in the versions that fit it.
    pub(crate) dependencies: Selection,
    /// The way to other plugins. Weak: the host owns instances, not the other way round.
    pub(crate) calls: Weak<dyn Calls>,
    /// The message of a guest's panic, which the trap that follows does not carry. Guards nothing
    /// else; nothing is called while it is held.
    pub(crate) panic: Mutex<Option<String>>,
}

impl Services {
    /// The plugin that the instance belongs to.
    pub(crate) fn plugin(&self) -> &PluginId {
        &self.plugin
    }

    /// Whether the run wants the instance to stop.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// The message of the last panic, once.
    pub(crate) fn take_panic(&self) -> Option<String> {
        self.panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Answers `denied` unless the capability is granted for `scope` (empty where the capability
    /// has none).
    fn authorise(&self, capability: Capability, scope: &str) -> Result<(), contract::Error> {
        if self
            .grants
            .scope(capability)
            .is_some_and(|granted| covers(granted, scope))
        {
            return Ok(());
        }
        Err(self.denied(capability, scope))
    }

    /// Answers `denied` unless the capability is granted for some scope; the scope that counts is
    /// asked for once it is known.
    fn authorise_any(&self, capability: Capability) -> Result<(), contract::Error> {
        match self.grants.scope(capability) {
            Some(_) => Ok(()),
            None => Err(self.denied(capability, "")),
        }
    }

    fn denied(&self, capability: Capability, scope: &str) -> contract::Error {
        contract::Error::Denied(Denial {
            capability: capability.name().to_owned(),
            scope: scope.to_owned(),
            remedy: format!(
                "grant it with `vox plugin grant {} {}{}{scope}`",
                self.plugin,
                capability.name(),
                if scope.is_empty() { "" } else { "=" },
            ),
        })
    }
}

/// Whether a grant covers what is asked for: all of it, an entry itself, one that ends in `*`, or a
/// number that is not above the granted one.
fn covers(granted: &Scope, wanted: &str) -> bool {
    match granted {
        Scope::All => true,
        Scope::Only(entries) => entries.iter().any(|entry| match entry.strip_suffix('*') {
            Some(prefix) => wanted.starts_with(prefix),
            None => entry == wanted,
        }),
        Scope::AtMost(count) => wanted.parse::<u32>().is_ok_and(|wanted| wanted <= *count),
    }
}

/// A log record's field that carries a guest's panic.
const PANIC_FIELD: &str = "panic";

impl log::Log for Services {
    fn write(&self, level: log::Level, message: &str, fields: Vec<Attribute>) {
        if fields.iter().any(|field| field.key == PANIC_FIELD) {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.to_owned());
            return;
        }
        let fields = Fields(&fields);
        let plugin = &self.plugin;
        match level {
            log::Level::Error => {
                tracing::error!(target: "vox.plugin.log", %plugin, %fields, "{message}")
            }
            log::Level::Warn => {
                tracing::warn!(target: "vox.plugin.log", %plugin, %fields, "{message}")
            }
            log::Level::Info => {
                tracing::info!(target: "vox.plugin.log", %plugin, %fields, "{message}")
            }
            log::Level::Debug => {
                tracing::debug!(target: "vox.plugin.log", %plugin, %fields, "{message}")
            }
            log::Level::Trace => {
                tracing::trace!(target: "vox.plugin.log", %plugin, %fields, "{message}")
            }
        }
    }
}

/// A record's fields as `key=value` words.
struct Fields<'a>(&'a [Attribute]);

impl std::fmt::Display for Fields<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, field) in self.0.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(formatter, "{space}{}={}", field.key, field.value)?;
        }
        Ok(())
    }
}

impl Config for Services {
    fn get(&self, key: &str) -> Option<String> {
        let pointer = key
            .split('.')
            .try_fold(&self.config, |value, part| value.get(part));
        pointer.map(Value::to_string)
    }
}
