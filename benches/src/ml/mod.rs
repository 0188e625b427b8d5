//! What language models cost in Vox: the plugin `candle-cpu` behind the host, beside llama.cpp, PyTorch with
//! PEFT, and its own code without the boundary.
//!
//! | module | owns |
//! |---|---|
//! | [`place`] | the plugin, built for release, and SmolLM2-135M, as a host finds them |
//! | [`mod@child`] | a program that is told what to do, line by line |
//! | [`inference`] | tokens a second, against `llama-bench` |
//! | [`training`] | LoRA against PEFT, the memory of QLoRA, and the price of the boundary |
//! | [`serving`] | the first token of `vox serve`, against `llama-server` |
//!
//! What must stay true: both sides have the same weights in the same format and the same number of threads,
//! which is that of the processors, and take turns.

mod child;
mod inference;
mod place;
mod serving;
mod training;

pub use inference::{generate_q4_0, generate_q8_0, prompt_q4_0, prompt_q8_0};
pub use serving::{first_token, first_token_start};
pub use training::{CHILD, boundary, child, lora, qlora_memory};
