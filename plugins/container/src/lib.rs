//! The runner `container`: runs a container as a step, by Docker or Podman.
//!
//! ```toml
//! [[step]]
//! key = "count"
//! uses = "container"
//! with = { image = "docker.io/library/alpine:3.20", command = ["wc", "-w"] }
//! inputs = { stdin = { from = "read.stdout" } }
//! ```
//!
//! | argument | meaning |
//! |---|---|
//! | `image` | reference of the image |
//! | `builds_in` | in its place: a snapshot that an earlier step made, or an image's id |
//! | `pull` | `missing` (the default), `always` or `never` |
//! | `command` | the program and its arguments, which no shell reads |
//! | `shell` | a script for `/bin/sh -c` instead |
//! | `entrypoint` | in place of the image's own; `[]` for none |
//! | `directory`, `user` | where the program starts and who it is, inside |
//! | `network` | `false` (the default), `true`, or the name of one of the engine's networks |
//! | `limits` | `cpus`, `memory` (without swap) and `pids` |
//! | `read-only`, `tmpfs` | the image's files cannot be changed; a `/tmp` in memory of this size |
//! | `capabilities` | Linux capabilities that the container keeps; none otherwise |
//! | `commit` | name of a snapshot, made of its files when it has succeeded |
//! | `platform` | operating system and architecture of the image |
//!
//! - **Engine.** That of the plugin's setting `socket`, of `DOCKER_HOST` in the step's environment,
//!   or of the first usual place where one answers.
//! - **Files.** Inputs are at `/vox/in/<name>` and cannot be written. Outputs are made at
//!   `/vox/out/<name>` and moved to their places when the container has succeeded.
//! - **Environment.** The image's, what is declared for the step, and `VOX_RUN`, `VOX_STEP`, `VOX_ATTEMPT`,
//!   `VOX_IDEMPOTENCY_KEY`, `VOX_INPUT_<NAME>` and `VOX_OUTPUT_<NAME>`.
//! - **Streams.** As of `exec`: port `stdin` if the plan connects it, and `stdout` and `stderr`. A
//!   container whose output nobody takes any more is ended, and has succeeded, unless it makes
//!   files or a snapshot: then its output is dropped.
//! - **End.** The container is removed, whatever happens: by a guard when the host is killed.
//! - **Cancellation** is SIGTERM to the program, and SIGKILL two seconds later.

mod arguments;
mod container;
mod engine;
mod files;
mod guard;
mod images;
mod life;
mod owner;
mod record;
#[cfg(test)]
#[path = "../../../tests/skipped.rs"]
mod skipped;
mod streams;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use vox_plugin::host::log::Level;
use vox_plugin::native::HostHandle;
use vox_plugin::step::{Invocation, Outcome};
use vox_plugin::{Error, Lifecycle, Result, Step, attribute, from_json, host, plugin, text_chunk};

use crate::arguments::Arguments;
use crate::container::Ended;
use crate::streams::Streams;

/// The plugin: it keeps its settings.
#[plugin(step, lifecycle)]
struct Container {
    settings: Settings,
}

/// The plugin's own configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The socket of the engine's API.
    socket: Option<String>,
}

impl Lifecycle for Container {
    fn init(config: &str) -> Result<Self> {
        Ok(Self {
            settings: from_json(config)?,
        })
    }
}

impl Step for Container {
    fn arguments_schema(&mut self, _runner: &str) -> Result<String> {
        Ok(arguments::schema().to_string())
    }

    fn run(&mut self, invocation: Invocation) -> Result<Outcome> {
        let Some(host) = HostHandle::current() else {
            return Err(Error::Unavailable("there is no host to run for".to_owned()));
        };
        let streams: Arc<dyn Streams> = Arc::new(HostStreams(host));
        carry_out(&invocation, &self.settings, &streams)
    }
}

fn carry_out(
    invocation: &Invocation,
    settings: &Settings,
    streams: &Arc<dyn Streams>,
) -> Result<Outcome> {
    let arguments = Arguments::new(&invocation.arguments)?;
    if let Some(port) = invocation.inputs.iter().find(|port| *port != "stdin") {
        return Err(Error::Invalid(format!(
            "a container has no input `{port}`; connect the stream to `stdin`"
        )));
    }
    let socket = engine::find(settings.socket.as_deref(), &invocation.environment)?;
    let ended = life::run(invocation, &arguments, &socket, streams)?;
    Ok(outcome(&arguments, &ended))
}

/// The streams that the host has connected, for any thread.
struct HostStreams(HostHandle);

impl Streams for HostStreams {
    fn push(&self, port: &str, sequence: u64, data: &[u8]) -> Result<()> {
        self.0
            .enter(|| host::stream::push(port, &text_chunk(sequence), data, None))
    }

    fn pull(&self, port: &str, timeout: Duration) -> Result<Option<Vec<u8>>> {
        let timeout = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let chunk = self.0.enter(|| host::stream::pull(port, Some(timeout)))?;
        Ok(chunk.map(|chunk| chunk.data))
    }

    fn should_cancel(&self) -> bool {
        self.0.enter(host::cancel::should_cancel)
    }

    fn warn(&self, text: &str) {
        self.0.enter(|| host::log::write(Level::Warn, text, &[]));
    }
}

/// What the step answers for a container that has ended.
fn outcome(arguments: &Arguments, ended: &Ended) -> Outcome {
    let image = arguments.image.written();
    let mut attributes = vec![
        attribute("image", image),
        attribute("image-id", &*ended.image_id),
        attribute("container", &*ended.container),
        attribute("exit-code", ended.code.to_string()),
        attribute("oom-killed", ended.out_of_memory.to_string()),
    ];
    let mut summary = match (ended.code, ended.unwanted) {
        (0, false) => format!("a container of `{image}` succeeded"),
        (0, true) => {
            format!("a container of `{image}` was ended, as nobody takes its output any more")
        }
        (code, _) => {
            let mut lines = vec![failure(arguments, ended, code)];
            lines.extend_from_slice(&ended.last_words);
            lines.join("\n")
        }
    };
    if let Some(snapshot) = &ended.snapshot {
        attributes.push(attribute("snapshot", &*snapshot.name));
        attributes.push(attribute("snapshot-id", &*snapshot.id));
        summary = format!("{summary}, and is kept as `{}`", snapshot.name);
    }
    Outcome {
        code: i32::try_from(ended.code).unwrap_or(i32::MAX),
        summary,
        attributes,
    }
}

/// How a container has failed, in one line.
fn failure(arguments: &Arguments, ended: &Ended, code: i64) -> String {
    let image = arguments.image.written();
    if ended.out_of_memory {
        let limit = match arguments.limits.memory {
            Some(bytes) => format!("than {}", allowed(bytes)),
            None => "than this machine has; give it less to do at a time".to_owned(),
        };
        return format!("a container of `{image}` was killed: it used more memory {limit}");
    }
    // Not every engine notices why.
    if let (137, Some(bytes)) = (code, arguments.limits.memory) {
        return format!(
            "a container of `{image}` was killed (code 137, SIGKILL), probably as it used more \
             memory than {}",
            allowed(bytes)
        );
    }
    let hint = match code {
        126 => "; its program cannot be executed",
        127 => "; 127 stands for a program that the image does not have",
        137 => "; that is SIGKILL, from inside or from somebody else on this machine",
        143 => "; that is SIGTERM, from inside or from somebody else on this machine",
        _ => "",
    };
    format!("a container of `{image}` exited with code {code}{hint}")
}

fn allowed(bytes: i64) -> String {
    format!(
        "the {} MiB that `limits.memory` allows; raise that, or have it do with less",
        bytes / (1 << 20)
    )
}
