//! The output directory of a training.
//!
//! | file | what |
//! |---|---|
//! | `training.json` | which training it is, and its checkpoints: [`Notes`] |
//! | `loss.csv`, `loss.svg` | the loss curve |
//! | `start/` | the model that a training from scratch began with: configuration and tokenizer |
//! | `tokens/` | the data as tokens |
//! | `model/` | what came of it: a model, or an adapter in the layout of PEFT |
//! | `.lock` | held by the process that trains |
//!
//! The record is in the op-log and the checkpoints are in the store; all that is here can be read from
//! there, or made anew.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vox_crypto::Digest;

use super::TrainError;
use super::record::{Backend, Machine};
use crate::config::TrainConfig;
use crate::retention::Saved;

/// The loss curve as a table.
pub const CURVE_TABLE: &str = "loss.csv";
/// The loss curve as a picture.
pub const CURVE_PICTURE: &str = "loss.svg";
/// What came of the training.
pub const MODEL: &str = "model";
const NOTES: &str = "training.json";

/// Which training a directory belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notes {
    /// Its id: the run of its ops.
    pub run: String,
    /// Its configuration.
    pub config: TrainConfig,
    /// Steps in all.
    pub steps: u64,
    /// What it began with: [`View::content`](crate::bundle::View::content), with an adapter that is trained further
    /// a hash over both.
    pub base: Digest,
    /// The dataset.
    pub dataset: Digest,
    /// What computed it last. Where it goes on, it is asked first, and its version is compared.
    pub backend: Backend,
    /// Where it was computed last.
    pub machine: Machine,
    /// Checkpoints that are kept, oldest first.
    pub checkpoints: Vec<Kept>,
}

/// A checkpoint that is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Steps that are done.
    pub step: u64,
    /// Its signed manifest.
    pub manifest: Digest,
    /// The bundle.
    pub bundle_hash: Digest,
    /// The loss on the evaluation split at that step.
    pub eval_loss: Option<f64>,
}

impl Kept {
    /// What decides whether it is kept.
    pub(super) fn saved(&self) -> Saved {
        Saved {
            step: self.step,
            eval_loss: self.eval_loss,
        }
    }
}

/// The directory, for as long as this process trains in it.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    /// Unlocked when it is closed, however the process ends.
    _lock: File,
}

impl Place {
    /// Enters the directory, which is made where it is not there.
    pub(super) fn enter(directory: &Path) -> Result<Self, TrainError> {
        fs::create_dir_all(directory).map_err(TrainError::io("create", directory))?;
        let path = directory.join(".lock");
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(TrainError::io("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(TrainError::Busy {
                    path: directory.to_owned(),
                });
            }
            Err(fs::TryLockError::Error(error)) => {
                return Err(TrainError::io("lock", &path)(error));
            }
        }
        // As people read it: without what a configuration's own directory adds.
        let directory = directory
            .canonicalize()
            .map_err(TrainError::io("find", directory))?;
        Ok(Self {
            directory,
            _lock: lock,
        })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The training that is here; none in a directory without one.
    pub(super) fn notes(&self) -> Result<Option<Notes>, TrainError> {
        let path = self.path(NOTES);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TrainError::io("read", &path)(error)),
        };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            TrainError::Data(crate::Error::Damaged {
                path,
                message: format!("{error}; it is what Vox wrote there, and was changed"),
            })
        })
    }

    /// Writes down which training is here, in place of what was written before.
    pub(super) fn note(&self, notes: &Notes) -> Result<(), TrainError> {
        let path = self.path(NOTES);
        let failed = || TrainError::io("write", &path);
        let text = serde_json::to_vec_pretty(notes)
            .map_err(|error| failed()(std::io::Error::other(error)))?;
        let mut file = tempfile::NamedTempFile::new_in(&self.directory).map_err(failed())?;
        std::io::Write::write_all(&mut file, &text).map_err(failed())?;
        file.as_file().sync_all().map_err(failed())?;
        file.persist(&path).map_err(|error| failed()(error.error))?;
        Ok(())
    }
}

impl Notes {
    /// The keys in which another configuration differs so that it is another training. When it looks at
    /// the data and what it keeps does not matter.
    pub fn differing(&self, other: &TrainConfig) -> Vec<String> {
        let (mut ours, mut theirs) = (values(&self.config), values(other));
        for free in ["output", "cadence", "machine"] {
            ours.remove(free);
            theirs.remove(free);
        }
        let keys = ours.keys().chain(theirs.keys());
        let mut differing: Vec<String> = keys
            .filter(|key| ours.get(*key) != theirs.get(*key))
            .cloned()
            .collect();
        differing.sort();
        differing.dedup();
        differing
    }
}

fn values(config: &TrainConfig) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(config) {
        Ok(serde_json::Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    }
}

/// A temporary directory is for its owner alone; what was asked for is as any other directory.
pub(super) fn open_to_all(directory: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o755));
    }
    #[cfg(not(unix))]
    let _ = directory;
}
