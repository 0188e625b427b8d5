//! The SDK for Vox plugins.
//!
//! A plugin is a Rust library whose one type implements the traits of the extension points that it
//! serves and carries [`#[plugin(…)]`](macro@plugin). The same source builds as a WebAssembly
//! component, which runs sandboxed, and as a native library, which runs at full speed and is
//! trusted; `vox plugin build` makes both.
//!
//! ```
//! use vox_plugin::{ChunkHead, Result, Stage, host, plugin, stage::Opening};
//!
//! /// Turns text into capitals.
//! #[plugin(stage)]
//! #[derive(Default)]
//! struct Shout;
//!
//! impl Stage for Shout {
//!     fn open(&mut self, _opening: Opening) -> Result<()> {
//!         Ok(())
//!     }
//!
//!     fn process(&mut self, head: ChunkHead, data: &[u8]) -> Result<()> {
//!         host::stream::push("out", &head, &data.to_ascii_uppercase(), None)
//!     }
//!
//!     fn finish(&mut self) -> Result<()> {
//!         Ok(())
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! # Rules of the house
//!
//! - **One caller at a time.** Every trait takes `&mut self`: the host never enters an instance
//!   twice at once. It makes as many instances as it needs, so state that must be shared between
//!   them goes through [`host::kv`], [`host::topics`] or a [`service`].
//! - **Errors, not panics.** A function answers [`Error`]. A panic (and a trap) is caught, but the
//!   instance is thrown away.
//! - **Bytes are borrowed.** `&[u8]` parameters are the caller's own memory, valid during the call.
//! - **Nothing is granted.** Except for `log`, `config` and `cancel`, the functions of [`host`]
//!   answer [`Error::Denied`] until the user grants the capability that the manifest asks for.
//! - **Blocking is fine, and so is async inside.** The contract is synchronous. A plugin that
//!   uses an async library keeps a runtime of its own in its type and blocks on it; the how-to
//!   “Use an async library in a plugin” shows it. Threads of a native plugin reach the host
//!   through [`native::HostHandle`].
//! - **A component makes HTTP requests** with the module `http` of the feature of that name, to the
//!   hosts that `network` is granted for.

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod component;
pub mod decode;
mod describe;
#[cfg(feature = "http")]
pub mod http;
mod lifecycle_trait;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;
mod text;

#[doc(hidden)]
pub use vox_abi;

pub use clap;
pub use serde;
pub use serde_json;
pub use vox_plugin_macros::plugin;

vox_plugin_macros::sdk!("../../wit");

pub use agent::Agent;
pub use command::Command;
pub use describe::describe_command;
pub use hook::Hook;
pub use inference_backend::InferenceBackend;
pub use lifecycle_trait::{Lifecycle, Slot};
pub use metrics::Metrics;
pub use ml_backend::MlBackend;
pub use modality::Modality;
pub use service::Service;
pub use stage::Stage;
pub use step::Step;
pub use storage::Storage;
pub use text::{Output, attribute, failed, from_json, text_chunk};

/// What the functions of the contract answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;
