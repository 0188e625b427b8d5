//! What this machine has for steps to share.
//!
//! What differs between systems is in this module alone.

use std::thread;

/// What the steps that run at once share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Machine {
    /// Processors.
    pub cpus: u32,
    /// Bytes of memory: what there is, or the least that a control group of this process allows.
    pub memory: u64,
    /// Graphics processors. At least one, so that steps which ask for it do not meet even where
    /// none can be seen.
    pub gpus: u32,
}

impl Machine {
    /// What is here.
    pub fn detect() -> Self {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        Self {
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            memory: memory(),
            gpus: graphics_processors().max(1),
        }
    }

    /// The same with another number of processors.
    pub fn with_cpus(self, cpus: u32) -> Self {
        Self { cpus, ..self }
    }

    /// The same with another number of graphics processors.
    pub fn with_gpus(self, gpus: u32) -> Self {
        Self { gpus, ..self }
    }
}

/// The memory of the machine, or what the system allows this process of it.
#[cfg(target_os = "linux")]
fn memory() -> u64 {
    let memory = vox_probe::SystemProbe::memory();
    memory.most().unwrap_or(u64::MAX)
}

#[cfg(not(target_os = "linux"))]
fn memory() -> u64 {
    u64::MAX
}

/// NVIDIA's devices, which the driver numbers. Others are not counted yet.
#[cfg(target_os = "linux")]
fn graphics_processors() -> u32 {
    let Ok(devices) = std::fs::read_dir("/dev") else {
        return 0;
    };
    let is_device = |name: &str| {
        name.strip_prefix("nvidia")
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    let count = devices
        .flatten()
        .filter(|device| device.file_name().to_str().is_some_and(is_device))
        .count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(not(target_os = "linux"))]
fn graphics_processors() -> u32 {
    0
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use vox_probe::{Probe as _, SystemProbe};

    use super::*;

    #[test]
    fn steps_share_what_the_control_groups_allow_and_no_more() {
        let Machine { memory, .. } = Machine::detect();
        let probed = SystemProbe::new().probe().memory;
        assert_eq!(Some(memory), probed.most());
        assert!(probed.total.is_some_and(|total| memory <= total));
        assert!(probed.limit.is_none_or(|limit| memory <= limit));
    }
}
