//! What is kept of runs.
//!
//! | place | what | how long |
//! |---|---|---|
//! | the op-log | every transition of a run, each durable before anything follows from it | as the log's policy says |
//! | the store | the text of the plan, and results that later runs may take over | the plan as long as the log, results as the budget allows |
//! | `runs/<id>/events.jsonl` | every event of the run, what the steps wrote included | as [`Retention`] says |
//! | `runs/<id>/lock` | locked by the process that carries the run out | as long as it lives |
//!
//! The log is the truth: from it alone follows what a run has completed. The events are for people;
//! without them a run can still be resumed.
//!
//! What must stay true: a step's end is in the log before another step starts because of it; what the
//! log says of a group of steps that streams join, it says of all of them in one op, so that none of
//! them counts as done while another has to begin anew; and nothing that is secret is recorded.

mod history;
mod journal;
mod ops;
mod told;
pub mod trace;
mod transcript;

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use vox_contract::Bytes;
use vox_oplog::OpLog;
use vox_store::Store;

pub use history::{History, RECENT, RecordedRun, RunState, RunSummary};
pub(crate) use journal::Journal;
pub use ops::{
    RUN_ENDED, RUN_RESUMED, RUN_STARTED, RunEnded, RunStarted, STEPS_ENDED, STEPS_STARTED,
    STREAM_ACKNOWLEDGED, StepEnd, StepsEnded, StepsStarted, StreamAcknowledged,
};
pub use told::Told;
use transcript::EVENTS;
pub use transcript::Transcript;
pub(crate) use transcript::Writer as TranscriptWriter;

use crate::event::RunId;

/// Runs whose events are kept, unless `--keep-logs` says another number; those of older ones are removed when a
/// run begins.
pub const KEPT_RUNS: usize = 100;

/// The most bytes that these events have together, unless `--logs-budget` says another number.
pub const KEPT_BYTES: u64 = 10 << 30;

/// How much is kept of the events of runs, when one begins. Those of the oldest go first; those of a run that is
/// being carried out stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Of how many runs, the one that begins among them. They go once there are a tenth more, so that not every
    /// run has something to remove and to tell of.
    pub runs: usize,
    /// The most bytes. Where there are more, they go until a tenth is free.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            runs: KEPT_RUNS,
            bytes: KEPT_BYTES,
        }
    }
}

/// What was removed of the events of old runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pruned {
    pub runs: usize,
    pub bytes: u64,
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, bytes } = *self;
        let ending = if runs == 1 { "" } else { "s" };
        write!(
            f,
            "what {runs} old run{ending} had printed was removed ({}); `--keep-logs` and `--logs-budget` keep more",
            Bytes(bytes)
        )
    }
}

/// How often a lock is tried, and how long is waited in between.
const LOCK_TRIES: u32 = 4;
const LOCK_WAIT: Duration = Duration::from_millis(5);

/// Where runs are recorded.
#[derive(Clone)]
pub struct Record {
    pub(crate) log: Arc<OpLog>,
    pub(crate) store: Store,
    directory: PathBuf,
}

/// Why a run cannot be recorded, or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The op-log.
    #[error("the op-log: {0}")]
    Log(#[from] vox_oplog::Error),
    /// The store.
    #[error("the store: {0}")]
    Store(#[from] vox_store::Error),
    /// A file of the record.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An op, or an event, is not what Vox writes.
    #[error("the record of run {run} cannot be read: {detail}")]
    Unreadable {
        /// The run.
        run: String,
        /// What is wrong.
        detail: String,
    },
    /// No run has this id.
    #[error("there is no run `{wanted}`; `vox runs ls` lists them")]
    NoRun {
        /// What was asked for.
        wanted: String,
    },
    /// Several runs have ids that begin or end so.
    #[error("`{wanted}` is the beginning or the end of several ids: {}", found.join(", "))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// Some of them.
        found: Vec<String>,
    },
    /// A run that is meant by being the last one is of another directory.
    #[error(
        "there is no such run of {} or below it; the last one elsewhere is of {directory}: name it by its id, {run}",
        here.display()
    )]
    Elsewhere {
        /// Where it was looked for.
        here: PathBuf,
        /// The last one.
        run: RunId,
        /// Where its steps work.
        directory: String,
    },
    /// Another process carries the run out.
    #[error("run {run} is being carried out by process {process}; `vox runs cancel {run}` ends it")]
    Running {
        /// The run.
        run: RunId,
        /// The process; 0 when it does not say.
        process: u32,
    },
}

impl RecordError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// A run that this process carries out: nobody else can while it is kept.
#[derive(Debug)]
pub(crate) struct Claim {
    _lock: File,
}

/// A pipeline in a directory, where nobody else runs it while this is kept.
#[derive(Debug)]
pub struct Place {
    _lock: File,
}

impl Record {
    /// Records in this log and store; events go below `directory`, the data directory of the user.
    pub fn new(log: Arc<OpLog>, store: Store, directory: impl Into<PathBuf>) -> Self {
        Self {
            log,
            store,
            directory: directory.into(),
        }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What was recorded.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn history(&self) -> Result<History, RecordError> {
        Ok(History::new(self.log.reader()?, &self.directory))
    }

    /// Claims a pipeline in a directory for this process; otherwise answers the process that has it, 0
    /// when that does not say which.
    ///
    /// # Errors
    ///
    /// The file of the claim cannot be made.
    pub fn place(
        &self,
        pipeline: &str,
        directory: &Path,
    ) -> Result<Result<Place, u32>, RecordError> {
        let name = format!("{}\0{pipeline}", directory.display());
        let name = vox_crypto::hash(name.as_bytes()).to_hex();
        let locks = self.directory.join("runs/places");
        fs::create_dir_all(&locks).map_err(RecordError::io("create", &locks))?;
        let path = locks.join(name);
        Ok(match lock(&path)? {
            Some(lock) => Ok(Place { _lock: lock }),
            None => Err(history::holder(&path).unwrap_or(0)),
        })
    }

    /// Claims a run for this process and makes its directory.
    pub(crate) fn claim(&self, run: RunId) -> Result<Claim, RecordError> {
        let directory = run_directory(&self.directory, run);
        fs::create_dir_all(&directory).map_err(RecordError::io("create", &directory))?;
        let path = directory.join("lock");
        match lock(&path)? {
            Some(lock) => Ok(Claim { _lock: lock }),
            None => Err(RecordError::Running {
                run,
                process: history::holder(&path).unwrap_or(0),
            }),
        }
    }

    /// The events of a run, to be added to.
    pub(crate) fn transcript(&self, run: RunId) -> Result<transcript::Writer, RecordError> {
        transcript::Writer::open(&run_directory(&self.directory, run))
    }

    /// Removes the events of the oldest runs that are not being carried out, as far as there are more than is to
    /// be kept.
    pub(crate) fn prune(&self, kept: Retention) -> Pruned {
        let mut pruned = Pruned::default();
        let Ok(entries) = fs::read_dir(runs_directory(&self.directory)) else {
            return pruned;
        };
        let mut runs: Vec<(RunId, PathBuf, u64)> = entries
            .flatten()
            .filter_map(|entry| {
                let run = entry.file_name().to_str()?.parse().ok()?;
                let directory = entry.path();
                let events = fs::metadata(directory.join(EVENTS));
                Some((run, directory, events.map_or(0, |events| events.len())))
            })
            .collect();
        // Ids of later runs sort after those of earlier ones.
        runs.sort_unstable();
        let (mut count, mut bytes) = (
            runs.len(),
            runs.iter().map(|(.., bytes)| bytes).sum::<u64>(),
        );
        let most = if count > kept.runs.saturating_add(kept.runs / 10) {
            kept.runs
        } else {
            count
        };
        let most_bytes = if bytes > kept.bytes {
            kept.bytes - kept.bytes / 10
        } else {
            bytes
        };
        for (_, directory, size) in runs {
            if count <= most && bytes <= most_bytes {
                break;
            }
            if history::is_held(&directory.join("lock")) || fs::remove_dir_all(&directory).is_err()
            {
                continue;
            }
            count -= 1;
            bytes -= size;
            pruned.runs += 1;
            pruned.bytes += size;
        }
        pruned
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// Locks a file for as long as this process keeps it, and writes the process into it; none when another
/// process has it.
fn lock(path: &Path) -> Result<Option<File>, RecordError> {
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(path)
        .map_err(RecordError::io("open", path))?;
    // Who looks whether a run goes on holds its lock for a moment.
    for tries_left in (0..LOCK_TRIES).rev() {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if tries_left > 0 => thread::sleep(LOCK_WAIT),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(RecordError::io("lock", path)(error)),
        }
    }
    file.set_len(0)
        .and_then(|()| write!(file, "{}", std::process::id()))
        .map_err(RecordError::io("write", path))?;
    Ok(Some(file))
}

fn runs_directory(data: &Path) -> PathBuf {
    data.join("runs")
}

fn run_directory(data: &Path, run: RunId) -> PathBuf {
    runs_directory(data).join(run.to_string())
}
