//! The one way from those who do the work to the dispatcher.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::Sender;
use vox_contract::{HookPoint, PluginId};
use vox_host::{Emitter, EventSink, contract};

use super::hooks::{Abort, HooksCell};
use crate::graph::StepIndex;
use crate::report::{PluginMetrics, StepOutcome, StreamReport};

/// What an executor tells the dispatcher.
#[derive(Debug)]
pub(crate) enum Message {
    /// The hooks have been asked whether the run may begin.
    Opened(Result<(), Abort>),
    Started {
        step: StepIndex,
    },
    Output {
        step: StepIndex,
        port: String,
        text: String,
    },
    /// Comes once for each step of a group that was handed to an executor.
    ///
    /// `interrupted` says that the step was told to end, or that one of its streams ended before
    /// its time, so that its failure may be no fault of its own.
    Ended {
        step: StepIndex,
        outcome: StepOutcome,
        duration: Duration,
        interrupted: bool,
    },
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

/// Sends messages for one step, or for the run as a whole.
///
/// The way is bounded: who tells more than the dispatcher's observer takes in waits. A message
/// that comes after the dispatcher has gone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    messages: Sender<Message>,
    step: Option<StepIndex>,
    /// The hooks at which events fire custom points; none until they were opened. Weak, since the
    /// hooks' own instances hold a reporter.
    hooks: HooksCell,
}

impl Reporter {
    pub fn new(messages: Sender<Message>) -> Self {
        Self {
            messages,
            step: None,
            hooks: HooksCell::default(),
        }
    }

    /// The same for a step.
    pub fn of_step(&self, step: StepIndex) -> Self {
        Self {
            messages: self.messages.clone(),
            step: Some(step),
            hooks: Arc::clone(&self.hooks),
        }
    }

    /// Where the run's hooks are to be put.
    pub fn hooks(&self) -> &HooksCell {
        &self.hooks
    }

    pub fn send(&self, message: Message) {
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
