//! `config.json` from the metadata, under the names that the Transformers library reads.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::error::{GgufError, GgufFault};
use super::family::Family;
use super::file::Gguf;
use super::metadata::{Metadata, required};
use super::model::{GgufModel, Precision, Rebuilt};

/// The layers of the largest Gemma 2 and Gemma 3, whose attention is scaled by another rule.
const GEMMA2_27B_LAYERS: u64 = 46;
const GEMMA3_27B_LAYERS: u64 = 62;

/// What the rotary embedding of Llama 3.1 and later is stretched by; the factor alone differs between
/// them.
const LLAMA3_LOW: f64 = 1.0;
const LLAMA3_HIGH: f64 = 4.0;
const LLAMA3_ORIGINAL: f64 = 8192.0;

/// The family that the metadata say.
pub(super) fn family(metadata: &Metadata) -> Result<Family, GgufFault> {
    let key = "general.architecture";
    Family::of(required(key, metadata.text(key)?)?)
}

/// Heads of the attention.
pub(super) struct Heads {
    pub(super) queries: u64,
    pub(super) keys: u64,
}

pub(super) fn heads(metadata: &Metadata, family: Family) -> Result<Heads, GgufFault> {
    let prefix = family.architecture();
    let key = format!("{prefix}.attention.head_count");
    let queries = required(&key, metadata.whole_for_all_layers(&key)?)?;
    let keys = metadata.whole_for_all_layers(&format!("{prefix}.attention.head_count_kv"))?;
    Ok(Heads {
        queries,
        keys: keys.unwrap_or(queries),
    })
}

/// The name of a mix of types by its number, as `llama.h` has them.
pub(super) fn file_type(number: u64) -> Option<&'static str> {
    Some(match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4_MOE",
        _ => return None,
    })
}

/// The keys of one family.
struct Keys<'m> {
    metadata: &'m Metadata,
    prefix: &'static str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn whole(&self, name: &str) -> Result<Option<u64>, GgufFault> {
        self.metadata.whole(&self.key(name))
    }

    fn number(&self, name: &str) -> Result<Option<f64>, GgufFault> {
        self.metadata.number(&self.key(name))
    }

    fn text(&self, name: &str) -> Result<Option<&str>, GgufFault> {
        self.metadata.text(&self.key(name))
    }

    fn required(&self, name: &str) -> Result<u64, GgufFault> {
        let key = self.key(name);
        required(&key, self.metadata.whole_for_all_layers(&key)?)
    }
}

/// What most of the file follows from.
struct Basics {
    layers: u64,
    width: u64,
    heads: Heads,
    head: u64,
}

pub(super) fn rebuild(model: &GgufModel) -> Result<Rebuilt, GgufError> {
    let gguf = model.gguf();
    build(model, gguf).map_err(|fault| gguf.fault(fault))
}

fn build(model: &GgufModel, gguf: &Gguf) -> Result<Rebuilt, GgufFault> {
    let family = model.family();
    let metadata = gguf.metadata();
    let keys = Keys {
        metadata,
        prefix: family.architecture(),
    };
    let mut notes = Vec::new();
    let basics = basics(&keys, family)?;
    let mut config = BTreeMap::new();
    let mut set = |key: &'static str, value: Json| {
        config.insert(key, value);
    };
    set("hidden_size", basics.width.into());
    set("num_hidden_layers", basics.layers.into());
    set("num_attention_heads", basics.heads.queries.into());
    set("num_key_value_heads", basics.heads.keys.into());
    set("head_dim", basics.head.into());
    set(
        "intermediate_size",
        keys.required("feed_forward_length")?.into(),
    );
    set(
        "max_position_embeddings",
        keys.required("context_length")?.into(),
    );
    let epsilon = "attention.layer_norm_rms_epsilon";
    let epsilon_key = keys.key(epsilon);
    set(
        "rms_norm_eps",
        required(&epsilon_key, keys.number(epsilon)?)?.into(),
    );
    let theta = keys.number("rope.freq_base")?;
    set("rope_theta", theta.unwrap_or(10_000.0).into());
    set("vocab_size", vocabulary(gguf, &keys)?.into());
    let tied = gguf.tensor("output.weight").is_none();
    set("tie_word_embeddings", tied.into());
    set("torch_dtype", torch_dtype(model.precision()).into());
    set("use_cache", true.into());
    set("attention_dropout", 0.0.into());
    set("initializer_range", 0.02.into());
    for (name, key) in [
        ("bos_token_id", "tokenizer.ggml.bos_token_id"),
        ("eos_token_id", "tokenizer.ggml.eos_token_id"),
        ("pad_token_id", "tokenizer.ggml.padding_token_id"),
    ] {
        if let Some(id) = metadata.whole(key)? {
            set(name, id.into());
        }
    }
    if let Some(scaling) = scaling(gguf, &keys, &basics, &mut notes)? {
        set("rope_scaling", scaling);
    }
    of_family(family, gguf, &keys, &basics, &mut set)?;
    if model.precision() == Precision::Quantised {
        notes.push(
            "the tensors are kept as blocks of ggml, which the Transformers library does not read"
                .to_owned(),
        );
    }
    // Keys are text and numbers finite, so this cannot fail.
    let mut text = serde_json::to_string_pretty(&config).unwrap_or_default();
    text.push('\n');
    Ok(Rebuilt { text, notes })
}

fn basics(keys: &Keys<'_>, family: Family) -> Result<Basics, GgufFault> {
    let width = keys.required("embedding_length")?;
    let heads = heads(keys.metadata, family)?;
    let by_key = match keys.whole("attention.key_length")? {
        Some(head) => Some(head),
        None => keys.whole("rope.dimension_count")?,
    };
    let by_width = || {
        width
            .checked_div(heads.queries)
            .ok_or_else(|| GgufFault::WrongValue {
                key: keys.key("attention.head_count"),
                wanted: "a number of heads",
                found: "0".to_owned(),
            })
    };
    Ok(Basics {
        layers: keys.required("block_count")?,
        width,
        head: match by_key {
            Some(head) => head,
            None => by_width()?,
        },
        heads,
    })
}

/// Rows of the embedding, which is what a model's vocabulary is, whatever the tokenizer holds.
fn vocabulary(gguf: &Gguf, keys: &Keys<'_>) -> Result<u64, GgufFault> {
    match gguf.tensor("token_embd.weight") {
        Some(tensor) => Ok(tensor.rows()),
        None => keys.required("vocab_size"),
    }
}

fn torch_dtype(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 | Precision::Quantised => "float32",
        Precision::F16 => "float16",
        Precision::BF16 => "bfloat16",
    }
}

/// What the family's own class takes.
fn of_family(
    family: Family,
    gguf: &Gguf,
    keys: &Keys<'_>,
    basics: &Basics,
    set: &mut impl FnMut(&'static str, Json),
) -> Result<(), GgufFault> {
    let window = keys
        .whole("attention.sliding_window")?
        .filter(|&size| size > 0);
    let has = |part: &str| gguf.tensor(&format!("blk.0.{part}.bias")).is_some();
    let (class, kind, activation) = match family {
        Family::Llama if window.is_some() => ("MistralForCausalLM", "mistral", "silu"),
        Family::Llama => ("LlamaForCausalLM", "llama", "silu"),
        Family::Qwen2 => ("Qwen2ForCausalLM", "qwen2", "silu"),
        Family::Qwen3 => ("Qwen3ForCausalLM", "qwen3", "silu"),
        Family::Gemma => ("GemmaForCausalLM", "gemma", "gelu_pytorch_tanh"),
        Family::Gemma2 => ("Gemma2ForCausalLM", "gemma2", "gelu_pytorch_tanh"),
        Family::Gemma3 => ("Gemma3ForCausalLM", "gemma3_text", "gelu_pytorch_tanh"),
    };
    set("architectures", json!([class]));
    set("model_type", kind.into());
    set("hidden_act", activation.into());
    if activation != "silu" {
        set("hidden_activation", activation.into());
    }
    match family {
        Family::Llama => {
            set("attention_bias", has("attn_q").into());
            set("mlp_bias", has("ffn_up").into());
            if let Some(window) = window {
                set("sliding_window", window.into());
            }
        }
        Family::Qwen2 | Family::Qwen3 => {
            set("use_sliding_window", window.is_some().into());
            set("sliding_window", window.map_or(Json::Null, Json::from));
            if family == Family::Qwen3 {
                set("attention_bias", has("attn_q").into());
            }
        }
        Family::Gemma => set("attention_bias", has("attn_q").into()),
        Family::Gemma2 | Family::Gemma3 => {
            set("attention_bias", has("attn_q").into());
            if let Some(window) = window {
                set("sliding_window", window.into());
            }
            for (name, key) in [
                ("attn_logit_softcapping", "attn_logit_softcapping"),
                ("final_logit_softcapping", "final_logit_softcapping"),
            ] {
                set(name, keys.number(key)?.map_or(Json::Null, Json::from));
            }
            let largest = match family {
                Family::Gemma2 => GEMMA2_27B_LAYERS,
                _ => GEMMA3_27B_LAYERS,
            };
            let by_width = basics.width.checked_div(basics.heads.queries);
            let scale = if basics.layers == largest {
                by_width.unwrap_or(basics.head)
            } else {
                basics.head
            };
            set("query_pre_attn_scalar", scale.into());
            if family == Family::Gemma3 {
                set("rope_local_base_freq", 10_000.0.into());
                set("sliding_window_pattern", 6.into());
            }
        }
    }
    Ok(())
}

/// How the rotary embedding is stretched, where it is.
fn scaling(
    gguf: &Gguf,
    keys: &Keys<'_>,
    basics: &Basics,
    notes: &mut Vec<String>,
) -> Result<Option<Json>, GgufFault> {
    if let Some(factor) = llama3_factor(gguf, keys, basics, notes)? {
        return Ok(Some(json!({
            "factor": factor,
            "high_freq_factor": LLAMA3_HIGH,
            "low_freq_factor": LLAMA3_LOW,
            "original_max_position_embeddings": LLAMA3_ORIGINAL as u64,
            "rope_type": "llama3",
        })));
    }
    let factor = match keys.number("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => keys.number("rope.scale_linear")?,
    };
    let kind = keys.text("rope.scaling.type")?;
    let Some(factor) = factor.filter(|&factor| factor > 0.0) else {
        return Ok(None);
    };
    match kind {
        Some("none") => Ok(None),
        None | Some("linear") => Ok(Some(json!({"factor": factor, "rope_type": "linear"}))),
        Some("yarn") => {
            let original = keys.whole("rope.scaling.original_context_length")?;
            Ok(Some(match original {
                Some(original) => json!({
                    "factor": factor,
                    "original_max_position_embeddings": original,
                    "rope_type": "yarn",
                }),
                None => json!({"factor": factor, "rope_type": "yarn"}),
            }))
        }
        Some(other) => Err(GgufFault::WrongValue {
            key: keys.key("rope.scaling.type"),
            wanted: "one of none, linear, yarn",
            found: format!("`{}`", other.escape_debug()),
        }),
    }
}

/// The factor by which the rotary embedding is stretched as in Llama 3, where the file's factors
/// are those of that rule.
fn llama3_factor(
    gguf: &Gguf,
    keys: &Keys<'_>,
    basics: &Basics,
    notes: &mut Vec<String>,
) -> Result<Option<f64>, GgufFault> {
    let Some(tensor) = gguf.tensor("rope_freqs.weight") else {
        return Ok(None);
    };
    let len = tensor.rows().saturating_mul(tensor.row_len());
    let fits = len == basics.head / 2 && len <= 4096;
    let factors = if fits {
        gguf.read_f32(tensor).unwrap_or_default()
    } else {
        Vec::new()
    };
    let theta = keys.number("rope.freq_base")?.unwrap_or(10_000.0);
    let factor = f64::from(factors.iter().copied().fold(0.0, f32::max));
    let follows = factor.is_finite()
        && factor >= 1.0
        && factors.iter().enumerate().all(|(at, &stored)| {
            let expected = llama3_rule(at, basics.head, theta, factor);
            (f64::from(stored) - expected).abs() <= 1e-4 * expected
        });
    if !factors.is_empty() && follows {
        return Ok((factor > 1.0).then_some(factor));
    }
    notes.push(
        "the factors in `rope_freqs.weight` follow no rule that config.json can say; the model's \
         positions will be off"
            .to_owned(),
    );
    Ok(None)
}

/// What frequency number `at` is divided by.
fn llama3_rule(at: usize, head: u64, theta: f64, factor: f64) -> f64 {
    let exponent = (2 * at) as f64 / head as f64;
    let wavelength = 2.0 * std::f64::consts::PI * theta.powf(exponent);
    if wavelength < LLAMA3_ORIGINAL / LLAMA3_HIGH {
        1.0
    } else if wavelength > LLAMA3_ORIGINAL / LLAMA3_LOW {
        factor
    } else {
        let smooth = (LLAMA3_ORIGINAL / wavelength - LLAMA3_LOW) / (LLAMA3_HIGH - LLAMA3_LOW);
        1.0 / ((1.0 - smooth) / factor + smooth)
    }
}
