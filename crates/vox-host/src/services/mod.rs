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
mod compute;
mod events;
mod kv;
mod permits;
mod rate;
mod streams;
mod topics;
mod vectors;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::Value;
use vox_contract::{Capability, EffectiveLimits, LimitName, PluginId, Scope};

pub use cancel::CancelToken;
pub use compute::{Generation, NoGeneration, NoReduction, Reduction};
pub use events::{Emitter, EventSink, IgnoreEvents};
pub use streams::{BlobSource, Files, NoBlobs, NoPorts, Ports};

pub(crate) use calls::{Caller, Calls, WaitEnd, extension_point};
pub(crate) use kv::KvStore;
pub(crate) use permits::Permits;
pub(crate) use rate::{Rate, Turn};
pub(crate) use topics::{Subscriptions, Topics};

use crate::account::{Account, Meter};
use crate::carriers::component::wasi::Surroundings;
use crate::clock::{CallClock, HostStay};
use crate::contract::{self, Attribute, Exceeded, config::Config, log};
use crate::error::plain;
use crate::resolution::Selection;

/// What an instance may use of the world around it.
pub(crate) struct Services {
    pub(crate) plugin: PluginId,
    pub(crate) permits: Arc<Permits>,
    /// Whether somebody whom the user trusts vouches for the plugin. Without that it has no more
    /// than capabilities of low risk, whatever is granted.
    pub(crate) trusted: bool,
    pub(crate) limits: EffectiveLimits,
    /// The plugin's configuration, an object.
    pub(crate) config: Value,
    pub(crate) ports: Arc<dyn Ports>,
    pub(crate) blobs: Arc<dyn BlobSource>,
    pub(crate) events: Arc<dyn EventSink>,
    pub(crate) reduction: Arc<dyn Reduction>,
    pub(crate) generation: Arc<dyn Generation>,
    /// How the instance is told to stop; changes with whoever calls. Guards nothing else.
    pub(crate) cancel: Mutex<CancelToken>,
    /// Who is inside, when it is another plugin. Guards nothing else.
    pub(crate) caller: Mutex<Caller>,
    pub(crate) surroundings: Surroundings,
    pub(crate) kv: KvStore,
    pub(crate) subscriptions: Arc<Subscriptions>,
    /// The plugin with all that it depends on, in the versions that fit it.
    pub(crate) dependencies: Arc<Selection>,
    /// The way to other plugins. Weak: the host owns instances, not the other way round.
    pub(crate) calls: Weak<dyn Calls>,
    pub(crate) account: Arc<Account>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) clock: CallClock,
    /// Of all the plugin's instances together.
    pub(crate) records: Arc<Rate>,
    /// Of all the plugin's instances together.
    pub(crate) messages: Arc<Rate>,
    /// The message of a guest's panic, which the trap that follows does not carry. Guards nothing
    /// else; nothing is called while it is held.
    pub(crate) panic: Mutex<Option<String>>,
}

impl Services {
    /// How the instance is told to stop.
    pub(crate) fn cancel_token(&self) -> CancelToken {
        self.cancel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether the instance should stop: its run was cancelled, or its caller waits no longer.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.clock.is_late()
            || self
                .cancel
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_cancelled()
    }

    /// Says on whose behalf the instance is entered from now on.
    pub(crate) fn set_caller(&self, caller: Caller) {
        *self.cancel.lock().unwrap_or_else(PoisonError::into_inner) = caller.cancel.clone();
        self.clock.set_deadline(caller.deadline);
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = caller;
    }

    /// The guest calls a host function with so many bytes of text and data.
    #[inline]
    pub(crate) fn leave_guest(&self, bytes: usize) -> HostStay {
        self.meter.count_host_call(bytes);
        self.clock.leave_guest()
    }

    /// The host function is done and answers.
    #[inline]
    pub(crate) fn enter_guest(&self, stay: HostStay) {
        self.clock.enter_guest(stay);
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
            .permits
            .load()
            .scope(capability)
            .is_some_and(|granted| covers(granted, scope))
        {
            return self.require_trust(capability, scope);
        }
        Err(self.denied(capability, scope))
    }

    /// Answers `denied` unless the capability is granted for some scope; the scope that counts is
    /// asked for once it is known.
    fn authorise_any(&self, capability: Capability) -> Result<(), contract::Error> {
        match self.permits.load().scope(capability) {
            Some(_) => self.require_trust(capability, ""),
            None => Err(self.denied(capability, "")),
        }
    }

    /// Answers `denied` where a capability is granted to a plugin that nobody vouches for.
    fn require_trust(&self, capability: Capability, scope: &str) -> Result<(), contract::Error> {
        if self.trusted || capability.is_low_risk() {
            return Ok(());
        }
        Err(contract::Error::Denied(format!(
            "`{}` is granted, but not to a plugin that no key you trust has signed: trust its \
             signer with `vox plugin trust add`, or the plugin with `vox plugin trust allow {}`",
            asked(capability, scope).concat(),
            self.plugin
        )))
    }

    /// Answers `exceeded`, with the place where the limit can be raised.
    fn exceeded(&self, limit: LimitName) -> contract::Error {
        contract::Error::Exceeded(Exceeded {
            limit: limit.name().to_owned(),
            value: plain(self.limits.get(limit)),
            remedy: limit.remedy(&self.plugin),
        })
    }

    /// Answers `exceeded` when one message is larger than messages may be.
    fn check_message(&self, bytes: usize) -> Result<(), contract::Error> {
        if bytes as u64 > self.limits.message {
            return Err(self.exceeded(LimitName::Message));
        }
        Ok(())
    }

    /// Answers `exceeded` when messages come too fast.
    fn check_message_rate(&self) -> Result<(), contract::Error> {
        match self.messages.take() {
            Turn::Taken { .. } => Ok(()),
            Turn::Refused => Err(self.exceeded(LimitName::EventRate)),
        }
    }

    #[cold]
    fn denied(&self, capability: Capability, scope: &str) -> contract::Error {
        let [capability, equals, scope] = asked(capability, scope);
        // A guest may ask often, and each text is an allocation in its memory: so there is one, put
        // together in one piece.
        let text = [
            "`",
            capability,
            equals,
            scope,
            "` is not granted; grant it with `vox plugin grant ",
            self.plugin.as_str(),
            " ",
            capability,
            equals,
            scope,
            "`",
        ];
        contract::Error::Denied(text.concat())
    }
}

/// What is asked for, in the parts of the word with which `vox plugin grant` grants it.
fn asked(capability: Capability, scope: &str) -> [&str; 3] {
    let equals = if scope.is_empty() { "" } else { "=" };
    [capability.name(), equals, scope]
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
/// Bytes of a log record that are kept; what is beyond is cut off.
const LONGEST_RECORD: usize = 16 * 1024;

impl log::Log for Services {
    fn write(&self, level: log::Level, message: &str, fields: Vec<Attribute>) {
        if fields.iter().any(|field| field.key == PANIC_FIELD) {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(message[..message.floor_char_boundary(LONGEST_RECORD)].to_owned());
            return;
        }
        let plugin = &self.plugin;
        match self.records.take() {
            Turn::Refused => return self.account.drop_records(1),
            Turn::Taken { refused: 0 } => {}
            Turn::Taken { refused } => tracing::warn!(
                target: "vox.plugin.log", %plugin, refused,
                "log records were dropped: more than {} a second; {}",
                self.limits.log_rate, LimitName::LogRate.remedy(plugin),
            ),
        }
        let fields = Fields(&fields);
        let message = &message[..message.floor_char_boundary(LONGEST_RECORD)];
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
        let mut left = LONGEST_RECORD;
        for (index, field) in self.0.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            left = left.saturating_sub(field.key.len() + field.value.len() + 2);
            if left == 0 {
                return formatter.write_str(" …");
            }
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
