//! Which backend serves a model, and why.
//!
//! Every plugin that serves `inference-backend` is asked whether it can serve the model. Of those that
//! can, one on a CUDA device comes first, then Metal, then the processor, then servers elsewhere; of
//! the same kind, the one whose device has the higher tier, then the one that needs less memory, then by
//! id. One that fails to load is passed over.
//!
//! On which of its devices the model fits, a backend says itself. Tiers come from the probe, and so does
//! the memory that the process may have, of which a backend sees only what the machine has. Of a device that
//! the probe does not find, the backend may say the tier; a server with one stands behind the devices of this
//! machine that have the same.
//!
//! What must stay true: nothing is passed over without a reason that is told.

use std::cmp::Reverse;
use std::fmt;
use std::panic::resume_unwind;
use std::thread;

use serde::Serialize;
use vox_contract::{ExtensionPoint, PluginId};
use vox_host::contract::compute::{Device, DeviceKind};
use vox_host::contract::inference_backend::{Model as Wanted, Options, Verdict};
use vox_host::{CancelToken, Host};
use vox_probe::{DeviceKind as Kind, Hardware, Probe};

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
    /// That device's tier, 0 to 100; none where the probe does not find it, as a server, and the backend does
    /// not say.
    pub tier: Option<u8>,
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
    /// Asks every backend, or the wanted one alone, whether it can serve a model, while `probe` looks at the
    /// hardware.
    ///
    /// # Errors
    ///
    /// No backend is installed.
    pub fn ask(
        host: &Host,
        model: Wanted,
        options: Options,
        wanted: Option<&PluginId>,
        probe: &(dyn Probe + Sync),
        cancel: CancelToken,
    ) -> Result<Self, BackendError> {
        let _span = tracing::info_span!("vox.infer.dispatch", model = model.name).entered();
        let ids = plugins(host, ExtensionPoint::InferenceBackend, wanted)?;
        let answer = |plugin: &PluginId| -> Result<(Candidate, Verdict), BackendError> {
            let mut candidate = Candidate::start(host, plugin, cancel.clone())?;
            let verdict = candidate.can_serve(&model, &options)?;
            Ok((candidate, verdict))
        };
        // Where programs of the system tell of the hardware, that takes as long as asking does.
        let (hardware, answers) = thread::scope(|scope| {
            let hardware = scope.spawn(|| probe.probe());
            let answers: Vec<_> = ids.iter().map(answer).collect();
            let hardware = hardware.join();
            (
                hardware.unwrap_or_else(|panic| resume_unwind(panic)),
                answers,
            )
        });
        let asked = ids.into_iter().zip(answers);
        let mut asked: Vec<_> = asked
            .map(|(plugin, answer)| {
                let judged = answer.and_then(|(mut candidate, verdict)| {
                    Judged::of(&mut candidate, verdict, options.context, &hardware)
                });
                let considered = considered(plugin, &judged, options.context, &hardware);
                let kind = judged.ok().and_then(|judged| judged.verdict.device);
                (kind.map(|device| device.kind), considered)
            })
            .collect();
        asked.sort_by_cached_key(|(kind, considered)| {
            (Reverse(rank(*kind, considered)), considered.plugin.clone())
        });
        let considered: Vec<_> = asked
            .into_iter()
            .map(|(_, considered)| considered)
            .collect();
        let serving = considered.iter().filter(|entry| entry.serves);
        let ranked = serving.map(|entry| entry.plugin.clone()).collect();
        let mut explanation = Explanation {
            model: model.name.clone(),
            considered,
        };
        explanation.choose();
        Ok(Self {
            host: host.clone(),
            model,
            options,
            cancel,
            ranked,
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
                    // Where it was the last one, the error says so.
                    if !self.ranked.is_empty() {
                        tracing::warn!(%plugin, %error, "a backend did not load the model");
                    }
                    if let Some(entry) = entry {
                        entry.serves = false;
                        entry.reason = error.reason();
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
            entry.reason = error.reason();
        }
        self.explanation.choose();
    }
}

/// A verdict, with what else of its backend decides who is chosen.
struct Judged {
    verdict: Verdict,
    /// The tier of the verdict's device.
    tier: Option<u8>,
    /// Most tokens of a prompt and its answer that the backend serves, whatever the model.
    context: Option<u32>,
}

impl Judged {
    /// Asks a backend that can serve the model for its abilities too, where they decide something: to know them
    /// may take it another look at its devices.
    fn of(
        candidate: &mut Candidate,
        verdict: Verdict,
        context: Option<u32>,
        hardware: &Hardware,
    ) -> Result<Self, BackendError> {
        let device = verdict.device.as_ref();
        let tier = device.and_then(|device| tier(device, hardware));
        if !verdict.serves || (tier.is_some() && context.is_none()) {
            return Ok(Self {
                verdict,
                tier,
                context: None,
            });
        }
        let abilities = candidate.capabilities()?;
        Ok(Self {
            verdict,
            tier: tier.or(abilities.tier.map(|tier| tier.min(100))),
            context: abilities.context,
        })
    }
}

/// How good a backend on a device of this kind is: greater ones are better.
fn rank(kind: Option<DeviceKind>, considered: &Considered) -> (u8, u8, bool, Reverse<u64>) {
    let tier = considered.tier.unwrap_or(0);
    let is_here = !matches!(kind, Some(DeviceKind::Remote) | None);
    let rank = match kind {
        _ if !considered.serves => 0,
        Some(DeviceKind::Cuda) => 4,
        Some(DeviceKind::Metal) => 3,
        Some(DeviceKind::Cpu) => 2,
        // A server is as good as what has its tier here.
        Some(DeviceKind::Remote) | None => match tier {
            0 => 1,
            1..=30 => 2,
            31..=60 => 3,
            61.. => 4,
        },
    };
    (rank, tier, is_here, Reverse(considered.memory))
}

/// What came of asking a backend, with `context` tokens asked for.
fn considered(
    plugin: PluginId,
    judged: &Result<Judged, BackendError>,
    context: Option<u32>,
    hardware: &Hardware,
) -> Considered {
    let none = Considered {
        plugin,
        serves: false,
        chosen: false,
        reason: String::new(),
        device: None,
        tier: None,
        memory: 0,
        available: 0,
    };
    let judged = match judged {
        Ok(judged) => judged,
        Err(error) => {
            return Considered {
                reason: error.reason(),
                ..none
            };
        }
    };
    let verdict = &judged.verdict;
    let device = verdict.device.as_ref();
    let considered = Considered {
        serves: verdict.serves,
        reason: verdict.reason.clone(),
        device: device.map(|device| device.id.clone()),
        tier: judged.tier,
        memory: verdict.memory,
        available: device.map_or(0, |device| device.available),
        ..none
    };
    if let (Some(context), Some(most)) = (context, judged.context)
        && context > most
    {
        return Considered {
            serves: false,
            reason: format!(
                "a context of {context} tokens is asked for, and it serves {most} at most, whatever the model"
            ),
            ..considered
        };
    }
    match device {
        Some(device) if device.kind == DeviceKind::Cpu => within_limits(considered, hardware),
        _ => considered,
    }
}

/// The tier of a device, as the probe has it. CUDA and the probe may number devices differently; then their
/// names tell which is meant.
fn tier(device: &Device, hardware: &Hardware) -> Option<u8> {
    let kind = match device.kind {
        DeviceKind::Cuda => Kind::Cuda,
        DeviceKind::Metal => Kind::Metal,
        DeviceKind::Cpu => Kind::Cpu,
        DeviceKind::Remote => return None,
    };
    let ordinal = device.id.rsplit(':').next();
    let ordinal: u32 = ordinal.and_then(|number| number.parse().ok()).unwrap_or(0);
    let mut known = hardware.devices();
    known.retain(|known| known.kind == kind);
    let is_it = |known: &&vox_probe::Device<'_>| known.ordinal == ordinal;
    let is_named = |known: &&vox_probe::Device<'_>| known.name == device.name;
    let found = known
        .iter()
        .find(|known| is_it(known) && is_named(known))
        .or_else(|| known.iter().find(is_named))
        .or_else(|| known.iter().find(is_it));
    found.map(|known| known.tier)
}

/// A backend on the processor, which counts with the machine's memory where the process may have less of it:
/// a control group's limit is not among what systems call available.
fn within_limits(considered: Considered, hardware: &Hardware) -> Considered {
    let Some(free) = hardware.memory.available else {
        return considered;
    };
    let (memory, counted) = (considered.memory, considered.available);
    if counted <= free {
        return considered;
    }
    let limited = Considered {
        available: free,
        ..considered
    };
    // Where it needs more than it counts with, it has memory elsewhere.
    if !limited.serves || memory <= free || memory > counted {
        return limited;
    }
    let source = hardware.memory.limit_source.as_deref();
    let limit = source.map(|source| format!(", by the limit in {source}"));
    Considered {
        serves: false,
        reason: format!(
            "it needs {memory} bytes, and of the processor's memory this process may have {free} more{}",
            limit.unwrap_or_default()
        ),
        ..limited
    }
}
