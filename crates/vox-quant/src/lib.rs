//! Weights in blocks of ggml: the formats, how they are made, and which matrix of a model gets which.
//!
//! | module | owns |
//! |---|---|
//! | [`blocks`] | the block formats Q8_0, Q5_0, Q4_0, Q6_K and Q4_K: numbers, blocks, bytes |
//! | `kind` | [`BlockKind`]: a format as a value |
//! | `mix` | [`Mix`] and [`Role`]: which matrix of a model gets which format |
//!
//! Whoever imports a model in blocks and whoever makes blocks of one as it is loaded does it by the rules here. What
//! must stay true: the same numbers give the bytes that llama.cpp makes of them, on every machine.

pub mod blocks;
mod kind;
mod mix;

pub use kind::BlockKind;
pub use mix::{Mix, Role};
