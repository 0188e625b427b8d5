//! The hooks of a run: who is asked at which point, how long each may take, and what follows when
//! one fails.
//!
//! A [`HookChain`] owns the instances of the hooks that a run names, by either carrier, and asks
//! them in one order: by the priority of their manifests, the lower first, then by plugin id, then
//! as they were named. What each point means, and what is handed over at it, is the business of
//! whoever runs something; `docs/src/reference/hooks.md` has both.
//!
//! | module | owns |
//! |---|---|
//! | `chain` | the order, and what becomes of the answers |
//! | `watcher` | the instances of one hook |
//! | `switches` | which hooks are on |
//! | `nesting` | how deep hooks are inside each other |
//!
//! What must stay true:
//!
//! - A hook that fails, crashes, is late or cannot be started does to the run what its policy
//!   says, and nothing else: `closed` aborts, `open` is told in a [`Notice`] and goes on. That one cannot
//!   be started is told once.
//! - An answer that a point does not allow changes nothing and is told.
//! - Whoever is inside an instance of depth *n* waits at most for instances of greater depth, so
//!   hooks that lead to hooks never wait for each other in a circle, on whatever thread; and the
//!   depth ends at the limit `hook-depth`.
//!
//! # Time
//!
//! A component is stopped when its time is over. Native code cannot be stopped: it is told by
//! `should-cancel`, the chain waits until it answers, and an answer that comes too late counts as
//! a failure all the same. A native hook that never answers holds its run up for ever.

mod chain;
mod nesting;
mod switches;
mod watcher;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use vox_contract::{Carrier, HookPoint, PluginId, WallTime};

pub use chain::HookChain;
pub use nesting::Nesting;
pub use switches::HookSwitches;

use crate::error::CallError;
use crate::services::{CancelToken, EventSink, IgnoreEvents};

/// A hook that a run names.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HookSource {
    /// The plugin; its manifest says at which points it is called.
    pub plugin: PluginId,
    /// Members that replace those of the plugin's configuration in the project's settings.
    pub arguments: serde_json::Map<String, Value>,
    /// The carrier to use; none leaves it to the project's settings and the plugin.
    pub carrier: Option<Carrier>,
}

impl HookSource {
    /// A hook without arguments, by whichever carrier the project and the plugin prefer.
    pub fn new(plugin: PluginId) -> Self {
        Self {
            plugin,
            arguments: serde_json::Map::new(),
            carrier: None,
        }
    }
}

/// What a chain is connected to. The default connects it to nothing.
#[derive(Clone)]
#[non_exhaustive]
pub struct HookOptions {
    /// Id of the run, as the hooks are told.
    pub run: String,
    /// Who hears the events of the hooks. Held by the chain, so what owns the chain is not to be
    /// owned by it in turn.
    pub events: Arc<dyn EventSink>,
    /// How the hooks are told to stop.
    pub cancel: CancelToken,
    /// Which hooks are on.
    pub switches: HookSwitches,
}

impl Default for HookOptions {
    fn default() -> Self {
        Self {
            run: String::new(),
            events: Arc::new(IgnoreEvents),
            cancel: CancelToken::new(),
            switches: HookSwitches::default(),
        }
    }
}

impl fmt::Debug for HookOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HookOptions")
            .field("run", &self.run)
            .field("switches", &self.switches)
            .finish_non_exhaustive()
    }
}

/// What the hooks of a point are asked about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Occasion<'a> {
    /// Key of the step; empty when it concerns the whole run.
    pub step: &'a str,
    /// What happened, a JSON object.
    pub detail: &'a str,
    /// The bytes that a hook may replace, where the point allows it.
    pub payload: &'a [u8],
    /// Where whoever asks stands among hooks; the default stands outside of all.
    pub nesting: Nesting,
}

/// What the hooks of a point answered together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Answer {
    /// Nobody has anything against it.
    Continue,
    /// Go on with these bytes instead.
    Replace(Vec<u8>),
    /// Go on without the chunk; nobody was asked after the one who says so.
    Drop,
    /// Stop; nobody was asked after the one who says so.
    Abort(Abort),
}

/// A hook that stopped something, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hook `{plugin}` aborted it: {reason}")]
pub struct Abort {
    /// The hook.
    pub plugin: PluginId,
    /// What it says, or how it failed.
    pub reason: String,
}

/// Why a hook brought no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// The call of it failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It was stopped, or answered too late.
    #[error(
        "{plugin}: hook.handle {} it had {limit}; a hook sets its `timeout` in Plugin.toml, and \
         within another hook has no more time than that has left",
        if *.stopped { "was stopped:" } else { "answered too late:" }
    )]
    TimedOut {
        /// The hook.
        plugin: PluginId,
        /// How long it may take at this point.
        limit: WallTime,
        /// Whether it was stopped; else it answered, and too late.
        stopped: bool,
    },
    /// There is no instance of it.
    #[error("it cannot be started: {reason}")]
    NotStarted {
        /// Why not.
        reason: String,
    },
}

/// Something that a hook did wrong and that changed nothing.
#[derive(Debug)]
pub struct Notice<'a> {
    /// The hook.
    pub plugin: &'a PluginId,
    /// At which point.
    pub point: &'a HookPoint,
    /// Of which step; empty when it concerns the whole run.
    pub step: &'a str,
    /// What it did.
    pub fault: Fault,
}

/// What a hook can do wrong without stopping anything.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fault {
    /// It answered `replace` where nothing can be replaced.
    Replaced,
    /// It answered `drop` where there is no chunk.
    Dropped,
    /// It answered `abort` where nothing can be stopped.
    Aborted {
        /// What it says.
        reason: String,
    },
    /// It brought no answer, and its policy is `open`.
    Failed(HookError),
}

impl fmt::Display for Notice<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            plugin,
            point,
            step,
            fault,
        } = self;
        write!(formatter, "hook `{plugin}` ")?;
        match fault {
            Fault::Replaced => {
                write!(
                    formatter,
                    "answered `replace` where nothing can be replaced"
                )?;
            }
            Fault::Dropped => write!(formatter, "answered `drop` where there is no chunk")?,
            Fault::Aborted { reason } => {
                write!(
                    formatter,
                    "answered `abort` where nothing can be stopped: {reason}"
                )?;
            }
            Fault::Failed(error @ HookError::NotStarted { .. }) => {
                return write!(formatter, "takes no part: {error}");
            }
            Fault::Failed(error) => write!(formatter, "failed: {error}")?,
        }
        match *step {
            "" => write!(formatter, " (at {point})"),
            step => write!(formatter, " (at {point} of `{step}`)"),
        }
    }
}
