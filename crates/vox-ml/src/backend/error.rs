//! What can go wrong between this crate and a backend.

use std::fmt::{self, Write as _};

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
    /// None of those that were asked can.
    #[error("no backend can {work}:{}", lines(refusals))]
    Unfit {
        /// What was to be done.
        work: &'static str,
        /// What each of them says.
        refusals: Vec<BackendError>,
    },
}

impl BackendError {
    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing(missing) => Some(missing.hint()),
            Self::Start { source, .. } => source.hint(),
            Self::Call { .. } => None,
            Self::Unfit { .. } => {
                Some("`vox plugin search` lists backends that can be installed".to_owned())
            }
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
            Self::Missing(_) | Self::Start { .. } | Self::Unfit { .. } => true,
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

    /// Whether whoever asked was cancelled.
    fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Self::Call {
                source: CallError::Cancelled { .. }
                    | CallError::Refused {
                        error: vox_host::contract::Error::Cancelled,
                        ..
                    },
                ..
            }
        )
    }
}

/// A line for each.
fn lines(refusals: &[BackendError]) -> String {
    let mut text = String::new();
    for refusal in refusals {
        // Writing to a string does not fail.
        let _ = match refusal {
            // It names the plugin itself.
            BackendError::Call { source, .. } => write!(text, "\n  {source}"),
            refusal => write!(text, "\n  {refusal}"),
        };
    }
    text
}

/// Why those cannot that were asked so far, where several may be asked one after the other.
#[derive(Debug, Default)]
pub struct Refusals(Vec<BackendError>);

impl Refusals {
    /// Takes why one cannot, so that the next is asked.
    ///
    /// # Errors
    ///
    /// Where whoever asks was cancelled, that: no other is to be asked.
    pub fn take(&mut self, error: BackendError) -> Result<(), BackendError> {
        if error.is_cancelled() {
            return Err(error);
        }
        self.0.push(error);
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The refusal where there is one alone, else [`BackendError::Unfit`] with all of them; `work` is what was to be
    /// done, after `can`.
    pub fn into_error(self, work: &'static str) -> BackendError {
        match <[BackendError; 1]>::try_from(self.0) {
            Ok([refusal]) => refusal,
            Err(refusals) => BackendError::Unfit { work, refusals },
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
