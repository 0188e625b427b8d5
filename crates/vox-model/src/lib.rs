//! Model bundles, checkpoints, and what they are made from.

pub mod formats;
pub mod tensor;

pub use tensor::{Dtype, TensorInfo, TensorSource, UnknownDtype};
