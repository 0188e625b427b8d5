//! The dispatcher: owns the state of a run and decides what happens next.
//!
//! One loop on the caller's thread. It waits for messages from executors and for cancellation,
//! brings its state up to date, tells the observer, and starts what may start. What must stay
//! true: nothing here calls a plugin or waits for one, and each step gets its outcome once.

use std::collections::{BTreeMap, VecDeque};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, never, select_biased};
use serde_json::Value;

use super::execute::Execution;
use super::hooks::Abort;
use super::message::{Message, Reporter};
use super::{Engine, RunOptions};
use crate::event::{EVENT_VERSION, EventKind, RunEvent, StepHead, now};
use crate::graph::{GroupIndex, StepIndex};
use crate::report::{
    OutputLine, PluginEvent, REPORTED_EVENTS, REPORTED_LINES, RunOutcome, RunReport, StepOutcome,
    StepReport,
};
use crate::schedule::{Schedule, Skip};

/// Messages that wait for the dispatcher before whoever sends one waits too.
const MESSAGES: usize = 256;

/// Carries the plan of `engine` out.
pub(crate) fn run(
    engine: &Engine,
    options: &RunOptions,
    observer: &mut dyn FnMut(&RunEvent),
) -> RunReport {
    let span =
        tracing::info_span!("vox.run", run = %options.id, pipeline = engine.plan.pipeline.name);
    let _entered = span.enter();
    let (sender, messages) = bounded(MESSAGES);
    let execution = &Execution::new(engine, options, Reporter::new(sender), span.clone());
    let mut dispatcher = Dispatcher::new(execution, observer);
    let mut cancelled = options.cancel.cancelled().clone();
    thread::scope(|scope| {
        // Owned here, so that an observer that panics takes the channel down with it and no
        // executor is left waiting for room in it.
        let messages = messages;
        scope.spawn(|| execution.open());
        while dispatcher.phase != Phase::Closed {
            // Cancellation goes first, so that nothing more starts once it is known.
            select_biased! {
                recv(cancelled) -> _ => {
                    cancelled = never();
                    dispatcher.cancel();
                }
                recv(messages) -> message => {
                    // The execution keeps a sender, so there is always a message.
                    message.into_iter().for_each(|message| dispatcher.take(message));
                }
            }
            while let Some(group) = dispatcher.start() {
                let body = move || execution.group(group);
                if let Err(error) = thread::Builder::new().spawn_scoped(scope, body) {
                    dispatcher.cannot_start(group, &error.to_string());
                }
            }
            if let Some(detail) = dispatcher.close() {
                scope.spawn(|| execution.close(detail));
            }
        }
    });
    dispatcher.report()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The hooks are being asked whether the run may begin.
    Opening,
    Running,
    /// The hooks are being told how it ended.
    Closing,
    Closed,
}

struct Dispatcher<'a> {
    execution: &'a Execution<'a>,
    observer: &'a mut dyn FnMut(&RunEvent),
    phase: Phase,
    schedule: Schedule<'a>,
    /// What became of each step, once it is settled.
    settled: Vec<Option<(StepOutcome, Duration)>>,
    /// The last lines that each step wrote.
    output: BTreeMap<StepIndex, VecDeque<OutputLine>>,
    begun: Instant,
    cancelled: bool,
    aborted: Option<Abort>,
    /// Filled as the run goes on.
    report: RunReport,
}

impl<'a> Dispatcher<'a> {
    fn new(execution: &'a Execution<'a>, observer: &'a mut dyn FnMut(&RunEvent)) -> Self {
        let Execution {
            engine, options, ..
        } = execution;
        let plan = &engine.plan;
        let report = RunReport {
            version: EVENT_VERSION,
            run: options.id,
            pipeline: plan.pipeline.name.clone(),
            file: plan.file().to_owned(),
            started: now(),
            duration: Duration::ZERO,
            outcome: RunOutcome::Cancelled,
            steps: Vec::new(),
            streams: Vec::new(),
            metrics: Vec::new(),
            plugin_events: Vec::new(),
            plugin_events_omitted: 0,
            warnings: Vec::new(),
        };
        let mut dispatcher = Self {
            execution,
            observer,
            phase: Phase::Opening,
            schedule: Schedule::new(plan.graph(), options.jobs),
            settled: vec![None; plan.steps.len()],
            output: BTreeMap::new(),
            begun: Instant::now(),
            cancelled: false,
            aborted: None,
            report,
        };
        let steps = (0..plan.steps.len())
            .map(|step| dispatcher.head(step))
            .collect();
        dispatcher.tell(EventKind::RunStarted {
            pipeline: plan.pipeline.name.clone(),
            steps,
        });
        dispatcher
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Opened(answer) => self.opened(answer),
            Message::Started { step } => self.tell(EventKind::StepStarted {
                step: self.key(step),
            }),
            Message::Output { step, port, text } => self.written(step, port, text),
            Message::Ended {
                step,
                outcome,
                duration,
                interrupted,
            } => {
                self.ended(step, outcome, duration, interrupted);
            }
            Message::StreamEnded(stream) => {
                self.report.streams.push(stream.clone());
                self.tell(EventKind::StreamEnded(stream));
            }
            Message::Measured(metrics) => {
                self.report.metrics.push(metrics.clone());
                self.tell(EventKind::Metrics(metrics));
            }
            Message::Emitted {
                step,
                plugin,
                name,
                payload,
            } => {
                let payload = serde_json::from_str(&payload).unwrap_or(Value::String(payload));
                self.emitted(PluginEvent {
                    plugin,
                    step: step.map(|step| self.key(step)),
                    name,
                    payload,
                });
            }
            Message::Warning(message) => {
                self.report.warnings.push(message.clone());
                self.tell(EventKind::Warning { message });
            }
            Message::Closed => self.phase = Phase::Closed,
        }
    }

    fn opened(&mut self, answer: Result<(), Abort>) {
        self.phase = Phase::Running;
        if let Err(abort) = answer {
            self.halt(&abort.to_string());
            self.aborted = Some(abort);
        }
    }

    /// Ends the run at the user's wish.
    fn cancel(&mut self) {
        if matches!(self.phase, Phase::Opening | Phase::Running) {
            self.cancelled = true;
            self.halt("the run was cancelled");
        }
    }

    /// The next group to start.
    fn start(&mut self) -> Option<GroupIndex> {
        (self.phase == Phase::Running)
            .then(|| self.schedule.start())
            .flatten()
    }

    /// What the hooks are to be told, once all steps are settled.
    fn close(&mut self) -> Option<Value> {
        if self.phase != Phase::Running || !self.schedule.is_over() {
            return None;
        }
        self.phase = Phase::Closing;
        let statuses = self.settled.iter().enumerate().map(|(step, settled)| {
            let status = settled
                .as_ref()
                .map_or("skipped", |(outcome, _)| outcome.status());
            (self.key(step), Value::from(status))
        });
        let statuses: serde_json::Map<String, Value> = statuses.collect();
        let mut detail = serde_json::to_value(self.outcome()).unwrap_or_default();
        detail["steps"] = Value::Object(statuses);
        Some(detail)
    }

    fn cannot_start(&mut self, group: GroupIndex, error: &str) {
        let members = &self.execution.engine.plan.graph().groups()[group].members;
        for step in members {
            let message = format!("no thread could be started for it: {error}");
            self.ended(*step, StepOutcome::failed(message), Duration::ZERO, false);
        }
    }

    fn ended(
        &mut self,
        step: StepIndex,
        outcome: StepOutcome,
        duration: Duration,
        interrupted: bool,
    ) {
        let outcome = match (outcome, self.execution.stops[step].reason()) {
            (StepOutcome::Failed { .. }, Some(reason)) if interrupted => StepOutcome::Cancelled {
                reason: reason.to_owned(),
            },
            (outcome, _) => outcome,
        };
        let key = self.key(step);
        let failed = matches!(outcome, StepOutcome::Failed { .. });
        if outcome.is_success() {
            self.settle(step, outcome, duration);
            return self.schedule.succeeded(step);
        }
        self.settle(step, outcome, duration);
        for skip in self.schedule.failed(step) {
            let reason = self.why(&skip);
            self.settle(skip.step, StepOutcome::Skipped { reason }, Duration::ZERO);
        }
        if failed && !self.execution.options.keep_going {
            self.halt(&format!("step `{key}` failed"));
        }
        self.stop_readers(step, &key);
    }

    /// Stops the steps that read from one that did not succeed. They would notice; this is for
    /// those that are busy with something else.
    fn stop_readers(&self, writer: StepIndex, key: &str) {
        let graph = self.execution.engine.plan.graph();
        let group = &graph.groups()[graph.group_of(writer)];
        for stream in group.streams.iter().map(|index| &graph.streams()[*index]) {
            if stream.writer == writer && self.settled[stream.reader].is_none() {
                let reason = format!("its input `{}` from step `{key}` broke off", stream.input);
                self.execution.stops[stream.reader].stop(&reason);
            }
        }
    }

    /// Gives up what has not started and cancels what runs.
    fn halt(&mut self, reason: &str) {
        for step in self.schedule.stop() {
            self.settle(
                step,
                StepOutcome::Skipped {
                    reason: reason.to_owned(),
                },
                Duration::ZERO,
            );
        }
        for (settled, stop) in self.settled.iter().zip(&self.execution.stops) {
            if settled.is_none() {
                stop.stop(reason);
            }
        }
        self.execution
            .channels
            .iter()
            .for_each(|channel| channel.cancel());
    }

    fn settle(&mut self, step: StepIndex, outcome: StepOutcome, duration: Duration) {
        self.settled[step] = Some((outcome.clone(), duration));
        self.tell(EventKind::StepEnded {
            step: self.key(step),
            outcome,
            duration,
        });
    }

    fn written(&mut self, step: StepIndex, port: String, text: String) {
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
        self.tell(EventKind::StepOutput {
            step: self.key(step),
            port,
            text,
        });
    }

    fn emitted(&mut self, event: PluginEvent) {
        if self.report.plugin_events.len() < REPORTED_EVENTS {
            self.report.plugin_events.push(event.clone());
        } else {
            self.report.plugin_events_omitted += 1;
        }
        self.tell(EventKind::Plugin(event));
    }

    fn report(mut self) -> RunReport {
        self.report.outcome = self.outcome();
        self.report.duration = self.begun.elapsed();
        let steps = std::mem::take(&mut self.settled)
            .into_iter()
            .enumerate()
            .map(|(step, settled)| {
                let unsettled = || {
                    let reason = "the run ended before it".to_owned();
                    (StepOutcome::Skipped { reason }, Duration::ZERO)
                };
                let (outcome, duration) = settled.unwrap_or_else(unsettled);
                let output = self.output.remove(&step).unwrap_or_default().into();
                StepReport {
                    step: self.head(step),
                    outcome,
                    duration,
                    output,
                }
            });
        self.report.steps = steps.collect();
        let RunReport {
            outcome, duration, ..
        } = &self.report;
        self.tell(EventKind::RunEnded {
            outcome: outcome.clone(),
            duration: *duration,
        });
        self.report
    }

    fn outcome(&self) -> RunOutcome {
        let succeeded = |settled: &Option<(StepOutcome, Duration)>| {
            settled
                .as_ref()
                .is_some_and(|(outcome, _)| outcome.is_success())
        };
        match &self.aborted {
            Some(Abort { plugin, reason }) => RunOutcome::Aborted {
                by: plugin.clone(),
                reason: reason.clone(),
            },
            None if self.settled.iter().all(succeeded) => RunOutcome::Succeeded,
            None if self.cancelled => RunOutcome::Cancelled,
            None => RunOutcome::Failed,
        }
    }

    /// Why a step is skipped, in words.
    fn why(&self, skip: &Skip) -> String {
        let Skip {
            step,
            held_by,
            need,
        } = *skip;
        let settled = self.settled[need].as_ref();
        let became = match settled.map_or("skipped", |(outcome, _)| outcome.status()) {
            "failed" => "failed",
            "cancelled" => "was cancelled",
            _ => "was skipped",
        };
        let need = self.key(need);
        if held_by == step {
            return format!("it needs `{need}`, which {became}");
        }
        let held_by = self.key(held_by);
        format!("it starts together with `{held_by}`, which needs `{need}`, which {became}")
    }

    fn head(&self, step: StepIndex) -> StepHead {
        let Engine { plan, cast, .. } = self.execution.engine;
        let planned = &plan.steps[step];
        StepHead {
            key: planned.key.clone(),
            label: planned.label.clone(),
            uses: planned.uses.clone(),
            plugin: cast.runners[step].clone(),
        }
    }

    fn key(&self, step: StepIndex) -> String {
        self.execution.engine.plan.steps[step].key.clone()
    }

    fn tell(&mut self, kind: EventKind) {
        let run = self.execution.options.id;
        (self.observer)(&RunEvent {
            version: EVENT_VERSION,
            run,
            timestamp: now(),
            kind,
        });
    }
}
