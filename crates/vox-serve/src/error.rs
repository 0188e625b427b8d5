//! Why there is no server.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Nothing can listen there.
    #[error("{address}: cannot listen there: {source}; give another address, or port 0 for any")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Anybody could ask.
    #[error(
        "{address} is an address that other machines reach, and there are no API keys: give keys, listen \
         on 127.0.0.1, or say that it is to be open to everybody"
    )]
    Open {
        /// The address.
        address: SocketAddr,
    },
    /// An option makes no sense.
    #[error("the option `{name}` {reason}")]
    Option {
        /// Its name in [`crate::Options`].
        name: &'static str,
        /// What is wrong, and what to give.
        reason: String,
    },
    /// There is no such limit, or a text is no value of it.
    #[error("`{name}` {reason}")]
    Limit {
        /// What was given as its name.
        name: String,
        /// What is wrong, and what to give.
        reason: String,
    },
    /// The system has no thread, or nothing to wait with.
    #[error("the server cannot start: {0}")]
    System(#[from] io::Error),
}

/// Why API keys cannot be used. No text has a key in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no file, or not of text, or too large.
    #[error("{}: {reason}", path.display())]
    NotKeys {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: &'static str,
    },
    /// Others than the owner may open the file.
    #[error(
        "{}: others may open this file (mode {mode:03o}), so its keys are no secret: `chmod 600` it, and \
         replace the keys if somebody could have read them", path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A key cannot be one.
    #[error(
        "{place}: {reason}; a key is {least} or more visible ASCII characters, as `openssl rand -hex 24` \
         makes them",
        least = crate::keys::SHORTEST_KEY
    )]
    Key {
        /// The file's line, or the variable.
        place: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// There are none.
    #[error("{place}: there are no keys in it")]
    None {
        /// The file, or the variable.
        place: String,
    },
}
