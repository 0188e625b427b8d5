//! What the op-log says of trainings.
//!
//! | kind | says |
//! |---|---|
//! | `training.started` | a training of this configuration began |
//! | `training.resumed` | another process goes on with it, after this step |
//! | `training.step` | a step of the optimizer was made |
//! | `training.evaluated` | the loss on the evaluation split after a step |
//! | `training.checkpoint` | it can go on from this bundle; see [`vox_model::record`] |
//! | `training.ended` | it is over |
//!
//! All ops of a training carry its id as their run.

use std::fmt;

use serde::{Deserialize, Serialize};
use vox_contract::PluginId;
use vox_crypto::Digest;
use vox_probe::Fingerprint;

use crate::backend::Training;

/// A training began.
pub const TRAINING_STARTED: &str = "training.started";
/// Another process goes on with a training.
pub const TRAINING_RESUMED: &str = "training.resumed";
/// A step was made.
pub const TRAINING_STEP: &str = "training.step";
/// The model was evaluated.
pub const TRAINING_EVALUATED: &str = "training.evaluated";
/// A training is over.
pub const TRAINING_ENDED: &str = "training.ended";

/// The payload of [`TRAINING_STARTED`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// The configuration as JSON.
    pub config: String,
    /// The dataset's hash in hexadecimal: the store does not have it.
    pub dataset: String,
    /// The bundle that is trained, by its `bundle_hash`; none for a new model or a plain directory.
    pub base: Option<Digest>,
    /// Steps in all.
    pub steps: u64,
    /// The backend's plugin, and its version.
    pub backend: String,
    /// What computes.
    pub machine: Machine,
    /// Version of Vox.
    pub version: String,
}

/// A plugin that trains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// The plugin.
    pub plugin: PluginId,
    /// Its version.
    pub version: String,
}

impl Backend {
    /// The plugin that a training is in.
    pub fn of(training: &Training) -> Self {
        Self {
            plugin: training.plugin().clone(),
            version: training.version(),
        }
    }

    /// What differs from `then`, as a phrase: another release may compute other bits. None where nothing does.
    pub fn difference(&self, then: &Self) -> Option<String> {
        if self == then {
            return None;
        }
        let then = if self.plugin == then.plugin {
            then.version.clone()
        } else {
            then.to_string()
        };
        Some(format!("{self} in place of {then}"))
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.plugin, self.version)
    }
}

/// What bit-exact continuation depends on besides the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The device: `cpu`, `cuda:0`.
    pub device: String,
    /// Its name.
    pub name: String,
    /// What the backend says that its results depend on, such as the level of SIMD.
    pub features: String,
    /// The processor, and the threads that compute on it.
    pub processor: Fingerprint,
}

impl Machine {
    /// What differs from `then`, a phrase each; empty where nothing does.
    pub fn differences(&self, then: &Self) -> Vec<String> {
        let mut found = self.processor.difference(&then.processor);
        let mut compare = |what: &str, now: &str, then: &str| {
            if now != then {
                found.push(format!("{what} {now} in place of {then}"));
            }
        };
        compare("the device", &self.device, &then.device);
        compare("a", &self.name, &then.name);
        compare("computing with", &self.features, &then.features);
        found
    }
}

/// The payload of [`TRAINING_RESUMED`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// Steps that are done.
    pub step: u64,
    /// What differs in backend and machine from before, in words.
    pub differences: Vec<String>,
}

/// The payload of [`TRAINING_STEP`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Counted from 1.
    pub step: u64,
    /// Mean loss over the step's targets, in nats a token.
    pub loss: f64,
    /// Number of targets.
    pub targets: u64,
    /// The learning rate.
    pub learning_rate: f64,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
}

/// The payload of [`TRAINING_EVALUATED`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Steps that are done.
    pub step: u64,
    /// Mean loss, in nats a token.
    pub loss: f64,
    /// Number of targets.
    pub targets: u64,
}

/// The payload of [`TRAINING_ENDED`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// `finished`, `interrupted` or `failed`.
    pub outcome: String,
    /// Steps that are done.
    pub step: u64,
}

#[cfg(test)]
mod tests {
    use vox_probe::{MockProbe, Probe as _};

    use super::*;

    #[test]
    fn another_device_another_name_and_other_features_are_differences() {
        let then = Machine {
            device: "cpu".to_owned(),
            name: "Mock CPU".to_owned(),
            features: "avx2".to_owned(),
            processor: Fingerprint::new(&MockProbe::cpu().probe(), 4),
        };
        assert!(then.differences(&then).is_empty());
        let now = Machine {
            device: "cuda:0".to_owned(),
            name: "Mock GPU".to_owned(),
            features: "avx512".to_owned(),
            processor: Fingerprint::new(&MockProbe::cpu().probe(), 2),
        };
        assert_eq!(
            now.differences(&then),
            [
                "2 threads in place of 4",
                "the device cuda:0 in place of cpu",
                "a Mock GPU in place of Mock CPU",
                "computing with avx512 in place of avx2",
            ]
        );
    }
}
