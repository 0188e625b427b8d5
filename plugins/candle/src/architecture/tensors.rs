//! The tensors that a model has, by the names under which the Transformers library saves them.

use super::{DecoderArchitecture, Family};

/// A tensor that a model has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    pub(super) fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self {
            name: name.into(),
            shape: shape.into(),
        }
    }

    /// Numbers in it.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&size| size as u64).product()
    }
}

/// A linear map `y = x Wᵀ + b` of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinearSpec {
    /// Its name among the layer's, as adapters name it: `q_proj`.
    pub short: &'static str,
    /// Its name in the model, without `.weight`: `model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// Elements of `x`: columns of the weight.
    pub inputs: usize,
    /// Elements of `y`: rows of the weight.
    pub outputs: usize,
    /// There is a bias.
    pub bias: bool,
}

impl LinearSpec {
    /// The name of its weight, of shape (outputs, inputs).
    pub fn weight(&self) -> String {
        format!("{}.weight", self.name)
    }

    /// The name of its bias, of shape (outputs), where it has one.
    pub fn bias(&self) -> Option<String> {
        self.bias.then(|| format!("{}.bias", self.name))
    }
}

impl DecoderArchitecture {
    /// The name of the embedding, of shape (vocabulary, hidden).
    pub const EMBEDDING: &'static str = "model.embed_tokens.weight";
    /// The name of the norm after the last layer, of shape (hidden).
    pub const FINAL_NORM: &'static str = "model.norm.weight";
    /// The name of the head, of shape (vocabulary, hidden), where it is not the embedding.
    pub const HEAD: &'static str = "lm_head.weight";

    /// The linear maps of a layer, in the order in which they are used: `q_proj`, `k_proj`, `v_proj`, `o_proj`,
    /// `gate_proj`, `up_proj`, `down_proj`.
    pub fn linears(&self, layer: usize) -> [LinearSpec; 7] {
        let (hidden, intermediate) = (self.hidden, self.intermediate);
        let (queries, keys) = (self.query_width(), self.kv_width());
        [
            ("self_attn", "q_proj", hidden, queries, self.qkv_bias),
            ("self_attn", "k_proj", hidden, keys, self.qkv_bias),
            ("self_attn", "v_proj", hidden, keys, self.qkv_bias),
            ("self_attn", "o_proj", queries, hidden, self.output_bias),
            ("mlp", "gate_proj", hidden, intermediate, self.mlp_bias),
            ("mlp", "up_proj", hidden, intermediate, self.mlp_bias),
            ("mlp", "down_proj", intermediate, hidden, self.mlp_bias),
        ]
        .map(|(block, short, inputs, outputs, bias)| LinearSpec {
            short,
            name: format!("model.layers.{layer}.{block}.{short}"),
            inputs,
            outputs,
            bias,
        })
    }

    /// The name of the norm before a layer's attention.
    pub fn attention_norm(layer: usize) -> String {
        format!("model.layers.{layer}.input_layernorm.weight")
    }

    /// The name of the norm before a layer's feed-forward block.
    pub fn mlp_norm(&self, layer: usize) -> String {
        let name = match self.family {
            Family::Gemma3 => "pre_feedforward_layernorm",
            _ => "post_attention_layernorm",
        };
        format!("model.layers.{layer}.{name}.weight")
    }

    /// The names of the norms after a layer's attention and feed-forward block, where there are any.
    pub fn post_norm_names(&self, layer: usize) -> Option<[String; 2]> {
        let names = ["post_attention_layernorm", "post_feedforward_layernorm"];
        self.post_norms
            .then(|| names.map(|name| format!("model.layers.{layer}.{name}.weight")))
    }

    /// The names of the norms of a layer's queries and keys, of shape (head), where there are any.
    pub fn qk_norm_names(&self, layer: usize) -> Option<[String; 2]> {
        self.qk_norm.then(|| {
            ["q_norm", "k_norm"].map(|name| format!("model.layers.{layer}.self_attn.{name}.weight"))
        })
    }

    /// The name of the tensor that the head is, tied or not.
    pub fn head_name(&self) -> &'static str {
        if self.tied {
            Self::EMBEDDING
        } else {
            Self::HEAD
        }
    }

    /// The tensors of a layer.
    pub fn layer_tensors(&self, layer: usize) -> Vec<TensorSpec> {
        let hidden = self.hidden;
        let mut tensors = vec![TensorSpec::new(Self::attention_norm(layer), [hidden])];
        let norms = self.qk_norm_names(layer).into_iter().flatten();
        tensors.extend(norms.map(|name| TensorSpec::new(name, [self.head])));
        for linear in self.linears(layer) {
            tensors.push(TensorSpec::new(
                linear.weight(),
                [linear.outputs, linear.inputs],
            ));
            tensors.extend(
                linear
                    .bias()
                    .map(|name| TensorSpec::new(name, [linear.outputs])),
            );
        }
        tensors.push(TensorSpec::new(self.mlp_norm(layer), [hidden]));
        let norms = self.post_norm_names(layer).into_iter().flatten();
        tensors.extend(norms.map(|name| TensorSpec::new(name, [hidden])));
        tensors
    }

    /// All tensors of the model.
    pub(super) fn tensors(&self) -> Vec<TensorSpec> {
        let embedding = [self.vocabulary, self.hidden];
        let mut tensors = vec![TensorSpec::new(Self::EMBEDDING, embedding)];
        tensors.extend((0..self.layers).flat_map(|layer| self.layer_tensors(layer)));
        tensors.push(TensorSpec::new(Self::FINAL_NORM, [self.hidden]));
        if !self.tied {
            tensors.push(TensorSpec::new(Self::HEAD, embedding));
        }
        tensors
    }
}
