//! What a training takes for the memory that it can have.

use std::fs;

use vox_crypto::SigningKey;
use vox_host::CancelToken;
use vox_ml::config::{Overrides, TrainConfig};
use vox_ml::train::{Prepared, Surroundings, TrainError};
use vox_oplog::OpLog;
use vox_probe::{MockProbe, Probe as _};
use vox_store::Store;
use vox_testkit::World;

const CONFIG: &str = r#"
output = "out"

[scratch]
layers = 2
hidden = 64
heads = 2
vocabulary = 300

[data]
files = ["text.txt"]
context = 32

[machine]
device = "cpu"
"#;

#[test]
fn what_a_control_group_leaves_bounds_the_memory_of_a_training() {
    let world = World::with(&["candle-cpu"]);
    let host = world.host("");
    let place = world.path();
    let key = SigningKey::from_secret(&[3; 32]);
    let (store, _) = Store::open(place.join("store"), vox_store::Options::default()).unwrap();
    let log = OpLog::open(
        place.join("log"),
        key.clone(),
        vox_oplog::Options::default(),
    )
    .unwrap();
    fs::write(
        place.join("text.txt"),
        "the cat sat on the mat; ".repeat(50),
    )
    .unwrap();
    let file = place.join("train.toml");
    let config = TrainConfig::parse(CONFIG, &file, &Overrides::new()).unwrap();
    let mut hardware = MockProbe::cpu().probe();
    hardware.memory.available = Some(1 << 16);
    let around = Surroundings {
        host: &host,
        log: &log,
        store: &store,
        key: &key,
        hardware: &hardware,
        backend: None,
        cancel: CancelToken::new(),
        version: "0.0.0",
        now: || 0,
    };
    let error = Prepared::new(around, config, false, &mut |_| {}).unwrap_err();
    let TrainError::Memory {
        needed, available, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(available, 1 << 16);
    assert!(needed > available, "{needed}");
}
