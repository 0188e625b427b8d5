//! A plugin that serves every extension point and, on request, calls every host interface.
//!
//! The same suite runs against its component and its native library and compares what comes back
//! byte for byte, so everything here is a plain function of its inputs.

mod deeds;
mod files;
mod release;
mod script;

use std::collections::BTreeMap;

use release::{Release, release};
use script::Script;
use serde::Deserialize;
use vox_plugin::agent::{Action, Assignment, Message, Outgoing, Recruit};
use vox_plugin::clap::{self, CommandFactory, Parser};
use vox_plugin::command::Node;
use vox_plugin::hook::{Event, Outcome as HookOutcome};
use vox_plugin::host::call::Target;
use vox_plugin::lifecycle::{Condition, SavedState};
use vox_plugin::metrics::{Kind, Sample};
use vox_plugin::stage::Opening;
use vox_plugin::step::{Invocation, Outcome};
use vox_plugin::storage::Entry;
use vox_plugin::{
    Agent, ChunkHead, Command, Error, Hook, Lifecycle, Metrics, Modality, Result, Service, Stage,
    Step, Storage, attribute, describe_command, from_json, host, plugin,
};

/// How the plugin is told to behave, and to misbehave.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    fail_init: Option<String>,
    panic_in_init: bool,
    condition: Option<String>,
    panic_in_restore: bool,
    /// A function of `lifecycle` other than `init`.
    panic_in: Option<String>,
    /// What it does as a hook, by hook point.
    hooks: BTreeMap<String, Reaction>,
    /// The hook that it calls where its reaction is `call`.
    calls: String,
}

/// What a hook does when it is called.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reaction {
    Continue,
    Abort,
    Replace,
    Drop,
    /// Drops the chunk with the number 0.
    DropFirst,
    Panic,
    Fail,
    /// Fails and says what it was shown.
    Quote,
    /// Works for ever.
    Spin,
    /// Goes on when it is told that nobody waits any more.
    Late,
    /// Fires the hook point `custom:again`.
    Fire,
    /// Calls another hook with the same event.
    Call,
}

/// The plugin.
#[plugin(
    lifecycle, step, stage, modality, agent, metrics, storage, hook, command, service
)]
struct Conformance {
    config: Config,
    arguments: String,
    chunks: u64,
    bytes: u64,
    objects: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<u64, (String, Vec<u8>)>,
    next_upload: u64,
    /// What it does as an agent, where its arguments say that.
    script: Option<Script>,
}

impl Lifecycle for Conformance {
    fn init(config: &str) -> Result<Self> {
        let config: Config = from_json(config)?;
        if let Some(reason) = &config.fail_init {
            return Err(Error::Unavailable(reason.clone()));
        }
        assert!(!config.panic_in_init, "told to panic in init");
        match release() {
            Release::FailsInit => {
                return Err(Error::Failed("this release never starts".to_owned()));
            }
            Release::SpinsInInit => deeds::spin(),
            _ => {}
        }
        Ok(Self {
            config,
            arguments: String::new(),
            chunks: 0,
            bytes: 0,
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            next_upload: 1,
            script: None,
        })
    }

    fn health(&mut self) -> Condition {
        self.panic_if_told("health");
        if release() == Release::Unwell {
            return Condition::Failing("this release is never well".to_owned());
        }
        match &self.config.condition {
            None => Condition::Ready,
            Some(text) => Condition::Degraded(text.clone()),
        }
    }

    fn snapshot(&mut self) -> Result<Option<SavedState>> {
        self.panic_if_told("snapshot");
        if release() == Release::SpinsInSnapshot {
            deeds::spin();
        }
        Ok(Some(SavedState {
            version: 2,
            state: self.chunks.to_le_bytes().to_vec(),
        }))
    }

    fn restore(&mut self, version: u32, state: &[u8]) -> Result<()> {
        self.panic_if_told("restore");
        assert!(!self.config.panic_in_restore, "told to panic in restore");
        match release() {
            Release::FailsRestore => {
                return Err(Error::Invalid(
                    "this release takes no state over".to_owned(),
                ));
            }
            Release::PanicsInRestore => panic!("this release panics in restore"),
            _ => {}
        }
        match (version, state.try_into()) {
            (2, Ok(bytes)) => {
                self.chunks = u64::from_le_bytes(bytes);
                Ok(())
            }
            _ => Err(Error::Invalid(format!(
                "{} bytes of state version {version}",
                state.len()
            ))),
        }
    }

    fn shutdown(&mut self) -> Result<()> {
        self.panic_if_told("shutdown");
        Ok(())
    }
}

impl Conformance {
    fn panic_if_told(&self, function: &str) {
        let told = self.config.panic_in.as_deref() == Some(function);
        assert!(!told, "told to panic in {function}");
    }
}

impl Step for Conformance {
    fn arguments_schema(&mut self, runner: &str) -> Result<String> {
        match runner {
            // Its own manifest names the first alone.
            "conformance" | "conformance-too" => {
                Ok(r#"{"type":"object","required":["do"]}"#.to_owned())
            }
            other => Err(Error::NotFound(format!("runner `{other}`"))),
        }
    }

    fn run(&mut self, invocation: Invocation) -> Result<Outcome> {
        deeds::run(&invocation)
    }
}

impl Stage for Conformance {
    fn open(&mut self, opening: Opening) -> Result<()> {
        self.arguments = opening.arguments;
        Ok(())
    }

    fn process(&mut self, head: ChunkHead, data: &[u8]) -> Result<()> {
        assert!(
            release() != Release::PanicsAtWork,
            "this release panics at work"
        );
        self.chunks += 1;
        self.bytes += data.len() as u64;
        match self.arguments.as_str() {
            // The caller's own memory goes on as it is.
            r#"{"do":"forward"}"# => host::stream::push("out", &head, data, None),
            r#"{"do":"panic"}"# => panic!("told to panic at chunk {}", head.sequence),
            r#"{"do":"fail"}"# => Err(Error::Failed(format!("chunk {}", head.sequence))),
            r#"{"do":"quote"}"# => Err(Error::Failed(quoted(data))),
            r#"{"do":"drop"}"# => Ok(()),
            _ => host::stream::push("out", &head, &data.to_ascii_uppercase(), Some(1000)),
        }
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Modality for Conformance {
    fn detect(&mut self, name: &str, prefix: &[u8]) -> Option<String> {
        (name.ends_with(".txt") || prefix.starts_with(b"text")).then(|| "text".to_owned())
    }

    fn decode(&mut self, blob: &str, _arguments: &str) -> Result<u64> {
        let size = host::blob::size(blob)?;
        let mut sequence = 0;
        while sequence * 4 < size {
            let data = host::blob::read(blob, sequence * 4, 4)?;
            host::stream::push("out", &vox_plugin::text_chunk(sequence), &data, None)?;
            sequence += 1;
        }
        Ok(sequence)
    }
}

impl Agent for Conformance {
    fn start(&mut self, assignment: Assignment) -> Result<Vec<Action>> {
        self.script = serde_json::from_str(&assignment.arguments).ok();
        if let Some(script) = &self.script {
            return Ok(script.begin());
        }
        Ok(vec![
            Action::Spawn(Recruit {
                plugin: "conformance".to_owned(),
                name: format!("{}-helper", assignment.name),
                arguments: assignment.arguments,
            }),
            Action::Finish(assignment.run),
        ])
    }

    fn receive(&mut self, message: Message) -> Result<Vec<Action>> {
        if let Some(script) = &mut self.script {
            return Ok(script.answer(&message));
        }
        Ok(vec![Action::Send(Outgoing {
            recipient: message.sender,
            topic: message.topic,
            body: message.body.into_iter().rev().collect(),
        })])
    }
}

impl Metrics for Conformance {
    fn collect(&mut self) -> Result<Vec<Sample>> {
        let sample = |name: &str, kind, value| Sample {
            name: name.to_owned(),
            kind,
            help: format!("Number of {name}"),
            value,
            labels: vec![attribute("plugin", "conformance")],
        };
        Ok(vec![
            sample("chunks_total", Kind::Counter, self.chunks as f64),
            sample(
                "mean_bytes",
                Kind::Gauge,
                self.bytes as f64 / self.chunks.max(1) as f64,
            ),
        ])
    }
}

impl Storage for Conformance {
    fn stat(&mut self, key: &str) -> Result<Option<u64>> {
        Ok(self.objects.get(key).map(|object| object.len() as u64))
    }

    fn read(&mut self, key: &str, offset: u64, length: u32) -> Result<Vec<u8>> {
        let object = self
            .objects
            .get(key)
            .ok_or_else(|| Error::NotFound(key.to_owned()))?;
        let rest = object
            .get(usize::try_from(offset).unwrap_or(usize::MAX)..)
            .unwrap_or_default();
        Ok(rest[..rest.len().min(length as usize)].to_vec())
    }

    fn begin(&mut self, key: &str) -> Result<u64> {
        let upload = self.next_upload;
        self.next_upload += 1;
        self.uploads.insert(upload, (key.to_owned(), Vec::new()));
        Ok(upload)
    }

    fn append(&mut self, upload: u64, data: &[u8]) -> Result<()> {
        let (_, bytes) = self
            .uploads
            .get_mut(&upload)
            .ok_or_else(|| unknown(upload))?;
        bytes.extend_from_slice(data);
        Ok(())
    }

    fn commit(&mut self, upload: u64) -> Result<()> {
        let (key, bytes) = self
            .uploads
            .remove(&upload)
            .ok_or_else(|| unknown(upload))?;
        self.objects.insert(key, bytes);
        Ok(())
    }

    fn abort(&mut self, upload: u64) -> Result<()> {
        self.uploads
            .remove(&upload)
            .map(drop)
            .ok_or_else(|| unknown(upload))
    }

    fn remove(&mut self, key: &str) -> Result<bool> {
        Ok(self.objects.remove(key).is_some())
    }

    fn enumerate(&mut self, prefix: &str, after: &str, limit: u32) -> Result<Vec<Entry>> {
        let entries = self
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after);
        let entries = entries.map(|(key, object)| Entry {
            key: key.clone(),
            size: object.len() as u64,
        });
        Ok(entries.take(limit as usize).collect())
    }
}

fn unknown(upload: u64) -> Error {
    Error::NotFound(format!("upload {upload}"))
}

impl Hook for Conformance {
    fn handle(&mut self, event: Event, payload: &[u8]) -> Result<HookOutcome> {
        let reaction = match (self.config.hooks.get(&event.point), event.detail.as_str()) {
            (Some(reaction), detail) => {
                // Tells who was called, and with what. The full name of a custom point would fire it.
                host::events::emit(event.point.trim_start_matches("custom:"), detail)?;
                *reaction
            }
            (None, "\"replace\"") => Reaction::Replace,
            (None, "\"abort\"") => Reaction::Abort,
            (None, "\"drop\"") => Reaction::Drop,
            (None, "\"panic\"") => Reaction::Panic,
            (None, _) => Reaction::Continue,
        };
        match reaction {
            Reaction::Continue => Ok(HookOutcome::Continue),
            Reaction::Replace => Ok(HookOutcome::Replace(
                payload.iter().rev().copied().collect(),
            )),
            Reaction::Drop => Ok(HookOutcome::Drop),
            Reaction::DropFirst => {
                let detail: serde_json::Value = from_json(&event.detail)?;
                if detail["sequence"] == 0 {
                    Ok(HookOutcome::Drop)
                } else {
                    Ok(HookOutcome::Continue)
                }
            }
            Reaction::Abort => Ok(HookOutcome::Abort(format!(
                "{} of {}",
                event.point, event.step
            ))),
            Reaction::Panic => panic!("told to panic in a hook"),
            Reaction::Fail => Err(Error::Failed(format!("told to fail at {}", event.point))),
            Reaction::Quote => Err(Error::Failed(quoted(payload))),
            Reaction::Spin => deeds::spin(),
            Reaction::Late => {
                while !host::cancel::should_cancel() {
                    std::hint::spin_loop();
                }
                Ok(HookOutcome::Continue)
            }
            Reaction::Fire => {
                host::events::emit("custom:again", &event.detail)?;
                Ok(HookOutcome::Continue)
            }
            Reaction::Call => {
                let target = Target::Plugin(self.config.calls.clone());
                let arguments = call_arguments(&event, payload);
                host::call::invoke(&target, "hook.handle", &arguments)?;
                Ok(HookOutcome::Continue)
            }
        }
    }
}

/// What a failure says that tells what could not be handled.
fn quoted(data: &[u8]) -> String {
    format!("cannot handle `{}`", String::from_utf8_lossy(data))
}

/// The arguments of `hook.handle` as `call` takes them.
fn call_arguments(event: &Event, payload: &[u8]) -> String {
    let event = serde_json::json!({
        "point": event.point,
        "run": event.run,
        "step": event.step,
        "timestamp": event.timestamp,
        "detail": event.detail,
    });
    serde_json::json!([event, payload]).to_string()
}

/// Exercises the contract.
#[derive(Parser)]
#[command(name = "conformance", no_binary_name = true)]
struct Arguments {
    /// What is printed.
    #[arg(required = true)]
    words: Vec<String>,
    /// The exit code.
    #[arg(short, long, default_value_t = 0, value_name = "NUMBER")]
    code: u8,
    /// Print in order or turned round.
    #[arg(long, value_parser = ["plain", "turned"], conflicts_with = "code")]
    order: Option<String>,
}

impl Command for Conformance {
    fn describe(&mut self, _verb: &str) -> Result<Vec<Node>> {
        Ok(describe_command(&Arguments::command()))
    }

    fn run(&mut self, _verb: &str, arguments: Vec<String>) -> Result<u8> {
        use std::io::Write as _;

        let arguments = Arguments::try_parse_from(arguments)
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let mut words = arguments.words;
        if arguments.order.as_deref() == Some("turned") {
            words.reverse();
        }
        let mut stdout = vox_plugin::Output::new("stdout");
        writeln!(stdout, "{}", words.join(" "))?;
        stdout.flush()?;
        Ok(arguments.code)
    }
}

impl Service for Conformance {
    fn invoke(&mut self, service: &str, request: &[u8]) -> Result<Vec<u8>> {
        match service {
            "reverse" => Ok(request.iter().rev().copied().collect()),
            "release" => Ok(release::mark().into_bytes()),
            other => Err(Error::NotFound(format!("service `{other}`"))),
        }
    }
}
