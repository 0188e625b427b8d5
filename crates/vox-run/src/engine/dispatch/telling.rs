//! What is told of a run: events, their transcript, and at the end the report.
//!
//! What must stay true: an event stands in the transcript before the observer sees it; what steps
//! write and plugins tell is kept up to a limit, and what is over it is counted or warned of; and a
//! transcript that cannot be written, or an end that cannot be recorded, is a warning and ends
//! nothing.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Dispatcher, Settled};
use crate::event::{EVENT_VERSION, EventKind, RunEvent, now};
use crate::graph::StepIndex;
use crate::record::{RecordError, RunEnded};
use crate::report::{
    OutputLine, PluginEvent, Provenance, REPORTED_EVENTS, REPORTED_LINES, RunReport, StepOutcome,
    StepReport,
};

impl Dispatcher<'_> {
    pub(super) fn written(&mut self, step: StepIndex, port: String, mut text: String) {
        let limit = self.execution.options.log_limit;
        let written = self.written.entry(step).or_default();
        if *written > limit {
            return;
        }
        let room = limit - *written;
        *written += text.len() as u64;
        let cut = *written > limit;
        if cut {
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let end = text.floor_char_boundary(room);
            text.truncate(end);
        }
        let kept = self.output.entry(step).or_default();
        for line in text.lines() {
            if kept.len() == REPORTED_LINES {
                kept.pop_front();
            }
            kept.push_back(OutputLine {
                port: port.clone(),
                text: line.to_owned(),
            });
        }
        let step = self.key(step);
        if cut {
            self.warn(format!(
                "step `{step}` has written {limit} bytes; what it writes from here on is not kept"
            ));
        }
        if !text.is_empty() {
            self.tell(EventKind::StepOutput { step, port, text });
        }
    }

    pub(super) fn emitted(&mut self, event: PluginEvent) {
        if self.report.plugin_events.len() < REPORTED_EVENTS {
            self.report.plugin_events.push(event.clone());
        } else {
            self.report.plugin_events_omitted += 1;
        }
        self.tell(EventKind::Plugin(event));
    }

    pub(super) fn warn(&mut self, message: String) {
        self.report.warnings.push(message.clone());
        self.tell(EventKind::Warning { message });
    }

    pub(super) fn report(mut self) -> RunReport {
        self.report.outcome = self.outcome();
        self.report.results_kept = self.execution.kept.load(Ordering::Relaxed);
        self.report.duration = self.begun.elapsed();
        let steps = std::mem::take(&mut self.settled)
            .into_iter()
            .enumerate()
            .map(|(step, settled)| {
                let Settled {
                    outcome,
                    provenance,
                    duration,
                } = settled.unwrap_or_else(|| Settled {
                    outcome: StepOutcome::skipped("the run ended before it"),
                    provenance: Provenance::default(),
                    duration: Duration::ZERO,
                });
                let output = self.output.remove(&step).unwrap_or_default().into();
                StepReport {
                    step: self.head(step),
                    outcome,
                    provenance,
                    duration,
                    output,
                }
            });
        self.report.steps = steps.collect();
        let RunReport {
            outcome, duration, ..
        } = &self.report;
        let (outcome, duration) = (outcome.clone(), *duration);
        // Told last, once the record has it: whoever hears it may go by the record.
        let ended = self.event(EventKind::RunEnded {
            outcome: outcome.clone(),
            duration,
        });
        let written = self.write(&ended);
        self.keep_on(written);
        let events = match self.transcript.take().map(|transcript| transcript.finish()) {
            Some(Ok(digest)) => Some(digest),
            Some(Err(error)) => {
                self.warn(format!("the events are not kept whole: {error}"));
                None
            }
            None => None,
        };
        let recorded = self.execution.journal.ended(&RunEnded {
            outcome,
            micros: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            events,
        });
        if let Err(error) = recorded {
            self.warn(format!("the end of the run is not recorded: {error}"));
        }
        (self.observer)(&ended);
        self.report
    }

    pub(super) fn tell(&mut self, kind: EventKind) {
        let event = self.event(kind);
        let written = self.write(&event);
        (self.observer)(&event);
        self.keep_on(written);
    }

    fn event(&self, kind: EventKind) -> RunEvent {
        RunEvent {
            version: EVENT_VERSION,
            run: self.execution.options.id,
            timestamp: now(),
            kind,
        }
    }

    /// Adds an event to the transcript, where there is one.
    fn write(&mut self, event: &RunEvent) -> Option<Result<(), RecordError>> {
        let transcript = self.transcript.as_mut();
        transcript.map(|transcript| transcript.write(event))
    }

    pub(super) fn flush(&mut self) {
        let flushed = self
            .transcript
            .as_mut()
            .map(|transcript| transcript.flush());
        self.keep_on(flushed);
    }

    /// Gives the transcript up where it could not be written. The log has what a resumption needs; only
    /// what people read is lost.
    fn keep_on(&mut self, written: Option<Result<(), RecordError>>) {
        if let Some(Err(error)) = written {
            self.transcript = None;
            self.warn(format!("events are no longer kept: {error}"));
        }
    }
}
