//! GPUs through CUDA.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::CudaContext;
use candle_core::{Device, Result};

use super::{DeviceInfo, DeviceKind};

/// Those that the driver shows.
pub(super) fn devices() -> Vec<DeviceInfo> {
    let count = CudaContext::device_count().unwrap_or(0);
    let info = |number: usize| {
        let context = CudaContext::new(number).ok()?;
        let (available, memory) = context.mem_get_info().ok()?;
        Some(DeviceInfo {
            id: format!("cuda:{number}"),
            kind: DeviceKind::Cuda,
            name: context.name().unwrap_or_default(),
            memory: memory as u64,
            available: available as u64,
        })
    };
    (0..usize::try_from(count).unwrap_or(0))
        .filter_map(info)
        .collect()
}

/// The devices that were opened, by their number. Each is opened once: its handles and scratch space are never given
/// back. The lock is held while one is opened, and nothing else is called under it.
static OPENED: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());

/// A device with one stream of its own, which all models on it share.
///
/// The framework's usual stream is another one in every thread, and nothing orders what two threads of a pool put
/// into theirs: an optimizer could read gradients that are not there yet.
pub(super) fn open(number: usize) -> Result<Device> {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = opened.get(&number) {
        return Ok(device.clone());
    }
    let device = Device::new_cuda_with_stream(number)?;
    // SAFETY: events order the streams of a context object. This one was made with the device and has one stream,
    // in which everything happens in the order of the calls.
    unsafe { device.as_cuda_device()?.disable_event_tracking() };
    opened.insert(number, device.clone());
    Ok(device)
}

/// Bytes that are free.
pub(super) fn available(device: &Device) -> Option<u64> {
    let stream = device.as_cuda_device().ok()?.cuda_stream();
    let (free, _) = stream.context().mem_get_info().ok()?;
    Some(free as u64)
}

/// The compute capability, by which the driver and cuBLAS choose kernels.
pub(super) fn generation(device: &Device) -> Option<String> {
    let stream = device.as_cuda_device().ok()?.cuda_stream();
    let (major, minor) = stream.context().compute_capability().ok()?;
    Some(format!("cuda compute {major}.{minor}"))
}
