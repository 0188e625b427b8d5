//! Writes the ops of one run.

use std::fmt::Display;

use serde::Serialize;
use vox_crypto::canonical;
use vox_oplog::{Class, NewOp, Pending};

use super::ops::{
    RUN_ENDED, RUN_RESUMED, RUN_STARTED, RunEnded, RunStarted, STEPS_ENDED, STEPS_STARTED,
    STREAM_ACKNOWLEDGED, StepsEnded, StepsStarted, StreamAcknowledged,
};
use super::{Record, RecordError};
use crate::report::StepOutcome;

/// The longest text of an outcome that is recorded, in bytes; the events have all of it.
const MAX_TEXT: usize = 16 << 10;

/// The journal of one run; without a record it writes nothing.
#[derive(Debug)]
pub(crate) struct Journal {
    record: Option<Record>,
    run: String,
}

impl Journal {
    pub fn new(record: Option<Record>, run: impl Display) -> Self {
        Self {
            record,
            run: run.to_string(),
        }
    }

    /// The run begins. Durable when it returns.
    pub fn started(&self, started: &RunStarted) -> Result<(), RecordError> {
        self.durably(RUN_STARTED, started, None)
    }

    /// This process goes on with the run. Durable when it returns.
    pub fn resumed(&self) -> Result<(), RecordError> {
        self.durably(RUN_RESUMED, &(), None)
    }

    /// Steps are about to be tried. Written before anything that is written later, and not waited
    /// for: a try that nobody knows of is made again with the same idempotency key.
    pub fn steps_started(&self, started: &StepsStarted) -> Result<(), RecordError> {
        let step = started.steps.first().cloned();
        self.submit(STEPS_STARTED, started, step).map(drop)
    }

    /// A reader got so far. Not waited for: what is acknowledged and not recorded comes again.
    pub fn acknowledged(&self, acknowledged: &StreamAcknowledged) -> Result<(), RecordError> {
        self.submit(STREAM_ACKNOWLEDGED, acknowledged, None)
            .map(drop)
    }

    /// Steps have ended. `wait` for it to be durable unless they were done before.
    pub fn steps_ended(&self, mut ended: StepsEnded, wait: bool) -> Result<(), RecordError> {
        for end in &mut ended.steps {
            shorten(&mut end.outcome);
        }
        let step = ended.steps.first().map(|end| end.step.clone());
        let pending = self.submit(STEPS_ENDED, &ended, step)?;
        if let Some(pending) = pending.filter(|_| wait) {
            pending.wait()?;
        }
        Ok(())
    }

    /// The run is over. Durable when it returns, with all that was written before.
    pub fn ended(&self, ended: &RunEnded) -> Result<(), RecordError> {
        self.durably(RUN_ENDED, ended, None)
    }

    fn durably(
        &self,
        kind: &str,
        payload: &impl Serialize,
        step: Option<String>,
    ) -> Result<(), RecordError> {
        if let Some(pending) = self.submit(kind, payload, step)? {
            pending.wait()?;
        }
        Ok(())
    }

    fn submit(
        &self,
        kind: &str,
        payload: &impl Serialize,
        step: Option<String>,
    ) -> Result<Option<Pending>, RecordError> {
        let Some(record) = &self.record else {
            return Ok(None);
        };
        let payload = canonical::encode(payload).map_err(|error| RecordError::Unreadable {
            run: self.run.clone(),
            detail: error.to_string(),
        })?;
        let mut op = NewOp::new(kind, payload)?
            .class(Class::Warm)
            .run(self.run.as_str());
        if let Some(step) = step {
            op = op.step(step);
        }
        Ok(Some(record.log.submit(op)?))
    }
}

/// Cuts what a step says down to what a record should hold.
fn shorten(outcome: &mut StepOutcome) {
    let text = match outcome {
        StepOutcome::Succeeded { summary, .. } => summary,
        StepOutcome::Failed { message, .. } => message,
        StepOutcome::Cancelled { reason } | StepOutcome::Skipped { reason, .. } => reason,
    };
    if text.len() > MAX_TEXT {
        let end = text.floor_char_boundary(MAX_TEXT);
        text.truncate(end);
        text.push('…');
    }
}
