//! Adapters: beside their model and merged into it, of the store, trained further, and of a quantised model.

use std::fs;

use serde_json::Value;

use super::{ADAPTER, Trainer, ended_event};
use crate::Ended;

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

/// A user with a model for conversations, and conversations to learn from.
fn with_conversations() -> Trainer {
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
    trainer
}

#[test]
fn a_quantised_training_on_conversations_goes_on_to_the_same_checkpoint() {
    let trainer = with_conversations();
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

#[test]
fn an_adapter_of_weights_in_8_or_in_4_bits_goes_on_to_the_same_checkpoint() {
    let trainer = with_conversations();
    let trained = ["q8_0", "q4_0"].map(|quantisation| {
        let config = |output: &str| {
            let kind = "kind = \"qlora\"";
            let text = QUANTISED
                .replace("OUTPUT", output)
                .replace(kind, &format!("{kind}\nquantisation = \"{quantisation}\""))
                .replace("epochs = 2", "steps = 4");
            trainer.0.write(&format!("{output}.toml"), &text)
        };
        let [whole, pieces] = ["whole", "pieces"].map(|name| format!("{name}-{quantisation}"));
        let events = trainer.train(&config(&whole), &["--format", "json"]);
        let events = events.succeeded().stdout;
        let config = config(&pieces);
        trainer.train(&config, &["--stop-after", "2"]).succeeded();
        let resumed = trainer.train(&config, &["--resume", "--format", "json"]);
        assert_eq!(
            ended_event(&events)["checkpoint"],
            ended_event(&resumed.succeeded().stdout)["checkpoint"],
            "{quantisation}"
        );
        let [said, again] =
            [&whole, &pieces].map(|output| trainer.says(&format!("{output}/model")));
        assert_eq!(said, again, "{quantisation}");

        let preflight: Value = serde_json::from_str(events.lines().next().unwrap()).unwrap();
        let bytes = preflight["memory"]["weights"].as_u64().unwrap();
        (bytes, trainer.curve(&whole))
    });
    // The bits are those that were asked for, and count.
    let [(of_8, curve_of_8), (of_4, curve_of_4)] = trained;
    assert!(of_4 < of_8, "{of_4} bytes, and {of_8}");
    assert_ne!(curve_of_8, curve_of_4);
}
