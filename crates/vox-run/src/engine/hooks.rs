//! The hooks of one run: who is called at which point, and what becomes of the answer.
//!
//! Owns one instance of each hook of the plan; it lives as long as the run and is entered by one
//! thread at a time. Where several watch one point they are called by the priority of their
//! manifests, then by id, then in the order of the plan.
//!
//! | point | step | `detail` | payload | may |
//! |---|---|---|---|---|
//! | `pre_pipeline` | | `pipeline`, `steps` (keys) | | abort: nothing runs |
//! | `pre_step` | the step | `runner`, `label`, `arguments` | | abort: the step fails unstarted |
//! | `post_step` | the step | `status`, `summary` or `message`, `seconds` | | abort: the step counts as failed |
//! | `post_chunk` | the reader | `from`, `to`, `modality`, `sequence`, `timestamp` | the chunk | replace the bytes; abort: the stream breaks |
//! | `on_error` | the step | `message` | | |
//! | `on_metrics` | the step | `plugin`, `port`, `samples` | | |
//! | `post_pipeline` | | `status`, `steps` (key to status) | | |
//!
//! What must stay true: a hook that cannot answer where it may abort counts as one that aborts,
//! because it may be there to prevent something; where it may not, its failure is told and changes
//! nothing. An answer that a point does not allow is told too. A hook that crashes is not started
//! again, for what it knew of the run is gone: from then on it cannot answer at any point.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use vox_contract::{HookPoint, PluginId};
use vox_host::contract::hook::{Event, Outcome};
use vox_host::{CallError, Host, Instance, InstanceOptions};

use super::message::{Message, Reporter};
use crate::event::now;
use crate::plan::Arguments;
use crate::ports::measure;
use crate::report::PluginMetrics;

/// A hook of the plan, found among the plugins.
#[derive(Clone, Debug)]
pub(crate) struct PlannedHook {
    pub plugin: PluginId,
    pub arguments: Arguments,
    /// The points that its manifest lists, each with its priority; the lower comes first.
    pub points: Vec<(HookPoint, i32)>,
}

/// A hook that stopped something, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Abort {
    pub plugin: PluginId,
    pub reason: String,
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hook `{}` aborted it: {}", self.plugin, self.reason)
    }
}

/// What the hooks of a point answered together.
#[derive(Debug)]
pub(crate) enum Answer {
    Continue,
    /// Go on with these bytes instead.
    Replace(Vec<u8>),
    Abort(Abort),
}

/// The hooks of a run.
pub(crate) struct Hooks {
    run: String,
    watchers: Vec<Watcher>,
    /// Watchers by point, in the order in which they are called.
    order: BTreeMap<HookPoint, Vec<usize>>,
    reporter: Reporter,
}

struct Watcher {
    plugin: PluginId,
    /// Held during a call. A hook never calls into the run, so nothing else is locked under it.
    instance: Mutex<Instance>,
}

impl Hooks {
    /// Starts an instance of every hook.
    ///
    /// # Errors
    ///
    /// The first that cannot be started.
    pub fn open(
        host: &Host,
        run: String,
        planned: &[PlannedHook],
        reporter: Reporter,
    ) -> Result<Self, Abort> {
        let mut watchers = Vec::with_capacity(planned.len());
        let mut order: BTreeMap<HookPoint, Vec<(i32, usize)>> = BTreeMap::new();
        for hook in planned {
            let mut options = InstanceOptions::default();
            options.config = hook.arguments.clone();
            options.events = Arc::new(reporter.clone());
            let instance = host
                .instance(&hook.plugin, options)
                .map_err(|error| Abort {
                    plugin: hook.plugin.clone(),
                    reason: format!("it cannot be started: {error}"),
                })?;
            for (point, priority) in &hook.points {
                order
                    .entry(point.clone())
                    .or_default()
                    .push((*priority, watchers.len()));
            }
            watchers.push(Watcher {
                plugin: hook.plugin.clone(),
                instance: Mutex::new(instance),
            });
        }
        let in_order = |mut hooks: Vec<(i32, usize)>| {
            hooks.sort_by_key(|(priority, index)| (*priority, &watchers[*index].plugin, *index));
            hooks.into_iter().map(|(_, index)| index).collect()
        };
        let order = order
            .into_iter()
            .map(|(point, hooks)| (point, in_order(hooks)))
            .collect();
        Ok(Self {
            run,
            watchers,
            order,
            reporter,
        })
    }

    /// Whether anyone watches this point.
    pub fn watch(&self, point: &HookPoint) -> bool {
        self.order.contains_key(point)
    }

    /// Asks the hooks of a point, one after the other, until one aborts. `step` is empty when the
    /// point concerns the whole run.
    pub fn ask(&self, point: HookPoint, step: &str, detail: Value, payload: &[u8]) -> Answer {
        let Some(watchers) = self.order.get(&point) else {
            return Answer::Continue;
        };
        let event = Event {
            point: point.name().into_owned(),
            run: self.run.clone(),
            step: step.to_owned(),
            timestamp: now(),
            detail: detail.to_string(),
        };
        let mut replacement: Option<Vec<u8>> = None;
        for watcher in watchers.iter().map(|index| &self.watchers[*index]) {
            let payload = replacement.as_deref().unwrap_or(payload);
            match (watcher.handle(&event, payload), may_abort(&point)) {
                (Ok(Outcome::Continue), _) => {}
                (Ok(Outcome::Replace(bytes)), _) if point == HookPoint::PostChunk => {
                    replacement = Some(bytes);
                }
                (Ok(Outcome::Replace(_)), _) => {
                    self.warn(
                        watcher,
                        &event,
                        "answered `replace`, which only `post_chunk` allows",
                    );
                }
                (Ok(Outcome::Abort(reason)), true) => {
                    return Answer::Abort(Abort {
                        plugin: watcher.plugin.clone(),
                        reason,
                    });
                }
                (Ok(Outcome::Abort(reason)), false) => {
                    let told = format!("answered `abort` where nothing can be stopped: {reason}");
                    self.warn(watcher, &event, &told);
                }
                (Err(error), true) => {
                    let reason = format!("it could not answer: {error}");
                    return Answer::Abort(Abort {
                        plugin: watcher.plugin.clone(),
                        reason,
                    });
                }
                (Err(error), false) => self.warn(watcher, &event, &format!("failed: {error}")),
            }
        }
        replacement.map_or(Answer::Continue, Answer::Replace)
    }

    /// Tells the hooks of a point at which nothing can be stopped.
    pub fn tell(&self, point: HookPoint, step: &str, detail: Value) {
        self.ask(point, step, detail, &[]);
    }

    /// What the hooks themselves have measured.
    pub fn measure(&self) -> impl Iterator<Item = PluginMetrics> {
        self.watchers.iter().filter_map(|watcher| {
            let mut instance = watcher
                .instance
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let samples = measure(&mut instance)?;
            Some(PluginMetrics {
                plugin: watcher.plugin.clone(),
                step: None,
                port: None,
                samples,
            })
        })
    }

    fn warn(&self, watcher: &Watcher, event: &Event, what: &str) {
        let place = if event.step.is_empty() {
            String::new()
        } else {
            format!(" of `{}`", event.step)
        };
        let message = format!(
            "hook `{}` {what} (at {}{place})",
            watcher.plugin, event.point
        );
        self.reporter.send(Message::Warning(message));
    }
}

impl Watcher {
    fn handle(&self, event: &Event, payload: &[u8]) -> Result<Outcome, CallError> {
        let mut instance = self.instance.lock().unwrap_or_else(PoisonError::into_inner);
        instance.hook()?.handle(event, payload)
    }
}

/// Whether there is something left to stop at this point.
fn may_abort(point: &HookPoint) -> bool {
    matches!(
        point,
        HookPoint::PrePipeline | HookPoint::PreStep | HookPoint::PostStep | HookPoint::PostChunk
    )
}
