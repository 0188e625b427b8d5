//! What a model is made of, as its `config.json` says it.
//!
//! | module | owns |
//! |---|---|
//! | `decoder` | [`DecoderArchitecture`]: models that go on with a text |
//! | `encoder` | [`EncoderArchitecture`]: models that embed a text |
//! | `rope` | [`Rope`]: the frequencies of rotary positions |
//! | `tensors` | [`TensorSpec`]: the tensors that such a model has |
//! | `fields` | the fields of a JSON file, and the errors that name them |
//!
//! Names and defaults are those of the Transformers library's `configuration_*.py`, of version 4 and 5. A
//! model is either understood in all that changes its output, or refused.

mod decoder;
mod encoder;
pub(crate) mod fields;
mod rope;
mod tensors;

use std::path::Path;

use serde_json::{Map, Value};

pub use decoder::{DecoderArchitecture, LayerAttention};
pub use encoder::EncoderArchitecture;
pub use rope::{Rope, RopeScaling};
pub use tensors::{LinearSpec, TensorSpec};

use crate::error::{Error, Result};
use fields::Fields;

/// The most that a configuration may ask for: several times what models have, so that no product of them is over 64
/// bits, and that a file of some bytes makes no list of billions.
pub(crate) mod most {
    /// Layers of a model.
    pub(crate) const LAYERS: usize = 1 << 10;
    /// Elements of a hidden state.
    pub(crate) const HIDDEN: usize = 1 << 18;
    /// Elements between the two halves of a feed-forward block.
    pub(crate) const INTERMEDIATE: usize = 1 << 20;
    /// Heads of a layer.
    pub(crate) const HEADS: usize = 1 << 12;
    /// Elements of a head of attention.
    pub(crate) const HEAD: usize = 1 << 12;
    /// Tokens that a model embeds.
    pub(crate) const VOCABULARY: usize = 1 << 22;
    /// Tokens of a sequence, or a part of one.
    pub(crate) const CONTEXT: usize = 1 << 26;
    /// Rank of an adapter.
    pub(crate) const RANK: usize = 1 << 16;
}

/// The families of models that are built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Llama and what is built like it: SmolLM2, TinyLlama, Llama 2 and 3.
    Llama,
    /// Mistral: Llama whose attention may be limited to a window.
    Mistral,
    /// Qwen 2 and 2.5: Llama with biases of queries, keys and values.
    Qwen2,
    /// Qwen 3: Llama with norms of queries and keys.
    Qwen3,
    /// The text models of Gemma 3.
    Gemma3,
    /// BERT and MiniLM.
    Bert,
}

impl Family {
    /// Every family.
    pub const ALL: &'static [Self] = &[
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Qwen3,
        Self::Gemma3,
        Self::Bert,
    ];

    /// Its `model_type` in `config.json`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma3 => "gemma3_text",
            Self::Bert => "bert",
        }
    }

    /// The classes of the Transformers library whose weights are read.
    pub const fn classes(self) -> &'static [&'static str] {
        match self {
            Self::Llama => &["LlamaForCausalLM", "LlamaModel"],
            Self::Mistral => &["MistralForCausalLM", "MistralModel"],
            Self::Qwen2 => &["Qwen2ForCausalLM", "Qwen2Model"],
            Self::Qwen3 => &["Qwen3ForCausalLM", "Qwen3Model"],
            Self::Gemma3 => &["Gemma3ForCausalLM", "Gemma3TextModel"],
            Self::Bert => &["BertModel", "BertForMaskedLM"],
        }
    }

    /// The family of a configuration: by the class of its weights, and where it names none by its type.
    fn of(fields: &Fields<'_>) -> Result<Self> {
        let classes = fields.texts("architectures")?;
        let kind = fields.text("model_type")?;
        let named = classes
            .and_then(|classes| classes.first().copied())
            .or(kind);
        let Some(named) = named else {
            return Err(fields.fault("architectures", "it is missing, and so is `model_type`"));
        };
        let known = Self::ALL.iter().copied();
        let mut known = known.filter(|family| {
            family.classes().contains(&named) || (family.name() == named && kind == Some(named))
        });
        known.next().ok_or_else(|| Error::UnknownArchitecture {
            path: fields.path(),
            found: named.to_owned(),
            known: Self::known(),
        })
    }

    /// The names of all classes, as a message lists them.
    fn known() -> String {
        let classes = Self::ALL
            .iter()
            .filter_map(|family| family.classes().first());
        let classes: Vec<&str> = classes.copied().collect();
        classes.join(", ")
    }
}

/// The function between the two halves of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// `x · Φ(x)`, exactly.
    Gelu,
    /// `x · Φ(x)` by its approximation with `tanh`.
    GeluTanh,
}

impl Activation {
    fn of(fields: &Fields<'_>, field: &str, otherwise: Self) -> Result<Self> {
        Ok(match fields.text(field)? {
            None => otherwise,
            Some("silu" | "swish") => Self::Silu,
            Some("gelu") => Self::Gelu,
            Some("gelu_new" | "gelu_pytorch_tanh") => Self::GeluTanh,
            Some(other) => {
                let why = format!(
                    "`{}` is unknown; known are silu, gelu, gelu_new and gelu_pytorch_tanh",
                    other.escape_debug()
                );
                return Err(fields.fault(field, why));
            }
        })
    }
}

/// What a model is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Architecture {
    /// A model that goes on with a text.
    Decoder(DecoderArchitecture),
    /// A model that embeds a text.
    Encoder(EncoderArchitecture),
}

impl Architecture {
    /// That of the bundle in a directory, by its `config.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Format`] for a file that cannot be read; [`Error::UnknownArchitecture`];
    /// [`Error::Field`] for a field that is missing, holds something else, or contradicts another.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("config.json");
        Self::of_config(&path, &fields::read_object(&path)?)
    }

    /// That of a configuration; `path` is what errors name.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), but for the reading.
    pub fn of_config(path: &Path, config: &Map<String, Value>) -> Result<Self> {
        let fields = Fields::new(path, config);
        Ok(match Family::of(&fields)? {
            Family::Bert => Self::Encoder(EncoderArchitecture::of(&fields)?),
            family => Self::Decoder(DecoderArchitecture::of(&fields, family)?),
        })
    }

    /// The family.
    pub fn family(&self) -> Family {
        match self {
            Self::Decoder(decoder) => decoder.family,
            Self::Encoder(_) => Family::Bert,
        }
    }

    /// Tokens that the model embeds.
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Decoder(decoder) => decoder.vocabulary,
            Self::Encoder(encoder) => encoder.vocabulary,
        }
    }

    /// Elements of a hidden state.
    pub fn hidden(&self) -> usize {
        match self {
            Self::Decoder(decoder) => decoder.hidden,
            Self::Encoder(encoder) => encoder.hidden,
        }
    }

    /// Layers between the embedding and the head.
    pub fn layers(&self) -> usize {
        match self {
            Self::Decoder(decoder) => decoder.layers,
            Self::Encoder(encoder) => encoder.layers,
        }
    }

    /// Tokens that one sequence may have.
    pub fn context(&self) -> usize {
        match self {
            Self::Decoder(decoder) => decoder.context,
            Self::Encoder(encoder) => encoder.context,
        }
    }

    /// The tensors that the weights must hold, in the order in which they are used.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        match self {
            Self::Decoder(decoder) => decoder.tensors(),
            Self::Encoder(encoder) => encoder.tensors(),
        }
    }

    /// Numbers that the model has learned; tied ones count once.
    pub fn parameters(&self) -> u64 {
        self.tensors().iter().map(TensorSpec::elements).sum()
    }

    /// The model as one that goes on with a text.
    ///
    /// # Errors
    ///
    /// [`Error::WrongKind`].
    pub fn decoder(&self) -> Result<&DecoderArchitecture> {
        match self {
            Self::Decoder(decoder) => Ok(decoder),
            Self::Encoder(_) => Err(Error::WrongKind {
                found: Family::Bert.name(),
                wanted: "generate text",
            }),
        }
    }
}

#[cfg(test)]
mod tests;
