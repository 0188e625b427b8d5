//! Adapters in files, and merged into weights.

use std::fs;

use safetensors::Dtype;

use super::*;
use crate::infer::{self, Input, LoadOptions, WeightFormat};
use crate::ops::frozen::Format;
use crate::weights::Weights;

fn logits(session: &Session) -> Vec<f32> {
    let owned = Owned::drawn(3, 2, 12);
    session
        .logits(&owned.batch())
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn assert_near(found: &[f32], wanted: &[f32], tolerance: f32) {
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(
            (found - wanted).abs() <= tolerance * (1.0 + wanted.abs()),
            "{found} and {wanted}"
        );
    }
}

#[test]
fn an_adapter_begins_as_none() {
    let bundle = bundle(Family::Llama);
    let plain = logits(&load(bundle.path(), &spec()));
    assert_eq!(logits(&load(bundle.path(), &lora(&["all-linear"]))), plain);
}

#[test]
fn an_adapter_that_is_written_is_read_as_it_was() {
    let bundle = bundle(Family::Mistral);
    let mut spec = lora(&["v_proj", "mlp.down_proj"]);
    if let Some(adapter) = &mut spec.adapter {
        adapter.rank_stabilised = true;
    }
    let mut session = load(bundle.path(), &spec);
    steps(&mut session, 1, 4);
    let saved = bundle.path().join("adapter");
    assert_eq!(
        session.export_adapter(&saved).unwrap(),
        ["adapter_config.json", "adapter_model.safetensors"]
    );
    let file = Weights::open_file(&saved.join("adapter_model.safetensors")).unwrap();
    let name = "base_model.model.model.layers.2.mlp.down_proj.lora_B.weight";
    assert_eq!(file.info(name).unwrap().shape, [32, 4]);
    // Without a word of its own the training takes the settings of the adapter.
    let other = Spec {
        adapter: None,
        beginning: Beginning::Adapter(saved),
        ..spec
    };
    let other = load(bundle.path(), &other);
    assert_eq!(other.trainable(), session.trainable());
    assert_eq!(logits(&other), logits(&session));
}

#[test]
fn settings_of_adapters_that_are_not_built_in_are_refused_by_their_field() {
    let bundle = bundle(Family::Llama);
    let saved = bundle.path().join("adapter");
    load(bundle.path(), &lora(&["q_proj"]))
        .export_adapter(&saved)
        .unwrap();
    let path = saved.join("adapter_config.json");
    let good: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let cases = [
        ("use_dora", serde_json::json!(true)),
        ("bias", serde_json::json!("all")),
        ("peft_type", serde_json::json!("IA3")),
        ("modules_to_save", serde_json::json!(["lm_head"])),
        ("rank_pattern", serde_json::json!({ "q_proj": 3 })),
        ("target_modules", serde_json::json!("q.*")),
        ("r", serde_json::json!("8")),
        ("r", serde_json::json!(4_000_000_000_u64)),
        ("lora_dropout", serde_json::json!("0.5")),
        ("lora_alpha", serde_json::json!(-1)),
    ];
    for (field, value) in cases {
        let mut config = good.clone();
        config[field] = value;
        fs::write(&path, config.to_string()).unwrap();
        let message = adapter::read_config(&saved).unwrap_err().to_string();
        assert!(
            message.contains(&format!("adapter_config.json: `{field}`")),
            "{message}"
        );
    }
}

#[test]
fn an_adapter_whose_tensors_are_not_of_its_settings_is_refused_by_the_tensor() {
    let bundle = bundle(Family::Llama);
    let saved = bundle.path().join("adapter");
    load(bundle.path(), &lora(&["q_proj"]))
        .export_adapter(&saved)
        .unwrap();
    let path = saved.join("adapter_config.json");
    let good: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let refused = |field: &str, value: serde_json::Value, said: &str| {
        let mut config = good.clone();
        config[field] = value;
        fs::write(&path, config.to_string()).unwrap();
        let spec = Spec {
            beginning: Beginning::Adapter(saved.clone()),
            ..spec()
        };
        let message = Session::load(bundle.path(), &spec).unwrap_err().to_string();
        assert!(message.contains(said), "{message}");
    };
    let rank =
        "q_proj.lora_A.weight` is of shape [4, 32], and by adapter_config.json its first size";
    // No memory is taken for what the settings alone say.
    refused("r", 65_536.into(), rank);
    refused("r", 3.into(), rank);
    let missing = "v_proj.lora_A.weight` is missing";
    refused(
        "target_modules",
        serde_json::json!(["q_proj", "v_proj"]),
        missing,
    );
    let surplus = "belongs to no layer that has an adapter";
    refused("target_modules", serde_json::json!(["v_proj"]), missing);
    refused(
        "target_modules",
        serde_json::json!(["layers.0.self_attn.q_proj"]),
        surplus,
    );
}

#[test]
fn a_merged_model_gives_what_the_adapter_gave() {
    for base in [Format::F32, Format::Nf4] {
        let bundle = bundle(Family::Gemma3);
        let spec = Spec {
            base,
            ..lora(&["all-linear"])
        };
        let mut session = load(bundle.path(), &spec);
        steps(&mut session, 1, 6);
        let merged = bundle.path().join("merged");
        let files = session.merge(&merged).unwrap();
        assert_eq!(
            files,
            ["config.json", "tokenizer.json", "model.safetensors"]
        );
        let plain = load(&merged, &super::spec());
        if base == Format::F32 {
            assert_near(&logits(&plain), &logits(&session), 1e-4);
        }
        // What has no adapter is as it was.
        let (before, after) = (
            Weights::open(bundle.path()).unwrap(),
            Weights::open(&merged).unwrap(),
        );
        let name = "model.layers.1.self_attn.q_norm.weight";
        assert_eq!(before.stored(name).unwrap(), after.stored(name).unwrap());
    }
}

/// The states of a few tokens behind all layers, as inference computes them.
fn served(
    bundle: &Path,
    adapter: Option<&Path>,
    format: Option<WeightFormat>,
) -> crate::Result<Vec<f32>> {
    let options = LoadOptions {
        device: Some("cpu".to_owned()),
        threads: 1,
        format,
        adapter: adapter.map(Path::to_owned),
        ..LoadOptions::default()
    };
    let mut session = infer::Session::load(bundle, &options)?;
    session.forward_layers(0..3, Input::Tokens(&[3, 1, 4, 1, 5]), 0)
}

#[test]
fn an_adapter_is_served_beside_its_model_as_if_it_were_merged() {
    for (family, format) in [
        (Family::Llama, None),
        (Family::Gemma3, None),
        (Family::Qwen2, Some(WeightFormat::Q8_0)),
    ] {
        let bundle = bundle(family);
        let mut session = load(bundle.path(), &lora(&["q_proj", "down_proj"]));
        steps(&mut session, 1, 8);
        let (adapter, merged) = (bundle.path().join("adapter"), bundle.path().join("merged"));
        session.export_adapter(&adapter).unwrap();
        session.merge(&merged).unwrap();
        let beside = served(bundle.path(), Some(&adapter), format).unwrap();
        let without = served(bundle.path(), None, format).unwrap();
        assert_near(&beside, &served(&merged, None, format).unwrap(), 1e-4);
        assert_ne!(beside, without);
    }
}

#[test]
fn an_adapter_of_another_model_is_not_served() {
    let (wide, narrow) = (bundle(Family::Llama), bundle(Family::Llama));
    let mut config = tiny::config(Family::Llama);
    config["intermediate_size"] = 48.into();
    tiny::write(narrow.path(), &config);
    let session = load(wide.path(), &lora(&["down_proj"]));
    let adapter = wide.path().join("adapter");
    session.export_adapter(&adapter).unwrap();
    let error = served(narrow.path(), Some(&adapter), None).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("down_proj.lora_A.weight` is of shape"),
        "{message}"
    );
    let options = LoadOptions {
        adapter: Some(adapter),
        ..LoadOptions::default()
    };
    let verdict = infer::can_serve(narrow.path(), &options);
    assert!(
        !verdict.serves && verdict.reason == message,
        "{}",
        verdict.reason
    );
}

#[test]
fn a_merged_model_is_stored_as_its_base_was() {
    let directory = TempDir::new().unwrap();
    tiny::write_as(directory.path(), &tiny::config(Family::Llama), Dtype::BF16);
    let mut session = load(directory.path(), &lora(&["q_proj"]));
    steps(&mut session, 1, 4);
    let merged = directory.path().join("merged");
    session.merge(&merged).unwrap();
    let (before, after) = (
        Weights::open(directory.path()).unwrap(),
        Weights::open(&merged).unwrap(),
    );
    assert_eq!(before.usual_element(), after.usual_element());
    let name = "model.layers.0.self_attn.q_proj.weight";
    assert_ne!(before.stored(name).unwrap(), after.stored(name).unwrap());
    assert_near(
        &after.floats(name).unwrap(),
        &before.floats(name).unwrap(),
        0.2,
    );
}

#[test]
fn all_weights_become_a_bundle_as_they_are() {
    let bundle = bundle(Family::Qwen3);
    let spec = Spec {
        beginning: Beginning::Random,
        ..spec()
    };
    let mut session = load(bundle.path(), &spec);
    steps(&mut session, 1, 4);
    let merged = bundle.path().join("merged");
    session.merge(&merged).unwrap();
    assert_eq!(logits(&load(&merged, &super::spec())), logits(&session));
}
