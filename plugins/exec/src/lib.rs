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
//! | `command` | the program and its arguments, handed over as they are: no shell takes part |
//! | `shell` | in place of `command`: a script for `/bin/sh -c` |
//! | `directory` | where it runs; relative to the step's directory, which is the default |
//!
//! The program reads port `stdin` when it is connected (and nothing otherwise), and its output goes
//! to the ports `stdout` and `stderr`, in whole lines where they end. Its environment is the
//! step's and no more; only `PATH` has a default. A non-zero exit code fails the step with the last
//! lines of `stderr`; a signal counts as 128 and its number, as in a shell.
//!
//! [`process`] owns the child and its process group, [`pipes`] the three streams. What must stay
//! true: when the step has ended, nothing that it started is running.

mod pipes;
mod process;
mod program;

use std::path::Path;

use serde::Deserialize;
use vox_plugin::step::{Invocation, Outcome};
use vox_plugin::{Error, Result, Step, attribute, from_json, plugin};

/// Where programs are looked for when the step's environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// JSON Schema of [`Arguments`].
const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "command": {"type": "array", "items": {"type": "string"}, "minItems": 1, "description": "The program and its arguments; no shell takes part"},
    "shell": {"type": "string", "description": "A script for /bin/sh -c, in place of command"},
    "directory": {"type": "string", "description": "Where it runs, relative to the step's directory"}
  },
  "oneOf": [{"required": ["command"]}, {"required": ["shell"]}],
  "additionalProperties": false
}"#;

/// The step's arguments.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    command: Option<Vec<String>>,
    shell: Option<String>,
    directory: Option<String>,
}

impl Arguments {
    /// The program with its arguments.
    fn words(self) -> Result<Vec<String>> {
        match (self.command, self.shell) {
            (Some(words), None) if !words.is_empty() => Ok(words),
            (None, Some(script)) => Ok(vec!["/bin/sh".to_owned(), "-c".to_owned(), script]),
            _ => Err(Error::Invalid("`exec` takes either `command`, a list that begins with the program, or `shell`, a script".to_owned())),
        }
    }
}

/// The plugin: it keeps nothing.
#[plugin(step)]
#[derive(Default)]
struct Exec;

impl Step for Exec {
    fn arguments_schema(&mut self, _runner: &str) -> Result<String> {
        Ok(SCHEMA.to_owned())
    }

    fn run(&mut self, invocation: Invocation) -> Result<Outcome> {
        let mut arguments: Arguments = from_json(&invocation.arguments)?;
        let directory = Path::new(&invocation.directory)
            .join(arguments.directory.take().unwrap_or_default());
        let mut environment = invocation.environment;
        if !environment.iter().any(|variable| variable.key == "PATH") {
            environment.push(attribute("PATH", DEFAULT_PATH));
        }
        let words = arguments.words()?;
        let reads = invocation.inputs.iter().any(|port| port == pipes::STDIN);
        let child = program::start(&words, &environment, &directory, reads)?;
        let ended = process::attend(child)?;
        Ok(Outcome { code: ended.code, summary: ended.summary(&words[0]), attributes: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_or_a_script_but_not_both_and_not_neither() {
        let words = |text: &str| from_json::<Arguments>(text).and_then(Arguments::words);
        assert_eq!(words(r#"{"command": ["ls", "-l"]}"#).unwrap(), ["ls", "-l"]);
        assert_eq!(words(r#"{"shell": "a | b"}"#).unwrap(), ["/bin/sh", "-c", "a | b"]);
        for bad in ["{}", r#"{"command": []}"#, r#"{"command": ["a"], "shell": "b"}"#] {
            assert!(matches!(words(bad), Err(Error::Invalid(text)) if text.contains("either `command`")));
        }
        assert!(matches!(words(r#"{"comand": ["a"]}"#), Err(Error::Invalid(text)) if text.contains("comand")));
    }

    #[test]
    fn the_schema_is_json() {
        from_json::<serde::de::IgnoredAny>(SCHEMA).unwrap();
    }
}
