//! What the record says of earlier runs.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;
use vox_crypto::canonical;
use vox_oplog::{Op, Query, Reader};

use super::ops::{
    RUN_ENDED, RUN_RESUMED, RUN_STARTED, RunEnded, RunStarted, STEPS_ENDED, STEPS_STARTED,
    STREAM_ACKNOWLEDGED, StepEnd, StepsEnded, StepsStarted, StreamAcknowledged,
};
use super::{RecordError, Transcript, run_directory};
use crate::event::RunId;
use crate::report::RunOutcome;

/// How many ops back [`History::last_of`] looks.
pub const RECENT: u64 = 100_000;

/// The runs that a log knows.
#[derive(Debug)]
pub struct History {
    reader: Reader,
    directory: PathBuf,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    /// The run.
    pub id: RunId,
    /// What it is a run of.
    pub started: RunStarted,
    /// When it began, in microseconds since the Unix epoch.
    pub time: i64,
    /// How it stands.
    pub state: RunState,
}

/// How a run stands.
#[derive(Clone, Debug, PartialEq)]
pub enum RunState {
    /// A process carries it out; 0 when that does not say which.
    Running(u32),
    /// It has no end, and nobody carries it out.
    Interrupted,
    /// It is over.
    Ended(RunEnded),
}

impl RunState {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running(_) => "running",
            Self::Interrupted => "interrupted",
            Self::Ended(ended) => match ended.outcome {
                RunOutcome::Succeeded => "succeeded",
                RunOutcome::Failed => "failed",
                RunOutcome::Cancelled => "cancelled",
                RunOutcome::Aborted { .. } => "aborted",
            },
        }
    }
}

/// Everything that the log says of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedRun {
    /// The run.
    pub summary: RunSummary,
    /// How often another process went on with it.
    pub resumed: u32,
    /// The last end of each step, by its key.
    pub ends: BTreeMap<String, StepEnd>,
    /// How often each step was tried.
    pub attempts: BTreeMap<String, u32>,
    /// How many chunks the reader of each stream is done with, by its port.
    pub acknowledged: BTreeMap<String, u64>,
    /// What the key of the result of each group is made of, by the key of each of its steps.
    pub parts: BTreeMap<String, BTreeMap<String, String>>,
    /// The cache key of each step's result.
    pub keys: BTreeMap<String, String>,
}

impl History {
    /// Reads the log behind `reader`; events are below `directory`, the data directory of the user.
    pub fn new(reader: Reader, directory: impl Into<PathBuf>) -> Self {
        Self {
            reader,
            directory: directory.into(),
        }
    }

    /// The last runs, the last first; those for which `wanted` says so, at most `limit`.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn list(
        &self,
        limit: usize,
        mut wanted: impl FnMut(&RunSummary) -> bool,
    ) -> Result<Vec<RunSummary>, RecordError> {
        let query = Query {
            kinds: vec![RUN_STARTED.parse()?],
            descending: true,
            ..Query::default()
        };
        let mut runs = Vec::new();
        for op in self.reader.ops(query) {
            let summary = self.summary(&op?)?;
            if wanted(&summary) {
                runs.push(summary);
            }
            if runs.len() == limit {
                break;
            }
        }
        Ok(runs)
    }

    /// A run as a list has it; none when the log does not know it.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn summary_of(&self, run: RunId) -> Result<Option<RunSummary>, RecordError> {
        let query = Query {
            run: Some(run.to_string()),
            kinds: vec![RUN_STARTED.parse()?],
            limit: Some(1),
            ..Query::default()
        };
        let started = self.reader.ops(query).next().transpose()?;
        started.map(|op| self.summary(&op)).transpose()
    }

    /// The run that `wanted` names: an id, its beginning or its end, or `last`, which is the last one of the
    /// directory `here`.
    ///
    /// # Errors
    ///
    /// [`RecordError::NoRun`], [`RecordError::Ambiguous`], [`RecordError::Elsewhere`], or the log cannot be read.
    pub fn find(&self, wanted: &str, here: &Path) -> Result<RunId, RecordError> {
        const SHOWN: usize = 5;
        if let Ok(id) = wanted.parse() {
            return Ok(id);
        }
        let found: Vec<RunSummary> = if wanted == "last" {
            self.last_in(here, |_| true)?.into_iter().collect()
        } else {
            // The last characters of an id tell more than the first, which are the time.
            self.list(SHOWN, |run| {
                let id = run.id.to_string();
                !wanted.is_empty() && (id.starts_with(wanted) || id.ends_with(wanted))
            })?
        };
        match found.as_slice() {
            [] => Err(RecordError::NoRun {
                wanted: wanted.to_owned(),
            }),
            [run] => Ok(run.id),
            several => Err(RecordError::Ambiguous {
                wanted: wanted.to_owned(),
                found: several.iter().map(|run| run.id.to_string()).collect(),
            }),
        }
    }

    /// The last run whose steps work in `here` or below it, among those for which `wanted` says so.
    ///
    /// # Errors
    ///
    /// [`RecordError::Elsewhere`] where only others are wanted, or the log cannot be read.
    pub fn last_in(
        &self,
        here: &Path,
        mut wanted: impl FnMut(&RunSummary) -> bool,
    ) -> Result<Option<RunSummary>, RecordError> {
        let mut elsewhere = None;
        let found = self.list(1, |run| {
            if !wanted(run) {
                return false;
            }
            let is_here = is_within(Path::new(&run.started.directory), here);
            if !is_here && elsewhere.is_none() {
                elsewhere = Some((run.id, run.started.directory.clone()));
            }
            is_here
        })?;
        match (found.into_iter().next(), elsewhere) {
            (None, Some((run, directory))) => Err(RecordError::Elsewhere {
                here: here.to_owned(),
                run,
                directory,
            }),
            (found, _) => Ok(found),
        }
    }

    /// The last run of the pipeline of this name whose steps work in `directory`, whatever file its plan was read
    /// from, as far back as the last [`RECENT`] ops go: whoever begins a run looks, and is not to wait for a log
    /// that is long.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn last_of(
        &self,
        pipeline: &str,
        directory: &Path,
    ) -> Result<Option<RunSummary>, RecordError> {
        let directory = directory.display().to_string();
        let head = self.reader.head()?.map_or(0, |(seq, _)| seq);
        let recent = Query {
            from: Some(head.saturating_sub(RECENT)),
            kinds: vec![RUN_STARTED.parse()?],
            descending: true,
            ..Query::default()
        };
        for op in self.reader.ops(recent) {
            let op = op?;
            let started: RunStarted = payload(&op)?;
            if started.pipeline == pipeline && started.directory == directory {
                return self.summary(&op).map(Some);
            }
        }
        Ok(None)
    }

    /// That run, if it did not come to its end and nobody carries it out.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn interrupted(
        &self,
        pipeline: &str,
        directory: &Path,
    ) -> Result<Option<RunSummary>, RecordError> {
        let last = self.last_of(pipeline, directory)?;
        Ok(last.filter(|run| run.state == RunState::Interrupted))
    }

    /// Everything that is known of a run.
    ///
    /// # Errors
    ///
    /// [`RecordError::NoRun`], or the log cannot be read.
    pub fn load(&self, run: RunId) -> Result<RecordedRun, RecordError> {
        let mut recorded: Option<RecordedRun> = None;
        let query = Query {
            run: Some(run.to_string()),
            ..Query::default()
        };
        for op in self.reader.ops(query) {
            let op = op?;
            let kind = op.kind.as_str();
            if kind == RUN_STARTED {
                recorded = Some(RecordedRun {
                    summary: self.summary(&op)?,
                    resumed: 0,
                    ends: BTreeMap::new(),
                    attempts: BTreeMap::new(),
                    acknowledged: BTreeMap::new(),
                    parts: BTreeMap::new(),
                    keys: BTreeMap::new(),
                });
            }
            let Some(recorded) = &mut recorded else {
                continue;
            };
            match kind {
                RUN_RESUMED => recorded.resumed += 1,
                STEPS_STARTED => {
                    let StepsStarted { steps, attempt } = payload(&op)?;
                    let tried = steps.into_iter().map(|step| (step, attempt));
                    recorded.attempts.extend(tried);
                }
                STREAM_ACKNOWLEDGED => {
                    let StreamAcknowledged { to, chunks } = payload(&op)?;
                    recorded.acknowledged.insert(to, chunks);
                }
                STEPS_ENDED => {
                    let StepsEnded { steps, key, parts } = payload(&op)?;
                    let parts = parts.into_iter().map(Some).chain(std::iter::repeat(None));
                    for (end, parts) in steps.into_iter().zip(parts) {
                        let step = end.step.clone();
                        if let Some(key) = &key {
                            recorded.keys.insert(step.clone(), key.clone());
                        }
                        if let Some(parts) = parts {
                            recorded.parts.insert(step.clone(), parts);
                        }
                        recorded.ends.insert(step, end);
                    }
                }
                _ => {}
            }
        }
        recorded.ok_or_else(|| RecordError::NoRun {
            wanted: run.to_string(),
        })
    }

    /// The events of a run; none when they were removed, or never written.
    ///
    /// # Errors
    ///
    /// They cannot be opened.
    pub fn transcript(&self, run: RunId) -> Result<Option<Transcript>, RecordError> {
        Transcript::open(&run_directory(&self.directory, run))
    }

    fn summary(&self, op: &Op) -> Result<RunSummary, RecordError> {
        let id = op.run.as_deref().unwrap_or_default();
        let id: RunId = id.parse().map_err(|_| RecordError::Unreadable {
            run: id.to_owned(),
            detail: "its id is none".to_owned(),
        })?;
        let ended = Query {
            run: Some(id.to_string()),
            kinds: vec![RUN_ENDED.parse()?, RUN_RESUMED.parse()?],
            descending: true,
            limit: Some(1),
            ..Query::default()
        };
        let end = || -> Result<Option<RunEnded>, RecordError> {
            let last = self.reader.ops(ended.clone()).next().transpose()?;
            let last = last.filter(|op| op.kind.as_str() == RUN_ENDED);
            last.map(|op| payload(&op)).transpose()
        };
        let lock = run_directory(&self.directory, id).join("lock");
        let state = if let Some(ended) = end()? {
            RunState::Ended(ended)
        } else if is_held(&lock) {
            RunState::Running(holder(&lock).unwrap_or(0))
        } else {
            // Who carried it out may have recorded its end and let go of it since the first look.
            end()?.map_or(RunState::Interrupted, RunState::Ended)
        };
        Ok(RunSummary {
            id,
            started: payload(op)?,
            time: op.time,
            state,
        })
    }
}

/// Whether a directory is `here` or below it, also where a link leads there. A name with `..` in it, as that of
/// `vox run ../other/pipeline.toml`, says nothing by how it begins.
fn is_within(directory: &Path, here: &Path) -> bool {
    let leads_up = directory
        .components()
        .any(|part| part == Component::ParentDir);
    let resolved = || directory.canonicalize();
    (!leads_up && directory.starts_with(here))
        || resolved().is_ok_and(|directory| directory.starts_with(here))
}

fn payload<T: DeserializeOwned>(op: &Op) -> Result<T, RecordError> {
    canonical::decode_any(&op.payload).map_err(|error| RecordError::Unreadable {
        run: op.run.as_deref().unwrap_or_default().to_owned(),
        detail: format!("op {}: {error}", op.seq),
    })
}

/// Whether a process holds this lock.
pub(super) fn is_held(lock: &Path) -> bool {
    match File::open(lock).map(|file| file.try_lock_shared()) {
        Ok(Err(TryLockError::WouldBlock)) => true,
        Ok(_) | Err(_) => false,
    }
}

/// The process that wrote itself into this lock.
pub(super) fn holder(lock: &Path) -> Option<u32> {
    fs::read_to_string(lock).ok()?.trim().parse().ok()
}
