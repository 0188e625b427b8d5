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
//!
//! - **Environment.** The step's, and nothing of the host's own. Where it has no `PATH`, that is
//!   `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`.
//! - **Streams.** The program reads the port `stdin` if the plan connects it, otherwise nothing. Its
//!   output goes to the ports `stdout` and `stderr` as text, in chunks of at most 64 KiB that end
//!   with a line where they can. When nobody takes the output any more, the program finds its pipe
//!   closed, as in a shell; ending by SIGPIPE then is success.
//! - **End.** The code is the program's own, or 128 and the number of the signal that ended it. The
//!   summary of a failed step ends with the last 20 lines of `stderr`. Processes that the program
//!   leaves in its process group are ended with it, two seconds later when they hold its output.
//! - **Cancellation** ends the whole process group: SIGTERM, and SIGKILL two seconds later.

mod arguments;
mod process;
mod pump;
#[cfg(test)]
mod testing;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use vox_plugin::native::HostHandle;
use vox_plugin::step::{Invocation, Outcome};
use vox_plugin::{Error, Result, Step, attribute, host, plugin, text_chunk};

use crate::arguments::Program;
use crate::process::Ended;
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
        let Invocation {
            arguments,
            environment,
            directory,
            inputs,
            ..
        } = invocation;
        let program = Program::new(&arguments, &environment, Path::new(&directory))?;
        if let Some(port) = inputs.iter().find(|port| *port != "stdin") {
            return Err(Error::Invalid(format!(
                "a program has no input `{port}`; connect the stream to `stdin`"
            )));
        }
        let Some(host) = HostHandle::current() else {
            return Err(Error::Unavailable("there is no host to run for".to_owned()));
        };
        let streams: Arc<dyn Streams> = Arc::new(HostStreams(host));
        let ended = process::run(&program, !inputs.is_empty(), &streams)?;
        Ok(outcome(&program, &ended))
    }
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
}

/// What the step answers for a program that has ended.
fn outcome(program: &Program, ended: &Ended) -> Outcome {
    let name = &program.name;
    if ended.is_success() {
        return Outcome {
            code: 0,
            summary: format!("`{name}` succeeded"),
            attributes: Vec::new(),
        };
    }
    let code = ended.code();
    let (how, attributes) = match ended.signal() {
        Some(signal) => (
            format!("was ended by signal {signal}"),
            vec![attribute("signal", signal.to_string())],
        ),
        None => (format!("exited with code {code}"), Vec::new()),
    };
    let mut lines = vec![format!("`{name}` {how}")];
    lines.extend_from_slice(&ended.last_words);
    Outcome {
        code,
        summary: lines.join("\n"),
        attributes,
    }
}
