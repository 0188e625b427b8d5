//! Invocations, and streams in memory, for the tests.

use std::collections::{BTreeMap, VecDeque};
#[cfg(target_os = "linux")]
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};
use vox_plugin::serde_json::Value;
use vox_plugin::step::{Invocation, Outcome};
use vox_plugin::{Error, Result};

use crate::carry_out;
use crate::pump::Streams;

/// A step with these arguments.
pub fn invocation(arguments: Value) -> Invocation {
    Invocation {
        run: "run".to_owned(),
        step: "step".to_owned(),
        runner: "exec".to_owned(),
        arguments: arguments.to_string(),
        environment: Vec::new(),
        directory: "/".to_owned(),
        attempt: 1,
        idempotency_key: "key".to_owned(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        input_files: Vec::new(),
        output_files: Vec::new(),
    }
}

/// What comes out of port `stdin` when the chunks have.
enum Input {
    End,
    Nothing,
    Break(fn() -> Error),
}

/// The streams of one program.
#[derive(Default)]
pub struct Memory {
    pushed: Mutex<BTreeMap<String, Vec<Vec<u8>>>>,
    /// The events of progress.
    told: Mutex<Vec<String>>,
    /// What every push is answered with.
    refusal: Option<fn() -> Error>,
    input: Option<(Mutex<VecDeque<Vec<u8>>>, Input)>,
    cancelled_by_output: bool,
    cancelled: AtomicBool,
}

impl Memory {
    pub fn refusing(refusal: fn() -> Error) -> Self {
        Self {
            refusal: Some(refusal),
            ..Self::default()
        }
    }

    pub fn with_input(chunks: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self {
            input: Some((Mutex::new(chunks.into_iter().collect()), Input::End)),
            ..Self::default()
        }
    }

    pub fn with_endless_input() -> Self {
        Self {
            input: Some((Mutex::default(), Input::Nothing)),
            ..Self::default()
        }
    }

    pub fn with_broken_input(error: fn() -> Error) -> Self {
        Self {
            input: Some((Mutex::default(), Input::Break(error))),
            ..Self::default()
        }
    }

    /// The step is cancelled when the program writes something.
    pub fn cancelled_by_output() -> Self {
        Self {
            cancelled_by_output: true,
            ..Self::default()
        }
    }

    pub fn has_input(&self) -> bool {
        self.input.is_some()
    }

    /// What was told of progress.
    pub fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    /// What was pushed to a port.
    pub fn chunks(&self, port: &str) -> Vec<Vec<u8>> {
        self.pushed
            .lock()
            .unwrap()
            .get(port)
            .cloned()
            .unwrap_or_default()
    }
}

impl Streams for Memory {
    fn push(&self, port: &str, sequence: u64, data: &[u8]) -> Result<()> {
        if let Some(refusal) = self.refusal {
            return Err(refusal());
        }
        self.cancelled
            .store(self.cancelled_by_output, Ordering::Release);
        let mut pushed = self.pushed.lock().unwrap();
        let chunks = pushed.entry(port.to_owned()).or_default();
        assert_eq!(
            sequence,
            chunks.len() as u64,
            "chunks are counted without gaps"
        );
        chunks.push(data.to_vec());
        Ok(())
    }

    fn pull(&self, port: &str, timeout: Duration) -> Result<Option<Vec<u8>>> {
        let (chunks, end) = self.input.as_ref().expect("an input");
        match (chunks.lock().unwrap().pop_front(), end) {
            (Some(chunk), _) => Ok(Some(chunk)),
            (None, Input::End) => Ok(None),
            (None, Input::Break(error)) => Err(error()),
            (None, Input::Nothing) => {
                thread::sleep(timeout);
                Err(Error::TimedOut(port.to_owned()))
            }
        }
    }

    fn progress(&self, event: &str) -> Result<()> {
        self.told.lock().unwrap().push(event.to_owned());
        Ok(())
    }

    fn should_cancel(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

/// Carries a step out whose streams are `streams`.
pub fn carried_out(invocation: &Invocation, streams: Memory) -> (Result<Outcome>, Arc<Memory>) {
    let streams = Arc::new(streams);
    let outcome = carry_out(invocation, Arc::clone(&streams) as _);
    (outcome, streams)
}

/// Carries a script out in two ways: with nobody who reads its output, and with somebody. The same
/// must come of both.
pub fn both_ways(
    arguments: &Value,
    streams: impl Fn() -> Memory,
) -> [(Result<Outcome>, Arc<Memory>); 2] {
    [&[][..], &["stdout", "stderr"]].map(|outputs| {
        let streams = streams();
        let mut invocation = invocation(arguments.clone());
        invocation.outputs = outputs.iter().map(|&port| port.to_owned()).collect();
        if streams.has_input() {
            invocation.inputs.push("stdin".to_owned());
        }
        carried_out(&invocation, streams)
    })
}

/// A fact that a step answers.
pub fn fact<'o>(outcome: &'o Outcome, name: &str) -> Option<&'o str> {
    let mut facts = outcome.attributes.iter();
    Some(&facts.find(|fact| fact.key == name)?.value)
}

/// Process ids, as a script wrote them.
pub fn pids(output: &[u8]) -> Vec<Pid> {
    let text = std::str::from_utf8(output).unwrap();
    let pids = text
        .split_ascii_whitespace()
        .map(|id| Pid::from_raw(id.parse().unwrap()).unwrap());
    pids.collect()
}

/// Whether there is no such process.
pub fn is_gone(process: Pid) -> bool {
    test_kill_process(process).is_err()
}

/// A named pipe in a directory.
#[cfg(target_os = "linux")]
pub fn fifo(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    path
}
