//! What a training goes on from, beside its weights and the state of its optimizer.
//!
//! What must stay true: with the weights, the optimizer's state and this, nothing else decides what the
//! next step computes. Where a machine could make a difference (threads, device, the instructions that
//! its processor has) it is written down, so that a resume elsewhere can say what differs.

use serde::{Deserialize, Serialize};
use vox_crypto::Digest;

/// A training at the end of one of its steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingState {
    /// The run that it belongs to.
    pub run: String,
    /// Steps of the optimizer that are done.
    pub step: u64,
    /// The schedule of the learning rate.
    pub schedule: ScheduleState,
    /// The generator of random numbers.
    pub random: RandomState,
    /// What of the data has been seen.
    pub data: DataCursor,
    /// Number of processes that train together.
    pub world_size: u32,
    /// The nodes in the order of their ranks: the order in which gradients are added up.
    pub rank_order: Vec<String>,
    /// Threads that compute.
    pub threads: u32,
    /// The device: `cpu`, `cuda:0`.
    pub device: String,
    /// The instructions that the computation uses, where they matter: `avx2`, `avx512f`.
    pub features: Vec<String>,
    /// The bundle whose weights an adapter changes, by its `bundle_hash`.
    pub base: Option<Digest>,
}

/// A schedule of the learning rate, and where in it the training stands (that is [`TrainingState::step`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// Its name: `cosine`, `linear`, `constant`.
    pub name: String,
    /// The highest rate.
    pub peak_rate: f64,
    /// Steps over which the rate rises.
    pub warmup_steps: u64,
    /// Steps after which it ends.
    pub total_steps: u64,
}

/// A counter-based generator of random numbers: what it gives follows from key and counter alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RandomState {
    /// Its name: `philox4x32-10`.
    pub algorithm: String,
    /// Its key.
    pub key: u64,
    /// Numbers that were taken.
    pub counter: u64,
}

/// A place in a data set that is shuffled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataCursor {
    /// The data set, by its digest.
    pub dataset: Digest,
    /// What its order follows from.
    pub seed: u64,
    /// Times that it was seen whole.
    pub epoch: u64,
    /// Examples of this epoch that were seen.
    pub position: u64,
}
