//! Calls from plugin to plugin.
//!
//! A call enters an instance of the target that the host keeps for such calls; a call that finds
//! them all busy gets one of its own, so calls never wait for each other. An instance that is
//! entered by a call knows the chain of plugins that leads to it, so that a circle is refused
//! where it closes, whatever thread closes it; it is cancelled with its caller and has no more
//! time than its caller. Its events go where its caller's go, and a hook that is entered in this
//! way is one more within those that led to the call.
//!
//! An instance that is kept may have served somebody else before: what a service remembers between
//! calls is shared by all who call it.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError};

use crossbeam_channel::Receiver;
use serde_json::Value;
use vox_contract::{Capability, ExtensionPoint, LimitName, PluginId};

use super::{EventSink, Services};
use crate::contract::{
    EXPORT_LIFECYCLE, EXPORTS, Error,
    call::{Call, Target},
};
use crate::error::CallError;
use crate::inventory::Installed;

/// What a host does for [`Call`].
pub(crate) trait Calls: Send + Sync {
    /// The plugin that serves the target, in the version that fits the caller.
    fn locate(&self, caller: &Services, target: &Target) -> Result<Arc<Installed>, Error>;

    /// Calls `function` of an instance that the host keeps for calls, on behalf of `caller`.
    fn invoke(
        &self,
        plugin: &Installed,
        caller: Caller,
        function: &str,
        arguments: Vec<Value>,
    ) -> Result<Value, Error>;
}

/// Who calls.
#[derive(Clone, Default)]
pub(crate) struct Caller {
    /// Plugins that are inside each other, the outermost first, the calling one last.
    pub(crate) chain: Vec<PluginId>,
    /// How the call is told to stop.
    pub(crate) cancel: super::CancelToken,
    /// When it has to be over.
    pub(crate) deadline: Option<std::time::Instant>,
    /// Hooks that are inside each other where the call is made.
    pub(crate) hook_depth: u32,
    /// Who hears the events of whoever is called; none for those of the instance itself.
    pub(crate) events: Option<Arc<dyn EventSink>>,
}

/// Why whoever called waits no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    Cancelled,
    Late,
}

impl WaitEnd {
    /// As an error of a call that was never made.
    pub(crate) fn into_error(self, plugin: PluginId, function: &'static str) -> CallError {
        match self {
            Self::Cancelled => CallError::Cancelled { plugin, function },
            Self::Late => CallError::TimedOut { plugin, function },
        }
    }
}

impl Caller {
    /// Waits until `gate` is disconnected, for as long as the caller waits.
    pub(crate) fn wait_for(&self, gate: &Receiver<Infallible>) -> Result<(), WaitEnd> {
        let late = match self.deadline {
            Some(deadline) => crossbeam_channel::at(deadline),
            None => crossbeam_channel::never(),
        };
        crossbeam_channel::select! {
            recv(gate) -> _ => Ok(()),
            recv(self.cancel.cancelled()) -> _ => Err(WaitEnd::Cancelled),
            recv(late) -> _ => Err(WaitEnd::Late),
        }
    }
}

impl Services {
    /// This instance as a caller of `function` of `target`, unless that closes a circle or goes too
    /// deep.
    fn as_caller_of(&self, target: &PluginId, function: &str) -> Result<Caller, Error> {
        let mut caller = self
            .caller
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        caller.chain.push(self.plugin.clone());
        if caller.chain.contains(target) {
            let mut names: Vec<_> = caller.chain.iter().map(PluginId::as_str).collect();
            names.push(target.as_str());
            return Err(Error::Failed(format!(
                "plugins call each other in a circle: {}",
                names.join(" → ")
            )));
        }
        let depth = self.limits.call_depth;
        if caller.chain.len() >= depth as usize {
            return Err(self.exceeded(LimitName::CallDepth));
        }
        if function.split('.').next() == Some(ExtensionPoint::Hook.name()) {
            caller.hook_depth = self.deeper_hook(caller.hook_depth)?;
        }
        caller
            .events
            .get_or_insert_with(|| Arc::clone(&self.events));
        caller.cancel = self.cancel_token();
        caller.deadline = self.clock.deadline();
        Ok(caller)
    }

    /// The depth of a hook within `depth` of them, unless that is deeper than this plugin may lead.
    pub(super) fn deeper_hook(&self, depth: u32) -> Result<u32, Error> {
        if depth >= self.limits.hook_depth {
            return Err(self.exceeded(LimitName::HookDepth));
        }
        Ok(depth + 1)
    }
}

impl Call for Services {
    fn invoke(&self, target: Target, function: &str, arguments: &str) -> Result<String, Error> {
        let calls = self
            .calls
            .upgrade()
            .ok_or_else(|| Error::Unavailable("the host is closing".to_owned()))?;
        // Before anything is looked up: who may call nobody learns of nobody.
        self.authorise_any(Capability::PluginCall)?;
        self.check_message(arguments.len())?;
        if function.split('.').next() == Some(EXPORTS[EXPORT_LIFECYCLE].name) {
            return Err(Error::Invalid(format!(
                "`{function}` is for the host alone; call a function of an extension point"
            )));
        }
        let plugin = match &target {
            // The id is known, so it is asked for before it is looked up.
            Target::Plugin(id) => {
                self.authorise(Capability::PluginCall, id)?;
                calls.locate(self, &target)?
            }
            _ => {
                let plugin = calls.locate(self, &target)?;
                self.authorise(Capability::PluginCall, plugin.id().as_str())?;
                plugin
            }
        };
        let arguments = serde_json::from_str(arguments)
            .map_err(|error| Error::Invalid(format!("the arguments are no JSON array: {error}")))?;
        let caller = self.as_caller_of(plugin.id(), function)?;
        let _span = tracing::debug_span!("vox.plugin.plugin_call", caller = %self.plugin, plugin = %plugin.id(), function).entered();
        calls
            .invoke(&plugin, caller, function, arguments)
            .map(|result| result.to_string())
    }
}

/// The extension point of this name.
pub(crate) fn extension_point(name: &str) -> Result<ExtensionPoint, Error> {
    name.parse()
        .map_err(|_| Error::NotFound(format!("`{name}` is no extension point")))
}
