//! Training and inference as the host sees them: everything that decides what a backend computes,
//! and nothing of the computing itself.
//!
//! The plugin owns maths, weights, optimizer, device and tokenizer; the host owns the order of the
//! data, the schedule, the cadence, and what is written down. No ML framework is needed here.
//!
//! | module | owns |
//! |---|---|
//! | [`train`] | trainings: steps of a backend, a record, checkpoints |
//! | [`answer`] | answers of models, by whichever backend is best |
//! | [`backend`] | the two extension points of ML, as this crate calls them |
//! | [`bundle`] | bundles as directories |
//! | [`config`] | what a user asks of a training |
//! | [`data`] | from files to batches |
//! | [`schedule`] | the learning rate of each step |
//! | [`scratch`] | a model to begin with: its shape, and a tokenizer learnt from text |
//! | [`curve`] | the loss curve, as a table and as a picture |
//! | [`retention`] | which checkpoints are kept |
//! | [`progress`] | how fast a training goes |
//! | [`stop`] | stop strings over text that comes in pieces |
//!
//! What must stay true: the same files, configuration and seed give the same batches and rates at the
//! same step, in any process, however it came there; so that a training which was stopped needs to
//! know nothing but its step to go on as if it had not been.

pub mod answer;
pub mod backend;
pub mod bundle;
pub mod config;
pub mod curve;
pub mod data;
mod error;
pub mod progress;
pub mod retention;
pub mod schedule;
pub mod scratch;
pub mod stop;
pub mod train;

pub use error::{Error, LineError, LineFault, NotText, TokenizerError};
