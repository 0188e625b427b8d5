//! What the op-log says of runs.
//!
//! | kind | says |
//! |---|---|
//! | `run.started` | a run of this plan began |
//! | `run.resumed` | another process goes on with it |
//! | `run.steps-started` | these steps, which streams join, are tried for the nth time |
//! | `run.stream-acknowledged` | the reader has asked for the chunk after this many |
//! | `run.steps-ended` | these steps have ended so; with how, and with what makes their cache key |
//! | `run.ended` | the run is over |
//!
//! Only `run.started` links to the store: it keeps the text of the plan. Results are named by their
//! cache key in bare hexadecimal, which keeps nothing: what is in the cache may be evicted, and a
//! log that kept it would fill the disk.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vox_crypto::Digest;

use crate::event::RunId;
use crate::report::{Provenance, RunOutcome, StepOutcome};

/// A run began.
pub const RUN_STARTED: &str = "run.started";
/// Another process goes on with a run.
pub const RUN_RESUMED: &str = "run.resumed";
/// Steps are tried.
pub const STEPS_STARTED: &str = "run.steps-started";
/// A reader got so far.
pub const STREAM_ACKNOWLEDGED: &str = "run.stream-acknowledged";
/// Steps have ended.
pub const STEPS_ENDED: &str = "run.steps-ended";
/// A run is over.
pub const RUN_ENDED: &str = "run.ended";

/// The payload of [`RUN_STARTED`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    /// Name of the pipeline.
    pub pipeline: String,
    /// The file that the plan was read from, as the user wrote it.
    pub file: String,
    /// Where relative paths of steps start.
    pub directory: String,
    /// The text of the plan. A link: the log keeps it.
    pub plan: Digest,
    /// Number of steps.
    pub steps: u64,
    /// Whether steps go on after one has failed.
    pub keep_going: bool,
    /// Names of the variables that the user gave the run. Their values are recorded nowhere.
    pub variables: Vec<String>,
    /// The run whose results this one began with.
    pub of: Option<RunId>,
    /// Version of Vox.
    pub version: String,
}

/// The payload of [`STEPS_STARTED`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepsStarted {
    /// Their keys.
    pub steps: Vec<String>,
    /// 1 for the first try.
    pub attempt: u32,
}

/// The payload of [`STREAM_ACKNOWLEDGED`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamAcknowledged {
    /// The port that reads, as `step.port`.
    pub to: String,
    /// Chunks that it is done with, counted from the beginning of the stream.
    pub chunks: u64,
}

/// The payload of [`STEPS_ENDED`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepsEnded {
    /// How each of them has ended, in the order of the plan.
    pub steps: Vec<StepEnd>,
    /// The key under which their result is in the cache, in hexadecimal; none where they are not
    /// cached.
    pub key: Option<String>,
    /// What the key is made of, one table for each step, in the same order.
    pub parts: Vec<BTreeMap<String, String>>,
}

/// How a step has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepEnd {
    /// Its key.
    pub step: String,
    /// How.
    pub outcome: StepOutcome,
    /// How it came to that.
    pub provenance: Provenance,
    /// Microseconds from its start to its end.
    pub micros: u64,
    /// The hash of each of its outputs, by name, in hexadecimal.
    pub outputs: BTreeMap<String, String>,
}

impl StepEnd {
    /// From its start to its end.
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.micros)
    }
}

/// The payload of [`RUN_ENDED`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEnded {
    /// How.
    pub outcome: RunOutcome,
    /// Microseconds from its start, or its last resumption, to its end.
    pub micros: u64,
    /// The SHA-256 of its events; none when they could not be written.
    pub events: Option<Digest>,
}
