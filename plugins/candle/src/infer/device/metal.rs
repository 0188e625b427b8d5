//! GPUs through Metal, whose memory is the processor's.

use candle_core::{Device, Result};

use super::{DeviceInfo, DeviceKind};

/// The system's own GPU, where there is one.
pub(super) fn devices() -> Vec<DeviceInfo> {
    let Ok(device) = open(0) else {
        return Vec::new();
    };
    vec![DeviceInfo {
        id: "metal:0".to_owned(),
        kind: DeviceKind::Metal,
        name: name(&device).unwrap_or_default(),
        memory: most(&device).unwrap_or(0),
        available: available(&device).unwrap_or(0),
    }]
}

pub(super) fn open(number: usize) -> Result<Device> {
    Device::new_metal(number)
}

/// Bytes of what the system lets the GPU have that this process does not hold yet.
pub(super) fn available(device: &Device) -> Option<u64> {
    let held = device
        .as_metal_device()
        .ok()?
        .metal_device()
        .current_allocated_size();
    Some(most(device)?.saturating_sub(held as u64))
}

/// The GPU's family, by which the framework chooses kernels.
pub(super) fn generation(device: &Device) -> Option<String> {
    Some(format!("metal {}", name(device)?))
}

fn name(device: &Device) -> Option<String> {
    let device = device.as_metal_device().ok()?;
    Some(device.metal_device().architecture_name())
}

/// Bytes that the system lets the GPU have without a loss of speed.
fn most(device: &Device) -> Option<u64> {
    let device = device.as_metal_device().ok()?;
    Some(device.metal_device().recommended_max_working_set_size() as u64)
}
