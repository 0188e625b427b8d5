//! A training in a plugin.

use std::path::Path;
use std::sync::Arc;

use vox_contract::{Carrier, PluginId};
use vox_host::contract::compute::Device;
use vox_host::contract::ml_backend::{self as contract, MlBackend};
use vox_host::{CallError, CancelToken, Host, Instance, InstanceOptions, Reduction};

use super::BackendError;

/// An instance of a plugin that serves `ml-backend`: one training.
#[derive(Debug)]
pub struct Training {
    plugin: PluginId,
    instance: Instance,
}

/// The tokens of a batch as a backend takes them, row by row.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Where it stands, and its size.
    pub batch: contract::Batch,
    /// What is read.
    pub tokens: &'a [u32],
    /// What is to be foretold, -1 for nothing.
    pub targets: &'a [i32],
    /// Which document of its row each belongs to.
    pub segments: &'a [u32],
}

impl Training {
    /// Starts a backend.
    ///
    /// # Errors
    ///
    /// The plugin cannot be started.
    pub fn start(
        host: &Host,
        plugin: &PluginId,
        reduction: Option<Arc<dyn Reduction>>,
        cancel: CancelToken,
    ) -> Result<Self, BackendError> {
        let mut options = InstanceOptions::default();
        options.carrier = Some(Carrier::Native);
        options.stays = true;
        options.cancel = cancel;
        if let Some(reduction) = reduction {
            options.reduction = reduction;
        }
        let instance = host
            .instance(plugin, options)
            .map_err(|source| BackendError::Start {
                plugin: plugin.clone(),
                source: Box::new(source),
            })?;
        Ok(Self {
            plugin: plugin.clone(),
            instance,
        })
    }

    /// The plugin.
    pub fn plugin(&self) -> &PluginId {
        &self.plugin
    }

    /// Version of the plugin.
    pub fn version(&self) -> String {
        self.instance.version().to_string()
    }

    /// As `ml-backend.devices`.
    ///
    /// # Errors
    ///
    /// What the plugin answers; so for all others.
    pub fn devices(&mut self) -> Result<Vec<Device>, BackendError> {
        self.call(|backend| backend.devices())
    }

    /// As `ml-backend.estimate`.
    ///
    /// # Errors
    ///
    /// As [`Training::devices`].
    pub fn estimate(
        &mut self,
        bundle: &Path,
        spec: &contract::Spec,
        rows: u32,
        columns: u32,
    ) -> Result<contract::Memory, BackendError> {
        self.call(|backend| backend.estimate(&text(bundle), spec, rows, columns))
    }

    /// As `ml-backend.encode`.
    ///
    /// # Errors
    ///
    /// As [`Training::devices`].
    pub fn encode(
        &mut self,
        bundle: &Path,
        input: &str,
        special: bool,
    ) -> Result<Vec<u32>, BackendError> {
        self.call(|backend| backend.encode(&text(bundle), input, special))
    }

    /// As `ml-backend.load`.
    ///
    /// # Errors
    ///
    /// As [`Training::devices`].
    pub fn load(
        &mut self,
        bundle: &Path,
        spec: &contract::Spec,
    ) -> Result<contract::Model, BackendError> {
        self.call(|backend| backend.load(&text(bundle), spec))
    }

    /// As `ml-backend.trainable`.
    ///
    /// # Errors
    ///
    /// As [`Training::devices`].
    pub fn trainable(&mut self) -> Result<Vec<contract::Tensor>, BackendError> {
        self.call(|backend| backend.trainable())
    }

    /// As `ml-backend.forward-backward`.
    ///
    /// # Errors
    ///
    /// As [`Training::devices`].
    pub fn forward_backward(
        &mut self,
        rows: Rows<'_>,
    ) -> Result<contract::Statistics, BackendError> {
        self.call(|backend| {
            backend.forward_backward(rows.batch, rows.tokens, rows.targets, rows.segments)
        })
    }

    /// As `ml-backend.gradients`.
    ///
    /// # Errors
    ///
    /// As [`Training::devices`], or what the reduction answers.
    pub fn gradients(&mut self) -> Result<(), BackendError> {
        self.call(|backend| backend.gradients())
    }

    /// As `ml-backend.apply`.
    ///
    /// # Errors
    ///
    /// As [`Training::devices`].
    pub fn apply(&mut self, update: contract::Update) -> Result<contract::Applied, BackendError> {
        self.call(|backend| backend.apply(update))
    }

    /// As `ml-backend.train-step`.
    ///
    /// # Errors
    ///
    /// As [`Training::devices`].
    pub fn train_step(
        &mut self,
        rows: Rows<'_>,
        update: contract::Update,
    ) -> Result<contract::Stepped, BackendError> {
        self.call(|backend| {
            backend.train_step(rows.batch, rows.tokens, rows.targets, rows.segments, update)
        })
    }

    /// As `ml-backend.eval-step`.
    ///
    /// # Errors
    ///
    /// As [`Training::devices`].
    pub fn eval_step(&mut self, rows: Rows<'_>) -> Result<contract::Statistics, BackendError> {
        self.call(|backend| backend.eval_step(rows.batch, rows.tokens, rows.targets, rows.segments))
    }

    /// As `ml-backend.save-checkpoint`.
    ///
    /// # Errors
    ///
    /// As [`Training::devices`].
    pub fn save_checkpoint(&mut self, directory: &Path) -> Result<Vec<String>, BackendError> {
        self.call(|backend| backend.save_checkpoint(&text(directory)))
    }

    /// As `ml-backend.restore-checkpoint`.
    ///
    /// # Errors
    ///
    /// As [`Training::devices`].
    pub fn restore_checkpoint(&mut self, directory: &Path) -> Result<(), BackendError> {
        self.call(|backend| backend.restore_checkpoint(&text(directory)))
    }

    /// As `ml-backend.merge`.
    ///
    /// # Errors
    ///
    /// As [`Training::devices`].
    pub fn merge(&mut self, directory: &Path) -> Result<Vec<String>, BackendError> {
        self.call(|backend| backend.merge(&text(directory)))
    }

    /// As `ml-backend.memory-report`.
    ///
    /// # Errors
    ///
    /// As [`Training::devices`].
    pub fn memory(&mut self) -> Result<contract::Memory, BackendError> {
        self.call(|backend| backend.memory_report())
    }

    fn call<T>(
        &mut self,
        work: impl FnOnce(&mut MlBackend<'_>) -> Result<T, CallError>,
    ) -> Result<T, BackendError> {
        let answer = self
            .instance
            .ml_backend()
            .and_then(|mut backend| work(&mut backend));
        answer.map_err(|source| BackendError::Call {
            plugin: self.plugin.clone(),
            source,
        })
    }
}

/// A path as the contract has it. One that is not UTF-8 is found by nobody, and named in the error.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
