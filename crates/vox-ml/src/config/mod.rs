//! What a user asks of a training: `train.toml`, or the same as flags.
//!
//! What must stay true: a configuration that exists is whole and its parts fit together; all
//! problems of a text are told at once, each with its place and a way out; a key that is not known is
//! refused; and every default is written here.

mod device;
mod layers;
mod method;
mod read;

use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vox_contract::ManifestError;
use vox_contract::document::{Document, read_text};

use crate::data::{Format, Overlong, Packing, Split};
use crate::schedule::{Decay, Schedule};
use crate::scratch::Dimensions;

pub use device::DeviceError;
pub use layers::Overrides;
pub use method::{Adapter, Method, MethodKind, Quantisation};

/// A training, as it is configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "train.toml")]
pub struct TrainConfig {
    /// The directory for checkpoints, loss curve and the trained model. A relative path begins at
    /// the file's own directory, as all paths here do.
    pub output: PathBuf,
    /// The model that is trained; this or `scratch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,
    /// A new model; this or `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<Scratch>,
    /// What is learnt.
    pub data: Data,
    /// What of the model is changed.
    #[serde(default)]
    pub method: Method,
    /// How it is learnt.
    #[serde(default)]
    pub optimisation: Optimisation,
    /// When something is looked at or written down.
    #[serde(default)]
    pub cadence: Cadence,
    /// Where it is computed.
    #[serde(default)]
    pub machine: Machine,
}

/// The model that is trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Model {
    /// Its name, or its directory: what has a `/` in it, or is `.`, is a directory.
    pub base: String,
}

impl Model {
    /// The directory, where it is one and no name.
    pub fn directory(&self) -> Option<&Path> {
        is_path(&self.base).then(|| Path::new(&self.base))
    }
}

/// Whether a text names a directory and no model.
fn is_path(text: &str) -> bool {
    text == "." || text == ".." || text.contains(['/', std::path::MAIN_SEPARATOR])
}

/// A new model: a Llama of this shape, with weights from the seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scratch {
    /// Layers.
    #[schemars(range(min = 1))]
    pub layers: u32,
    /// Width of the hidden state; a multiple of `heads`. Multiples of 256 can be quantised.
    #[schemars(range(min = 1))]
    pub hidden: u32,
    /// Heads of attention.
    #[schemars(range(min = 1))]
    pub heads: u32,
    /// Heads of keys and values, a divisor of `heads`; as many as `heads` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub kv_heads: Option<u32>,
    /// Width of the feed-forward part; three times `hidden` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub intermediate: Option<u32>,
    /// The longest context that the model is to have; that of the data when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2))]
    pub context: Option<u32>,
    /// Base of the rotary positions.
    #[serde(default = "read::rope_theta")]
    pub rope_theta: f64,
    /// Whether the output uses the embedding's weights.
    #[serde(default = "read::yes")]
    pub tie_embeddings: bool,
    /// The model whose tokenizer is used, by name or directory; without one, a tokenizer is learnt
    /// from the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// The most tokens that a tokenizer which is learnt may have.
    #[serde(default = "read::vocabulary")]
    #[schemars(range(min = 257))]
    pub vocabulary: u32,
}

/// What is learnt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Data {
    /// Files and directories, in order.
    #[schemars(length(min = 1))]
    pub files: Vec<PathBuf>,
    /// What the files hold.
    #[serde(default)]
    pub format: Format,
    /// Tokens of a row: what the model sees at once.
    #[serde(default = "read::context")]
    #[schemars(range(min = 2))]
    pub context: u32,
    /// How examples become rows.
    #[serde(default)]
    pub packing: Packing,
    /// What becomes of examples over the context.
    #[serde(default)]
    pub overlong: Overlong,
    /// Whether lines that cannot be used are left out and counted; otherwise the first is an error.
    #[serde(default)]
    pub skip_invalid: bool,
    /// The part of the examples that is held back for evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub evaluation_fraction: Option<f64>,
    /// The number of examples that is held back for evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub evaluation_count: Option<u64>,
    /// Files and directories with examples for evaluation alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evaluation_files: Vec<PathBuf>,
}

impl Data {
    /// How much of `files` is held back.
    pub fn split(&self) -> Split {
        match (self.evaluation_fraction, self.evaluation_count) {
            (Some(part), _) => Split::Fraction(part),
            (None, Some(count)) => Split::Count(count),
            (None, None) => Split::None,
        }
    }

    /// Whether there is anything to evaluate on.
    pub fn evaluates(&self) -> bool {
        self.split() != Split::None || !self.evaluation_files.is_empty()
    }
}

/// How it is learnt, with AdamW.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Optimisation {
    /// Steps of the optimizer; this or `epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub steps: Option<u64>,
    /// How often all rows are seen; 1 when neither is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// Rows of a micro-batch.
    #[schemars(range(min = 1))]
    pub batch_rows: u32,
    /// Micro-batches whose gradients are added up before a step.
    #[schemars(range(min = 1))]
    pub accumulation: u32,
    /// The highest learning rate. When left out: 1e-3 for a new model, 2e-5 for all weights of a
    /// trained one, 2e-4 for an adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// How it falls.
    pub schedule: Decay,
    /// The rate of the last step.
    pub minimum_rate: f64,
    /// Steps over which the rate rises; this or `warmup-fraction`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
    /// The part of all steps over which the rate rises; 0.03 when neither is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup_fraction: Option<f64>,
    /// The largest norm of all gradients together, to which larger ones are scaled down; 0 for no
    /// limit.
    pub clip: f64,
    /// Weight decay, decoupled from the gradient; of matrices alone.
    pub weight_decay: f64,
    /// Decay of the means of gradients and of their squares.
    pub betas: [f64; 2],
    /// What is added to the root of the mean square.
    pub epsilon: f64,
    /// What all randomness follows from: order, new weights, dropout.
    pub seed: u64,
}

impl Default for Optimisation {
    fn default() -> Self {
        Self {
            steps: None,
            epochs: None,
            batch_rows: 4,
            accumulation: 1,
            learning_rate: None,
            schedule: Decay::Cosine,
            minimum_rate: 0.0,
            warmup_steps: None,
            warmup_fraction: None,
            clip: 1.0,
            weight_decay: 0.0,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            seed: 0,
        }
    }
}

impl Optimisation {
    const WARMUP_FRACTION: f64 = 0.03;

    /// Steps over which the rate rises, of `total`.
    pub fn warmup(&self, total: u64) -> u64 {
        let part = self.warmup_fraction.unwrap_or(Self::WARMUP_FRACTION);
        let steps = self
            .warmup_steps
            .unwrap_or((part * total as f64).ceil() as u64);
        steps.min(total)
    }
}

/// When something is looked at or written down; in steps of the optimizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Cadence {
    /// Steps between two evaluations, where there is something to evaluate on; one is made after the
    /// last step in any case.
    #[schemars(range(min = 1))]
    pub evaluate_every: u64,
    /// Steps between two checkpoints; one is made after the last step, and when a training is
    /// stopped, in any case.
    #[schemars(range(min = 1))]
    pub checkpoint_every: u64,
    /// Newest checkpoints that are kept.
    #[schemars(range(min = 1))]
    pub keep_last: u32,
    /// Whether the checkpoint with the lowest loss on the evaluation split is kept beside those. The
    /// model is then evaluated at every checkpoint, but not at one that is made when a training is stopped.
    pub keep_best: bool,
}

impl Default for Cadence {
    fn default() -> Self {
        Self {
            evaluate_every: 100,
            checkpoint_every: 100,
            keep_last: 2,
            keep_best: false,
        }
    }
}

/// Where it is computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Machine {
    /// `auto` for the best that training is meant for, `cpu`, `cuda` or `cuda:<n>`, `metal`.
    pub device: Device,
    /// Threads that compute on a processor. When left out: as many as it has cores, and where a training
    /// goes on, as many as before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub threads: Option<u32>,
    /// Whether intermediate results are computed twice instead of kept: less memory, more time.
    pub gradient_checkpointing: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            device: Device::Auto,
            threads: None,
            gradient_checkpointing: false,
        }
    }
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The best that there is.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// A CUDA device, by its number.
    Cuda(u32),
    /// Apple's graphics processor.
    Metal,
}

/// What a new training begins with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start<'a> {
    /// A model that there is.
    Model(&'a Model),
    /// A new one.
    Scratch(&'a Scratch),
}

impl TrainConfig {
    /// Reads a configuration. `file` is named in errors and not opened; paths that are relative are
    /// so to its directory. What `overrides` set takes precedence.
    ///
    /// # Errors
    /// [`ConfigError`] with all that is wrong.
    pub fn parse(text: &str, file: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let flags = overrides.to_toml();
        let directory = file.parent().unwrap_or(Path::new(""));
        let mut from_file = None;
        let from_flags = Document::read(&flags, Path::new(layers::FLAGS), read::KEYS, |over| {
            let read = Document::read(text, file, read::KEYS, |base| {
                read::config(over, base, directory)
            });
            from_file = Some(read);
            Some(())
        });
        match (from_flags, from_file) {
            (Ok(()), Some(Ok(config))) => Ok(config),
            (flags, file) => {
                let errors = flags.err().into_iter();
                let errors = errors.chain(file.and_then(Result::err)).collect();
                Err(ConfigError { errors })
            }
        }
    }

    /// Reads the configuration in `file`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and when the file cannot be read.
    pub fn load(file: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let text = read_text(file).map_err(|error| ConfigError {
            errors: vec![error],
        })?;
        Self::parse(&text, file, overrides)
    }

    /// The configuration that flags alone make.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn of_flags(overrides: &Overrides) -> Result<Self, ConfigError> {
        Self::parse("", Path::new(layers::FLAGS), overrides)
    }

    /// The JSON Schema (draft 2020-12) of a configuration.
    pub fn schema() -> serde_json::Value {
        vox_contract::schema::of::<Self>()
    }

    /// What the training begins with; none only for a value that was not read by [`parse`](Self::parse).
    pub fn start(&self) -> Option<Start<'_>> {
        let scratch = self.scratch.as_ref().map(Start::Scratch);
        self.model.as_ref().map(Start::Model).or(scratch)
    }

    /// The shape of the new model, if one is made.
    pub fn dimensions(&self) -> Option<Dimensions> {
        let scratch = self.scratch.as_ref()?;
        Some(Dimensions {
            layers: scratch.layers,
            hidden: scratch.hidden,
            heads: scratch.heads,
            kv_heads: scratch.kv_heads.unwrap_or(scratch.heads),
            intermediate: scratch.intermediate.unwrap_or(3 * scratch.hidden),
            context: scratch.context.unwrap_or(self.data.context),
            rope_theta: scratch.rope_theta,
            tie_embeddings: scratch.tie_embeddings,
        })
    }

    /// The highest learning rate.
    pub fn learning_rate(&self) -> f64 {
        let usual = match (&self.scratch, self.method.kind) {
            (Some(_), _) => 1e-3,
            (None, MethodKind::Full) => 2e-5,
            (None, MethodKind::Lora | MethodKind::Qlora) => 2e-4,
        };
        self.optimisation.learning_rate.unwrap_or(usual)
    }

    /// The learning rates of a training of `total` steps.
    pub fn schedule(&self, total: u64) -> Schedule {
        let peak = self.learning_rate();
        Schedule {
            decay: self.optimisation.schedule,
            peak,
            minimum: self.optimisation.minimum_rate.min(peak),
            warmup: self.optimisation.warmup(total),
            total,
        }
    }
}

/// Why a configuration is refused: what is wrong with the flags, and with the file.
#[derive(Debug, Clone)]
pub struct ConfigError {
    errors: Vec<ManifestError>,
}

impl ConfigError {
    /// What is wrong with each of the documents, in the order flags, file.
    pub fn errors(&self) -> &[ManifestError] {
        &self.errors
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.errors.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
