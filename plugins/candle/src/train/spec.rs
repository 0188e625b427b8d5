//! What a caller says of a training, and what it is told.

use std::path::PathBuf;

use candle_core::Device;

use crate::architecture::most;
use crate::error::{Error, Result};
use crate::ops::frozen::Format;

/// Low-rank adapters beside frozen weights (LoRA, Hu et al. 2021).
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterSpec {
    /// Rank of the update; from 1 to 65536.
    pub rank: usize,
    /// The update is scaled by `alpha / rank`.
    pub alpha: f32,
    /// Chance with which an input of an adapter is left out of a training step; below 1.
    pub dropout: f32,
    /// Scales by `alpha / sqrt(rank)` instead (rsLoRA, Kalajdzievski 2023).
    pub rank_stabilised: bool,
    /// Last names of the linear layers that get one, such as `q_proj`; `all-linear` for every one but the head.
    pub targets: Vec<String>,
}

impl AdapterSpec {
    /// What the update is multiplied by.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        self.alpha
            / if self.rank_stabilised {
                rank.sqrt()
            } else {
                rank
            }
    }

    /// Whether the linear map of a name gets an adapter. As in PEFT a target is a whole name, or what follows
    /// a dot in it.
    pub fn takes(&self, name: &str) -> bool {
        self.targets.iter().any(|target| {
            let rest = name.strip_suffix(target.as_str());
            target == Self::ALL || rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// The target that stands for every linear map of a layer.
    pub const ALL: &'static str = "all-linear";

    /// # Errors
    ///
    /// [`Error::Request`] for the first number that is out of its bounds.
    pub(super) fn check(&self) -> Result<()> {
        if !(1..=most::RANK).contains(&self.rank) {
            let why = format!(
                "it is {}, and should be from 1 to {}",
                self.rank,
                most::RANK
            );
            return Err(Error::request("adapter.rank", why));
        }
        if !self.alpha.is_finite() {
            return Err(Error::request(
                "adapter.alpha",
                format!("it is {}", self.alpha),
            ));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let why = format!("it is {}, and should be from 0 to below 1", self.dropout);
            return Err(Error::request("adapter.dropout", why));
        }
        if self.targets.is_empty() {
            return Err(Error::request("adapter.targets", "no layers are named"));
        }
        Ok(())
    }
}

/// The weights that training begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// The bundle's; an adapter begins as none.
    Weights,
    /// Random ones by the bundle's configuration, which then needs no weights.
    Random,
    /// The bundle's, and an adapter in the layout of PEFT from this directory.
    Adapter(PathBuf),
}

/// The constants of AdamW (Loshchilov and Hutter 2019).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// What is added to the root of the latter.
    pub epsilon: f64,
    /// Decay for each step and unit of learning rate; of matrices alone, not of norms and biases.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
        }
    }
}

/// What a training is.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Where it takes place.
    pub device: Device,
    /// Threads on the processor; 0 for as many as there are cores.
    pub threads: usize,
    /// The weights that it begins with.
    pub beginning: Beginning,
    /// How matrices of layers that are not trained are held. The embedding and the head are not quantised: with
    /// a quantised format they are held as they are stored.
    pub base: Format,
    /// Without one, every weight is trained, and `base` is [`Format::F32`].
    pub adapter: Option<AdapterSpec>,
    /// The optimizer's constants.
    pub optimizer: AdamW,
    /// Keeps a layer's input only and computes the rest again on the way back.
    pub gradient_checkpointing: bool,
    /// From which all randomness comes.
    pub seed: u64,
    /// Which of the nodes of a training this is; their dropout differs, their beginning does not.
    pub rank: u32,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            threads: 0,
            beginning: Beginning::Weights,
            base: Format::F32,
            adapter: None,
            optimizer: AdamW::default(),
            gradient_checkpointing: false,
            seed: 0,
            rank: 0,
        }
    }
}

impl Spec {
    /// # Errors
    ///
    /// [`Error::Request`] for parts that contradict each other.
    pub(super) fn check(&self) -> Result<()> {
        match &self.adapter {
            Some(adapter) => adapter.check()?,
            None if self.base != Format::F32
                && !matches!(self.beginning, Beginning::Adapter(_)) =>
            {
                let why = "without an adapter every weight is trained, and held as f32";
                return Err(Error::request("base", why));
            }
            None => {}
        }
        let AdamW {
            beta1,
            beta2,
            epsilon,
            weight_decay,
        } = self.optimizer;
        for (field, value) in [("optimizer.beta1", beta1), ("optimizer.beta2", beta2)] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::request(
                    field,
                    format!("it is {value}, and should be from 0 to below 1"),
                ));
            }
        }
        for (field, value) in [
            ("optimizer.epsilon", epsilon),
            ("optimizer.weight-decay", weight_decay),
        ] {
            if !value.is_finite() || value < 0.0 {
                return Err(Error::request(
                    field,
                    format!("it is {value}, and should be 0 or more"),
                ));
            }
        }
        Ok(())
    }
}

/// A tensor that is trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainedTensor {
    /// Its name, as in the file that holds it.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// Tokens in rows, row by row: `tokens`, `targets` and `segments` have `rows · columns` numbers.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Batches before this one in the whole training: where the randomness of dropout is.
    pub position: u64,
    /// Rows.
    pub rows: usize,
    /// Tokens of a row.
    pub columns: usize,
    /// What is read.
    pub tokens: &'a [u32],
    /// What is to be foretold at that place; -1 for nothing.
    pub targets: &'a [i32],
    /// Which document of the row a token belongs to: documents do not see each other, and positions start anew
    /// where the number changes.
    pub segments: &'a [u32],
}

/// What a batch gave.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Statistics {
    /// Sum over all targets of the negative natural logarithm of their probability.
    pub loss: f64,
    /// Number of targets.
    pub targets: u64,
}

/// A step of the optimizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Counted from 1.
    pub step: u64,
    /// The learning rate.
    pub learning_rate: f64,
    /// What gradients are multiplied by before all else: one over the number of targets makes their mean of the
    /// sum.
    pub scale: f64,
    /// The most that the norm of all gradients together may be; greater ones are scaled down.
    pub clip: Option<f64>,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Applied {
    /// Norm of all gradients together after `scale`, before `clip`. Where it is not finite nothing was applied.
    pub gradient_norm: f64,
}

/// What came of a batch and the step after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stepped {
    /// What the batch gave. Where its loss is not finite nothing was applied.
    pub statistics: Statistics,
    /// What came of the step.
    pub applied: Applied,
}

/// Bytes of memory, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryReport {
    /// Weights and adapters.
    pub weights: u64,
    /// Gradients of what is trained.
    pub gradients: u64,
    /// The optimizer's moments.
    pub optimizer: u64,
    /// What is kept from the way forward for the way back, and what is computed in between.
    pub activations: u64,
    /// Most bytes in all so far; in an estimate, the sum.
    pub peak: u64,
    /// Bytes that there are free; 0 where that is not known.
    pub available: u64,
}
