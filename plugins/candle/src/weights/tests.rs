//! Files as they are written, and such that lie.

use std::collections::HashMap;
use std::fs;

use candle_core::quantized::{GgmlDType, QTensor};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::architecture::Family;
use crate::tiny;

fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn save(path: &Path, tensors: &[(&str, Dtype, &[usize], &[u8])], notes: &[(&str, &str)]) {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (
            *name,
            TensorView::new(*dtype, shape.to_vec(), bytes).unwrap(),
        )
    });
    let notes: HashMap<String, String> = notes
        .iter()
        .map(|(key, note)| ((*key).to_owned(), (*note).to_owned()))
        .collect();
    safetensors::serialize_to_file(views, Some(notes), path).unwrap();
}

/// A bundle in two shards, and its index.
fn shards() -> TempDir {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    let values = bytes(&[1.0, 2.0, 3.0, 4.0]);
    save(
        &at("one.safetensors"),
        &[("a", Dtype::F32, &[2, 2], &values)],
        &[],
    );
    save(
        &at("two.safetensors"),
        &[("b", Dtype::F32, &[4], &values)],
        &[],
    );
    let index = json!({ "weight_map": { "a": "one.safetensors", "b": "two.safetensors" } });
    fs::write(at("model.safetensors.index.json"), index.to_string()).unwrap();
    directory
}

#[test]
fn a_bundle_of_every_family_has_the_tensors_of_its_architecture() {
    for &family in Family::ALL {
        let directory = TempDir::new().unwrap();
        let architecture = tiny::write(directory.path(), &tiny::config(family));
        let weights = Weights::open(directory.path()).unwrap();
        weights.check(&architecture).unwrap();
        assert_eq!(weights.bytes(), 4 * architecture.parameters());
        assert_eq!(weights.usual_element(), Some(Element::Plain(DType::F32)));
    }
}

#[test]
fn rows_are_read_by_themselves_and_as_tensors() {
    let directory = shards();
    let weights = Weights::open(directory.path()).unwrap();
    let mut row = [0.0; 2];
    weights.read_rows("a", 1..2, &mut row).unwrap();
    assert_eq!(row, [3.0, 4.0]);
    let tensor = weights.tensor("a", DType::F64, &Device::Cpu).unwrap();
    assert_eq!(tensor.to_vec2::<f64>().unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
    assert_eq!(weights.floats("b").unwrap(), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn a_shard_that_is_missing_is_named() {
    let directory = shards();
    fs::remove_file(directory.path().join("two.safetensors")).unwrap();
    let message = Weights::open(directory.path()).unwrap_err().to_string();
    assert!(
        message.contains("the shard `two.safetensors`, which holds `b`, is missing"),
        "{message}"
    );
}

#[test]
fn a_tensor_that_a_shard_does_not_hold_is_named() {
    let directory = shards();
    let index = json!({ "weight_map": { "a": "one.safetensors", "c": "two.safetensors" } });
    let path = directory.path().join("model.safetensors.index.json");
    fs::write(&path, index.to_string()).unwrap();
    let message = Weights::open(directory.path()).unwrap_err().to_string();
    assert!(
        message.contains("two.safetensors: the tensor `c` is missing"),
        "{message}"
    );
    let index = json!({ "weight_map": { "a": "../one.safetensors" } });
    fs::write(&path, index.to_string()).unwrap();
    let message = Weights::open(directory.path()).unwrap_err().to_string();
    assert!(
        message.contains("`weight_map.a`: it is no name of a file"),
        "{message}"
    );
}

#[test]
fn a_directory_without_weights_is_called_so() {
    let directory = TempDir::new().unwrap();
    let error = Weights::open(directory.path()).unwrap_err();
    assert!(matches!(error, Error::NoWeights(_)), "{error}");
}

#[test]
fn a_file_that_is_cut_short_is_named() {
    let directory = TempDir::new().unwrap();
    tiny::write(directory.path(), &tiny::config(Family::Llama));
    let path = directory.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in [0, 7, 100, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = Weights::open(directory.path()).unwrap_err();
        assert!(error.to_string().contains("model.safetensors"), "{error}");
    }
}

#[test]
fn a_tensor_of_the_wrong_shape_is_named_with_both_shapes() {
    let directory = TempDir::new().unwrap();
    tiny::write(directory.path(), &tiny::config(Family::Llama));
    let mut config = tiny::config(Family::Llama);
    config["intermediate_size"] = 96.into();
    let weights = Weights::open(directory.path()).unwrap();
    let error = weights
        .check(&tiny::architecture(&config).unwrap())
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("`model.layers.0.mlp.gate_proj.weight` is of shape [64, 32]"),
        "{message}"
    );
    assert!(message.contains("should be [96, 32]"), "{message}");
    config = tiny::config(Family::Llama);
    config["tie_word_embeddings"] = false.into();
    let error = weights
        .check(&tiny::architecture(&config).unwrap())
        .unwrap_err();
    assert!(
        error.to_string().contains("`lm_head.weight` is missing"),
        "{error}"
    );
}

#[test]
fn tensors_are_found_where_a_model_was_saved_without_its_head() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("model.safetensors");
    let values = bytes(&[1.0, 2.0]);
    save(
        &path,
        &[
            ("norm.weight", Dtype::F32, &[2], &values),
            ("bert.encoder.x", Dtype::F32, &[2], &values),
        ],
        &[],
    );
    let weights = Weights::open(directory.path()).unwrap();
    assert!(weights.contains("model.norm.weight") && weights.contains("encoder.x"));
    assert!(!weights.contains("model.x"));
}

#[test]
fn halves_are_read_as_the_floats_that_they_are() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("model.safetensors");
    let values = [1.0_f32, -0.333, 65504.0, 1e-7];
    let f16s: Vec<u8> = values
        .iter()
        .flat_map(|v| half::f16::from_f32(*v).to_le_bytes())
        .collect();
    let bf16s: Vec<u8> = values
        .iter()
        .flat_map(|v| half::bf16::from_f32(*v).to_le_bytes())
        .collect();
    let tensors: [(&str, Dtype, &[usize], &[u8]); 3] = [
        ("a", Dtype::F16, &[4], &f16s),
        ("b", Dtype::BF16, &[4], &bf16s),
        ("c", Dtype::I8, &[4], &[0; 4]),
    ];
    save(&path, &tensors, &[]);
    let weights = Weights::open(directory.path()).unwrap();
    assert_eq!(
        weights.floats("a").unwrap(),
        values.map(|v| half::f16::from_f32(v).to_f32())
    );
    assert_eq!(
        weights.floats("b").unwrap(),
        values.map(|v| half::bf16::from_f32(v).to_f32())
    );
    let message = weights.floats("c").unwrap_err().to_string();
    assert!(
        message.contains("`c` is of type I8, which is no type of weights"),
        "{message}"
    );
}

#[test]
fn blocks_of_ggml_are_read_whole_and_by_rows() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("model.safetensors");
    let values = tiny::values("blocks", 3 * 64, false);
    let plain = Tensor::from_vec(values, (3, 64), &Device::Cpu).unwrap();
    let blocks = QTensor::quantize(&plain, GgmlDType::Q4_1).unwrap();
    let stored = blocks.data().unwrap();
    // What comes before shifts the blocks off every alignment.
    let tensors: [(&str, Dtype, &[usize], &[u8]); 2] = [
        ("a", Dtype::U8, &[1], &[0]),
        ("b", Dtype::U8, &[3, stored.len() / 3], &stored),
    ];
    save(&path, &tensors, &[("ggml.b", "Q4_1 3 64")]);
    let weights = Weights::open(directory.path()).unwrap();
    assert_eq!(weights.info("b").unwrap().shape, [3, 64]);
    let wanted = blocks
        .dequantize(&Device::Cpu)
        .unwrap()
        .flatten_all()
        .unwrap();
    let wanted = wanted.to_vec1::<f32>().unwrap();
    assert_eq!(weights.floats("b").unwrap(), wanted);
    let mut row = [0.0; 64];
    weights.read_rows("b", 2..3, &mut row).unwrap();
    assert_eq!(row[..], wanted[128..]);
    let same = weights.blocks("b", &Device::Cpu).unwrap().unwrap();
    assert_eq!(same.data().unwrap(), stored);
    for note in [
        "Q4_1 3 32",
        "Q4_1 3 60",
        "Q9_9 3 64",
        "Q4_1 x",
        "Q4_1 18446744073709551615 64",
    ] {
        save(&path, &tensors, &[("ggml.b", note)]);
        let message = Weights::open(directory.path()).unwrap_err().to_string();
        assert!(
            message.contains(&format!("says `{note}` of `b`")),
            "{message}"
        );
    }
}

#[test]
fn what_is_no_number_is_refused_by_its_tensor_where_its_rows_are_asked_for() {
    let f16s = [1.0, 2.0, 3.0, f32::INFINITY].map(|x| half::f16::from_f32(x).to_le_bytes());
    let bf16s = [1.0, 2.0, 3.0, f32::NAN].map(|x| half::bf16::from_f32(x).to_le_bytes());
    // Infinite as a float of 32 bits.
    let f64s = [1.0_f64, 2.0, 3.0, 1e300].map(f64::to_le_bytes);
    for (dtype, stored) in [
        (Dtype::F32, bytes(&[1.0, 2.0, 3.0, f32::NAN])),
        (Dtype::F16, f16s.concat()),
        (Dtype::BF16, bf16s.concat()),
        (Dtype::F64, f64s.concat()),
    ] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("model.safetensors");
        save(&path, &[("a", dtype, &[2, 2], &stored)], &[]);
        let weights = Weights::open(directory.path()).unwrap();
        weights.check_rows("a", 0..1).unwrap();
        for refused in [weights.check_rows("a", 1..2), weights.check_numbers("a")] {
            let message = refused.unwrap_err().to_string();
            assert!(
                message.contains("the tensor `a` holds what is no number, or is infinite"),
                "{dtype:?}: {message}"
            );
        }
    }
}

#[test]
fn the_scales_of_blocks_say_whether_their_numbers_are_such() {
    let values: Vec<f32> = (0..=255_u8).map(|x| f32::from(x).sin()).collect();
    let plain = Tensor::from_vec(values, (1, 256), &Device::Cpu).unwrap();
    for kind in [
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q8_0,
        GgmlDType::Q2K,
        GgmlDType::Q3K,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
    ] {
        let element = Element::Blocks(kind);
        let blocks = QTensor::quantize(&plain, kind).unwrap();
        let whole = blocks.data().unwrap().into_owned();
        assert!(element::are_numbers(element, &whole), "{kind:?}");
        let mut refused = 0;
        for at in 0..kind.type_size() - 1 {
            for half in [half::f16::NAN, half::f16::INFINITY] {
                let mut stored = whole.clone();
                stored[at..at + 2].copy_from_slice(&half.to_le_bytes());
                let mut floats = [0.0; 256];
                element::floats(element, &stored, &[1, 256], &mut floats).unwrap();
                let are_numbers = floats.iter().all(|x: &f32| x.is_finite());
                assert_eq!(
                    element::are_numbers(element, &stored),
                    are_numbers,
                    "{kind:?} at {at}"
                );
                refused += usize::from(!are_numbers);
            }
        }
        assert!(refused >= 2, "{kind:?}");
    }
}

#[test]
fn an_update_that_makes_something_infinite_of_a_row_is_refused_by_its_tensor() {
    let directory = shards();
    let mut weights = Weights::open(directory.path()).unwrap();
    let update = Update {
        a: vec![1e30, 0.0],
        b: vec![0.0, 1e30],
        rank: 1,
        scale: 1.0,
    };
    weights.update("a", update).unwrap();
    let mut row = [0.0; 2];
    weights.read_rows("a", 0..1, &mut row).unwrap();
    assert_eq!(row, [1.0, 2.0]);
    let message = weights.floats("a").unwrap_err().to_string();
    assert!(
        message.contains("the tensor `a` holds what is no number"),
        "{message}"
    );
}

#[test]
fn a_tensor_whose_memory_was_given_back_is_read_again() {
    let directory = shards();
    let weights = Weights::open(directory.path()).unwrap();
    let before = weights.floats("a").unwrap();
    weights.release("a").unwrap();
    assert_eq!(weights.floats("a").unwrap(), before);
    assert!(matches!(
        weights.release("c"),
        Err(Error::MissingTensor { .. })
    ));
}
