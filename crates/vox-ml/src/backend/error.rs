//! What can go wrong between this crate and a backend.

use std::fmt;

use vox_contract::{ExtensionPoint, PluginId};
use vox_host::CallError;

/// Why a backend did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// No plugin is there to do it.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The plugin cannot be started.
    #[error("backend `{plugin}` cannot be used: {source}")]
    Start {
        /// The plugin.
        plugin: PluginId,
        /// Why.
        #[source]
        source: Box<vox_host::Error>,
    },
    /// A call failed, or was refused.
    #[error("backend `{plugin}`: {source}")]
    Call {
        /// The plugin.
        plugin: PluginId,
        /// Why.
        #[source]
        source: CallError,
    },
}

impl BackendError {
    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing(missing) => Some(missing.hint()),
            Self::Start { source, .. } => source.hint(),
            Self::Call { .. } => None,
        }
    }

    /// What the backend itself says, where who it is is told beside it.
    pub fn reason(&self) -> String {
        use vox_host::contract::Error;
        let Self::Call {
            source: CallError::Refused { error, .. },
            ..
        } = self
        else {
            return self.to_string();
        };
        match error {
            Error::Invalid(why)
            | Error::NotFound(why)
            | Error::Unavailable(why)
            | Error::Failed(why) => why.clone(),
            error => error.to_string(),
        }
    }

    /// Whether another backend may do what this one did not: it is gone or cannot answer, as
    /// against a request that makes no sense.
    pub fn is_the_backends(&self) -> bool {
        use vox_host::contract::Error;
        match self {
            Self::Missing(_) | Self::Start { .. } => true,
            Self::Call { source, .. } => match source {
                CallError::Refused { error, .. } => !matches!(
                    error,
                    Error::Invalid(_) | Error::Cancelled | Error::NotFound(_)
                ),
                CallError::Cancelled { .. } => false,
                _ => true,
            },
        }
    }
}

/// A backend that is not installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What it would serve.
    pub point: ExtensionPoint,
    /// The plugin that was asked for; none for any.
    pub wanted: Option<PluginId>,
}

impl Missing {
    /// What to install.
    pub fn hint(&self) -> String {
        match &self.wanted {
            Some(id) => format!("install it: `vox plugin install {id}`"),
            None => "install one: `vox plugin install candle-cpu`, or on a machine with an NVIDIA \
                     card `vox plugin install candle-cuda`"
                .to_owned(),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let work = match self.point {
            ExtensionPoint::MlBackend => "trains models",
            _ => "runs models",
        };
        match &self.wanted {
            Some(id) => write!(
                f,
                "no plugin `{id}` that {work} is installed (extension point `{}`)",
                self.point
            ),
            None => write!(
                f,
                "no plugin that {work} is installed (extension point `{}`)",
                self.point
            ),
        }
    }
}

impl std::error::Error for Missing {}
