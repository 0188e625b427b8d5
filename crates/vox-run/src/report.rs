//! What a run came to: the summary that is shown, and recorded, at its end.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vox_contract::PluginId;
use vox_host::contract::{Attribute, metrics::Sample};

use crate::event::{RunId, StepHead, seconds};

/// Lines of a step's output that its report keeps: the last 40.
pub const REPORTED_LINES: usize = 40;

/// Plugin events that a report keeps: the first 1,000. All of them are told while the run goes on.
pub const REPORTED_EVENTS: usize = 1_000;

/// The summary of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// [`EVENT_VERSION`](crate::event::EVENT_VERSION).
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// Name of the pipeline.
    pub pipeline: String,
    /// The file that the plan was read from.
    pub file: PathBuf,
    /// When it began, in nanoseconds since the Unix epoch.
    pub started: u64,
    /// From its start to its end.
    #[serde(rename = "seconds", with = "seconds")]
    pub duration: Duration,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: RunOutcome,
    /// Every step of the plan, in its order.
    pub steps: Vec<StepReport>,
    /// Every stream that was opened, in the order in which they ended.
    pub streams: Vec<StreamReport>,
    /// What plugins measured.
    pub metrics: Vec<PluginMetrics>,
    /// What plugins emitted, at most [`REPORTED_EVENTS`].
    pub plugin_events: Vec<PluginEvent>,
    /// How many more they emitted.
    pub plugin_events_omitted: u64,
    /// What went wrong and failed nothing.
    pub warnings: Vec<String>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum RunOutcome {
    /// Every step succeeded.
    Succeeded,
    /// A step failed.
    Failed,
    /// It was cancelled from outside.
    Cancelled,
    /// A hook ended it before its first step.
    Aborted {
        /// The hook's plugin.
        by: PluginId,
        /// What the hook said.
        reason: String,
    },
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// What was known before.
    #[serde(flatten)]
    pub step: StepHead,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: StepOutcome,
    /// From its start to its end; zero when it did not start.
    #[serde(rename = "seconds", with = "seconds")]
    pub duration: Duration,
    /// The last lines that it wrote to ports that nobody reads, at most [`REPORTED_LINES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<OutputLine>,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum StepOutcome {
    /// It was carried out, and well.
    Succeeded {
        /// What was done, in one line.
        summary: String,
        /// Facts that the runner leaves.
        attributes: Vec<Attribute>,
    },
    /// It was carried out and failed, or could not be carried out.
    Failed {
        /// The runner's code; none when it could not be carried out.
        code: Option<i32>,
        /// Why.
        message: String,
    },
    /// It ran when something else ended it.
    Cancelled {
        /// What.
        reason: String,
    },
    /// It did not start.
    Skipped {
        /// Why not.
        reason: String,
    },
}

impl StepOutcome {
    /// It could not be carried out, or its end does not count as a good one.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed {
            code: None,
            message: message.into(),
        }
    }

    /// Whether what needs the step may start.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Succeeded { .. })
    }

    /// The word for it: `succeeded`, `failed`, `cancelled` or `skipped`.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
            Self::Skipped { .. } => "skipped",
        }
    }
}

/// A line that a step wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputLine {
    /// The port.
    pub port: String,
    /// The line, without its end.
    pub text: String,
}

/// What went through a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// The port that wrote: `read.stdout`.
    pub from: String,
    /// The port that reads: `count.stdin`.
    pub to: String,
    /// The stages between, in order.
    pub through: Vec<PluginId>,
    /// Chunks that the writer pushed.
    pub chunks_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Chunks that came out behind the last stage.
    pub chunks_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Why the stream ended before its time, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// What one instance of a plugin measured; or, in samples whose names begin with `vox_`, what the
/// host counted of all instances of the plugin since it was opened
/// ([`PluginStatus::samples`](vox_host::PluginStatus::samples)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginMetrics {
    /// The plugin.
    pub plugin: PluginId,
    /// The step that it ran, or whose input it served; none for a hook, and for what the host
    /// counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The port of that input; none for the step's own runner and for a hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The measurements.
    pub samples: Vec<Sample>,
}

/// An event that a plugin emitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginEvent {
    /// The plugin.
    pub plugin: PluginId,
    /// The step that it was working for; none for a hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Name of the event.
    pub name: String,
    /// What it carries.
    pub payload: Value,
}
