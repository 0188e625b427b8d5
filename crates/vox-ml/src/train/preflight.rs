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

/// The training as the backend takes it. `from` is the adapter that is trained further. Where nothing is said of
/// threads, it has as many as `before`.
pub(super) fn spec(
    config: &TrainConfig,
    device: String,
    from: Option<&View>,
    before: Option<&Machine>,
) -> Spec {
    let threads = || u32::try_from(before?.processor.threads).ok();
    let optimisation = &config.optimisation;
    let base = match config.method.frozen() {
        None => WeightFormat::F32,
        Some(Quantisation::Nf4) => WeightFormat::Nf4,
        Some(Quantisation::Q8_0) => WeightFormat::Q80,
        Some(Quantisation::Q4_0) => WeightFormat::Q40,
    };
    Spec {
        device,
        threads: config.machine.threads.or_else(threads).unwrap_or(0),
        beginning: match (config.start(), from) {
            (Some(Start::Scratch(_)), _) => Beginning::Random,
            (_, Some(adapter)) => {
                Beginning::Adapter(adapter.directory().to_string_lossy().into_owned())
            }
            _ => Beginning::Weights,
        },
        base,
        adapter: config.method.adapter().map(|adapter| contract::Adapter {
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

/// Refuses what will not fit, with the numbers. `allowed` is what this process may have of the device's memory.
pub(super) fn preflight(
    backend: &mut Training,
    view: &View,
    spec: &Spec,
    config: &TrainConfig,
    allowed: Option<u64>,
) -> Result<Preflight, TrainError> {
    let mut memory = backend.estimate(
        view.directory(),
        spec,
        config.optimisation.batch_rows,
        config.data.context,
    )?;
    memory.available = least(memory.available, allowed);
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

/// The least of what a device has free, where 0 stands for not known, and what is allowed.
fn least(free: u64, allowed: Option<u64>) -> u64 {
    match allowed {
        // Nothing at all would read as not known.
        Some(allowed) if free == 0 || allowed < free => allowed.max(1),
        _ => free,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_bounds_what_is_free_and_stands_where_that_is_not_known() {
        assert_eq!(least(8, Some(5)), 5);
        assert_eq!(least(8, Some(9)), 8);
        assert_eq!(least(8, None), 8);
        assert_eq!(least(0, Some(5)), 5);
        assert_eq!(least(8, Some(0)), 1);
        assert_eq!(least(0, None), 0);
    }
}
