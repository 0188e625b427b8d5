//! Calls from plugin to plugin.
//!
//! A call enters an instance of the target that the host keeps for such calls; a call that finds
//! them all busy gets one of its own, so calls never wait for each other. The chain of plugins that
//! are inside each other is known per thread, so that a circle is refused where it closes.

use std::cell::RefCell;
use std::sync::Arc;

use serde_json::Value;
use vox_contract::{Capability, ExtensionPoint, PluginId};

use super::Services;
use crate::contract::{
    EXPORT_LIFECYCLE, EXPORTS, Error, Exceeded,
    call::{Call, Target},
};
use crate::inventory::Installed;

/// How many plugins may be inside each other.
const MAX_DEPTH: usize = 8;

/// What a host does for [`Call`].
pub(crate) trait Calls: Send + Sync {
    /// The plugin that serves the target, in the version that fits the caller.
    fn locate(&self, caller: &Services, target: &Target) -> Result<Arc<Installed>, Error>;

    /// Calls `function` of an instance that the host keeps for calls.
    fn invoke(
        &self,
        plugin: &Installed,
        function: &str,
        arguments: Vec<Value>,
    ) -> Result<Value, Error>;
}

thread_local! {
    /// Plugins that are being called on this thread, outermost first.
    static CHAIN: RefCell<Vec<PluginId>> = const { RefCell::new(Vec::new()) };
}

/// A plugin's place in the chain, for as long as it is inside.
struct CallScope(());

impl CallScope {
    /// Adds `caller` and `target` to the chain, unless `target` is in it already.
    fn enter(caller: &PluginId, target: &PluginId) -> Result<Self, Error> {
        CHAIN.with_borrow_mut(|chain| {
            if target == caller || chain.contains(target) {
                let mut names = chain.iter().map(ToString::to_string).collect::<Vec<_>>();
                names.extend([caller.to_string(), target.to_string()]);
                return Err(Error::Failed(format!(
                    "plugins call each other in a circle: {}",
                    names.join(" → ")
                )));
            }
            if chain.len() == MAX_DEPTH {
                return Err(Error::Exceeded(Exceeded {
                    limit: "call-depth".to_owned(),
                    value: MAX_DEPTH as u64,
                    remedy: "call fewer plugins from within each other".to_owned(),
                }));
            }
            chain.push(caller.clone());
            Ok(Self(()))
        })
    }
}

impl Drop for CallScope {
    fn drop(&mut self) {
        CHAIN.with_borrow_mut(|chain| chain.pop());
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
        let _scope = CallScope::enter(&self.plugin, plugin.id())?;
        let _span = tracing::debug_span!("vox.plugin.plugin_call", caller = %self.plugin, plugin = %plugin.id(), function).entered();
        calls
            .invoke(&plugin, function, arguments)
            .map(|result| result.to_string())
    }
}

/// The extension point of this name.
pub(crate) fn extension_point(name: &str) -> Result<ExtensionPoint, Error> {
    name.parse()
        .map_err(|_| Error::NotFound(format!("`{name}` is no extension point")))
}
