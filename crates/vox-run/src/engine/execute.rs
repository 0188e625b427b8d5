//! The threads of a run: each brings one group of steps to its end, or calls the hooks of the run.
//!
//! What must stay true: for each group that it was given an executor sends exactly one `Ended`, and not before
//! the end is in the record; it changes nothing that the dispatcher owns.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{at, never, select};
use serde_json::{Value, json};
use tracing::Span;
use vox_contract::HookPoint;
use vox_host::CancelToken;

use super::attempt::Attempt;
use super::built_in::Trouble;
use super::hooks::{Abort, Answer, Hooks};
use super::message::{Ended, Message, Reporter};
use super::prepare::Runner;
use super::{Engine, Resume, RunOptions};
use crate::cache::place::Places;
use crate::cache::{Cache, Key, Keyed};
use crate::graph::{GroupIndex, StepIndex};
use crate::plan::{Fate, Step};
use crate::ports::ChunkChannel;
use crate::record::{Journal, StepEnd, StepsEnded, StepsStarted};
use crate::report::{Cause, PluginMetrics, Provenance, StepOutcome};

/// What the executors of one run share with each other and with its dispatcher.
pub(crate) struct Execution<'a> {
    pub engine: &'a Engine,
    pub options: &'a RunOptions,
    /// The run's id as plugins see it.
    pub id: String,
    pub directory: PathBuf,
    /// The queue of each stream of the present try, by its position in the graph.
    pub channels: Vec<Mutex<Arc<ChunkChannel>>>,
    /// The way to stop the present try of each step.
    stops: Vec<Mutex<Arc<Stop>>>,
    /// The way to stop everything.
    pub halt: Stop,
    /// The way to stop all that does not run whatever becomes of others.
    failing: Stop,
    pub reporter: Reporter,
    pub journal: Arc<Journal>,
    pub cache: Option<Cache>,
    /// Results that were put into it.
    pub kept: AtomicU64,
    /// What was done of the run before this process began, or of the one that is run again.
    pub earlier: Resume,
    pub span: Span,
    /// Set once before the first group starts.
    hooks: OnceLock<Arc<Hooks>>,
}

/// The way to stop a try of a step.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    pub token: CancelToken,
    reason: OnceLock<Reason>,
}

/// Why a step was told to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It took longer than the plan allows.
    TimedOut(Duration),
    /// Something else, in words.
    Other(String),
}

impl Reason {
    /// What became of a step that ended because of it.
    pub fn outcome(&self) -> StepOutcome {
        match self {
            Self::TimedOut(limit) => StepOutcome::failed(
                Cause::TimedOut,
                format!(
                    "it was still running after {}, its time-out",
                    humantime::format_duration(*limit)
                ),
            ),
            Self::Other(reason) => StepOutcome::Cancelled {
                reason: reason.clone(),
            },
        }
    }
}

impl Stop {
    /// Tells the step to end; the first reason counts.
    pub fn stop(&self, reason: Reason) {
        self.reason.get_or_init(|| reason);
        self.token.cancel();
    }

    /// Why the step was told to end, once it was.
    pub fn reason(&self) -> Option<&Reason> {
        self.reason.get()
    }
}

impl<'a> Execution<'a> {
    pub fn new(
        engine: &'a Engine,
        options: &'a RunOptions,
        earlier: Resume,
        reporter: Reporter,
        span: Span,
    ) -> Self {
        let graph = engine.plan.graph();
        let record = options.record.clone();
        Self {
            engine,
            options,
            id: options.id.to_string(),
            directory: std::path::absolute(&options.directory)
                .unwrap_or_else(|_| options.directory.clone()),
            channels: graph.streams().iter().map(|_| Mutex::default()).collect(),
            stops: engine.plan.steps.iter().map(|_| Mutex::default()).collect(),
            halt: Stop::default(),
            failing: Stop::default(),
            reporter,
            cache: record
                .as_ref()
                .map(|record| Cache::new(record.store.clone())),
            kept: AtomicU64::new(0),
            journal: Arc::new(Journal::new(record, options.id)),
            earlier,
            span,
            hooks: OnceLock::new(),
        }
    }

    /// Starts the hooks and asks whether the run may begin.
    pub fn open(&self) {
        let _entered = self.span.enter();
        self.reporter.send(Message::Opened(self.ask_to_begin()));
    }

    fn ask_to_begin(&self) -> Result<(), Abort> {
        let Engine { host, plan, cast } = self.engine;
        let keys: Vec<String> = plan.steps.iter().map(|step| step.key.clone()).collect();
        let detail = json!({ "pipeline": plan.pipeline.name, "steps": keys });
        let hooks = Hooks::open(
            host,
            self.id.clone(),
            &cast.hooks,
            self.options.hooks.clone(),
            keys,
            self.reporter.clone(),
        )?;
        let hooks = self.hooks.get_or_init(|| hooks);
        match hooks.ask(&HookPoint::PrePipeline, "", &detail, &[]) {
            Answer::Continue | Answer::Replace(_) | Answer::Drop => Ok(()),
            Answer::Abort(abort) => Err(abort),
        }
    }

    /// Tells the hooks what the plugins have cost and how the run ended.
    pub fn close(&self, detail: Value) {
        let _entered = self.span.enter();
        if let Some(hooks) = self.hooks.get() {
            for status in self.engine.host.plugins() {
                let costs = PluginMetrics {
                    samples: status.samples(),
                    plugin: status.plugin,
                    step: None,
                    port: None,
                };
                self.measured(costs, hooks);
            }
            hooks.tell(&HookPoint::PostPipeline, "", &detail);
            for metrics in hooks.measure() {
                self.reporter.send(Message::Measured(metrics));
            }
        }
        self.reporter.send(Message::Closed);
    }

    /// Brings a group to its end.
    pub fn group(&self, group: GroupIndex) {
        let members = &self.engine.plan.graph().groups()[group].members;
        let ends = panic::catch_unwind(AssertUnwindSafe(|| self.ends(group)));
        let ends = ends.unwrap_or_else(|panic| {
            let message = panicked(&*panic);
            Ended::of_all(
                members,
                members[0],
                &StepOutcome::failed(Cause::Internal, message),
            )
        });
        self.reporter.send(Message::Ended(ends));
    }

    fn ends(&self, index: GroupIndex) -> Vec<Ended> {
        let group = &self.engine.plan.graph().groups()[index];
        let members = &group.members;
        let Some(hooks) = self.hooks.get() else {
            let outcome = StepOutcome::failed(Cause::Internal, "the run has not begun");
            return Ended::of_all(members, members[0], &outcome);
        };
        let refused = |(step, trouble): (StepIndex, Trouble)| {
            let Trouble { cause, mut message } = trouble;
            self.reporter.mask().text(&mut message);
            let detail = json!({ "message": message });
            hooks.tell(&HookPoint::OnError, &self.step(step).key, &detail);
            Ended::of_all(members, step, &StepOutcome::failed(cause, message))
        };
        if let Err(trouble) = self.ask_hooks(members, hooks) {
            return self.recorded(refused(trouble), None, true);
        }
        let files = match self.files_of(members) {
            Ok(files) => files,
            Err(trouble) => return self.recorded(refused(trouble), None, true),
        };
        let key = match self.key_of(group, &files) {
            Ok(key) => key,
            Err(trouble) => return self.recorded(refused(trouble), None, true),
        };
        if let Some((key, parts)) = &key
            && let Some(ends) = self.taken_over(members, key)
        {
            // Should this get lost, it is taken from the cache once more.
            return self.recorded(ends, Some((key.clone(), parts.clone())), false);
        }
        let before = members.iter().filter_map(|step| {
            let attempts = &self.earlier.attempts;
            attempts.get(&self.step(*step).key).copied()
        });
        let before = before.max().unwrap_or(0);
        for attempt in 1.. {
            let number = before.saturating_add(attempt);
            if let Err(error) = self.journal.steps_started(&StepsStarted {
                steps: self.keys(members),
                attempt: number,
            }) {
                let message = format!("its start could not be recorded: {error}");
                let outcome = StepOutcome::failed(Cause::Internal, message);
                return Ended::of_all(members, members[0], &outcome);
            }
            // What is in the place of an output is put back when this is dropped, unless the step
            // has made something.
            let mut places = Places::default();
            let attempt_at = Attempt::new(self, group, &files, hooks, attempt, number);
            let mut ends = match attempt_at.carry_out(&mut places) {
                Ok(ends) => ends,
                Err(trouble) => refused(trouble),
            };
            self.keep(group, &files, &mut ends, key.as_ref());
            drop(places);
            let Some((failed, wait)) = self.again(&ends, attempt) else {
                return self.recorded(ends, key, true);
            };
            self.reporter.send(Message::Retried {
                step: failed.step,
                attempt: number,
                outcome: failed.outcome.clone(),
                wait,
            });
            let over = Instant::now().checked_add(wait).map_or_else(never, at);
            // A step that runs whatever becomes of others waits on when one of them fails.
            let concerned = members
                .iter()
                .any(|step| self.step(*step).required() == Fate::Succeeded);
            let failing = if concerned {
                self.failing.token.cancelled().clone()
            } else {
                never()
            };
            let halted = select! {
                recv(self.halt.token.cancelled()) -> _ => true,
                recv(failing) -> _ => true,
                recv(over) -> _ => false,
            };
            if halted {
                return self.recorded(ends, key, true);
            }
        }
        Vec::new()
    }

    /// Asks the hooks about every member.
    fn ask_hooks(&self, members: &[StepIndex], hooks: &Hooks) -> Result<(), (StepIndex, Trouble)> {
        if !hooks.watch(&HookPoint::PreStep) {
            return Ok(());
        }
        for index in members {
            let Step {
                key,
                label,
                uses,
                arguments,
                ..
            } = self.step(*index);
            let detail = json!({ "runner": uses, "label": label, "arguments": arguments });
            if let Answer::Abort(abort) = hooks.ask(&HookPoint::PreStep, key, &detail, &[]) {
                return Err((*index, abort.into()));
            }
        }
        Ok(())
    }

    /// The step for whose sake the group is tried again, and how long to wait before that.
    fn again<'e>(&self, ends: &'e [Ended], attempt: u32) -> Option<(&'e Ended, Duration)> {
        if ends.iter().any(|end| self.stopped(end.step).is_some()) {
            return None;
        }
        let mut failed = ends.iter().filter(|end| !end.outcome.is_success());
        let culprit = failed.find(|end| matches!(end.outcome, StepOutcome::Failed { .. }))?;
        let wait = self.retries(culprit.step, &culprit.outcome, attempt)?;
        Some((culprit, wait))
    }

    /// How long to wait before a step that ended so is tried again, if it is.
    pub fn retries(
        &self,
        step: StepIndex,
        outcome: &StepOutcome,
        attempt: u32,
    ) -> Option<Duration> {
        let StepOutcome::Failed { cause, .. } = outcome else {
            return None;
        };
        let retry = self.step(step).retry.as_ref()?;
        (attempt <= retry.count && retry.on.contains(cause)).then(|| retry.wait(attempt))
    }

    /// Records how a group has ended, without the secrets of the run; a record that cannot be written
    /// makes a failure of it.
    fn recorded(&self, mut ends: Vec<Ended>, key: Option<Keyed>, wait: bool) -> Vec<Ended> {
        for end in &mut ends {
            self.reporter.mask().outcome(&mut end.outcome);
        }
        let (key, parts) = key.unzip();
        // The parts are in the order of the group, which is that of the plan.
        let mut in_order: Vec<&Ended> = ends.iter().collect();
        in_order.sort_unstable_by_key(|end| end.step);
        let recorded = self.journal.steps_ended(
            StepsEnded {
                steps: in_order.into_iter().map(|end| self.step_end(end)).collect(),
                key: key.map(|key| key.to_string()),
                parts: parts.unwrap_or_default(),
            },
            wait,
        );
        if let Err(error) = recorded {
            let message = format!("its end could not be recorded: {error}");
            for end in &mut ends {
                end.outcome = StepOutcome::failed(Cause::Internal, message.clone());
            }
        }
        ends
    }

    fn step_end(&self, end: &Ended) -> StepEnd {
        StepEnd {
            step: self.step(end.step).key.clone(),
            outcome: end.outcome.clone(),
            provenance: end.provenance.clone(),
            micros: u64::try_from(end.duration.as_micros()).unwrap_or(u64::MAX),
            outputs: end.outputs.clone(),
        }
    }

    /// Lets the hooks judge how a step has ended. Neither they nor the cache get secrets with it.
    pub fn review(
        &self,
        step: StepIndex,
        mut outcome: StepOutcome,
        duration: Duration,
        provenance: &Provenance,
        hooks: &Hooks,
    ) -> StepOutcome {
        let key = &self.step(step).key;
        let mask = self.reporter.mask();
        mask.outcome(&mut outcome);
        if hooks.watch(&HookPoint::PostStep) {
            let mut detail = serde_json::to_value(&outcome).unwrap_or_default();
            detail["seconds"] = duration.as_secs_f64().into();
            detail["cached"] = provenance.cached.is_some().into();
            if let Answer::Abort(mut abort) = hooks.ask(&HookPoint::PostStep, key, &detail, &[])
                && outcome.is_success()
            {
                mask.text(&mut abort.reason);
                outcome = StepOutcome::failed(Cause::Aborted, abort.to_string());
            }
        }
        if let StepOutcome::Failed { message, .. } = &outcome {
            hooks.tell(&HookPoint::OnError, key, &json!({ "message": message }));
        }
        outcome
    }

    pub fn measured(&self, mut metrics: PluginMetrics, hooks: &Hooks) {
        self.reporter.mask().metrics(&mut metrics);
        if hooks.watch(&HookPoint::OnMetrics) {
            let PluginMetrics {
                plugin,
                step,
                port,
                samples,
            } = &metrics;
            let detail = json!({ "plugin": plugin, "port": port, "samples": samples });
            hooks.tell(
                &HookPoint::OnMetrics,
                step.as_deref().unwrap_or_default(),
                &detail,
            );
        }
        self.reporter.send(Message::Measured(metrics));
    }

    /// The hooks, once the run has begun.
    pub fn hooks(&self) -> Option<&Arc<Hooks>> {
        self.hooks.get()
    }

    /// A new way to stop a step, for a new try.
    pub fn renew_stop(&self, step: StepIndex) -> Arc<Stop> {
        let stop = Arc::new(Stop::default());
        *self.stops[step]
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Arc::clone(&stop);
        // The run may have been halted between the two.
        if let Some(reason) = self.stopped(step) {
            stop.stop(reason.clone());
        }
        stop
    }

    /// Why nothing more is to be done for a step, if so.
    fn stopped(&self, step: StepIndex) -> Option<&Reason> {
        let failing = self.failing.reason();
        let concerns = self.step(step).required() == Fate::Succeeded;
        self.halt.reason().or(failing.filter(|_| concerns))
    }

    /// The way to stop the present try of a step.
    pub fn stop_of(&self, step: StepIndex) -> Arc<Stop> {
        Arc::clone(
            &self.stops[step]
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// A new queue for a stream, for a new try.
    pub fn renew_channel(&self, stream: usize) -> Arc<ChunkChannel> {
        let channel = Arc::<ChunkChannel>::default();
        *self.channels[stream]
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Arc::clone(&channel);
        let reader = self.engine.plan.graph().streams()[stream].reader;
        if self.stopped(reader).is_some() {
            channel.cancel();
        }
        channel
    }

    /// Stops everything that runs now and is not there to clean up after others; what starts later
    /// runs.
    pub fn stop_running(&self, reason: &Reason) {
        // First of all, for a try that is about to begin: it looks here once it can be stopped.
        self.failing.stop(reason.clone());
        self.stop_those(reason, |step| self.step(step).required() == Fate::Succeeded);
        let streams = self.engine.plan.graph().streams().iter();
        for (stream, channel) in streams.zip(&self.channels) {
            if self.step(stream.reader).required() == Fate::Succeeded {
                channel
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .cancel();
            }
        }
    }

    /// Stops everything that runs.
    pub fn halt(&self, reason: &Reason) {
        self.halt.stop(reason.clone());
        self.stop_those(reason, |_| true);
        for channel in &self.channels {
            channel
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .cancel();
        }
    }

    /// Stops the present tries of some steps. All have the reason before any of them hears of it: one that ended
    /// at once would stop the readers of its streams for a reason of its own.
    fn stop_those(&self, reason: &Reason, concerned: impl Fn(StepIndex) -> bool) {
        let steps = (0..self.stops.len()).filter(|step| concerned(*step));
        let stops: Vec<Arc<Stop>> = steps.map(|step| self.stop_of(step)).collect();
        for stop in &stops {
            stop.reason.get_or_init(|| reason.clone());
        }
        for stop in &stops {
            stop.token.cancel();
        }
    }

    pub fn step(&self, step: StepIndex) -> &'a Step {
        &self.engine.plan.steps[step]
    }

    pub fn runner(&self, step: StepIndex) -> &'a Runner {
        &self.engine.cast.runners[step]
    }

    /// Where an output of a step is made.
    pub fn place_of(&self, path: &str) -> PathBuf {
        self.directory.join(Path::new(path))
    }

    fn keys(&self, members: &[StepIndex]) -> Vec<String> {
        members
            .iter()
            .map(|step| self.step(*step).key.clone())
            .collect()
    }

    /// The results of one group, taken from the cache, if they are there and can be put in place.
    fn taken_over(&self, members: &[StepIndex], key: &Key) -> Option<Vec<Ended>> {
        let ends = self.restore(members, key)?;
        let hooks = self.hooks.get()?;
        let reviewed = ends.into_iter().map(|mut end| {
            end.outcome = self.review(
                end.step,
                end.outcome,
                Duration::ZERO,
                &end.provenance,
                hooks,
            );
            end
        });
        Some(reviewed.collect())
    }
}

/// What is said of a panic, which is a fault of the engine or the host: a plugin's own is caught
/// by its carrier.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!(
        "Vox itself failed, please report it: {}",
        text.unwrap_or("a panic without a message")
    )
}
