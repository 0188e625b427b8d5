//! Bundles that are not whole, not of one model, or made to do harm: an error that names what is wrong, never a panic.

use std::fs;
use std::path::Path;

use candle_core::quantized::GgmlDType;
use safetensors::SafeTensors;
use serde_json::json;

use super::decoders::write_blocks;
use super::*;
use crate::Error;
use crate::architecture::Architecture;
use crate::random::Random;

fn options() -> LoadOptions {
    LoadOptions {
        device: Some("cpu".to_owned()),
        threads: 1,
        ..LoadOptions::default()
    }
}

fn bundle(config: &Value) -> TempDir {
    let directory = TempDir::new().unwrap();
    tiny::write(directory.path(), config);
    directory
}

/// What loading says, which a look at the bundle says too.
fn refusal(directory: &Path) -> String {
    let error = Session::load(directory, &options()).err().unwrap();
    let verdict = can_serve(directory, &options());
    assert!(!verdict.serves);
    assert_eq!(verdict.reason, error.to_string());
    verdict.reason
}

/// Changes the bytes of a tensor in the bundle's file.
fn change(directory: &Path, tensor: &str, change: impl FnOnce(&mut [u8])) {
    let path = directory.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let range = {
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let data = file.tensor(tensor).unwrap().data().as_ptr_range();
        let start = data.start as usize - bytes.as_ptr() as usize;
        start..data.end as usize - bytes.as_ptr() as usize
    };
    change(&mut bytes[range]);
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_bundle_that_lacks_a_shard_is_refused_by_its_name() {
    let directory = bundle(&tiny::config(Family::Llama));
    let path = directory.path();
    fs::rename(
        path.join("model.safetensors"),
        path.join("model-00001-of-00002.safetensors"),
    )
    .unwrap();
    let index = json!({ "weight_map": {
        "model.embed_tokens.weight": "model-00001-of-00002.safetensors",
        "model.norm.weight": "model-00002-of-00002.safetensors",
    } });
    fs::write(path.join("model.safetensors.index.json"), index.to_string()).unwrap();
    let message = refusal(path);
    assert!(
        message.contains(
            "the shard `model-00002-of-00002.safetensors`, which holds `model.norm.weight`, is missing"
        ),
        "{message}"
    );
}

#[test]
fn a_bundle_of_an_unknown_architecture_is_refused_by_its_name() {
    let directory = bundle(&tiny::config(Family::Llama));
    let mut config = tiny::config(Family::Llama);
    config["architectures"] = json!(["MambaForCausalLM"]);
    fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    let message = refusal(directory.path());
    assert!(
        message.contains("`MambaForCausalLM` is unknown"),
        "{message}"
    );
}

#[test]
fn a_vocabulary_that_is_not_the_weights_is_refused_with_both_sizes() {
    let directory = bundle(&tiny::config(Family::Llama));
    let mut config = tiny::config(Family::Llama);
    config["vocab_size"] = 300.into();
    fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    let message = refusal(directory.path());
    assert!(
        message.contains("`model.embed_tokens.weight` is of shape [288, 32]"),
        "{message}"
    );
    assert!(message.contains("should be [300, 32]"), "{message}");
    // Weights and configuration of one model, and the tokenizer of another.
    let mut config = tiny::config(Family::Llama);
    config["vocab_size"] = 260.into();
    config["eos_token_id"] = Value::Null;
    let directory = bundle(&config);
    let message = refusal(directory.path());
    assert!(
        message.contains("tokens up to number 285, and the model embeds 260"),
        "{message}"
    );
}

/// Elsewhere it is not known how much memory there is.
#[cfg(target_os = "linux")]
#[test]
fn a_context_that_no_memory_holds_is_refused_with_the_numbers() {
    let mut config = tiny::config(Family::Llama);
    // Keys and values are 128 KiB a token.
    config["num_hidden_layers"] = 64.into();
    config["num_key_value_heads"] = 4.into();
    config["head_dim"] = 64.into();
    config["max_position_embeddings"] = (1 << 26).into();
    let directory = bundle(&config);
    let options = LoadOptions {
        context: Some(1 << 26),
        ..options()
    };
    let error = Session::load(directory.path(), &options).err().unwrap();
    let Error::Memory {
        needed, available, ..
    } = error
    else {
        panic!("{error}");
    };
    assert!(needed > 1 << 43 && needed > available, "{needed}");
    let verdict = can_serve(directory.path(), &options);
    assert!(!verdict.serves);
    let said = format!("it needs {needed} bytes, and cpu has");
    assert!(verdict.reason.contains(&said), "{}", verdict.reason);
}

/// What loading says on the processor's own engine, and on Candle's, which is that of GPUs.
fn refusals(directory: &Path, format: Option<WeightFormat>) -> [String; 2] {
    let options = LoadOptions {
        format,
        ..options()
    };
    let own = Session::load(directory, &options).err().unwrap();
    let architecture = Architecture::read(directory).unwrap();
    let weights = Weights::open(directory).unwrap();
    let device = open_device(Some("cpu")).unwrap();
    let decoder = architecture.decoder().unwrap();
    let candle = CandleEngine::load(decoder, &weights, device, format).unwrap_err();
    [own.to_string(), candle.to_string()]
}

#[test]
fn weights_that_are_no_numbers_are_refused_by_their_tensor() {
    let names = [
        "model.layers.1.mlp.down_proj.weight",
        "model.layers.2.input_layernorm.weight",
        "model.embed_tokens.weight",
    ];
    for name in names {
        for value in [f32::NAN, f32::INFINITY] {
            for format in [None, Some(WeightFormat::Q4_0)] {
                let directory = bundle(&tiny::config(Family::Llama));
                change(directory.path(), name, |bytes| {
                    bytes[20..24].copy_from_slice(&value.to_le_bytes());
                });
                let said = format!("the tensor `{name}` holds what is no number");
                for message in refusals(directory.path(), format) {
                    assert!(message.contains(&said), "{message}");
                }
            }
        }
    }
}

#[test]
fn blocks_whose_scale_is_no_number_are_refused_by_their_tensor() {
    let name = "model.layers.0.self_attn.v_proj.weight";
    let mut config = tiny::config(Family::Llama);
    // Rows of whole blocks of every kind.
    config["hidden_size"] = 256.into();
    config["intermediate_size"] = 256.into();
    config["head_dim"] = 64.into();
    for (kind, scale) in [
        (GgmlDType::Q8_0, 0),
        (GgmlDType::Q5_0, 0),
        (GgmlDType::Q4_0, 0),
        (GgmlDType::Q4_1, 0),
        (GgmlDType::Q4K, 0),
        (GgmlDType::Q6K, 208),
    ] {
        for value in [half::f16::NAN, half::f16::INFINITY] {
            let directory = bundle(&config);
            write_blocks(directory.path(), kind);
            change(directory.path(), name, |bytes| {
                bytes[scale..scale + 2].copy_from_slice(&value.to_le_bytes());
            });
            let said = format!("the tensor `{name}` holds what is no number");
            for message in refusals(directory.path(), None) {
                assert!(message.contains(&said), "{kind:?}: {message}");
            }
        }
    }
}

#[test]
fn no_token_is_chosen_by_logits_that_are_no_numbers() {
    for sampling in [
        Sampling::default(),
        Sampling {
            temperature: 0.7,
            ..Sampling::default()
        },
    ] {
        let mut sampler = Sampler::new(sampling, &[], &[]).unwrap();
        let error = sampler.choose(&[f32::NAN; 288], 3, Some(5)).unwrap_err();
        assert!(matches!(error, Error::Compute { .. }), "{error}");
    }
}

#[test]
fn absurd_requests_are_answered_or_refused() {
    let mut config = tiny::config(Family::Llama);
    config["eos_token_id"] = Value::Null;
    let directory = bundle(&config);
    let mut session = Session::load(directory.path(), &options()).unwrap();
    let request = Request {
        sampling: Sampling {
            temperature: 100.0,
            top_k: usize::MAX,
            ..Sampling::default()
        },
        stop: vec!["x".repeat(1 << 20)],
        alternatives: Some(usize::MAX),
        ..Request::greedy("the", usize::MAX)
    };
    let mut pieces = 0;
    let finished = session.predict(&request, &mut |piece| {
        pieces += usize::from(piece.token.is_some());
        true
    });
    let finished = finished.unwrap();
    assert_eq!(finished.reason, Finish::Context);
    assert_eq!(finished.prompt_tokens + pieces, 128);
    let none = Request::greedy("the", 0);
    assert_eq!(
        session.predict(&none, &mut |_| true).unwrap().answer_tokens,
        0
    );
    let unknown = Request {
        prompt: Prompt::Tokens(vec![1, u32::MAX]),
        ..Request::greedy("", 5)
    };
    let error = session.predict(&unknown, &mut |_| true).unwrap_err();
    assert!(error.to_string().contains("4294967295"), "{error}");
    // The session goes on after it.
    assert!(
        session
            .predict(&Request::greedy("the", 3), &mut |_| true)
            .is_ok()
    );
    let threads = LoadOptions {
        threads: usize::MAX,
        ..options()
    };
    let error = Session::load(directory.path(), &threads).err().unwrap();
    assert!(error.to_string().contains("`threads`"), "{error}");
}

/// Looks at a bundle, and where it can be served answers with it or embeds.
fn use_it(directory: &Path) {
    if !can_serve(directory, &options()).serves {
        return;
    }
    let Ok(mut session) = Session::load(directory, &options()) else {
        return;
    };
    let _ = session.predict(&Request::greedy("the rain", 2), &mut |_| true);
    let _ = session.embed(&["the rain"]);
}

#[test]
fn no_value_of_any_field_of_a_configuration_ends_in_a_panic() {
    let values = [
        json!(null),
        json!(true),
        json!("x"),
        json!([]),
        json!({}),
        json!([null, -1]),
        json!({ "rope_type": "yarn", "factor": 1e308, "type": 3 }),
        json!({ "rope_type": "linear", "factor": 1e-300 }),
        json!({ "full_attention": {}, "sliding_attention": { "rope_type": "llama3" } }),
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(-1),
        json!(1e300),
        json!(1e-300),
        json!(2_000_000_000_u64),
        json!(u64::MAX),
    ];
    let others = [
        "rope_scaling",
        "rope_parameters",
        "layer_types",
        "head_dim",
        "sliding_window",
        "attention_bias",
        "max_window_layers",
    ];
    for &family in Family::ALL {
        let config = tiny::config(family);
        let directory = bundle(&config);
        let own = config.as_object().unwrap().keys().map(String::as_str);
        for field in own.chain(others) {
            for value in &values {
                let mut config = config.clone();
                config[field] = value.clone();
                fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
                use_it(directory.path());
            }
        }
    }
}

#[test]
fn no_changed_byte_of_a_bundle_ends_in_a_panic() {
    let directory = bundle(&tiny::config(Family::Qwen2));
    let random = Random::new(5, 1);
    for name in ["model.safetensors", "config.json", "tokenizer.json"] {
        let path = directory.path().join(name);
        let whole = fs::read(&path).unwrap();
        // Of weights, the header.
        let reach = whole.len().min(4000) as f64;
        for at in 0..250 {
            let mut bytes = whole.clone();
            for change in 0..1 + at % 3 {
                let place = (random.uniform(6 * at + 2 * change) * reach) as usize;
                let byte = random.uniform(6 * at + 2 * change + 1);
                // A digit makes numbers that are read, where any byte would mostly make no JSON.
                bytes[place] = match at % 2 {
                    0 => b'0' + (byte * 10.0) as u8,
                    _ => (byte * 256.0) as u8,
                };
            }
            fs::write(&path, &bytes).unwrap();
            use_it(directory.path());
        }
        fs::write(&path, &whole).unwrap();
    }
}
