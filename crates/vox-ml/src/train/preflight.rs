//! What a training asks of the backend and of the machine, and whether the machine has it.

use vox_host::contract::compute::WeightFormat;
use vox_host::contract::ml_backend::{self as contract, Beginning, Memory, Spec};

use super::TrainError;
use super::record::Machine;
use crate::backend::Training;
use crate::bundle::View;
use crate::config::{Quantisation, Start, TrainConfig};

/// The memory that a training is going to need.
#[derive(Debug, Clone)]
pub struct Preflight {
    /// The device.
    pub device: String,
    /// Bytes, by what they are for.
    pub memory: Memory,
}

/// The training as the backend takes it. Where nothing is said of threads, it has as many as `before`.
pub(super) fn spec(config: &TrainConfig, device: String, before: Option<&Machine>) -> Spec {
    let threads = || u32::try_from(before?.processor.threads).ok();
    let optimisation = &config.optimisation;
    let adapter = config.method.adapter();
    let base = match adapter.as_ref().and_then(|adapter| adapter.quantisation) {
        None => WeightFormat::F32,
        Some(Quantisation::Nf4) => WeightFormat::Nf4,
        Some(Quantisation::Q8_0) => WeightFormat::Q80,
        Some(Quantisation::Q4_0) => WeightFormat::Q40,
    };
    Spec {
        device,
        threads: config.machine.threads.or_else(threads).unwrap_or(0),
        beginning: match config.start() {
            Some(Start::Scratch(_)) => Beginning::Random,
            _ => Beginning::Weights,
        },
        base,
        adapter: adapter.map(|adapter| contract::Adapter {
            rank: adapter.rank,
            alpha: adapter.alpha as f32,
            dropout: adapter.dropout as f32,
            rank_stabilised: adapter.rslora,
            targets: adapter.targets,
        }),
        optimizer: contract::AdamW {
            beta1: optimisation.betas[0],
            beta2: optimisation.betas[1],
            epsilon: optimisation.epsilon,
            weight_decay: optimisation.weight_decay,
        },
        gradient_checkpointing: config.machine.gradient_checkpointing,
        seed: optimisation.seed,
        rank: 0,
    }
}

/// Refuses what will not fit, with the numbers.
pub(super) fn preflight(
    backend: &mut Training,
    view: &View,
    spec: &Spec,
    config: &TrainConfig,
) -> Result<Preflight, TrainError> {
    let memory = backend.estimate(
        view.directory(),
        spec,
        config.optimisation.batch_rows,
        config.data.context,
    )?;
    if memory.available > 0 && memory.peak > memory.available {
        return Err(TrainError::Memory {
            device: spec.device.clone(),
            needed: memory.peak,
            available: memory.available,
            weights: memory.weights,
            gradients: memory.gradients,
            optimizer: memory.optimizer,
            activations: memory.activations,
        });
    }
    Ok(Preflight {
        device: spec.device.clone(),
        memory,
    })
}
