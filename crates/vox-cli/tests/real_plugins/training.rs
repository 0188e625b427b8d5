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
        let child = command.spawn().unwrap();
        // Full soon, so that it waits where nobody reads on. One that holds more by now stays as it is.
        #[cfg(target_os = "linux")]
        let _ = rustix::pipe::fcntl_setpipe_size(child.stdout.as_ref().unwrap(), 4096);
        child
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
    // What so many steps tell fills its pipe, so that it does not end before it hears of the interruption.
    let config = |output: &str| {
        let text = TINY
            .replace("OUTPUT", output)
            .replace("steps = 12", "steps = 60");
        let text = text.replace("checkpoint-every = 3", "checkpoint-every = 20");
        trainer.0.write(&format!("{output}.toml"), &text)
    };
    let whole = config("whole");
    trainer.train(&whole, &[]).succeeded();

    let config = config("interrupted");
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

/// What the event `resumed` says of the machine.
fn differences(events: &str) -> Value {
    let resumed = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|event| event["event"] == "resumed");
    resumed.unwrap()["differences"].clone()
}

#[test]
fn a_training_that_goes_on_with_other_threads_says_so_to_people_and_programs() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    trainer.train(&config, &["--stop-after", "3"]).succeeded();
    let more = ["--resume", "--threads", "1", "--stop-after", "3"];
    let told = trainer.train(&config, &more).succeeded();
    assert!(
        told.stderr.contains("1 thread in place of 2"),
        "{}",
        told.stderr
    );
    let more = ["--resume", "--threads", "2", "--format", "json"];
    let told = trainer.train(&config, &more).succeeded();
    assert_eq!(
        differences(&told.stdout),
        serde_json::json!(["2 threads in place of 1"])
    );
}

#[test]
fn a_training_goes_on_with_as_many_threads_as_before() {
    let trainer = Trainer::new();
    let text = TINY.replace("OUTPUT", "out").replace("threads = 2\n", "");
    let config = trainer.0.write("out.toml", &text);
    // Fewer or more than there are cores.
    let cores = std::thread::available_parallelism().unwrap().get();
    let threads = if cores == 1 { "2" } else { "1" };
    let more = ["--threads", threads, "--stop-after", "3"];
    trainer.train(&config, &more).succeeded();
    let told = trainer.train(&config, &["--resume", "--format", "json"]);
    assert_eq!(differences(&told.succeeded().stdout), serde_json::json!([]));
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
fn without_the_backend_for_cuda_training_says_what_to_install() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    let ended = trainer.train(&config, &["--device", "cuda"]);
    let said = [
        "vox/train/no-device",
        "`cuda:0`; there are: cpu",
        "vox plugin install candle-cuda",
    ];
    ended.failed(3, &said);
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
fn the_log_has_every_step_evaluation_and_checkpoint_in_their_order() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    trainer.0.write("other.txt", "the dog sat on the log");
    let evaluate = [
        "--set",
        "data.evaluation-files=[\"other.txt\"]",
        "--set",
        "cadence.evaluate-every=4",
    ];
    let begin = evaluate.iter().chain(&["--stop-after", "5"]).copied();
    let begin: Vec<_> = begin.collect();
    trainer.train(&config, &begin).succeeded();
    let end = evaluate.iter().chain(&["--resume", "--format", "json"]);
    let end: Vec<_> = end.copied().collect();
    let ended = ended_event(&trainer.train(&config, &end).succeeded().stdout);

    let run = ended["run"].as_str().unwrap();
    let list = ["log", "ls", "--kind", "training.*", "--run", run, "-n", "0"];
    let list = list.iter().chain(&["--format", "json"]);
    let list = trainer.0.run(list).succeeded().stdout;
    let ops = list
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told: Vec<String> = ops
        .map(|op| {
            let kind = op["kind"].as_str().unwrap();
            let kind = kind.strip_prefix("training.").unwrap();
            let payload = &op["payload"];
            if kind == "step" {
                assert!(payload["loss"].is_f64(), "{payload}");
                assert!(payload["gradient_norm"].is_f64(), "{payload}");
                assert!(payload["targets"].as_u64() > Some(0), "{payload}");
            }
            match payload["step"].as_u64() {
                Some(step) => format!("{kind} {step}"),
                None => kind.to_owned(),
            }
        })
        .collect();
    let expected = "started, step 1, step 2, step 3, checkpoint 3, step 4, evaluated 4, step 5, \
                    checkpoint 5, ended 5, resumed 5, step 6, checkpoint 6, step 7, step 8, \
                    evaluated 8, step 9, checkpoint 9, step 10, step 11, step 12, evaluated 12, \
                    checkpoint 12, ended 12";
    assert_eq!(told.join(", "), expected);
}

#[test]
fn the_best_checkpoint_is_evaluated_kept_and_named() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    // The more is learnt of the text, the less this one is foreseen.
    trainer.0.write("other.txt", &"#%&0123456789".repeat(40));
    let more = [
        "--set",
        "data.evaluation-files=[\"other.txt\"]",
        "--set",
        "cadence.keep-best=true",
        "--set",
        "cadence.keep-last=1",
        "--format",
        "json",
    ];
    let events = trainer.train(&config, &more).succeeded().stdout;
    let evaluated: Vec<(u64, f64)> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["event"] == "evaluated")
        .map(|event| {
            (
                event["step"].as_u64().unwrap(),
                event["loss"].as_f64().unwrap(),
            )
        })
        .collect();
    let steps: Vec<u64> = evaluated.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [3, 6, 9, 12], "{events}");
    let lowest = evaluated
        .iter()
        .min_by(|one, other| one.1.total_cmp(&other.1));
    let (step, loss) = *lowest.unwrap();
    assert!(step < 12, "{events}");
    let best = ended_event(&events)["best"].clone();
    assert_eq!(best["step"], step);
    assert_eq!(best["eval_loss"], loss);

    let notes = fs::read_to_string(trainer.0.path().join("out/training.json")).unwrap();
    let notes: Value = serde_json::from_str(&notes).unwrap();
    let kept = notes["checkpoints"].as_array().unwrap();
    let kept: Vec<u64> = kept
        .iter()
        .map(|kept| kept["step"].as_u64().unwrap())
        .collect();
    assert_eq!(kept, [step, 12]);
    let export = [
        "model",
        "export",
        best["manifest"].as_str().unwrap(),
        "best",
    ];
    trainer.0.run(export).succeeded();
    trainer.says("./best");
}

#[test]
fn a_training_that_does_not_fit_is_refused_with_the_numbers_and_leaves_nothing() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    let more = ["--batch-rows", "100000000", "--set", "scratch.hidden=128"];
    let said = [
        "vox/train/memory",
        "bytes of memory and cpu has",
        "activations",
        "fewer `batch-rows`",
    ];
    trainer.train(&config, &more).failed(1, &said);
    // Neither a record nor the model that it would have begun with.
    trainer.train(&config, &["--steps", "1"]).succeeded();
    let model = fs::read_to_string(trainer.0.path().join("out/model/config.json")).unwrap();
    let model: Value = serde_json::from_str(&model).unwrap();
    assert_eq!(model["hidden_size"], 64);
}

/// Elsewhere the backend does not know how much memory there is.
#[cfg(target_os = "linux")]
#[test]
fn an_answer_whose_context_no_memory_holds_is_refused_with_the_numbers() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    // Keys and values are 32 KiB a token.
    let more = ["--steps", "1", "--set", "scratch.layers=64"];
    trainer.train(&config, &more).succeeded();
    let file = trainer.0.path().join("out/model/config.json");
    let mut model: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    model["max_position_embeddings"] = (1 << 26).into();
    fs::write(&file, model.to_string()).unwrap();
    let words = ["generate", "out/model", "--prompt", "the cat"];
    let absurd = words.iter().chain(&["--context", "67108864"]);
    let said = ["it needs ", " bytes, and cpu has ", "--context"];
    trainer.0.run(absurd).failed(1, &said);
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
fn a_context_above_the_models_is_refused_before_anything_is_recorded() {
    let trainer = Trainer::new();
    let base = trainer.config("base");
    trainer.train(&base, &["--steps", "2"]).succeeded();
    let adapt = trainer.adapter("./base/model", "adapted");
    let refused = trainer.train(&adapt, &["--context", "64"]);
    refused.failed(5, &["vox/train/context", "of 64 ", "of 32", "--context 32"]);
    // So what was meant can be said again, without another directory.
    trainer.train(&adapt, &[]).succeeded();
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

#[test]
fn an_adapter_is_trained_further_and_goes_on_to_the_same_checkpoint() {
    let trainer = Trainer::new();
    let base = trainer.config("base");
    trainer.train(&base, &["--steps", "2"]).succeeded();
    let first = trainer.adapter("./base/model", "first");
    trainer.train(&first, &[]).succeeded();
    let own = "rank = 4\ntargets = [\"q_proj\", \"v_proj\", \"down_proj\"]";
    assert!(ADAPTER.contains(own));
    let further = |output: &str| {
        let text = ADAPTER
            .replace("OUTPUT", output)
            .replace("BASE", "./base/model")
            .replace(own, "from = \"./first/model\"");
        trainer.0.write(&format!("{output}.toml"), &text)
    };
    let file = |of: &str| {
        let model = trainer.0.path().join(of).join("model");
        model.join("adapter_model.safetensors")
    };
    let weights = |of: &str| fs::read(file(of)).unwrap();

    // A step that changes nothing shows what it begins with.
    let nothing = ["--steps", "1", "--learning-rate", "1e-30"];
    trainer.train(&further("still"), &nothing).succeeded();
    assert_eq!(weights("still"), weights("first"));

    let whole = trainer.train(&further("whole"), &["--format", "json"]);
    let whole = ended_event(&whole.succeeded().stdout);
    assert_ne!(weights("whole"), weights("first"));
    let pieces = further("pieces");
    trainer.train(&pieces, &["--stop-after", "2"]).succeeded();
    let resumed = trainer.train(&pieces, &["--resume", "--format", "json"]);
    let resumed = ended_event(&resumed.succeeded().stdout);
    assert_eq!(whole["checkpoint"], resumed["checkpoint"]);

    fs::copy(file("whole"), file("first")).unwrap();
    let resumed = trainer.train(&pieces, &["--resume"]);
    resumed.failed(5, &["vox/train/changed", "method.from"]);
    let no_adapter = ["--set", "method.from=./base/model"];
    let refused = trainer.train(&further("other"), &no_adapter);
    refused.failed(5, &["vox/train/no-adapter", "adapter_config.json"]);
}

/// A training with everything that needs its own state or its own way through the data.
const QUANTISED: &str = r#"
output = "OUTPUT"
[model]
base = "./base/model"
[data]
files = ["chat.jsonl"]
context = 96
evaluation-count = 4
[method]
kind = "qlora"
rank = 4
dropout = 0.1
targets = ["all-linear"]
[optimisation]
epochs = 2
batch-rows = 2
learning-rate = 1e-2
[cadence]
evaluate-every = 2
checkpoint-every = 3
[machine]
device = "cpu"
threads = 2
gradient-checkpointing = true
"#;

const TEMPLATE: &str = "{% for message in messages %}<{{ message.role }}>{{ message.content }}\
                        {{ eos_token }}{% endfor %}\
                        {% if add_generation_prompt %}<assistant>{% endif %}";

#[test]
fn a_quantised_training_on_conversations_goes_on_to_the_same_checkpoint() {
    let trainer = Trainer::new();
    let base = trainer.config("base");
    let more = ["--steps", "2", "--context", "96"];
    trainer.train(&base, &more).succeeded();
    trainer.0.write("base/model/chat_template.jinja", TEMPLATE);
    let conversations = (0..40).map(|number| {
        let messages = serde_json::json!({ "messages": [
            { "role": "user", "content": format!("where is cat {number}?") },
            { "role": "assistant", "content": format!("on mat {}", number % 7) },
        ] });
        format!("{messages}\n")
    });
    let conversations: String = conversations.collect();
    trainer.0.write("chat.jsonl", &conversations);
    let config = |output: &str| {
        let text = QUANTISED.replace("OUTPUT", output);
        trainer.0.write(&format!("{output}.toml"), &text)
    };

    let whole = config("whole");
    let first = trainer.train(&whole, &["--format", "json"]).succeeded();
    let first = ended_event(&first.stdout);
    assert!(first["steps"].as_u64() > Some(4), "{first}");
    let pieces = config("pieces");
    trainer.train(&pieces, &["--stop-after", "4"]).succeeded();
    let second = trainer.train(&pieces, &["--resume", "--format", "json"]);
    let second = ended_event(&second.succeeded().stdout);
    assert_eq!(first["checkpoint"], second["checkpoint"]);
    let curve = trainer.curve("whole");
    assert_eq!(curve, trainer.curve("pieces"));
    assert_eq!(trainer.says("whole/model"), trainer.says("pieces/model"));

    // Of two rows of 96 tokens, the answers alone are learnt.
    let first_step: Vec<&str> = curve[1].split(',').collect();
    let learnt: u64 = first_step[1].parse().unwrap();
    assert!((1..96).contains(&learnt), "{curve:?}");
    let evaluated = |line: &String| !line.split(',').nth(4).unwrap().is_empty();
    assert!(evaluated(&curve[2]) && !evaluated(&curve[3]), "{curve:?}");
}
