//! What is saved, kept, and let go.

use std::fs;

use vox_model::bundle::{DataCursor, RandomState, ScheduleState, TrainingState};
use vox_model::checkpoint::NewCheckpoint;
use vox_model::record::{ReleaseRecord, STORE_RELEASE};

use super::TrainError;
use super::place::{Kept, MODEL, Unfinished};
use super::prepare::{Prepared, feed};
use crate::config::MethodKind;
use crate::retention::{Saved, best, surplus};

/// Files of a model besides its weights, which belong to everything that is trained from it.
const COMPANIONS: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
];

impl Prepared<'_> {
    /// Saves a checkpoint after step `step`, then lets go of those that are not to be kept.
    pub(super) fn save(&mut self, step: u64, eval_loss: Option<f64>) -> Result<Kept, TrainError> {
        // What the table says must not be behind what the checkpoint says.
        self.curve.sync()?;
        let scratch = self.place.scratch(Unfinished::Checkpoint)?;
        self.backend.save_checkpoint(scratch.path())?;
        self.view.name_as_base_of(scratch.path())?;
        for name in COMPANIONS {
            let (from, to) = (self.view.directory().join(name), scratch.path().join(name));
            // What the backend wrote itself is newer.
            if from.exists() && !to.exists() {
                fs::copy(&from, &to).map_err(TrainError::io("write", &to))?;
            }
        }
        let new = NewCheckpoint {
            directory: scratch.path(),
            state: self.state(step),
            derived_from: self.view.bundle_hash(),
            time: (self.around.now)(),
        };
        let saved = vox_model::checkpoint::save(
            self.around.store,
            self.around.log,
            self.around.key,
            new,
            &(),
        )
        .map_err(|source| TrainError::Checkpoint {
            step,
            source: Box::new(source),
        })?;
        let kept = Kept {
            step,
            manifest: saved.manifest,
            bundle_hash: saved.bundle_hash,
            eval_loss,
        };
        self.notes.checkpoints.push(kept.clone());
        self.prune()?;
        self.place.note(&self.notes)?;
        Ok(kept)
    }

    fn state(&self, step: u64) -> TrainingState {
        let schedule = self.config.schedule(self.notes.steps);
        let optimisation = &self.config.optimisation;
        let rows = self.dataset.training().rows();
        let seen = step * u64::from(optimisation.batch_rows) * u64::from(optimisation.accumulation);
        TrainingState {
            run: self.notes.run.clone(),
            step,
            schedule: ScheduleState {
                name: schedule.decay.name().to_owned(),
                peak_rate: schedule.peak,
                warmup_steps: schedule.warmup,
                total_steps: schedule.total,
            },
            random: RandomState {
                algorithm: "philox4x32-10".to_owned(),
                key: optimisation.seed,
                counter: step,
            },
            data: DataCursor {
                dataset: self.dataset.hash(),
                seed: optimisation.seed,
                epoch: seen / rows,
                position: seen % rows,
            },
            world_size: 1,
            rank_order: vec![self.around.log.author().id().to_string()],
            threads: self.model.threads,
            device: self.model.device.id.clone(),
            features: vec![self.model.features.clone()],
            base: self.view.bundle_hash(),
        }
    }

    /// The checkpoint with the lowest loss on the evaluation split; none without `keep-best`, as the best may be
    /// gone then.
    pub(super) fn best(&self) -> Option<Kept> {
        let kept = &self.notes.checkpoints;
        let saved: Vec<Saved> = kept.iter().map(Kept::saved).collect();
        let best = best(&saved).filter(|_| self.config.cadence.keep_best)?;
        kept.iter().find(|kept| kept.step == best.step).cloned()
    }

    /// Lets go of what is not to be kept.
    fn prune(&mut self) -> Result<(), TrainError> {
        let cadence = &self.config.cadence;
        let kept = &self.notes.checkpoints;
        let saved: Vec<Saved> = kept.iter().map(Kept::saved).collect();
        let gone = surplus(&saved, cadence.keep_last, cadence.keep_best);
        if gone.is_empty() {
            return Ok(());
        }
        let goes = |kept: &&Kept| gone.contains(&kept.step);
        let released = kept.iter().filter(goes).map(|kept| kept.manifest);
        let released = ReleaseRecord {
            released: released.collect(),
        };
        self.append(STORE_RELEASE, &released, true)?;
        self.notes
            .checkpoints
            .retain(|kept| !gone.contains(&kept.step));
        Ok(())
    }

    /// Writes what came of the training to `model/`: a plain model, or the adapter.
    pub(super) fn write_model(&mut self) -> Result<(), TrainError> {
        let scratch = self.place.scratch(Unfinished::Model)?;
        if self.config.method.kind != MethodKind::Full {
            let whole = self.place.scratch(Unfinished::Model)?;
            for name in self.backend.save_checkpoint(whole.path())? {
                if !name.starts_with("optimizer") {
                    let to = scratch.path().join(&name);
                    fs::rename(whole.path().join(&name), &to)
                        .map_err(TrainError::io("write", &to))?;
                }
            }
            self.view.name_as_base_of(scratch.path())?;
        } else {
            self.backend.merge(scratch.path())?;
        }
        let model = self.place.path(MODEL);
        if model.exists() {
            fs::remove_dir_all(&model).map_err(TrainError::io("replace", &model))?;
        }
        fs::rename(scratch.keep(), &model).map_err(TrainError::io("create", &model))?;
        super::place::open_to_all(&model);
        Ok(())
    }

    /// How often all the data were seen after so many steps.
    pub(super) fn epochs(&self, step: u64) -> f64 {
        feed(&self.config, &self.dataset).epochs_before(step)
    }
}
