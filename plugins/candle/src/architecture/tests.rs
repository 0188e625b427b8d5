//! Configurations as they are published, and such that are wrong.

use serde_json::json;

use super::*;
use crate::tiny;

fn decoder(config: &Value) -> DecoderArchitecture {
    tiny::architecture(config)
        .unwrap()
        .decoder()
        .unwrap()
        .clone()
}

fn refusal(config: &Value) -> String {
    tiny::architecture(config).unwrap_err().to_string()
}

/// The tiny configuration of a family with other fields; `null` takes a field away.
fn with(family: Family, fields: Value) -> Value {
    let mut config = tiny::config(family);
    let all = config.as_object_mut().unwrap();
    for (field, value) in fields.as_object().unwrap() {
        if value.is_null() {
            all.remove(field);
        } else {
            all.insert(field.clone(), value.clone());
        }
    }
    config
}

#[test]
fn smollm2_has_its_published_number_of_parameters() {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "hidden_act": "silu",
        "hidden_size": 576, "intermediate_size": 1536, "is_llama_config": true,
        "max_position_embeddings": 8192, "mlp_bias": false, "model_type": "llama",
        "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3, "pretraining_tp": 1,
        "rms_norm_eps": 1e-5, "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "vocab_size": 49152,
    });
    let architecture = tiny::architecture(&config).unwrap();
    assert_eq!(architecture.parameters(), 134_515_008);
    let decoder = architecture.decoder().unwrap();
    assert_eq!((decoder.head, decoder.kv_width()), (64, 192));
    assert_eq!(decoder.rope, Rope::plain(1e5));
    assert_eq!(decoder.head_name(), DecoderArchitecture::EMBEDDING);
}

#[test]
fn gemma_3_has_windows_but_in_every_sixth_layer_and_two_bases() {
    let config = json!({
        "architectures": ["Gemma3ForCausalLM"], "attention_bias": false, "attn_logit_softcapping": null,
        "eos_token_id": [1, 106], "final_logit_softcapping": null, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "intermediate_size": 6912,
        "max_position_embeddings": 32768, "model_type": "gemma3_text", "num_attention_heads": 4,
        "num_hidden_layers": 26, "num_key_value_heads": 1, "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-6, "rope_local_base_freq": 10000, "rope_scaling": null, "rope_theta": 1_000_000,
        "sliding_window": 512, "sliding_window_pattern": 6, "vocab_size": 262_144,
    });
    let architecture = tiny::architecture(&config).unwrap();
    assert_eq!(architecture.parameters(), 999_885_952);
    let decoder = architecture.decoder().unwrap();
    for layer in 0..26 {
        let attention = decoder.attention(layer);
        let is_global = layer % 6 == 5;
        assert_eq!(
            attention.window,
            (!is_global).then_some(512),
            "layer {layer}"
        );
        assert_eq!(attention.rope.base, if is_global { 1e6 } else { 1e4 });
    }
    assert!(decoder.tied && decoder.norm_plus_one && decoder.qk_norm && decoder.post_norms);
    assert_eq!(decoder.attention_scale, 1.0 / 16.0);
}

#[test]
fn version_5_of_transformers_says_the_same_in_other_fields() {
    let four = tiny::config(Family::Gemma3);
    let five = with(
        Family::Gemma3,
        json!({
            "rope_theta": null, "rope_local_base_freq": null, "rope_scaling": null,
            "sliding_window_pattern": null,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": { "rope_type": "linear", "factor": 8.0, "rope_theta": 1e6 },
                "sliding_attention": { "rope_type": "default", "rope_theta": 1e4 },
            },
        }),
    );
    assert_eq!(decoder(&four), decoder(&five));
    let parameters = json!({ "rope_type": "default", "rope_theta": 5e5 });
    let five = with(
        Family::Qwen3,
        json!({ "rope_theta": null, "rope_parameters": parameters }),
    );
    assert_eq!(decoder(&five).rope.base, 5e5);
}

#[test]
fn windows_follow_each_familys_own_rule() {
    let windows = |config| decoder(&config).windows;
    assert_eq!(windows(tiny::config(Family::Mistral)), [Some(7); 3]);
    let unsaid = with(Family::Mistral, json!({ "sliding_window": null }));
    assert_eq!(windows(unsaid), [Some(4096); 3]);
    let mut none = tiny::config(Family::Mistral);
    none["sliding_window"] = Value::Null;
    assert_eq!(windows(none), [None; 3]);
    assert_eq!(
        windows(tiny::config(Family::Qwen2)),
        [None, Some(9), Some(9)]
    );
    let unused = with(Family::Qwen2, json!({ "use_sliding_window": false }));
    assert_eq!(windows(unused), [None; 3]);
}

#[test]
fn an_unknown_architecture_is_named_beside_those_that_are_known() {
    let config = with(
        Family::Llama,
        json!({ "architectures": ["MambaForCausalLM"] }),
    );
    let message = refusal(&config);
    assert!(
        message.contains("`MambaForCausalLM` is unknown"),
        "{message}"
    );
    assert!(
        message.contains("LlamaForCausalLM, MistralForCausalLM"),
        "{message}"
    );
    let by_type = with(Family::Qwen3, json!({ "architectures": null }));
    assert_eq!(decoder(&by_type).family, Family::Qwen3);
    let nothing = with(
        Family::Llama,
        json!({ "architectures": null, "model_type": null }),
    );
    assert!(refusal(&nothing).contains("`architectures`: it is missing"));
}

#[test]
fn a_field_that_is_wrong_is_named_with_what_it_should_be() {
    for (fields, said) in [
        (
            json!({ "hidden_size": null }),
            "`hidden_size`: it is missing",
        ),
        (
            json!({ "hidden_size": "wide" }),
            "`hidden_size`: it should be a whole number from 1 to 262144, and is \"wide\"",
        ),
        (
            json!({ "num_hidden_layers": 0 }),
            "`num_hidden_layers`: it should be a whole number",
        ),
        (
            json!({ "num_key_value_heads": 3 }),
            "`num_key_value_heads`: 3 do not divide the 4",
        ),
        (
            json!({ "head_dim": 7 }),
            "`head_dim`: a head has 7 elements",
        ),
        (
            json!({ "hidden_act": "relu" }),
            "`hidden_act`: `relu` is unknown",
        ),
        (
            json!({ "rms_norm_eps": -1.0 }),
            "`rms_norm_eps`: it should be above 0",
        ),
        (
            json!({ "rope_scaling": { "rope_type": "llama3" } }),
            "`rope_scaling.low_freq_factor`: it is missing",
        ),
        (
            json!({ "rope_scaling": { "type": "dynamic", "factor": 2.0 } }),
            "`rope_scaling.rope_type`: `dynamic` is unknown",
        ),
        (json!({ "final_logit_softcapping": 30.0 }), "soft cap"),
    ] {
        let message = refusal(&with(Family::Llama, fields));
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn numbers_beyond_every_model_are_refused_before_anything_is_made_of_them() {
    for family in [Family::Llama, Family::Mistral, Family::Gemma3, Family::Bert] {
        for field in [
            "num_hidden_layers",
            "hidden_size",
            "intermediate_size",
            "num_attention_heads",
            "vocab_size",
            "max_position_embeddings",
        ] {
            for number in [2_000_000_000_u64, u64::MAX] {
                let message = refusal(&with(family, json!({ field: number })));
                let said = format!("`{field}`: it should be a whole number from 1 to");
                assert!(message.contains(&said), "{message}");
            }
        }
    }
    for field in ["num_key_value_heads", "head_dim"] {
        let message = refusal(&with(Family::Qwen3, json!({ field: 1 << 30 })));
        assert!(message.contains(&format!("`{field}`")), "{message}");
    }
    // The largest that are taken are counted without an overflow.
    let largest = json!({
        "hidden_size": most::HIDDEN, "num_hidden_layers": most::LAYERS, "head_dim": most::HEAD,
        "num_attention_heads": most::HEADS, "num_key_value_heads": most::HEADS,
        "intermediate_size": most::INTERMEDIATE, "vocab_size": most::VOCABULARY,
        "max_position_embeddings": most::CONTEXT,
    });
    let architecture = tiny::architecture(&with(Family::Qwen3, largest)).unwrap();
    assert!(architecture.parameters() < 1 << 55);
    let decoder = architecture.decoder().unwrap();
    assert!(
        decoder
            .cache_bytes(4)
            .checked_mul(most::CONTEXT as u64)
            .is_some()
    );
}

#[test]
fn an_encoder_generates_no_text() {
    let architecture = tiny::architecture(&tiny::config(Family::Bert)).unwrap();
    let message = architecture.decoder().unwrap_err().to_string();
    assert_eq!(
        message,
        "a model of the architecture `bert` cannot generate text"
    );
}

/// Frequencies that `modeling_rope_utils.py` of Transformers 4.57.6 gives for heads of 8 elements.
#[test]
fn stretched_frequencies_are_those_of_transformers() {
    let rope = |scaling| Rope { base: 1e4, scaling };
    let close = |rope: &Rope, wanted: [f32; 4]| {
        for (found, wanted) in rope.frequencies(8).into_iter().zip(wanted) {
            assert!((found - wanted).abs() <= 1e-6 * wanted, "{found} {wanted}");
        }
    };
    close(&rope(RopeScaling::None), [1.0, 0.1, 0.01, 0.001]);
    close(
        &rope(RopeScaling::Linear { factor: 4.0 }),
        [0.25, 0.025, 0.0025, 0.00025],
    );
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low: 1.0,
        high: 4.0,
        original: 128.0,
    };
    close(&rope(llama3), [1.0, 0.042_751_18, 0.00125, 0.000_125]);
    let mut config = tiny::config(Family::Llama);
    config["rope_scaling"] = json!({
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096,
    });
    let yarn = decoder(&config).rope;
    close(&yarn, [1.0, 0.1, 0.00625, 0.00025]);
    assert!((yarn.attention_factor() - 1.138_629_436_111_989).abs() < 1e-12);
}
