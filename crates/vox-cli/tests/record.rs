//! The record from outside: a real model, several processes at once, another machine, and somebody who
//! changes what was written.

#[path = "../../../tests/skipped.rs"]
mod skipped;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use vox_crypto::{Algorithm, hash_with};
use vox_model::bundle::Role;
use vox_model::formats::safetensors::SafeTensors;
use vox_model::library::Library;
use vox_model::tensor::TensorSource as _;
use vox_store::Store;

/// A `vox` with its data in `place`.
fn vox(place: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vox"));
    command
        .current_dir(place)
        .env("VOX_DATA", place.join("data"))
        .env("VOX_CACHE", place.join("cache"))
        .stdin(Stdio::null());
    for name in ["VOX_PLUGIN_PATH", "VOX_LOG", "VOX_SDK", "XDG_RUNTIME_DIR"] {
        command.env_remove(name);
    }
    command
}

fn ends_with(code: i32, command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{said}{}",
        String::from_utf8_lossy(&output.stdout)
    );
    output
}

fn json(command: &mut Command) -> Value {
    let output = ends_with(0, command.args(["--format", "json"]));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A directory with a small model: one tensor of bytes, which are `seed`.
fn small_model(directory: &Path, seed: u8) {
    fs::create_dir_all(directory).unwrap();
    let header = br#"{"a":{"dtype":"U8","shape":[4096],"data_offsets":[0,4096]}}     "#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend([seed; 4096]);
    fs::write(directory.join("model.safetensors"), file).unwrap();
}

/// The name of a model of the catalogue, whose tensors the reference has dequantised.
const REAL: &str = "smollm2-135m-instruct";

#[test]
fn a_real_model_goes_in_and_comes_out_with_the_tensors_of_the_reference() {
    let place = tempfile::tempdir().unwrap();
    let output = vox(place.path())
        .args(["model", "import", REAL])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("could not be fetched") {
        skipped::because(format_args!(
            "no package index can be reached from here: {said}"
        ));
        return;
    }
    assert!(output.status.success(), "{said}");

    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vox-model/tests/fixtures/gguf");
    let expected = fs::read(fixtures.join(format!("{REAL}.digests.json"))).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let expected = expected["tensors"].as_object().unwrap();

    let store = Store::open_read(place.path().join("data/store")).unwrap();
    let library = Library::new(store.clone());
    let manifest = library.find(REAL).unwrap().manifest;
    assert_eq!(manifest.architecture.as_deref(), Some("LlamaForCausalLM"));
    assert_eq!(manifest.parameters, 134_515_008);
    assert!(library.verify(&manifest, &()).unwrap().is_empty());
    let weights = manifest.files_of(Role::Weights).next().unwrap();
    let file = SafeTensors::open(&store.path_of(&weights.blake3).unwrap()).unwrap();
    assert_eq!(file.tensors().len(), expected.len());
    for (index, tensor) in file.tensors().iter().enumerate() {
        let data = file.read_tensor(index).unwrap().unwrap();
        let found = hash_with(Algorithm::Sha3_512, &data).to_hex();
        assert_eq!(expected[&tensor.name]["sha3-512"], found, "{}", tensor.name);
    }
    // What was fetched is not kept beside the store.
    let left = fs::read_dir(place.path().join("cache/fetched"))
        .unwrap()
        .count();
    assert_eq!(left, 0);
    ends_with(0, vox(place.path()).args(["log", "verify"]));
}

/// A directory with a model of one map, whose numbers are those of two blocks, and a norm.
fn model_with_a_map(directory: &Path) {
    let header = serde_json::json!({
        "model.layers.0.self_attn.q_proj.weight":
            { "dtype": "F32", "shape": [2, 32], "data_offsets": [0, 256] },
        "model.norm.weight": { "dtype": "F32", "shape": [2], "data_offsets": [256, 264] },
    });
    let header = header.to_string();
    let map = (0..64_i8).map(|at| if at % 32 == 0 { 127 } else { -at });
    let numbers = map.chain([1, 2]).map(f32::from);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(numbers.flat_map(f32::to_le_bytes));
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("model.safetensors"), file).unwrap();
}

#[test]
fn an_import_quantises_where_it_is_asked_to_and_says_so() {
    let place = tempfile::tempdir().unwrap();
    model_with_a_map(&place.path().join("small"));
    let import = ["model", "import", "./small", "--quant"];
    let imported = json(vox(place.path()).args(import).arg("q8_0"));
    assert_eq!(imported["manifest"]["quantisation"], "Q8_0");
    assert_eq!(imported["manifest"]["parameters"], 66);
    let listed = json(vox(place.path()).args(["model", "ls"]));
    assert_eq!(listed[0]["quantisation"], "Q8_0");

    let store = Store::open_read(place.path().join("data/store")).unwrap();
    let manifest = Library::new(store.clone()).find("small").unwrap().manifest;
    let weights = manifest.files_of(Role::Weights).next().unwrap();
    let file = SafeTensors::open(&store.path_of(&weights.blake3).unwrap()).unwrap();
    let map = "model.layers.0.self_attn.q_proj.weight";
    assert_eq!(file.metadata()[&format!("ggml.{map}")], "Q8_0 2 32");
    let data = file.read_tensor(file.position(map).unwrap()).unwrap();
    let data = data.unwrap();
    // 127 is the largest of either block, so a unit is 1.
    assert_eq!(data.len(), 2 * 34);
    assert_eq!(data[..5], [0x00, 0x3c, 127, 0xff, 0xfe]);
    assert_eq!(data[34..39], [0x00, 0x3c, 127, 0xdf, 0xde]);
    let norm = file.position("model.norm.weight").unwrap();
    let norm = file.read_tensor(norm).unwrap().unwrap();
    assert_eq!(norm, [1.0_f32, 2.0].map(f32::to_le_bytes).concat());
}

#[test]
fn a_quantised_import_is_refused_where_it_cannot_be_or_means_two_things() {
    let place = tempfile::tempdir().unwrap();
    small_model(&place.path().join("small"), 1);
    let import = ["model", "import", "./small", "--quant", "q4_k_m"];
    let refused = ends_with(5, vox(place.path()).args(import));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("./small cannot be quantised: none of its tensors"),
        "{said}"
    );
    for other in [&["--dtype", "f16"][..], &["--keep-quantised"]] {
        let refused = ends_with(2, vox(place.path()).args(import).args(other));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            said.contains("--quant") && said.contains(other[0]),
            "{said}"
        );
    }
    assert_eq!(
        json(vox(place.path()).args(["model", "ls"])),
        serde_json::json!([])
    );
}

#[test]
fn processes_that_begin_at_once_make_one_key_one_store_and_one_log() {
    let place = tempfile::tempdir().unwrap();
    let children: Vec<_> = (0..4_u8)
        .map(|number| {
            let name = format!("model-{number}");
            small_model(&place.path().join(&name), number);
            let mut command = vox(place.path());
            command.args(["model", "import", &format!("./{name}")]);
            command
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert_eq!(
        json(vox(place.path()).args(["model", "ls"]))
            .as_array()
            .unwrap()
            .len(),
        4
    );
    let verified = json(vox(place.path()).args(["log", "verify"]));
    assert_eq!(verified["ops"], 5);
    assert_eq!(verified["authors"].as_array().unwrap().len(), 1);
}

#[test]
fn what_another_process_records_is_followed() {
    let place = tempfile::tempdir().unwrap();
    small_model(&place.path().join("first"), 1);
    small_model(&place.path().join("second"), 2);
    ends_with(0, vox(place.path()).args(["model", "import", "./first"]));
    let mut command = vox(place.path());
    command.args([
        "log", "follow", "--kind", "model.*", "--from", "0", "--format", "json",
    ]);
    let mut follower = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["payload"]["name"], "first");
    ends_with(0, vox(place.path()).args(["model", "import", "./second"]));
    assert_eq!(next()["payload"]["name"], "second");
    follower.kill().unwrap();
    follower.wait().unwrap();
}

/// Exports the log of one place to a file of another.
fn hand_over(from: &TempDir, to: &TempDir) -> std::path::PathBuf {
    let file = to.path().join("theirs.voxlog");
    let _ = fs::remove_file(&file);
    ends_with(0, vox(from.path()).args(["log", "export"]).arg(&file));
    file
}

#[test]
fn a_log_goes_to_another_machine_grows_there_and_a_fork_is_named() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    small_model(&theirs.path().join("small"), 1);
    ends_with(0, vox(theirs.path()).args(["model", "import", "./small"]));
    let before = theirs.path().join("before");
    let copied = Command::new("cp")
        .arg("-r")
        .arg(theirs.path().join("data"))
        .arg(&before)
        .status();
    assert!(copied.unwrap().success());

    let file = hand_over(&theirs, &ours);
    assert_eq!(
        json(vox(ours.path()).args(["log", "import"]).arg(&file))["added"],
        2
    );
    ends_with(0, vox(theirs.path()).args(["model", "pin", "small"]));
    let file = hand_over(&theirs, &ours);
    let grown = json(vox(ours.path()).args(["log", "import"]).arg(&file));
    assert_eq!((&grown["added"], &grown["known"]), (&1.into(), &2.into()));
    let id = grown["log"].as_str().unwrap();
    ends_with(
        0,
        vox(ours.path()).args(["log", "verify", "--chain", &id[..8]]),
    );

    // Their data is put back to what it was, and something else happens.
    fs::remove_dir_all(theirs.path().join("data")).unwrap();
    fs::rename(&before, theirs.path().join("data")).unwrap();
    ends_with(0, vox(theirs.path()).args(["model", "rm", "small"]));
    let file = hand_over(&theirs, &ours);
    let refused = ends_with(1, vox(ours.path()).args(["log", "import"]).arg(&file));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("op 2 is"), "{said}");
}

#[test]
fn what_a_budget_evicts_is_named_and_recorded() {
    let place = tempfile::tempdir().unwrap();
    for (seed, name) in [(1, "first"), (2, "second")] {
        small_model(&place.path().join(name), seed);
        ends_with(
            0,
            vox(place.path()).args(["model", "import", &format!("./{name}")]),
        );
    }
    ends_with(0, vox(place.path()).args(["model", "pin", "second"]));
    let collected = json(vox(place.path()).args(["model", "gc", "--budget", "7KiB"]));
    assert_eq!(collected["evicted"], serde_json::json!(["first"]));
    let output = ends_with(
        0,
        vox(place.path()).args(["log", "ls", "--kind", "model.remove", "--format", "json"]),
    );
    let op: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(op["payload"]["name"], "first");
    ends_with(0, vox(place.path()).args(["model", "verify", "second"]));
}

#[test]
fn a_database_that_was_put_back_to_an_older_copy_is_found() {
    let place = tempfile::tempdir().unwrap();
    small_model(&place.path().join("small"), 1);
    ends_with(0, vox(place.path()).args(["model", "import", "./small"]));
    let database = place.path().join("data/log/log.db");
    let older = fs::read(&database).unwrap();
    ends_with(0, vox(place.path()).args(["model", "pin", "small"]));
    for rest in ["log.db-wal", "log.db-shm"] {
        let _ = fs::remove_file(place.path().join("data/log").join(rest));
    }
    fs::write(&database, older).unwrap();
    let output = ends_with(1, vox(place.path()).args(["log", "verify"]));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("rolled back"), "{said}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_an_import_and_leaves_nothing_of_it() {
    let place = tempfile::tempdir().unwrap();
    // Large enough that it is not over before it can be interrupted; a hole costs no disk.
    let directory = place.path().join("large");
    fs::create_dir_all(&directory).unwrap();
    let bytes = 8_u64 << 30;
    let header =
        format!(r#"{{"a":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[0,{bytes}]}}}}"#);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    let path = directory.join("model.safetensors");
    fs::write(&path, &file).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(file.len() as u64 + bytes)
        .unwrap();

    let mut command = vox(place.path());
    command.args(["model", "import", "./large"]);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It has begun once an unfinished blob is there.
    let mut stderr = child.stderr.take().unwrap();
    while !place
        .path()
        .join("data/store/tmp")
        .read_dir()
        .is_ok_and(|mut entries| {
            entries.any(|entry| {
                entry.is_ok_and(|entry| {
                    entry
                        .path()
                        .read_dir()
                        .is_ok_and(|mut files| files.next().is_some())
                })
            })
        })
    {
        std::thread::yield_now();
    }
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{said}");
    assert_eq!(
        json(vox(place.path()).args(["model", "ls"])),
        Value::Array(Vec::new())
    );
    let collected = json(vox(place.path()).args(["model", "gc"]));
    assert_eq!(
        (&collected["removed"], &collected["kept"]),
        (&0.into(), &0.into()),
        "{collected}"
    );
}
