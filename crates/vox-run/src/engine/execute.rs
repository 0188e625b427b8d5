//! The threads of a run: each carries out one group of steps, or calls the hooks of the run.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tracing::Span;
use vox_contract::HookPoint;
use vox_host::contract::{Attribute, step};
use vox_host::{CancelToken, InstanceOptions};

use super::hooks::{Abort, Answer, Hooks};
use super::message::{Message, Reporter};
use super::{Engine, RunOptions};
use crate::graph::{GroupIndex, StepIndex, Stream};
use crate::plan::{PortRef, Step};
use crate::ports::{ChunkChannel, Line, Opening, StepPorts, measure};
use crate::report::{PluginMetrics, StepOutcome};

/// What the executors of one run share with each other and with its dispatcher.
pub(crate) struct Execution<'a> {
    pub engine: &'a Engine,
    pub options: &'a RunOptions,
    /// The run's id as plugins see it.
    pub id: String,
    pub directory: PathBuf,
    /// The queue of each stream, by its position in the graph.
    pub channels: Vec<Arc<ChunkChannel>>,
    /// The way to stop each step.
    pub stops: Vec<Stop>,
    pub reporter: Reporter,
    pub span: Span,
    /// Set once before the first group starts.
    hooks: OnceLock<Arc<Hooks>>,
}

/// A step that is about to run, and its ports.
type Member = (StepIndex, Arc<StepPorts>);

/// The way to stop a running step.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    token: CancelToken,
    reason: OnceLock<String>,
}

impl Stop {
    /// Tells the step to end; the first reason counts.
    pub fn stop(&self, reason: &str) {
        self.reason.get_or_init(|| reason.to_owned());
        self.token.cancel();
    }

    /// Why the step was told to end, once it was.
    pub fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    fn outcome(&self) -> StepOutcome {
        StepOutcome::Cancelled {
            reason: self.reason().unwrap_or("the run was cancelled").to_owned(),
        }
    }
}

impl<'a> Execution<'a> {
    pub fn new(
        engine: &'a Engine,
        options: &'a RunOptions,
        reporter: Reporter,
        span: Span,
    ) -> Self {
        let graph = engine.plan.graph();
        Self {
            engine,
            options,
            id: options.id.to_string(),
            directory: std::path::absolute(&options.directory)
                .unwrap_or_else(|_| options.directory.clone()),
            channels: graph.streams().iter().map(|_| Arc::default()).collect(),
            stops: engine.plan.steps.iter().map(|_| Stop::default()).collect(),
            reporter,
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

    /// Carries a group out; answers when all its steps have ended.
    pub fn group(&self, group: GroupIndex) {
        let members = &self.engine.plan.graph().groups()[group].members;
        let Some(hooks) = self.hooks.get() else {
            let outcome = StepOutcome::failed("the run has not begun");
            return self.not_started(members, members[0], outcome);
        };
        let ports = panic::catch_unwind(AssertUnwindSafe(|| self.admit(group, hooks)));
        let mut ports = match ports {
            Ok(Ok(ports)) => ports,
            Ok(Err((step, message))) => {
                let detail = json!({ "message": message });
                hooks.tell(&HookPoint::OnError, &self.step(step).key, &detail);
                return self.not_started(members, step, StepOutcome::failed(message));
            }
            Err(panic) => {
                let outcome = StepOutcome::failed(panicked(&*panic));
                return self.not_started(members, members[0], outcome);
            }
        };
        // This thread carries out the last member itself, which for most groups is the only one.
        let Some((last, last_ports)) = ports.pop() else {
            return;
        };
        thread::scope(|scope| {
            for (step, ports) in ports {
                let name = self.step(step).key.replace('\0', "");
                let of_thread = Arc::clone(&ports);
                let body = move || self.carry_out(step, &of_thread, hooks);
                if let Err(error) = thread::Builder::new().name(name).spawn_scoped(scope, body) {
                    let message = format!("no thread could be started for it: {error}");
                    let outcome = StepOutcome::failed(message);
                    self.conclude(step, &ports, hooks, outcome, Duration::ZERO);
                }
            }
            self.carry_out(last, &last_ports, hooks);
        });
    }

    /// Asks the hooks for every member and opens the group's streams; answers the members' ports,
    /// or the step that cannot start, and why.
    fn admit(
        &self,
        group: GroupIndex,
        hooks: &Arc<Hooks>,
    ) -> Result<Vec<Member>, (StepIndex, String)> {
        let graph = self.engine.plan.graph();
        let group = &graph.groups()[group];
        for index in &group.members {
            let Step {
                key,
                label,
                uses,
                arguments,
                ..
            } = self.step(*index);
            let detail = json!({ "runner": uses, "label": label, "arguments": arguments });
            if let Answer::Abort(abort) = hooks.ask(&HookPoint::PreStep, key, &detail, &[]) {
                return Err((*index, abort.to_string()));
            }
        }
        let mut ports: BTreeMap<StepIndex, (BTreeMap<String, _>, Vec<_>)> = group
            .members
            .iter()
            .map(|step| (*step, Default::default()))
            .collect();
        for index in &group.streams {
            let stream = &graph.streams()[*index];
            let channel = &self.channels[*index];
            let line = self
                .line(stream, channel, hooks)
                .map_err(|fault| (stream.reader, format!("input `{}`: {fault}", stream.input)))?;
            if let Some((_, lines)) = ports.get_mut(&stream.writer) {
                lines.push((stream.output.clone(), line));
            }
            if let Some((inputs, _)) = ports.get_mut(&stream.reader) {
                inputs.insert(stream.input.clone(), Arc::clone(channel));
            }
        }
        let connected = ports.into_iter().map(|(step, (inputs, lines))| {
            (
                step,
                Arc::new(StepPorts::new(inputs, lines, self.reporter.of_step(step))),
            )
        });
        Ok(connected.collect())
    }

    fn line(
        &self,
        stream: &Stream,
        channel: &Arc<ChunkChannel>,
        hooks: &Arc<Hooks>,
    ) -> Result<Line, String> {
        let reader = self.step(stream.reader);
        let input = reader
            .inputs
            .get(&stream.input)
            .ok_or("the plan has no such input")?;
        Line::open(&Opening {
            host: &self.engine.host,
            run: &self.id,
            to: PortRef {
                step: reader.key.clone(),
                port: stream.input.clone(),
            },
            input,
            channel: Arc::clone(channel),
            hooks,
            cancel: self.stops[stream.writer].token.clone(),
            reporter: &self.reporter.of_step(stream.reader),
        })
    }

    /// Reports a group in which `culprit` cannot start.
    fn not_started(&self, members: &[StepIndex], culprit: StepIndex, outcome: StepOutcome) {
        let key = &self.step(culprit).key;
        for step in members {
            let outcome = if *step == culprit {
                outcome.clone()
            } else {
                StepOutcome::Skipped {
                    reason: format!("it starts together with `{key}`, which failed"),
                }
            };
            let duration = Duration::ZERO;
            self.reporter.send(Message::Ended {
                step: *step,
                outcome,
                duration,
                interrupted: false,
            });
        }
    }

    /// Carries one step out, from its start to the end of its streams.
    fn carry_out(&self, step: StepIndex, ports: &Arc<StepPorts>, hooks: &Hooks) {
        let Step { key, uses, .. } = self.step(step);
        let span =
            tracing::info_span!(parent: &self.span, "vox.run.step", step = %key, runner = %uses);
        let _entered = span.enter();
        self.reporter.send(Message::Started { step });
        let begun = Instant::now();
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            let outcome = self.perform(step, ports, hooks);
            self.review(step, outcome, begun.elapsed(), hooks)
        }))
        .unwrap_or_else(|panic| StepOutcome::failed(panicked(&*panic)));
        tracing::debug!(status = outcome.status(), "ended");
        self.conclude(step, ports, hooks, outcome, begun.elapsed());
    }

    /// Runs the step, and lets its streams' stages push what they hold back.
    fn perform(&self, step: StepIndex, ports: &Arc<StepPorts>, hooks: &Hooks) -> StepOutcome {
        let stop = &self.stops[step];
        if stop.token.is_cancelled() {
            return stop.outcome();
        }
        let ran = self.call_runner(step, ports, hooks);
        ports.flush();
        let outcome = match ran {
            Ok(step::Outcome {
                code: 0,
                summary,
                attributes,
            }) => match ports.broken_input() {
                None => StepOutcome::Succeeded {
                    summary,
                    attributes,
                },
                Some((port, reason)) => {
                    StepOutcome::failed(format!("input `{port}` ended before its time: {reason}"))
                }
            },
            Ok(step::Outcome { code, summary, .. }) => {
                let unexplained = || format!("it ended with code {code}");
                let message = Some(summary).filter(|summary| !summary.is_empty());
                StepOutcome::Failed {
                    code: Some(code),
                    message: message.unwrap_or_else(unexplained),
                }
            }
            Err(message) => StepOutcome::failed(message),
        };
        if outcome.is_success() {
            ports.lines().for_each(Line::finish);
        } else if stop.token.is_cancelled() {
            return stop.outcome();
        }
        outcome
    }

    fn call_runner(
        &self,
        step: StepIndex,
        ports: &Arc<StepPorts>,
        hooks: &Hooks,
    ) -> Result<step::Outcome, String> {
        let mut options = InstanceOptions::default();
        options.ports = Arc::clone(ports) as _;
        options.cancel = self.stops[step].token.clone();
        options.events = Arc::new(self.reporter.of_step(step));
        let plugin = &self.engine.cast.runners[step];
        let mut instance = self
            .engine
            .host
            .instance(plugin, options)
            .map_err(|error| error.to_string())?;
        let outcome = instance
            .step()
            .and_then(|mut runner| runner.run(&self.invocation(step, ports)))
            .map_err(|error| error.to_string());
        if let Some(samples) = measure(&mut instance) {
            let step = Some(self.step(step).key.clone());
            self.measured(
                PluginMetrics {
                    plugin: plugin.clone(),
                    step,
                    port: None,
                    samples,
                },
                hooks,
            );
        }
        outcome
    }

    fn invocation(&self, step: StepIndex, ports: &StepPorts) -> step::Invocation {
        let Step {
            key,
            uses,
            arguments,
            environment,
            ..
        } = self.step(step);
        let mut variables = self.options.environment.clone();
        variables.extend(environment.clone());
        let variable = |(key, value)| Attribute { key, value };
        step::Invocation {
            run: self.id.clone(),
            step: key.clone(),
            runner: uses.to_string(),
            arguments: Value::Object(arguments.clone()).to_string(),
            environment: variables.into_iter().map(variable).collect(),
            directory: self.directory.display().to_string(),
            attempt: 1,
            idempotency_key: format!("{}/{key}", self.id),
            inputs: ports.inputs(),
            outputs: ports.outputs(),
            input_files: Vec::new(),
            output_files: Vec::new(),
        }
    }

    /// Lets the hooks judge how a step has ended.
    fn review(
        &self,
        step: StepIndex,
        mut outcome: StepOutcome,
        duration: Duration,
        hooks: &Hooks,
    ) -> StepOutcome {
        let key = &self.step(step).key;
        if hooks.watch(&HookPoint::PostStep) {
            let mut detail = serde_json::to_value(&outcome).unwrap_or_default();
            detail["seconds"] = duration.as_secs_f64().into();
            if let Answer::Abort(abort) = hooks.ask(&HookPoint::PostStep, key, &detail, &[])
                && outcome.is_success()
            {
                outcome = StepOutcome::failed(abort.to_string());
            }
        }
        if let StepOutcome::Failed { message, .. } = &outcome {
            hooks.tell(&HookPoint::OnError, key, &json!({ "message": message }));
        }
        outcome
    }

    /// Reports the step and ends its streams.
    ///
    /// The dispatcher hears of the end before the step's neighbours can notice it, so that what
    /// fails in consequence never comes in first.
    fn conclude(
        &self,
        step: StepIndex,
        ports: &StepPorts,
        hooks: &Hooks,
        outcome: StepOutcome,
        duration: Duration,
    ) {
        let break_off = (!outcome.is_success())
            .then(|| format!("step `{}` {}", self.step(step).key, outcome.status()));
        for line in ports.lines() {
            line.close_stages()
                .into_iter()
                .for_each(|metrics| self.measured(metrics, hooks));
            self.reporter
                .send(Message::StreamEnded(line.report(break_off.as_deref())));
        }
        let interrupted = self.stops[step].token.is_cancelled() || ports.are_interrupted();
        self.reporter.send(Message::Ended {
            step,
            outcome,
            duration,
            interrupted,
        });
        for line in ports.lines() {
            match &break_off {
                None => line.channel().finish(),
                Some(reason) => line.channel().break_off(reason.as_str()),
            }
        }
        ports.hang_up();
    }

    fn measured(&self, metrics: PluginMetrics, hooks: &Hooks) {
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

    fn step(&self, step: StepIndex) -> &'a Step {
        &self.engine.plan.steps[step]
    }
}

/// What is said of a panic, which is a fault of the engine or the host: a plugin's own is caught
/// by its carrier.
fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!(
        "Vox itself failed, please report it: {}",
        text.unwrap_or("a panic without a message")
    )
}
