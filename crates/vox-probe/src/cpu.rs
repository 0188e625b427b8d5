//! Which instructions this CPU has, and what they come to.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a kernel is chosen by: the most of these that a CPU has.
///
/// Of one architecture, a later level includes the earlier ones.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Level {
    /// No vector instructions that Vox's kernels use.
    Baseline,
    /// AVX2 with FMA and F16C: vectors of 32 bytes.
    Avx2,
    /// AVX-512 F, BW, CD, DQ and VL: vectors of 64 bytes.
    Avx512,
    /// Those with VNNI: products of bytes, summed in 32 bits.
    Avx512Vnni,
    /// NEON: vectors of 16 bytes.
    Neon,
    /// NEON with dot products of bytes.
    NeonDotprod,
    /// Those with matrix products of bytes.
    NeonI8mm,
}

impl Level {
    /// The word that it has in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Neon => "neon",
            Self::NeonDotprod => "neon-dotprod",
            Self::NeonI8mm => "neon-i8mm",
        }
    }

    /// What the instruction sets come to.
    pub fn of<S: AsRef<str>>(features: &[S]) -> Self {
        let has = |needed: &[&str]| {
            let known = |need: &&str| features.iter().any(|feature| feature.as_ref() == *need);
            needed.iter().all(known)
        };
        let avx2 = has(&["avx2", "fma", "f16c"]);
        let avx512 = avx2 && has(&["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]);
        let neon = has(&["neon"]);
        let dotprod = neon && has(&["dotprod"]);
        match () {
            () if avx512 && has(&["avx512vnni"]) => Self::Avx512Vnni,
            () if avx512 => Self::Avx512,
            () if avx2 => Self::Avx2,
            () if dotprod && has(&["i8mm"]) => Self::NeonI8mm,
            () if dotprod => Self::NeonDotprod,
            () if neon => Self::Neon,
            () => Self::Baseline,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The instruction sets of this CPU that kernels may use, sorted. The system's leave is considered: a
/// CPU with AVX-512 whose registers the system does not save has none.
pub(crate) fn features() -> Vec<String> {
    let mut features: Vec<String> = detected().into_iter().map(str::to_owned).collect();
    features.sort();
    features
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn detected() -> Vec<&'static str> {
    macro_rules! detect {
        ($($feature:tt)*) => {{
            let mut features = Vec::new();
            $(if std::arch::is_x86_feature_detected!($feature) {
                features.push($feature);
            })*
            features
        }};
    }
    detect!(
        "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "bmi1" "bmi2" "avx" "avx2" "fma" "f16c" "avxvnni"
        "avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl" "avx512vnni" "avx512bf16"
        "avx512fp16" "avx512vbmi"
    )
}

#[cfg(target_arch = "aarch64")]
fn detected() -> Vec<&'static str> {
    macro_rules! detect {
        ($($feature:tt)*) => {{
            let mut features = Vec::new();
            $(if std::arch::is_aarch64_feature_detected!($feature) {
                features.push($feature);
            })*
            features
        }};
    }
    detect!("neon" "dotprod" "i8mm" "bf16" "fp16" "fhm" "sve" "sve2")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
fn detected() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_needs_all_of_its_instruction_sets() {
        let mut features = vec!["avx2", "fma"];
        assert_eq!(Level::of(&features), Level::Baseline);
        features.push("f16c");
        assert_eq!(Level::of(&features), Level::Avx2);
        features.extend(["avx512f", "avx512vnni", "avx512bw", "avx512cd", "avx512dq"]);
        assert_eq!(Level::of(&features), Level::Avx2);
        features.push("avx512vl");
        assert_eq!(Level::of(&features), Level::Avx512Vnni);
        assert_eq!(Level::of(&["neon", "i8mm"]), Level::Neon);
        assert_eq!(Level::of(&["neon", "i8mm", "dotprod"]), Level::NeonI8mm);
    }

    #[test]
    fn a_level_is_called_the_same_in_json_and_in_messages() {
        let all = [
            Level::Baseline,
            Level::Avx2,
            Level::Avx512,
            Level::Avx512Vnni,
            Level::Neon,
            Level::NeonDotprod,
            Level::NeonI8mm,
        ];
        for level in all {
            let json = serde_json::to_string(&level).unwrap();
            assert_eq!(json, format!("\"{level}\""));
        }
    }

    #[test]
    fn the_features_of_this_machine_are_sorted_and_without_amx() {
        let features = features();
        assert!(features.is_sorted());
        assert!(features.iter().all(|feature| !feature.contains("amx")));
        if cfg!(target_arch = "aarch64") {
            assert!(features.contains(&"neon".to_owned()));
        }
    }
}
