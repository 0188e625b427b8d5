//! The frequencies of rotary positions (Su et al., "RoFormer"), and how they are stretched for contexts that
//! are longer than those of the training.
//!
//! The rules are those of `modeling_rope_utils.py` in the Transformers library.

use std::f64::consts::PI;

use super::fields::Fields;
use crate::error::Result;

/// How positions turn queries and keys.
///
/// Element `i` of the first half of a head is turned against element `i` of the second half, by position times
/// frequency `i`: the layout of the Transformers library.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// The base θ: frequency `i` of a head of `d` elements is `θ^(-2i/d)`.
    pub base: f64,
    /// How the frequencies are stretched.
    pub scaling: RopeScaling,
}

/// A rule that changes the frequencies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Frequencies as they are.
    None,
    /// Every frequency is divided by `factor`.
    Linear {
        /// How much longer the context is.
        factor: f64,
    },
    /// The rule of Llama 3.1: waves that are longer than the original context over `low` are stretched by
    /// `factor`, those shorter than it over `high` stay, and between them there is a smooth passage.
    Llama3 {
        /// How much longer the context is.
        factor: f64,
        /// `low_freq_factor`.
        low: f64,
        /// `high_freq_factor`.
        high: f64,
        /// Tokens of the original context.
        original: f64,
    },
    /// YaRN (Peng et al., 2023): a ramp between stretched and original frequencies by the number of turns in
    /// the original context, and attention that is scaled.
    Yarn {
        /// How much longer the context is.
        factor: f64,
        /// Tokens of the original context.
        original: f64,
        /// Turns above which a frequency stays.
        fast: f64,
        /// Turns below which it is stretched.
        slow: f64,
        /// What cosines and sines are multiplied by.
        attention: f64,
    },
}

impl Rope {
    /// Frequencies that nothing stretches.
    pub(crate) fn plain(base: f64) -> Self {
        Self {
            base,
            scaling: RopeScaling::None,
        }
    }

    /// Reads a rule, `rope_scaling` of version 4 or one set of `rope_parameters` of version 5, whose `rope_theta`
    /// then comes before `base`.
    pub(crate) fn of(fields: Option<&Fields<'_>>, base: f64, context: usize) -> Result<Self> {
        let Some(fields) = fields else {
            return Ok(Self::plain(base));
        };
        let base = fields.positive("rope_theta")?.unwrap_or(base);
        let kind = match fields.text("rope_type")? {
            Some(kind) => kind,
            None => fields.text("type")?.unwrap_or("default"),
        };
        let scaling = match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear {
                factor: fields.required_positive("factor")?,
            },
            "llama3" => RopeScaling::llama3(fields)?,
            "yarn" => RopeScaling::yarn(fields, context)?,
            other => {
                let why = format!(
                    "`{}` is unknown; known are default, linear, llama3 and yarn",
                    other.escape_debug()
                );
                return Err(fields.fault("rope_type", why));
            }
        };
        Ok(Self { base, scaling })
    }

    /// The frequencies, in radians per token: half as many as a head has elements.
    pub fn frequencies(&self, head: usize) -> Vec<f32> {
        let half = head / 2;
        let wavelength = |frequency: f64| 2.0 * PI / frequency;
        let ramp = self.scaling.yarn_ramp(head, self.base);
        let plain = (0..half).map(|at| self.base.powf(-((2 * at) as f64) / head as f64));
        let stretched = plain.enumerate().map(|(at, frequency)| match self.scaling {
            RopeScaling::None => frequency,
            RopeScaling::Linear { factor } => frequency / factor,
            RopeScaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                let wavelength = wavelength(frequency);
                if wavelength < original / high {
                    frequency
                } else if wavelength > original / low {
                    frequency / factor
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
            RopeScaling::Yarn { factor, .. } => {
                let (low, high) = ramp;
                let stretch = ((at as f64 - low) / (high - low)).clamp(0.0, 1.0);
                frequency / factor * stretch + frequency * (1.0 - stretch)
            }
        });
        stretched.map(|frequency| frequency as f32).collect()
    }

    /// What cosines and sines are multiplied by; 1 but for YaRN.
    pub fn attention_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { attention, .. } => attention,
            _ => 1.0,
        }
    }
}

impl RopeScaling {
    fn llama3(fields: &Fields<'_>) -> Result<Self> {
        let (low, high) = (
            fields.required_positive("low_freq_factor")?,
            fields.required_positive("high_freq_factor")?,
        );
        if low >= high {
            let why = format!("it should be above `low_freq_factor`, {low}, and is {high}");
            return Err(fields.fault("high_freq_factor", why));
        }
        Ok(Self::Llama3 {
            factor: fields.required_positive("factor")?,
            low,
            high,
            original: fields.required_positive("original_max_position_embeddings")?,
        })
    }

    fn yarn(fields: &Fields<'_>, context: usize) -> Result<Self> {
        let factor = fields.required_positive("factor")?;
        for unread in ["mscale", "mscale_all_dim"] {
            if fields.value(unread).is_some() {
                return Err(fields.fault(unread, "attention that is scaled so is not built in"));
            }
        }
        if fields.flag("truncate")? == Some(false) {
            return Err(fields.fault(
                "truncate",
                "a ramp between whole dimensions alone is built in",
            ));
        }
        let by_factor = if factor > 1.0 {
            0.1 * factor.ln() + 1.0
        } else {
            1.0
        };
        let original = fields.positive("original_max_position_embeddings")?;
        let attention = fields.positive("attention_factor")?;
        Ok(Self::Yarn {
            factor,
            original: original.unwrap_or(context as f64),
            fast: fields.positive("beta_fast")?.unwrap_or(32.0),
            slow: fields.positive("beta_slow")?.unwrap_or(1.0),
            attention: attention.unwrap_or(by_factor),
        })
    }

    /// The dimensions between which YaRN's ramp lies.
    fn yarn_ramp(self, head: usize, base: f64) -> (f64, f64) {
        let Self::Yarn {
            original,
            fast,
            slow,
            ..
        } = self
        else {
            return (0.0, 1.0);
        };
        let dimension =
            |turns: f64| head as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * base.ln());
        let low = dimension(fast).floor().max(0.0);
        let high = dimension(slow).ceil().min(head as f64 - 1.0);
        // Equal ends would divide by zero.
        (low, if low < high { high } else { low + 0.001 })
    }
}
