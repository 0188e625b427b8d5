//! The dispatcher: owns the state of a run and decides what happens next.
//!
//! One loop on the caller's thread. It waits for messages from executors, for the time-out of a step
//! and for cancellation, brings its state up to date, tells the observer, and starts what may start.
//! What must stay true: nothing here calls a plugin or waits for one, and each step gets its outcome
//! once.

use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{TryRecvError, at, bounded, never, select_biased};
use serde_json::Value;

use super::execute::{Execution, Reason, Stop};
use super::hooks::Abort;
use super::message::{Ended, Message, Progress, Reporter};
use super::{Engine, RunOptions};
use crate::event::{EVENT_VERSION, EventKind, RunEvent, StepHead, now};
use crate::graph::{GroupIndex, StepIndex};
use crate::plan::{Fate, PortRef};
use crate::ports::Mask;
use crate::record::{Pruned, RecordError, RunEnded, RunStarted, StepEnd, StepsEnded};
use crate::report::{
    Cause, OutputLine, PluginEvent, Provenance, REPORTED_EVENTS, REPORTED_LINES, RunOutcome,
    RunReport, StepOutcome, StepReport,
};
use crate::schedule::{Amount, Schedule, Skip};

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
    let execution = &Execution::new(engine, options, reporter, span.clone());
    // Nobody else carries the run out as long as this is kept.
    let claim = options
        .record
        .as_ref()
        .map(|record| record.claim(options.id))
        .transpose()?;
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
                        recv(timer) -> _ => {
                            dispatcher.time_out();
                            None
                        }
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

/// Records that the run begins, or that it goes on; answers what had to go of the events of old ones.
fn record_start(execution: &Execution<'_>) -> Result<Pruned, RecordError> {
    let Execution {
        engine,
        options,
        journal,
        earlier,
        ..
    } = execution;
    let Some(record) = &options.record else {
        return Ok(Pruned::default());
    };
    let pruned = record.prune(options.retention);
    if earlier.of == Some(options.id) {
        journal.resumed()?;
        return Ok(pruned);
    }
    let plan = &engine.plan;
    let text = record.store.put_bytes(plan.text().as_bytes())?;
    journal.started(&RunStarted {
        pipeline: plan.pipeline.name.clone(),
        file: plan.file().display().to_string(),
        directory: execution.directory.display().to_string(),
        plan: text,
        steps: plan.steps.len() as u64,
        keep_going: options.keep_going,
        variables: options.variables.keys().cloned().collect(),
        of: earlier.of,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })?;
    Ok(pruned)
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

/// A moment at which a try of a step has taken too long. The earliest is the greatest.
struct Deadline {
    at: Instant,
    limit: Duration,
    stop: Arc<Stop>,
}

impl PartialEq for Deadline {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Deadline {}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Deadline {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.cmp(&self.at)
    }
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
            schedule: Schedule::new(graph, graph.ranks(weight), costs, room),
            settled: vec![None; plan.steps.len()],
            deadlines: BinaryHeap::new(),
            output: BTreeMap::new(),
            written: BTreeMap::new(),
            begun: Instant::now(),
            cancelled: false,
            aborted: None,
            report,
        })
    }

    /// Tells that the run begins, and what an earlier run has done of it.
    fn begin(&mut self) {
        let plan = &self.execution.engine.plan;
        let earlier = &self.execution.earlier;
        let resumed = earlier.of == Some(self.execution.options.id);
        let steps = (0..plan.steps.len()).map(|step| self.head(step)).collect();
        self.tell(EventKind::RunStarted {
            pipeline: plan.pipeline.name.clone(),
            file: plan.file().to_owned(),
            resumed,
            steps,
        });
        let Some(of) = earlier.of else { return };
        let mut done = Vec::new();
        for group in plan.graph().groups() {
            let ends = group
                .members
                .iter()
                .map(|step| earlier.ends.get(&plan.steps[*step].key));
            let Some(ends) = ends.collect::<Option<Vec<_>>>() else {
                continue;
            };
            if !ends.iter().all(|end| end.outcome.is_success()) {
                continue;
            }
            let ends: Vec<StepEnd> = ends
                .into_iter()
                .map(|end| {
                    let mut end = end.clone();
                    end.provenance.earlier.get_or_insert(of);
                    end
                })
                .collect();
            for (step, end) in group.members.iter().zip(&ends) {
                self.settle(
                    *step,
                    end.outcome.clone(),
                    end.provenance.clone(),
                    end.duration(),
                );
            }
            done.extend(&group.members);
            if !resumed {
                // The new run is whole in the record. What is lost of that is taken over again.
                let ended = StepsEnded {
                    key: earlier.keys.get(&ends[0].step).cloned(),
                    steps: ends,
                    parts: Vec::new(),
                };
                if let Err(error) = self.execution.journal.steps_ended(ended, false) {
                    self.warn(format!(
                        "what an earlier run has done is not recorded: {error}"
                    ));
                }
            }
        }
        self.schedule.done_before(&done);
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
                for skip in self.schedule.lost(step) {
                    let outcome = self.skipped(&skip);
                    self.settle(skip.step, outcome, Provenance::default(), Duration::ZERO);
                }
                if !self.execution.options.keep_going {
                    self.halt(&format!("step `{}` failed", self.key(step)), false);
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
            Message::Ended(ends) => self.ended(ends),
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

    /// The next group to start. One whose condition does not hold is skipped instead.
    fn start(&mut self) -> Option<GroupIndex> {
        while self.phase == Phase::Running {
            let group = self.schedule.start()?;
            let members = &self.execution.engine.plan.graph().groups()[group].members;
            let unmet = members
                .iter()
                .find_map(|step| Some((*step, self.unmet_condition(*step)?)));
            let Some((step, why)) = unmet else {
                return Some(group);
            };
            let key = self.key(step);
            let ends = members.iter().map(|member| {
                let reason = if *member == step {
                    why.clone()
                } else {
                    format!("it starts together with `{key}`, and {why}")
                };
                let outcome = StepOutcome::Skipped {
                    reason,
                    by_condition: true,
                };
                Ended::unstarted(*member, outcome)
            });
            self.ended(ends.collect());
        }
        None
    }

    /// Why the condition of a step does not hold, if it does not.
    fn unmet_condition(&self, step: StepIndex) -> Option<String> {
        let Execution {
            engine, options, ..
        } = self.execution;
        let step = &engine.plan.steps[step];
        let when = step.when.as_ref()?;
        let settled = |key: &str| {
            let index = engine.plan.steps.iter().position(|step| step.key == key)?;
            self.settled[index].as_ref()
        };
        let failed = |key: &String| {
            settled(key).is_some_and(|end| matches!(end.outcome, StepOutcome::Failed { .. }))
        };
        if when.needs == Fate::Failed && !step.needs.iter().any(failed) {
            return Some("nothing that it needs has failed".to_owned());
        }
        for (name, wanted) in &when.environment {
            let value = step
                .environment
                .get(name)
                .or_else(|| options.variables.get(name))
                .or_else(|| options.environment.get(name));
            if value != Some(wanted) {
                return Some(format!("the variable `{name}` is not `{wanted}`"));
            }
        }
        for (PortRef { step: key, port }, wanted) in &when.results {
            let attributes = match settled(key).map(|end| &end.outcome) {
                Some(StepOutcome::Succeeded { attributes, .. }) => attributes.as_slice(),
                _ => &[],
            };
            let found = attributes.iter().find(|attribute| attribute.key == *port);
            if found.map(|attribute| &attribute.value) != Some(wanted) {
                return Some(format!("`{port}` of `{key}` is not `{wanted}`"));
            }
        }
        None
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

    fn ended(&mut self, ends: Vec<Ended>) {
        let mut first_failure = None;
        for end in ends {
            let Ended {
                step,
                outcome,
                duration,
                provenance,
                ..
            } = end;
            if matches!(outcome, StepOutcome::Failed { .. }) {
                first_failure.get_or_insert(step);
            }
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
        }
        if let Some(step) = first_failure
            && !self.execution.options.keep_going
        {
            self.halt(&format!("step `{}` failed", self.key(step)), false);
        }
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

    fn next_deadline(&mut self) -> Option<Instant> {
        // Those of tries that have ended are passed over: nobody else holds their stop.
        while self
            .deadlines
            .peek()
            .is_some_and(|deadline| Arc::strong_count(&deadline.stop) == 1)
        {
            self.deadlines.pop();
        }
        self.deadlines.peek().map(|deadline| deadline.at)
    }

    fn time_out(&mut self) {
        let now = Instant::now();
        while self
            .deadlines
            .peek()
            .is_some_and(|deadline| deadline.at <= now)
        {
            if let Some(Deadline { limit, stop, .. }) = self.deadlines.pop() {
                stop.stop(Reason::TimedOut(limit));
            }
        }
    }

    fn written(&mut self, step: StepIndex, port: String, mut text: String) {
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

    fn emitted(&mut self, event: PluginEvent) {
        if self.report.plugin_events.len() < REPORTED_EVENTS {
            self.report.plugin_events.push(event.clone());
        } else {
            self.report.plugin_events_omitted += 1;
        }
        self.tell(EventKind::Plugin(event));
    }

    fn warn(&mut self, message: String) {
        self.report.warnings.push(message.clone());
        self.tell(EventKind::Warning { message });
    }

    fn report(mut self) -> RunReport {
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

    /// What becomes of a step that is skipped.
    fn skipped(&self, skip: &Skip) -> StepOutcome {
        let Skip {
            step,
            held_by,
            need,
        } = *skip;
        let settled = self.settled[need].as_ref().map(|settled| &settled.outcome);
        let by_condition = matches!(
            settled,
            Some(StepOutcome::Skipped {
                by_condition: true,
                ..
            })
        );
        // One that is not settled has failed a moment ago, and its group has not ended yet.
        let became = match settled.map_or("failed", StepOutcome::status) {
            "failed" => "failed",
            "cancelled" => "was cancelled",
            _ => "was skipped",
        };
        let need = self.key(need);
        let reason = if held_by == step {
            format!("it needs `{need}`, which {became}")
        } else {
            let held_by = self.key(held_by);
            format!("it starts together with `{held_by}`, which needs `{need}`, which {became}")
        };
        StepOutcome::Skipped {
            reason,
            by_condition,
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

    fn tell(&mut self, kind: EventKind) {
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

    fn flush(&mut self) {
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
