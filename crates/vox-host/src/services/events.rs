//! Notices from plugins to whoever watches.

use vox_contract::{Capability, PluginId};

use super::Services;
use crate::contract::{self, events::Events};

/// Takes the events that plugins emit.
pub trait EventSink: Send + Sync {
    /// Takes one event; `payload` is JSON.
    fn emit(&self, plugin: &PluginId, name: &str, payload: &str);
}

/// Drops every event; for instances that nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct IgnoreEvents;

impl EventSink for IgnoreEvents {
    fn emit(&self, _plugin: &PluginId, _name: &str, _payload: &str) {}
}

impl Events for Services {
    fn emit(&self, name: &str, payload: &str) -> Result<(), contract::Error> {
        self.authorise(Capability::Events, "")?;
        self.check_message(name.len() + payload.len())?;
        self.check_message_rate()?;
        serde_json::from_str::<serde::de::IgnoredAny>(payload).map_err(|error| {
            contract::Error::Invalid(format!(
                "the payload of event `{name}` is not JSON: {error}"
            ))
        })?;
        self.events.emit(&self.plugin, name, payload);
        Ok(())
    }
}
