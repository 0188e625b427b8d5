//! The dispatcher: owns the state of a run and decides what happens next.
//!
//! One loop on the caller's thread. It waits for messages from executors, for the time-out of a step
//! and for cancellation, brings its state up to date, tells the observer, and starts what may start.
//!
//! | module | owns |
//! |---|---|
//! | `beginning` | the run's first entry in the record, and what an earlier run has done of it |
//! | `conditions` | which group starts next, and why a step is skipped |
//! | `deadlines` | when a try of a step has taken too long |
//! | `telling` | events, their transcript, and the report |
//!
//! What must stay true: nothing here calls a plugin or waits for one; each step gets its outcome once; and
//! nothing is told before what brought it about. So a failure, which is known before it is recorded and told, at
//! first only keeps others from starting and tells what runs to end.

mod beginning;
mod conditions;
mod deadlines;
mod telling;

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{TryRecvError, at, bounded, never, select_biased};
use serde_json::Value;

use super::execute::{Execution, Reason};
use super::hooks::Abort;
use super::message::{Ended, Message, Progress, Reporter};
use super::{Engine, RunOptions, instances};
use crate::event::{EVENT_VERSION, EventKind, RunEvent, StepHead, now};
use crate::graph::{GroupIndex, StepIndex};
use crate::ports::Mask;
use crate::record::RecordError;
use crate::report::{
    Cause, OutputLine, PluginEvent, Provenance, RunOutcome, RunReport, StepOutcome,
};
use crate::schedule::{Amount, Schedule};
use beginning::{done_earlier, record_start};
use deadlines::Deadline;

/// Messages that wait for the dispatcher before whoever sends one waits too.
const MESSAGES: usize = 256;

/// Carries the plan of `engine` out.
pub(crate) fn run(
    engine: &Engine,
    options: &RunOptions,
    observer: &mut dyn FnMut(&RunEvent),
) -> Result<RunReport, RecordError> {
    let span =
        tracing::info_span!("vox.run", run = %options.id, pipeline = engine.plan.pipeline.name);
    let _entered = span.enter();
    let (sender, messages) = bounded(MESSAGES);
    let secrets = engine.cast.surroundings.secrets.values();
    let mask = Arc::new(Mask::new(secrets.map(String::as_str)));
    let reporter = Reporter::new(sender, mask);
    // Nobody else carries the run out as long as this is kept.
    let claim = options
        .record
        .as_ref()
        .map(|record| record.claim(options.id))
        .transpose()?;
    let earlier = done_earlier(&engine.plan, options)?;
    let execution = &Execution::new(engine, options, earlier, reporter, span.clone());
    let pruned = record_start(execution)?;
    let mut dispatcher = Dispatcher::new(execution, observer)?;
    dispatcher.begin();
    if pruned.runs > 0 {
        dispatcher.warn(pruned.to_string());
    }
    let mut cancelled = options.cancel.cancelled().clone();
    thread::scope(|scope| {
        // Owned here, so that an observer that panics takes the channel down with it and no
        // executor is left waiting for room in it.
        let messages = messages;
        scope.spawn(|| execution.open());
        while dispatcher.phase != Phase::Closed {
            // Not only when the timer says so, which is not asked while there is more to hear.
            dispatcher.time_out();
            let next = match messages.try_recv() {
                Ok(message) if !options.cancel.is_cancelled() => Some(message),
                Ok(message) => {
                    cancelled = never();
                    dispatcher.cancel();
                    Some(message)
                }
                // Nothing happens right now: a good moment to let others read what has.
                Err(TryRecvError::Empty) => {
                    dispatcher.flush();
                    let timer = dispatcher.next_deadline().map_or_else(never, at);
                    // Cancellation goes first, so that nothing more starts once it is known.
                    select_biased! {
                        recv(cancelled) -> _ => {
                            cancelled = never();
                            dispatcher.cancel();
                            None
                        }
                        // The execution keeps a sender, so there is always a message.
                        recv(messages) -> message => message.ok(),
                        recv(timer) -> _ => None,
                    }
                }
                Err(TryRecvError::Disconnected) => None,
            };
            if let Some(message) = next {
                dispatcher.take(message);
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
    let report = dispatcher.report();
    drop(claim);
    Ok(report)
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

/// A step that is settled.
#[derive(Clone, Debug)]
struct Settled {
    outcome: StepOutcome,
    provenance: Provenance,
    duration: Duration,
}

struct Dispatcher<'a> {
    execution: &'a Execution<'a>,
    observer: &'a mut dyn FnMut(&RunEvent),
    transcript: Option<crate::record::TranscriptWriter>,
    phase: Phase,
    schedule: Schedule<'a>,
    /// What became of each step, once it is settled.
    settled: Vec<Option<Settled>>,
    deadlines: BinaryHeap<Deadline>,
    /// Steps that have failed and end the run, and whose groups have not ended yet.
    failing: BTreeSet<StepIndex>,
    /// Ends of groups that were cancelled because of them.
    late: Vec<Vec<Ended>>,
    /// The last lines that each step wrote in its last try.
    output: BTreeMap<StepIndex, VecDeque<OutputLine>>,
    /// Bytes that each step has written so far; more than is kept only once that was told.
    written: BTreeMap<StepIndex, u64>,
    begun: Instant,
    cancelled: bool,
    aborted: Option<Abort>,
    /// Filled as the run goes on.
    report: RunReport,
}

impl<'a> Dispatcher<'a> {
    fn new(
        execution: &'a Execution<'a>,
        observer: &'a mut dyn FnMut(&RunEvent),
    ) -> Result<Self, RecordError> {
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
            results_kept: 0,
        };
        let graph = plan.graph();
        // A step of which nothing is known counts as one second.
        let weight = |step: StepIndex| {
            let expected = options.expected.get(&plan.steps[step].key);
            let expected = expected.copied().unwrap_or(Duration::from_secs(1));
            u64::try_from(expected.as_micros())
                .unwrap_or(u64::MAX)
                .max(1)
        };
        let machine = engine.cast.surroundings.machine;
        let room = Amount {
            cpus: options.jobs.get() as u64,
            memory: machine.memory,
            gpus: machine.gpus.into(),
        };
        let costs = |step: StepIndex| Amount::of(&plan.steps[step].resources);
        let record = options.record.as_ref();
        Ok(Self {
            execution,
            observer,
            transcript: record
                .map(|record| record.transcript(options.id))
                .transpose()?,
            phase: Phase::Opening,
            schedule: Schedule::new(
                graph,
                graph.ranks(weight),
                costs,
                room,
                instances::of_groups(engine),
            ),
            settled: vec![None; plan.steps.len()],
            deadlines: BinaryHeap::new(),
            failing: BTreeSet::new(),
            late: Vec::new(),
            output: BTreeMap::new(),
            written: BTreeMap::new(),
            begun: Instant::now(),
            cancelled: false,
            aborted: None,
            report,
        })
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Opened(answer) => self.opened(answer),
            Message::Started {
                step,
                attempt,
                stop,
            } => {
                if let Some(limit) = self.execution.step(step).timeout
                    && let Some(at) = Instant::now().checked_add(limit.0)
                {
                    self.deadlines.push(Deadline {
                        at,
                        limit: limit.0,
                        stop,
                    });
                }
                self.output.remove(&step);
                self.tell(EventKind::StepStarted {
                    step: self.key(step),
                    attempt,
                });
            }
            Message::Output { step, port, text } => self.written(step, port, text),
            Message::Progress { step, progress } => {
                let Progress {
                    done,
                    total,
                    message,
                } = progress;
                self.tell(EventKind::StepProgress {
                    step: self.key(step),
                    done,
                    total,
                    message,
                });
            }
            Message::Failing { step } => {
                if !self.execution.options.keep_going {
                    self.failing.insert(step);
                    self.schedule.hold();
                    let reason = Reason::Other(self.failure_of(step));
                    self.execution.stop_running(&reason);
                }
            }
            Message::Retried {
                step,
                attempt,
                outcome,
                wait,
            } => self.tell(EventKind::StepRetried {
                step: self.key(step),
                attempt,
                outcome,
                wait,
            }),
            Message::Ended(ends) => self.group_ended(ends),
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
            Message::Warning(message) => self.warn(message),
            Message::Closed => self.phase = Phase::Closed,
        }
    }

    fn opened(&mut self, answer: Result<(), Abort>) {
        self.phase = Phase::Running;
        if let Err(abort) = answer {
            self.halt(&abort.to_string(), true);
            self.aborted = Some(abort);
        }
    }

    /// Ends the run at the user's wish.
    fn cancel(&mut self) {
        if matches!(self.phase, Phase::Opening | Phase::Running) && !self.cancelled {
            self.cancelled = true;
            self.halt("the run was cancelled", true);
        }
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
                .map_or("skipped", |settled| settled.outcome.status());
            (self.key(step), Value::from(status))
        });
        let statuses: serde_json::Map<String, Value> = statuses.collect();
        let mut detail = serde_json::to_value(self.outcome()).unwrap_or_default();
        detail["steps"] = Value::Object(statuses);
        Some(detail)
    }

    fn cannot_start(&mut self, group: GroupIndex, error: &str) {
        let members = &self.execution.engine.plan.graph().groups()[group].members;
        let message = format!("no thread could be started for it: {error}");
        let outcome = StepOutcome::failed(Cause::Internal, message);
        self.ended(Ended::of_all(members, members[0], &outcome));
    }

    /// What was cancelled because a step is failing waits for the end of that step, which is told first.
    fn group_ended(&mut self, ends: Vec<Ended>) {
        let is_failing = ends.iter().any(|end| self.failing.contains(&end.step));
        let mut outcomes = ends.iter().map(|end| &end.outcome);
        let was_cancelled = outcomes.any(|end| matches!(end, StepOutcome::Cancelled { .. }));
        if was_cancelled && !is_failing && !self.failing.is_empty() {
            self.late.push(ends);
            return;
        }
        self.ended(ends);
        if self.failing.is_empty() {
            for ends in std::mem::take(&mut self.late) {
                self.ended(ends);
            }
        }
    }

    fn ended(&mut self, ends: Vec<Ended>) {
        for end in ends {
            let Ended {
                step,
                outcome,
                duration,
                provenance,
                ..
            } = end;
            // Its group may have been tried once more all the same, and ended in another way.
            let was_failing = self.failing.remove(&step);
            let has_failed = was_failing || matches!(outcome, StepOutcome::Failed { .. });
            let succeeded = outcome.is_success();
            self.settle(step, outcome, provenance, duration);
            let skips = if succeeded {
                self.schedule.succeeded(step)
            } else {
                self.schedule.failed(step)
            };
            for skip in skips {
                let outcome = self.skipped(&skip);
                self.settle(skip.step, outcome, Provenance::default(), Duration::ZERO);
            }
            if has_failed && !self.execution.options.keep_going {
                self.halt(&self.failure_of(step), false);
            }
        }
    }

    /// Why others end or do not start when a step fails.
    fn failure_of(&self, step: StepIndex) -> String {
        format!("step `{}` failed", self.key(step))
    }

    /// Gives up what has not started, and tells what runs to end; steps that run whatever became of
    /// others stay, unless `all` is to end.
    fn halt(&mut self, reason: &str, all: bool) {
        for step in self.schedule.stop(all) {
            if self.settled[step].is_none() {
                let outcome = StepOutcome::skipped(reason);
                self.settle(step, outcome, Provenance::default(), Duration::ZERO);
            }
        }
        let reason = Reason::Other(reason.to_owned());
        if all {
            self.execution.halt(&reason);
        } else {
            self.execution.stop_running(&reason);
        }
    }

    fn settle(
        &mut self,
        step: StepIndex,
        outcome: StepOutcome,
        provenance: Provenance,
        duration: Duration,
    ) {
        self.settled[step] = Some(Settled {
            outcome: outcome.clone(),
            provenance: provenance.clone(),
            duration,
        });
        self.tell(EventKind::StepEnded {
            step: self.key(step),
            outcome,
            provenance,
            duration,
        });
    }

    fn outcome(&self) -> RunOutcome {
        let well = |settled: &Option<Settled>| {
            settled
                .as_ref()
                .is_some_and(|settled| settled.outcome.is_well())
        };
        match &self.aborted {
            Some(Abort { plugin, reason }) => RunOutcome::Aborted {
                by: plugin.clone(),
                reason: reason.clone(),
            },
            None if self.settled.iter().all(well) => RunOutcome::Succeeded,
            None if self.cancelled => RunOutcome::Cancelled,
            None => RunOutcome::Failed,
        }
    }

    fn head(&self, step: StepIndex) -> StepHead {
        let Engine { plan, cast, .. } = self.execution.engine;
        let planned = &plan.steps[step];
        StepHead {
            key: planned.key.clone(),
            label: planned.label.clone(),
            uses: planned.uses.clone(),
            plugin: cast.runners[step].plugin().cloned(),
            needs: planned.needs.clone(),
        }
    }

    fn key(&self, step: StepIndex) -> String {
        self.execution.engine.plan.steps[step].key.clone()
    }
}
