//! A training: a configuration becomes steps of a backend, a record, and checkpoints.
//!
//! | module | owns |
//! |---|---|
//! | `place` | the output directory: who is in it, and what is kept there |
//! | `choose` | the backend and the device |
//! | `preflight` | what it asks of the backend and of the machine, and whether that is there |
//! | `prepare` | from a configuration to a training that can begin, or go on |
//! | `steps` | the loop |
//! | `checkpoints` | what is saved, kept, and let go |
//! | [`record`] | what the op-log says of trainings |
//!
//! What must stay true: what a step computes follows from the configuration, the data and the number of
//! the step alone, so that a training which goes on from a checkpoint makes the steps that it would have
//! made; a checkpoint counts once its op is durable, and is never let go before a newer one counts.

mod checkpoints;
mod choose;
mod error;
mod place;
mod preflight;
mod prepare;
pub mod record;
mod steps;

pub use error::TrainError;
pub use place::{CURVE_PICTURE, CURVE_TABLE, Kept, MODEL, Notes};
pub use preflight::Preflight;
pub use prepare::{Prepared, Surroundings};
pub use steps::{Event, Report};
