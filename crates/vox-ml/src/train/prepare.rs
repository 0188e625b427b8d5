//! From a configuration to a training that can begin, or go on.

use std::cell::RefCell;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use vox_contract::PluginId;
use vox_crypto::Digest;
use vox_crypto::SigningKey;
use vox_host::contract::compute::DeviceKind;
use vox_host::contract::ml_backend as contract;
use vox_host::{CancelToken, Host};
use vox_model::bundle::{Bundle as _, Checkpoint};
use vox_model::library::Library;
use vox_oplog::{Class, NewOp, OpLog};
use vox_probe::{Fingerprint, Hardware};
use vox_store::Store;

use super::TrainError;
use super::choose::{Backends, Chosen};
use super::place::{Kept, MODEL, Notes, Place, TOKENS, Unfinished};
use super::preflight::{Preflight, preflight, spec};
use super::record::{Backend, Machine, Resumed, Started, TRAINING_RESUMED, TRAINING_STARTED};
use super::steps::Event;
use crate::backend::Training;
use crate::bundle::{View, read_number};
use crate::config::{Start, TrainConfig};
use crate::curve::Curve;
use crate::data::template::{Template, TemplateSource, end_tokens};
use crate::data::{Dataset, DatasetSpec, Feed, Identified, Shape, Source, Tokenizer};
use crate::error::TokenizerError;
use crate::scratch::{learn_tokenizer, write_model, write_model_like};

/// What a training needs of the world around it.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The plugins.
    pub host: &'a Host,
    /// Where it is recorded.
    pub log: &'a OpLog,
    /// Where checkpoints go.
    pub store: &'a Store,
    /// What signs them.
    pub key: &'a SigningKey,
    /// The hardware that is here.
    pub hardware: &'a Hardware,
    /// The backend that is wanted; none for any that has the device and can do the training.
    pub backend: Option<PluginId>,
    /// How it is stopped.
    pub cancel: CancelToken,
    /// Version of Vox, for the record.
    pub version: &'static str,
    /// Now, in microseconds since 1970.
    pub now: fn() -> i64,
}

/// A training that can take its next step.
#[derive(Debug)]
pub struct Prepared<'a> {
    pub(super) around: Surroundings<'a>,
    pub(super) config: TrainConfig,
    pub(super) place: Place,
    pub(super) notes: Notes,
    pub(super) backend: Training,
    pub(super) model: contract::Model,
    pub(super) dataset: Dataset,
    pub(super) curve: Curve,
    /// The bundle's directory, and its hash where it has one.
    pub(super) view: View,
    /// Steps that are done.
    pub(super) done: u64,
    pub(super) preflight: Preflight,
    /// What differs from the backend and the machine that the training had before, in words.
    pub(super) differences: Vec<String>,
}

impl<'a> Prepared<'a> {
    /// Prepares a new training, or with `resume` the one that is in the output directory.
    ///
    /// # Errors
    ///
    /// All that keeps it from its first step; nothing was recorded then.
    pub fn new(
        around: Surroundings<'a>,
        config: TrainConfig,
        resume: bool,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<Self, TrainError> {
        let _span = tracing::info_span!("vox.train.prepare").entered();
        let place = Place::enter(&config.output)?;
        let before = place.notes()?;
        match (&before, resume) {
            (Some(notes), false) => {
                return Err(TrainError::Exists {
                    path: place.directory().to_owned(),
                    step: notes.checkpoints.last().map_or(0, |kept| kept.step),
                    total: notes.steps,
                });
            }
            (None, true) => {
                return Err(TrainError::Nothing {
                    path: place.directory().to_owned(),
                });
            }
            (Some(notes), true) => {
                let differing = notes.differing(&config);
                if !differing.is_empty() {
                    return Err(TrainError::Changed {
                        path: place.directory().to_owned(),
                        differing,
                    });
                }
            }
            (None, false) => {}
        }
        let checkpoint = match &before {
            Some(before) => newest(&around, &place, before)?,
            None => None,
        };

        let computed_by = before.as_ref().map(|before| &before.backend.plugin);
        let mut backends = Backends::of(&around, config.machine.device, computed_by)?;
        let first = backends.with_device()?;
        let view = beginning(&config, &place, around.store, before.is_some())?;
        let from = adapter(&config, around.store)?;
        let machine = before.as_ref().map(|before| &before.machine);
        let (chosen, (spec, preflight)) = backends.that_can(first, |chosen| {
            let Chosen { backend, device } = chosen;
            let spec = spec(&config, device.id.clone(), from.as_ref(), machine);
            // The backend knows what the machine has free, and not what a control group leaves of it.
            let allowed = match device.kind {
                DeviceKind::Cpu => around.hardware.memory.available,
                _ => None,
            };
            let preflight = preflight(backend, &view, &spec, &config, allowed)?;
            Ok((spec, preflight))
        })?;
        let mut backend = chosen.backend;
        tell(Event::Preflight(&preflight));
        let dataset = dataset(&config, &place, &view, &mut backend, &around.cancel, tell)?;

        let feed = feed(&config, &dataset);
        let optimisation = &config.optimisation;
        let steps = optimisation
            .steps
            .unwrap_or_else(|| feed.steps_of(optimisation.epochs.unwrap_or(1.0)));
        let model = backend.load(view.directory(), &spec)?;
        if config.data.context > model.context {
            return Err(TrainError::Context {
                asked: config.data.context,
                model: model.context,
            });
        }
        let computing = Backend::of(&backend);
        let machine = Machine {
            device: model.device.id.clone(),
            name: model.device.name.clone(),
            features: model.features.clone(),
            processor: Fingerprint::new(around.hardware, model.threads as usize),
        };
        let base = match &from {
            None => view.content()?,
            Some(adapter) => {
                let both = format!("{} {}", view.content()?, adapter.content()?);
                vox_crypto::hash(both.as_bytes())
            }
        };
        if let Some(before) = &before {
            unchanged(&place, before, dataset.hash(), base)?;
        }
        let done = checkpoint
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.state().step);
        let mut prepared = Self {
            // Steps after the checkpoint are made again.
            curve: Curve::resume(&place.path(super::CURVE_TABLE), done)?,
            differences: before
                .as_ref()
                .map(|before| {
                    let other = computing.difference(&before.backend);
                    let elsewhere = machine.differences(&before.machine);
                    other.into_iter().chain(elsewhere).collect()
                })
                .unwrap_or_default(),
            notes: Notes {
                run: before.as_ref().map_or_else(
                    || uuid::Uuid::now_v7().to_string(),
                    |before| before.run.clone(),
                ),
                config: config.clone(),
                steps,
                base,
                dataset: dataset.hash(),
                backend: computing,
                machine,
                checkpoints: before
                    .as_ref()
                    .map(|before| before.checkpoints.clone())
                    .unwrap_or_default(),
            },
            around,
            config,
            place,
            backend,
            model,
            dataset,
            view,
            done,
            preflight,
        };
        if let Some(checkpoint) = &checkpoint {
            prepared.restore(checkpoint)?;
        }
        prepared.record_beginning(before.is_some())?;
        if before.is_some() {
            tell(Event::Resumed {
                step: prepared.done,
                differences: &prepared.differences,
            });
        }
        Ok(prepared)
    }

    /// The memory that it is going to need.
    pub fn preflight(&self) -> &Preflight {
        &self.preflight
    }

    /// What was loaded.
    pub fn model(&self) -> &contract::Model {
        &self.model
    }

    /// The data.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Which training it is.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Steps that are done.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// What differs from the backend and the machine that the training had before, in words.
    pub fn differences(&self) -> &[String] {
        &self.differences
    }

    fn record_beginning(&self, goes_on: bool) -> Result<(), TrainError> {
        if goes_on {
            let resumed = Resumed {
                step: self.done,
                differences: self.differences.clone(),
            };
            self.append(TRAINING_RESUMED, &resumed, true)?;
            return self.place.note(&self.notes);
        }
        let config = serde_json::to_string(&self.config).map_err(|error| {
            TrainError::io("record", &self.config.output)(std::io::Error::other(error))
        })?;
        let started = Started {
            config,
            dataset: self.dataset.hash().to_hex(),
            base: self.view.bundle_hash(),
            steps: self.notes.steps,
            backend: self.notes.backend.to_string(),
            machine: self.notes.machine.clone(),
            version: self.around.version.to_owned(),
        };
        self.append(TRAINING_STARTED, &started, true)?;
        self.place.note(&self.notes)
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        // The notes are a copy of what the log says, and may lack the newest. The curve does not.
        let eval_loss = self.curve.points().last().and_then(|last| last.eval_loss);
        let kept = &mut self.notes.checkpoints;
        if kept.last().is_none_or(|last| last.step < self.done) {
            kept.push(Kept {
                step: self.done,
                manifest: checkpoint.digest(),
                bundle_hash: checkpoint.manifest().bundle_hash,
                eval_loss,
            });
        }
        let scratch = self.place.scratch(Unfinished::Restored)?;
        let directory = scratch.path().join("checkpoint");
        vox_model::checkpoint::restore(self.around.store, checkpoint, &directory, &())?;
        self.backend.restore_checkpoint(&directory)?;
        Ok(())
    }

    /// Records something; with `wait` it is durable when this answers.
    pub(super) fn append(
        &self,
        kind: &str,
        payload: &impl serde::Serialize,
        wait: bool,
    ) -> Result<(), TrainError> {
        let payload =
            vox_crypto::canonical::encode(payload).map_err(vox_model::bundle::BundleError::from)?;
        let op = NewOp::new(kind, payload)?
            .class(if wait { Class::Warm } else { Class::Hot })
            .run(self.notes.run.clone());
        if wait {
            self.around.log.append(op)?;
        } else {
            // Whether it was written is asked of the next op that is waited for.
            drop(self.around.log.submit(op)?);
        }
        Ok(())
    }
}

/// The newest checkpoint of the training that is here; none where it was stopped before the first.
fn newest(
    around: &Surroundings<'_>,
    place: &Place,
    before: &Notes,
) -> Result<Option<Checkpoint>, TrainError> {
    let reader = around.log.reader()?;
    let newest = vox_model::checkpoint::newest(&reader, around.store, Some(&before.run))?;
    let found = newest.as_ref().map(|newest| newest.state().step);
    match before.checkpoints.last() {
        // The notes may lack what the log has, and never the other way round: it is another log, or an older one.
        Some(kept) if found.is_none_or(|found| found < kept.step) => {
            Err(TrainError::CheckpointMissing {
                path: place.directory().to_owned(),
                run: before.run.clone(),
                step: kept.step,
                log: around.log.dir().to_owned(),
                found,
            })
        }
        _ => Ok(newest),
    }
}

/// Refuses to go on with another model, or other data, than the training began with.
fn unchanged(
    place: &Place,
    before: &Notes,
    dataset: Digest,
    base: Digest,
) -> Result<(), TrainError> {
    let beginning = match before.config.method.from {
        None => "model.base (it is another model now)",
        Some(_) => "model.base or method.from (one of them is another now)",
    };
    let changed = [
        (before.base != base, beginning),
        (before.dataset != dataset, "data (the files have changed)"),
    ];
    let differing = changed.into_iter().filter(|(differs, _)| *differs);
    let differing: Vec<String> = differing.map(|(_, what)| what.to_owned()).collect();
    if differing.is_empty() {
        return Ok(());
    }
    Err(TrainError::Changed {
        path: place.directory().to_owned(),
        differing,
    })
}

/// What the training begins with, as a directory.
fn beginning(
    config: &TrainConfig,
    place: &Place,
    store: &Store,
    goes_on: bool,
) -> Result<View, TrainError> {
    let library = Library::new(store.clone());
    match (config.start(), config.dimensions()) {
        (Some(Start::Scratch(scratch)), Some(dimensions)) => {
            let directory = place.path("start");
            // Made once: a training goes on with the tokenizer that it began with. One that was refused left a
            // beginning of its own.
            if !goes_on || !directory.join("config.json").exists() {
                let unfinished = place.path(".start");
                let _ = fs::remove_dir_all(&unfinished);
                match &scratch.tokenizer {
                    Some(model) => {
                        let from = View::of(&library, model)?;
                        write_model_like(&unfinished, &dimensions, from.directory())?;
                    }
                    None => {
                        let source = Source::open(&config.data.files, config.data.format)?;
                        let bpe =
                            learn_tokenizer(&source, scratch.vocabulary, config.data.skip_invalid)?;
                        write_model(&unfinished, &dimensions, &bpe)?;
                    }
                }
                let _ = fs::remove_dir_all(&directory);
                fs::rename(&unfinished, &directory)
                    .map_err(TrainError::io("create", &directory))?;
            }
            Ok(View::of_directory(directory))
        }
        (Some(Start::Model(model)), _) => {
            let view = match model.directory() {
                Some(directory) => View::of_directory(directory.to_owned()),
                None => View::of(&library, &model.base)?,
            };
            ensure_model(&view, &model.base)?;
            Ok(view)
        }
        // A configuration that was read has one of the two.
        _ => Err(TrainError::Nothing {
            path: config.output.clone(),
        }),
    }
}

/// Refuses what is no model, before a backend reads it.
fn ensure_model(view: &View, name: &str) -> Result<(), TrainError> {
    let directory = view.directory();
    fs::metadata(directory).map_err(crate::Error::read(directory))?;
    if view.is_adapter() {
        let name = name.to_owned();
        return Err(TrainError::IsAdapter { name });
    }
    let has_model = |directory: &Path| directory.join("config.json").exists();
    if has_model(directory) {
        return Ok(());
    }
    let trained = directory.join(MODEL);
    let none = "this is no directory of a model: it has no config.json";
    let message = match has_model(&trained) {
        true => format!(
            "{none}; a training was here, and its model is {}",
            trained.display()
        ),
        false => none.to_owned(),
    };
    let path = directory.to_owned();
    Err(crate::Error::ModelFile { path, message }.into())
}

/// The tokenizer of a bundle, in the backend.
struct BackendTokenizer<'a> {
    /// Borrowed for the length of a call, which never calls back.
    backend: RefCell<&'a mut Training>,
    bundle: &'a Path,
    vocabulary: u32,
}

impl Tokenizer for BackendTokenizer<'_> {
    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TokenizerError> {
        let mut backend = self.backend.borrow_mut();
        Ok(backend.encode(self.bundle, text, special)?)
    }

    fn vocabulary(&self) -> u32 {
        self.vocabulary
    }
}

fn dataset(
    config: &TrainConfig,
    place: &Place,
    view: &View,
    backend: &mut Training,
    cancel: &CancelToken,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<Dataset, TrainError> {
    let data = &config.data;
    let source = Source::open(&data.files, data.format)?;
    let evaluation = match data.evaluation_files.as_slice() {
        [] => None,
        files => Some(Source::open(files, data.format)?),
    };
    let directory = view.directory();
    let template = TemplateSource::of_model(directory)?
        .map(|source| Template::new(&source, 0))
        .transpose()?;
    let end = end_tokens(directory)?.end;
    let path = directory.join("tokenizer.json");
    let bytes = fs::read(&path).map_err(TrainError::io("read", &path))?;
    let tokenizer = BackendTokenizer {
        bundle: directory,
        vocabulary: read_number(directory, "vocab_size")?,
        backend: RefCell::new(backend),
    };
    let dataset = Dataset::open(
        DatasetSpec {
            source: &source,
            evaluation: evaluation.as_ref(),
            split: data.split(),
            columns: data.context,
            packing: data.packing,
            overlong: data.overlong,
            skip_invalid: data.skip_invalid,
            template: template.as_ref(),
            end: end.as_deref(),
        },
        Identified {
            tokenizer: &tokenizer,
            hash: vox_crypto::hash(&bytes),
        },
        &place.path(TOKENS),
        &mut |state| {
            tell(Event::Tokenising(state));
            if cancel.is_cancelled() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        },
    )?;
    Ok(dataset)
}

/// The adapter that is trained further, as a directory; none where a new one is made, or none at all.
fn adapter(config: &TrainConfig, store: &Store) -> Result<Option<View>, TrainError> {
    let Some(name) = &config.method.from else {
        return Ok(None);
    };
    let adapter = View::of(&Library::new(store.clone()), name)?;
    if !adapter.is_adapter() {
        return Err(TrainError::NoAdapter { name: name.clone() });
    }
    Ok(Some(adapter))
}

/// The batches of a training, by their addresses.
pub(super) fn feed<'d>(config: &TrainConfig, dataset: &'d Dataset) -> Feed<'d> {
    let optimisation = &config.optimisation;
    let shape = Shape {
        rows: optimisation.batch_rows,
        accumulation: optimisation.accumulation,
        ranks: 1,
    };
    Feed::new(dataset.training(), dataset.hash(), optimisation.seed, shape)
}
