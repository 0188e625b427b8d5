//! The one way from those who do the work to the dispatcher.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::Sender;
use serde::Deserialize;
use vox_contract::{HookPoint, PluginId};
use vox_host::{Emitter, EventSink, contract};

use super::execute::Stop;
use super::hooks::{Abort, HooksCell};
use crate::graph::StepIndex;
use crate::ports::Mask;
use crate::report::{PluginMetrics, Provenance, StepOutcome, StreamReport};

/// The name of the event by which a step says how far it is: `{"done": 3, "total": 10, "message": "…"}`,
/// the last two of which may be left out.
const PROGRESS: &str = "progress";

/// What an executor tells the dispatcher.
#[derive(Debug)]
pub(crate) enum Message {
    /// The hooks have been asked whether the run may begin.
    Opened(Result<(), Abort>),
    /// A try of a step has begun; `stop` ends it.
    Started {
        step: StepIndex,
        attempt: u32,
        stop: Arc<Stop>,
    },
    Output {
        step: StepIndex,
        port: String,
        text: String,
    },
    Progress {
        step: StepIndex,
        progress: Progress,
    },
    /// A step has failed, and its group will not be tried again: nothing more is to start unless the
    /// run goes on all the same. How it ended is told with the group.
    Failing {
        step: StepIndex,
    },
    /// A step has failed, and its group will be tried again.
    Retried {
        step: StepIndex,
        attempt: u32,
        outcome: StepOutcome,
        wait: Duration,
    },
    /// Comes once for each group that was handed to an executor, with all its members, when the
    /// record knows of it.
    Ended(Vec<Ended>),
    StreamEnded(StreamReport),
    Measured(PluginMetrics),
    Emitted {
        step: Option<StepIndex>,
        plugin: PluginId,
        name: String,
        payload: String,
    },
    Warning(String),
    /// The hooks know that the run has ended; nothing comes after.
    Closed,
}

impl Message {
    /// Takes the secrets out of whatever a plugin may have said.
    fn mask(&mut self, mask: &Mask) {
        match self {
            Self::Opened(Ok(())) | Self::Started { .. } | Self::Failing { .. } | Self::Closed => {}
            Self::Opened(Err(Abort { reason: text, .. }))
            | Self::Output { text, .. }
            | Self::Emitted { payload: text, .. }
            | Self::Warning(text) => mask.text(text),
            Self::Progress { progress, .. } => {
                progress.message.iter_mut().for_each(|text| mask.text(text));
            }
            Self::Retried { outcome, .. } => mask.outcome(outcome),
            Self::Ended(ends) => ends
                .iter_mut()
                .for_each(|end| mask.outcome(&mut end.outcome)),
            Self::StreamEnded(stream) => stream.broken.iter_mut().for_each(|text| mask.text(text)),
            Self::Measured(metrics) => mask.metrics(metrics),
        }
    }
}

/// How a step has ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub step: StepIndex,
    pub outcome: StepOutcome,
    pub duration: Duration,
    pub provenance: Provenance,
    /// The hash of each output, by name.
    pub outputs: BTreeMap<String, String>,
}

impl Ended {
    /// A step that was not called.
    pub fn unstarted(step: StepIndex, outcome: StepOutcome) -> Self {
        Self {
            step,
            outcome,
            duration: Duration::ZERO,
            provenance: Provenance::default(),
            outputs: BTreeMap::new(),
        }
    }

    /// A group in which `culprit` ended so, and the others therefore did not start.
    pub fn of_all(members: &[StepIndex], culprit: StepIndex, outcome: &StepOutcome) -> Vec<Self> {
        let end = |step: &StepIndex| {
            if *step == culprit {
                Self::unstarted(*step, outcome.clone())
            } else {
                let reason = "a step that it starts together with failed";
                Self::unstarted(*step, StepOutcome::skipped(reason))
            }
        };
        members.iter().map(end).collect()
    }
}

/// How far a step is, as it says by an event of the name `progress`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Progress {
    pub done: f64,
    #[serde(default)]
    pub total: Option<f64>,
    #[serde(default)]
    pub message: Option<String>,
}

/// Sends messages for one step, or for the run as a whole.
///
/// The way is bounded: who tells more than the dispatcher's observer takes in waits. A message
/// that comes after the dispatcher has gone is dropped. No secret goes this way, whoever has said
/// it: what is told of a run comes through here alone.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    messages: Sender<Message>,
    step: Option<StepIndex>,
    /// The hooks at which events fire custom points; none until they were opened. Weak, since the
    /// hooks' own instances hold a reporter.
    hooks: HooksCell,
    /// What nobody is to be told.
    mask: Arc<Mask>,
}

impl Reporter {
    pub fn new(messages: Sender<Message>, mask: Arc<Mask>) -> Self {
        Self {
            messages,
            step: None,
            hooks: HooksCell::default(),
            mask,
        }
    }

    /// The same for a step.
    pub fn of_step(&self, step: StepIndex) -> Self {
        Self {
            messages: self.messages.clone(),
            step: Some(step),
            hooks: Arc::clone(&self.hooks),
            mask: Arc::clone(&self.mask),
        }
    }

    /// What nobody is to be told, for what goes other ways: into the record and to the hooks.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// Where the run's hooks are to be put.
    pub fn hooks(&self) -> &HooksCell {
        &self.hooks
    }

    pub fn send(&self, mut message: Message) {
        message.mask(&self.mask);
        let _ = self.messages.send(message);
    }

    /// Tells what the step wrote to a port that nobody reads.
    pub fn output(&self, port: &str, text: String) {
        if let Some(step) = self.step {
            self.send(Message::Output {
                step,
                port: port.to_owned(),
                text,
            });
        }
    }
}

impl EventSink for Reporter {
    fn emit(&self, plugin: &PluginId, name: &str, payload: &str) {
        if let (Some(step), PROGRESS) = (self.step, name)
            && let Ok(progress) = serde_json::from_str(payload)
        {
            return self.send(Message::Progress { step, progress });
        }
        self.send(Message::Emitted {
            step: self.step,
            plugin: plugin.clone(),
            name: name.to_owned(),
            payload: payload.to_owned(),
        });
    }

    /// The hooks decide whether there is an event, and what its payload is.
    fn fire(
        &self,
        emitter: Emitter<'_>,
        point: &HookPoint,
        payload: &str,
    ) -> Result<(), contract::Error> {
        let hooks = self.hooks.get().and_then(Weak::upgrade);
        let replacement = match hooks {
            Some(hooks) => hooks.fire(emitter, point, self.step, payload)?,
            None => None,
        };
        let payload = replacement.as_deref().unwrap_or(payload);
        self.emit(emitter.plugin(), &point.name(), payload);
        Ok(())
    }
}
