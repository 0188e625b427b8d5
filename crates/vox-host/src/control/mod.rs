//! Control of processes that are at work: what their plugins do, and pause, resume, reload and
//! unload from another process.
//!
//! | module | owns |
//! |---|---|
//! | `protocol` | what is said, as JSON, one object a line |
//! | `server` | answering, in the process that is at work ([`Host::serve_control`]) |
//! | `client` | finding such processes and asking them ([`processes`]) |
//! | `lines` | lines of bounded length in bounded time |
//! | `platform` | what differs between systems: sockets, and whose they are |
//!
//! A process listens on `<runtime>/<pid>.sock` ([`Directories::runtime`]). Whoever may connect may
//! hold a run up and read what its plugins cost, so the directory is its owner's alone, and on
//! Linux both sides also ask the system whose process the other is.
//!
//! What must stay true:
//!
//! - Listening is a convenience: a process that cannot listen works all the same, and one that
//!   listens has one thread that sleeps until somebody connects.
//! - A client that is slow, silent or talks nonsense holds up nobody but itself: lines, clients and
//!   waiting are bounded, and no lock is held while a client is waited for.
//! - When a [`ControlServer`] is dropped nobody is inside the host on behalf of a client any more.
//!
//! [`Host::serve_control`]: crate::Host::serve_control
//! [`Directories::runtime`]: crate::directories::Directories::runtime

mod client;
mod error;
mod lines;
mod platform;
mod protocol;
mod server;

pub use client::{Process, processes};
pub use error::ControlError;
pub use protocol::{
    Done, MAX_REPLY, MAX_REQUEST, Outcome, PROTOCOL_VERSION, PluginReport, ProcessReport, Refusal,
    RefusalKind, ReloadReport, Reply, Request,
};
pub use server::{ControlServer, MAX_CLIENTS, PATIENCE};
