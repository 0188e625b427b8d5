//! Model bundles and checkpoints, and what they are made from.
//!
//! | module | owns |
//! |---|---|
//! | [`bundle`] | manifests, hashes, signatures, kinds: what a bundle is |
//! | [`library`] | the bundles of a store by their names |
//! | [`checkpoint`] | a training that is saved, found and gone on with |
//! | [`import`] | from files to bundles |
//! | [`formats`] | SafeTensors, GGUF and PyTorch files |
//! | [`fetch`] | from what a user writes to files that can be imported |
//! | [`source`] | where models come from: the hub, a registry, an address, the catalogue |
//! | [`progress`] | how far a long work is |
//! | [`quantise`] | weights that become blocks of ggml on their way |
//! | [`record`] | what the op-log says of bundles, and what it needs of the store |
//! | [`tensor`] | tensors by name, as every format gives and takes them |
//!
//! What must stay true: weights on disk are SafeTensors and nothing else, nothing that is read is ever
//! executed, and a bundle is visible either as a whole or not at all.

pub mod bundle;
pub mod checkpoint;
pub mod fetch;
pub mod formats;
pub mod import;
pub mod library;
pub mod progress;
pub mod quantise;
pub mod record;
pub mod source;
pub mod tensor;

/// The program that makes manifests, as it stands in them.
pub(crate) const MADE_BY: &str = concat!("vox ", env!("CARGO_PKG_VERSION"));

pub use tensor::{Dtype, TensorInfo, TensorSource, UnknownDtype};
