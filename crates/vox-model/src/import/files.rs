//! Files that go into the store as they are, with what their headers say of the weights.
//!
//! Files are taken side by side by as many threads as the machine has cores: SHA3-512 is a chain within
//! a file, so that is how a sharded model is hashed in parallel. What must stay true: a weights file goes
//! in only after its header was read and found in order.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use serde_json::Value;
use vox_crypto::Algorithm;
use vox_store::{ImportOptions, Link, Store};

use super::config;
use super::error::ImportError;
use super::layout::{LeftOut, Taken, role_of};
use crate::bundle::{FileEntry, Quantisation, Role};
use crate::formats::safetensors::SafeTensors;
use crate::progress::Progress;
use crate::tensor::TensorSource as _;

/// Files in the store, and what they say.
#[derive(Debug)]
pub(crate) struct Stored {
    /// As they stand in the manifest.
    pub files: Vec<FileEntry>,
    /// The architecture that the configuration names.
    pub architecture: Option<String>,
    /// Number of weights.
    pub parameters: u64,
    /// How most of them are stored.
    pub quantisation: Quantisation,
    /// What the description says.
    pub licence: Option<String>,
    /// Of an adapter: what it calls its base.
    pub adapter: Option<Option<String>>,
    /// What was left out.
    pub left_out: Vec<LeftOut>,
    /// What a user should know: what was assumed, and what could not be carried over.
    pub notes: Vec<String>,
}

impl Default for Stored {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            architecture: None,
            parameters: 0,
            quantisation: Quantisation::Mixed,
            licence: None,
            adapter: None,
            left_out: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// What the headers of weights say.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    /// Elements by how they are stored.
    parts: Vec<(u64, Quantisation)>,
    /// Of each file its tensors.
    tensors: BTreeMap<String, Vec<String>>,
}

impl Headers {
    /// Reads the header of one more file.
    fn add(&mut self, taken: &Taken) -> Result<(), ImportError> {
        let file = SafeTensors::open(&taken.file).map_err(ImportError::format(&taken.file))?;
        for tensor in file.tensors() {
            let elements = tensor.elements().unwrap_or(u64::MAX);
            self.parts
                .push((elements, Quantisation::of_dtype(tensor.dtype)));
        }
        let names = file
            .tensors()
            .iter()
            .map(|tensor| tensor.name.clone())
            .collect();
        self.tensors.insert(taken.path.clone(), names);
        Ok(())
    }

    fn parameters(&self) -> u64 {
        self.parts
            .iter()
            .fold(0, |sum, (elements, _)| sum.saturating_add(*elements))
    }
}

/// Puts files into the store that belong to a bundle as they are, with what they say.
pub(crate) fn store(
    store: &Store,
    taken: &[Taken],
    link: Link,
    progress: &dyn Progress,
) -> Result<Stored, ImportError> {
    let mut stored = describe(taken)?;
    stored.files = put(store, taken, link, progress)?;
    Ok(stored)
}

/// Puts files into the store as they are.
pub(super) fn put(
    store: &Store,
    taken: &[Taken],
    link: Link,
    progress: &dyn Progress,
) -> Result<Vec<FileEntry>, ImportError> {
    let mut total = 0;
    for file in taken {
        total += fs::metadata(&file.file)
            .map_err(ImportError::io("read", &file.file))?
            .len();
    }
    progress.begin("importing", Some(total));
    let files = import_all(store, taken, link, progress)?;
    progress.end();
    Ok(files)
}

/// What the files say, without a look at their data.
pub(super) fn describe(taken: &[Taken]) -> Result<Stored, ImportError> {
    let mut headers = Headers::default();
    let mut stored = Stored::default();
    for file in taken {
        match (file.role, file.path.as_str()) {
            (Role::Weights, _) => headers.add(file)?,
            // Its header is checked, and it is none of the weights.
            (Role::Optimizer, _) => Headers::default().add(file)?,
            (_, "config.json") => {
                stored.architecture = config::architecture(&config::read(&file.file)?)
            }
            (_, "adapter_config.json") => {
                stored.adapter = Some(config::base(&config::read(&file.file)?))
            }
            (_, "README.md") => stored.licence = config::licence_in(&file.file),
            _ => {}
        }
    }
    for index in taken.iter().filter(|file| file.role == Role::Index) {
        check_index(&index.file, &headers)?;
    }
    stored.parameters = headers.parameters();
    stored.quantisation = Quantisation::of_parts(headers.parts);
    Ok(stored)
}

/// Whether an index names the shards that are there, and in each the tensors that are in it.
fn check_index(path: &Path, headers: &Headers) -> Result<(), ImportError> {
    let refuse = |why: String| {
        Err(ImportError::Index {
            path: path.to_path_buf(),
            why,
        })
    };
    let index = config::read(path)?;
    let Some(map) = index.get("weight_map").and_then(Value::as_object) else {
        return refuse("it has no `weight_map`".to_owned());
    };
    for (tensor, shard) in map {
        let Some(shard) = shard.as_str() else {
            return refuse(format!(
                "the shard of `{}` is no text",
                tensor.escape_debug()
            ));
        };
        let Some(tensors) = headers.tensors.get(shard) else {
            return refuse(format!("the shard `{}` is missing", shard.escape_debug()));
        };
        if !tensors.contains(tensor) {
            let (tensor, shard) = (tensor.escape_debug(), shard.escape_debug());
            return refuse(format!("the tensor `{tensor}` is not in `{shard}`"));
        }
    }
    let unnamed = headers
        .tensors
        .values()
        .flatten()
        .find(|tensor| !map.contains_key(*tensor));
    if let Some(tensor) = unnamed {
        return refuse(format!(
            "it does not name the tensor `{}`",
            tensor.escape_debug()
        ));
    }
    Ok(())
}

fn import_all(
    store: &Store,
    taken: &[Taken],
    link: Link,
    progress: &dyn Progress,
) -> Result<Vec<FileEntry>, ImportError> {
    // The largest first, so that the last one to end is a small one.
    let mut order: Vec<_> = taken.iter().collect();
    order.sort_by_key(|file| fs::metadata(&file.file).map_or(0, |metadata| metadata.len()));
    let waiting = Mutex::new(order);
    let done = Mutex::new(Vec::new());
    let failed = Mutex::new(None);
    let work = || {
        loop {
            let next = lock(&waiting).pop();
            let Some(file) = next else { return };
            match import_one(store, file, link, progress) {
                Ok(entry) => lock(&done).push(entry),
                Err(error) => {
                    lock(&waiting).clear();
                    lock(&failed).get_or_insert(error);
                }
            }
        }
    };
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(taken.len());
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    if let Some(error) = lock(&failed).take() {
        return Err(error);
    }
    let mut files = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn import_one(
    store: &Store,
    taken: &Taken,
    link: Link,
    progress: &dyn Progress,
) -> Result<FileEntry, ImportError> {
    let mut told = 0;
    let mut watch = |at: vox_store::Progress| {
        progress.advance(at.done.saturating_sub(told));
        told = at.done;
        if progress.is_cancelled() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let options = ImportOptions {
        link,
        also: &[Algorithm::Sha3_512],
        watch: Some(&mut watch),
    };
    let blob = store.import_file(&taken.file, options)?;
    Ok(entry_of(&taken.path, taken.role, &blob))
}

/// A file of a manifest from a blob that was written with its SHA3-512.
pub(crate) fn entry_of(path: &str, role: Role, blob: &vox_store::Blob) -> FileEntry {
    FileEntry {
        path: path.to_owned(),
        role,
        len: blob.len,
        sha3_512: blob.also[0],
        blake3: blob.digest,
    }
}

/// The files of a checkpoint's directory: all that are in it.
pub(crate) fn of_checkpoint(directory: &Path) -> Result<Vec<Taken>, ImportError> {
    let mut taken = Vec::new();
    let io = || ImportError::io("list", directory);
    for entry in fs::read_dir(directory).map_err(io())? {
        let entry = entry.map_err(io())?;
        let name = entry.file_name();
        let is_file = entry.file_type().map_err(io())?.is_file();
        let Some(name) = name
            .to_str()
            .filter(|name| is_file && crate::bundle::is_safe_path(name))
        else {
            return Err(ImportError::NoModel {
                path: entry.path(),
                why: "a checkpoint holds regular files with plain names only".to_owned(),
            });
        };
        let role = role_of(name).unwrap_or(Role::Other);
        taken.push(Taken {
            path: name.to_owned(),
            file: entry.path(),
            role,
        });
    }
    taken.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(taken)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
