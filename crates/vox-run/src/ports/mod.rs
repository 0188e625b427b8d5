//! Streams between the steps of a run.
//!
//! A step writes and reads *ports*. A port of one step that the plan connects to a port of another
//! is a stream: a bounded [`channel`](Channel) with the stages of the plan before it.

mod channel;

pub use channel::{CAPACITY, CAPACITY_BYTES, Channel, Interruption};
