//! What of a model is changed: all of it, or an adapter beside it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What of the model is changed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Method {
    /// Which method. All other keys are of `lora` and `qlora`.
    #[serde(default)]
    pub kind: MethodKind,
    /// The adapter that is trained further, by its name or directory, in the layout of PEFT; a new one when
    /// left out. Rank, scale, dropout and layers are then its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Rank of the adapter; 8 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rank: Option<u32>,
    /// Scale of the adapter: it counts `alpha / rank`, with `rslora` `alpha / sqrt(rank)`; twice the
    /// rank when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// The part of the adapter's inputs that is left out at random; 0 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dropout: Option<f64>,
    /// Whether the scale is that of rank-stabilised LoRA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rslora: Option<bool>,
    /// The linear layers that get an adapter, by the last part of their names, or `all-linear` for every
    /// one but the head; `q_proj` and `v_proj` when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// How the frozen weights are kept, of `qlora`; `nf4` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantisation: Option<Quantisation>,
}

/// Which of the weights are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MethodKind {
    /// All of them.
    #[default]
    Full,
    /// Those of an adapter beside them (E. Hu et al., "LoRA", 2021).
    Lora,
    /// The same, with the model's own weights quantised (T. Dettmers et al., "QLoRA", 2023).
    Qlora,
}

/// How frozen weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Quantisation {
    /// In 4 bits, by quantiles of the normal distribution, with quantised scales.
    #[default]
    Nf4,
    /// In 8 bits, with a scale for each 32.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// In 4 bits, with a scale for each 32.
    #[serde(rename = "q4_0")]
    Q4_0,
}

/// A new adapter, with everything filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// Its rank.
    pub rank: u32,
    /// By what its part is multiplied, times `rank`, or times its square root with `rslora`.
    pub alpha: f64,
    /// The part of its inputs that is left out at random.
    pub dropout: f64,
    /// Whether the scale is that of rank-stabilised LoRA.
    pub rslora: bool,
    /// The last parts of the names of the layers that get it, or `all-linear`.
    pub targets: Vec<String>,
}

impl Method {
    /// How the frozen weights are kept; none as they are, or where there are none.
    pub fn frozen(&self) -> Option<Quantisation> {
        (self.kind == MethodKind::Qlora).then(|| self.quantisation.unwrap_or_default())
    }

    /// The adapter that is made; none where all weights are changed, or one that there is.
    pub fn adapter(&self) -> Option<Adapter> {
        if self.kind == MethodKind::Full || self.from.is_some() {
            return None;
        }
        let rank = self.rank.unwrap_or(8);
        let targets = if self.targets.is_empty() {
            vec!["q_proj".into(), "v_proj".into()]
        } else {
            self.targets.clone()
        };
        Some(Adapter {
            rank,
            alpha: self.alpha.unwrap_or(2.0 * f64::from(rank)),
            dropout: self.dropout.unwrap_or(0.0),
            rslora: self.rslora.unwrap_or(false),
            targets,
        })
    }
}
