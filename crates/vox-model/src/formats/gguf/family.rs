//! The architectures that have a Hugging Face form, and the names of their tensors in it.

use super::error::GgufFault;

/// A family of architectures whose models are laid out alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Llama, and Mistral, which llama.cpp writes as Llama.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3.
    Qwen3,
    /// Gemma 1.
    Gemma,
    /// Gemma 2.
    Gemma2,
    /// Gemma 3, its text part.
    Gemma3,
}

/// Where a tensor of the file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Into the model under this name.
    Model {
        /// The Hugging Face name.
        name: String,
        /// Whether it is of the queries or of the keys.
        attention: Option<Attention>,
    },
    /// Nowhere, for this reason.
    Skipped(&'static str),
}

/// What a projection makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attention {
    Queries,
    Keys,
}

/// The names of what stands in every block, in llama.cpp and in Hugging Face's Llama.
const BLOCK: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// With one norm before the attention and one before the rest.
const TWO_NORMS: &[(&str, &str)] = &[("ffn_norm", "post_attention_layernorm")];

/// With norms before and after both.
const FOUR_NORMS: &[(&str, &str)] = &[
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

/// With norms of queries and keys.
const HEAD_NORMS: &[(&str, &str)] = &[
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
];

impl Family {
    /// Every family.
    pub const ALL: &'static [Self] = &[
        Self::Llama,
        Self::Qwen2,
        Self::Qwen3,
        Self::Gemma,
        Self::Gemma2,
        Self::Gemma3,
    ];

    /// Its name as `general.architecture`, which its other keys begin with.
    pub const fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma => "gemma",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3",
        }
    }

    /// The family of that `general.architecture`.
    ///
    /// # Errors
    ///
    /// [`GgufFault::Architecture`].
    pub fn of(architecture: &str) -> Result<Self, GgufFault> {
        let mut all = Self::ALL.iter().copied();
        let found = all.find(|family| family.architecture() == architecture);
        found.ok_or_else(|| GgufFault::Architecture {
            architecture: architecture.to_owned(),
        })
    }

    /// True where llama.cpp reorders the rows of queries and keys within a head, for its own way to
    /// rotate them.
    pub(super) const fn interleaves_heads(self) -> bool {
        matches!(self, Self::Llama)
    }

    /// True for Gemma, whose norms llama.cpp stores as the factor itself, one more than Hugging Face.
    pub(super) const fn stores_norms_plus_one(self) -> bool {
        self.is_gemma()
    }

    /// True for every Gemma.
    pub(super) const fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma | Self::Gemma2 | Self::Gemma3)
    }

    /// The parts of a block, with their Hugging Face names.
    fn parts(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let norms = match self {
            Self::Llama | Self::Qwen2 | Self::Qwen3 | Self::Gemma => TWO_NORMS,
            Self::Gemma2 | Self::Gemma3 => FOUR_NORMS,
        };
        let heads = match self {
            Self::Qwen3 | Self::Gemma3 => HEAD_NORMS,
            Self::Llama | Self::Qwen2 | Self::Gemma | Self::Gemma2 => &[],
        };
        BLOCK.iter().chain(norms).chain(heads).copied()
    }

    /// The tensors that a file must have.
    pub(super) fn required(self, blocks: u64) -> impl Iterator<Item = String> {
        let ends = ["token_embd.weight", "output_norm.weight"];
        let of_block = move |block| {
            self.parts()
                .map(move |(part, _)| format!("blk.{block}.{part}.weight"))
        };
        ends.into_iter()
            .map(str::to_owned)
            .chain((0..blocks).flat_map(of_block))
    }

    /// Where the tensor of that name goes.
    pub(super) fn place(self, tensor: &str, blocks: u64) -> Result<Place, GgufFault> {
        let unknown = || GgufFault::UnknownTensor {
            tensor: tensor.to_owned(),
            architecture: self.architecture(),
        };
        let model = |name: &str| Place::Model {
            name: name.to_owned(),
            attention: None,
        };
        match tensor {
            "token_embd.weight" => return Ok(model("model.embed_tokens.weight")),
            "output_norm.weight" => return Ok(model("model.norm.weight")),
            "output.weight" => return Ok(model("lm_head.weight")),
            "rope_freqs.weight" => {
                let why = "the factors of its rotary embedding stand in config.json instead";
                return Ok(Place::Skipped(why));
            }
            _ => {}
        }
        let rest = tensor.strip_prefix("blk.").ok_or_else(unknown)?;
        let (number, rest) = rest.split_once('.').ok_or_else(unknown)?;
        let (part, kind) = rest.rsplit_once('.').ok_or_else(unknown)?;
        // One name for each block: no zeros or signs in front.
        let block = number.parse::<u64>().ok();
        let block = block.filter(|block| *block < blocks && block.to_string() == number);
        let block = block.ok_or_else(unknown)?;
        if part == "attn_rot_embd" || part == "rope_freqs" {
            let why = "the rotary embedding's frequencies follow from config.json";
            return Ok(Place::Skipped(why));
        }
        let found = self.parts().find(|(own, _)| *own == part);
        let (_, theirs) = found.ok_or_else(unknown)?;
        if kind != "weight" && (kind != "bias" || part.ends_with("norm")) {
            return Err(unknown());
        }
        Ok(Place::Model {
            name: format!("model.layers.{block}.{theirs}.{kind}"),
            attention: match part {
                "attn_q" => Some(Attention::Queries),
                "attn_k" => Some(Attention::Keys),
                _ => None,
            },
        })
    }
}

/// The architectures that are known, for a message.
pub(super) fn known() -> String {
    let names = Family::ALL.iter().map(|family| family.architecture());
    names.collect::<Vec<_>>().join(", ")
}
