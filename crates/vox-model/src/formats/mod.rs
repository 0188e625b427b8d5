//! The file formats that tensors come in, each a [`TensorSource`](crate::TensorSource).

pub mod pytorch;
