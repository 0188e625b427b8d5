//! Entries of scopes: which paths a `file_read` or `file_write` means, which hosts a `network`.
//!
//! Manifests and grants check their entries here, and the host decides by what is parsed here, so
//! there is one reading of an entry. Nothing here looks at a disk or asks a name server.
//!
//! What must stay true: two spellings of one thing are one value (case and trailing dot of a name,
//! an IPv4 address inside an IPv6 one, `.` in a path), what cannot be told apart with certainty is
//! refused (`..`, `%`, letters outside ASCII, addresses in odd notations), and an entry prints as
//! it was written.

mod host;
mod path;

pub use host::{Host, HostScope};
pub use path::{Anchor, PathScope};

use crate::Capability;

/// Why a text is no entry of a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeError {
    /// It is no path that can be granted.
    #[error("the path `{entry}` {fault}")]
    Path {
        /// As written.
        entry: String,
        /// What is wrong.
        fault: &'static str,
        /// What to write instead.
        hint: String,
    },
    /// It is no host that can be granted.
    #[error("the host `{entry}` {fault}")]
    Host {
        /// As written.
        entry: String,
        /// What is wrong.
        fault: &'static str,
        /// What to write instead.
        hint: String,
    },
}

impl ScopeError {
    /// What to write instead.
    pub fn hint(&self) -> &str {
        match self {
            Self::Path { hint, .. } | Self::Host { hint, .. } => hint,
        }
    }
}

/// Checks one entry of a capability's scope.
///
/// # Errors
///
/// The capability's entries are paths or hosts, and this is none.
pub fn check_entry(capability: Capability, entry: &str) -> Result<(), ScopeError> {
    match capability {
        Capability::FileRead | Capability::FileWrite => entry.parse::<PathScope>().map(drop),
        Capability::Network => entry.parse::<HostScope>().map(drop),
        _ => Ok(()),
    }
}
