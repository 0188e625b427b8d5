//! Why a training does not begin, or ends early.

use std::io;
use std::path::{Path, PathBuf};

use vox_host::{CallError, contract};
use vox_probe::{DeviceKind, Hardware};

use crate::backend::BackendError;

/// Why a training does not begin, or ends early. What was saved stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Training wants a CUDA device.
    #[error("training wants a CUDA device, and no backend has one; found: {found}")]
    CudaRequired {
        /// What was found in its place.
        found: String,
    },
    /// No backend has the device.
    #[error("no backend has the device `{wanted}`; there are: {found}")]
    NoDevice {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// It will not fit.
    #[error(
        "the training needs about {needed} bytes of memory and {device} has {available} free: \
         weights {weights}, gradients {gradients}, optimizer {optimizer}, activations {activations}"
    )]
    Memory {
        /// The device.
        device: String,
        /// Bytes in all.
        needed: u64,
        /// Bytes that are free.
        available: u64,
        /// Bytes of weights.
        weights: u64,
        /// Bytes of gradients.
        gradients: u64,
        /// Bytes of the optimizer's state.
        optimizer: u64,
        /// Bytes of intermediate results.
        activations: u64,
    },
    /// What is to be trained further is no adapter.
    #[error("`{name}` is no adapter: it has no adapter_config.json")]
    NoAdapter {
        /// Its name, or its directory.
        name: String,
    },
    /// What is to be trained is an adapter.
    #[error("`{name}` is an adapter, and no model")]
    IsAdapter {
        /// Its name, or its directory.
        name: String,
    },
    /// The rows of the data are longer than what the model takes.
    #[error("the data's context of {asked} tokens is longer than the model's of {model}")]
    Context {
        /// Tokens of a row.
        asked: u32,
        /// The most that the model takes.
        model: u32,
    },
    /// Somebody trains there already.
    #[error("another training is at work in {}", path.display())]
    Busy {
        /// The output directory.
        path: PathBuf,
    },
    /// A new training, where there is one.
    #[error(
        "{} holds a training already, at step {step} of {total}", path.display()
    )]
    Exists {
        /// The output directory.
        path: PathBuf,
        /// Steps that were saved.
        step: u64,
        /// All steps.
        total: u64,
    },
    /// Nothing to go on with.
    #[error("{} holds no training to go on with", path.display())]
    Nothing {
        /// The output directory.
        path: PathBuf,
    },
    /// The log does not have the checkpoint that the training goes on from.
    #[error(
        "the training in {} (run {run}) was saved after step {step}, and the log in {} has {}",
        path.display(), log.display(), in_the_log(*found)
    )]
    CheckpointMissing {
        /// The output directory.
        path: PathBuf,
        /// Its id.
        run: String,
        /// Steps that were saved.
        step: u64,
        /// Where it was looked for.
        log: PathBuf,
        /// The step of the newest checkpoint that is there.
        found: Option<u64>,
    },
    /// It is another training than the one that is there.
    #[error("the training in {} was begun with another `{}`", path.display(), differing.join("`, `"))]
    Changed {
        /// The output directory.
        path: PathBuf,
        /// The keys that differ, and how.
        differing: Vec<String>,
    },
    /// The loss, or a gradient, is not a number.
    #[error(
        "step {step}: the {what} is {value}, in micro-batch {micro} with rows {rows:?} of the data; {}",
        standing(*before)
    )]
    NotFinite {
        /// The step.
        step: u64,
        /// `loss` or `gradient`.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The micro-batch of the step, counted from 0.
        micro: u32,
        /// Rows of the dataset in that batch.
        rows: Vec<u64>,
        /// The last checkpoint's step; none where none was saved.
        before: Option<u64>,
    },
    /// What the backend does not do.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// What is wrong with data and configuration.
    #[error(transparent)]
    Data(#[from] crate::Error),
    /// What is wrong with a model.
    #[error(transparent)]
    Bundle(#[from] vox_model::bundle::BundleError),
    /// A checkpoint cannot be saved. The one before is there.
    #[error("the checkpoint of step {step} was not saved: {source}")]
    Checkpoint {
        /// The step.
        step: u64,
        /// Why.
        source: Box<vox_model::import::ImportError>,
    },
    /// What the log refuses.
    #[error("the training cannot be recorded: {0}")]
    Log(#[from] vox_oplog::Error),
    /// What the store refuses.
    #[error(transparent)]
    Store(#[from] vox_store::Error),
    /// The file system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl TrainError {
    /// A stable name, where programs tell errors apart.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::CudaRequired { .. } => Some("vox/train/cuda-required"),
            Self::NoDevice { .. } => Some("vox/train/no-device"),
            Self::Memory { .. } => Some("vox/train/memory"),
            Self::NoAdapter { .. } => Some("vox/train/no-adapter"),
            Self::IsAdapter { .. } => Some("vox/train/is-adapter"),
            Self::Context { .. } => Some("vox/train/context"),
            Self::Busy { .. } => Some("vox/train/busy"),
            Self::Exists { .. } => Some("vox/train/exists"),
            Self::Nothing { .. } => Some("vox/train/nothing-to-resume"),
            Self::CheckpointMissing { .. } => Some("vox/train/checkpoint-missing"),
            Self::Changed { .. } => Some("vox/train/changed"),
            Self::NotFinite { .. } => Some("vox/train/not-finite"),
            Self::Backend(BackendError::Missing(_)) => Some("vox/train/no-backend"),
            Self::Backend(BackendError::Unfit { .. }) => Some("vox/train/unfit"),
            _ => None,
        }
    }

    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::CudaRequired { .. } => "`--device cpu` trains on the processor, for small models \
                and tests; with an NVIDIA card, install the backend: `vox plugin install candle-cuda`"
                .to_owned(),
            Self::NoDevice { wanted, found } => {
                let devices = "`vox probe` shows the devices that are here, `vox plugin list` the backends that \
                               are installed";
                // Of a backend that has such devices, another one was wanted.
                let missing = [("cuda", "candle-cuda"), ("metal", "candle-metal")]
                    .into_iter()
                    .find(|(kind, _)| wanted.starts_with(*kind) && !found.contains(*kind));
                match missing {
                    Some((_, plugin)) => {
                        format!("install the backend: `vox plugin install {plugin}`; {devices}")
                    }
                    None => devices.to_owned(),
                }
            }
            Self::Memory { .. } => "fewer `batch-rows`, a shorter `context`, \
                `gradient-checkpointing = true`, or `kind = \"qlora\"` need less"
                .to_owned(),
            Self::NoAdapter { .. } => "`from` in `[method]` takes the name of an adapter in the store, or a \
                directory in the layout of PEFT"
                .to_owned(),
            Self::IsAdapter { .. } => "write the model that it changes as `base` in `[model]`, and the adapter as \
                `from` in `[method]`, which trains it further"
                .to_owned(),
            Self::Context { model, .. } => {
                format!("write `context = {model}` in `[data]`, or less, or give `--context {model}`")
            }
            Self::Busy { .. } => "wait for it, stop it, or give another `output`".to_owned(),
            Self::Exists { .. } => "`--resume` goes on with it; another `output` begins a new one"
                .to_owned(),
            Self::Nothing { .. } => "leave out `--resume` to begin one".to_owned(),
            Self::CheckpointMissing { .. } => "nothing was changed; go on as the user, and with the data directory \
                (`VOX_DATA`), that trained it; where that is lost, another `output` begins a new one"
                .to_owned(),
            Self::Changed { .. } => "go on with the configuration as it was, or begin a new \
                training with another `output`"
                .to_owned(),
            Self::NotFinite { before, .. } => {
                let anew = "a lower `learning-rate`, a longer warm-up or a smaller `clip` may help, in a new \
                            training with another `output`";
                match before {
                    Some(step) => format!(
                        "{anew}; `--resume` goes on from step {step}, with the configuration as it was"
                    ),
                    None => anew.to_owned(),
                }
            }
            Self::Backend(error) => return error.hint(),
            _ => return None,
        })
    }

    /// What a backend finds wrong with the adapter that is asked of it, by the keys of a configuration; none for other
    /// errors.
    pub fn refused_adapter(&self) -> Option<String> {
        let Self::Backend(BackendError::Call { plugin, source }) = self else {
            return None;
        };
        match source {
            CallError::Refused {
                error: contract::Error::Invalid(message),
                ..
            } if message.starts_with("`adapter.") => {
                let message = message.replace("`adapter.", "`method.");
                Some(format!("`{plugin}` cannot do this training: {message}"))
            }
            _ => None,
        }
    }

    /// Training wants CUDA, and this is what there is.
    pub(crate) fn cuda_required(hardware: &Hardware) -> Self {
        let names = hardware.devices().into_iter().map(|device| device.name);
        let names = names.collect::<Vec<_>>().join(", ");
        let found = match hardware.why_not(DeviceKind::Cuda) {
            // There is one, and no backend that has it.
            why if why.is_empty() => names,
            why => format!("{names} ({why})"),
        };
        Self::CudaRequired { found }
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// What the log has in place of a checkpoint that it should have.
fn in_the_log(found: Option<u64>) -> String {
    match found {
        None => "no checkpoint of it".to_owned(),
        Some(step) => format!("none of it after step {step}"),
    }
}

/// What a training that failed leaves.
fn standing(before: Option<u64>) -> String {
    match before {
        Some(step) => format!("the weights of step {step} stand"),
        None => "no checkpoint was saved before".to_owned(),
    }
}
