//! The backend and the device of a training.
//!
//! Training wants CUDA: with `auto` it is a CUDA device or none. Everything else has to be asked for.
//!
//! Of several backends that have the device, the first by its id that can do the training is taken. A training that
//! goes on stays with the backend that it has, unless that is gone or does not have the device.

use std::collections::VecDeque;
use std::mem;

use vox_contract::{ExtensionPoint, PluginId};
use vox_host::contract::compute::{Device, DeviceKind};
use vox_probe::DeviceKind as Kind;

use super::TrainError;
use super::prepare::Surroundings;
use crate::backend::{BackendError, Refusals, Training, plugins};
use crate::config::Device as Wanted;

/// A backend with the device that it is to use.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) backend: Training,
    pub(super) device: Device,
}

/// The backends that can be chosen from.
#[derive(Debug)]
pub(super) struct Backends<'a> {
    around: &'a Surroundings<'a>,
    wanted: Wanted,
    /// Those that were not asked yet, in their order.
    left: VecDeque<PluginId>,
    /// The one that the training has already. Where it fails, no other takes its place unasked.
    kept: Option<PluginId>,
    /// Devices that there are in place of the one that is wanted.
    seen: Vec<String>,
    /// Whether a backend has that one.
    has_device: bool,
    refusals: Refusals,
}

impl<'a> Backends<'a> {
    /// Those that are installed. `before` is the one that a training has which goes on.
    pub(super) fn of(
        around: &'a Surroundings<'a>,
        wanted: Wanted,
        before: Option<&PluginId>,
    ) -> Result<Self, TrainError> {
        let asked_for = around.backend.as_ref();
        let mut ids = match plugins(around.host, ExtensionPoint::MlBackend, asked_for) {
            // Without a CUDA device nobody needs to hear that a plugin for it is missing.
            Err(BackendError::Missing(_)) if wanted == Wanted::Auto && asked_for.is_none() => {
                return Err(TrainError::cuda_required(around.hardware));
            }
            ids => ids?,
        };
        let kept = before.filter(|_| asked_for.is_none());
        let kept = kept.filter(|kept| ids.contains(kept)).cloned();
        ids.sort_by_key(|id| Some(id) != kept.as_ref());
        Ok(Self {
            around,
            wanted,
            left: ids.into(),
            kept,
            seen: Vec::new(),
            has_device: false,
            refusals: Refusals::default(),
        })
    }

    /// Starts those that are left one after the other until one has the device.
    pub(super) fn with_device(&mut self) -> Result<Chosen, TrainError> {
        while let Some(id) = self.left.pop_front() {
            let cancel = self.around.cancel.clone();
            let asked = Training::start(self.around.host, &id, None, cancel)
                .and_then(|mut backend| backend.devices().map(|devices| (backend, devices)));
            let (backend, devices) = match asked {
                Ok(answer) => answer,
                Err(error) => {
                    self.pass_over(&id, error)?;
                    continue;
                }
            };
            if let Some(device) = devices.iter().find(|device| fits(device, self.wanted)) {
                self.has_device = true;
                let device = device.clone();
                return Ok(Chosen { backend, device });
            }
            self.seen
                .extend(devices.into_iter().map(|device| device.id));
        }
        Err(self.none())
    }

    /// From `chosen` on the first with the device of which `ask` learns that it can do the training, and what it
    /// learnt.
    pub(super) fn that_can<T>(
        mut self,
        mut chosen: Chosen,
        mut ask: impl FnMut(&mut Chosen) -> Result<T, TrainError>,
    ) -> Result<(Chosen, T), TrainError> {
        loop {
            match ask(&mut chosen) {
                Ok(learnt) => return Ok((chosen, learnt)),
                Err(TrainError::Backend(error)) => {
                    let id = chosen.backend.plugin().clone();
                    self.pass_over(&id, error)?;
                }
                Err(error) => return Err(error),
            }
            chosen = self.with_device()?;
        }
    }

    /// Takes why a backend is not the one, so that the next is asked.
    fn pass_over(&mut self, id: &PluginId, error: BackendError) -> Result<(), TrainError> {
        if self.kept.as_ref() == Some(id) {
            return Err(error.into());
        }
        tracing::info!(plugin = %id, %error, "a backend is passed over");
        self.refusals.take(error)?;
        Ok(())
    }

    /// Why there is none.
    fn none(&mut self) -> TrainError {
        let hardware = self.around.hardware;
        let refusals = mem::take(&mut self.refusals);
        // Where there is a CUDA device, what keeps its backend from starting is what matters.
        let matters = self.has_device || hardware.has(Kind::Cuda);
        if self.wanted == Wanted::Auto && (refusals.is_empty() || !matters) {
            TrainError::cuda_required(hardware)
        } else if refusals.is_empty() {
            TrainError::NoDevice {
                wanted: self.wanted.to_string(),
                found: self.seen.join(", "),
            }
        } else {
            refusals.into_error("do this training").into()
        }
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
