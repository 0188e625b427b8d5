//! Models that go on with a text: Llama and its relatives.

use super::fields::Fields;
use super::{Activation, Family, Rope, most};
use crate::error::Result;

/// What a decoder is made of.
///
/// All families are one stack, of which each has parts: `x += attention(norm(x))`, `x += mlp(norm(x))` in
/// every layer, where `mlp(x) = down(activation(gate(x)) · up(x))`.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderArchitecture {
    /// The family.
    pub family: Family,
    /// Tokens that are embedded, and that the head tells apart.
    pub vocabulary: usize,
    /// Elements of a hidden state.
    pub hidden: usize,
    /// Elements between the two halves of a feed-forward block.
    pub intermediate: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Elements of a head; even.
    pub head: usize,
    /// Tokens that a sequence may have.
    pub context: usize,
    /// What is added to a mean square before its root is taken.
    pub norm_epsilon: f64,
    /// The function of the feed-forward blocks.
    pub activation: Activation,
    /// The head is the embedding, transposed.
    pub tied: bool,
    /// Queries, keys and values have biases.
    pub qkv_bias: bool,
    /// The attention's output has a bias.
    pub output_bias: bool,
    /// The feed-forward blocks have biases.
    pub mlp_bias: bool,
    /// Each head's queries and keys go through a norm before they are turned.
    pub qk_norm: bool,
    /// Norms multiply by 1 + w, not by w.
    pub norm_plus_one: bool,
    /// What attention and feed-forward blocks give goes through a norm before it is added.
    pub post_norms: bool,
    /// What embeddings are multiplied by; 1 in most families.
    pub embedding_scale: f64,
    /// What products of queries and keys are multiplied by.
    pub attention_scale: f64,
    /// How positions turn queries and keys.
    pub rope: Rope,
    /// How they turn them in layers with a window, where that differs.
    pub local_rope: Option<Rope>,
    /// Of each layer the tokens that a query sees, its own among them; `None` for all before it.
    pub windows: Vec<Option<usize>>,
}

/// What a layer's attention has of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerAttention<'a> {
    /// The tokens that a query sees, its own among them: position `q` sees `k` where `q - k < window`.
    pub window: Option<usize>,
    /// How positions turn queries and keys.
    pub rope: &'a Rope,
}

impl DecoderArchitecture {
    pub(super) fn of(fields: &Fields<'_>, family: Family) -> Result<Self> {
        let is_gemma = family == Family::Gemma3;
        let hidden = fields.required("hidden_size", most::HIDDEN)?;
        let layers = fields.required("num_hidden_layers", most::LAYERS)?;
        let heads = fields.required("num_attention_heads", most::HEADS)?;
        let kv_heads = fields
            .count("num_key_value_heads", most::HEADS)?
            .unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            let why = format!("{kv_heads} do not divide the {heads} of `num_attention_heads`");
            return Err(fields.fault("num_key_value_heads", why));
        }
        let head = head(fields, family, hidden, heads)?;
        let context = fields
            .count("max_position_embeddings", most::CONTEXT)?
            .unwrap_or(2048);
        let bias = fields.flag("attention_bias")?.unwrap_or(false);
        let qkv_bias = bias || family == Family::Qwen2;
        let scale = match fields.positive("query_pre_attn_scalar")? {
            Some(scalar) if is_gemma => scalar,
            _ if is_gemma => 256.0,
            _ => head as f64,
        };
        for softcap in ["attn_logit_softcapping", "final_logit_softcapping"] {
            if fields.value(softcap).is_some() {
                return Err(fields.fault(softcap, "logits with a soft cap are not built in"));
            }
        }
        if fields.flag("use_bidirectional_attention")? == Some(true) {
            let why = "attention to later tokens is not built in";
            return Err(fields.fault("use_bidirectional_attention", why));
        }
        let activation = if is_gemma && fields.value("hidden_activation").is_some() {
            Activation::of(fields, "hidden_activation", Activation::GeluTanh)?
        } else if is_gemma {
            // `hidden_act` of the first files was wrong, and the library does not read it either.
            Activation::GeluTanh
        } else {
            Activation::of(fields, "hidden_act", Activation::Silu)?
        };
        let (rope, local_rope) = ropes(fields, family, context)?;
        Ok(Self {
            family,
            vocabulary: fields.required("vocab_size", most::VOCABULARY)?,
            hidden,
            intermediate: fields.required("intermediate_size", most::INTERMEDIATE)?,
            layers,
            heads,
            kv_heads,
            head,
            context,
            norm_epsilon: fields.positive("rms_norm_eps")?.unwrap_or(1e-6),
            activation,
            tied: fields.flag("tie_word_embeddings")?.unwrap_or(is_gemma),
            qkv_bias,
            output_bias: bias && family != Family::Qwen2,
            mlp_bias: family == Family::Llama && fields.flag("mlp_bias")?.unwrap_or(false),
            qk_norm: matches!(family, Family::Qwen3 | Family::Gemma3),
            norm_plus_one: is_gemma,
            post_norms: is_gemma,
            embedding_scale: if is_gemma {
                (hidden as f64).sqrt()
            } else {
                1.0
            },
            attention_scale: 1.0 / scale.sqrt(),
            rope,
            local_rope,
            windows: windows(fields, family, layers)?,
        })
    }

    /// What a layer's attention has of its own.
    ///
    /// # Panics
    ///
    /// Where `layer` is not below [`layers`](Self::layers).
    pub fn attention(&self, layer: usize) -> LayerAttention<'_> {
        let window = self.windows[layer];
        let local = self.local_rope.as_ref().filter(|_| window.is_some());
        LayerAttention {
            window,
            rope: local.unwrap_or(&self.rope),
        }
    }

    /// Elements of all heads of queries.
    pub fn query_width(&self) -> usize {
        self.heads * self.head
    }

    /// Elements of all heads of keys, and of values.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head
    }

    /// Bytes of keys and values of one token in all layers, with elements of `element` bytes.
    pub fn cache_bytes(&self, element: usize) -> u64 {
        (2 * self.layers * self.kv_width() * element) as u64
    }
}

/// Elements of a head.
fn head(fields: &Fields<'_>, family: Family, hidden: usize, heads: usize) -> Result<usize> {
    let by_family = match family {
        Family::Qwen3 => Some(128),
        Family::Gemma3 => Some(256),
        _ => None,
    };
    let head = match fields.count("head_dim", most::HEAD)?.or(by_family) {
        Some(head) => head,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let why = format!("{heads} heads do not divide the {hidden} elements of `hidden_size`");
            return Err(fields.fault("num_attention_heads", why));
        }
    };
    if !head.is_multiple_of(2) {
        let why = format!("a head has {head} elements, and pairs of them are turned");
        return Err(fields.fault("head_dim", why));
    }
    if let Some(part) = fields
        .number("partial_rotary_factor")?
        .filter(|&part| part != 1.0)
    {
        let why = format!("heads of which {part} is turned are not built in");
        return Err(fields.fault("partial_rotary_factor", why));
    }
    Ok(head)
}

/// The rules of positions: of all layers, and of those with a window.
fn ropes(fields: &Fields<'_>, family: Family, context: usize) -> Result<(Rope, Option<Rope>)> {
    let is_gemma = family == Family::Gemma3;
    let base = fields.positive("rope_theta")?;
    let base = base.unwrap_or(if is_gemma { 1e6 } else { 1e4 });
    let local = fields.positive("rope_local_base_freq")?.unwrap_or(1e4);
    let parameters = fields.object("rope_parameters")?;
    if !is_gemma {
        let scaling = match parameters {
            Some(parameters) => Some(parameters),
            None => fields.object("rope_scaling")?,
        };
        return Ok((Rope::of(scaling.as_ref(), base, context)?, None));
    }
    let Some(parameters) = parameters else {
        let scaling = fields.object("rope_scaling")?;
        let global = Rope::of(scaling.as_ref(), base, context)?;
        return Ok((global, Some(Rope::plain(local))));
    };
    let global = parameters.object("full_attention")?;
    let sliding = parameters.object("sliding_attention")?;
    Ok((
        Rope::of(global.as_ref(), base, context)?,
        Some(Rope::of(sliding.as_ref(), local, context)?),
    ))
}

/// Of each layer the tokens that a query sees.
fn windows(fields: &Fields<'_>, family: Family, layers: usize) -> Result<Vec<Option<usize>>> {
    let window = match family {
        Family::Llama | Family::Bert => return Ok(vec![None; layers]),
        // No field is another thing than `null`, which is no window.
        Family::Mistral if !fields.has("sliding_window") => Some(4096),
        Family::Gemma3 if !fields.has("sliding_window") => Some(4096),
        Family::Qwen2 | Family::Qwen3 => {
            let used = fields.flag("use_sliding_window")?.unwrap_or(false);
            let size = fields
                .count("sliding_window", most::CONTEXT)?
                .unwrap_or(4096);
            used.then_some(size)
        }
        Family::Mistral | Family::Gemma3 => fields.count("sliding_window", most::CONTEXT)?,
    };
    if let Some(kinds) = fields.texts("layer_types")? {
        if kinds.len() != layers {
            let why = format!("it has {} entries for {layers} layers", kinds.len());
            return Err(fields.fault("layer_types", why));
        }
        let kinds = kinds.iter().map(|&kind| match kind {
            "full_attention" => Ok(None),
            "sliding_attention" => Ok(window),
            other => {
                let why = format!(
                    "`{}` is unknown; known are full_attention and sliding_attention",
                    other.escape_debug()
                );
                Err(fields.fault("layer_types", why))
            }
        });
        return kinds.collect();
    }
    let from = fields.whole("max_window_layers")?.unwrap_or(28);
    let pattern = match fields.count("sliding_window_pattern", most::LAYERS)? {
        Some(pattern) => pattern,
        None => fields
            .count("_sliding_window_pattern", most::LAYERS)?
            .unwrap_or(6),
    };
    let has_window = |layer: usize| match family {
        Family::Gemma3 => !(layer + 1).is_multiple_of(pattern),
        Family::Qwen2 | Family::Qwen3 => layer >= from,
        _ => true,
    };
    let of_layer = |layer| window.filter(|_| has_window(layer));
    Ok((0..layers).map(of_layer).collect())
}
