//! What is refused before the first step, and that it leaves nothing behind.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use super::{TINY, Trainer, wait_for_step};
use crate::{Place, path};

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
fn what_the_data_hold_is_said_and_json_with_a_mistake_is_not_learnt_as_text() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    let broken = "{\"text\": \"the cat\"\n{\"text\": \"sat on the mat\"}\n";
    trainer.0.write("first.jsonl", broken);
    let refused = trainer.train(&config, &["--data", "first.jsonl"]);
    let said = ["first.jsonl:1: not valid JSON", "`format = \"plain\"`"];
    refused.failed(5, &said);
    let told = trainer.train(&config, &["--steps", "1"]).succeeded();
    assert!(told.stderr.contains(" rows, of plain"), "{}", told.stderr);
}

#[test]
fn a_negative_number_is_refused_as_the_value_of_its_flag() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    for flag in [
        "--steps",
        "--stop-after",
        "--seed",
        "--threads",
        "--context",
    ] {
        let said = ["invalid value '-1' for", flag];
        trainer.train(&config, &[flag, "-1"]).failed(2, &said);
    }
    let said = ["`learning-rate` cannot be -0.001", "more than 0"];
    trainer
        .train(&config, &["--learning-rate", "-0.001"])
        .failed(5, &said);
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
    let other = ["--resume", "--learning-rate", "0.5", "--steps", "8"];
    let said = [
        "vox/train/changed",
        "`optimisation.learning-rate (0.01 then, 0.5 now)`",
        "`optimisation.steps (12 then, 8 now)`",
    ];
    trainer.train(&config, &other).failed(5, &said);
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
fn what_is_no_model_is_refused_in_words_of_the_configuration() {
    let trainer = Trainer::new();
    let base = trainer.config("base");
    trainer.train(&base, &["--steps", "2"]).succeeded();
    let adapt = trainer.adapter("./base/model", "adapted");
    trainer.train(&adapt, &[]).succeeded();
    let other = trainer.adapter("./base/model", "other");
    let refused = |more: &[&str], code: i32, said: &[&str]| {
        let ended = trainer.train(&other, more).failed(code, said);
        assert!(!ended.stderr.contains("ml-backend"), "{}", ended.stderr);
    };
    refused(&["--model", "./nope"], 3, &["./nope: cannot be read"]);
    let said = ["no config.json", "its model is ./base/model"];
    refused(&["--model", "./base"], 5, &said);
    let said = ["vox/train/is-adapter", "`./adapted/model`", "`from`"];
    refused(&["--model", "./adapted/model"], 5, &said);
    let rank = ["--set", "method.rank=100000"];
    refused(&rank, 5, &["`candle-cpu`", "`method.rank`: it is 100000"]);
    let targets = ["--set", "method.targets=[\"nose\"]"];
    refused(&targets, 5, &["`method.targets`: ", "`nose`", "q_proj"]);
    // What was meant can be said again, without another directory.
    trainer.train(&other, &[]).succeeded();
}
