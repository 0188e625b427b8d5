//! What the events of a run say of it, taken together: the run's report again, as far as it got.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use crate::event::{EVENT_VERSION, EventKind, RunEvent, RunId, StepHead};
use crate::report::{
    OutputLine, PluginEvent, PluginMetrics, Provenance, REPORTED_EVENTS, REPORTED_LINES,
    RunOutcome, RunReport, StepOutcome, StepReport, StreamReport,
};

/// What was told of a run until now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    begun: Option<Begun>,
    /// How each step has ended, by its key.
    ends: BTreeMap<String, End>,
    /// The try that each step is at or ended with, by its key.
    attempts: BTreeMap<String, u32>,
    /// The last lines of each step's last try.
    output: BTreeMap<String, VecDeque<OutputLine>>,
    streams: Vec<StreamReport>,
    metrics: Vec<PluginMetrics>,
    plugin_events: Vec<PluginEvent>,
    plugin_events_omitted: u64,
    warnings: Vec<String>,
    over: Option<(RunOutcome, Duration)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Begun {
    run: RunId,
    pipeline: String,
    file: PathBuf,
    time: u64,
    steps: Vec<StepHead>,
}

#[derive(Clone, Debug, PartialEq)]
struct End {
    outcome: StepOutcome,
    provenance: Provenance,
    duration: Duration,
}

impl Told {
    /// Takes in the next event.
    pub fn take(&mut self, event: RunEvent) {
        match event.kind {
            EventKind::RunStarted {
                pipeline,
                file,
                steps,
                ..
            } => {
                // One that is resumed tells anew of what is done, and of nothing else.
                let time = self.begun.as_ref().map(|begun| begun.time);
                self.begun = Some(Begun {
                    run: event.run,
                    pipeline,
                    file,
                    time: time.unwrap_or(event.timestamp),
                    steps,
                });
                self.ends.clear();
                self.over = None;
            }
            EventKind::StepStarted { step, attempt } => {
                self.output.remove(&step);
                self.ends.remove(&step);
                self.attempts.insert(step, attempt);
            }
            EventKind::StepOutput { step, port, text } => {
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
            }
            EventKind::StepEnded {
                step,
                outcome,
                provenance,
                duration,
            } => {
                let end = End {
                    outcome,
                    provenance,
                    duration,
                };
                self.ends.insert(step, end);
            }
            EventKind::StreamEnded(stream) => self.streams.push(stream),
            EventKind::Metrics(metrics) => self.metrics.push(metrics),
            EventKind::Plugin(event) if self.plugin_events.len() < REPORTED_EVENTS => {
                self.plugin_events.push(event);
            }
            EventKind::Plugin(_) => self.plugin_events_omitted += 1,
            EventKind::Warning { message } => self.warnings.push(message),
            EventKind::RunEnded { outcome, duration } => self.over = Some((outcome, duration)),
            EventKind::StepProgress { .. } | EventKind::StepRetried { .. } => {}
        }
    }

    /// The steps, in the order of the plan; none before the run has begun.
    pub fn steps(&self) -> &[StepHead] {
        self.begun.as_ref().map_or(&[], |begun| &begun.steps)
    }

    /// How a step has ended, and how it came to that; none where it has not.
    pub fn end_of(&self, step: &str) -> Option<(&StepOutcome, &Provenance, Duration)> {
        let end = self.ends.get(step)?;
        Some((&end.outcome, &end.provenance, end.duration))
    }

    /// The number of the try that a step is at, or ended with; none where it did not start.
    pub fn attempt_of(&self, step: &str) -> Option<u32> {
        self.attempts.get(step).copied()
    }

    /// The last lines that a step wrote in its last try, at most [`REPORTED_LINES`].
    pub fn output_of(&self, step: &str) -> Vec<OutputLine> {
        self.output
            .get(step)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// What went wrong and failed nothing.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether the end of the run was told.
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// The report that the run ended with; none when its beginning or its end was not told.
    pub fn into_report(mut self) -> Option<RunReport> {
        let begun = self.begun?;
        let (outcome, duration) = self.over?;
        let mut steps = Vec::with_capacity(begun.steps.len());
        for step in begun.steps {
            // Every step has an end before the run has.
            let end = self.ends.remove(&step.key)?;
            let output = self.output.remove(&step.key).unwrap_or_default();
            steps.push(StepReport {
                step,
                outcome: end.outcome,
                provenance: end.provenance,
                duration: end.duration,
                output: output.into(),
            });
        }
        Some(RunReport {
            version: EVENT_VERSION,
            run: begun.run,
            pipeline: begun.pipeline,
            file: begun.file,
            started: begun.time,
            duration,
            outcome,
            steps,
            streams: self.streams,
            metrics: self.metrics,
            plugin_events: self.plugin_events,
            plugin_events_omitted: self.plugin_events_omitted,
            warnings: self.warnings,
            results_kept: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(events: impl IntoIterator<Item = Value>) -> Told {
        let run = RunId::generate();
        let mut told = Told::default();
        for (index, mut event) in events.into_iter().enumerate() {
            event["version"] = EVENT_VERSION.into();
            event["run"] = run.to_string().into();
            event["timestamp"] = (index as u64 + 1).into();
            told.take(serde_json::from_value(event).unwrap());
        }
        told
    }

    fn begun(resumed: bool) -> Value {
        let step = |key: &str| json!({ "key": key, "uses": "exec" });
        json!({
            "event": "run-started", "pipeline": "p", "file": "p.toml", "resumed": resumed,
            "steps": [step("a"), step("b")],
        })
    }

    fn ended(step: &str, status: &str) -> Value {
        let mut event = json!({
            "event": "step-ended", "step": step, "status": status, "seconds": 1.0, "attempts": 1,
        });
        if status == "succeeded" {
            event["summary"] = "done".into();
            event["attributes"] = json!([]);
        } else {
            event["cause"] = "code".into();
            event["code"] = 1.into();
            event["message"] = "exit code 1".into();
        }
        event
    }

    #[test]
    fn the_report_of_a_run_follows_from_its_events() {
        let line = |text: &str| json!({ "event": "step-output", "step": "b", "port": "stderr", "text": text });
        let told = told([
            begun(false),
            json!({ "event": "step-started", "step": "a", "attempt": 1 }),
            ended("a", "succeeded"),
            json!({ "event": "step-started", "step": "b", "attempt": 1 }),
            line("of the first try\n"),
            json!({ "event": "step-started", "step": "b", "attempt": 2 }),
            line("one\ntwo\n"),
            ended("b", "failed"),
            json!({ "event": "warning", "message": "careful" }),
            json!({ "event": "run-ended", "status": "failed", "seconds": 2.0 }),
        ]);
        assert!(told.is_over());
        assert_eq!(told.attempt_of("b"), Some(2));
        let report = told.into_report().unwrap();
        assert_eq!(report.outcome, RunOutcome::Failed);
        assert_eq!((report.started, report.warnings.len()), (1, 1));
        let keys: Vec<&str> = report
            .steps
            .iter()
            .map(|step| step.step.key.as_str())
            .collect();
        assert_eq!(keys, ["a", "b"]);
        let lines: Vec<&str> = report.steps[1]
            .output
            .iter()
            .map(|line| line.text.as_str())
            .collect();
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_run_that_is_resumed_is_not_over_and_keeps_its_beginning() {
        let told = told([
            begun(false),
            json!({ "event": "step-started", "step": "a", "attempt": 1 }),
            json!({ "event": "run-ended", "status": "cancelled", "seconds": 2.0 }),
            begun(true),
        ]);
        assert!(!told.is_over());
        assert_eq!(told.begun.as_ref().map(|begun| begun.time), Some(1));
        assert!(told.end_of("a").is_none());
        assert!(told.into_report().is_none());
    }
}
