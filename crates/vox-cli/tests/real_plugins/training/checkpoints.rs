//! Checkpoints: which are kept, what the log says of them, and what outlives a training that fails.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Trainer, ended_event, wait_for_step};
use crate::path;

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
    // It has no checkpoint to go on from, so that the way out is a new training.
    let ended = ended.failed(1, &["no checkpoint was saved", "another `output`"]);
    assert!(!ended.stderr.contains("--resume"), "{}", ended.stderr);
    let anew = ["--learning-rate", "1e-3", "--steps", "1", "-o", "anew"];
    trainer.train(&config, &anew).succeeded();
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
    let resume = format!("`--resume` goes on from step {}", kept["step"]);
    assert!(ended.stderr.contains(&resume), "{resume}: {}", ended.stderr);
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
