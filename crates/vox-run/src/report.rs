//! What a run came to: the summary that is shown, and recorded, at its end.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
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
    /// Results that were put into the cache.
    #[serde(default)]
    pub results_kept: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum RunOutcome {
    /// Every step succeeded, or was skipped because its condition does not hold.
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
    /// How it came to that.
    #[serde(flatten)]
    pub provenance: Provenance,
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
        /// What kind of failure it is.
        cause: Cause,
        /// The runner's code; none when it could not be carried out.
        code: Option<i32>,
        /// Why. The first line says it all; more may follow, such as the program's last words.
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
        /// Whether the plan wants it so: a condition does not hold, which fails nothing.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_condition: bool,
    },
}

/// Why a step failed, in one word; what `retry.on` names.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Its runner carried it out and answered a code that is not 0.
    Code,
    /// Its runner could not carry it out.
    Error,
    /// It took longer than the plan allows.
    TimedOut,
    /// The plugin trapped, panicked or reached a limit.
    Crashed,
    /// A hook stopped it.
    Aborted,
    /// An input was not there, or a stream that it reads ended before its time.
    Input,
    /// It ended well, and an output that it was to make is not there or cannot be kept.
    Output,
    /// Vox itself failed.
    Internal,
}

impl Cause {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Error => "error",
            Self::TimedOut => "timed-out",
            Self::Crashed => "crashed",
            Self::Aborted => "aborted",
            Self::Input => "input",
            Self::Output => "output",
            Self::Internal => "internal",
        }
    }
}

impl StepOutcome {
    /// It failed without a code.
    pub(crate) fn failed(cause: Cause, message: impl Into<String>) -> Self {
        Self::Failed {
            cause,
            code: None,
            message: message.into(),
        }
    }

    /// It does not start, and that is not as the plan wants it.
    pub(crate) fn skipped(reason: impl Into<String>) -> Self {
        Self::Skipped {
            reason: reason.into(),
            by_condition: false,
        }
    }

    /// Whether what needs the step may start.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Succeeded { .. })
    }

    /// Whether the run is as good with it: it succeeded, or the plan did not want it to run.
    pub fn is_well(&self) -> bool {
        matches!(
            self,
            Self::Succeeded { .. }
                | Self::Skipped {
                    by_condition: true,
                    ..
                }
        )
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

    /// What there is to say of it: the summary, the message or the reason.
    pub fn text(&self) -> &str {
        match self {
            Self::Succeeded { summary, .. } => summary,
            Self::Failed { message, .. } => message,
            Self::Cancelled { reason } | Self::Skipped { reason, .. } => reason,
        }
    }
}

/// How a step came to its result, where not by one call of its runner in this run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// How often it was tried, the last time included; 0 when nothing was called.
    #[serde(default)]
    pub attempts: u32,
    /// The run whose result this is, where it came from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<RunId>,
    /// The run that carried it out before this one, or before this one was resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<RunId>,
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
    /// Why the stream ended before its time, if it did, unless a step at its ends was cancelled.
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
