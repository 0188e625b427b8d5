//! The loop: a step, a point of the curve, an op; now and then an evaluation and a checkpoint.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use vox_host::contract::ml_backend::{Batch as Head, Memory, Statistics, Update};

use super::TrainError;
use super::place::{CURVE_PICTURE, CURVE_TABLE, Kept, MODEL};
use super::preflight::Preflight;
use super::prepare::{Prepared, feed};
use super::record::{Ended, Evaluated, Step, TRAINING_ENDED, TRAINING_EVALUATED, TRAINING_STEP};
use crate::backend::Rows;
use crate::curve::Point;
use crate::data::{Address, Batch, Tokenising};
use crate::progress::Speed;

/// What a training tells while it goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// It fits, with so much memory.
    Preflight(&'a Preflight),
    /// The data become tokens.
    Tokenising(Tokenising),
    /// It goes on where another process stopped.
    Resumed {
        /// Steps that are done.
        step: u64,
        /// What differs from the backend and the machine that it had before, in words.
        differences: &'a [String],
    },
    /// A step was made.
    Step {
        /// What came of it.
        point: &'a Point,
        /// Steps in all.
        total: u64,
        /// Times that all the data were seen.
        epochs: f64,
        /// How long the rest is going to take.
        left: Option<Duration>,
        /// Bytes in use, and the most so far.
        memory: Memory,
    },
    /// The model was evaluated after a step.
    Evaluated {
        /// The step.
        step: u64,
        /// Mean loss, in nats a token.
        loss: f64,
    },
    /// A checkpoint counts.
    Checkpoint(&'a Kept),
}

/// How a training ended.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its id.
    pub run: String,
    /// Whether all steps were made.
    pub is_finished: bool,
    /// Steps that are done.
    pub step: u64,
    /// Steps in all.
    pub total: u64,
    /// Mean loss of the last step.
    pub loss: Option<f64>,
    /// The last loss on the evaluation split.
    pub eval_loss: Option<f64>,
    /// The newest checkpoint.
    pub checkpoint: Option<Kept>,
    /// The one with the lowest loss on the evaluation split; none without `keep-best`.
    pub best: Option<Kept>,
    /// What came of it; only where all steps were made.
    pub model: Option<PathBuf>,
    /// The loss curve as a table.
    pub table: PathBuf,
    /// The loss curve as a picture.
    pub picture: PathBuf,
}

impl Prepared<'_> {
    /// Trains until all steps are made, it is cancelled, or `limit` more steps were made. It ends with a
    /// checkpoint in each of these cases.
    ///
    /// # Errors
    ///
    /// What ends it early; the checkpoints that were saved stay.
    pub fn run(
        mut self,
        limit: Option<u64>,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<Report, TrainError> {
        let span = tracing::info_span!("vox.train.run", run = self.notes.run, from = self.done);
        let _entered = span.entered();
        let total = self.notes.steps;
        let last = limit.map_or(total, |limit| total.min(self.done.saturating_add(limit)));
        // What came of it is there once the log says that it is over.
        let result = self.advance(last, tell).and_then(|()| self.deliver());
        let outcome = match &result {
            Ok(()) if self.done == total => "finished",
            Ok(()) => "interrupted",
            Err(_) => "failed",
        };
        let ended = Ended {
            outcome: outcome.to_owned(),
            step: self.done,
        };
        let recorded = self.append(TRAINING_ENDED, &ended, true);
        result?;
        recorded?;
        let is_finished = self.done == total;
        let points = self.curve.points();
        Ok(Report {
            run: self.notes.run.clone(),
            is_finished,
            step: self.done,
            total,
            loss: points.last().map(|point| point.loss),
            eval_loss: points.iter().rev().find_map(|point| point.eval_loss),
            checkpoint: self.notes.checkpoints.last().cloned(),
            best: self.best(),
            model: is_finished.then(|| self.place.path(MODEL)),
            table: self.place.path(CURVE_TABLE),
            picture: self.place.path(CURVE_PICTURE),
        })
    }

    /// Draws the curve and, where all steps were made, writes the model.
    fn deliver(&mut self) -> Result<(), TrainError> {
        self.draw()?;
        if self.done == self.notes.steps {
            self.write_model()?;
        }
        Ok(())
    }

    fn draw(&self) -> Result<(), TrainError> {
        let picture = self.place.path(CURVE_PICTURE);
        self.curve.draw(&picture, "Training loss")?;
        Ok(())
    }

    fn advance(&mut self, last: u64, tell: &mut dyn FnMut(Event<'_>)) -> Result<(), TrainError> {
        let begin = Instant::now();
        let mut speed = Speed::new(begin.elapsed());
        let mut learnt = self.curve.points().last().map_or(0, |point| point.tokens);
        let schedule = self.config.schedule(self.notes.steps);
        let cadence = self.config.cadence.clone();
        while self.done < last && !self.around.cancel.is_cancelled() {
            let step = self.done + 1;
            let made = self.step(step, schedule.rate(step))?;
            learnt += made.targets;
            speed.step(begin.elapsed(), made.targets);
            self.append(TRAINING_STEP, &made, false)?;
            let is_last = step == self.notes.steps;
            let is_due = |every: u64| every > 0 && step.is_multiple_of(every);
            let saves = is_due(cadence.checkpoint_every) || is_last;
            // Which checkpoint is the best can be told only of those that were evaluated.
            let evaluates = is_due(cadence.evaluate_every) || is_last || saves && cadence.keep_best;
            let eval_loss = if evaluates && self.dataset.evaluation().is_some() {
                let loss = self.evaluate(step)?;
                speed.pause(begin.elapsed());
                tell(Event::Evaluated { step, loss });
                Some(loss)
            } else {
                None
            };
            let point = Point {
                step,
                tokens: learnt,
                learning_rate: made.learning_rate,
                loss: made.loss,
                eval_loss,
                grad_norm: made.gradient_norm,
                tokens_per_second: speed.tokens_per_second().unwrap_or_default(),
            };
            self.curve.push(point)?;
            self.done = step;
            tell(Event::Step {
                point: &point,
                total: self.notes.steps,
                epochs: self.epochs(step),
                left: speed.time_for(self.notes.steps - step),
                memory: self.backend.memory()?,
            });
            if saves {
                self.checkpoint(eval_loss, tell)?;
                speed.pause(begin.elapsed());
            }
        }
        // Where it was stopped between two checkpoints, nothing that was computed is lost.
        if self.done > 0
            && self
                .notes
                .checkpoints
                .last()
                .is_none_or(|kept| kept.step < self.done)
        {
            self.checkpoint(None, tell)?;
        }
        Ok(())
    }

    fn checkpoint(
        &mut self,
        eval_loss: Option<f64>,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), TrainError> {
        let kept = self.save(self.done, eval_loss)?;
        self.draw()?;
        tell(Event::Checkpoint(&kept));
        Ok(())
    }

    /// Makes step `step` of the optimizer.
    fn step(&mut self, step: u64, learning_rate: f64) -> Result<Step, TrainError> {
        let _span = tracing::debug_span!("vox.train.step", step).entered();
        let accumulation = self.config.optimisation.accumulation;
        let clip = self.config.optimisation.clip;
        let address = |micro| Address {
            step: step - 1,
            micro,
            rank: 0,
        };
        let batches = {
            let feed = feed(&self.config, &self.dataset);
            let batches = (0..accumulation).map(|micro| feed.batch(address(micro)));
            batches.collect::<Result<Vec<_>, _>>()?
        };
        let targets: u64 = batches.iter().map(Batch::learnt).sum();
        let update = Update {
            step,
            learning_rate,
            scale: 1.0 / targets.max(1) as f64,
            clip: (clip > 0.0).then_some(clip),
        };
        let mut loss = 0.0;
        let mut norm = 0.0;
        for (micro, batch) in (0..).zip(&batches) {
            let position = (step - 1) * u64::from(accumulation) + u64::from(micro);
            let rows = rows(batch, position);
            let Statistics { loss: sum, .. } = if accumulation == 1 {
                let stepped = self.backend.train_step(rows, update)?;
                norm = stepped.applied.gradient_norm;
                stepped.statistics
            } else {
                self.backend.forward_backward(rows)?
            };
            if !sum.is_finite() {
                return Err(self.not_finite(step, "loss", sum, address(micro)));
            }
            loss += sum;
        }
        if accumulation > 1 {
            norm = self.backend.apply(update)?.gradient_norm;
        }
        if !norm.is_finite() {
            return Err(self.not_finite(step, "gradient", norm, address(0)));
        }
        Ok(Step {
            step,
            loss: loss / targets.max(1) as f64,
            targets,
            learning_rate,
            gradient_norm: norm,
        })
    }

    fn not_finite(
        &self,
        step: u64,
        what: &'static str,
        value: f64,
        address: Address,
    ) -> TrainError {
        TrainError::NotFinite {
            step,
            what,
            value,
            micro: address.micro,
            rows: feed(&self.config, &self.dataset).rows(address),
            before: self.notes.checkpoints.last().map(|kept| kept.step),
        }
    }

    /// The mean loss on the evaluation split.
    fn evaluate(&mut self, step: u64) -> Result<f64, TrainError> {
        let _span = tracing::info_span!("vox.train.evaluate", step).entered();
        let Some(part) = self.dataset.evaluation() else {
            return Ok(f64::NAN);
        };
        let (mut loss, mut targets) = (0.0, 0);
        for (position, batch) in (0..).zip(part.batches(self.config.optimisation.batch_rows)) {
            let batch = batch?;
            let statistics = self.backend.eval_step(rows(&batch, position))?;
            loss += statistics.loss;
            targets += statistics.targets;
        }
        let evaluated = Evaluated {
            step,
            loss: loss / targets.max(1) as f64,
            targets,
        };
        self.append(TRAINING_EVALUATED, &evaluated, false)?;
        Ok(evaluated.loss)
    }
}

fn rows(batch: &Batch, position: u64) -> Rows<'_> {
    Rows {
        batch: Head {
            position,
            rows: batch.rows as u32,
            columns: batch.columns as u32,
        },
        tokens: &batch.tokens,
        targets: &batch.targets,
        segments: &batch.segments,
    }
}
