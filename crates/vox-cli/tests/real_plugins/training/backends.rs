//! Several backends: which of them is taken, and kept.

use std::fs;

use serde_json::{Value, json};

use super::{Trainer, differences};
use crate::path;

/// A user who has `bigram` too, which comes before `candle-cpu` and trains none of its models.
fn with_two_backends() -> Trainer {
    let trainer = Trainer::new();
    let world = &trainer.0.0;
    world.add_directory(&vox_testkit::plugin("bigram"));
    trainer
}

#[test]
fn a_backend_that_cannot_do_the_model_is_passed_over_where_one_can_train_resume_and_merge_it() {
    let trainer = with_two_backends();
    let base = trainer.config("base");
    let steps = ["--steps", "3"];
    let begins = [&steps[..], &["--stop-after", "2"]].concat();
    trainer.train(&base, &begins).succeeded();
    assert_eq!(trainer.notes("base")["backend"]["plugin"], "candle-cpu");
    let goes_on = [&steps[..], &["--resume"]].concat();
    trainer.train(&base, &goes_on).succeeded();
    let adapt = trainer.adapter("./base/model", "adapted");
    trainer.train(&adapt, &["--steps", "2"]).succeeded();
    let merge = ["model", "merge", "adapted/model", "merged"];
    trainer.0.run(merge).succeeded();
    assert_eq!(trainer.says("adapted/model"), trainer.says("./merged"));

    // Named, it is the only one that is asked.
    let alone = trainer.config("alone");
    let refused = trainer.train(&alone, &["--backend", "bigram"]);
    refused.failed(1, &["bigram: ml-backend.estimate", "LlamaForCausalLM"]);
}

#[test]
fn where_no_backend_can_do_the_model_each_says_why_and_nothing_is_begun() {
    let trainer = with_two_backends();
    let base = trainer.config("base");
    trainer.train(&base, &["--steps", "1"]).succeeded();
    let adapt = trainer.adapter("./base/model", "adapted");
    trainer.train(&adapt, &["--steps", "1"]).succeeded();
    let file = trainer.0.path().join("base/model/config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    config["architectures"] = json!(["CatForCausalLM"]);
    fs::write(&file, config.to_string()).unwrap();

    let refused = trainer.train(&trainer.adapter("./base/model", "out"), &[]);
    let said = [
        "vox/train/unfit: no backend can do this training",
        "bigram: ml-backend.estimate",
        "candle-cpu: ml-backend.estimate",
        "CatForCausalLM",
        "vox plugin search",
    ];
    refused.failed(1, &said);
    assert!(!trainer.0.path().join("out/training.json").exists());

    let merge = ["model", "merge", "adapted/model", "merged"];
    let said = [
        "no backend can merge the adapter into its model",
        "bigram: ml-backend.load",
        "candle-cpu: ml-backend.load",
    ];
    trainer.0.run(merge).failed(1, &said);
    assert!(!trainer.0.path().join("merged").exists());
}

#[test]
fn a_training_goes_on_with_the_backend_that_it_has_though_another_comes_first() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    trainer.train(&config, &["--stop-after", "3"]).succeeded();
    let world = &trainer.0.0;
    world.add_variant_of("candle-cpu", "another", &json!({}));
    let resume = ["--resume", "--stop-after", "3", "--format", "json"];
    let resumed = trainer.train(&config, &resume).succeeded();
    assert_eq!(differences(&resumed.stdout), json!([]));
    assert_eq!(trainer.notes("out")["backend"]["plugin"], "candle-cpu");

    // One that is gone is no reason to end.
    let remove = ["plugin", "remove", "candle-cpu"];
    trainer.0.run(remove).succeeded();
    let resumed = trainer.train(&config, &resume).succeeded();
    assert_eq!(
        differences(&resumed.stdout),
        json!(["another 0.1.0 in place of candle-cpu 0.1.0"])
    );
    assert_eq!(trainer.notes("out")["backend"]["plugin"], "another");
}

#[test]
fn a_training_that_goes_on_with_another_release_of_its_backend_says_so_to_people_and_programs() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    trainer.train(&config, &["--stop-after", "3"]).succeeded();
    let built = vox_testkit::plugin("candle-cpu");
    let newer = trainer.0.path().join("newer");
    fs::create_dir(&newer).unwrap();
    for file in fs::read_dir(&built).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), newer.join(file.file_name())).unwrap();
    }
    let manifest = fs::read_to_string(built.join("Plugin.toml")).unwrap();
    let version = "version = \"0.1.0\"";
    assert!(manifest.contains(version), "{manifest}");
    let manifest = manifest.replace(version, "version = \"0.2.0\"");
    trainer.0.write("newer/Plugin.toml", &manifest);
    let install = ["plugin", "install", path(&newer), "--grant", "all"];
    let install = install.iter().chain(&["--allow-native"]);
    trainer.0.run(install).succeeded();

    let resume = ["--resume", "--stop-after", "3"];
    let told = trainer.train(&config, &resume).succeeded();
    assert!(
        told.stderr.contains("candle-cpu 0.2.0 in place of 0.1.0"),
        "{}",
        told.stderr
    );
    let remove = ["plugin", "remove", "candle-cpu@0.2.0"];
    trainer.0.run(remove).succeeded();
    let told = trainer.train(&config, &["--resume", "--format", "json"]);
    assert_eq!(
        differences(&told.succeeded().stdout),
        json!(["candle-cpu 0.1.0 in place of 0.2.0"])
    );
}
