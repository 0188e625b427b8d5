//! What is said over a control socket.
//!
//! Each request and each reply is one JSON object in one line. Both carry `version`; a process
//! answers a request of another version with an error that names its own. Members that one side
//! does not know it passes over, so that members can be added within a version.
//!
//! ```text
//! -> {"version":1,"request":"pause","plugin":"exec"}
//! <- {"version":1,"reply":"done","plugin":"exec","running":"0.1.0","state":"paused","outcome":"paused"}
//! -> {"version":1,"request":"pause","plugin":"nobody"}
//! <- {"version":1,"reply":"error","kind":"not-here","message":"…","hint":"…"}
//! ```
//!
//! | request | members | reply |
//! |---|---|---|
//! | `status` | | `status`, a [`ProcessReport`] |
//! | `pause`, `resume`, `reload`, `unload` | `plugin` | `done`, a [`Done`] |
//!
//! Any request may be answered by `error`, a [`Refusal`]. Replies come in the order of the
//! requests. A request has at most [`MAX_REQUEST`] bytes, and a client that sends a longer one, or
//! nothing for [`PATIENCE`](super::PATIENCE), is hung up on.

use std::time::UNIX_EPOCH;

use semver::Version;
use serde::{Deserialize, Serialize};
use vox_contract::PluginId;

use crate::account::Usage;
use crate::host::{PluginStatus, Reloaded};
use crate::lifecycle::State;

/// Version of what is said.
pub const PROTOCOL_VERSION: u32 = 1;

/// Bytes of a request, the end of its line included.
pub const MAX_REQUEST: usize = 4 << 10;

/// Bytes of a reply, the end of its line included.
pub const MAX_REPLY: usize = 16 << 20;

/// A request or a reply with the version in which it is said.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Versioned<T> {
    pub version: u32,
    #[serde(flatten)]
    pub said: T,
}

impl<T> Versioned<T> {
    pub fn new(said: T) -> Self {
        Self {
            version: PROTOCOL_VERSION,
            said,
        }
    }
}

impl<T: Serialize> Versioned<T> {
    /// The line, with its end.
    pub fn line(&self) -> Vec<u8> {
        // Nothing that is said has a key that is no text or a serialiser that fails.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// What a process is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Request {
    /// What it does, and what its plugins cost.
    Status,
    /// Holds a plugin's calls back.
    Pause {
        /// The plugin.
        plugin: PluginId,
    },
    /// Lets a paused plugin's calls go on.
    Resume {
        /// The plugin.
        plugin: PluginId,
    },
    /// Has a plugin's files as they are now take over.
    Reload {
        /// The plugin.
        plugin: PluginId,
    },
    /// Lets a plugin go once its calls are over.
    Unload {
        /// The plugin.
        plugin: PluginId,
    },
}

/// What a process answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reply {
    /// To `status`.
    Status(Box<ProcessReport>),
    /// To everything else.
    Done(Done),
    /// It was not done.
    Error(Refusal),
}

/// What was done with a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The plugin.
    pub plugin: PluginId,
    /// The version that serves now.
    pub running: Version,
    /// Its state now.
    pub state: State,
    /// What became of the request.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a request that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Outcome {
    /// Its calls are held back.
    Paused,
    /// Its calls go on.
    Resumed,
    /// Its files are those that serve already.
    Unchanged,
    /// Other files serve, which may have the same version.
    Replaced {
        /// The version before.
        from: Version,
        /// The version that serves.
        to: Version,
    },
    /// None of its code was loaded; the next call takes what is there now.
    NotLoaded,
    /// It goes, or is gone.
    Unloaded,
}

impl From<Reloaded> for Outcome {
    fn from(reloaded: Reloaded) -> Self {
        match reloaded {
            Reloaded::Unchanged => Self::Unchanged,
            Reloaded::Replaced { from, to } => Self::Replaced { from, to },
            Reloaded::NotLoaded => Self::NotLoaded,
        }
    }
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which kind of reason.
    pub kind: RefusalKind,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RefusalKind {
    /// The line is no request.
    Malformed,
    /// The line is longer than [`MAX_REQUEST`]; the connection ends.
    TooLong,
    /// It is said in another version.
    Version,
    /// Too many clients are connected; the connection ends.
    Busy,
    /// The process does not use that plugin.
    NotHere,
    /// The host refuses it: the plugin's state does not allow it, or its new version does not do.
    Refused,
}

/// A process that is at work with plugins.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessReport {
    /// Its id.
    pub pid: u32,
    /// What it was asked to do.
    pub command: String,
    /// How long it has listened.
    pub uptime_seconds: f64,
    /// Bytes that all its component instances may hold together.
    pub memory_budget: u64,
    /// Bytes of native libraries that reloads left behind.
    pub retained_bytes: u64,
    /// Its plugins, by id.
    pub plugins: Vec<PluginReport>,
}

/// A plugin in such a process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PluginReport {
    /// Its id.
    pub plugin: PluginId,
    /// The version that serves.
    pub version: Version,
    /// Its state.
    pub state: State,
    /// Why it is in that state, where that is not plain.
    pub reason: Option<String>,
    /// Bytes that each of its component instances may hold.
    pub memory_limit: u64,
    /// What it has cost.
    #[serde(flatten)]
    pub usage: Usage,
    /// How its last reloads went, the newest last.
    pub reloads: Vec<ReloadReport>,
}

/// How a reload went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// The version that served before.
    pub from: Version,
    /// The version that was to take over.
    pub to: Version,
    /// When, in seconds since the Unix epoch.
    pub at: u64,
    /// Why the old version serves, where it does.
    pub kept_old: Option<String>,
}

impl From<PluginStatus> for PluginReport {
    fn from(status: PluginStatus) -> Self {
        let reloads = status.reloads.into_iter().map(|record| ReloadReport {
            from: record.from,
            to: record.to,
            at: record
                .at
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            kept_old: record.kept_old,
        });
        Self {
            plugin: status.plugin,
            version: status.version,
            state: status.state,
            reason: status.reason,
            memory_limit: status.limits.memory,
            usage: status.usage,
            reloads: reloads.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_and_replies_are_flat_objects_in_one_line_each() {
        let plugin: PluginId = "exec".parse().unwrap();
        let request = Versioned::new(Request::Pause {
            plugin: plugin.clone(),
        });
        let line = request.line();
        assert_eq!(
            String::from_utf8(line.clone()).unwrap(),
            "{\"version\":1,\"request\":\"pause\",\"plugin\":\"exec\"}\n"
        );
        let read: Versioned<Request> = serde_json::from_slice(&line).unwrap();
        assert_eq!(read.said, request.said);

        let reply = Versioned::new(Reply::Done(Done {
            plugin,
            running: Version::new(0, 2, 0),
            state: State::Active,
            outcome: Outcome::Replaced {
                from: Version::new(0, 1, 0),
                to: Version::new(0, 2, 0),
            },
        }));
        assert_eq!(
            serde_json::to_value(&reply).unwrap(),
            json!({
                "version": 1, "reply": "done", "plugin": "exec", "running": "0.2.0",
                "state": "active", "outcome": "replaced", "from": "0.1.0", "to": "0.2.0",
            })
        );
    }
}
