//! Trainings: from a configuration to a model, over kills and interruptions, and text out of it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

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
        command.spawn().unwrap()
    }

    /// The loss curve without the speed, and the model's weights.
    fn result(&self, output: &str) -> (Vec<String>, Vec<u8>) {
        let output = self.0.path().join(output);
        let table = fs::read_to_string(output.join("loss.csv")).unwrap();
        let lines = table
            .lines()
            .map(|line| line.rsplit_once(',').unwrap().0.to_owned());
        let weights = fs::read(output.join("model/model.safetensors")).unwrap();
        (lines.collect(), weights)
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

/// What the last event says, of a training whose events were printed.
fn ended_event(events: &str) -> Value {
    serde_json::from_str(events.lines().next_back().unwrap()).unwrap()
}

#[test]
fn a_training_that_is_killed_goes_on_to_the_same_bytes() {
    let trainer = Trainer::new();
    let whole = trainer.config("whole");
    let first = trainer.train(&whole, &["--format", "json"]);
    let first = ended_event(&first.succeeded().stdout);
    assert_eq!(first["finished"], true);

    for step in [1, 7] {
        let output = format!("killed-{step}");
        let config = trainer.config(&output);
        let mut child = trainer.begin(&config);
        wait_for_step(&mut child, step);
        child.kill().unwrap();
        child.wait().unwrap();
        let second = trainer.train(&config, &["--resume", "--format", "json"]);
        let second = ended_event(&second.succeeded().stdout);
        assert_eq!(
            first["checkpoint"], second["checkpoint"],
            "killed after step {step}"
        );
        assert_eq!(
            trainer.result("whole"),
            trainer.result(&output),
            "killed after step {step}"
        );
    }
    trainer.0.run(["log", "verify"]).succeeded();
}

#[test]
fn a_training_that_is_interrupted_saves_what_was_computed_and_goes_on_to_the_same_bytes() {
    let trainer = Trainer::new();
    let whole = trainer.config("whole");
    trainer.train(&whole, &[]).succeeded();

    let config = trainer.config("interrupted");
    let mut child = trainer.begin(&config);
    wait_for_step(&mut child, 4);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    // What it still writes must not stop it.
    std::io::copy(child.stdout.as_mut().unwrap(), &mut std::io::sink()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let notes = fs::read_to_string(trainer.0.path().join("interrupted/training.json")).unwrap();
    let notes: Value = serde_json::from_str(&notes).unwrap();
    let saved = notes["checkpoints"].as_array().unwrap().last().unwrap()["step"].as_u64();
    assert!(saved.unwrap() >= 4, "{notes}");

    trainer.train(&config, &["--resume"]).succeeded();
    assert_eq!(trainer.result("whole"), trainer.result("interrupted"));
}

#[test]
fn a_training_in_pieces_makes_the_same_model_as_one_in_one_piece() {
    let trainer = Trainer::new();
    let whole = trainer.config("whole");
    trainer
        .train(&whole, &["--set", "optimisation.accumulation=2"])
        .succeeded();
    let pieces = trainer.config("pieces");
    let mut more = vec!["--set", "optimisation.accumulation=2", "--stop-after", "5"];
    trainer.train(&pieces, &more).succeeded();
    more.push("--resume");
    for _ in 0..2 {
        trainer.train(&pieces, &more).succeeded();
    }
    assert_eq!(trainer.result("whole"), trainer.result("pieces"));
}

#[test]
fn without_a_cuda_device_training_says_so_and_what_to_do() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    let ended = trainer.train(&config, &["--device", "auto"]);
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stderr.contains("vox/train/cuda-required"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("--device cpu"), "{}", ended.stderr);
}

#[test]
fn without_a_backend_training_says_what_to_install() {
    let place = Place::new();
    place.write("text.txt", "words");
    let config = place.write("train.toml", &TINY.replace("OUTPUT", "out"));
    let ended = place.run(["train", path(&config)]);
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stderr.contains("vox/train/no-backend"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("vox plugin install candle-cpu"),
        "{}",
        ended.stderr
    );
}

#[test]
fn an_output_directory_holds_one_training() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    let ended = trainer.train(&config, &["--resume"]);
    assert!(
        ended.stderr.contains("vox/train/nothing-to-resume"),
        "{}",
        ended.stderr
    );
    trainer.train(&config, &["--stop-after", "3"]).succeeded();
    let ended = trainer.train(&config, &[]);
    assert_eq!(ended.code, Some(4));
    assert!(ended.stderr.contains("at step 3 of 12"), "{}", ended.stderr);
    let ended = trainer.train(&config, &["--resume", "--learning-rate", "0.5"]);
    assert!(
        ended.stderr.contains("another `optimisation`"),
        "{}",
        ended.stderr
    );
    trainer
        .0
        .write("text.txt", "other words, and more of them than that");
    let ended = trainer.train(&config, &["--resume"]);
    assert!(
        ended.stderr.contains("the files have changed"),
        "{}",
        ended.stderr
    );
}

#[test]
fn two_trainings_do_not_share_a_directory() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    let mut command = trainer.0.vox();
    command
        .args(["train", path(&config), "--format", "json"])
        // Longer than any test.
        .args(["--steps", "1000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_for_step(&mut child, 1);
    let ended = trainer.train(&config, &["--resume", "--steps", "1000000"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    assert!(ended.stderr.contains("vox/train/busy"), "{}", ended.stderr);
}

#[test]
fn only_the_checkpoints_that_are_asked_for_are_kept() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    trainer
        .train(&config, &["--set", "cadence.keep-last=2"])
        .succeeded();
    let notes = fs::read_to_string(trainer.0.path().join("out/training.json")).unwrap();
    let notes: Value = serde_json::from_str(&notes).unwrap();
    let steps: Vec<_> = notes["checkpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kept| kept["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [9, 12]);
    let released = ["log", "ls", "--kind", "store.release", "--format", "json"];
    let released = trainer.0.run(released).succeeded().stdout;
    assert_eq!(released.lines().count(), 2, "{released}");
}

#[test]
fn a_loss_that_is_no_number_stops_the_training_and_names_the_batch() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    let more = ["--learning-rate", "1e38", "--set", "optimisation.clip=0"];
    let ended = trainer.train(&config, &more);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("vox/train/not-finite"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("rows ["), "{}", ended.stderr);
}

#[test]
fn the_last_good_checkpoint_outlives_a_loss_that_is_no_number() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    // The rate rises with the steps, and is too high after the first checkpoints.
    let rising = ["--learning-rate", "1e30", "--set", "optimisation.clip=0"];
    let rising = rising
        .iter()
        .chain(&["--set", "optimisation.warmup-steps=12"]);
    let words = ["train", path(&config)];
    let ended = trainer.0.run(
        words
            .iter()
            .chain(rising)
            .chain(&["--set", "cadence.checkpoint-every=1"]),
    );
    assert!(
        ended.stderr.contains("vox/train/not-finite"),
        "{}",
        ended.stderr
    );
    let notes = fs::read_to_string(trainer.0.path().join("out/training.json")).unwrap();
    let notes: Value = serde_json::from_str(&notes).unwrap();
    let kept = notes["checkpoints"].as_array().unwrap().last().unwrap();
    let before = format!("the weights of step {} stand", kept["step"]);
    assert!(ended.stderr.contains(&before), "{before}: {}", ended.stderr);
    trainer.0.run(["log", "verify"]).succeeded();
}

#[test]
fn a_checkpoint_for_which_there_is_no_room_ends_the_training_and_the_one_before_stands() {
    let trainer = Trainer::new();
    // Its moments are larger than the log ever gets.
    let larger = [
        "--set",
        "scratch.hidden=256",
        "--set",
        "scratch.intermediate=512",
        "--set",
        "cadence.checkpoint-every=20",
        "--steps",
        "40",
    ];
    let whole = trainer.config("whole");
    trainer.train(&whole, &larger).succeeded();

    let config = trainer.config("out");
    let mut command = trainer.0.program("sh".as_ref());
    let vox = trainer.0.vox();
    for (name, value) in vox.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    // A limit on the size of files answers as a full disk does, once its signal is ignored.
    let script = "trap '' XFSZ; exec \"$0\" \"$@\"";
    let mut child = command
        .args(["-c", script])
        .arg(vox.get_program())
        .args(["train", path(&config), "--format", "json"])
        .args(larger)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_step(&mut child, 21);
    let pid = child.id().to_string();
    let limited = Command::new("prlimit")
        .args(["--pid", &pid, "--fsize=8000000"])
        .status();
    assert!(limited.unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("checkpoint"), "{said}");

    let resumed: Vec<_> = larger.iter().chain(&["--resume"]).copied().collect();
    trainer.train(&config, &resumed).succeeded();
    assert_eq!(trainer.result("whole"), trainer.result("out"));
}

#[test]
fn a_trained_model_writes_and_says_the_same_for_the_same_seed() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    trainer.train(&config, &[]).succeeded();
    let generate = |more: &[&str]| {
        let words = ["generate", "out/model", "--prompt", "the cat", "-n", "12"];
        let ended = trainer.0.run(words.iter().chain(more));
        ended.succeeded().stdout
    };
    let greedy = generate(&["--temperature", "0"]);
    assert!(!greedy.trim().is_empty());
    assert_eq!(greedy, generate(&["--temperature", "0"]));
    assert_eq!(generate(&["--seed", "5"]), generate(&["--seed", "5"]));
    let answer = generate(&["--temperature", "0", "--format", "json", "--logprobs", "2"]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["answer_tokens"], 12);
    assert_eq!(answer["backend"], "candle-cpu");
    assert_eq!(answer["tokens"].as_array().unwrap().len(), 12);
    assert_eq!(
        answer["tokens"][0]["alternatives"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let explained = generate(&["--explain"]);
    assert!(explained.contains("candle-cpu"), "{explained}");
    let ended = trainer.0.run(["chat", "out/model"]);
    assert!(
        ended.stderr.contains("no chat template"),
        "{}",
        ended.stderr
    );
}

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

impl Trainer {
    /// The configuration of an adapter's training.
    pub(crate) fn adapter(&self, base: &str, output: &str) -> PathBuf {
        let text = ADAPTER.replace("OUTPUT", output).replace("BASE", base);
        self.0.write(&format!("{output}.toml"), &text)
    }

    /// What a model says after two words.
    fn says(&self, model: &str) -> String {
        let words = ["generate", model, "--prompt", "the cat", "-n", "8"];
        let words = words.iter().chain(&["--temperature", "0"]);
        self.0.run(words).succeeded().stdout
    }
}

#[test]
fn an_adapter_answers_beside_its_model_as_it_does_merged_into_it() {
    let trainer = Trainer::new();
    let base = trainer.config("base");
    trainer.train(&base, &["--steps", "2"]).succeeded();
    let adapt = trainer.adapter("./base/model", "adapted");
    trainer.train(&adapt, &[]).succeeded();
    let adapter = trainer.0.path().join("adapted/model");
    assert!(adapter.join("adapter_config.json").exists());
    assert!(adapter.join("adapter_model.safetensors").exists());

    let beside = trainer.says("adapted/model");
    assert_ne!(beside, trainer.says("base/model"));
    trainer
        .0
        .run(["model", "merge", "adapted/model", "merged"])
        .succeeded();
    assert_eq!(beside, trainer.says("./merged"));
    // With another's name of its model an adapter is lost, unless it is told which.
    fs::rename(
        trainer.0.path().join("base"),
        trainer.0.path().join("moved"),
    )
    .unwrap();
    let generate = ["generate", "adapted/model", "--prompt", "the cat"];
    trainer.0.run(generate).failed(3, &["--base"]);
    let told = ["-n", "8", "--temperature", "0", "--base", "moved/model"];
    let told = trainer.0.run(generate.iter().chain(&told)).succeeded();
    assert_eq!(beside, told.stdout);
}

#[test]
fn a_training_does_not_go_on_from_another_model_than_it_began_with() {
    let trainer = Trainer::new();
    let base = trainer.config("base");
    trainer.train(&base, &["--steps", "2"]).succeeded();
    let adapt = trainer.adapter("./base/model", "adapted");
    trainer.train(&adapt, &["--stop-after", "2"]).succeeded();
    let other = trainer.config("other");
    trainer.train(&other, &["--steps", "3"]).succeeded();
    let weights = |of: &str| trainer.0.path().join(of).join("model/model.safetensors");
    fs::copy(weights("other"), weights("base")).unwrap();
    let resumed = trainer.train(&adapt, &["--resume"]);
    resumed.failed(5, &["`model.base", "another model now"]);
}

#[test]
fn the_training_of_an_adapter_for_a_model_of_the_store_goes_on_to_the_same_checkpoint() {
    let trainer = Trainer::new();
    let base = trainer.config("base");
    trainer.train(&base, &["--steps", "2"]).succeeded();
    let import = ["model", "import", "base/model", "--name", "tiny"];
    trainer.0.run(import).succeeded();
    let whole = trainer.adapter("tiny", "whole");
    let first = trainer.train(&whole, &["--format", "json"]).succeeded();
    let pieces = trainer.adapter("tiny", "pieces");
    trainer.train(&pieces, &["--stop-after", "2"]).succeeded();
    let resumed = trainer.train(&pieces, &["--resume", "--format", "json"]);
    let second = resumed.succeeded();
    let checkpoint = |ended: &Ended| ended_event(&ended.stdout)["checkpoint"].clone();
    assert_eq!(checkpoint(&first), checkpoint(&second));
    let said = trainer.says("whole/model");
    assert_eq!(said, trainer.says("pieces/model"));
    // In the store it is an adapter of the same bundle.
    let import = ["model", "import", "whole/model", "--name", "adapted"];
    trainer.0.run(import).succeeded();
    assert_eq!(said, trainer.says("adapted"));
}
