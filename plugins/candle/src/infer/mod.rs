//! Text out of models, and embeddings.
//!
//! | module | owns |
//! |---|---|
//! | `backend` | [`Serving`]: the extension point over a session |
//! | `device` | where a model is computed, and how much memory there is |
//! | `format` | [`WeightFormat`]: how weights are held in memory |
//! | `decoder` | [`Decoder`] and [`Engine`]: what computes, behind one interface |
//! | `linear` | linear maps, plain and quantised |
//! | `rotation` | cosines and sines of rotary positions |
//! | `cache` | keys and values of the places before |
//! | `model` | [`CandleEngine`]: decoders over tensors of Candle, on any device |
//! | `encoder` | BERT over tensors of Candle |
//! | `pooling` | one embedding out of the states of all tokens |
//! | `embed` | [`Embedder`]: texts to embeddings, with an encoder or a decoder |
//! | `sample` | [`Sampler`]: which token comes next |
//! | `request` | what is asked and answered |
//! | `session` | [`Session`]: a model that answers one request after the other |
//! | `shared` | weights that the sessions of a process share |
//! | `serve` | whether a bundle can be served, and what that takes |
//!
//! A session owns the tokens whose keys and values a decoder keeps; a decoder owns these keys and values; an
//! engine owns the weights, which never change.

mod adapter;
mod backend;
mod cache;
mod decoder;
mod device;
mod embed;
mod encoder;
mod format;
mod linear;
mod model;
mod pooling;
mod request;
mod rotation;
mod sample;
mod serve;
mod session;
mod shared;

pub use backend::Serving;
pub(crate) use backend::{answer, device};
pub use decoder::{Decoder, Engine, Input};
pub use device::{DeviceInfo, DeviceKind, devices, open_device};
pub(crate) use device::{available, generation};
pub use embed::{Embedded, Embedder};
pub use format::WeightFormat;
pub use model::CandleEngine;
pub use pooling::Pooling;
pub use request::{Alternative, Finish, Finished, Piece, Prompt, Request};
pub use sample::{Chosen, Sampler, Sampling};
pub use serve::{Verdict, can_serve};
pub use session::{LoadOptions, Loaded, Session};

#[cfg(test)]
mod tests;
