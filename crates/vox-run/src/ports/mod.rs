//! Streams between the steps of a run.
//!
//! A step writes and reads *ports*. A port of one step that the plan connects to a port of another
//! is a stream: a line of stages, and the bounded [`Channel`] behind it. Where two inputs of
//! the plan read one port, there are two streams, and each gets every chunk.
//!
//! What must stay true:
//!
//! - A chunk passes the stages in the thread of the step that pushes it, as the slice that it
//!   pushed: nothing is copied before the channel. A slow reader holds its writer back.
//! - A stream that ends before its time never looks finished to its reader, and a stage that
//!   failed is not called again.
//! - A push that answers `timed-out` was taken by none of the port's streams.

mod channel;
mod line;
mod mask;
mod output;
mod step;

pub use channel::{CAPACITY, CAPACITY_BYTES, Channel, Interruption};
pub(crate) use line::{Line, Opening, measure};
pub(crate) use mask::{Mask, SHORTEST_SECRET};
pub(crate) use step::{InputPort, Sink, StepPorts};

use std::time::{Duration, Instant};

use vox_host::contract::{Chunk, Error};

/// The queue of a stream between two steps.
pub(crate) type ChunkChannel = Channel<Chunk>;

/// When a wait that begins now ends; never when that is further away than time can be counted.
fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    Instant::now().checked_add(timeout?)
}

/// What a plugin is told of an interruption of the stream `name`.
fn contract_error(interruption: Interruption, name: &str) -> Error {
    match interruption {
        Interruption::TimedOut => Error::TimedOut(format!("nothing happened on {name} in time")),
        Interruption::Cancelled => Error::Cancelled,
        Interruption::ReaderGone => {
            Error::Unavailable(format!("the reader of {name} takes no more"))
        }
        Interruption::Broken(reason) => Error::Unavailable(format!("{name} broke: {reason}")),
    }
}
