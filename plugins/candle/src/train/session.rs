//! One training, from load to merge.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Tensor;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::adapter;
use super::checkpoint;
use super::memory;
use super::merge;
use super::model::{Model, table_format};
use super::optimizer;
use super::parameter::Parameter;
use super::spec::{
    Applied, Batch, Beginning, MemoryReport, Spec, Statistics, Stepped, TrainedTensor, Update,
};
use crate::architecture::fields::read_object;
use crate::architecture::{Architecture, DecoderArchitecture};
use crate::error::{Error, Result};
use crate::infer::available;
use crate::ops::host;
use crate::weights::Weights;

/// What is done with a gradient: its tensor's name and shape, and its numbers, row by row, which may be changed.
pub type Visit<'a> = dyn FnMut(&str, &[usize], &mut [f32]) -> Result<()> + 'a;

/// One training.
#[derive(Debug)]
pub struct Session {
    bundle: PathBuf,
    spec: Spec,
    architecture: DecoderArchitecture,
    model: Model,
    parameters: Vec<Parameter>,
    weights: Option<Weights>,
    pool: Arc<ThreadPool>,
}

impl Session {
    /// Loads what a training begins with: the bundle in a directory, by `config.json` and SafeTensors.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for a spec that contradicts itself; as [`Architecture::read`], [`Weights::open`],
    /// [`Weights::check`] and [`adapter::read_config`]; [`Error::WrongKind`] for a model that does not go on with
    /// a text; [`Error::Compute`] where the device has no room.
    pub fn load(bundle: &Path, spec: &Spec) -> Result<Self> {
        let spec = with_adapter(spec)?;
        let architecture = Architecture::read(bundle)?;
        let decoder = architecture.decoder()?.clone();
        let weights = match spec.beginning {
            Beginning::Random => None,
            _ => Some(Weights::open(bundle)?),
        };
        if let Some(weights) = &weights {
            weights.check(&architecture)?;
        }
        let config = bundle.join("config.json");
        let spread = read_object(&config)?
            .get("initializer_range")
            .and_then(|range| range.as_f64());
        let pool = ThreadPoolBuilder::new()
            .num_threads(spec.threads)
            .thread_name(|at| format!("train-{at}"));
        #[cfg(test)]
        let pool = pool.start_handler(host::composing::inherited());
        let pool = pool
            .build()
            .map_err(|error| Error::request("threads", error.to_string()))?;
        let (model, parameters) =
            pool.install(|| Model::new(&decoder, &spec, weights.as_ref(), spread))?;
        let mut session = Self {
            bundle: bundle.to_path_buf(),
            architecture: decoder,
            model,
            parameters,
            weights,
            pool: Arc::new(pool),
            spec,
        };
        if let Beginning::Adapter(directory) = session.spec.beginning.clone() {
            session.load_adapter(&directory)?;
        }
        Ok(session)
    }

    /// The memory that a training needs with batches of `rows` times `columns` tokens; of the bundle only
    /// `config.json` and the headers of its weights are read.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn estimate(bundle: &Path, spec: &Spec, rows: u64, columns: u64) -> Result<MemoryReport> {
        let spec = with_adapter(spec)?;
        let architecture = Architecture::read(bundle)?;
        let decoder = architecture.decoder()?;
        let stored = match spec.beginning {
            Beginning::Random => None,
            _ => {
                let weights = Weights::open(bundle)?;
                weights.check(&architecture)?;
                Some(weights.info(DecoderArchitecture::EMBEDDING)?.element)
            }
        };
        let tables = table_format(spec.base, stored);
        Ok(memory::estimate(
            decoder,
            &spec,
            spec.adapter.as_ref(),
            tables,
            rows,
            columns,
        ))
    }

    /// What the model is made of.
    pub fn architecture(&self) -> &DecoderArchitecture {
        &self.architecture
    }

    /// What the training is. Its adapter is that of the beginning where the caller named none.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What is trained.
    #[cfg(test)]
    pub(super) fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// The tensors that are trained, in the order in which [`gradients`](Self::gradients) comes to them.
    pub fn trainable(&self) -> Vec<TrainedTensor> {
        let tensor = |parameter: &Parameter| TrainedTensor {
            name: parameter.name.clone(),
            shape: parameter.value.dims().to_vec(),
        };
        self.parameters.iter().map(tensor).collect()
    }

    /// Computes the loss and adds the gradients of its sum to those that there are. Where the loss is not
    /// finite, all gradients are taken away.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for a batch that is not of its size, or has numbers that are no tokens;
    /// [`Error::Compute`], as when memory is at its end.
    pub fn forward_backward(&mut self, batch: &Batch<'_>) -> Result<Statistics> {
        self.check(batch)?;
        let (pool, model, parameters) = (
            Arc::clone(&self.pool),
            &mut self.model,
            &mut self.parameters,
        );
        let doing = || format!("compute the gradients of batch {}", batch.position);
        pool.install(|| model.forward_backward(parameters, batch))
            .map_err(Error::compute(doing()))
    }

    /// The loss alone, without dropout.
    ///
    /// # Errors
    ///
    /// As [`forward_backward`](Self::forward_backward).
    pub fn eval_step(&self, batch: &Batch<'_>) -> Result<Statistics> {
        self.check(batch)?;
        let computed = self
            .pool
            .install(|| self.model.evaluate(&self.parameters, batch));
        computed.map_err(Error::compute(format!(
            "compute the loss of batch {}",
            batch.position
        )))
    }

    /// The logits of a batch without dropout: (tokens, vocabulary).
    ///
    /// # Errors
    ///
    /// As [`forward_backward`](Self::forward_backward).
    pub fn logits(&self, batch: &Batch<'_>) -> Result<Tensor> {
        self.check(batch)?;
        let computed = self
            .pool
            .install(|| self.model.logits(&self.parameters, batch));
        computed.map_err(Error::compute(format!(
            "compute the logits of batch {}",
            batch.position
        )))
    }

    /// Hands out every gradient, in the order of [`trainable`](Self::trainable), and keeps what it is after: its
    /// tensor's name and shape, and its numbers, row by row.
    ///
    /// # Errors
    ///
    /// What `visit` answers; [`Error::Compute`].
    pub fn gradients(&mut self, visit: &mut Visit<'_>) -> Result<()> {
        for parameter in &mut self.parameters {
            let doing = format!("hand out the gradient of `{}`", parameter.name);
            let fail = |error| Error::compute(doing.clone())(error);
            let shape = parameter.value.dims().to_vec();
            let gradient = match parameter.gradient.take() {
                Some(gradient) => gradient,
                None => host::zeros(&shape, parameter.value.device()).map_err(fail)?,
            };
            if host::is_host(&gradient) {
                let visited =
                    host::change(&gradient, |floats| visit(&parameter.name, &shape, floats));
                parameter.gradient = Some(gradient);
                visited.map_err(fail)??;
                continue;
            }
            let floats = gradient
                .flatten_all()
                .and_then(|flat| flat.to_vec1::<f32>());
            let mut floats = floats.map_err(fail)?;
            visit(&parameter.name, &shape, &mut floats)?;
            let back = Tensor::from_vec(floats, shape, gradient.device());
            parameter.gradient = Some(back.map_err(fail)?);
        }
        Ok(())
    }

    /// Applies the gradients to the weights, and sets them to nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Compute`].
    pub fn apply(&mut self, update: &Update) -> Result<Applied> {
        let parameters = &mut self.parameters;
        let adam = self.spec.optimizer;
        let applied = self.pool.install(|| {
            let gradient_norm = optimizer::gradient_norm(parameters)? * update.scale.abs();
            if gradient_norm.is_finite() {
                // As `torch.nn.utils.clip_grad_norm_`.
                let clip = update
                    .clip
                    .map_or(1.0, |most| (most / (gradient_norm + 1e-6)).min(1.0));
                optimizer::step(parameters, adam, update, update.scale * clip)?;
            }
            Ok(Applied { gradient_norm })
        });
        self.forget_gradients();
        applied.map_err(Error::compute(format!("apply step {}", update.step)))
    }

    /// [`forward_backward`](Self::forward_backward) and [`apply`](Self::apply) in one call. A loss that is not
    /// finite is answered and not applied; the norm is then not a number.
    ///
    /// # Errors
    ///
    /// As the two.
    pub fn train_step(&mut self, batch: &Batch<'_>, update: &Update) -> Result<Stepped> {
        let statistics = self.forward_backward(batch)?;
        let applied = if statistics.loss.is_finite() {
            self.apply(update)?
        } else {
            Applied {
                gradient_norm: f64::NAN,
            }
        };
        Ok(Stepped {
            statistics,
            applied,
        })
    }

    /// Sets all gradients to nothing.
    pub fn forget_gradients(&mut self) {
        for parameter in &mut self.parameters {
            parameter.gradient = None;
        }
    }

    /// Writes what is trained (weights as in a bundle, or the adapter in the layout of PEFT) and the optimizer's
    /// state into an empty directory, synced to the disk, and answers the names of the files.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], as when the disk is full; [`Error::Format`] where the directory is not empty.
    pub fn save_checkpoint(&self, directory: &Path) -> Result<Vec<String>> {
        checkpoint::prepare(directory)?;
        let mut files = Vec::new();
        if self.spec.adapter.is_some() {
            self.write_adapter(directory)?;
            files.extend([adapter::CONFIG, adapter::WEIGHTS]);
        } else {
            checkpoint::write_values(&directory.join(checkpoint::MODEL), &self.parameters)?;
            files.push(checkpoint::MODEL);
        }
        checkpoint::write_moments(&directory.join(checkpoint::OPTIMIZER), &self.parameters)?;
        files.push(checkpoint::OPTIMIZER);
        checkpoint::sync(directory)?;
        Ok(files.into_iter().map(str::to_owned).collect())
    }

    /// Goes back to what [`save_checkpoint`](Self::save_checkpoint) wrote. Where it cannot, nothing changes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Format`] for files that cannot be read; [`Error::MissingTensor`] and
    /// [`Error::Format`] for the first tensor that is missing or something else; [`Error::Field`] for an adapter
    /// of another rank or scale.
    pub fn restore_checkpoint(&mut self, directory: &Path) -> Result<()> {
        let values = match &self.spec.adapter {
            Some(wanted) => {
                adapter::check_same(directory, &adapter::read_config(directory)?, wanted)?;
                directory.join(adapter::WEIGHTS)
            }
            None => directory.join(checkpoint::MODEL),
        };
        let moments = directory.join(checkpoint::OPTIMIZER);
        let value_file = Weights::open_file(&values)?;
        let moment_file = Weights::open_file(&moments)?;
        let mut restored = Vec::with_capacity(self.parameters.len());
        for parameter in &self.parameters {
            let (shape, device) = (parameter.value.dims(), parameter.value.device());
            let moment = |moment: &str| {
                let name = format!("{moment}.{}", parameter.name);
                checkpoint::read(&moments, &moment_file, &name, shape, device)
            };
            let value = checkpoint::read(&values, &value_file, &parameter.name, shape, device)?;
            restored.push((value, moment("first")?, moment("second")?));
        }
        for (parameter, (value, first, second)) in self.parameters.iter_mut().zip(restored) {
            checkpoint::replace(&mut parameter.value, value)?;
            checkpoint::replace(&mut parameter.first, first)?;
            checkpoint::replace(&mut parameter.second, second)?;
            parameter.gradient = None;
        }
        Ok(())
    }

    /// Writes a plain bundle into an empty directory: adapters become part of the weights. Answers the names of
    /// the files.
    ///
    /// # Errors
    ///
    /// As [`save_checkpoint`](Self::save_checkpoint).
    pub fn merge(&self, directory: &Path) -> Result<Vec<String>> {
        let (model, weights) = (&self.model, self.weights.as_ref());
        let (bundle, parameters) = (&self.bundle, &self.parameters);
        self.pool.install(|| {
            merge::write(
                directory,
                bundle,
                &self.architecture,
                model,
                parameters,
                weights,
            )
        })
    }

    /// Writes the adapter alone, in the layout of PEFT, into a directory, synced to the disk.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] without an adapter; as [`save_checkpoint`](Self::save_checkpoint).
    pub fn export_adapter(&self, directory: &Path) -> Result<Vec<String>> {
        if self.spec.adapter.is_none() {
            return Err(Error::request(
                "adapter",
                "this training has none; it changes every weight",
            ));
        }
        checkpoint::prepare(directory)?;
        self.write_adapter(directory)?;
        checkpoint::sync(directory)?;
        Ok([adapter::CONFIG, adapter::WEIGHTS]
            .map(str::to_owned)
            .to_vec())
    }

    /// What memory is in use.
    pub fn memory(&self) -> MemoryReport {
        let [values, gradients, optimizer] = memory::of_parameters(&self.parameters);
        let weights = self.model.frozen_bytes() + values;
        let activations = self.model.most_kept;
        let held = weights + gradients + optimizer + activations;
        let most = if self.spec.device.is_cpu() {
            memory::most()
        } else {
            0
        };
        MemoryReport {
            weights,
            gradients,
            optimizer,
            activations,
            peak: most.max(held),
            available: available(&self.spec.device),
        }
    }

    fn write_adapter(&self, directory: &Path) -> Result<()> {
        let Some(spec) = &self.spec.adapter else {
            return Ok(());
        };
        let named = self
            .model
            .linears()
            .filter(|linear| linear.adapter.is_some());
        let mut modules: Vec<&str> = named
            .filter_map(|linear| linear.name.rsplit('.').next())
            .collect();
        modules.sort_unstable();
        modules.dedup();
        let config = adapter::config(spec, &modules);
        checkpoint::write_text(&directory.join(adapter::CONFIG), &format!("{config:#}\n"))?;
        checkpoint::write_values(&directory.join(adapter::WEIGHTS), &self.parameters)
    }

    /// Takes the adapter in a directory; its tensors may be of any floats.
    fn load_adapter(&mut self, directory: &Path) -> Result<()> {
        let wanted = self.parameters.iter().map(|parameter| {
            let shape = [0, 1].map(|axis| parameter.value.dims().get(axis).copied().unwrap_or(1));
            (parameter.name.as_str(), shape)
        });
        let weights = adapter::open(directory, wanted)?;
        for parameter in &mut self.parameters {
            let device = parameter.value.device().clone();
            let value = weights.tensor(&parameter.name, candle_core::DType::F32, &device)?;
            checkpoint::replace(&mut parameter.value, value)?;
        }
        Ok(())
    }

    fn check(&self, batch: &Batch<'_>) -> Result<()> {
        let size = batch
            .rows
            .checked_mul(batch.columns)
            .filter(|&size| size > 0);
        let Some(size) = size else {
            let why = format!(
                "{} rows of {} tokens are no batch",
                batch.rows, batch.columns
            );
            return Err(Error::request("batch", why));
        };
        let lengths = [
            ("tokens", batch.tokens.len()),
            ("targets", batch.targets.len()),
            ("segments", batch.segments.len()),
        ];
        for (field, length) in lengths {
            if length != size {
                let why = format!(
                    "there are {length}, and {} rows of {} have {size}",
                    batch.rows, batch.columns
                );
                return Err(Error::request(field, why));
            }
        }
        if batch.columns > self.architecture.context {
            let why = format!(
                "rows of {} tokens are longer than the context of the model, {}",
                batch.columns, self.architecture.context
            );
            return Err(Error::request("batch", why));
        }
        let vocabulary = self.architecture.vocabulary;
        if let Some(token) = batch
            .tokens
            .iter()
            .find(|&&token| token as usize >= vocabulary)
        {
            let why = format!("{token} is none of the model's {vocabulary} tokens");
            return Err(Error::request("tokens", why));
        }
        let is_target =
            |target: i32| target == -1 || usize::try_from(target).is_ok_and(|at| at < vocabulary);
        if let Some(target) = batch.targets.iter().find(|&&target| !is_target(target)) {
            let why = format!("{target} is none of the model's {vocabulary} tokens, and not -1");
            return Err(Error::request("targets", why));
        }
        Ok(())
    }
}

/// The spec with the adapter that it begins with, where the caller named none.
fn with_adapter(spec: &Spec) -> Result<Spec> {
    let mut spec = spec.clone();
    if let Beginning::Adapter(directory) = &spec.beginning {
        let found = adapter::read_config(directory)?;
        adapter::check_rank(directory, &found)?;
        match &spec.adapter {
            Some(wanted) => adapter::check_same(directory, &found, wanted)?,
            None => spec.adapter = Some(found),
        }
    }
    spec.check()?;
    Ok(spec)
}
