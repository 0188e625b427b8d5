//! The plugin host: finds plugins, chooses versions, loads them by either carrier, and serves the
//! host's side of the contract.
//!
//! | module | owns |
//! |---|---|
//! | [`directories`], [`inventory`], [`resolution`], [`registry`] | what is installed, which versions serve, and who serves which name; manifests only |
//! | [`Host`] | payloads, loaded at their first use, and the making of instances |
//! | [`Instance`] | one live plugin; the clients of its extension points are in [`contract`] |
//! | [`Ports`], [`BlobSource`], [`EventSink`], [`CancelToken`], [`Resolver`] | what the maker of an instance connects it to |
//! | [`hooks`] | the hooks of a run: their order, their time, what their failure means |
//! | [`control`] | looking at the plugins of a process at work, and steering them, from another |
//! | [`install`], [`distribution`], [`skills`] | plugins on disk |
//! | [`signing`] | who vouches for a plugin, and how far the user trusts it |
//!
//! ```no_run
//! use vox_host::{Host, HostOptions, InstanceOptions, contract::ChunkHead, directories::Directories};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let host = Host::open(Directories::from_environment()?, HostOptions::default())?;
//! let mut redact = host.instance(&"redact".parse()?, InstanceOptions::default())?;
//! let head = ChunkHead { modality: "text".into(), sequence: 0, timestamp: 0, attributes: vec![] };
//! redact.stage()?.process(&head, b"mail me at someone@example.org")?;
//! # Ok(())
//! # }
//! ```
//!
//! What must stay true: opening a host costs no payload; a plugin that cannot be used never stops
//! the others; every refusal names the plugin, the cause and what to do.

mod account;
mod carriers;
mod clock;
pub mod contract;
pub mod control;
pub mod directories;
pub mod distribution;
mod error;
pub mod hooks;
mod host;
pub mod install;
mod instance;
pub mod inventory;
mod json;
pub mod lifecycle;
pub mod platform;
pub mod registry;
pub mod requirements;
pub mod resolution;
mod services;
pub mod settings;
pub mod signing;
pub mod skills;
mod slot;
mod watch;

pub use account::Usage;
pub use carriers::component::wasi::{Resolver, SystemResolver};
pub use error::{CallError, Error, LimitExceeded, LoadError};
pub use host::{HOST_SAMPLES, Host, HostOptions, InstanceOptions, PluginStatus, Reloaded};
pub use instance::Instance;
pub use json::JsonCallError;
pub use services::{
    BlobSource, CancelToken, Emitter, EventSink, Files, Generation, IgnoreEvents, NoBlobs,
    NoGeneration, NoPorts, NoReduction, Ports, Reduction,
};
pub use slot::ReloadRecord;
pub use watch::{Noticed, Watch, Watched};
