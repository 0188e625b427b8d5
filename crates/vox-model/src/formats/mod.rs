//! The file formats that tensors come in and go out as.
//!
//! | module | owns |
//! |---|---|
//! | [`safetensors`] | reads, checks and writes SafeTensors files and the index of a sharded model |
//! | [`gguf`] | reads GGUF files, dequantises them, and rebuilds the model's other files from them |
//! | [`pytorch`] | reads PyTorch files, whose instructions are never carried out |
//!
//! What must stay true: whatever the bytes of a file, reading it ends in a value or in a typed error,
//! and takes no more memory than a small multiple of what the file really holds.

pub mod gguf;
pub mod pytorch;
mod ranged;
pub mod safetensors;
