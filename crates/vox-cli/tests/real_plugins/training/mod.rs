//! Trainings: from a configuration to a model, over kills and interruptions, and text out of it.
//!
//! Here is who trains, and with which configurations; the tests lie beside, by topic.

mod adapters;
mod backends;
mod beginning;
mod checkpoints;
mod resuming;
mod writing;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::{Ended, Place, path};

/// A training from scratch that takes a moment: 12 steps, with a checkpoint after every third.
const TINY: &str = r#"
output = "OUTPUT"

[scratch]
layers = 2
hidden = 64
heads = 2
intermediate = 128
vocabulary = 300

[data]
files = ["text.txt"]
context = 32

[optimisation]
steps = 12
batch-rows = 4
learning-rate = 1e-2
seed = 7

[cadence]
checkpoint-every = 3

[machine]
device = "cpu"
threads = 2
"#;

/// A training of an adapter for the model `BASE`.
const ADAPTER: &str = r#"
output = "OUTPUT"
[model]
base = "BASE"
[data]
files = ["text.txt"]
context = 32
[method]
kind = "lora"
rank = 4
targets = ["q_proj", "v_proj", "down_proj"]
[optimisation]
steps = 6
batch-rows = 4
learning-rate = 1e-2
[cadence]
checkpoint-every = 2
[machine]
device = "cpu"
threads = 2
"#;

/// A user with the backend, a text and configurations.
pub(crate) struct Trainer(Place);

impl Trainer {
    pub(crate) fn new() -> Self {
        let place = Place::with(&["candle-cpu"]);
        let sentence = "the cat sat on the mat and the dog lay on the log; ";
        place.write("text.txt", &sentence.repeat(200));
        Self(place)
    }

    /// A configuration with this output directory.
    pub(crate) fn config(&self, output: &str) -> PathBuf {
        let text = TINY.replace("OUTPUT", output);
        self.0.write(&format!("{output}.toml"), &text)
    }

    /// The configuration of an adapter's training.
    pub(crate) fn adapter(&self, base: &str, output: &str) -> PathBuf {
        let text = ADAPTER.replace("OUTPUT", output).replace("BASE", base);
        self.0.write(&format!("{output}.toml"), &text)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.0
    }

    pub(crate) fn train(&self, config: &Path, more: &[&str]) -> Ended {
        let words = ["train", path(config)];
        self.0.run(words.iter().chain(more))
    }

    /// Begins a training whose events can be read.
    fn begin(&self, config: &Path) -> Child {
        let mut command = self.0.vox();
        command
            .args(["train", path(config), "--format", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        // Full soon, so that it waits where nobody reads on. One that holds more by now stays as it is.
        #[cfg(target_os = "linux")]
        let _ = rustix::pipe::fcntl_setpipe_size(child.stdout.as_ref().unwrap(), 4096);
        child
    }

    /// What the output directory says of its training.
    fn notes(&self, output: &str) -> Value {
        let notes = self.0.path().join(output).join("training.json");
        serde_json::from_str(&fs::read_to_string(notes).unwrap()).unwrap()
    }

    /// The loss curve without the speed, a line for each step below its header.
    fn curve(&self, output: &str) -> Vec<String> {
        let table = self.0.path().join(output).join("loss.csv");
        let table = fs::read_to_string(table).unwrap();
        let lines = table
            .lines()
            .map(|line| line.rsplit_once(',').unwrap().0.to_owned());
        lines.collect()
    }

    /// The loss curve without the speed, and the model's weights.
    fn result(&self, output: &str) -> (Vec<String>, Vec<u8>) {
        let weights = self.0.path().join(output).join("model/model.safetensors");
        (self.curve(output), fs::read(weights).unwrap())
    }

    /// What a model says after two words.
    fn says(&self, model: &str) -> String {
        let words = ["generate", model, "--prompt", "the cat", "-n", "8"];
        let words = words.iter().chain(&["--temperature", "0"]);
        self.0.run(words).succeeded().stdout
    }
}

/// Reads events until step `step` was made.
fn wait_for_step(child: &mut Child, step: u64) {
    let stdout = child.stdout.as_mut().unwrap();
    for line in BufReader::new(stdout).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if event["event"] == "step" && event["step"] == step {
            return;
        }
    }
    panic!("the training ended before step {step}");
}

/// What the event `resumed` says of backend and machine.
fn differences(events: &str) -> Value {
    let resumed = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|event| event["event"] == "resumed");
    resumed.unwrap()["differences"].clone()
}

/// What the last event says, of a training whose events were printed.
fn ended_event(events: &str) -> Value {
    serde_json::from_str(events.lines().next_back().unwrap()).unwrap()
}
