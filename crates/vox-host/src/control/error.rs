//! Why a process cannot be controlled.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::protocol::Refusal;

/// Why a process cannot listen, or cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The directory of the sockets is open to others.
    #[error(
        "{} is not used, because others than its owner may enter it or it is not yours; \
         `chmod 700` it, or remove it",
        directory.display()
    )]
    NotPrivate {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory of the sockets cannot be made or read.
    #[error("cannot {action} {}: {source}", directory.display())]
    Directory {
        /// `make` or `read`.
        action: &'static str,
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error(
        "cannot listen on {}: {source}; XDG_RUNTIME_DIR says where sockets go, and their whole \
         name may have about 100 bytes",
        socket.display()
    )]
    Listen {
        /// The socket.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system has no thread to listen in.
    #[error("no thread could be started to listen in: {source}")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
    /// The process ended before it answered.
    #[error("process {pid} has ended")]
    Gone {
        /// The process.
        pid: u32,
    },
    /// What listens belongs to somebody else.
    #[error("process {pid} belongs to another user and is not asked")]
    OtherUser {
        /// The process.
        pid: u32,
    },
    /// The process does not answer.
    #[error("process {pid} has not answered within {} s; it may be stopped", wait.as_secs())]
    NoAnswer {
        /// The process.
        pid: u32,
        /// How long was waited.
        wait: Duration,
    },
    /// The connection broke.
    #[error("cannot talk to process {pid}: {source}")]
    Talk {
        /// The process.
        pid: u32,
        /// What the system says.
        source: io::Error,
    },
    /// The answer makes no sense.
    #[error(
        "process {pid} answers what this vox does not understand: {detail}; it may be of another version"
    )]
    Malformed {
        /// The process.
        pid: u32,
        /// What is wrong with it.
        detail: String,
    },
    /// The process answered an error.
    #[error("process {pid}: {}", refusal.message)]
    Refused {
        /// The process.
        pid: u32,
        /// The error.
        refusal: Refusal,
    },
}

impl ControlError {
    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { refusal, .. } => refusal.hint.as_deref(),
            _ => None,
        }
    }
}
