//! Language models on servers, for the plugins that speak to them.
//!
//! A plugin that serves `inference-backend` by a server asks it over HTTP, hands the answer on piece
//! by piece as it comes, and says of everything that goes wrong which server it was and what to do.
//! What such plugins have in common is here.
//!
//! | module | owns |
//! |---|---|
//! | [`address`] | the URL of a server, checked |
//! | [`secret`] | its key, from a file or the environment, which nothing shows |
//! | [`transport`] | one request and its answer, by the system's network or, in a component, by the host's |
//! | [`server`] | JSON asked and answered, statuses, streams of lines; errors as the contract has them |
//! | [`mod@line`], [`sse`] | bytes to lines, lines to the events of a stream |
//! | [`token`] | tokens with their log-probabilities, to pieces |
//! | [`said`] | how much was handed on of an answer |
//! | [`embedding`] | vectors as the contract wants them |
//! | [`remote`] | what the contract wants to hear of a server: devices, verdicts, settings |
//! | [`openai`] | OpenAI's protocol, in the dialects of those who speak it |
//!
//! What must stay true:
//!
//! - Nothing is asked twice: whether an answer that broke off is tried elsewhere is for the host to say.
//! - An answer that broke off is an error and never an end.
//! - When no more is wanted or the run is cancelled, the connection is closed at once, as that is how a
//!   server learns of it.
//! - What a server sends is bounded before it is held: lines, bodies, and what is told of errors.
//! - No message has a key in it.

pub mod address;
pub mod embedding;
pub mod line;
pub mod openai;
pub mod remote;
pub mod said;
#[cfg(any(test, feature = "scripted"))]
pub mod scripted;
pub mod secret;
pub mod server;
pub mod sse;
pub mod token;
pub mod transport;

pub use address::Address;
pub use secret::Secret;
pub use server::Server;
