//! The extension point `ml-backend`, over a [`Session`].

use std::path::{Path, PathBuf};

use vox_plugin::compute::{Device, WeightFormat};
use vox_plugin::host::reduction;
use vox_plugin::ml_backend as contract;
use vox_plugin::{Error as Answer, MlBackend};

use super::{
    AdamW, AdapterSpec, Applied, Batch, Beginning, MemoryReport, Session, Spec, Statistics, Update,
};
use crate::architecture::{Architecture, Family};
use crate::error::{Error, Result};
use crate::infer::{answer, device, devices, generation, open_device};
use crate::ops::frozen::Format;
use crate::tokens::Tokens;

/// What trains one model.
#[derive(Default)]
pub struct Training {
    session: Option<Session>,
    /// The tokenizer of the bundle that texts were last taken from.
    tokens: Option<(PathBuf, Tokens)>,
}

impl Training {
    fn session(&mut self) -> vox_plugin::Result<&mut Session> {
        let session = self.session.as_mut();
        session
            .ok_or_else(|| Answer::Unavailable("no model is loaded; call `load` first".to_owned()))
    }

    fn tokens(&mut self, bundle: &Path) -> Result<&Tokens> {
        let is_at_hand = self.tokens.as_ref().is_some_and(|(of, _)| of == bundle);
        let held = match self.tokens.take().filter(|_| is_at_hand) {
            Some(held) => held,
            None => {
                let vocabulary = Architecture::read(bundle)?.vocabulary();
                (bundle.to_path_buf(), Tokens::read(bundle, vocabulary)?)
            }
        };
        Ok(&self.tokens.insert(held).1)
    }
}

impl MlBackend for Training {
    fn devices(&mut self) -> vox_plugin::Result<Vec<Device>> {
        Ok(devices().into_iter().map(device).collect())
    }

    fn estimate(
        &mut self,
        bundle: &str,
        spec: contract::Spec,
        rows: u32,
        columns: u32,
    ) -> vox_plugin::Result<contract::Memory> {
        let (info, spec) = asked(spec).map_err(answer)?;
        let (rows, columns) = (u64::from(rows), u64::from(columns));
        let report = Session::estimate(Path::new(bundle), &spec, rows, columns).map_err(answer)?;
        Ok(memory(MemoryReport {
            available: info.available,
            ..report
        }))
    }

    fn encode(&mut self, bundle: &str, text: &str, special: bool) -> vox_plugin::Result<Vec<u32>> {
        let tokens = self.tokens(Path::new(bundle)).map_err(answer)?;
        let encoded = match special {
            true => tokens.encode(text),
            false => tokens.encode_part(text),
        };
        encoded.map_err(answer)
    }

    fn load(&mut self, bundle: &str, spec: contract::Spec) -> vox_plugin::Result<contract::Model> {
        if self.session.is_some() {
            let why = "a model is loaded already; call `unload` first";
            return Err(Answer::Invalid(why.to_owned()));
        }
        let (info, spec) = asked(spec).map_err(answer)?;
        let features = generation(&spec.device).unwrap_or_else(features);
        let session = Session::load(Path::new(bundle), &spec).map_err(answer)?;
        let architecture = session.architecture();
        let elements = |shape: &[usize]| shape.iter().map(|&size| size as u64).product::<u64>();
        let trainable = session.trainable();
        let model = contract::Model {
            architecture: class(architecture.family).to_owned(),
            parameters: Architecture::Decoder(architecture.clone()).parameters(),
            trainable: trainable.iter().map(|tensor| elements(&tensor.shape)).sum(),
            vocabulary: count(architecture.vocabulary),
            context: count(architecture.context),
            device: device(info),
            threads: count(session.threads()),
            features,
        };
        self.session = Some(session);
        Ok(model)
    }

    fn trainable(&mut self) -> vox_plugin::Result<Vec<contract::Tensor>> {
        let tensors = self.session()?.trainable().into_iter();
        let tensor = |tensor: super::TrainedTensor| contract::Tensor {
            name: tensor.name,
            shape: tensor.shape.iter().map(|&size| size as u64).collect(),
        };
        Ok(tensors.map(tensor).collect())
    }

    fn forward_backward(
        &mut self,
        batch: contract::Batch,
        tokens: &[u32],
        targets: &[i32],
        segments: &[u32],
    ) -> vox_plugin::Result<contract::Statistics> {
        let batch = batch_of(&batch, tokens, targets, segments);
        let computed = self.session()?.forward_backward(&batch);
        computed.map(statistics).map_err(answer)
    }

    fn gradients(&mut self) -> vox_plugin::Result<()> {
        let mut refused = None;
        let visited = self
            .session()?
            .gradients(&mut |name, shape, gradient: &mut [f32]| {
                let shape: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
                reduction::exchange(name, &shape, gradient).map_err(|error| {
                    let why = format!("the gradient of `{name}` was not taken");
                    refused = Some(error);
                    Error::request("gradients", why)
                })
            });
        match (visited, refused) {
            (Err(_), Some(error)) => Err(error),
            (visited, _) => visited.map_err(answer),
        }
    }

    fn apply(&mut self, update: contract::Update) -> vox_plugin::Result<contract::Applied> {
        let computed = self.session()?.apply(&update_of(&update));
        computed.map(applied).map_err(answer)
    }

    fn train_step(
        &mut self,
        batch: contract::Batch,
        tokens: &[u32],
        targets: &[i32],
        segments: &[u32],
        update: contract::Update,
    ) -> vox_plugin::Result<contract::Stepped> {
        let batch = batch_of(&batch, tokens, targets, segments);
        let stepped = self
            .session()?
            .train_step(&batch, &update_of(&update))
            .map_err(answer)?;
        Ok(contract::Stepped {
            statistics: statistics(stepped.statistics),
            applied: applied(stepped.applied),
        })
    }

    fn eval_step(
        &mut self,
        batch: contract::Batch,
        tokens: &[u32],
        targets: &[i32],
        segments: &[u32],
    ) -> vox_plugin::Result<contract::Statistics> {
        let batch = batch_of(&batch, tokens, targets, segments);
        let computed = self.session()?.eval_step(&batch);
        computed.map(statistics).map_err(answer)
    }

    fn save_checkpoint(&mut self, directory: &str) -> vox_plugin::Result<Vec<String>> {
        let saved = self.session()?.save_checkpoint(Path::new(directory));
        saved.map_err(answer)
    }

    fn restore_checkpoint(&mut self, directory: &str) -> vox_plugin::Result<()> {
        let restored = self.session()?.restore_checkpoint(Path::new(directory));
        restored.map_err(answer)
    }

    fn merge(&mut self, directory: &str) -> vox_plugin::Result<Vec<String>> {
        self.session()?.merge(Path::new(directory)).map_err(answer)
    }

    fn memory_report(&mut self) -> vox_plugin::Result<contract::Memory> {
        Ok(memory(self.session()?.memory()))
    }

    fn unload(&mut self) -> vox_plugin::Result<()> {
        self.session = None;
        Ok(())
    }
}

/// The spec as the session takes it, and its device.
fn asked(spec: contract::Spec) -> Result<(crate::infer::DeviceInfo, Spec)> {
    let (info, device) = open_device(Some(&spec.device))?;
    let base = match spec.base {
        WeightFormat::F32 => Format::F32,
        WeightFormat::Bf16 => Format::Bf16,
        WeightFormat::F16 => Format::F16,
        WeightFormat::Q80 => Format::Q8_0,
        WeightFormat::Q40 => Format::Q4_0,
        WeightFormat::Nf4 => Format::Nf4,
        WeightFormat::Q4K => {
            let why = "q4_k is for inference; f32, bf16, f16, q8_0, q4_0 and nf4 are held beside \
                       adapters";
            return Err(Error::request("base", why));
        }
    };
    let adapter = spec.adapter.map(|adapter| AdapterSpec {
        rank: adapter.rank as usize,
        alpha: adapter.alpha,
        dropout: adapter.dropout,
        rank_stabilised: adapter.rank_stabilised,
        targets: adapter.targets,
    });
    let spec = Spec {
        device,
        threads: spec.threads as usize,
        beginning: match spec.beginning {
            contract::Beginning::Weights => Beginning::Weights,
            contract::Beginning::Random => Beginning::Random,
            contract::Beginning::Adapter(directory) => Beginning::Adapter(directory.into()),
        },
        base,
        adapter,
        optimizer: AdamW {
            beta1: spec.optimizer.beta1,
            beta2: spec.optimizer.beta2,
            epsilon: spec.optimizer.epsilon,
            weight_decay: spec.optimizer.weight_decay,
        },
        gradient_checkpointing: spec.gradient_checkpointing,
        seed: spec.seed,
        rank: spec.rank,
    };
    Ok((info, spec))
}

fn batch_of<'a>(
    batch: &contract::Batch,
    tokens: &'a [u32],
    targets: &'a [i32],
    segments: &'a [u32],
) -> Batch<'a> {
    Batch {
        position: batch.position,
        rows: batch.rows as usize,
        columns: batch.columns as usize,
        tokens,
        targets,
        segments,
    }
}

fn update_of(update: &contract::Update) -> Update {
    Update {
        step: update.step,
        learning_rate: update.learning_rate,
        scale: update.scale,
        clip: update.clip,
    }
}

fn statistics(statistics: Statistics) -> contract::Statistics {
    contract::Statistics {
        loss: statistics.loss,
        targets: statistics.targets,
    }
}

fn applied(applied: Applied) -> contract::Applied {
    contract::Applied {
        gradient_norm: applied.gradient_norm,
    }
}

fn memory(report: MemoryReport) -> contract::Memory {
    contract::Memory {
        weights: report.weights,
        gradients: report.gradients,
        optimizer: report.optimizer,
        activations: report.activations,
        peak: report.peak,
        available: report.available,
    }
}

/// The class of a family that goes on with a text.
fn class(family: Family) -> &'static str {
    family.classes().first().copied().unwrap_or(family.name())
}

/// A count as the contract has it; one that is larger is not told apart.
fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The vectors that this processor computes products with, on which the last bits of results depend.
fn features() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected;
        if is_x86_feature_detected!("avx512f") {
            return "x86_64 avx512f".to_owned();
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "x86_64 avx2 fma".to_owned();
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        return "aarch64 neon".to_owned();
    }
    std::env::consts::ARCH.to_owned()
}
