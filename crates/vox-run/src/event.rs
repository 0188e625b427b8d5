//! What a run tells while it goes on.
//!
//! Events are for whoever watches: a terminal, a log, another program. Their JSON form is one
//! object for each event with `version`, `run`, `timestamp` and `event`, whose value names the
//! other members. What must stay true: members are added and never removed or given a new meaning
//! within one [`EVENT_VERSION`], and the events of one run are told in the order in which its
//! dispatcher learnt of them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vox_contract::{PluginId, RunnerName};

use crate::report::{
    PluginEvent, PluginMetrics, Provenance, RunOutcome, StepOutcome, StreamReport,
};

/// Version of the JSON form of events and reports.
pub const EVENT_VERSION: u32 = 1;

/// Id of a run. Ids of later runs sort after those of earlier ones, as text too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Uuid);

impl RunId {
    /// A new id, made of the time in milliseconds and random bits (UUID version 7, RFC 9562).
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEvent {
    /// [`EVENT_VERSION`].
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// When it was told, in nanoseconds since the Unix epoch.
    pub timestamp: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EventKind {
    /// The run begins; nothing else comes before.
    RunStarted {
        /// Name of the pipeline.
        pipeline: String,
        /// The file that the plan was read from.
        file: PathBuf,
        /// Whether it goes on where it stopped.
        resumed: bool,
        /// The steps, in the order of the plan.
        steps: Vec<StepHead>,
    },
    /// A step has begun. Told again for each try.
    StepStarted {
        /// Its key.
        step: String,
        /// 1 for the first try.
        attempt: u32,
    },
    /// A step says how far it is.
    StepProgress {
        /// Its key.
        step: String,
        /// How much is done.
        done: f64,
        /// Of how much; none when nobody knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total: Option<f64>,
        /// What it is doing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// A try has failed, and there will be another one.
    StepRetried {
        /// Its key.
        step: String,
        /// The number of the try that failed.
        attempt: u32,
        /// How that one ended.
        #[serde(flatten)]
        outcome: StepOutcome,
        /// How long it is waited.
        #[serde(rename = "wait-seconds", with = "seconds")]
        wait: Duration,
    },
    /// A step wrote to a port that no other step reads. The text is whole lines, except at the
    /// end of the step and where a line is longer than 64 KiB; what is not UTF-8 is replaced, and
    /// secrets of the step are masked.
    StepOutput {
        /// Its key.
        step: String,
        /// The port, such as `stdout`.
        port: String,
        /// One or more lines.
        text: String,
    },
    /// A step has ended, or will not begin. Told once for every step.
    StepEnded {
        /// Its key.
        step: String,
        /// How.
        #[serde(flatten)]
        outcome: StepOutcome,
        /// How it came to that.
        #[serde(flatten)]
        provenance: Provenance,
        /// From its start to its end; zero when it did not start.
        #[serde(rename = "seconds", with = "seconds")]
        duration: Duration,
    },
    /// A stream has ended, with what went through it.
    StreamEnded(StreamReport),
    /// A plugin was asked for its measurements.
    Metrics(PluginMetrics),
    /// A plugin emitted an event of its own.
    Plugin(PluginEvent),
    /// Something went wrong that fails nothing, such as a hook that stops nothing, or something old was removed
    /// to make room.
    Warning {
        /// What.
        message: String,
    },
    /// The run has ended; nothing else comes after.
    RunEnded {
        /// How.
        #[serde(flatten)]
        outcome: RunOutcome,
        /// From its start to its end.
        #[serde(rename = "seconds", with = "seconds")]
        duration: Duration,
    },
}

/// What is known of a step before it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepHead {
    /// Its key.
    pub key: String,
    /// What people read beside the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The runner that carries it out.
    pub uses: RunnerName,
    /// The plugin that serves the runner; none for a runner of Vox's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginId>,
    /// Keys of the steps that must have ended before it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
}

/// Nanoseconds since the Unix epoch; 0 on a machine whose clock is before it.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration as a number of seconds.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Cause;

    #[test]
    fn ids_of_later_runs_sort_later() {
        let ids: Vec<String> = (0..1000).map(|_| RunId::generate().to_string()).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn an_event_is_one_flat_object_and_can_be_read_back() {
        let event = RunEvent {
            version: EVENT_VERSION,
            run: RunId::generate(),
            timestamp: 1,
            kind: EventKind::StepEnded {
                step: "build".into(),
                outcome: StepOutcome::Failed {
                    cause: Cause::Code,
                    code: Some(2),
                    message: "no such file".into(),
                },
                provenance: Provenance {
                    attempts: 1,
                    ..Provenance::default()
                },
                duration: Duration::from_millis(1500),
            },
        };
        let written = serde_json::to_value(&event).unwrap();
        assert_eq!(
            written,
            serde_json::json!({
                "version": EVENT_VERSION, "run": event.run, "timestamp": 1, "event": "step-ended",
                "step": "build", "status": "failed", "cause": "code", "code": 2,
                "message": "no such file", "attempts": 1,
                "seconds": 1.5,
            })
        );
        assert_eq!(serde_json::from_value::<RunEvent>(written).unwrap(), event);
    }
}
