//! What a step asks for: its arguments, and the program that they name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;
use vox_plugin::serde_json::{Value, json};
use vox_plugin::step::Invocation;
use vox_plugin::{Error, Result, from_json};

use crate::environment;
use crate::lookup;
use crate::quantity::{self, bytes, time};

/// The longest time that a program may be given to end.
const LONGEST_GRACE: Duration = Duration::from_secs(300);
/// Bytes of output where the step sets no limit.
const OUTPUT_LIMIT: u64 = 1 << 30;
/// The signals that may ask a program to end.
const STOP_SIGNALS: [(&str, Signal); 5] = [
    ("TERM", Signal::TERM),
    ("INT", Signal::INT),
    ("HUP", Signal::HUP),
    ("QUIT", Signal::QUIT),
    ("KILL", Signal::KILL),
];

/// A step's arguments as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Arguments {
    command: Option<Vec<String>>,
    shell: Option<String>,
    directory: Option<PathBuf>,
    stdin: Option<String>,
    codes: Option<Vec<u8>>,
    output_limit: Option<String>,
    umask: Option<String>,
    #[serde(default)]
    stop: StopArguments,
    #[serde(default)]
    limits: LimitArguments,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StopArguments {
    signal: Option<String>,
    grace: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LimitArguments {
    cpu: Option<String>,
    memory: Option<String>,
    file_size: Option<String>,
    files: Option<u64>,
    processes: Option<u64>,
}

/// A program to be started.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// What the user wrote for the program, as messages name it.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// Its arguments, without its own name.
    pub arguments: Vec<String>,
    /// Its environment, complete but for the mark of its processes.
    pub environment: Vec<(String, String)>,
    /// The directory that it starts in.
    pub directory: PathBuf,
    /// What it reads where no stream is connected to its standard input.
    pub stdin: Option<String>,
    /// The exit codes that are success.
    pub codes: Vec<u8>,
    /// Bytes that it may write to `stdout` and `stderr` together.
    pub output_limit: u64,
    /// The mode bits that its files do not get, in octal, as `umask` takes them.
    pub umask: Option<String>,
    /// How it is asked to end.
    pub stop: Stop,
    /// What it and each process that it starts may use.
    pub limits: Limits,
}

/// How a program is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The signal that asks it.
    pub signal: Signal,
    /// How long it has before it is killed.
    pub grace: Duration,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            signal: Signal::TERM,
            grace: Duration::from_millis(if cfg!(test) { 200 } else { 2000 }),
        }
    }
}

/// What each process of a step may use; none where the system's own limits hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Processor time in whole seconds.
    pub cpu: Option<u64>,
    /// Bytes of address space.
    pub memory: Option<u64>,
    /// Bytes of each file that is written.
    pub file_size: Option<u64>,
    /// Files that are open at once.
    pub files: Option<u64>,
    /// Processes of the user at once.
    pub processes: Option<u64>,
}

/// The JSON Schema of the arguments.
pub fn schema() -> Value {
    let bytes = |description: &str| json!({ "description": description, "type": "string", "pattern": quantity::BYTES });
    let time = |description: &str| json!({ "description": description, "type": "string", "pattern": quantity::TIME });
    let count =
        |description: &str| json!({ "description": description, "type": "integer", "minimum": 1 });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "exec",
        "description": "Runs a program.",
        "type": "object",
        "properties": {
            "command": {
                "description": "The program and its arguments. No shell reads them.",
                "type": "array",
                "items": { "type": "string" },
                "minItems": 1
            },
            "shell": {
                "description": "A script, run by `/bin/sh -c`.",
                "type": "string",
                "minLength": 1
            },
            "directory": {
                "description": "Where the program starts, relative to the run's directory.",
                "type": "string",
                "minLength": 1
            },
            "stdin": {
                "description": "What the program reads from its standard input, where no stream is connected to it.",
                "type": "string"
            },
            "codes": {
                "description": "The exit codes that count as success; `[0]` unless set.",
                "type": "array",
                "items": { "type": "integer", "minimum": 0, "maximum": 255 },
                "minItems": 1
            },
            "output-limit": bytes("How much the program may write to `stdout` and `stderr` together before it is ended and the step fails; `1GiB` unless set."),
            "umask": {
                "description": "The mode bits that files of the program do not get, in octal: `077`.",
                "type": "string",
                "pattern": "^[0-7]{1,4}$"
            },
            "stop": {
                "description": "How the program is asked to end before its time.",
                "type": "object",
                "properties": {
                    "signal": {
                        "description": "The signal that its process group gets first; `TERM` unless set.",
                        "enum": STOP_SIGNALS.map(|(name, _)| name)
                    },
                    "grace": time("How long it has until its process group is killed, at most `5min`; `2s` unless set.")
                },
                "additionalProperties": false
            },
            "limits": {
                "description": "What each process of the step may use (Linux only).",
                "type": "object",
                "properties": {
                    "cpu": time("Processor time, counted in whole seconds; SIGXCPU ends the process."),
                    "memory": bytes("Address space; the system refuses the process more."),
                    "file-size": bytes("The size of each file that is written; SIGXFSZ ends the process."),
                    "files": count("Files that are open at once."),
                    "processes": count("Processes and threads of the user at once, counted over the whole system. It does not bind root.")
                },
                "additionalProperties": false
            }
        },
        "additionalProperties": false,
        "oneOf": [{ "required": ["command"] }, { "required": ["shell"] }]
    })
}

impl Program {
    /// Reads a step's arguments and finds the program.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the arguments make no sense, [`Error::NotFound`] when there is no
    /// such program or directory.
    pub fn new(invocation: &Invocation) -> Result<Self> {
        let arguments: Arguments = from_json(&invocation.arguments)?;
        let base = Path::new(&invocation.directory);
        let mut words = match (arguments.command, arguments.shell) {
            (Some(command), None) => command.into_iter(),
            (None, Some(script)) => vec!["/bin/sh".to_owned(), "-c".to_owned(), script].into_iter(),
            _ => {
                return Err(Error::Invalid(
                    "give the step either `command`, the program and its arguments, or `shell`, a \
                     script"
                        .to_owned(),
                ));
            }
        };
        let Some(name) = words.next().filter(|name| !name.is_empty()) else {
            return Err(Error::Invalid("`command` names no program".to_owned()));
        };
        let directory = arguments
            .directory
            .map_or_else(|| base.to_owned(), |directory| base.join(directory));
        if !directory.is_dir() {
            return Err(Error::NotFound(format!(
                "`{name}` cannot start in {}: there is no such directory",
                directory.display()
            )));
        }
        let environment = environment::of(invocation);
        let file = lookup::find(&name, environment::path(&environment), &directory)?;
        let codes = arguments.codes.unwrap_or_else(|| vec![0]);
        if codes.is_empty() {
            return Err(Error::Invalid(
                "`codes` is empty, so that nothing would be success; name a code, such as 0"
                    .to_owned(),
            ));
        }
        if let Some(umask) = &arguments.umask {
            check_umask(umask)?;
        }
        Ok(Self {
            name,
            file,
            arguments: words.collect(),
            environment,
            directory,
            stdin: arguments.stdin,
            codes,
            output_limit: match &arguments.output_limit {
                Some(limit) => bytes("output-limit", limit)?,
                None => OUTPUT_LIMIT,
            },
            umask: arguments.umask,
            stop: arguments.stop.read()?,
            limits: arguments.limits.read()?,
        })
    }
}

impl StopArguments {
    fn read(self) -> Result<Stop> {
        let mut stop = Stop::default();
        if let Some(wanted) = self.signal {
            let found = STOP_SIGNALS.iter().find(|(name, _)| *name == wanted);
            let (_, signal) = found.ok_or_else(|| {
                Error::Invalid(format!(
                    "`stop.signal` is `{}`; a program can be asked to end by {}",
                    wanted.escape_debug(),
                    STOP_SIGNALS.map(|(name, _)| name).join(", ")
                ))
            })?;
            stop.signal = *signal;
        }
        if let Some(grace) = self.grace {
            stop.grace = time("stop.grace", &grace)?;
            if stop.grace > LONGEST_GRACE {
                return Err(Error::Invalid(format!(
                    "`stop.grace` is `{grace}`; a program can be given at most 5min to end"
                )));
            }
        }
        Ok(stop)
    }
}

impl LimitArguments {
    fn read(self) -> Result<Limits> {
        let size = |name, limit: Option<String>| limit.map(|limit| bytes(name, &limit)).transpose();
        let cpu = self
            .cpu
            .map(|limit| time("limits.cpu", &limit))
            .transpose()?;
        let limits = Limits {
            // The system counts in seconds, and takes 0 for 1.
            cpu: cpu.map(|limit| limit.as_millis().div_ceil(1000).max(1) as u64),
            memory: size("limits.memory", self.memory)?,
            file_size: size("limits.file-size", self.file_size)?,
            files: self.files,
            processes: self.processes,
        };
        if cfg!(not(target_os = "linux")) && limits != Limits::default() {
            return Err(Error::Invalid(
                "`limits` can be set on Linux only; on this system, write `ulimit` before the \
                 program in a `shell` script"
                    .to_owned(),
            ));
        }
        Ok(limits)
    }
}

fn check_umask(umask: &str) -> Result<()> {
    let octal =
        (1..=4).contains(&umask.len()) && umask.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    if octal {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "`umask` is `{}`; write the mode bits in octal, such as `077`",
        umask.escape_debug()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::invocation;

    fn program(arguments: Value) -> Result<Program> {
        Program::new(&invocation(arguments))
    }

    fn refusal(arguments: Value) -> Error {
        program(arguments).expect_err("it was taken")
    }

    #[test]
    fn a_command_is_a_program_and_its_arguments() {
        let program =
            program(json!({ "command": ["sh", "-c", "a b"], "directory": "tmp" })).unwrap();
        assert!(program.file.ends_with("bin/sh"));
        assert_eq!(program.arguments, ["-c", "a b"]);
        assert_eq!(program.directory, Path::new("/tmp"));
    }

    #[test]
    fn a_script_is_read_by_the_shell() {
        let program = program(json!({ "shell": "a | b" })).unwrap();
        assert_eq!(program.file, Path::new("/bin/sh"));
        assert_eq!(program.arguments, ["-c", "a | b"]);
    }

    #[test]
    fn everything_else_has_a_default_and_can_be_set() {
        let plain = program(json!({ "shell": ":" })).unwrap();
        assert_eq!(plain.codes, [0]);
        assert_eq!(plain.output_limit, 1 << 30);
        assert_eq!(plain.stop, Stop::default());
        assert_eq!(plain.limits, Limits::default());
        let set = program(json!({
            "shell": ":",
            "stdin": "text",
            "codes": [0, 3],
            "output-limit": "1MiB",
            "umask": "077",
            "stop": { "signal": "INT", "grace": "5min" },
            "limits": { "cpu": "1500ms", "memory": "2GiB", "file-size": "1KiB", "files": 64, "processes": 8 },
        }))
        .unwrap();
        assert_eq!(set.codes, [0, 3]);
        assert_eq!(set.output_limit, 1 << 20);
        assert_eq!(set.stop.signal, Signal::INT);
        assert_eq!(set.stop.grace, Duration::from_secs(300));
        let limits = Limits {
            cpu: Some(2),
            memory: Some(2 << 30),
            file_size: Some(1024),
            files: Some(64),
            processes: Some(8),
        };
        assert_eq!(set.limits, limits);
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for arguments in [
            json!({}),
            json!({ "command": [] }),
            json!({ "command": [""] }),
            json!({ "command": ["a"], "shell": "b" }),
            json!({ "comand": ["a"] }),
            json!({ "shell": ":", "codes": [] }),
            json!({ "shell": ":", "codes": [256] }),
            json!({ "shell": ":", "umask": "0888" }),
            json!({ "shell": ":", "umask": "0; rm" }),
            json!({ "shell": ":", "output-limit": "1GB" }),
            json!({ "shell": ":", "stop": { "signal": "STOP" } }),
            json!({ "shell": ":", "stop": { "grace": "6min" } }),
            json!({ "shell": ":", "stop": { "gracee": "6s" } }),
            json!({ "shell": ":", "limits": { "cpu": "2" } }),
            json!({ "shell": ":", "limits": { "disk": "2GiB" } }),
        ] {
            assert!(
                matches!(refusal(arguments.clone()), Error::Invalid(_)),
                "{arguments}"
            );
        }
    }

    #[test]
    fn a_path_that_leads_to_no_program_is_refused_with_the_reason() {
        let told = refusal(json!({ "command": ["./none/such"] })).to_string();
        assert!(told.contains("/./none/such"), "{told}");
        let told = refusal(json!({ "command": ["/etc/passwd"] })).to_string();
        assert!(told.contains("chmod +x"), "{told}");
        let told = refusal(json!({ "command": ["sh"], "directory": "none" })).to_string();
        assert!(told.contains("/none"), "{told}");
    }
}
