//! Training: a model's weights, their gradients, and the optimizer's state.
//!
//! | module | owns |
//! |---|---|
//! | `backend` | [`Training`]: the extension point over a session |
//! | `session` | [`Session`]: one training, from load to merge |
//! | `spec` | [`Spec`] and what else a caller says and is told |
//! | `model` | [`Model`](model::Model): the way of a batch forward and back |
//! | `layer` | one layer of it |
//! | `held` | weights, trained or not, and linear maps with their adapters |
//! | `parameter` | [`Parameter`](parameter::Parameter): a tensor that is trained, its gradient and its moments |
//! | `adapter` | adapters in the layout of PEFT |
//! | `optimizer` | AdamW |
//! | `checkpoint` | what is trained as files, synced to the disk |
//! | `merge` | plain bundles out of weights and adapters |
//! | `memory` | bytes, as they are and as they will be |
//! | `random` | what is drawn for which tensor and batch |
//!
//! What must stay true: the same calls after the same load give the same bytes, whatever the number of
//! threads; all that is random is a function of the spec's seed and of positions that calls name.

pub mod adapter;
mod backend;
mod checkpoint;
mod held;
mod layer;
pub mod memory;
mod merge;
pub mod model;
pub mod optimizer;
pub mod parameter;
mod random;
pub mod session;
pub mod spec;

#[cfg(test)]
mod tests;

pub use backend::Training;
pub use session::Session;
pub use spec::{
    AdamW, AdapterSpec, Applied, Batch, Beginning, MemoryReport, Spec, Statistics, Stepped,
    TrainedTensor, Update,
};
