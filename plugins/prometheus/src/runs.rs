//! From what the hook points tell to metrics.
//!
//! | metric | kind | labels |
//! |---|---|---|
//! | `vox_run_running` | gauge | |
//! | `vox_runs_total` | counter | `status` |
//! | `vox_run_steps_total` | counter | `status`; each try of a step counts |
//! | `vox_run_step_seconds` | histogram | `step` |
//! | `vox_run_errors_total` | counter | |
//! | `vox_run_last_success`, `vox_run_last_duration_seconds`, `vox_run_last_end_timestamp_seconds` | gauge | `pipeline` |
//! | `vox_plugin_…`, as the host counts them | | `plugin` |
//! | what plugins measure | | `plugin`, `step`, `port`, and their own |
//!
//! A plugin's counter begins anew with each of its instances and is told at an instance's end, so it
//! is added up here. What the host counts goes on through a process, and is taken over.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::IgnoredAny;
use vox_plugin::hook::Event;
use vox_plugin::{Attribute, Result, from_json};

use crate::names;
use crate::registry::{Kind, Labels, Metric, Reason, Registry};

/// How the names of the host's own samples begin, which no plugin's do.
const HOST_SAMPLES: &str = "vox_";

const RUNNING: Metric<'_> = Metric {
    name: "vox_run_running",
    kind: Kind::Gauge,
    help: "Runs that go on",
};
const RUNS: Metric<'_> = Metric {
    name: "vox_runs",
    kind: Kind::Counter,
    help: "Runs that have ended",
};
const STEPS: Metric<'_> = Metric {
    name: "vox_run_steps",
    kind: Kind::Counter,
    help: "Steps that have ended",
};
const STEP_SECONDS: Metric<'_> = Metric {
    name: "vox_run_step_seconds",
    kind: Kind::Histogram,
    help: "Time from the start of a step to its end",
};
const ERRORS: Metric<'_> = Metric {
    name: "vox_run_errors",
    kind: Kind::Counter,
    help: "Failures of steps that were told",
};
const LAST_SUCCESS: Metric<'_> = Metric {
    name: "vox_run_last_success",
    kind: Kind::Gauge,
    help: "Whether the last run of the pipeline succeeded",
};
const LAST_DURATION: Metric<'_> = Metric {
    name: "vox_run_last_duration_seconds",
    kind: Kind::Gauge,
    help: "How long the last run of the pipeline took",
};
const LAST_END: Metric<'_> = Metric {
    name: "vox_run_last_end_timestamp_seconds",
    kind: Kind::Gauge,
    help: "When the last run of the pipeline ended, in seconds since the Unix epoch",
};

/// The run that an instance watches.
#[derive(Debug, Default)]
pub struct Run {
    pipeline: String,
    /// When it began, in nanoseconds since the Unix epoch.
    started: u64,
    /// Steps whose end was told.
    ended: BTreeSet<String>,
}

/// What the hook points tell, as far as it is wanted.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Detail {
    pipeline: String,
    status: String,
    seconds: f64,
    steps: Steps,
    plugin: String,
    port: Option<String>,
    samples: Vec<Sample>,
}

/// Keys before the run, statuses by key after it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Steps {
    Ended(BTreeMap<String, String>),
    Named(IgnoredAny),
}

impl Default for Steps {
    fn default() -> Self {
        Self::Named(IgnoredAny)
    }
}

/// A plugin's measurement. A value that is no number is null in JSON.
#[derive(Deserialize)]
struct Sample {
    name: String,
    kind: String,
    #[serde(default)]
    help: String,
    value: Option<f64>,
    #[serde(default)]
    labels: Vec<Attribute>,
}

/// Takes an event; `watched` is the run that goes on, if one does.
///
/// # Errors
///
/// The event's detail is not what its point tells.
pub fn take(registry: &mut Registry, watched: &mut Option<Run>, event: &Event) -> Result<()> {
    let detail: Detail = from_json(&event.detail)?;
    match event.point.as_str() {
        "pre_pipeline" => {
            end(registry, watched);
            registry.add(RUNNING, Labels::new(), 1.0);
            *watched = Some(Run {
                pipeline: detail.pipeline,
                started: event.timestamp,
                ended: BTreeSet::new(),
            });
        }
        "post_step" => {
            registry.add(STEPS, one("status", &detail.status), 1.0);
            registry.observe(STEP_SECONDS, one("step", &event.step), detail.seconds);
            if let Some(run) = watched {
                run.ended.insert(event.step.clone());
            }
        }
        "on_error" => registry.add(ERRORS, Labels::new(), 1.0),
        "on_metrics" => measured(registry, &event.step, detail),
        "post_pipeline" => ended(registry, watched, event.timestamp, &detail),
        _ => {}
    }
    Ok(())
}

/// Forgets a run whose end was not told.
pub fn end(registry: &mut Registry, watched: &mut Option<Run>) {
    if watched.take().is_some() {
        registry.add(RUNNING, Labels::new(), -1.0);
    }
}

fn ended(registry: &mut Registry, watched: &mut Option<Run>, now: u64, detail: &Detail) {
    registry.add(RUNS, one("status", &detail.status), 1.0);
    let known = watched.as_ref().map(|run| &run.ended);
    if let Steps::Ended(steps) = &detail.steps {
        // What never started was not told at `post_step`.
        let missing = steps
            .iter()
            .filter(|(step, _)| known.is_none_or(|known| !known.contains(*step)));
        for (_, status) in missing {
            registry.add(STEPS, one("status", status), 1.0);
        }
    }
    if let Some(run) = watched {
        let labels = || one("pipeline", &run.pipeline);
        let success = if detail.status == "succeeded" {
            1.0
        } else {
            0.0
        };
        registry.set(LAST_SUCCESS, labels(), success);
        let nanoseconds = now.saturating_sub(run.started);
        registry.set(LAST_DURATION, labels(), nanoseconds as f64 / 1e9);
        registry.set(LAST_END, labels(), now as f64 / 1e9);
    }
    end(registry, watched);
}

fn measured(registry: &mut Registry, step: &str, detail: Detail) {
    let port = detail.port.unwrap_or_default();
    for sample in detail.samples {
        let of_host = sample.name.starts_with(HOST_SAMPLES);
        // The host tells of itself for no step; what says so of one is a plugin's.
        let name = match (of_host, step.is_empty() && port.is_empty()) {
            (true, false) => format!("plugin_{}", sample.name),
            _ => sample.name,
        };
        let name = names::family(&name);
        let kind = match sample.kind.to_ascii_lowercase().as_str() {
            "counter" => Kind::Counter,
            _ => Kind::Gauge,
        };
        let mut labels = Labels::new();
        for Attribute { key, value } in sample.labels {
            if !(of_host && key == "plugin") {
                insert(&mut labels, names::label(&key), &value);
            }
        }
        for (key, value) in [
            ("plugin", detail.plugin.as_str()),
            ("step", step),
            ("port", &port),
        ] {
            insert(&mut labels, key.to_owned(), value);
        }
        let help = names::text(&sample.help);
        let metric = Metric {
            name: &name,
            kind,
            help: &help,
        };
        match sample.value {
            None => registry.drop_one(Reason::Value),
            Some(value) if kind == Kind::Counter && !of_host => registry.add(metric, labels, value),
            Some(value) => registry.set(metric, labels, value),
        }
    }
}

/// Adds a label; an empty one is as good as none.
fn insert(labels: &mut Labels, name: String, value: &str) {
    let value = names::text(value);
    if !value.is_empty() {
        labels.insert(name, value);
    }
}

fn one(name: &str, value: &str) -> Labels {
    let mut labels = Labels::new();
    insert(&mut labels, name.to_owned(), value);
    labels
}
