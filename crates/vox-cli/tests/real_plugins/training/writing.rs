//! Text out of a model that was trained.

#[cfg(target_os = "linux")]
use std::fs;

use serde_json::Value;

use super::Trainer;

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
