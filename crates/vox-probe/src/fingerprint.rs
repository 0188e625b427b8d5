//! What a bit-exact continuation depends on.

use std::fmt::Display;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cpu::Level;
use crate::hardware::Hardware;

/// What must be equal for a computation on the CPU to give the same bits again.
///
/// Sums of floats depend on their order. Kernels choose it by instruction sets (how many lanes are
/// summed apart), by threads (where the work is cut) and, in matrix products, by the first two caches
/// (how long a block is). Functions such as `exp` come from the system.
///
/// It is written into a checkpoint and compared when one is resumed:
///
/// ```
/// use vox_probe::{Fingerprint, MockProbe, Probe};
///
/// let hardware = MockProbe::cpu().probe();
/// let then = Fingerprint::new(&hardware, 4);
/// let now = Fingerprint::new(&hardware, 2);
/// assert_eq!(now.difference(&then), ["2 threads in place of 4"]);
/// assert!(now.difference(&now).is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Fingerprint {
    /// The operating system.
    pub os: String,
    /// The architecture.
    pub arch: String,
    /// What kernels are chosen by.
    pub level: Level,
    /// The instruction sets, sorted.
    pub features: Vec<String>,
    /// The threads that compute together.
    pub threads: usize,
    /// The first level's cache for data, in bytes.
    pub l1_data: Option<u64>,
    /// The second level's cache, in bytes.
    pub l2: Option<u64>,
}

impl Fingerprint {
    /// Of this hardware, with so many threads that compute together.
    pub fn new(hardware: &Hardware, threads: usize) -> Self {
        Self {
            os: hardware.system.os.clone(),
            arch: hardware.system.arch.clone(),
            level: hardware.cpu.level,
            features: hardware.cpu.features.clone(),
            threads,
            l1_data: hardware.cpu.caches.l1_data,
            l2: hardware.cpu.caches.l2,
        }
    }

    /// What differs from `then`, a phrase each, as it is in place of what it was; empty where nothing
    /// does.
    pub fn difference(&self, then: &Self) -> Vec<String> {
        let mut phrases = Vec::new();
        let mut compare = |now: &dyn Display, then: &dyn Display, what: &str| {
            let (now, then) = (now.to_string(), then.to_string());
            if now != then {
                phrases.push(what.replace("{}", &now) + " in place of " + &then);
            }
        };
        let system = |of: &Self| format!("{} on {}", of.os, of.arch);
        compare(&system(self), &system(then), "{}");
        compare(&self.level, &then.level, "the CPU feature level {}");
        let unit = if self.threads == 1 {
            "{} thread"
        } else {
            "{} threads"
        };
        compare(&self.threads, &then.threads, unit);
        let caches = |of: &Self| (size(of.l1_data), size(of.l2));
        let (now, was) = (caches(self), caches(then));
        compare(&now.0, &was.0, "a first-level cache of {}");
        compare(&now.1, &was.1, "a second-level cache of {}");
        let gained = without(&self.features, &then.features);
        if !gained.is_empty() {
            phrases.push(format!("a CPU with {gained}, which it did not have"));
        }
        let lost = without(&then.features, &self.features);
        if !lost.is_empty() {
            phrases.push(format!("a CPU without {lost}, which it had"));
        }
        phrases
    }
}

/// What stands in `these` and not in `those`, with commas.
fn without(these: &[String], those: &[String]) -> String {
    let missing = these.iter().filter(|this| !those.contains(this));
    missing.cloned().collect::<Vec<_>>().join(", ")
}

/// The size of a cache.
fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(
        || "unknown size".to_owned(),
        |bytes| format!("{} KiB", bytes >> 10),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MockProbe, Probe};

    #[test]
    fn every_difference_is_said_and_nothing_else() {
        let then = Fingerprint::new(&MockProbe::cpu().probe(), 4);
        assert!(then.difference(&then).is_empty());
        let mut now = then.clone();
        now.os = "macos".to_owned();
        now.arch = "aarch64".to_owned();
        now.level = Level::NeonI8mm;
        now.threads = 1;
        now.l1_data = Some(64 << 10);
        now.l2 = None;
        now.features = vec!["f16c".to_owned(), "neon".to_owned()];
        assert_eq!(
            now.difference(&then),
            [
                "macos on aarch64 in place of linux on x86_64",
                "the CPU feature level neon-i8mm in place of avx2",
                "1 thread in place of 4",
                "a first-level cache of 64 KiB in place of 32 KiB",
                "a second-level cache of unknown size in place of 512 KiB",
                "a CPU with neon, which it did not have",
                "a CPU without avx2, fma, which it had",
            ]
        );
    }

    #[test]
    fn a_fingerprint_comes_back_out_of_json() {
        let fingerprint = Fingerprint::new(&MockProbe::cpu().probe(), 2);
        let json = serde_json::to_string(&fingerprint).unwrap();
        let back: Fingerprint = serde_json::from_str(&json).unwrap();
        assert_eq!(back, fingerprint);
        assert!(json.contains(r#""level":"avx2""#), "{json}");
    }
}
