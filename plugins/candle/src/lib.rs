//! Language models with [Candle](candle_core): their weights, and text that is generated with them.
//!
//! | module | owns |
//! |---|---|
//! | [`architecture`] | what a model is made of, as its `config.json` says it |
//! | [`weights`] | the tensors of a bundle, mapped into memory |
//! | [`kernels`] | products, norms and attention on the processor |
//! | [`cpu`] | decoders on the processor, over these kernels |
//! | [`tokens`] | text as tokens, and back |
//! | [`infer`] | text out of models, and embeddings |
//! | [`ops`] | operations of a training, each as a way forward and a way back |
//! | [`train`] | weights, gradients and optimizers: models that learn |
//! | `plugin` | the extension points, as the host sees them |
//! | [`random`] | random numbers that are a function of where they are used |
//! | [`error`] | what can go wrong with a model, its files and its use |

pub mod architecture;
pub mod cpu;
pub mod error;
pub mod infer;
pub mod kernels;
pub mod ops;
mod plugin;
pub mod random;
pub mod tokens;
pub mod train;
pub mod weights;

#[cfg(test)]
#[path = "../../../tests/skipped.rs"]
mod skipped;
#[cfg(test)]
mod smollm2;
#[cfg(test)]
mod tiny;

pub use error::{Error, Result};
pub use plugin::Candle;
