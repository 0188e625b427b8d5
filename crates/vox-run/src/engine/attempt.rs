//! One try of a group: its streams, its threads, and how each of its steps ended.
//!
//! What must stay true: when [`Attempt::carry_out`] returns, every member has an end and nothing of the try
//! goes on; what fails only because another member failed is known as that.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use vox_contract::PluginId;
use vox_host::InstanceOptions;
use vox_host::contract::{Attribute, step};

use super::built_in::{BuiltIn, Place, Trouble};
use super::execute::{Execution, Reason, Stop, panicked};
use super::hooks::Hooks;
use super::message::{Ended, Message};
use super::prepare::Runner;
use super::results::Files;
use crate::cache::place::{self, Places};
use crate::graph::{Group, StepIndex, Stream};
use crate::plan::{PortRef, Restart, Step};
use crate::ports::{ChunkChannel, InputPort, Line, Opening, Sink, StepPorts, measure};
use crate::record::StreamAcknowledged;
use crate::report::{Cause, PluginMetrics, Provenance, StepOutcome};

/// How often at most it is recorded how far the reader of a stream is.
const ACKNOWLEDGED_EVERY: Duration = Duration::from_millis(100);

/// A try of a group.
pub(crate) struct Attempt<'a> {
    execution: &'a Execution<'a>,
    group: &'a Group,
    files: &'a Files,
    hooks: &'a Arc<Hooks>,
    /// Tries of this process, this one included.
    attempt: u32,
    /// Tries of the run, those before a crash included.
    number: u32,
    /// The members that have ended, in the order in which they did.
    ended: Mutex<Vec<Ended>>,
}

/// A step that is about to run.
struct Member {
    step: StepIndex,
    ports: Arc<StepPorts>,
    stop: Arc<Stop>,
}

impl<'a> Attempt<'a> {
    pub fn new(
        execution: &'a Execution<'a>,
        group: &'a Group,
        files: &'a Files,
        hooks: &'a Arc<Hooks>,
        attempt: u32,
        number: u32,
    ) -> Self {
        Self {
            execution,
            group,
            files,
            hooks,
            attempt,
            number,
            ended: Mutex::default(),
        }
    }

    /// Carries the steps out; answers how each has ended, in the order in which they did.
    ///
    /// # Errors
    ///
    /// A step that cannot start, and why. None was called then.
    pub fn carry_out(self, places: &mut Places) -> Result<Vec<Ended>, (StepIndex, Trouble)> {
        let mut members = self.admit(places)?;
        // This thread carries out the last member itself, which for most groups is the only one.
        if let Some(last) = members.pop() {
            thread::scope(|scope| {
                for member in members {
                    let name = self.step(member.step).key.replace('\0', "");
                    let member = Arc::new(member);
                    let of_thread = Arc::clone(&member);
                    let body = || {
                        let member = of_thread;
                        self.member(&member);
                    };
                    if let Err(error) = thread::Builder::new().name(name).spawn_scoped(scope, body)
                    {
                        let message = format!("no thread could be started for it: {error}");
                        let outcome = StepOutcome::failed(Cause::Internal, message);
                        self.conclude(&member, outcome, Duration::ZERO);
                    }
                }
                self.member(&last);
            });
        }
        Ok(self
            .ended
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens the group's streams and clears the places of what it makes.
    fn admit(&self, places: &mut Places) -> Result<Vec<Member>, (StepIndex, Trouble)> {
        let graph = self.execution.engine.plan.graph();
        let mut inputs: BTreeMap<StepIndex, BTreeMap<String, InputPort>> = BTreeMap::new();
        let mut lines: BTreeMap<StepIndex, Vec<(String, Line)>> = BTreeMap::new();
        let stops: BTreeMap<StepIndex, Arc<Stop>> = self
            .group
            .members
            .iter()
            .map(|step| (*step, self.execution.renew_stop(*step)))
            .collect();
        for index in &self.group.streams {
            let stream = &graph.streams()[*index];
            let channel = self.execution.renew_channel(*index);
            let line = self
                .line(stream, &channel, &stops[&stream.writer])
                .map_err(|fault| {
                    let message = format!("input `{}`: {fault}", stream.input);
                    (stream.reader, Trouble::new(Cause::Input, message))
                })?;
            let written = lines.entry(stream.writer).or_default();
            written.push((stream.output.clone(), line));
            let read = inputs.entry(stream.reader).or_default();
            read.insert(stream.input.clone(), self.input(stream, channel));
        }
        let outputs = self
            .group
            .members
            .iter()
            .flat_map(|step| self.step(*step).outputs.values());
        let cleared = outputs.map(|output| self.execution.place_of(&output.path));
        *places = Places::clear(cleared).map_err(|error| {
            let trouble = Trouble::new(Cause::Output, error.to_string());
            (self.group.members[0], trouble)
        })?;
        let mut members = Vec::with_capacity(self.group.members.len());
        for step in &self.group.members {
            let files = self.sinks(*step).map_err(|trouble| (*step, trouble))?;
            let ports = StepPorts::new(
                inputs.remove(step).unwrap_or_default(),
                lines.remove(step).unwrap_or_default(),
                files,
                self.execution.reporter.of_step(*step),
            );
            members.push(Member {
                step: *step,
                ports: Arc::new(ports),
                stop: Arc::clone(&stops[step]),
            });
        }
        Ok(members)
    }

    fn line(
        &self,
        stream: &Stream,
        channel: &Arc<ChunkChannel>,
        stop: &Stop,
    ) -> Result<Line, String> {
        let engine = self.execution.engine;
        let reader = self.step(stream.reader);
        let input = reader
            .input(&stream.input)
            .ok_or("the plan has no such input")?;
        let through = input.through.iter();
        let accepts: Vec<_> = through
            .map(|transform| engine.cast.stages.get(&transform.stage).cloned().flatten())
            .collect();
        let to = PortRef {
            step: reader.key.clone(),
            port: stream.input.clone(),
        };
        let acknowledged = &self.execution.earlier.acknowledged;
        let skip = match input.restart {
            Restart::Beginning => 0,
            Restart::Acknowledged => acknowledged.get(&to.to_string()).copied().unwrap_or(0),
        };
        Line::open(&Opening {
            host: &engine.host,
            run: &self.execution.id,
            to,
            input,
            channel: Arc::clone(channel),
            hooks: self.hooks,
            cancel: stop.token.clone(),
            reporter: &self.execution.reporter.of_step(stream.reader),
            accepts: &accepts,
            skip,
        })
    }

    /// The port that reads a stream; where the plan wants to go on behind what was acknowledged, that
    /// is recorded now and then.
    fn input(&self, stream: &Stream, channel: Arc<ChunkChannel>) -> InputPort {
        let mut input = InputPort::new(channel);
        let reader = self.step(stream.reader);
        let restart = reader.input(&stream.input).map(|input| input.restart);
        if restart == Some(Restart::Acknowledged) {
            let to = format!("{}.{}", reader.key, stream.input);
            let before = self.execution.earlier.acknowledged.get(&to).copied();
            let before = before.unwrap_or(0);
            let journal = Arc::clone(&self.execution.journal);
            let last = Mutex::new((Instant::now(), 0));
            input.acknowledge = Some(Box::new(move |pulled| {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if pulled == last.1 || (last.1 > 0 && last.0.elapsed() < ACKNOWLEDGED_EVERY) {
                    return;
                }
                *last = (Instant::now(), pulled);
                let acknowledged = StreamAcknowledged {
                    to: to.clone(),
                    chunks: before + pulled,
                };
                // What is not recorded comes again.
                if let Err(error) = journal.acknowledged(&acknowledged) {
                    tracing::warn!(%error, "an acknowledgement is not recorded");
                }
            }));
        }
        input
    }

    /// The files that are made of ports.
    fn sinks(&self, step: StepIndex) -> Result<Vec<(String, Sink)>, Trouble> {
        let outputs = self.step(step).outputs.values();
        let of_ports = outputs.filter_map(|output| Some((output, output.port.clone()?)));
        of_ports
            .map(|(output, port)| {
                let path = place::coming(&self.execution.place_of(&output.path));
                let sink = Sink::create(path.clone()).map_err(|error| {
                    let message = format!("cannot create {}: {error}", path.display());
                    Trouble::new(Cause::Output, message)
                })?;
                Ok((port, sink))
            })
            .collect()
    }

    /// Carries one step out, from its start to the end of its streams.
    fn member(&self, member: &Member) {
        let Step { key, uses, .. } = self.step(member.step);
        let span = tracing::info_span!(
            parent: &self.execution.span, "vox.run.step", step = %key, runner = %uses,
            attempt = self.number
        );
        let _entered = span.enter();
        // Before its time-out begins: a step that ran into that took no less.
        let begun = Instant::now();
        self.execution.reporter.send(Message::Started {
            step: member.step,
            attempt: self.number,
            stop: Arc::clone(&member.stop),
        });
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            let outcome = self.perform(member);
            let provenance = self.provenance();
            self.execution.review(
                member.step,
                outcome,
                begun.elapsed(),
                &provenance,
                self.hooks,
            )
        }))
        .unwrap_or_else(|panic| StepOutcome::failed(Cause::Internal, panicked(&*panic)));
        tracing::debug!(status = outcome.status(), "ended");
        self.conclude(member, outcome, begun.elapsed());
    }

    /// Runs the step, and lets its streams' stages push what they hold back.
    fn perform(&self, member: &Member) -> StepOutcome {
        let Member {
            step, ports, stop, ..
        } = member;
        if let Some(reason) = stop.reason() {
            return reason.outcome();
        }
        let ran = self.call_runner(member);
        let written = ports.flush();
        let outcome = match ran {
            Ok(step::Outcome {
                code: 0,
                summary,
                attributes,
            }) => match (ports.broken_input(), written) {
                (None, Ok(())) => StepOutcome::Succeeded {
                    summary,
                    attributes,
                },
                (Some((port, reason)), _) => StepOutcome::failed(
                    Cause::Input,
                    format!("input `{port}` ended before its time: {reason}"),
                ),
                (None, Err(error)) => {
                    StepOutcome::failed(Cause::Output, Trouble::from(error).message)
                }
            },
            Ok(step::Outcome { code, summary, .. }) => {
                let unexplained = || format!("it ended with code {code}");
                let message = Some(summary).filter(|summary| !summary.is_empty());
                StepOutcome::Failed {
                    cause: Cause::Code,
                    code: Some(code),
                    message: message.unwrap_or_else(unexplained),
                }
            }
            Err(Trouble { cause, message }) => StepOutcome::failed(cause, message),
        };
        if let Some(reason @ Reason::TimedOut(_)) = stop.reason() {
            return reason.outcome();
        }
        if outcome.is_success() {
            ports.lines().for_each(Line::finish);
            if let Err(message) = self.place_files(*step) {
                return StepOutcome::failed(Cause::Output, message);
            }
        } else if let Some(reason) = stop.reason() {
            return reason.outcome();
        }
        outcome
    }

    /// Puts the files that were made of ports in their places.
    fn place_files(&self, step: StepIndex) -> Result<(), String> {
        for output in self.step(step).outputs.values() {
            if output.port.is_some() {
                let place = self.execution.place_of(&output.path);
                place::swap(&place::coming(&place), &place)
                    .map_err(|error| format!("cannot make {}: {error}", place.display()))?;
            }
        }
        Ok(())
    }

    fn call_runner(&self, member: &Member) -> Result<step::Outcome, Trouble> {
        match self.execution.runner(member.step) {
            Runner::Plugin { plugin, .. } => self.call_plugin(member, plugin),
            Runner::BuiltIn(built_in) => self.call_built_in(member, built_in),
        }
    }

    fn call_built_in(&self, member: &Member, built_in: &BuiltIn) -> Result<step::Outcome, Trouble> {
        let files = self.files.get(&member.step);
        built_in.run(&Place {
            host: &self.execution.engine.host,
            run: &self.execution.id,
            step: &self.step(member.step).key,
            ports: &member.ports,
            cancel: &member.stop.token,
            reporter: &self.execution.reporter.of_step(member.step),
            hooks: self.hooks,
            files: files.map_or(&[], Vec::as_slice),
        })
    }

    fn call_plugin(&self, member: &Member, plugin: &PluginId) -> Result<step::Outcome, Trouble> {
        let mut options = InstanceOptions::default();
        options.ports = Arc::clone(&member.ports) as _;
        options.cancel = member.stop.token.clone();
        options.events = Arc::new(self.execution.reporter.of_step(member.step));
        let mut instance = self.execution.engine.host.instance(plugin, options)?;
        let outcome = instance
            .step()
            .and_then(|mut runner| runner.run(&self.invocation(member)))
            .map_err(Trouble::from);
        if let Some(samples) = measure(&mut instance) {
            let metrics = PluginMetrics {
                plugin: plugin.clone(),
                step: Some(self.step(member.step).key.clone()),
                port: None,
                samples,
            };
            self.execution.measured(metrics, self.hooks);
        }
        outcome
    }

    fn invocation(&self, member: &Member) -> step::Invocation {
        let execution = self.execution;
        let Step {
            key,
            uses,
            arguments,
            environment,
            secrets,
            outputs,
            ..
        } = self.step(member.step);
        let known = &execution.engine.cast.surroundings.secrets;
        let secrets = secrets
            .iter()
            .filter_map(|name| Some((name.clone(), known.get(name)?.clone())));
        let (runner, arguments, inherits) = match execution.runner(member.step) {
            Runner::Plugin {
                runner,
                arguments,
                inherits,
                ..
            } => (runner, arguments, *inherits),
            Runner::BuiltIn(_) => (uses, arguments, false),
        };
        let mut variables = if inherits {
            execution.options.environment.clone()
        } else {
            BTreeMap::new()
        };
        variables.extend(execution.options.variables.clone());
        variables.extend(environment.clone());
        variables.extend(secrets);
        let variable = |(key, value)| Attribute { key, value };
        step::Invocation {
            run: execution.id.clone(),
            step: key.clone(),
            runner: runner.to_string(),
            arguments: Value::Object(arguments.clone()).to_string(),
            environment: variables.into_iter().map(variable).collect(),
            directory: execution.directory.display().to_string(),
            attempt: self.number,
            idempotency_key: format!("{}/{key}", execution.id),
            inputs: member.ports.inputs(),
            outputs: member.ports.outputs(),
            input_files: self.files.get(&member.step).cloned().unwrap_or_default(),
            output_files: outputs
                .iter()
                .filter(|(_, output)| output.port.is_none())
                .map(|(name, output)| step::Artifact {
                    name: name.clone(),
                    path: execution.place_of(&output.path).display().to_string(),
                })
                .collect(),
        }
    }

    /// Takes note of the step's end, and ends its streams.
    ///
    /// The end is noted before the step's neighbours can notice it, so that what fails in consequence never
    /// comes in first.
    fn conclude(&self, member: &Member, outcome: StepOutcome, duration: Duration) {
        let Member {
            step, ports, stop, ..
        } = member;
        let break_off = (!outcome.is_success())
            .then(|| format!("step `{}` {}", self.step(*step).key, outcome.status()));
        // That streams end with a step that was told to end is no news.
        let told_to_end = matches!(stop.reason(), Some(Reason::Other(_)));
        let failure = break_off.as_deref().filter(|_| !told_to_end);
        for line in ports.lines() {
            line.close_stages()
                .into_iter()
                .for_each(|metrics| self.execution.measured(metrics, self.hooks));
            self.execution
                .reporter
                .send(Message::StreamEnded(line.report(failure)));
        }
        let interrupted = stop.reason().is_some() || ports.are_interrupted();
        let outcome = match (outcome, stop.reason()) {
            // It was told to end, and what it says of that is no failure of its own.
            (StepOutcome::Failed { .. }, Some(reason)) if interrupted => reason.outcome(),
            (outcome, _) => outcome,
        };
        self.note(Ended {
            step: *step,
            outcome,
            duration,
            provenance: self.provenance(),
            outputs: BTreeMap::new(),
        });
        for line in ports.lines() {
            match &break_off {
                None => line.channel().finish(),
                Some(reason) => line.channel().break_off(reason.as_str()),
            }
        }
        ports.hang_up();
    }

    /// Takes note of an end, and stops what cannot go on because of it: the readers of the step, or the
    /// whole group where it will be tried again.
    fn note(&self, end: Ended) {
        let step = end.step;
        let failed = matches!(end.outcome, StepOutcome::Failed { .. });
        let succeeded = end.outcome.is_success();
        let retried = self
            .execution
            .retries(step, &end.outcome, self.attempt)
            .is_some();
        let key = &self.step(step).key;
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(end);
        if succeeded {
            return;
        }
        let reason = if retried {
            Reason::Other(format!("step `{key}` failed and is tried again"))
        } else {
            Reason::Other(format!(
                "step `{key}`, whose stream it reads, did not succeed"
            ))
        };
        let graph = self.execution.engine.plan.graph();
        for other in &self.group.members {
            let mut streams = self.group.streams.iter().map(|at| &graph.streams()[*at]);
            let reads = streams.any(|stream| stream.writer == step && stream.reader == *other);
            if *other != step && (retried || reads) {
                self.execution.stop_of(*other).stop(reason.clone());
            }
        }
        if failed && !retried {
            self.execution.reporter.send(Message::Failing { step });
        }
    }

    fn provenance(&self) -> Provenance {
        Provenance {
            attempts: self.number,
            ..Provenance::default()
        }
    }

    fn step(&self, step: StepIndex) -> &'a Step {
        self.execution.step(step)
    }
}
