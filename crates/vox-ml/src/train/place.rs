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
//! | `.checkpoint-…`, `.model-…`, `.restore-…` | what is not whole yet; of a process that was killed, until the next enters |
//!
//! The record is in the op-log and the checkpoints are in the store; all that is here can be read from
//! there, or made anew.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
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
/// The data as tokens.
pub(super) const TOKENS: &str = "tokens";
const NOTES: &str = "training.json";

/// What a directory is made for that is there until it is whole.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unfinished {
    /// A checkpoint, on its way into the store.
    Checkpoint,
    /// What came of the training.
    Model,
    /// A checkpoint, on its way out of the store.
    Restored,
}

impl Unfinished {
    const ALL: [Self; 3] = [Self::Checkpoint, Self::Model, Self::Restored];

    /// What its name begins with.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Checkpoint => ".checkpoint-",
            Self::Model => ".model-",
            Self::Restored => ".restore-",
        }
    }
}

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
    /// Enters the directory, which is made where it is not there, and removes what a process left in it that was
    /// killed.
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
        let place = Self {
            directory,
            _lock: lock,
        };
        place.sweep();
        Ok(place)
    }

    /// A directory for what is not whole yet, which is removed when it is dropped.
    pub(super) fn scratch(&self, what: Unfinished) -> Result<tempfile::TempDir, TrainError> {
        tempfile::Builder::new()
            .prefix(what.prefix())
            .tempdir_in(&self.directory)
            .map_err(TrainError::io("create a directory in", &self.directory))
    }

    /// Removes what nobody finishes any more: whoever holds the lock is alone here.
    fn sweep(&self) {
        let is_scratch = |entry: &DirEntry| {
            let mut prefixes = Unfinished::ALL.into_iter().map(Unfinished::prefix);
            prefixes.any(|prefix| is_temporary(entry, prefix))
        };
        let is_dir = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        for entry in entries(&self.directory).filter(is_dir).filter(is_scratch) {
            let path = entry.path();
            tell_removed(&path, fs::remove_dir_all(&path));
        }
        let is_file = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file());
        let is_token_file = |entry: &DirEntry| is_temporary(entry, ".tmp");
        let tokens = entries(&self.path(TOKENS)).filter(is_file);
        for entry in tokens.filter(is_token_file) {
            let path = entry.path();
            tell_removed(&path, fs::remove_file(&path));
        }
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
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
        let text =
            serde_json::to_vec_pretty(notes).map_err(|error| failed()(io::Error::other(error)))?;
        let mut file = tempfile::NamedTempFile::new_in(&self.directory).map_err(failed())?;
        io::Write::write_all(&mut file, &text).map_err(failed())?;
        file.as_file().sync_all().map_err(failed())?;
        file.persist(&path).map_err(|error| failed()(error.error))?;
        Ok(())
    }
}

/// What is in a directory, as far as it can be read.
fn entries(directory: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten()
}

/// Whether a name is one that `tempfile` makes: six letters and digits after the prefix.
fn is_temporary(entry: &DirEntry, prefix: &str) -> bool {
    let name = entry.file_name();
    let random = name.to_str().and_then(|name| name.strip_prefix(prefix));
    random.is_some_and(|random| {
        random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// What cannot be removed keeps no training from its work.
fn tell_removed(path: &Path, removed: io::Result<()>) {
    let path = path.display();
    match removed {
        Ok(()) => tracing::info!(%path, "removed what was left of a training that was killed"),
        Err(error) => {
            tracing::warn!(%path, %error, "what is left of a training that was killed cannot be removed");
        }
    }
}

impl Notes {
    /// The keys in which another configuration differs so that it is another training, such as
    /// `optimisation.steps (12 then, 8 now)`. When it looks at the data and what it keeps does not matter.
    pub fn differing(&self, other: &TrainConfig) -> Vec<String> {
        let (mut ours, mut theirs) = (values(&self.config), values(other));
        for free in ["output", "cadence", "machine"] {
            ours.remove(free);
            theirs.remove(free);
        }
        let mut differing = Vec::new();
        differences("", &ours, &theirs, &mut differing);
        differing
    }
}

/// Adds what two tables differ in, in the order of the keys; what is left out of one of them as well.
fn differences(
    above: &str,
    then: &Map<String, Value>,
    now: &Map<String, Value>,
    found: &mut Vec<String>,
) {
    let keys: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    for key in keys {
        match (then.get(key), now.get(key)) {
            (then, now) if then == now => {}
            (Some(Value::Object(then)), Some(Value::Object(now))) => {
                differences(&format!("{above}{key}."), then, now, found);
            }
            (then, now) => {
                let (then, now) = (shown(then), shown(now));
                found.push(format!("{above}{key} ({then} then, {now} now)"));
            }
        }
    }
}

/// A value of a configuration, for messages.
fn shown(value: Option<&Value>) -> String {
    match value {
        None => "not set".to_owned(),
        Some(Value::Object(_)) => "set".to_owned(),
        Some(value) => value.to_string(),
    }
}

fn values(config: &TrainConfig) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_left_that_was_killed_goes_when_the_next_enters_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::enter(dir.path()).unwrap();
        let left = Unfinished::ALL.map(|what| {
            let path = place.scratch(what).unwrap().keep();
            fs::write(path.join("model.safetensors"), "half").unwrap();
            path
        });
        fs::create_dir(place.path(TOKENS)).unwrap();
        let file = tempfile::NamedTempFile::new_in(place.path(TOKENS)).unwrap();
        let (_, tokens) = file.keep().unwrap();
        let own = [".checkpoint-of-mine", "model", "tokens/a"].map(|name| place.path(name));
        for path in &own {
            fs::create_dir(path).unwrap();
        }

        // It is at work: what it makes is its own.
        let second = Place::enter(dir.path());
        assert!(matches!(second, Err(TrainError::Busy { .. })), "{second:?}");
        assert!(left.iter().all(|path| path.exists()) && tokens.exists());

        drop(place);
        let _next = Place::enter(dir.path()).unwrap();
        assert!(!left.iter().any(|path| path.exists()) && !tokens.exists());
        assert!(own.iter().all(|path| path.exists()));
    }

    #[test]
    fn another_configuration_is_told_key_by_key_with_both_values() {
        let table = |text: &str| match serde_json::from_str(text).unwrap() {
            Value::Object(table) => table,
            other => panic!("{other}"),
        };
        let then = table(
            r#"{"data": {"files": ["a"], "context": 32}, "model": {"base": "tiny"},
                "optimisation": {"steps": 12, "seed": 7}}"#,
        );
        let now = table(
            r#"{"data": {"files": ["a", "b"], "context": 32}, "scratch": {"layers": 2},
                "optimisation": {"epochs": 0.5, "seed": 7}}"#,
        );
        let mut found = Vec::new();
        differences("", &then, &now, &mut found);
        let expected = [
            r#"data.files (["a"] then, ["a","b"] now)"#,
            "model (set then, not set now)",
            "optimisation.epochs (not set then, 0.5 now)",
            "optimisation.steps (12 then, not set now)",
            "scratch (not set then, set now)",
        ];
        assert_eq!(found, expected);
        found.clear();
        differences("", &then, &then, &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
}
