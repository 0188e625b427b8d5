//! Tiers: the number by which a dispatcher orders devices, 0 to 100.
//!
//! | tier | device |
//! |---|---|
//! | 0 | cannot be used |
//! | 1–30 | a CPU, by instruction sets and cores |
//! | 31–60 | Metal, by memory |
//! | 31–100 | CUDA, by memory and compute capability |
//!
//! A tier orders devices that a model fits on; it says nothing of whether it does, nor how many times
//! faster one is. Memory weighs most, as whoever has it also has the bandwidth that generation lives of.

use crate::cpu::Level;
use crate::hardware::Version;

const GIB: f64 = (1_u64 << 30) as f64;

/// Turing: CUDA 13, which Vox's CUDA backend is built with, compiles for nothing older (CUDA 13.0 release
/// notes, "Deprecated Architectures"). What a build of the backend runs on can be less; it says so itself.
pub const LEAST_CAPABILITY: Version = Version { major: 7, minor: 5 };

/// `level + 2·log2(cores)`, at most 30, where `level` is 2 without vector instructions, 6 for NEON, 8 for
/// AVX2 and NEON with dot products, 10 for NEON with matrix products, 12 for AVX-512 and 14 for AVX-512
/// with VNNI.
pub fn cpu(level: Level, physical_cores: usize) -> u8 {
    let level = match level {
        Level::Baseline => 2.0,
        Level::Neon => 6.0,
        Level::Avx2 | Level::NeonDotprod => 8.0,
        Level::NeonI8mm => 10.0,
        Level::Avx512 => 12.0,
        Level::Avx512Vnni => 14.0,
    };
    let cores = physical_cores.max(1) as f64;
    bounded(level + 2.0 * cores.log2(), 1.0, 30.0)
}

/// `35 + 5·log2(GiB / 4)`, from 31 to 60, by the memory that the device can work in.
pub fn metal(memory: u64) -> u8 {
    bounded(35.0 + 5.0 * (memory as f64 / GIB / 4.0).log2(), 31.0, 60.0)
}

/// `40 + 6·log2(GiB / 2) + 2·(capability − 5)`, from 31 to 100, by the device's whole memory; 0 below
/// [`LEAST_CAPABILITY`].
///
/// An H200 has 84, an A100 with 80 GB 77, an RTX 4090 69, a T4 62.
pub fn cuda(memory: u64, capability: Version) -> u8 {
    if capability < LEAST_CAPABILITY {
        return 0;
    }
    let generation = f64::from(capability.major) + f64::from(capability.minor) / 10.0 - 5.0;
    let size = (memory as f64 / GIB / 2.0).log2();
    bounded(40.0 + 6.0 * size + 2.0 * generation, 31.0, 100.0)
}

/// Rounded down; what is no number (no memory at all) counts as the least.
fn bounded(tier: f64, least: f64, most: f64) -> u8 {
    tier.max(least).min(most) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(gib: u64, major: u32, minor: u32) -> u8 {
        cuda(gib << 30, Version { major, minor })
    }

    #[test]
    fn devices_are_ordered_as_people_would_order_them() {
        let b200 = gpu(180, 10, 0);
        let h200 = gpu(140, 9, 0);
        let a100 = gpu(80, 8, 0);
        let rtx_4090 = gpu(24, 8, 9);
        let t4 = gpu(15, 7, 5);
        let m3_max = metal(48 << 30);
        let server = cpu(Level::Avx512Vnni, 64);
        let laptop = cpu(Level::Avx2, 4);
        let order = [b200, h200, a100, rtx_4090, t4, m3_max, server, laptop];
        assert!(order.is_sorted_by(|one, other| one > other), "{order:?}");
        assert_eq!(order, [88, 84, 77, 69, 62, 52, 26, 12]);
    }

    #[test]
    fn a_device_that_is_too_old_has_no_tier() {
        assert_eq!(gpu(24, 3, 7), 0);
        assert_eq!(gpu(32, 7, 0), 0);
        assert!(gpu(1, 7, 5) > cpu(Level::Avx512Vnni, 4096));
    }

    #[test]
    fn no_input_leaves_the_range() {
        for memory in [0, 1, 1 << 30, u64::MAX] {
            assert!((31..=60).contains(&metal(memory)));
            for major in [8, 12, 4_000_000_000] {
                assert!((31..=100).contains(&cuda(memory, Version { major, minor: 0 })));
            }
        }
        for cores in [0, 1, usize::MAX] {
            assert!((1..=30).contains(&cpu(Level::Baseline, cores)));
            assert!((1..=30).contains(&cpu(Level::Avx512Vnni, cores)));
        }
    }
}
