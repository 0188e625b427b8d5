//! The runner `exec`: runs a program as a step.
//!
//! ```toml
//! [[step]]
//! key = "count"
//! uses = "exec"
//! with = { command = ["wc", "-w"] }
//! inputs = { stdin = { from = "read.stdout" } }
//! ```
//!
//! | argument | meaning |
//! |---|---|
//! | `command` | the program and its arguments, which no shell reads |
//! | `shell` | a script for `/bin/sh -c` instead |
//! | `directory` | where the program starts, relative to the run's directory, which is the default |
//! | `stdin` | a text that the program reads, where no stream is connected |
//! | `codes` | the exit codes that are success, `[0]` |
//! | `output-limit` | bytes that it may write to `stdout` and `stderr` together, `1GiB` |
//! | `stop` | `signal` and `grace`: how it is asked to end, and how long it has, `TERM` and `2s` |
//! | `limits` | `cpu`, `memory`, `file-size`, `files`, `processes`: what each process may use (Linux) |
//! | `umask` | mode bits that its files do not get, in octal |
//!
//! - **Environment.** The step's, and nothing of the host's own. Where it has no `PATH`, that is
//!   `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`. Added are `VOX_RUN`, `VOX_STEP`,
//!   `VOX_ATTEMPT`, `VOX_IDEMPOTENCY_KEY`, `VOX_STEP_ID`, and `VOX_INPUT_<NAME>` and
//!   `VOX_OUTPUT_<NAME>` with the absolute path of each file that the plan names.
//! - **Streams.** The program reads the port `stdin` if the plan connects it, otherwise the text of
//!   `stdin`, otherwise nothing. Its output goes to the ports `stdout` and `stderr`, in chunks of at
//!   most 64 KiB that end with a line where they can. When nobody takes the output any more, the
//!   program finds its pipe closed, as in a shell; ending by SIGPIPE then is success.
//! - **Progress.** A line `::progress 3/10 text` is not output but the event `progress`, where the
//!   plugin is granted `events`.
//! - **End.** The code is the program's own, or 128 and the number of the signal that ended it. The
//!   summary of a failed step ends with the last 20 lines of `stderr`, or of `stdout` where `stderr`
//!   is empty. Attributes are `exit-code` or `signal`, `cpu-seconds`, `strays`, and `max-rss` (bytes)
//!   where the program has needed more memory than the host.
//! - **Nothing is left running.** Processes that the program leaves are ended with it, two seconds
//!   later when they hold its output; also those that have left its group and session, and also when
//!   the host itself is killed. The modules `mark` and `guard` say what cannot be found.
//! - **Cancellation** asks the whole process group to end, and kills it after the grace.

mod arguments;
mod environment;
#[cfg(test)]
mod faults;
mod group;
mod guard;
#[cfg(all(test, target_os = "linux"))]
mod killed;
mod last;
mod lookup;
mod mark;
mod process;
mod progress;
mod pump;
mod quantity;
#[cfg(test)]
#[path = "../../../tests/skipped.rs"]
mod skipped;
mod summary;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use vox_plugin::native::HostHandle;
use vox_plugin::step::{Invocation, Outcome};
use vox_plugin::{Error, Result, Step, host, plugin, text_chunk};

use crate::arguments::Program;
use crate::process::Connected;
use crate::pump::Streams;

/// The plugin: it keeps nothing.
#[plugin(step)]
#[derive(Default)]
struct Exec;

impl Step for Exec {
    fn arguments_schema(&mut self, _runner: &str) -> Result<String> {
        Ok(arguments::schema().to_string())
    }

    fn run(&mut self, invocation: Invocation) -> Result<Outcome> {
        let Some(host) = HostHandle::current() else {
            return Err(Error::Unavailable("there is no host to run for".to_owned()));
        };
        carry_out(&invocation, Arc::new(HostStreams(host)))
    }
}

/// Runs the program that a step names.
fn carry_out(invocation: &Invocation, streams: Arc<dyn Streams>) -> Result<Outcome> {
    let program = Program::new(invocation)?;
    if let Some(port) = invocation.inputs.iter().find(|port| *port != "stdin") {
        return Err(Error::Invalid(format!(
            "a program has no input `{port}`; connect the stream to `stdin`"
        )));
    }
    let is_read = |port: &str| invocation.outputs.iter().any(|output| output == port);
    let connected = Connected {
        stdin: !invocation.inputs.is_empty(),
        stdout: is_read("stdout"),
        stderr: is_read("stderr"),
    };
    if connected.stdin && program.stdin.is_some() {
        return Err(Error::Invalid(
            "the step has a text for `stdin` and a stream that is connected to it; leave out one"
                .to_owned(),
        ));
    }
    summary::note_memory();
    let ended = process::run(&program, connected, &streams)?;
    Ok(summary::outcome(&program, &ended))
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

    fn progress(&self, event: &str) -> Result<()> {
        self.0.enter(|| host::events::emit("progress", event))
    }

    fn should_cancel(&self) -> bool {
        self.0.enter(host::cancel::should_cancel)
    }
}
