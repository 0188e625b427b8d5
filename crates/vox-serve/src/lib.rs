//! An HTTP server for language models that OpenAI's clients can talk to.
//!
//! Whatever implements [`Engine`] is served at `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`
//! and `/v1/models`, beside `/health` and `/metrics`. The server has one thread for all connections, and
//! one more for each answer that is computed; who calls it needs no runtime.
//!
//! ```no_run
//! use std::sync::Arc;
//! use vox_serve::{Engine, Keys, Options, Server};
//!
//! fn serve(engine: Arc<dyn Engine>) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut options = Options::default();
//!     options.keys = Keys::from_file("/etc/vox/keys".as_ref())?;
//!     let server = Server::bind(engine, options)?;
//!     println!("http://{}/v1", server.address());
//!     let stopper = server.stopper();
//!     std::thread::spawn(move || {
//!         // … when the user says so:
//!         stopper.drain();
//!     });
//!     server.wait();
//!     Ok(())
//! }
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`engine`] | the trait that is served, and its types, which have the names of `wit/inference-backend.wit` |
//! | [`options`] | every limit, with its default |
//! | [`keys`] | who may ask |
//! | `server` | a server's life: start, drain, cancel |
//! | `connection` | one connection, and how long its client may take |
//! | `service` | what happens to a request, from its head to its answer |
//! | `request` | what a request's body says, checked |
//! | `reply` | answers in OpenAI's two formats |
//! | `work` | an answer's thread, and what it tells the connection |
//! | `gate` | how many are answered at once, and how many wait |
//! | `pipe` | what was answered and not yet sent, in bounded size |
//! | `refusal` | OpenAI's error object |
//! | `metrics` | what is counted, in Prometheus' text format |
//!
//! # What must stay true
//!
//! - Nothing that a client sends makes the server hold more than [`Options`] say, or wait for longer.
//! - A client that goes away, or reads too slowly, costs no further token: `hear` answers false.
//! - A request that is refused is told what was wrong with it, which limit that is, and what there is
//!   instead.
//! - A key is never logged, shown or kept: only its hash is.

mod body;
mod connection;
pub mod engine;
mod error;
mod gate;
pub mod keys;
mod metrics;
pub mod options;
mod pipe;
mod refusal;
mod reply;
mod request;
mod server;
mod service;
mod work;

pub use engine::{
    Alternative, Backends, Completion, Embeddings, Engine, EngineError, Finish, Finished, Message,
    ModelCard, Part, Prompt, Sampling, Token,
};
pub use error::{KeyError, ServeError};
pub use keys::Keys;
pub use options::Options;
pub use server::{Ended, Server, Stopper};
