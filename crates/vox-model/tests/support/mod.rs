//! A store, a log and a key in a directory of their own, and small models to import.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use vox_crypto::SigningKey;
use vox_model::bundle::{DataCursor, RandomState, ScheduleState, TrainingState};
use vox_model::import::{ImportError, Imported, Importer, Precision, Request, SHARD_BYTES};
use vox_model::library::Library;
use vox_oplog::OpLog;
use vox_store::Store;

/// Where a test keeps its record.
pub struct World {
    pub place: tempfile::TempDir,
    pub library: Library,
    pub log: OpLog,
    pub key: SigningKey,
}

impl World {
    pub fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    pub fn within(place: tempfile::TempDir) -> Self {
        let (library, log, key) = open(place.path());
        Self {
            place,
            library,
            log,
            key,
        }
    }

    pub fn store(&self) -> &Store {
        self.library.store()
    }

    /// A directory for files that are not the store's.
    pub fn directory(&self, name: &str) -> PathBuf {
        let directory = self.place.path().join(name);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    pub fn import(&self, path: &Path, name: &str) -> Result<Imported, ImportError> {
        self.import_with(Request {
            name,
            ..request(path)
        })
    }

    pub fn import_with(&self, request: Request<'_>) -> Result<Imported, ImportError> {
        let importer = Importer {
            library: &self.library,
            log: &self.log,
            key: &self.key,
            progress: &(),
        };
        importer.import(&request)
    }
}

/// Opens the record in a directory.
pub fn open(place: &Path) -> (Library, OpLog, SigningKey) {
    let key = SigningKey::from_secret(&[3; 32]);
    let (store, _) = Store::open(place.join("store"), vox_store::Options::default()).unwrap();
    let log = OpLog::open(
        place.join("log"),
        key.clone(),
        vox_oplog::Options::default(),
    )
    .unwrap();
    (Library::new(store), log, key)
}

/// A request with nothing special about it.
pub fn request(path: &Path) -> Request<'_> {
    Request {
        path,
        name: "model",
        source: "file:test".to_owned(),
        source_digest: None,
        licence: None,
        base: None,
        precision: Precision::default(),
        quantise: None,
        shard_bytes: SHARD_BYTES,
        hard_link: false,
        replace: false,
        time: 1_764_450_000_000_000,
    }
}

/// Writes a SafeTensors file of these tensors of 32-bit floats, each with as many elements as its number
/// and filled from `seed`.
pub fn safetensors(path: &Path, tensors: &[(&str, usize)], seed: u8) {
    let data: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, elements)| {
            (0..elements * 4)
                .map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed))
                .collect()
        })
        .collect();
    let views = tensors.iter().zip(&data).map(|((name, elements), data)| {
        (
            name.to_string(),
            TensorView::new(Dtype::F32, vec![*elements], data).unwrap(),
        )
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Writes a small model as the hub lays it out.
pub fn model(directory: &Path, seed: u8) {
    fs::create_dir_all(directory).unwrap();
    safetensors(
        &directory.join("model.safetensors"),
        &[("a", 8), ("b", 100)],
        seed,
    );
    fs::write(
        directory.join("config.json"),
        r#"{"architectures":["LlamaForCausalLM"]}"#,
    )
    .unwrap();
    fs::write(directory.join("tokenizer.json"), r#"{"version":"1.0"}"#).unwrap();
    fs::write(
        directory.join("README.md"),
        "---\nlicense: apache-2.0\n---\n# A model\n",
    )
    .unwrap();
}

/// Writes the same weights in two shards with their index.
pub fn sharded_model(directory: &Path, seed: u8) {
    fs::create_dir_all(directory).unwrap();
    let names = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    safetensors(&directory.join(names[0]), &[("a", 8)], seed);
    safetensors(&directory.join(names[1]), &[("b", 100)], seed);
    let map = BTreeMap::from([("a", names[0]), ("b", names[1])]);
    let index = serde_json::json!({ "metadata": { "total_size": 432 }, "weight_map": map });
    fs::write(
        directory.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
    fs::write(directory.join("config.json"), "{}").unwrap();
}

/// The state of a training at a step.
pub fn training_state(run: &str, step: u64) -> TrainingState {
    TrainingState {
        run: run.to_owned(),
        step,
        schedule: ScheduleState {
            name: "cosine".into(),
            peak_rate: 3e-4,
            warmup_steps: 10,
            total_steps: 100,
        },
        random: RandomState {
            algorithm: "philox4x32-10".into(),
            key: u64::MAX,
            counter: step,
        },
        data: DataCursor {
            dataset: vox_crypto::hash(b"data"),
            seed: 7,
            epoch: 0,
            position: step * 4,
        },
        world_size: 1,
        rank_order: vec!["this".into()],
        threads: 2,
        device: "cpu".into(),
        features: vec!["avx2".into()],
        base: None,
    }
}
