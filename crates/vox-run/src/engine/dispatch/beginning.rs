//! How a run begins: in the record first, and with what an earlier run has done of it.
//!
//! Owns the run's first entry in the record; what the retention says goes of old ones before it. What
//! must stay true: the record knows of the run before anything of it starts; what was done of a run that goes
//! on is read while nobody else can carry it out; of an earlier run only groups count that have succeeded
//! whole; and a new run that takes their ends over has them in the record as its own.

use super::Dispatcher;
use crate::engine::execute::Execution;
use crate::engine::{Resume, RunOptions};
use crate::event::EventKind;
use crate::plan::Plan;
use crate::record::{Pruned, RecordError, RunStarted, StepEnd, StepsEnded};

/// What an earlier run has done. Of a run that goes on it is read once more, which has to be claimed by now:
/// since the options were made another process may have gone on with it.
pub(super) fn done_earlier(plan: &Plan, options: &RunOptions) -> Result<Resume, RecordError> {
    match (&options.record, &options.resume) {
        (Some(record), Some(resume)) if resume.of == Some(options.id) => {
            Ok(Resume::of(&record.history()?.load(options.id)?, plan))
        }
        (_, resume) => Ok(resume.clone().unwrap_or_default()),
    }
}

/// Records that the run begins, or that it goes on; answers what had to go of the events of old ones.
pub(super) fn record_start(execution: &Execution<'_>) -> Result<Pruned, RecordError> {
    let Execution {
        engine,
        options,
        journal,
        earlier,
        ..
    } = execution;
    let Some(record) = &options.record else {
        return Ok(Pruned::default());
    };
    let pruned = record.prune(options.retention);
    if earlier.of == Some(options.id) {
        journal.resumed()?;
        return Ok(pruned);
    }
    let plan = &engine.plan;
    let text = record.store.put_bytes(plan.text().as_bytes())?;
    journal.started(&RunStarted {
        pipeline: plan.pipeline.name.clone(),
        file: plan.file().display().to_string(),
        directory: execution.directory.display().to_string(),
        plan: text,
        steps: plan.steps.len() as u64,
        keep_going: options.keep_going,
        variables: options.variables.keys().cloned().collect(),
        of: earlier.of,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })?;
    Ok(pruned)
}

impl Dispatcher<'_> {
    /// Tells that the run begins, and what an earlier run has done of it.
    pub(super) fn begin(&mut self) {
        let plan = &self.execution.engine.plan;
        let earlier = &self.execution.earlier;
        let resumed = earlier.of == Some(self.execution.options.id);
        let steps = (0..plan.steps.len()).map(|step| self.head(step)).collect();
        self.tell(EventKind::RunStarted {
            pipeline: plan.pipeline.name.clone(),
            file: plan.file().to_owned(),
            resumed,
            steps,
        });
        let Some(of) = earlier.of else { return };
        let mut done = Vec::new();
        for group in plan.graph().groups() {
            let ends = group
                .members
                .iter()
                .map(|step| earlier.ends.get(&plan.steps[*step].key));
            let Some(ends) = ends.collect::<Option<Vec<_>>>() else {
                continue;
            };
            if !ends.iter().all(|end| end.outcome.is_success()) {
                continue;
            }
            let ends: Vec<StepEnd> = ends
                .into_iter()
                .map(|end| {
                    let mut end = end.clone();
                    end.provenance.earlier.get_or_insert(of);
                    end
                })
                .collect();
            for (step, end) in group.members.iter().zip(&ends) {
                self.settle(
                    *step,
                    end.outcome.clone(),
                    end.provenance.clone(),
                    end.duration(),
                );
            }
            done.extend(&group.members);
            if !resumed {
                // The new run is whole in the record. What is lost of that is taken over again.
                let ended = StepsEnded {
                    key: earlier.keys.get(&ends[0].step).cloned(),
                    steps: ends,
                    parts: Vec::new(),
                };
                if let Err(error) = self.execution.journal.steps_ended(ended, false) {
                    self.warn(format!(
                        "what an earlier run has done is not recorded: {error}"
                    ));
                }
            }
        }
        self.schedule.done_before(&done);
    }
}
