//! One request and its answer, piece by piece: by the system's network, or by the host's in a component.
//!
//! What must stay true:
//!
//! - A connection serves one request and is closed when its [`Answer`] is dropped, so that a server
//!   learns at once that nobody reads on, and no request meets a connection that the server has just
//!   closed.
//! - No redirect is followed: a key is for the server that it was given to.
//! - While nothing comes, the host is asked [many times a second](native::TICK) whether the run is
//!   cancelled; a component is ended by the host itself.

use std::fmt;
use std::time::Duration;

#[cfg(target_family = "wasm")]
mod component;
#[cfg(not(target_family = "wasm"))]
pub mod native;

#[cfg(target_family = "wasm")]
pub use component::Transport;
#[cfg(not(target_family = "wasm"))]
pub use native::Transport;

/// The longest that connecting may take.
pub const CONNECTING: Duration = Duration::from_secs(10);

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked for, from the `/` after the address on.
    pub path: String,
    /// Headers besides those that say how long the body is and who is asked.
    pub headers: Vec<(&'static str, String)>,
    /// What is posted; none for a GET.
    pub body: Option<Vec<u8>>,
    /// The longest time without a byte.
    pub silence: Duration,
}

/// An answer, whose body is read piece by piece.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// What `content-type` says, in lower case and without parameters; empty where it says nothing.
    pub kind: String,
    body: Box<dyn Body>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Answer {
    fn new(status: u16, content_type: &[u8], body: Box<dyn Body>) -> Self {
        let kind = String::from_utf8_lossy(content_type);
        let kind = kind.split(';').next().unwrap_or_default().trim();
        Self {
            status,
            kind: kind.to_ascii_lowercase(),
            body,
        }
    }

    /// The next piece of the body, never empty; none at its end.
    ///
    /// # Errors
    ///
    /// The connection ended before the body did, nothing came for too long, or the run is cancelled.
    pub fn read(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        self.body.read()
    }

    /// The whole body, at most `longest` bytes.
    ///
    /// # Errors
    ///
    /// As [`Answer::read`], and [`Fault::Broken`] where there is more.
    pub fn whole(mut self, longest: usize) -> Result<Vec<u8>, Fault> {
        let mut whole = Vec::new();
        while let Some(piece) = self.read()? {
            if whole.len() + piece.len() > longest {
                return Err(Fault::Broken(format!(
                    "its answer is longer than {longest} bytes"
                )));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }
}

/// The body of an answer.
trait Body: Send {
    fn read(&mut self) -> Result<Option<Vec<u8>>, Fault>;
}

/// Why there is no answer, or no more of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The run is cancelled.
    Cancelled,
    /// Nothing came for so long.
    Silent(Duration),
    /// The host does not let a component speak to it.
    Denied(String),
    /// The server could not be reached, or broke off; the text says how.
    Broken(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("the run was cancelled"),
            Self::Silent(time) => write!(f, "nothing came for {} s", time.as_secs_f32()),
            Self::Denied(why) | Self::Broken(why) => f.write_str(why),
        }
    }
}
