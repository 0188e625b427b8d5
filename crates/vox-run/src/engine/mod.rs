//! The engine: carries a plan out.
//!
//! | module | owns |
//! |---|---|
//! | `prepare`, `arguments` | everything that is checked against the plugins before a run |
//! | `dispatch` | the state of a run; the one place that decides what happens next |
//! | `execute` | the threads in which plugins are called |
//! | `hooks` | what the hooks of a run are told, and what they stop |
//! | `message` | the one channel from executors to the dispatcher |
//!
//! What must stay true:
//!
//! - The dispatcher never calls a plugin and never waits for an executor: it waits for messages and
//!   for cancellation. So a plugin can hold up its own step, and nobody else.
//! - An executor changes nothing that the dispatcher owns; it sends messages. For each step that it
//!   was given it sends exactly one `Ended`, even when a plugin's glue panics.
//! - Every step of the plan ends up in the report with an outcome, whatever happens.

mod arguments;
mod dispatch;
mod execute;
mod hooks;
mod message;
mod prepare;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;

use vox_host::hooks::HookSwitches;
use vox_host::{CancelToken, Host};

use crate::error::Error;
use crate::event::{RunEvent, RunId};
use crate::plan::Plan;
use crate::report::RunReport;
use prepare::Cast;

pub(crate) use hooks::{Answer, Hooks};
#[cfg(test)]
pub(crate) use message::Message;
pub(crate) use message::Reporter;

/// A plan whose plugins have been found, ready to be run any number of times.
pub struct Engine {
    host: Host,
    plan: Plan,
    cast: Cast,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("plan", &self.plan)
            .field("cast", &self.cast)
            .finish_non_exhaustive()
    }
}

/// How a run is to be carried out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunOptions {
    /// Id of the run; a new one unless it is set.
    pub id: RunId,
    /// Where relative paths of steps start; made absolute.
    pub directory: PathBuf,
    /// The environment of every step, before the variables of its own. Nothing is added to it, so
    /// a step sees of the caller's environment what is put here. Empty unless it is set.
    pub environment: BTreeMap<String, String>,
    /// How many steps may run at once. Steps that streams join count one each and start together
    /// even when there are more of them. As many as the machine has processors unless it is set.
    pub jobs: NonZeroUsize,
    /// Whether steps that do not depend on a failed one still run. False unless it is set: the
    /// first failure cancels what runs and skips the rest.
    pub keep_going: bool,
    /// Cancels the run.
    pub cancel: CancelToken,
    /// Which hooks are on; can be changed while the run goes on.
    pub hooks: HookSwitches,
}

impl RunOptions {
    /// The defaults, for a run in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            id: RunId::generate(),
            directory: directory.into(),
            environment: BTreeMap::new(),
            jobs: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            keep_going: false,
            cancel: CancelToken::new(),
            hooks: HookSwitches::default(),
        }
    }
}

impl Engine {
    /// Finds the plugins that `plan` names and checks every step's arguments against its runner's
    /// schema. Starts an instance of each runner for that, and nothing else.
    ///
    /// # Errors
    ///
    /// [`Error::Unresolved`] when a runner or plugin is missing or cannot be used, and
    /// [`Error::Plan`] when arguments do not fit, each with all places in the plan.
    pub fn prepare(host: &Host, plan: Plan) -> Result<Self, Error> {
        let cast = Cast::find(host, &plan)?;
        Ok(Self {
            host: host.clone(),
            plan,
            cast,
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Carries the plan out and answers what it came to. Returns when every step has ended and the
    /// hooks have been told.
    ///
    /// `observer` is called on this thread, once for each event, in order. While it is called
    /// steps go on, until they have more to tell than the channel to the dispatcher holds.
    ///
    /// # Panics
    ///
    /// When the system has no thread for the hooks, or the observer panics.
    pub fn run(&self, options: &RunOptions, observer: &mut dyn FnMut(&RunEvent)) -> RunReport {
        dispatch::run(self, options, observer)
    }
}
