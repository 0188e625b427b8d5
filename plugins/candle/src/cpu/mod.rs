//! Decoders on the processor, over the kernels of this crate.
//!
//! | module | owns |
//! |---|---|
//! | [`model`] | [`Model`]: the weights, packed for the processor |
//! | [`sequence`] | [`Sequence`]: keys and values of one text, and all buffers of its computation |
//! | `rotation` | cosines and sines of the positions that are computed |
//! | [`engine`] | [`CpuEngine`]: both behind the interface of [`infer`](crate::infer) |
//!
//! What a computation needs is allocated when its sequence begins; a token allocates nothing. Results do not depend on
//! the number of threads, on the processor, or on how many tokens are computed in one call.

pub mod engine;
pub mod model;
mod rotation;
pub mod sequence;

pub use engine::CpuEngine;
pub use model::{Matrices, Model, Source};
pub use sequence::{Options, Sequence};

#[cfg(test)]
mod tests;
