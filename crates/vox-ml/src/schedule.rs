//! The learning rate of each step.
//!
//! It is a pure function of the step, so that a training which resumes needs no state of it. Steps
//! are counted from 1 here, as optimizers count them for their bias correction: the rate of step `k`
//! is that of the update after which `k` are done. What holds exactly, without rounding:
//!
//! - step `warm-up` has the peak, and so has step 1 without a warm-up;
//! - the last step of a linear or cosine schedule has the minimum, as have steps after it;
//! - each step of a constant schedule after the warm-up has the peak.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// It does not.
    Constant,
    /// In a straight line.
    Linear,
    /// As half a wave of the cosine (I. Loshchilov and F. Hutter, "SGDR", 2017, without restarts).
    #[default]
    Cosine,
}

impl Decay {
    /// As it stands in configurations and checkpoints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Linear => "linear",
            Self::Cosine => "cosine",
        }
    }
}

/// The learning rate of each step of a training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// How the rate falls.
    pub decay: Decay,
    /// The highest rate.
    pub peak: f64,
    /// The rate of the last step; of no effect where the rate is constant.
    pub minimum: f64,
    /// Steps over which the rate rises in a straight line; at most all.
    pub warmup: u64,
    /// All steps.
    pub total: u64,
}

impl Schedule {
    /// The learning rate of step `step`, counted from 1; step 0 counts as the first.
    pub fn rate(&self, step: u64) -> f64 {
        let step = step.max(1);
        // Without a warm-up, the first step is the end of one.
        let warmup = self.warmup.max(1);
        if step <= warmup {
            return if step == warmup {
                self.peak
            } else {
                self.peak * (step as f64 / warmup as f64)
            };
        }
        let done = match self.decay {
            Decay::Constant => return self.peak,
            _ if step >= self.total => return self.minimum,
            _ => (step - warmup) as f64 / (self.total - warmup) as f64,
        };
        let left = match self.decay {
            Decay::Cosine => 0.5 * (1.0 + (PI * done).cos()),
            Decay::Linear | Decay::Constant => 1.0 - done,
        };
        self.minimum + (self.peak - self.minimum) * left
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(decay: Decay, warmup: u64, total: u64) -> Schedule {
        Schedule {
            decay,
            peak: 3e-4,
            minimum: 1e-5,
            warmup,
            total,
        }
    }

    #[test]
    fn the_warm_up_rises_in_a_straight_line_to_the_peak() {
        let schedule = schedule(Decay::Cosine, 4, 100);
        let rates = [1, 2, 3, 4].map(|step| schedule.rate(step));
        assert_eq!(rates, [0.75e-4, 1.5e-4, 2.25e-4, 3e-4]);
        assert!(schedule.rate(5) < 3e-4);
    }

    #[test]
    fn the_middle_of_a_decay_is_half_way() {
        for decay in [Decay::Linear, Decay::Cosine] {
            let middle = schedule(decay, 1, 101).rate(51);
            assert!((middle - 1.55e-4).abs() < 1e-12, "{decay:?}: {middle}");
        }
    }

    #[test]
    fn a_quarter_of_a_cosine_is_higher_than_of_a_line() {
        let cosine = schedule(Decay::Cosine, 1, 101).rate(26);
        let expected = 1e-5 + 2.9e-4 * 0.5 * (1.0 + (PI / 4.0).cos());
        assert!((cosine - expected).abs() < 1e-15, "{cosine}");
        assert!(cosine > schedule(Decay::Linear, 1, 101).rate(26));
    }

    proptest! {
        #[test]
        fn bounds_are_exact_and_nothing_lies_outside_of_them(
            warmup in 0_u64..50,
            more in 0_u64..200,
            step in 0_u64..400,
            decay in prop_oneof![Just(Decay::Constant), Just(Decay::Linear), Just(Decay::Cosine)],
        ) {
            let schedule = schedule(decay, warmup, warmup.max(1) + more);
            prop_assert_eq!(schedule.rate(warmup.max(1)), schedule.peak);
            let last = if decay == Decay::Constant || more == 0 {
                schedule.peak
            } else {
                schedule.minimum
            };
            prop_assert_eq!(schedule.rate(schedule.total), last);
            let rate = schedule.rate(step);
            prop_assert!(rate > 0.0 && rate <= schedule.peak);
            if step > warmup.max(1) {
                prop_assert!(rate <= schedule.rate(step - 1));
                prop_assert!(rate >= schedule.minimum);
            }
        }
    }
}
