//! Runs: `pipeline.toml` to a [`Plan`], and the plan to its end.
//!
//! ```no_run
//! use vox_host::{Host, HostOptions, directories::Directories};
//! use vox_run::{Engine, Plan, RunOptions, Surroundings};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = std::fs::read_to_string("pipeline.toml")?;
//! let plan = Plan::parse(&text, "pipeline.toml")?;
//! let host = Host::open(Directories::from_environment()?, HostOptions::default())?;
//! let engine = Engine::prepare(&host, plan, Surroundings::default())?;
//! let report = engine.run(&RunOptions::new("."), &mut |event| println!("{event:?}"))?;
//! println!("{:?}", report.outcome);
//! # Ok(())
//! # }
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`plan`] | the format of a pipeline and every rule that needs no plugin |
//! | [`graph`] | which steps wait for which, and which start together |
//! | `schedule` | which groups of steps may start, as a run goes on |
//! | [`ports`] | the streams between running steps |
//! | [`engine`] | carrying a plan out |
//! | [`record`] | what is kept of runs, and reading it again |
//! | [`cache`] | results that later runs may take over |
//! | [`machine`] | what the steps share |
//! | [`event`], [`report`] | what a run tells, while it goes on and at its end |
//!
//! What must stay true: a plan that cannot be run is refused before its first step, with every
//! place at which it cannot; and a run that began ends in a report in which every step has an
//! outcome.

pub mod cache;
pub mod engine;
mod error;
pub mod event;
pub mod graph;
pub mod machine;
pub mod plan;
pub mod ports;
pub mod record;
pub mod report;
mod schedule;

pub use engine::{CacheUse, Engine, Resume, ResumeError, RunOptions, Surroundings};
pub use error::Error;
pub use event::{EventKind, RunEvent, RunId};
pub use plan::{Plan, PlanError};
pub use record::{History, Record, RecordError};
pub use report::{Cause, RunOutcome, RunReport, StepOutcome};
