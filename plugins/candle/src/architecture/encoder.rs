//! Models that embed a text: BERT, and MiniLM, which is a BERT with few layers.

use super::fields::Fields;
use super::{Activation, LinearSpec, TensorSpec, most};
use crate::error::Result;

/// What an encoder is made of (Devlin et al., "BERT", section 3).
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderArchitecture {
    /// Tokens that are embedded.
    pub vocabulary: usize,
    /// Elements of a hidden state.
    pub hidden: usize,
    /// Elements between the two halves of a feed-forward block.
    pub intermediate: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of the attention.
    pub heads: usize,
    /// Positions that are embedded: the most tokens of a text.
    pub context: usize,
    /// Kinds of segments that are embedded; texts are of the first.
    pub segments: usize,
    /// What is added to a variance before its root is taken.
    pub norm_epsilon: f64,
    /// The function of the feed-forward blocks.
    pub activation: Activation,
}

impl EncoderArchitecture {
    pub(super) fn of(fields: &Fields<'_>) -> Result<Self> {
        let position = fields.text("position_embedding_type")?;
        if let Some(other) = position.filter(|&kind| kind != "absolute") {
            let why = format!("`{}` is unknown; known is absolute", other.escape_debug());
            return Err(fields.fault("position_embedding_type", why));
        }
        if fields.flag("is_decoder")? == Some(true) {
            return Err(fields.fault("is_decoder", "a BERT that generates text is not built in"));
        }
        let hidden = fields.required("hidden_size", most::HIDDEN)?;
        let heads = fields.required("num_attention_heads", most::HEADS)?;
        if !hidden.is_multiple_of(heads) {
            let why = format!("{heads} heads do not divide the {hidden} elements of `hidden_size`");
            return Err(fields.fault("num_attention_heads", why));
        }
        Ok(Self {
            vocabulary: fields.required("vocab_size", most::VOCABULARY)?,
            hidden,
            intermediate: fields.required("intermediate_size", most::INTERMEDIATE)?,
            layers: fields.required("num_hidden_layers", most::LAYERS)?,
            heads,
            context: fields
                .count("max_position_embeddings", most::CONTEXT)?
                .unwrap_or(512),
            segments: fields
                .count("type_vocab_size", most::VOCABULARY)?
                .unwrap_or(2),
            norm_epsilon: fields.positive("layer_norm_eps")?.unwrap_or(1e-12),
            activation: Activation::of(fields, "hidden_act", Activation::Gelu)?,
        })
    }

    /// The linear maps of a layer: queries, keys, values, the attention's output, and the two of the feed-forward
    /// block.
    pub fn linears(&self, layer: usize) -> [LinearSpec; 6] {
        let (hidden, intermediate) = (self.hidden, self.intermediate);
        [
            ("query", "attention.self.query", hidden, hidden),
            ("key", "attention.self.key", hidden, hidden),
            ("value", "attention.self.value", hidden, hidden),
            ("dense", "attention.output.dense", hidden, hidden),
            ("dense", "intermediate.dense", hidden, intermediate),
            ("dense", "output.dense", intermediate, hidden),
        ]
        .map(|(short, part, inputs, outputs)| LinearSpec {
            short,
            name: format!("encoder.layer.{layer}.{part}"),
            inputs,
            outputs,
            bias: true,
        })
    }

    /// The tensors of the model; a head above it is not among them.
    pub(super) fn tensors(&self) -> Vec<TensorSpec> {
        let hidden = self.hidden;
        let norm = |name: &str| {
            ["weight", "bias"].map(|part| TensorSpec::new(format!("{name}.{part}"), [hidden]))
        };
        let mut tensors = Vec::new();
        for (name, rows) in [
            ("word_embeddings", self.vocabulary),
            ("position_embeddings", self.context),
            ("token_type_embeddings", self.segments),
        ] {
            tensors.push(TensorSpec::new(
                format!("embeddings.{name}.weight"),
                [rows, hidden],
            ));
        }
        tensors.extend(norm("embeddings.LayerNorm"));
        for layer in 0..self.layers {
            let name = |part: &str| format!("encoder.layer.{layer}.{part}");
            for linear in self.linears(layer) {
                let shape = [linear.outputs, linear.inputs];
                tensors.push(TensorSpec::new(linear.weight(), shape));
                let bias = linear.bias();
                tensors.extend(bias.map(|name| TensorSpec::new(name, [linear.outputs])));
            }
            tensors.extend(norm(&name("attention.output.LayerNorm")));
            tensors.extend(norm(&name("output.LayerNorm")));
        }
        tensors
    }
}
