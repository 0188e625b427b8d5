//! The engine: carries a plan out.
//!
//! | module | owns |
//! |---|---|
//! | `prepare`, `arguments`, `facts` | everything that is checked against the plugins before a run |
//! | `dispatch` | the state of a run; the one place that decides what happens next |
//! | `execute`, `attempt` | the threads that bring groups to their end, and one try of a group |
//! | `results` | what steps read and make, and results from the cache |
//! | `built_in` | the runners that Vox serves by itself |
//! | `instances` | how many instances of plugins run at once |
//! | `resume` | going on with what an earlier run has done |
//! | `hooks` | what the hooks of a run are told, and what they stop |
//! | `message` | the one channel from executors to the dispatcher |
//!
//! What must stay true:
//!
//! - The dispatcher never calls a plugin and never waits for an executor: it waits for messages and
//!   for cancellation. So a plugin can hold up its own step, and nobody else.
//! - An executor changes nothing that the dispatcher owns; it sends messages. For each group that it
//!   was given it sends exactly one `Ended`, even when a plugin's glue panics, and only after the end
//!   is in the record.
//! - Every step of the plan ends up in the report with an outcome, whatever happens.

mod arguments;
mod attempt;
mod built_in;
mod dispatch;
mod execute;
mod facts;
mod hooks;
mod instances;
mod message;
mod prepare;
mod results;
mod resume;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use vox_host::hooks::HookSwitches;
use vox_host::{CancelToken, Host};

use crate::error::Error;
use crate::event::{RunEvent, RunId};
use crate::plan::Plan;
use crate::record::{Record, RecordError, Retention};
use crate::report::RunReport;
use prepare::Cast;

pub use prepare::Surroundings;
pub use resume::{Resume, ResumeError};

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
    /// What steps of native runners inherit, before the variables that are declared. Nothing is added to it,
    /// so a step sees of the caller's environment what is put here, and nothing of that where its runner is
    /// a component or named in the manifest's `declared-environment`. Empty unless it is set.
    pub environment: BTreeMap<String, String>,
    /// Variables that the user gave this run, on top of these. They count as declared: a result that
    /// was made with others is not taken from the cache.
    pub variables: BTreeMap<String, String>,
    /// How many processors the steps may take together; a step that says nothing takes one. Steps
    /// that streams join start together even when they take more. As many as the machine has unless
    /// it is set.
    pub jobs: NonZeroUsize,
    /// Whether steps that do not depend on a failed one still run. False unless it is set: the
    /// first failure cancels what runs and skips the rest.
    pub keep_going: bool,
    /// Cancels the run.
    pub cancel: CancelToken,
    /// Which hooks are on; can be changed while the run goes on.
    pub hooks: HookSwitches,
    /// Where the run is recorded. Nowhere unless it is set: then it can be neither resumed nor
    /// cached.
    pub record: Option<Record>,
    /// How results of earlier runs are used.
    pub cache: CacheUse,
    /// What an earlier run has done of it. Where it is the same run and is recorded, what counts is what the
    /// record says once this process has claimed it.
    pub resume: Option<Resume>,
    /// How long steps took the last time, by key: what the longest way through the plan is found with.
    pub expected: BTreeMap<String, Duration>,
    /// Bytes of what one step writes that are told and kept: 256 MiB unless it is set.
    pub log_limit: u64,
    /// How much is kept of the events of runs when this one begins.
    pub retention: Retention,
}

/// How results of earlier runs are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// They are taken over, and new ones are kept.
    #[default]
    Full,
    /// Every step runs, and what it makes is kept.
    Refresh,
    /// Every step runs, and nothing is kept.
    Off,
}

impl RunOptions {
    /// The defaults, for a run in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            id: RunId::generate(),
            directory: directory.into(),
            environment: BTreeMap::new(),
            variables: BTreeMap::new(),
            jobs: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            keep_going: false,
            cancel: CancelToken::new(),
            hooks: HookSwitches::default(),
            record: None,
            cache: CacheUse::default(),
            resume: None,
            expected: BTreeMap::new(),
            log_limit: 256 << 20,
            retention: Retention::default(),
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
    pub fn prepare(host: &Host, plan: Plan, surroundings: Surroundings) -> Result<Self, Error> {
        let cast = Cast::find(host, &plan, surroundings)?;
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
    /// # Errors
    ///
    /// The run cannot be recorded. Nothing was started then; a record that fails later fails the steps
    /// whose end it cannot hold.
    ///
    /// # Panics
    ///
    /// When the system has no thread for the hooks, or the observer panics.
    pub fn run(
        &self,
        options: &RunOptions,
        observer: &mut dyn FnMut(&RunEvent),
    ) -> Result<RunReport, RecordError> {
        dispatch::run(self, options, observer)
    }
}
