//! Whether a bundle can be served, and what that takes.

use std::path::Path;

use super::adapter;
use super::device::{DeviceInfo, DeviceKind, devices, open_device};
use super::format::WeightFormat;
use super::session::LoadOptions;
use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::tokens::Tokens;
use crate::weights::{Element, Weights};

/// Tokens of the context that memory is foreseen for where no context is asked for: keys and values grow with a
/// sequence, and few are as long as a model allows.
const USUAL_CONTEXT: usize = 4096;

/// Whether a bundle can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it can.
    pub serves: bool,
    /// Why, or why not, for people.
    pub reason: String,
    /// The device that it would be on.
    pub device: Option<DeviceInfo>,
    /// Bytes of that device's memory that it would need: weights, and keys and values of the context that is
    /// asked for, else of 4096 tokens.
    pub memory: u64,
}

/// Looks at a bundle without loading it: files, architecture, shapes of all tensors, tokenizer, memory.
pub fn can_serve(directory: &Path, options: &LoadOptions) -> Verdict {
    look(directory, options).unwrap_or_else(|error| Verdict {
        serves: false,
        reason: error.to_string(),
        device: None,
        memory: 0,
    })
}

fn look(directory: &Path, options: &LoadOptions) -> Result<Verdict> {
    let architecture = Architecture::read(directory)?;
    let mut weights = Weights::open(directory)?;
    weights.check(&architecture)?;
    if let Some(directory) = &options.adapter {
        adapter::apply(&mut weights, &architecture, directory)?;
    }
    Tokens::read(directory, architecture.vocabulary())?;
    let device = best_device(&architecture, &weights, options)?;
    let memory = needed(&architecture, &weights, &device, options);
    let (serves, reason) = match fits(&device, memory) {
        true => (
            true,
            format!(
                "{} with {} parameters fits on {}",
                architecture.family().name(),
                architecture.parameters(),
                device.id
            ),
        ),
        false => (
            false,
            format!(
                "it needs {memory} bytes, and {} has {} available",
                device.id, device.available
            ),
        ),
    };
    Ok(Verdict {
        serves,
        reason,
        device: Some(device),
        memory,
    })
}

/// The device that is asked for, else the best that the model fits on.
pub(super) fn choose_device(directory: &Path, options: &LoadOptions) -> Result<DeviceInfo> {
    if let Some(id) = &options.device {
        return Ok(open_device(Some(id))?.0);
    }
    let mut all = devices();
    if all.len() == 1 {
        return Ok(all.remove(0));
    }
    let architecture = Architecture::read(directory)?;
    best_device(&architecture, &Weights::open(directory)?, options)
}

fn best_device(
    architecture: &Architecture,
    weights: &Weights,
    options: &LoadOptions,
) -> Result<DeviceInfo> {
    if let Some(id) = &options.device {
        return Ok(open_device(Some(id))?.0);
    }
    let mut all = devices();
    let found = all
        .iter()
        .position(|device| fits(device, needed(architecture, weights, device, options)));
    // Where it fits nowhere, the last one says so: the processor.
    Ok(all.swap_remove(found.unwrap_or(all.len() - 1)))
}

/// Refuses a model that does not fit.
pub(super) fn check_memory(
    architecture: &Architecture,
    weights: &Weights,
    device: &DeviceInfo,
    options: &LoadOptions,
) -> Result<()> {
    let needed = needed(architecture, weights, device, options);
    if fits(device, needed) {
        return Ok(());
    }
    Err(Error::Memory {
        what: format!(
            "the model in {} on {}",
            weights.directory().display(),
            device.id
        ),
        needed,
        available: device.available,
    })
}

fn fits(device: &DeviceInfo, needed: u64) -> bool {
    device.available == 0 || needed <= device.available
}

/// Bytes that a model needs on a device.
fn needed(
    architecture: &Architecture,
    weights: &Weights,
    device: &DeviceInfo,
    options: &LoadOptions,
) -> u64 {
    let held = match options.format {
        Some(format) => format.bytes(architecture),
        None => own_bytes(architecture, weights, device),
    };
    let context = options
        .context
        .unwrap_or(USUAL_CONTEXT)
        .min(architecture.context());
    let cache = match architecture {
        Architecture::Encoder(_) => 0,
        Architecture::Decoder(decoder) => {
            let plain = options.format.map(WeightFormat::plain);
            let is_half = match plain {
                Some(dtype) => dtype.is_some_and(|dtype| dtype.size_in_bytes() == 2),
                None => device.kind != DeviceKind::Cpu,
            };
            decoder.cache_bytes(if is_half { 2 } else { 4 }) * context as u64
        }
    };
    held + cache
}

/// Bytes of the weights in the bundle's own format.
fn own_bytes(architecture: &Architecture, weights: &Weights, device: &DeviceInfo) -> u64 {
    let bytes = architecture.tensors().into_iter().map(|tensor| {
        let stored = weights.info(&tensor.name).map(|info| info.element);
        match stored {
            Ok(Element::Blocks(kind)) => {
                tensor.elements() / kind.block_size() as u64 * kind.type_size() as u64
            }
            Ok(Element::Plain(dtype)) if device.kind != DeviceKind::Cpu => {
                tensor.elements() * dtype.size_in_bytes().min(4) as u64
            }
            _ => tensor.elements() * 4,
        }
    });
    bytes.sum()
}
