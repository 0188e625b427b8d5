//! The smallest backend for training: a bigram model, which foretells each token from the one before it.
//!
//! It is the example of the how-to "Write a backend". There is no framework in it, and nothing is left out: what
//! [`MlBackend`] promises is kept, only the model is no good.
//!
//! | module | owns |
//! |---|---|
//! | `model` | the maths: logits, loss, gradients, optimizer |
//! | `files` | bundles and checkpoints |

mod files;
mod model;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;
use vox_plugin::compute::{Device, DeviceKind, WeightFormat};
use vox_plugin::host::reduction;
use vox_plugin::ml_backend::{
    AdamW, Applied, Batch, Beginning, Memory, Model, Spec, Statistics, Stepped, Tensor, Update,
};
use vox_plugin::{Error, MlBackend, Result, failed, plugin};

use crate::files::Config;
use crate::model::Bigram;

/// The `id` of the only device.
const CPU: &str = "cpu";

// ANCHOR: plugin
/// The plugin. One instance is one training.
#[plugin(ml_backend)]
#[derive(Default)]
struct BigramBackend {
    training: Option<Training>,
    /// The tokenizer of the bundle that texts were last taken from.
    tokenizer: Option<(PathBuf, Tokenizer)>,
}

/// What `load` made.
struct Training {
    bundle: PathBuf,
    config: Config,
    optimizer: AdamW,
    model: Bigram,
}
// ANCHOR_END: plugin

impl BigramBackend {
    fn training(&mut self) -> Result<&mut Training> {
        let why = "no model is loaded; call `load` first";
        let training = self.training.as_mut();
        training.ok_or_else(|| Error::Unavailable(why.to_owned()))
    }
}

impl MlBackend for BigramBackend {
    fn devices(&mut self) -> Result<Vec<Device>> {
        Ok(vec![device()])
    }

    fn estimate(&mut self, bundle: &str, spec: Spec, _rows: u32, _columns: u32) -> Result<Memory> {
        check(&spec)?;
        let config = Config::read(Path::new(bundle))?;
        let side = u64::from(config.vocabulary);
        // A pass holds one token's probabilities, however large the batch is.
        Ok(memory(side.saturating_mul(side + 1), side))
    }

    fn encode(&mut self, bundle: &str, text: &str, special: bool) -> Result<Vec<u32>> {
        let bundle = Path::new(bundle);
        let held = match self.tokenizer.take().filter(|(of, _)| of == bundle) {
            Some(held) => held,
            None => (bundle.to_owned(), files::tokenizer(bundle)?),
        };
        let (_, tokenizer) = self.tokenizer.insert(held);
        let encoding = tokenizer.encode_fast(text, special).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    // ANCHOR: load
    fn load(&mut self, bundle: &str, spec: Spec) -> Result<Model> {
        if self.training.is_some() {
            let why = "a model is loaded already; call `unload` first";
            return Err(Error::Invalid(why.to_owned()));
        }
        check(&spec)?;
        let bundle = Path::new(bundle);
        let config = Config::read(bundle)?;
        let mut model = Bigram::random(config.vocabulary, spec.seed);
        if matches!(spec.beginning, Beginning::Weights) {
            files::load(bundle, &mut model)?;
        }
        let loaded = Model {
            architecture: files::ARCHITECTURE.to_owned(),
            parameters: model.size(),
            trainable: model.size(),
            vocabulary: config.vocabulary,
            context: config.context,
            device: device(),
            // More are of no use to it, whatever the spec allows.
            threads: 1,
            features: features(),
        };
        self.training = Some(Training {
            bundle: bundle.to_owned(),
            config,
            optimizer: spec.optimizer,
            model,
        });
        Ok(loaded)
    }
    // ANCHOR_END: load

    // ANCHOR: gradients
    fn trainable(&mut self) -> Result<Vec<Tensor>> {
        let parameters = self.training()?.model.parameters.iter();
        let tensors = parameters.map(|parameter| Tensor {
            name: parameter.name.to_owned(),
            shape: parameter.shape.clone(),
        });
        Ok(tensors.collect())
    }

    fn gradients(&mut self) -> Result<()> {
        for parameter in &mut self.training()?.model.parameters {
            reduction::exchange(parameter.name, &parameter.shape, &mut parameter.gradient)?;
        }
        Ok(())
    }
    // ANCHOR_END: gradients

    // ANCHOR: steps
    fn forward_backward(
        &mut self,
        batch: Batch,
        tokens: &[u32],
        targets: &[i32],
        segments: &[u32],
    ) -> Result<Statistics> {
        let training = self.training()?;
        training.check(&batch, tokens, targets, segments)?;
        Ok(training.model.learn(tokens, targets))
    }

    fn apply(&mut self, update: Update) -> Result<Applied> {
        let Training {
            optimizer, model, ..
        } = self.training()?;
        Ok(model.apply(optimizer, &update))
    }

    fn train_step(
        &mut self,
        batch: Batch,
        tokens: &[u32],
        targets: &[i32],
        segments: &[u32],
        update: Update,
    ) -> Result<Stepped> {
        let statistics = self.forward_backward(batch, tokens, targets, segments)?;
        let applied = if statistics.loss.is_finite() {
            self.apply(update)?
        } else {
            self.training()?.model.forget_gradients();
            Applied {
                gradient_norm: f64::NAN,
            }
        };
        Ok(Stepped {
            statistics,
            applied,
        })
    }
    // ANCHOR_END: steps

    fn eval_step(
        &mut self,
        batch: Batch,
        tokens: &[u32],
        targets: &[i32],
        segments: &[u32],
    ) -> Result<Statistics> {
        let training = self.training()?;
        training.check(&batch, tokens, targets, segments)?;
        Ok(training.model.evaluate(tokens, targets))
    }

    fn save_checkpoint(&mut self, directory: &str) -> Result<Vec<String>> {
        files::save(Path::new(directory), &self.training()?.model)
    }

    fn restore_checkpoint(&mut self, directory: &str) -> Result<()> {
        files::restore(Path::new(directory), &mut self.training()?.model)
    }

    fn merge(&mut self, directory: &str) -> Result<Vec<String>> {
        let Training { bundle, model, .. } = self.training()?;
        files::merge(Path::new(directory), bundle, model)
    }

    fn memory_report(&mut self) -> Result<Memory> {
        let training = self.training()?;
        let side = u64::from(training.config.vocabulary);
        Ok(memory(training.model.size(), side))
    }

    fn unload(&mut self) -> Result<()> {
        self.training = None;
        Ok(())
    }
}

impl Training {
    /// Refuses a batch that is not of its size, or has numbers that are no tokens. What `segments` says is of no
    /// consequence: a bigram model sees one token, and so neither another document nor a position.
    fn check(
        &self,
        batch: &Batch,
        tokens: &[u32],
        targets: &[i32],
        segments: &[u32],
    ) -> Result<()> {
        let Batch { rows, columns, .. } = *batch;
        let Config {
            vocabulary,
            context,
            ..
        } = self.config;
        let size = u64::from(rows) * u64::from(columns);
        let lengths = [tokens.len(), targets.len(), segments.len()];
        let is_token = |token: u32| token < vocabulary;
        let is_target = |target: i32| target == -1 || u32::try_from(target).is_ok_and(is_token);
        let why = if lengths.iter().any(|&length| length as u64 != size) {
            format!(
                "{rows} rows of {columns} have {size} tokens, targets and segments, and there are \
                 {lengths:?}"
            )
        } else if columns > context {
            format!("rows of {columns} tokens are longer than the model's context, {context}")
        } else if let Some(token) = tokens.iter().find(|&&token| !is_token(token)) {
            format!("{token} is none of the model's {vocabulary} tokens")
        } else if let Some(target) = targets.iter().find(|&&target| !is_target(target)) {
            format!("the target {target} is none of the model's {vocabulary} tokens, and not -1")
        } else {
            return Ok(());
        };
        Err(Error::Invalid(why))
    }
}

/// Refuses what this backend cannot do, before anything is read.
fn check(spec: &Spec) -> Result<()> {
    let why = if spec.device != CPU {
        format!("there is no device `{}`, only `{CPU}`", spec.device)
    } else if spec.adapter.is_some()
        || spec.base != WeightFormat::F32
        || matches!(spec.beginning, Beginning::Adapter(_))
    {
        "a bigram model has no layers for an adapter: train all of its weights, as f32".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::Invalid(why))
}

/// The memory of so many weights, with as many numbers beside them as a pass holds.
fn memory(weights: u64, held: u64) -> Memory {
    let bytes = |numbers: u64| numbers.saturating_mul(4);
    Memory {
        weights: bytes(weights),
        gradients: bytes(weights),
        optimizer: bytes(weights.saturating_mul(2)),
        activations: bytes(held),
        peak: bytes(weights.saturating_mul(4).saturating_add(held)),
        available: device().available,
    }
}

fn device() -> Device {
    let (memory, available) = main_memory().unwrap_or((0, 0));
    Device {
        id: CPU.to_owned(),
        kind: DeviceKind::Cpu,
        name: std::env::consts::ARCH.to_owned(),
        memory,
        available,
    }
}

/// Bytes of main memory, and those that are free (proc_meminfo(5)); none on a system that does not say so.
fn main_memory() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        kibibytes.checked_mul(1024)
    };
    Some((bytes("MemTotal:")?, bytes("MemAvailable:")?))
}

/// What results depend on besides the arguments: the system's exponential function is another one where the
/// processor multiplies and adds in one.
fn features() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("fma") {
            return "x86_64 fma".to_owned();
        }
    }
    std::env::consts::ARCH.to_owned()
}
