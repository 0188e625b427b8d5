//! The backend and the device of a training.
//!
//! Training wants CUDA: with `auto` it is a CUDA device or none. Everything else has to be asked for.

use vox_contract::{ExtensionPoint, PluginId};
use vox_host::contract::compute::{Device, DeviceKind};
use vox_host::{CancelToken, Host};
use vox_probe::{DeviceKind as Kind, Hardware};

use super::TrainError;
use crate::backend::{BackendError, Training, plugins};
use crate::config::Device as Wanted;

/// A backend with the device that it is to use.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) backend: Training,
    pub(super) device: Device,
}

/// Starts the backends one after the other until one has the device.
pub(super) fn choose(
    host: &Host,
    wanted: Wanted,
    plugin: Option<&PluginId>,
    hardware: &Hardware,
    cancel: &CancelToken,
) -> Result<Chosen, TrainError> {
    let mut seen = Vec::new();
    let mut failed = None;
    let ids = match plugins(host, ExtensionPoint::MlBackend, plugin) {
        // Without a CUDA device nobody needs to hear that a plugin for it is missing.
        Err(BackendError::Missing(_)) if wanted == Wanted::Auto && plugin.is_none() => {
            return Err(TrainError::cuda_required(hardware));
        }
        ids => ids?,
    };
    for id in ids {
        let asked = Training::start(host, &id, None, cancel.clone())
            .and_then(|mut backend| backend.devices().map(|devices| (backend, devices)));
        let (backend, devices) = match asked {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, "a backend cannot be used");
                failed.get_or_insert(error);
                continue;
            }
        };
        if let Some(device) = devices.iter().find(|device| fits(device, wanted)) {
            let device = device.clone();
            return Ok(Chosen { backend, device });
        }
        seen.extend(devices.into_iter().map(|device| device.id));
    }
    match (wanted, failed) {
        // Where there is a CUDA device, what keeps its backend from starting is what matters.
        (Wanted::Auto, failed) if failed.is_none() || !hardware.has(Kind::Cuda) => {
            Err(TrainError::cuda_required(hardware))
        }
        (_, Some(error)) => Err(error.into()),
        (wanted, None) => Err(TrainError::NoDevice {
            wanted: wanted.to_string(),
            found: seen.join(", "),
        }),
    }
}

fn fits(device: &Device, wanted: Wanted) -> bool {
    match wanted {
        Wanted::Auto => device.kind == DeviceKind::Cuda,
        Wanted::Cpu => device.kind == DeviceKind::Cpu,
        Wanted::Metal => device.kind == DeviceKind::Metal,
        Wanted::Cuda(number) => device.id == format!("cuda:{number}"),
    }
}
