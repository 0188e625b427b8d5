//! A backend of one's own in the host's loop: the plugin `bigram`, which is the example of how to write one.

mod steps;

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use vox_ml::scratch::{BpeTrainer, Dimensions, write_model};

use crate::{Ended, Place, path};

/// A training of the model `./BASE`.
const TRAINING: &str = r#"
output = "OUTPUT"

[model]
base = "./BASE"

[data]
files = ["text.txt"]
evaluation-files = ["text.txt"]
context = 32

[optimisation]
steps = 24
batch-rows = 4
learning-rate = 0.2
seed = 7

[cadence]
checkpoint-every = 6

[machine]
device = "cpu"
"#;

/// A user with the backend, a text, and two models without weights worth the name: `llama`, which is none of the
/// backend's, and `bigram`, after which every token is as likely as any other.
struct Trainer {
    place: Place,
    vocabulary: usize,
}

/// What a training came to.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// The loss curve without its last column, the speed.
    curve: Vec<String>,
    weights: Vec<u8>,
}

impl Trainer {
    fn new() -> Self {
        let place = Place::with(&["bigram"]);
        let sentence = "the cat sat on the mat and the dog lay on the log; ";
        place.write("text.txt", &sentence.repeat(200));
        let dimensions = Dimensions {
            layers: 1,
            hidden: 4,
            heads: 1,
            kv_heads: 1,
            intermediate: 4,
            context: 32,
            rope_theta: 10_000.0,
            tie_embeddings: true,
        };
        let tokenizer = BpeTrainer::default().train(257);
        let directory = |name: &str| place.path().join(name);
        write_model(&directory("llama"), &dimensions, &tokenizer).unwrap();
        write_model(&directory("bigram"), &dimensions, &tokenizer).unwrap();
        let config = fs::read_to_string(directory("bigram/config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        let vocabulary = config["vocab_size"].as_u64().unwrap() as usize;
        let config = json!({
            "architectures": ["BigramForCausalLM"], "vocab_size": vocabulary,
            "max_position_embeddings": 32,
        });
        place.write("bigram/config.json", &config.to_string());
        fs::write(directory("bigram/model.safetensors"), zeros(vocabulary)).unwrap();
        Self { place, vocabulary }
    }

    /// A configuration that trains a model into a directory.
    fn config(&self, base: &str, output: &str) -> PathBuf {
        let text = TRAINING.replace("BASE", base).replace("OUTPUT", output);
        self.place.write(&format!("{output}.toml"), &text)
    }

    fn train(&self, base: &str, output: &str, more: &[&str]) -> Ended {
        let config = self.config(base, output);
        let words = ["train", path(&config)];
        self.place.run(words.iter().chain(more))
    }

    fn outcome(&self, output: &str) -> Outcome {
        let output = self.place.path().join(output);
        let table = fs::read_to_string(output.join("loss.csv")).unwrap();
        let lines = table.lines();
        let curve = lines.map(|line| line.rsplit_once(',').unwrap().0.to_owned());
        Outcome {
            curve: curve.collect(),
            weights: fs::read(output.join("model/model.safetensors")).unwrap(),
        }
    }
}

impl Outcome {
    /// A column of a step, counted from 1.
    fn number(&self, step: usize, column: &str) -> f64 {
        let mut columns = self.curve[0].split(',');
        let at = columns.position(|name| name == column).unwrap();
        let field = self.curve[step].split(',').nth(at).unwrap();
        field
            .parse::<f64>()
            .unwrap_or_else(|error| panic!("{error}: {}", self.curve[step]))
    }
}

/// The weights of a bigram model of zeros, as a SafeTensors file.
fn zeros(vocabulary: usize) -> Vec<u8> {
    let (bias, all) = (4 * vocabulary, 4 * vocabulary * (vocabulary + 1));
    let header = json!({
        "bigram.bias": { "dtype": "F32", "shape": [vocabulary], "data_offsets": [0, bias] },
        "bigram.weight": {
            "dtype": "F32", "shape": [vocabulary, vocabulary], "data_offsets": [bias, all],
        },
    });
    let header = header.to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + all, 0);
    file
}

#[test]
fn the_example_of_a_backend_learns_and_goes_on_to_the_same_bytes() {
    let trainer = Trainer::new();
    // One micro-batch is a step of its own; of several the gradients are added up, and then applied.
    for micro in ["1", "2"] {
        let accumulation = format!("optimisation.accumulation={micro}");
        let set = ["--set", accumulation.as_str()];
        let name = |name: &str| format!("{name}-{micro}");
        trainer.train("bigram", &name("whole"), &set).succeeded();
        let whole = trainer.outcome(&name("whole"));
        let (first, last) = (whole.number(1, "loss"), whole.number(24, "loss"));
        assert!(
            (first - (trainer.vocabulary as f64).ln()).abs() < 1e-5,
            "{first}"
        );
        assert!(last < first / 2.0, "from {first} to {last}");
        assert!(whole.number(24, "eval_loss") < first / 2.0);

        let begins = [&set[..], &["--stop-after", "9"]].concat();
        trainer.train("bigram", &name("parts"), &begins).succeeded();
        let goes_on = [&set[..], &["--resume"]].concat();
        trainer
            .train("bigram", &name("parts"), &goes_on)
            .succeeded();
        assert_eq!(trainer.outcome(&name("parts")), whole);
    }
    trainer.place.run(["log", "verify"]).succeeded();

    // What came of it is a model, from which another training begins.
    trainer
        .train("whole-1/model", "further", &["--steps", "1"])
        .succeeded();
    let begins = trainer.outcome("further").number(1, "loss");
    assert!(
        begins < trainer.outcome("whole-1").number(1, "loss") / 2.0,
        "{begins}"
    );
}

#[test]
fn a_model_that_the_example_of_a_backend_cannot_train_is_refused_by_its_name() {
    let trainer = Trainer::new();
    let ended = trainer.train("llama", "out", &[]);
    assert_ne!(ended.code, Some(0), "{}", ended.stdout);
    assert!(
        ended.stderr.contains("LlamaForCausalLM"),
        "{}",
        ended.stderr
    );
}
