//! Imports with `--quant`: from every format the same blocks, which are those that a backend makes as it loads.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use support::{World, model, request};
use vox_model::TensorSource as _;
use vox_model::bundle::{Manifest, Quantisation, Role};
use vox_model::formats::gguf::{GgufModel, Precision};
use vox_model::formats::safetensors::SafeTensors;
use vox_model::import::{ImportError, Imported, Mix, Request};
use vox_quant::BlockKind;

const QUERIES: &str = "model.layers.0.self_attn.q_proj.weight";
const VALUES: &str = "model.layers.0.self_attn.v_proj.weight";
const NORM: &str = "model.norm.weight";

/// Rows of the two matrices of the model, and columns.
const ROWS: usize = 3;
const COLUMNS: usize = 512;

/// Numbers that are the same on every machine.
fn numbers(seed: usize, count: usize) -> Vec<f32> {
    let number = |at: usize| ((at * 7919 + seed * 613) % 2003) as f32 / 1001.0 - 1.0;
    (0..count).map(number).collect()
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Writes a SafeTensors file of tensors with these numbers.
fn write(path: &Path, tensors: &[(&str, &[usize], &[f32])]) {
    let data: Vec<_> = tensors.iter().map(|(_, _, x)| bytes(x)).collect();
    let views = tensors.iter().zip(&data).map(|((name, shape, _), data)| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), data);
        (*name, view.unwrap())
    });
    let metadata = [("format".to_owned(), "pt".to_owned())];
    let file = safetensors::serialize(views, Some(metadata.into())).unwrap();
    fs::write(path, file).unwrap();
}

/// What a quantised import is asked for.
fn quantised(path: &Path, mix: Mix) -> Request<'_> {
    Request {
        quantise: Some(mix),
        ..request(path)
    }
}

/// A tensor of a bundle: its shape, its bytes, and the note on its blocks.
type Found = (Vec<u64>, Vec<u8>, Option<String>);

/// The tensors of a bundle's weights.
fn tensors(world: &World, manifest: &Manifest) -> BTreeMap<String, Found> {
    let mut found = BTreeMap::new();
    for entry in manifest.files_of(Role::Weights) {
        let file = SafeTensors::open(&world.store().path_of(&entry.blake3).unwrap()).unwrap();
        for (index, info) in file.tensors().iter().enumerate() {
            let note = file.metadata().get(&format!("ggml.{}", info.name));
            let data = file.read_tensor(index).unwrap().unwrap();
            found.insert(info.name.clone(), (info.shape.clone(), data, note.cloned()));
        }
    }
    found
}

/// A matrix of the model once it is in blocks.
fn in_blocks(kind: BlockKind, x: &[f32]) -> Found {
    let data = kind.quantise(x);
    let row = (data.len() / ROWS) as u64;
    let note = format!("{kind} {ROWS} {COLUMNS}");
    (vec![ROWS as u64, row], data, Some(note))
}

#[test]
fn a_directory_is_quantised_by_the_rule_and_the_rest_stays_as_it_is() {
    let world = World::new();
    let source = world.directory("source");
    model(&source, 1);
    let (queries, values) = (numbers(1, ROWS * COLUMNS), numbers(2, ROWS * COLUMNS));
    write(
        &source.join("model.safetensors"),
        &[
            (QUERIES, &[ROWS, COLUMNS], &queries),
            (VALUES, &[ROWS, COLUMNS], &values),
            (NORM, &[4], &[1.0, 2.0, 3.0, 4.0]),
        ],
    );
    for (mix, as_stored, of_queries, of_values) in [
        (
            Mix::Q8_0,
            Quantisation::Q8_0,
            BlockKind::Q8_0,
            BlockKind::Q8_0,
        ),
        (
            Mix::Q4_0,
            Quantisation::Q4_0,
            BlockKind::Q4_0,
            BlockKind::Q4_0,
        ),
        // Of one layer the values are among what matters most.
        (
            Mix::Q4KM,
            Quantisation::Q4KM,
            BlockKind::Q4K,
            BlockKind::Q6K,
        ),
    ] {
        let imported = world
            .import_with(Request {
                name: mix.name(),
                ..quantised(&source, mix)
            })
            .unwrap();
        let manifest = &imported.manifest;
        assert_eq!(manifest.quantisation, as_stored);
        assert_eq!(manifest.parameters, (2 * ROWS * COLUMNS + 4) as u64);
        assert_eq!(manifest.architecture.as_deref(), Some("LlamaForCausalLM"));
        assert_eq!(manifest.licence.as_deref(), Some("apache-2.0"));
        let paths: Vec<&str> = manifest.files.iter().map(|file| &*file.path).collect();
        let all = [
            "README.md",
            "config.json",
            "model.safetensors",
            "tokenizer.json",
        ];
        assert_eq!(paths, all);
        let found = tensors(&world, manifest);
        assert_eq!(found[QUERIES], in_blocks(of_queries, &queries), "{mix}");
        assert_eq!(found[VALUES], in_blocks(of_values, &values), "{mix}");
        assert_eq!(found[NORM], (vec![4], bytes(&[1.0, 2.0, 3.0, 4.0]), None));
        assert!(world.library.verify(manifest, &()).unwrap().is_empty());
    }
}

#[test]
fn shards_and_single_files_become_the_blocks_of_the_directory() {
    let world = World::new();
    let x = numbers(1, ROWS * COLUMNS);
    let whole = world.directory("whole");
    let matrix: (&str, &[usize], &[f32]) = (QUERIES, &[ROWS, COLUMNS], &x);
    let norm: (&str, &[usize], &[f32]) = (NORM, &[2], &[1.0, 2.0]);
    write(&whole.join("model.safetensors"), &[matrix, norm]);
    let shards = world.directory("shards");
    let names = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    write(&shards.join(names[0]), &[matrix]);
    write(&shards.join(names[1]), &[norm]);
    let map = BTreeMap::from([(QUERIES, names[0]), (NORM, names[1])]);
    let index = serde_json::json!({ "weight_map": map });
    fs::write(
        shards.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();

    let import = |name: &'static str, path: &Path, shard_bytes: u64| {
        let imported = world.import_with(Request {
            name,
            shard_bytes,
            ..quantised(path, Mix::Q4KM)
        });
        imported.unwrap().manifest
    };
    let of_whole = import("whole", &whole, u64::MAX);
    let wanted = tensors(&world, &of_whole);
    assert_eq!(wanted[QUERIES], in_blocks(BlockKind::Q4K, &x));
    let of_shards = import("shards", &shards, u64::MAX);
    // What was in shards fits into one file now, so the index is not that of the source.
    assert_eq!(of_shards.files.len(), 1);
    assert_eq!(of_shards.weights_hash, of_whole.weights_hash);
    let of_file = import("file", &whole.join("model.safetensors"), u64::MAX);
    assert_eq!(of_file.weights_hash, of_whole.weights_hash);
    let in_shards = import("again", &whole, 16);
    assert_eq!(in_shards.files_of(Role::Weights).count(), 2);
    assert_eq!(in_shards.files_of(Role::Index).count(), 1);
    assert_eq!(tensors(&world, &in_shards), wanted);
}

/// A PyTorch file with one matrix of floats.
fn pytorch(name: &str, x: &[f32]) -> Vec<u8> {
    let text = |text: &str| {
        let length = u32::try_from(text.len()).unwrap().to_le_bytes();
        [&b"X"[..], &length, text.as_bytes()].concat()
    };
    let number = |number: usize| [&[0x8a_u8, 8][..], &(number as u64).to_le_bytes()].concat();
    let mut pickle: Vec<u8> = vec![0x80, 2, b'}'];
    pickle.extend(text(name));
    pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle.extend(text("storage"));
    pickle.extend(b"ctorch\nFloatStorage\n");
    pickle.extend([text("0"), text("cpu"), number(x.len())].concat());
    pickle.extend(b"tQ");
    pickle.extend(number(0));
    for pair in [[ROWS, COLUMNS], [COLUMNS, 1]] {
        pickle.extend(b"(");
        pickle.extend(pair.map(number).concat());
        pickle.extend(b"t");
    }
    pickle.extend(b"\x89NtRs.");
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, data) in [("data.pkl", &pickle), ("data/0", &bytes(x))] {
        zip.start_file(format!("archive/{name}"), options).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn pytorch_weights_become_the_same_blocks() {
    let world = World::new();
    let x = numbers(3, ROWS * COLUMNS);
    let source = world.directory("source");
    fs::write(source.join("pytorch_model.bin"), pytorch(QUERIES, &x)).unwrap();
    fs::write(source.join("config.json"), "{}").unwrap();
    let imported = world.import_with(quantised(&source, Mix::Q4_0)).unwrap();
    assert_eq!(imported.manifest.quantisation, Quantisation::Q4_0);
    let found = tensors(&world, &imported.manifest);
    assert_eq!(found[QUERIES], in_blocks(BlockKind::Q4_0, &x));
}

fn gguf(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/gguf/{name}.gguf"))
}

/// Imports a GGUF file of which most matrices are in blocks.
fn from_gguf(world: &World, mix: Mix) -> Imported {
    world.import_with(quantised(&gguf("llama"), mix)).unwrap()
}

#[test]
fn a_gguf_file_is_dequantised_before_and_that_is_said() {
    let world = World::new();
    let imported = from_gguf(&world, Mix::Q8_0);
    assert_eq!(imported.manifest.quantisation, Quantisation::Q8_0);
    let said = imported.notes.join("\n");
    assert!(said.contains("the weights were quantised before"), "{said}");
    let single = GgufModel::open(&gguf("llama"), Precision::F32).unwrap();
    assert_eq!(imported.manifest.parameters, single.parameters());
    let found = tensors(&world, &imported.manifest);
    assert_eq!(found.len(), single.tensors().len());
    for (index, info) in single.tensors().iter().enumerate() {
        let mut data = Vec::new();
        single.write_tensor(index, &mut data).unwrap();
        let (_, stored, note) = &found[&info.name];
        if info.shape.len() < 2 {
            assert_eq!((stored, note), (&data, &None), "{}", info.name);
            continue;
        }
        let (floats, _) = data.as_chunks::<4>();
        let floats: Vec<f32> = floats.iter().copied().map(f32::from_le_bytes).collect();
        assert_eq!(*stored, BlockKind::Q8_0.quantise(&floats), "{}", info.name);
        assert!(note.is_some(), "{}", info.name);
    }
}

#[test]
fn the_same_source_gives_the_same_bundle() {
    let (one, other) = (World::new(), World::new());
    let [one, other] = [one, other].map(|world| from_gguf(&world, Mix::Q4KM).manifest);
    assert_eq!(one.bundle_hash, other.bundle_hash);
}

fn refusal(world: &World, path: &Path) -> String {
    match world.import_with(quantised(path, Mix::Q8_0)).unwrap_err() {
        ImportError::Quantise { why, .. } => why.to_owned(),
        other => panic!("{other}"),
    }
}

#[test]
fn what_cannot_be_quantised_is_refused_with_what_to_do() {
    let world = World::new();
    let source = world.directory("source");
    model(&source, 1);
    let said = refusal(&world, &source);
    assert!(said.contains("none of its tensors is a matrix"), "{said}");
    fs::write(source.join("adapter_config.json"), "{}").unwrap();
    let said = refusal(&world, &source);
    assert!(said.contains("it is an adapter"), "{said}");

    let imported = from_gguf(&world, Mix::Q8_0);
    let out = world.place.path().join("out");
    world.library.export(&imported.manifest, &out, &()).unwrap();
    let said = refusal(&world, &out);
    assert!(said.contains("its weights are in blocks already"), "{said}");
    assert!(said.contains("without `--quant`"), "{said}");
}

#[test]
fn a_tensor_that_holds_what_is_no_number_ends_the_import() {
    let world = World::new();
    let source = world.directory("source");
    let mut x = numbers(1, COLUMNS);
    x[100] = f32::NAN;
    write(
        &source.join("model.safetensors"),
        &[(QUERIES, &[1, COLUMNS], &x)],
    );
    let error = world
        .import_with(quantised(&source, Mix::Q4_0))
        .unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains(&format!("the tensor `{QUERIES}` holds what is no number")),
        "{said}"
    );
    assert!(world.library.find("model").is_err());
}
