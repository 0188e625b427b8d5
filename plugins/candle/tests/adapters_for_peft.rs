//! Adapters that are exported here give in PEFT what they give here.
//!
//! `cargo xtask reference ml` makes the fixtures: with `VOX_EXPORTED` one of the tests trains the adapters and exports
//! them into that directory, and PEFT loads them and computes what is in their `expected.safetensors`.

use std::fs;
use std::path::{Path, PathBuf};

use candle::train::{AdapterSpec, Batch, Beginning, Session, Spec, Update};
use candle::weights::Weights;
use serde_json::Value;
use tempfile::TempDir;

/// The base, as it is called from the directory of the crate: an adapter's settings name it.
const BASE: &str = "tests/reference/models/llama";

/// The fixtures.
const EXPORTED: &str = "tests/reference/exported";

/// The files of an adapter.
const FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

fn adapter(targets: &[&str], rank_stabilised: bool) -> AdapterSpec {
    AdapterSpec {
        rank: 4,
        alpha: 16.0,
        dropout: 0.125,
        rank_stabilised,
        targets: targets.iter().map(|&target| target.to_owned()).collect(),
    }
}

/// The adapters by their names.
fn adapters() -> [(&'static str, AdapterSpec); 2] {
    [
        ("attention", adapter(&["q_proj", "k_proj", "v_proj"], false)),
        ("all-linear-rslora", adapter(&["all-linear"], true)),
    ]
}

fn load(adapter: Option<AdapterSpec>, beginning: Beginning) -> Session {
    let spec = Spec {
        threads: 1,
        seed: 3,
        adapter,
        beginning,
        ..Spec::default()
    };
    Session::load(Path::new(BASE), &spec).unwrap()
}

/// Whole numbers of 64 bits.
fn numbers(file: &Weights, name: &str) -> Vec<u32> {
    let (words, _) = file.stored(name).unwrap().as_chunks::<8>();
    words
        .iter()
        .map(|&word| u32::try_from(i64::from_le_bytes(word)).unwrap())
        .collect()
}

/// Rows of tokens, each of which is to be foretold by those before it.
struct Rows {
    columns: usize,
    tokens: Vec<u32>,
    targets: Vec<i32>,
    segments: Vec<u32>,
}

impl Rows {
    fn new(tokens: Vec<u32>, columns: usize) -> Self {
        let target = |at: usize| match (at + 1).is_multiple_of(columns) {
            true => -1,
            false => i32::try_from(tokens[at + 1]).unwrap(),
        };
        Self {
            columns,
            targets: (0..tokens.len()).map(target).collect(),
            segments: vec![0; tokens.len()],
            tokens,
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch {
            position: 0,
            rows: self.tokens.len() / self.columns,
            columns: self.columns,
            tokens: &self.tokens,
            targets: &self.targets,
            segments: &self.segments,
        }
    }
}

#[test]
fn exported_adapters_are_made_anew_where_a_directory_is_named() {
    let Some(directory) = std::env::var_os("VOX_EXPORTED") else {
        return;
    };
    let directory = PathBuf::from(directory);
    if directory.exists() {
        fs::remove_dir_all(&directory).unwrap();
    }
    let tokens: Vec<u32> = (0..64).map(|at| 3 + at * 37 % 125).collect();
    let rows = Rows::new(tokens, 32);
    for (name, adapter) in adapters() {
        let mut session = load(Some(adapter), Beginning::Weights);
        for step in 1..=8 {
            let update = Update {
                step,
                learning_rate: 0.02,
                scale: 1.0 / 62.0,
                clip: Some(1.0),
            };
            session.train_step(&rows.batch(), &update).unwrap();
        }
        session.export_adapter(&directory.join(name)).unwrap();
    }
}

#[test]
fn adapters_that_peft_has_loaded_give_here_what_they_give_there() {
    for (name, _) in adapters() {
        let directory = Path::new(EXPORTED).join(name);
        let session = load(None, Beginning::Adapter(directory.clone()));
        let expected = Weights::open_file(&directory.join("expected.safetensors")).unwrap();
        let columns = expected.info("tokens").unwrap().shape[1];
        let rows = Rows::new(numbers(&expected, "tokens"), columns);
        let logits = session
            .logits(&rows.batch())
            .unwrap()
            .flatten_all()
            .unwrap();
        let found: Vec<f32> = logits.to_vec1().unwrap();
        let wanted = expected.floats("logits").unwrap();
        assert_eq!(found.len(), wanted.len());
        let most = wanted.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let apart = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs());
        let apart = apart.fold(0.0_f32, |most, x| if x.is_nan() { x } else { most.max(x) });
        assert!(apart < 1e-4 * most, "{name}: {apart} of {most}");
        let statistics = session.eval_step(&rows.batch()).unwrap();
        let loss = statistics.loss / statistics.targets as f64;
        let wanted = f64::from(expected.floats("loss").unwrap()[0]);
        assert!(
            (loss / wanted - 1.0).abs() < 1e-5,
            "{name}: {loss} {wanted}"
        );
    }
}

#[test]
fn adapters_are_exported_as_peft_has_read_them() {
    for (name, adapter) in adapters() {
        let directory = Path::new(EXPORTED).join(name);
        let session = load(Some(adapter), Beginning::Adapter(directory.clone()));
        let again = TempDir::new().unwrap();
        session.export_adapter(again.path()).unwrap();
        let [config, weights] = FILES.map(|file| {
            let read = |directory: &Path| fs::read(directory.join(file)).unwrap();
            (read(&directory), read(again.path()))
        });
        assert_eq!(weights.0, weights.1, "{name}");
        let [known, found] =
            [config.0, config.1].map(|text| serde_json::from_slice::<Value>(&text).unwrap());
        assert_eq!(known, found, "{name}");
    }
}
