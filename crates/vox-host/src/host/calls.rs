//! What plugins reach of other plugins.

use std::sync::Arc;

use serde_json::Value;
use vox_contract::PluginId;

use super::{Inner, InstanceOptions, lock};
use crate::contract::{self, Exceeded, call::Target};
use crate::error::{CallError, Error, LimitExceeded, plain};
use crate::inventory::Installed;
use crate::json::JsonCallError;
use crate::services::{Caller, Services, extension_point};

/// Instances of one plugin that wait for the next `call`.
const MAX_IDLE: usize = 4;

impl crate::services::Calls for Inner {
    fn locate(
        &self,
        caller: &Services,
        target: &Target,
    ) -> Result<Arc<Installed>, contract::Error> {
        let not_found = |error: String, hint: Option<String>| {
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            contract::Error::NotFound(format!("{error}{hint}"))
        };
        match target {
            Target::Plugin(id) => {
                let id = PluginId::new(id)
                    .map_err(|error| contract::Error::Invalid(error.to_string()))?;
                match caller.dependencies.get(&id) {
                    Some(plugin) => Ok(Arc::clone(plugin)),
                    None => self
                        .plugin(&id)
                        .map_err(|error| not_found(error.to_string(), error.hint())),
                }
            }
            Target::Service(name) => self
                .registry
                .service(name)
                .cloned()
                .map_err(|error| not_found(error.to_string(), Some(error.hint()))),
            Target::ExtensionPoint(name) => {
                let point = extension_point(name)?;
                match self
                    .registry
                    .extension_point(point)
                    .map_err(|error| not_found(error.to_string(), Some(error.hint())))?
                {
                    [one] => Ok(Arc::clone(one)),
                    several => Err(contract::Error::Invalid(format!(
                        "extension point `{name}` is served by {}; name one of them",
                        several
                            .iter()
                            .map(|plugin| plugin.id().as_str())
                            .collect::<Vec<_>>()
                            .join(", ")
                    ))),
                }
            }
        }
    }

    fn invoke(
        &self,
        plugin: &Installed,
        caller: Caller,
        function: &str,
        arguments: Vec<Value>,
    ) -> Result<Value, contract::Error> {
        let idle = lock(&self.idle)
            .get_mut(&plugin.directory)
            .and_then(Vec::pop);
        let mut instance = match idle {
            Some(instance) => instance,
            None => self
                .instance(&self.slot(plugin), InstanceOptions::default(), &caller)
                .map_err(unavailable)?,
        };
        instance.set_caller(caller);
        let result = instance
            .call_json(function, arguments)
            .map_err(|error| match error {
                JsonCallError::Call(error) => of_call(error),
                error => contract::Error::Invalid(error.to_string()),
            });
        if instance.is_alive() {
            instance.set_caller(Caller::default());
            let mut table = lock(&self.idle);
            let idle = table.entry(plugin.directory.clone()).or_default();
            if idle.len() < MAX_IDLE {
                idle.push(instance);
            }
        }
        result
    }
}

/// What a caller is told of a plugin that could not be started.
fn unavailable(error: Error) -> contract::Error {
    match error {
        Error::Call(error) => of_call(error),
        Error::Exceeded { plugin, exceeded } => exceeded_by(&plugin, &exceeded),
        error => {
            let hint = error.hint().map(|hint| format!("; {hint}"));
            contract::Error::Unavailable(format!("{error}{}", hint.unwrap_or_default()))
        }
    }
}

/// What a caller is told of a limit that the plugin it called ran into.
fn exceeded_by(plugin: &PluginId, exceeded: &LimitExceeded) -> contract::Error {
    contract::Error::Exceeded(Exceeded {
        limit: exceeded.name().to_owned(),
        value: plain(exceeded.value()),
        remedy: exceeded.remedy(plugin),
    })
}

/// What a caller is told of a call that brought no answer.
fn of_call(error: CallError) -> contract::Error {
    match error {
        CallError::Refused { error, .. } => error,
        CallError::Exceeded {
            plugin, exceeded, ..
        } => exceeded_by(&plugin, &exceeded),
        CallError::Cancelled { .. } => contract::Error::Cancelled,
        CallError::TimedOut { .. } => contract::Error::TimedOut(error.to_string()),
        CallError::NotServing { .. }
        | CallError::BackingOff { .. }
        | CallError::NotRestarted { .. } => contract::Error::Unavailable(error.to_string()),
        error => contract::Error::Failed(error.to_string()),
    }
}
