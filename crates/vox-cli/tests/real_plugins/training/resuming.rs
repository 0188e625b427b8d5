//! Going on after kills, interruptions and pauses: to the same bytes, or with a word on what is not the same.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{TINY, Trainer, differences, ended_event, wait_for_step};
use crate::{Ended, path};

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

#[test]
fn a_checkpoint_that_the_log_does_not_have_is_named_and_the_training_stays_as_it_is() {
    let trainer = Trainer::new();
    let whole = trainer.config("whole");
    trainer.train(&whole, &[]).succeeded();
    let config = trainer.config("out");
    trainer.train(&config, &["--stop-after", "3"]).succeeded();
    // A backup of the data directory, as it was after step 3.
    let older = trainer.0.path().join("older");
    let copied = Command::new("cp")
        .args(["-R", path(trainer.0.data()), path(&older)])
        .status();
    assert!(copied.unwrap().success());
    let more = ["--resume", "--stop-after", "3"];
    trainer.train(&config, &more).succeeded();
    let files = || {
        let file = |name: &str| fs::read(trainer.0.path().join("out").join(name)).unwrap();
        ["loss.csv", "loss.svg", "training.json"].map(file)
    };
    let before = files();
    let notes: Value = serde_json::from_slice(&before[2]).unwrap();

    let refused = |data: &Path, found: &str| {
        let mut command = trainer.0.vox();
        command.env("VOX_DATA", data);
        let ended = Ended::of(command.args(["train", path(&config)]).args(more));
        let log = data.join("log");
        let said = [
            "vox/train/checkpoint-missing",
            notes["run"].as_str().unwrap(),
            "saved after step 6",
            path(&log),
            found,
            "`VOX_DATA`",
        ];
        ended.failed(3, &said);
        assert_eq!(files(), before, "{found}");
    };
    refused(&trainer.0.path().join("other"), "has no checkpoint of it");
    refused(&older, "has none of it after step 3");

    trainer.train(&config, &["--resume"]).succeeded();
    assert_eq!(trainer.result("whole"), trainer.result("out"));
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
