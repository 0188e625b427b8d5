//! The operations of a training, each as a way forward and a way back.
//!
//! | module | owns |
//! |---|---|
//! | `host` | floats of tensors in host memory, as slices |
//! | `lanes` | loops over slices that compilers make vectors of: exponentials and sums |
//! | `product` | products of matrices in host memory |
//! | `linear` | `y = x Wᵀ + b`, and the gradients of its parts |
//! | `norm` | root mean square norms |
//! | `rope` | rotary positions |
//! | `attention` | causal attention inside segments and windows |
//! | `gate` | the middle of a feed-forward block |
//! | `embedding` | rows of a table by their numbers |
//! | `elementwise` | sums of tensors, and of their rows |
//! | `dropout` | elements that are left out by chance |
//! | `loss` | the cross-entropy of a head's logits, which are never there as a whole |
//! | `nf4` | the code book, the blocks and the double quantisation of QLoRA |
//! | `frozen` | weights that are not trained: plain, halves, or quantised |
//! | `composed` | the same out of the framework's own operations, for devices |
//!
//! The framework's fused operations have no way back and do not say so, and its gradients of whole graphs
//! keep more than is needed. Here nothing is recorded: whoever calls keeps what the way back asks for. In host
//! memory every operation is one pass over slices on the threads of the current pool; on a device it is
//! composed of the framework's operations.
//!
//! All tensors are of 32-bit floats, contiguous, and two-dimensional but for vectors: (tokens, width), where
//! tokens are those of all rows of a batch, one row after another.
//!
//! What must stay true: results do not depend on the number of threads. What is summed over tokens is summed
//! in parts whose size is fixed, and the parts in their order.

pub mod attention;
mod composed;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod frozen;
pub mod gate;
pub(crate) mod host;
mod lanes;
pub mod linear;
pub mod loss;
pub mod nf4;
pub mod norm;
pub mod product;
pub mod rope;

#[cfg(test)]
mod tests;
