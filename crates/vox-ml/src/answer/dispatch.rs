//! Which backend serves a model, and why.
//!
//! Every plugin that serves `inference-backend` is asked whether it can serve the model. Of those that
//! can, one on a CUDA device comes first, then Metal, then the processor, then servers elsewhere; of
//! the same kind, the one that needs less memory, then by id. One that fails to load is passed over.
//!
//! What must stay true: nothing is passed over without a reason that is told.

use std::cmp::Reverse;
use std::fmt;

use serde::Serialize;
use vox_contract::{ExtensionPoint, PluginId};
use vox_host::contract::compute::DeviceKind;
use vox_host::contract::inference_backend::{Model as Wanted, Options, Verdict};
use vox_host::{CancelToken, Host};

use crate::backend::{BackendError, Candidate, Model, plugins};

/// Asks backends and chooses among them.
pub struct Dispatcher {
    host: Host,
    model: Wanted,
    options: Options,
    cancel: CancelToken,
    /// Best first; those that were tried are taken off.
    ranked: Vec<PluginId>,
    explanation: Explanation,
}

/// What was considered, best first.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Explanation {
    /// The model's name.
    pub model: String,
    /// Every backend that is installed.
    pub considered: Vec<Considered>,
}

/// A backend, and what came of asking it.
#[derive(Debug, Clone, Serialize)]
pub struct Considered {
    /// The plugin.
    pub plugin: PluginId,
    /// Whether it can serve the model.
    pub serves: bool,
    /// Whether it is the best of those that can.
    pub chosen: bool,
    /// Why, or why not.
    pub reason: String,
    /// The device that it would be on.
    pub device: Option<String>,
    /// Bytes of that device's memory that it needs.
    pub memory: u64,
    /// Bytes of it that are free.
    pub available: u64,
}

impl Explanation {
    /// Marks the best of those that serve.
    fn choose(&mut self) {
        let best = self.considered.iter().position(|entry| entry.serves);
        for (place, entry) in self.considered.iter_mut().enumerate() {
            entry.chosen = Some(place) == best;
        }
    }
}

/// No backend serves a model.
#[derive(Debug)]
pub struct NoBackend {
    /// What each of them says.
    pub explanation: Explanation,
}

impl fmt::Display for NoBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no backend can serve `{}`", self.explanation.model)?;
        for considered in &self.explanation.considered {
            write!(f, "\n  {}: {}", considered.plugin, considered.reason)?;
        }
        Ok(())
    }
}

impl std::error::Error for NoBackend {}

/// Why no model was loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DispatchError {
    /// No plugin is there to ask.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// None of those that were asked can.
    #[error(transparent)]
    NoBackend(#[from] NoBackend),
    /// The prompt leaves no room for an answer.
    #[error("the prompt has {tokens} tokens or more, and the context is {context} with the answer")]
    TooLong {
        /// Tokens of the prompt, at least.
        tokens: u32,
        /// Most tokens of prompt and answer together.
        context: u32,
    },
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher")
            .field("explanation", &self.explanation)
            .finish_non_exhaustive()
    }
}

impl DispatchError {
    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Backend(error) => error.hint(),
            Self::NoBackend(_) => Some(
                "`vox plugin search` lists backends that can be installed; `--device`, `--quant` and \
                 `--context` change what is needed"
                    .to_owned(),
            ),
            Self::TooLong { .. } => Some(
                "a shorter prompt fits, or a larger `--context` where the model has one".to_owned(),
            ),
        }
    }
}

impl Dispatcher {
    /// Asks every backend, or the wanted one alone, whether it can serve a model.
    ///
    /// # Errors
    ///
    /// No backend is installed.
    pub fn ask(
        host: &Host,
        model: Wanted,
        options: Options,
        wanted: Option<&PluginId>,
        cancel: CancelToken,
    ) -> Result<Self, BackendError> {
        let _span = tracing::info_span!("vox.infer.dispatch", model = model.name).entered();
        let mut asked = Vec::new();
        for plugin in plugins(host, ExtensionPoint::InferenceBackend, wanted)? {
            let verdict = Candidate::start(host, &plugin, cancel.clone())
                .and_then(|mut candidate| candidate.can_serve(&model, &options));
            asked.push((plugin, verdict));
        }
        asked.sort_by_key(|(plugin, verdict)| (Reverse(rank(verdict)), plugin.clone()));
        let considered = asked
            .iter()
            .map(|(plugin, verdict)| considered(plugin, verdict));
        let mut explanation = Explanation {
            model: model.name.clone(),
            considered: considered.collect(),
        };
        explanation.choose();
        let serving = asked
            .into_iter()
            .filter(|(_, verdict)| verdict.as_ref().is_ok_and(|verdict| verdict.serves));
        Ok(Self {
            host: host.clone(),
            model,
            options,
            cancel,
            ranked: serving.map(|(plugin, _)| plugin).collect(),
            explanation,
        })
    }

    /// Has those that are loaded from now on told to stop by another token.
    pub fn set_cancel(&mut self, cancel: CancelToken) {
        self.cancel = cancel;
    }

    /// What was considered so far, and chosen.
    pub fn explanation(&self) -> &Explanation {
        &self.explanation
    }

    /// Loads the model into the best backend that was not tried yet.
    ///
    /// # Errors
    ///
    /// None is left.
    pub fn load(&mut self) -> Result<Model, NoBackend> {
        while !self.ranked.is_empty() {
            let plugin = self.ranked.remove(0);
            let loaded = Candidate::start(&self.host, &plugin, self.cancel.clone())
                .and_then(|candidate| candidate.load(&self.model, &self.options));
            let mut entries = self.explanation.considered.iter_mut();
            let entry = entries.find(|entry| entry.plugin == plugin);
            match loaded {
                Ok(model) => return Ok(model),
                Err(error) => {
                    tracing::warn!(%plugin, %error, "a backend did not load the model");
                    if let Some(entry) = entry {
                        entry.serves = false;
                        entry.reason = error.to_string();
                    }
                    self.explanation.choose();
                }
            }
        }
        Err(NoBackend {
            explanation: self.explanation.clone(),
        })
    }

    /// Notes why the backend that was chosen is not used any longer.
    pub fn give_up(&mut self, plugin: &PluginId, error: &BackendError) {
        let mut entries = self.explanation.considered.iter_mut();
        if let Some(entry) = entries.find(|entry| entry.plugin == *plugin) {
            entry.serves = false;
            entry.reason = error.to_string();
        }
        self.explanation.choose();
    }
}

/// How good a verdict is: greater ones are better.
fn rank(verdict: &Result<Verdict, BackendError>) -> (u8, Reverse<u64>) {
    let Ok(verdict) = verdict else {
        return (0, Reverse(0));
    };
    let kind = verdict.device.as_ref().map(|device| device.kind);
    let rank = match kind {
        _ if !verdict.serves => 0,
        Some(DeviceKind::Cuda) => 4,
        Some(DeviceKind::Metal) => 3,
        Some(DeviceKind::Cpu) => 2,
        Some(DeviceKind::Remote) | None => 1,
    };
    (rank, Reverse(verdict.memory))
}

fn considered(plugin: &PluginId, verdict: &Result<Verdict, BackendError>) -> Considered {
    let none = Considered {
        plugin: plugin.clone(),
        serves: false,
        chosen: false,
        reason: String::new(),
        device: None,
        memory: 0,
        available: 0,
    };
    match verdict {
        Ok(verdict) => Considered {
            serves: verdict.serves,
            reason: verdict.reason.clone(),
            device: verdict.device.as_ref().map(|device| device.id.clone()),
            memory: verdict.memory,
            available: verdict.device.as_ref().map_or(0, |device| device.available),
            ..none
        },
        Err(error) => Considered {
            reason: error.to_string(),
            ..none
        },
    }
}
