//! Bundles of tiny models with random weights, for tests: one of every family.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use half::bf16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::architecture::{Architecture, Family};
use crate::random::Random;

/// Tokens of every tiny model: those of [`tokenizer`].
pub(crate) const VOCABULARY: usize = 288;

/// The token at which generation ends.
pub(crate) const END: u32 = 287;

/// A configuration of a family; with windows, GQA and all that the family has.
pub(crate) fn config(family: Family) -> Value {
    let mut config = json!({
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": false, "eos_token_id": END,
        "model_type": family.name(), "architectures": [family.classes()[0]],
    });
    let own = match family {
        Family::Llama => json!({
            "tie_word_embeddings": true,
            "rope_scaling": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        }),
        Family::Mistral => json!({ "sliding_window": 7, "head_dim": 16 }),
        Family::Qwen2 => {
            json!({ "use_sliding_window": true, "sliding_window": 9, "max_window_layers": 1 })
        }
        Family::Qwen3 => {
            json!({ "head_dim": 16, "tie_word_embeddings": true, "use_sliding_window": false })
        }
        Family::Gemma3 => json!({
            "head_dim": 16, "query_pre_attn_scalar": 24, "hidden_activation": "gelu_pytorch_tanh",
            "sliding_window": 6, "sliding_window_pattern": 2, "rope_theta": 1e6, "rope_local_base_freq": 1e4,
            "tie_word_embeddings": true, "rope_scaling": { "rope_type": "linear", "factor": 8.0 },
        }),
        Family::Bert => json!({
            "hidden_act": "gelu", "layer_norm_eps": 1e-12, "type_vocab_size": 2,
            "position_embedding_type": "absolute",
        }),
    };
    if let (Some(config), Some(own)) = (config.as_object_mut(), own.as_object()) {
        config.extend(own.clone());
    }
    config
}

/// The architecture that a configuration says.
pub(crate) fn architecture(config: &Value) -> crate::Result<Architecture> {
    Architecture::of_config(Path::new("config.json"), config.as_object().unwrap())
}

/// The values of a tensor, in all tests the same.
pub(crate) fn values(name: &str, elements: usize, is_around_zero: bool) -> Vec<f32> {
    let seed = name
        .bytes()
        .fold(11, |sum: u64, byte| sum * 31 % 1_000_003 + u64::from(byte));
    let random = Random::new(seed, 0);
    let (mean, deviation) = match name.contains("orm") {
        true if is_around_zero => (0.0, 0.1),
        true => (1.0, 0.1),
        false => (0.0, 0.2),
    };
    let value = |at| (mean + deviation * random.normal(at)) as f32;
    (0..elements as u64).map(value).collect()
}

/// Writes a bundle with random weights into a directory: configuration, weights and tokenizer.
pub(crate) fn write(directory: &Path, config: &Value) -> Architecture {
    write_as(directory, config, Dtype::F32)
}

/// [`write`] with weights of a type.
pub(crate) fn write_as(directory: &Path, config: &Value, dtype: Dtype) -> Architecture {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    fs::write(directory.join("tokenizer.json"), tokenizer().to_string()).unwrap();
    let architecture = architecture(config).unwrap();
    let is_around_zero = architecture.family() == Family::Gemma3;
    let tensors: HashMap<String, (Vec<usize>, Vec<u8>)> = architecture
        .tensors()
        .into_iter()
        .map(|spec| {
            let is_around_zero = is_around_zero && spec.name.ends_with("weight");
            let values = values(&spec.name, spec.elements() as usize, is_around_zero);
            let bytes = values.iter().flat_map(|value| match dtype {
                Dtype::BF16 => bf16::from_f32(*value).to_le_bytes().to_vec(),
                _ => value.to_le_bytes().to_vec(),
            });
            (spec.name, (spec.shape, bytes.collect()))
        })
        .collect();
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        (name, TensorView::new(dtype, shape.clone(), bytes).unwrap())
    });
    let path = directory.join("model.safetensors");
    safetensors::serialize_to_file(views, None, &path).unwrap();
    architecture
}

/// The characters by which the byte-level tokenizers write bytes (`bytes_to_unicode` of GPT-2).
fn byte_characters() -> Vec<char> {
    let is_shown = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut hidden = 0;
    let character = |byte: u32| {
        let code = if is_shown(byte) {
            byte
        } else {
            hidden += 1;
            255 + hidden
        };
        char::from_u32(code).unwrap()
    };
    (0..256).map(character).collect()
}

/// A byte-level tokenizer with a few merges, and the special tokens `<|start|>` and `<|end|>`.
pub(crate) fn tokenizer() -> Value {
    let bytes = byte_characters();
    let mut vocabulary = serde_json::Map::new();
    for (id, character) in bytes.iter().enumerate() {
        vocabulary.insert(character.to_string(), id.into());
    }
    let pairs = [
        "t h", "th e", "i n", "e r", "a n", "o n", "Ġ t", "Ġ a", "Ġ s", "l l", "o u", "r e",
        "Ġt he", "h e", "an d", "Ġ w", "in g", "Ġ b", "Ġ c", "o r", "e n", "e s", "i s", "i t",
        "Ġ m", "Ġ f", "Ġ d", "ou r", "v e", "s t",
    ];
    for (at, pair) in pairs.iter().enumerate() {
        vocabulary.insert(pair.replace(' ', ""), (256 + at).into());
    }
    let special = |id: usize, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [special(VOCABULARY - 2, "<|start|>"), special(VOCABULARY - 1, "<|end|>")],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": pairs,
        },
    })
}
