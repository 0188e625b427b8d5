//! Weights that the sessions of a process share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::adapter;
use super::decoder::Engine;
use super::device::{DeviceInfo, DeviceKind, open_device};
use super::encoder::EncoderModel;
use super::format::WeightFormat;
use super::model::CandleEngine;
use super::pooling::{self, Pooling};
use super::serve;
use super::session::LoadOptions;
use crate::architecture::Architecture;
use crate::cpu::CpuEngine;
use crate::error::{Error, Result};
use crate::tokens::Tokens;
use crate::weights::Weights;

/// A model without anything that belongs to one session.
pub(super) struct SharedModel {
    pub(super) architecture: Architecture,
    pub(super) tokens: Tokens,
    pub(super) pooling: Pooling,
    /// Tokens after which a text is cut before it is embedded.
    pub(super) longest_text: Option<usize>,
    pub(super) model: Model,
}

/// What computes.
pub(super) enum Model {
    Decoder(Arc<dyn Engine>),
    Encoder(Box<EncoderModel>),
}

/// What makes two loads the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Without links, so that two names of one bundle are the same.
    directory: PathBuf,
    /// As well.
    adapter: Option<PathBuf>,
    device: String,
    format: Option<WeightFormat>,
}

/// A model that is loaded, or not yet, or no more.
type Slot = Arc<Mutex<Weak<SharedModel>>>;

/// The models of this process. The lock is held to find a slot, and a slot's lock while its model is loaded, so
/// that two loads of one model are one, and loads of two models do not wait for each other.
static MODELS: Mutex<BTreeMap<Key, Slot>> = Mutex::new(BTreeMap::new());

/// The model of a bundle: the one that is loaded, or else a new one. Bundles do not change, so files are not looked
/// at again.
pub(super) fn load(directory: &Path, options: &LoadOptions) -> Result<Arc<SharedModel>> {
    let canonical = |path: &Path| path.canonicalize().map_err(Error::io("find", path));
    let directory = canonical(directory)?;
    let device = serve::choose_device(&directory, options)?;
    let key = Key {
        directory,
        adapter: options.adapter.as_deref().map(canonical).transpose()?,
        device: device.id,
        format: options.format,
    };
    let slot = {
        let mut models = MODELS.lock().unwrap_or_else(PoisonError::into_inner);
        models.retain(|_, slot| Arc::strong_count(slot) > 1 || !is_gone(slot));
        Arc::clone(models.entry(key.clone()).or_default())
    };
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(model) = slot.upgrade() {
        return Ok(model);
    }
    let model = Arc::new(SharedModel::load(&key, options)?);
    *slot = Arc::downgrade(&model);
    Ok(model)
}

fn is_gone(slot: &Slot) -> bool {
    slot.try_lock().is_ok_and(|model| model.strong_count() == 0)
}

impl SharedModel {
    fn load(key: &Key, options: &LoadOptions) -> Result<Self> {
        let directory = &key.directory;
        let architecture = Architecture::read(directory)?;
        let mut weights = Weights::open(directory)?;
        weights.check(&architecture)?;
        if let Some(directory) = &key.adapter {
            adapter::apply(&mut weights, &architecture, directory)?;
        }
        let tokens = Tokens::read(directory, architecture.vocabulary())?;
        let (info, device) = open_device(Some(&key.device))?;
        serve::check_memory(&architecture, &weights, &info, options)?;
        let device = (info, device);
        let model = match &architecture {
            Architecture::Encoder(encoder) => {
                let model = EncoderModel::load(encoder, &weights, device, key.format)?;
                Model::Encoder(Box::new(model))
            }
            // On the processor the plugin's own kernels are several times faster than Candle's.
            Architecture::Decoder(decoder)
                if device.0.kind == DeviceKind::Cpu && CpuEngine::serves(decoder) =>
            {
                let (info, threads) = (device.0, options.threads);
                let engine = CpuEngine::load(decoder, &weights, info, key.format, threads)?;
                Model::Decoder(Arc::new(engine))
            }
            Architecture::Decoder(decoder) => {
                let engine = CandleEngine::load(decoder, &weights, device, key.format)?;
                Model::Decoder(Arc::new(engine))
            }
        };
        Ok(Self {
            pooling: Pooling::read(directory)?,
            longest_text: pooling::longest_text(directory)?,
            architecture,
            tokens,
            model,
        })
    }

    pub(super) fn device(&self) -> &DeviceInfo {
        match &self.model {
            Model::Decoder(engine) => engine.device(),
            Model::Encoder(encoder) => encoder.device(),
        }
    }

    pub(super) fn format(&self) -> String {
        match &self.model {
            Model::Decoder(engine) => engine.format(),
            Model::Encoder(encoder) => encoder.format(),
        }
    }

    /// Bytes of the weights on the device.
    pub(super) fn bytes(&self) -> u64 {
        match &self.model {
            Model::Decoder(engine) => engine.bytes(),
            Model::Encoder(encoder) => encoder.bytes(),
        }
    }
}
