//! Notices from plugins to whoever watches, and the hook points that plugins fire.
//!
//! An event whose name is that of a custom hook point, `custom:<name>`, fires that point: whoever
//! watches asks the hooks before the event counts as one. The emitter waits for their answer.

use std::sync::PoisonError;

use vox_contract::{Capability, HookPoint, PluginId};

use super::Services;
use crate::contract::{Error, events::Events};
use crate::hooks::Nesting;

/// How the names of custom hook points begin.
const CUSTOM: &str = "custom:";

/// Takes the events that plugins emit.
pub trait EventSink: Send + Sync {
    /// Takes one event; `payload` is JSON.
    fn emit(&self, plugin: &PluginId, name: &str, payload: &str);

    /// Takes an event that fires a custom hook point. Unless this is written otherwise, nobody is
    /// asked, and it is an event like any other.
    ///
    /// # Errors
    ///
    /// What the emitter is answered: hooks did not let it pass, or are too deep inside each other.
    fn fire(&self, emitter: Emitter<'_>, point: &HookPoint, payload: &str) -> Result<(), Error> {
        self.emit(emitter.plugin(), &point.name(), payload);
        Ok(())
    }
}

/// Drops every event; for instances that nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct IgnoreEvents;

impl EventSink for IgnoreEvents {
    fn emit(&self, _plugin: &PluginId, _name: &str, _payload: &str) {}
}

/// The instance that fires a hook point.
#[derive(Clone, Copy)]
pub struct Emitter<'a>(&'a Services);

impl<'a> Emitter<'a> {
    /// Its plugin.
    pub fn plugin(self) -> &'a PluginId {
        &self.0.plugin
    }

    /// Where it stands among hooks, to be handed to [`HookChain::ask`](crate::hooks::HookChain::ask).
    ///
    /// # Errors
    ///
    /// `exceeded`, where as many hooks are inside each other as the plugin's limit `hook-depth`
    /// says: no hook may be asked from here.
    pub fn nesting(self) -> Result<Nesting, Error> {
        let caller = self.0.caller.lock();
        let depth = caller.unwrap_or_else(PoisonError::into_inner).hook_depth;
        self.0.deeper_hook(depth)?;
        Ok(Nesting::within(depth, self.0.clock.deadline()))
    }
}

impl std::fmt::Debug for Emitter<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("Emitter")
            .field(self.plugin())
            .finish()
    }
}

impl Events for Services {
    fn emit(&self, name: &str, payload: &str) -> Result<(), Error> {
        self.authorise(Capability::Events, "")?;
        self.check_message(name.len() + payload.len())?;
        self.check_message_rate()?;
        serde_json::from_str::<serde::de::IgnoredAny>(payload).map_err(|error| {
            Error::Invalid(format!(
                "the payload of event `{name}` is not JSON: {error}"
            ))
        })?;
        let caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
        let events = caller.events.clone();
        // Hooks that are asked may end up here again.
        drop(caller);
        let events = events.as_deref().unwrap_or(&*self.events);
        if !name.starts_with(CUSTOM) {
            events.emit(&self.plugin, name, payload);
            return Ok(());
        }
        let point = name.parse().map_err(|_| {
            Error::Invalid(format!(
                "event `{}` names no hook point: what follows `{CUSTOM}` is a name without spaces",
                name.escape_debug()
            ))
        })?;
        events.fire(Emitter(self), &point, payload)
    }
}
