//! One live plugin instance, whichever carrier it has.

use std::fmt;
use std::sync::Arc;

use vox_contract::{Carrier as CarrierKind, PluginId};

use crate::carriers::{Carrier, Failure};
use crate::contract::EXPORTS;
use crate::error::CallError;
use crate::json::JsonCallError;
use crate::services::Services;

/// A live, initialised instance of a plugin.
///
/// The clients of its extension points come from [`Instance::stage`], [`Instance::step`] and so
/// on; they borrow the instance mutably, which keeps it to one caller at a time. After a crash
/// every call answers [`CallError::Dead`]. Dropping the instance calls `lifecycle.shutdown` first,
/// unless it crashed.
pub struct Instance {
    plugin: PluginId,
    exported: [bool; EXPORTS.len()],
    /// Cleared by a crash: the instance must not be entered again, not even to shut it down.
    alive: bool,
    carrier: Carrier,
    services: Arc<Services>,
}

impl fmt::Debug for Instance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Instance")
            .field("plugin", &self.plugin)
            .field("carrier", &self.carrier_kind())
            .field("alive", &self.alive)
            .finish_non_exhaustive()
    }
}

impl Instance {
    /// Takes a carrier's instance over and initialises it with `config`, a JSON object.
    pub(crate) fn start(
        carrier: Carrier,
        exported: [bool; EXPORTS.len()],
        services: Arc<Services>,
        config: &str,
    ) -> Result<Self, CallError> {
        let plugin = services.plugin().clone();
        let mut instance = Self {
            plugin,
            exported,
            alive: true,
            carrier,
            services,
        };
        if let Err(error) = instance.lifecycle()?.init(config) {
            // There is nothing to shut down.
            instance.alive = false;
            return Err(error);
        }
        Ok(instance)
    }

    /// Id of the plugin.
    pub fn plugin(&self) -> &PluginId {
        &self.plugin
    }

    /// How the code is carried.
    pub fn carrier_kind(&self) -> CarrierKind {
        match self.carrier {
            Carrier::Component(_) => CarrierKind::Component,
            Carrier::Native(_) => CarrierKind::Native,
        }
    }

    /// Whether the instance may still be called.
    pub fn is_alive(&self) -> bool {
        self.alive
    }

    /// Whether the plugin exports this interface, such as `metrics`.
    pub fn exports(&self, interface: &str) -> bool {
        EXPORTS
            .iter()
            .zip(self.exported)
            .any(|(known, exported)| exported && known.name == interface)
    }

    /// Calls an exported function by name, `stage.process`, with a JSON value for each parameter.
    ///
    /// Bytes are given as a string (its UTF-8 bytes), as an array of numbers, or as
    /// `{"base64": "…"}`.
    ///
    /// # Errors
    ///
    /// There is no such function, the values do not fit its parameters, or the call fails.
    pub fn call_json(
        &mut self,
        function: &str,
        arguments: Vec<serde_json::Value>,
    ) -> Result<serde_json::Value, JsonCallError> {
        let (interface, function) = function.split_once('.').unwrap_or((function, ""));
        crate::contract::call_json(self, interface, function, arguments)
    }

    /// Refuses what the plugin does not export.
    #[inline]
    pub(crate) fn require(&self, interface: usize) -> Result<(), CallError> {
        if self.exported[interface] {
            return Ok(());
        }
        Err(CallError::NotExported {
            plugin: self.plugin.clone(),
            function: EXPORTS[interface].name,
        })
    }

    /// Makes one call. All calls of all extension points come through here.
    #[inline]
    pub(crate) fn enter<R>(
        &mut self,
        function: &'static str,
        call: impl FnOnce(&mut Carrier) -> Result<R, Failure>,
    ) -> Result<R, CallError> {
        // Even a span that nobody wants costs several nanoseconds, which is what a call costs.
        let _span = tracing::level_enabled!(tracing::Level::TRACE).then(|| {
            tracing::trace_span!("vox.plugin.call", plugin = %self.plugin, function).entered()
        });
        if !self.alive {
            return Err(CallError::Dead {
                plugin: self.plugin.clone(),
                function,
            });
        }
        match call(&mut self.carrier) {
            Ok(value) => Ok(value),
            Err(failure) => Err(self.fail(function, failure)),
        }
    }

    /// Says what a carrier's failure means, and remembers a crash.
    #[cold]
    fn fail(&mut self, function: &'static str, failure: Failure) -> CallError {
        let plugin = self.plugin.clone();
        match failure {
            Failure::Refused(error) => CallError::Refused {
                plugin,
                function,
                error,
            },
            Failure::NotExported => CallError::NotExported { plugin, function },
            Failure::Protocol(detail) => CallError::Protocol {
                plugin,
                function,
                detail,
            },
            Failure::Cancelled => {
                self.alive = false;
                CallError::Cancelled { plugin, function }
            }
            Failure::Crashed(trap) => {
                self.alive = false;
                let message = self.services.take_panic().unwrap_or(trap);
                tracing::warn!(%plugin, function, message, "a plugin crashed");
                CallError::Crashed {
                    plugin,
                    function,
                    message,
                }
            }
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if !self.alive {
            return;
        }
        let ended = self
            .lifecycle()
            .and_then(|mut lifecycle| lifecycle.shutdown());
        if let Err(error) = ended {
            tracing::warn!(plugin = %self.plugin, %error, "a plugin did not shut down cleanly");
        }
    }
}
