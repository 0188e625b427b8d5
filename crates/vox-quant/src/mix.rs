//! Which matrix of a model gets which blocks.

use std::fmt;

use crate::kind::BlockKind;

/// How a model's matrices are held in blocks.
///
/// The mixes are those of llama.cpp (`llama-quant.cpp`, `use_more_bits`), where the head of a model in Q4_0 has 6 bits
/// too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mix {
    /// Blocks of 32 weights of 8 bits with one scale.
    Q8_0,
    /// Blocks of 32 weights of 4 bits with one scale; the embedding and the head at 6 bits.
    Q4_0,
    /// Blocks of 256 weights of 4 bits, with the matrices that matter most at 6 bits.
    Q4KM,
}

impl Mix {
    /// Every mix, the most exact first.
    pub const ALL: &'static [Self] = &[Self::Q8_0, Self::Q4KM, Self::Q4_0];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4KM => "q4_k_m",
        }
    }

    /// The blocks of a matrix with rows of so many numbers; `None` where the rows are no whole blocks of any format that
    /// would do.
    ///
    /// Where rows are no multiple of 256, 4-bit blocks become those of Q5_0 and 6-bit blocks those of Q8_0, as in
    /// llama.cpp.
    pub fn blocks(self, role: Role, columns: usize) -> Option<BlockKind> {
        let wanted = match self {
            Self::Q8_0 => BlockKind::Q8_0,
            Self::Q4_0 if role == Role::Vocabulary => BlockKind::Q6K,
            Self::Q4_0 => BlockKind::Q4_0,
            Self::Q4KM if role.wants_more_bits() => BlockKind::Q6K,
            Self::Q4KM => BlockKind::Q4K,
        };
        let fits = |kind: &BlockKind| columns.is_multiple_of(kind.numbers());
        let smaller = match wanted {
            BlockKind::Q4K => BlockKind::Q5_0,
            _ => BlockKind::Q8_0,
        };
        [wanted, smaller].into_iter().find(fits)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a matrix is for, as far as that decides on its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The embedding or the head.
    Vocabulary,
    /// Values, or the second map of a feed-forward block, in a layer of so many.
    Sensitive {
        /// The layer.
        layer: usize,
        /// How many there are.
        layers: usize,
    },
    /// Any other map.
    Usual,
}

/// The maps of a decoder's layer, below `model.layers.<number>.`.
const DECODER: &[&str] = &[
    "self_attn.q_proj.weight",
    "self_attn.k_proj.weight",
    "self_attn.v_proj.weight",
    "self_attn.o_proj.weight",
    "mlp.gate_proj.weight",
    "mlp.up_proj.weight",
    "mlp.down_proj.weight",
];

/// The maps of an encoder's layer, below `encoder.layer.<number>.`. The tables of its embeddings are read by rows alone,
/// and stay plain.
const ENCODER: &[&str] = &[
    "attention.self.query.weight",
    "attention.self.key.weight",
    "attention.self.value.weight",
    "attention.output.dense.weight",
    "intermediate.dense.weight",
    "output.dense.weight",
];

impl Role {
    /// That of a matrix of a model with so many layers.
    pub fn of(name: &str, layers: usize) -> Self {
        if is_vocabulary(name) {
            return Self::Vocabulary;
        }
        if !name.contains("v_proj") && !name.contains("down_proj") {
            return Self::Usual;
        }
        let number = name.split('.').find_map(|part| part.parse().ok());
        number.map_or(Self::Usual, |layer| Self::Sensitive { layer, layers })
    }

    /// That of the tensor that is stored by a name, with or without its model's prefix; `None` for what is held as plain
    /// numbers whatever the mix: norms, biases, tables, and what no model here has.
    pub fn of_stored(name: &str, layers: usize) -> Option<Self> {
        let is_held = is_vocabulary(name) || in_layer(name).is_some();
        is_held.then(|| Self::of(name, layers))
    }

    /// How many layers a model has whose tensors are stored by these names.
    pub fn layers<'n>(names: impl IntoIterator<Item = &'n str>) -> usize {
        let layers = names.into_iter().filter_map(in_layer);
        layers.max().map_or(0, |last| last + 1)
    }

    /// Whether Q4_K_M gives it 6 bits.
    fn wants_more_bits(self) -> bool {
        match self {
            Self::Vocabulary => true,
            Self::Usual => false,
            Self::Sensitive { layer, layers } => {
                let eighth = layers / 8;
                layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
            }
        }
    }
}

/// Whether it is the embedding or the head of a decoder.
fn is_vocabulary(name: &str) -> bool {
    matches!(
        name.strip_prefix("model.").unwrap_or(name),
        "embed_tokens.weight" | "lm_head.weight"
    )
}

/// The number of the layer whose map this is.
fn in_layer(name: &str) -> Option<usize> {
    let (rest, maps) = if let Some(rest) = name
        .strip_prefix("bert.")
        .unwrap_or(name)
        .strip_prefix("encoder.layer.")
    {
        (rest, ENCODER)
    } else {
        let rest = name.strip_prefix("model.").unwrap_or(name);
        (rest.strip_prefix("layers.")?, DECODER)
    };
    let (number, map) = rest.split_once('.')?;
    // No model has more layers than that, and none that a file claims makes a sum overflow.
    let layer = usize::from(number.parse::<u16>().ok()?);
    maps.contains(&map).then_some(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_no_whole_blocks_get_smaller_ones() {
        let blocks = |mix: Mix, columns| mix.blocks(Role::Usual, columns);
        assert_eq!(blocks(Mix::Q4KM, 512), Some(BlockKind::Q4K));
        assert_eq!(blocks(Mix::Q4KM, 576), Some(BlockKind::Q5_0));
        assert_eq!(
            Mix::Q4KM.blocks(Role::Vocabulary, 576),
            Some(BlockKind::Q8_0)
        );
        assert_eq!(blocks(Mix::Q4_0, 40), None);
    }

    #[test]
    fn the_layers_with_more_bits_are_those_of_llama_cpp() {
        let more = |layer| {
            let name = format!("model.layers.{layer}.mlp.down_proj.weight");
            Role::of(&name, 16).wants_more_bits()
        };
        let layers: Vec<usize> = (0..16).filter(|&layer| more(layer)).collect();
        assert_eq!(layers, [0, 1, 4, 7, 10, 13, 14, 15]);
    }

    #[test]
    fn maps_of_layers_embeddings_and_heads_are_held_in_blocks_and_nothing_else_is() {
        let names = [
            ("model.embed_tokens.weight", Some(Role::Vocabulary)),
            ("embed_tokens.weight", Some(Role::Vocabulary)),
            ("lm_head.weight", Some(Role::Vocabulary)),
            ("model.layers.3.self_attn.q_proj.weight", Some(Role::Usual)),
            (
                "layers.3.mlp.down_proj.weight",
                Some(Role::Sensitive {
                    layer: 3,
                    layers: 4,
                }),
            ),
            (
                "bert.encoder.layer.0.output.dense.weight",
                Some(Role::Usual),
            ),
            (
                "encoder.layer.0.attention.self.value.weight",
                Some(Role::Usual),
            ),
            ("model.layers.3.self_attn.q_proj.bias", None),
            ("model.layers.3.self_attn.q_norm.weight", None),
            ("model.layers.x.self_attn.q_proj.weight", None),
            ("model.norm.weight", None),
            ("embeddings.word_embeddings.weight", None),
            ("encoder.layer.0.output.LayerNorm.weight", None),
            ("vision.model.layers.0.self_attn.q_proj.weight", None),
        ];
        for (name, role) in names {
            assert_eq!(Role::of_stored(name, 4), role, "{name}");
        }
        assert_eq!(Role::layers(names.map(|(name, _)| name)), 4);
        assert_eq!(Role::layers(["model.norm.weight"]), 0);
    }
}
