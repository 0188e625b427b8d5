//! Going on with what an earlier run has done.
//!
//! A step that the record says has succeeded is not run again. What it made must still be there, since the
//! steps after it read it: what was changed or removed since is taken from the cache, and where it is not
//! there either, the run cannot go on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cache::{Artifact, Cache, place};
use crate::event::RunId;
use crate::graph::{GroupIndex, StepIndex};
use crate::plan::Plan;
use crate::record::{Record, RecordError, RecordedRun, StepEnd};

/// What an earlier run has done of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resume {
    /// The run; the same as the one that goes on where that is resumed.
    pub of: Option<RunId>,
    /// How those of its steps have ended that do not run again, by key.
    pub ends: BTreeMap<String, StepEnd>,
    /// The cache key of each step's result.
    pub keys: BTreeMap<String, String>,
    /// How often each step was tried, for a run that is resumed.
    pub attempts: BTreeMap<String, u32>,
    /// How many chunks the reader of each stream is done with, for a run that is resumed.
    pub acknowledged: BTreeMap<String, u64>,
}

/// Why a run cannot go on where it stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// What a completed step made is not there any more.
    #[error(
        "step `{step}` is done, and its output `{output}` was {} since: {}",
        if *.missing { "removed" } else { "changed" },
        path.display()
    )]
    Output {
        /// The step.
        step: String,
        /// Its output.
        output: String,
        /// Where it was made.
        path: PathBuf,
        /// Whether nothing is there.
        missing: bool,
    },
    /// The record cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Resume {
    /// Goes on with the run itself, whose plan is `plan`: what is not done runs with the same idempotency keys.
    pub fn of(recorded: &RecordedRun, plan: &Plan) -> Self {
        Self {
            attempts: recorded.attempts.clone(),
            acknowledged: recorded.acknowledged.clone(),
            ..Self::rerun(recorded, plan)
        }
    }

    /// Begins another run of `plan` with what this one has done of it.
    pub fn rerun(recorded: &RecordedRun, plan: &Plan) -> Self {
        Self {
            of: Some(recorded.summary.id),
            ends: done(recorded, plan),
            keys: recorded.keys.clone(),
            ..Self::default()
        }
    }

    /// Sees to it that what completed steps of `plan` made is there, in `directory`.
    ///
    /// # Errors
    ///
    /// [`ResumeError::Output`] for the first that is neither there nor in the cache.
    pub fn check(
        &self,
        plan: &Plan,
        directory: &Path,
        recorded: &RecordedRun,
        record: &Record,
    ) -> Result<(), ResumeError> {
        for step in &plan.steps {
            let Some(end) = self.ends.get(&step.key) else {
                continue;
            };
            if !end.outcome.is_success() {
                continue;
            }
            for (name, output) in &step.outputs {
                let path = directory.join(&output.path);
                let found = Artifact::of(&path).ok();
                let hash = found.as_ref().map(Artifact::hash);
                if hash.as_ref() == end.outputs.get(name)
                    || from_cache(record, recorded, &step.key, name, &path)
                {
                    continue;
                }
                return Err(ResumeError::Output {
                    step: step.key.clone(),
                    output: name.clone(),
                    path,
                    missing: found.is_none(),
                });
            }
        }
        Ok(())
    }
}

/// The ends of the steps of `plan` that are done: what did not succeed runs again, and so does all that depends
/// on it. That may have succeeded, where it waited for an end of whatever kind; but it has seen an end that is
/// none any more. What has no end need not run: conditions may have been against it, unless a failure has ended
/// the run before it.
fn done(recorded: &RecordedRun, plan: &Plan) -> BTreeMap<String, StepEnd> {
    let mut ends = recorded.ends.clone();
    let graph = plan.graph();
    let failed = |end: &StepEnd| !end.outcome.is_success();
    let was_halted = !recorded.summary.started.keep_going && ends.values().any(failed);
    let runs_again = |step: &StepIndex| {
        let end = recorded.ends.get(&plan.steps[*step].key);
        end.map_or(was_halted, failed)
    };
    let groups = graph.groups();
    let mut again: Vec<GroupIndex> = (0..groups.len())
        .filter(|group| groups[*group].members.iter().any(runs_again))
        .collect();
    let mut known = vec![false; groups.len()];
    while let Some(group) = again.pop() {
        if std::mem::replace(&mut known[group], true) {
            continue;
        }
        for step in &groups[group].members {
            ends.remove(&plan.steps[*step].key);
            again.extend(graph.dependants(*step));
        }
    }
    ends
}

/// Takes an output of a step from the cache, if it is there.
fn from_cache(
    record: &Record,
    recorded: &RecordedRun,
    step: &str,
    output: &str,
    path: &Path,
) -> bool {
    let cache = Cache::new(record.store.clone());
    let entry = recorded
        .keys
        .get(step)
        .and_then(|key| cache.find(key).ok()?);
    let Some(result) = entry else { return false };
    let mut steps = result.steps.iter();
    let cached = steps.find(|cached| cached.step == step);
    let Some(artifact) = cached.and_then(|cached| cached.outputs.get(output)) else {
        return false;
    };
    place::restore(&[(path.to_owned(), artifact)], cache.store())
        .inspect_err(|error| tracing::warn!(%error, step, output, "not restored from the cache"))
        .is_ok()
}
