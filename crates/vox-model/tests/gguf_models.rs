//! GGUF models come out with the names, shapes, bits and tokenizers that the references give.
//!
//! `cargo xtask reference` makes the fixtures. The real model is not among them: its test runs where
//! `VOX_SMOLLM2_GGUF` names the file, as that command lets it. With `VOX_REBUILT` the rebuilt
//! tokenizers are put into that directory, to be tried with the library that they are for.

#[path = "../../../tests/skipped.rs"]
mod skipped;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::Value;
use vox_crypto::{Algorithm, Hasher};
use vox_model::formats::gguf::{GgufModel, Precision};
use vox_model::formats::safetensors::{SafeTensors, WritePlan};
use vox_model::{Dtype, TensorSource};

const SMALL: &[&str] = &["llama", "llama-tied", "qwen2", "qwen3", "gemma2", "gemma3"];
const REAL: &str = "smollm2-135m-instruct";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/gguf")
        .join(name)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn small(name: &str, precision: Precision) -> GgufModel {
    GgufModel::open(&fixture(&format!("{name}.gguf")), precision).unwrap()
}

/// Hashes what is written to it.
struct Hashing(Hasher);

impl std::io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn digest(bytes: &[u8]) -> String {
    let digest = vox_crypto::hash_with(Algorithm::Sha3_512, bytes).to_string();
    digest.trim_start_matches("sha3-512:").to_owned()
}

/// Compares every tensor with the digest that the reference gives.
fn has_the_tensors_of(model: &GgufModel, name: &str) {
    let expected = json(&fixture(&format!("{name}.digests.json")));
    let expected = expected["tensors"].as_object().unwrap();
    let names: Vec<&str> = model.tensors().iter().map(|t| t.name.as_str()).collect();
    for name in expected.keys() {
        assert!(names.contains(&name.as_str()), "{name} is missing");
    }
    for (index, info) in model.tensors().iter().enumerate() {
        let expected = expected.get(&info.name);
        let expected = expected.unwrap_or_else(|| panic!("{} is not expected", info.name));
        let shape: Vec<u64> = serde_json::from_value(expected["shape"].clone()).unwrap();
        assert_eq!(info.shape, shape, "{}", info.name);
        let mut hashing = Hashing(Hasher::of(Algorithm::Sha3_512));
        model.write_tensor(index, &mut hashing).unwrap();
        let found = hashing.0.finish().to_string();
        let expected = expected["sha3-512"].as_str().unwrap();
        assert_eq!(found, format!("sha3-512:{expected}"), "{}", info.name);
    }
}

fn has_the_tokenizer_of(model: &GgufModel, name: &str) {
    let rebuilt = model.tokenizer().unwrap();
    if let Some(directory) = env::var_os("VOX_REBUILT") {
        let path = Path::new(&directory).join(format!("{name}.tokenizer.json"));
        fs::write(path, &rebuilt.text).unwrap();
    } else {
        let expected = json(&fixture("tokenizers.json"));
        assert_eq!(digest(rebuilt.text.as_bytes()), expected[name], "{name}");
    }
}

#[test]
fn every_tensor_has_the_name_shape_and_bits_of_the_reference() {
    for name in SMALL {
        has_the_tensors_of(&small(name, Precision::F32), name);
    }
}

#[test]
fn every_rebuilt_tokenizer_is_one_that_agreed_with_the_reference() {
    for name in SMALL {
        has_the_tokenizer_of(&small(name, Precision::F32), name);
    }
}

#[test]
fn the_real_model_is_what_the_reference_says() {
    let Some(path) = env::var_os("VOX_SMOLLM2_GGUF") else {
        skipped::because("VOX_SMOLLM2_GGUF names no file");
        return;
    };
    let model = GgufModel::open(Path::new(&path), Precision::F32).unwrap();
    has_the_tensors_of(&model, REAL);
    has_the_tokenizer_of(&model, REAL);
    assert_eq!(model.quantisation(), Some("Q4_1"));
    assert_eq!(model.parameters(), 134_515_008);
    let config: Value = serde_json::from_str(&model.config().unwrap().text).unwrap();
    for (key, expected) in [
        ("num_hidden_layers", 30),
        ("hidden_size", 576),
        ("num_attention_heads", 9),
        ("num_key_value_heads", 3),
        ("vocab_size", 49152),
        ("head_dim", 64),
    ] {
        assert_eq!(config[key], expected, "{key}");
    }
    assert_eq!(config["tie_word_embeddings"], true);
    assert_eq!(config["rope_theta"], 100_000.0);
    assert_eq!(config["rms_norm_eps"], 1e-5);
}

fn config(name: &str) -> Value {
    let rebuilt = small(name, Precision::F32).config().unwrap();
    assert_eq!(rebuilt.notes, Vec::<String>::new(), "{name}");
    serde_json::from_str(&rebuilt.text).unwrap()
}

#[test]
fn the_configuration_is_that_of_the_familys_own_class() {
    let expected: BTreeMap<&str, (&str, &str)> = BTreeMap::from([
        ("llama", ("LlamaForCausalLM", "llama")),
        ("llama-tied", ("LlamaForCausalLM", "llama")),
        ("qwen2", ("Qwen2ForCausalLM", "qwen2")),
        ("qwen3", ("Qwen3ForCausalLM", "qwen3")),
        ("gemma2", ("Gemma2ForCausalLM", "gemma2")),
        ("gemma3", ("Gemma3ForCausalLM", "gemma3_text")),
    ]);
    for (name, (class, kind)) in expected {
        let config = config(name);
        assert_eq!(config["architectures"][0], class);
        assert_eq!(config["model_type"], kind);
        assert_eq!(config["hidden_size"], 32, "{name}");
        assert_eq!(config["num_attention_heads"], 4, "{name}");
        assert_eq!(config["num_key_value_heads"], 2, "{name}");
        assert_eq!(config["tie_word_embeddings"], name != "llama", "{name}");
        assert_eq!(config["rms_norm_eps"], 1e-5, "{name}");
    }
    assert_eq!(config("llama-tied")["attention_bias"], true);
    assert_eq!(config("llama")["attention_bias"], false);
    assert_eq!(config("gemma2")["final_logit_softcapping"], 30.0);
    assert_eq!(config("gemma3")["query_pre_attn_scalar"], 16);
}

#[test]
fn a_stretched_rotary_embedding_is_found_again_in_the_factors_and_in_the_keys() {
    let llama = &config("llama")["rope_scaling"];
    assert_eq!(llama["rope_type"], "llama3");
    assert_eq!(llama["factor"], 32.0);
    assert_eq!(llama["original_max_position_embeddings"], 8192);
    let qwen = &config("qwen3")["rope_scaling"];
    assert_eq!(qwen["rope_type"], "yarn");
    assert_eq!(qwen["factor"], 4.0);
    assert_eq!(config("llama-tied").get("rope_scaling"), None);
}

#[test]
fn what_a_model_has_no_place_for_is_reported() {
    let model = small("llama", Precision::F32);
    let skipped: Vec<&str> = model.skipped().iter().map(|s| s.tensor.as_str()).collect();
    assert_eq!(skipped, ["rope_freqs.weight"]);
    assert!(small("qwen2", Precision::F32).skipped().is_empty());
}

#[test]
fn the_special_tokens_and_the_chat_template_are_kept() {
    let rebuilt = small("qwen2", Precision::F32).tokenizer_config().unwrap();
    let config: Value = serde_json::from_str(&rebuilt.text).unwrap();
    assert_eq!(config["bos_token"], "<|im_start|>");
    assert_eq!(config["eos_token"], "<|im_end|>");
    assert_eq!(config["add_bos_token"], false);
    assert_eq!(config["chat_template"], "{{ messages[0]['content'] }}");
    assert_eq!(config["model_max_length"], 128);
    let rebuilt = small("llama", Precision::F32).tokenizer_config().unwrap();
    let config: Value = serde_json::from_str(&rebuilt.text).unwrap();
    assert_eq!(config["add_bos_token"], true);
    assert_eq!(config["unk_token"], "<unk>");
}

fn tensor(model: &GgufModel, name: &str) -> Vec<u8> {
    let index = model.tensors().iter().position(|t| t.name == name);
    let mut data = Vec::new();
    model.write_tensor(index.unwrap(), &mut data).unwrap();
    data
}

#[test]
fn half_precision_is_the_nearest_to_what_single_precision_gives() {
    let name = "model.layers.0.self_attn.q_proj.weight";
    let single = tensor(&small("llama", Precision::F32), name);
    let single = single
        .as_chunks::<4>()
        .0
        .iter()
        .copied()
        .map(f32::from_le_bytes);
    let f16 = single
        .clone()
        .flat_map(|v| half::f16::from_f32(v).to_le_bytes());
    let bf16 = single.flat_map(|v| half::bf16::from_f32(v).to_le_bytes());
    assert_eq!(
        tensor(&small("llama", Precision::F16), name),
        f16.collect::<Vec<_>>()
    );
    assert_eq!(
        tensor(&small("llama", Precision::BF16), name),
        bf16.collect::<Vec<_>>()
    );
}

/// Rows that are kept as blocks dequantise to the rows that come out dequantised.
#[test]
fn kept_blocks_are_the_same_numbers_in_the_same_rows() {
    for name in ["llama", "llama-tied", "gemma3"] {
        let kept = small(name, Precision::Quantised);
        let single = small(name, Precision::F32);
        let metadata = kept.safetensors_metadata();
        let mut blocks = 0;
        for (index, info) in kept.tensors().iter().enumerate() {
            let data = tensor(&kept, &info.name);
            let expected = tensor(&single, &info.name);
            let stored = kept.stored(index).unwrap();
            if info.dtype != Dtype::U8 {
                assert_eq!(data, expected, "{}", info.name);
                continue;
            }
            blocks += 1;
            let mut values = Vec::new();
            assert!(vox_model::formats::gguf::dequantise(
                stored.kind,
                &data,
                &mut values
            ));
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            assert_eq!(bytes, expected, "{}", info.name);
            let shape = single.tensors()[index].shape.clone();
            let shape: Vec<String> = shape.iter().map(u64::to_string).collect();
            let written = format!("{} {}", stored.kind, shape.join(" "));
            assert_eq!(metadata[&format!("ggml.{}", info.name)], written);
        }
        assert!(blocks > 4, "{name}");
    }
}

#[test]
fn a_model_goes_into_a_safetensors_file_and_comes_out_of_it() {
    let directory = tempfile::tempdir().unwrap();
    for precision in [Precision::F32, Precision::Quantised] {
        let model = small("llama", precision);
        let plan = WritePlan::new(model.tensors(), &model.safetensors_metadata()).unwrap();
        let path = directory.path().join("model.safetensors");
        let mut file = fs::File::create(&path).unwrap();
        plan.write(&model, &mut file, &mut |_| {}).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), plan.len());
        let back = SafeTensors::open(&path).unwrap();
        assert_eq!(back.metadata(), &model.safetensors_metadata());
        for (index, info) in back.tensors().iter().enumerate() {
            let data = back.read_tensor(index).unwrap().unwrap();
            assert_eq!(data, tensor(&model, &info.name), "{}", info.name);
        }
    }
}
