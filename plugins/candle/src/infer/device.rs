//! Where a model is computed, and how much memory there is.

use std::fmt;

use candle_core::Device;

use crate::error::{Error, Result};

#[cfg(not(all(feature = "cuda", feature = "metal")))]
mod absent;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "metal")]
mod metal;

#[cfg(not(feature = "cuda"))]
use absent as cuda;
#[cfg(not(feature = "metal"))]
use absent as metal;

/// A kind of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// A GPU through CUDA.
    Cuda,
    /// A GPU through Metal.
    Metal,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        })
    }
}

/// Something that a model can be on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// How a user names it: `cpu`, `cuda:0`, `metal:0`.
    pub id: String,
    /// Its kind.
    pub kind: DeviceKind,
    /// Its name as its maker has it.
    pub name: String,
    /// Bytes of memory in all; 0 where that is not known.
    pub memory: u64,
    /// Bytes of it that are free; 0 where that is not known.
    pub available: u64,
}

/// The devices that this build can use and this machine has, the best first.
pub fn devices() -> Vec<DeviceInfo> {
    let mut devices = cuda::devices();
    devices.extend(metal::devices());
    devices.push(processor());
    devices
}

/// Opens a device by its id; the best where there is none.
///
/// # Errors
///
/// [`Error::Device`] for one that this build cannot use or this machine does not have.
pub fn open_device(id: Option<&str>) -> Result<(DeviceInfo, Device)> {
    let mut all = devices();
    let at = match id {
        None => Some(0),
        Some(id) => all
            .iter()
            .position(|device| device.id == id || device.id.strip_suffix(":0") == Some(id)),
    };
    let Some(at) = at else {
        let known: Vec<&str> = all.iter().map(|device| device.id.as_str()).collect();
        return Err(Error::Device {
            device: id.unwrap_or_default().to_owned(),
            why: format!("there is only {}", known.join(", ")),
        });
    };
    let info = all.swap_remove(at);
    let number = info
        .id
        .rsplit(':')
        .next()
        .and_then(|number| number.parse().ok());
    let number = number.unwrap_or(0);
    let device = match info.kind {
        DeviceKind::Cpu => Ok(Device::Cpu),
        DeviceKind::Cuda => cuda::open(number),
        DeviceKind::Metal => metal::open(number),
    };
    let device = device.map_err(|error| Error::Device {
        device: info.id.clone(),
        why: error.to_string(),
    })?;
    Ok((info, device))
}

/// The processor, which is always there.
fn processor() -> DeviceInfo {
    let (memory, available) = main_memory().unwrap_or((0, 0));
    DeviceInfo {
        id: "cpu".to_owned(),
        kind: DeviceKind::Cpu,
        name: std::env::consts::ARCH.to_owned(),
        memory,
        available,
    }
}

/// Bytes of main memory, and those that are free.
#[cfg(target_os = "linux")]
fn main_memory() -> Option<(u64, u64)> {
    memory_of(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

#[cfg(not(target_os = "linux"))]
fn main_memory() -> Option<(u64, u64)> {
    None
}

/// Reads `MemTotal` and `MemAvailable` (proc_meminfo(5)).
#[cfg(any(target_os = "linux", test))]
fn memory_of(text: &str) -> Option<(u64, u64)> {
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        kibibytes.checked_mul(1024)
    };
    Some((bytes("MemTotal:")?, bytes("MemAvailable:")?))
}

/// Bytes of a device's memory that are free; 0 where that is not known.
pub(crate) fn available(device: &Device) -> u64 {
    let free = match device {
        Device::Cpu => main_memory().map(|(_, available)| available),
        Device::Cuda(_) => cuda::available(device),
        Device::Metal(_) => metal::available(device),
    };
    free.unwrap_or(0)
}

/// What the last bits of a GPU's results depend on, such as `cuda compute 9.0`; `None` for the processor.
pub(crate) fn generation(device: &Device) -> Option<String> {
    match device {
        Device::Cpu => None,
        Device::Cuda(_) => cuda::generation(device),
        Device::Metal(_) => metal::generation(device),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_always_there() {
        let (info, device) = open_device(Some("cpu")).unwrap();
        assert_eq!(info.kind, DeviceKind::Cpu);
        assert!(device.is_cpu());
        assert!(info.available <= info.memory);
    }

    #[test]
    fn a_device_that_is_not_there_is_named_beside_those_that_are() {
        let message = open_device(Some("cuda:77")).unwrap_err().to_string();
        assert!(
            message.contains("`cuda:77` cannot be used: there is only"),
            "{message}"
        );
        assert!(message.contains("cpu"), "{message}");
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:       16384 kB\nMemFree: 5 kB\nMemAvailable:   1024 kB\n";
        assert_eq!(memory_of(text), Some((16 << 20, 1 << 20)));
        assert_eq!(memory_of("MemTotal: x"), None);
    }
}
