//! The weights of a bundle: SafeTensors files, mapped into memory, and their tensors by name.
//!
//! | module | owns |
//! |---|---|
//! | `files` | which files hold the weights, and their headers |
//! | `element` | [`Element`]: what is stored for a number, and how it becomes a float |
//! | `update` | [`Update`]: what an adapter adds to a matrix |
//!
//! Nothing is read before a tensor is asked for, and no file is read as a whole. Besides plain numbers, tensors
//! may be kept as blocks of ggml, as `vox model import` writes them with `--quant` and `--keep-quantised`: `U8`, of the
//! shape (rows, bytes of a row), with type and shape under the key `ggml.<tensor>` of the file's `__metadata__`.
//!
//! What must stay true: what a header says is compared with the file before a byte is read by it.

mod element;
mod files;
mod update;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};
use vox_quant::BlockKind;

pub use element::Element;
pub use update::Update;

use crate::architecture::Architecture;
use crate::error::{Error, Result};
use files::{Entry, MappedFile};

/// What is known of a tensor without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// What is stored for a number.
    pub element: Element,
    /// The shape in numbers, whatever is stored for them.
    pub shape: Vec<usize>,
}

/// The tensors of a bundle.
#[derive(Debug)]
pub struct Weights {
    directory: PathBuf,
    files: Vec<MappedFile>,
    tensors: BTreeMap<String, Entry>,
    /// What is added to matrices when they are read.
    updates: BTreeMap<String, Update>,
}

impl Weights {
    /// Maps the weights of the bundle in a directory: `model.safetensors`, or the shards that
    /// `model.safetensors.index.json` names.
    ///
    /// # Errors
    ///
    /// [`Error::NoWeights`]; [`Error::MissingShard`]; [`Error::MissingTensor`] for one that the index names and
    /// its shard does not hold; [`Error::Io`] and [`Error::Format`] for a file that cannot be read.
    pub fn open(directory: &Path) -> Result<Self> {
        let whole = directory.join("model.safetensors");
        let index = directory.join("model.safetensors.index.json");
        if whole.is_file() {
            Self::of_files(directory, &[whole])
        } else if index.is_file() {
            files::sharded(directory, &index)
        } else {
            Err(Error::NoWeights(directory.to_path_buf()))
        }
    }

    /// Maps one file, such as `adapter_model.safetensors`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Format`].
    pub fn open_file(path: &Path) -> Result<Self> {
        let directory = path.parent().unwrap_or(Path::new(""));
        Self::of_files(directory, &[path.to_path_buf()])
    }

    fn of_files(directory: &Path, paths: &[PathBuf]) -> Result<Self> {
        let mut weights = Self {
            directory: directory.to_path_buf(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            updates: BTreeMap::new(),
        };
        for path in paths {
            let (file, tensors) = MappedFile::open(path)?;
            let number = weights.files.len();
            let tensors = tensors.into_iter().map(|(name, entry)| {
                let entry = Entry {
                    file: number,
                    ..entry
                };
                (name, entry)
            });
            weights.tensors.extend(tensors);
            weights.files.push(file);
        }
        Ok(weights)
    }

    /// From now on a matrix is read with this added to it. What is stored stays as it is.
    ///
    /// # Errors
    ///
    /// [`Error::MissingTensor`].
    ///
    /// # Panics
    ///
    /// Where the update is not of the matrix's shape.
    pub fn update(&mut self, name: &str, update: Update) -> Result<()> {
        let &[rows, columns] = &self.info(name)?.shape[..] else {
            panic!("`{name}` is no matrix");
        };
        assert_eq!(update.a.len(), update.rank * columns, "A of `{name}`");
        assert_eq!(update.b.len(), rows * update.rank, "B of `{name}`");
        self.updates.insert(name.to_owned(), update);
        Ok(())
    }

    /// The directory of the bundle.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        let lengths = self.tensors.values().map(|entry| entry.range.len() as u64);
        lengths.sum()
    }

    /// What is known of a tensor without reading it.
    ///
    /// # Errors
    ///
    /// [`Error::MissingTensor`].
    pub fn info(&self, name: &str) -> Result<&TensorInfo> {
        Ok(&self.entry(name)?.info)
    }

    /// A tensor's bytes as they are stored, rows one after another.
    ///
    /// # Errors
    ///
    /// [`Error::MissingTensor`].
    pub fn stored(&self, name: &str) -> Result<&[u8]> {
        let entry = self.entry(name)?;
        Ok(&self.files[entry.file].bytes()[entry.range.clone()])
    }

    /// Gives memory back that a tensor was read into, for whoever made something else of it. What reads the tensor
    /// again has it from the file.
    ///
    /// # Errors
    ///
    /// [`Error::MissingTensor`].
    pub fn release(&self, name: &str) -> Result<()> {
        let entry = self.entry(name)?;
        self.files[entry.file].release(entry.range.clone());
        Ok(())
    }

    /// A tensor on a device, its numbers made into `dtype`.
    ///
    /// # Errors
    ///
    /// [`Error::MissingTensor`]; [`Error::ElementType`] where it holds no floats; [`Error::Compute`] where the
    /// device cannot take it.
    pub fn tensor(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let info = self.info(name)?;
        let doing = || format!("load `{name}`");
        let tensor = match info.element {
            Element::Plain(stored) if !self.updates.contains_key(name) => {
                let bytes = self.stored(name)?;
                Tensor::from_raw_buffer(bytes, stored, &info.shape, device)
            }
            Element::Other(_) => return Err(self.no_weights(name)?),
            _ => Tensor::from_vec(self.floats(name)?, &info.shape[..], device),
        };
        let converted = tensor.and_then(|tensor| tensor.to_dtype(dtype));
        converted.map_err(Error::compute(doing()))
    }

    /// A tensor that is kept as blocks, as it is, on a device; `None` for one of plain numbers, and for one that
    /// is [updated](Self::update).
    ///
    /// # Errors
    ///
    /// [`Error::MissingTensor`]; [`Error::Compute`] where the device cannot take it.
    pub fn blocks(&self, name: &str, device: &Device) -> Result<Option<QTensor>> {
        let info = self.info(name)?;
        let Element::Blocks(kind) = info.element else {
            return Ok(None);
        };
        if self.updates.contains_key(name) {
            return Ok(None);
        }
        let blocks = element::blocks(kind, self.stored(name)?, &info.shape, device);
        let blocks = blocks.map_err(Error::compute(format!("load `{name}`")))?;
        Ok(Some(blocks))
    }

    /// The bytes of a matrix's row, where the matrix is kept as blocks of this type; `None` where it is not, and for one
    /// that is [updated](Self::update).
    pub fn row_blocks(&self, name: &str, row: usize, kind: BlockKind) -> Option<&[u8]> {
        let entry = self.find(name)?;
        if entry.info.element.block_kind() != Some(kind) || self.updates.contains_key(name) {
            return None;
        }
        let stored = &self.files[entry.file].bytes()[entry.range.clone()];
        // Every row has as many bytes: blocks do not go over the end of one.
        let bytes = stored.len().checked_div(*entry.info.shape.first()?)?;
        stored.get(row * bytes..(row + 1) * bytes)
    }

    /// All numbers of a tensor, rows one after another.
    ///
    /// # Errors
    ///
    /// As [`read_rows`](Self::read_rows).
    pub fn floats(&self, name: &str) -> Result<Vec<f32>> {
        let shape = &self.info(name)?.shape;
        let rows = shape.first().copied().unwrap_or(1);
        let mut floats = vec![0.0; shape.iter().product()];
        self.read_rows(name, 0..rows, &mut floats)?;
        Ok(floats)
    }

    /// Reads rows of a tensor, which are what is under its first index, as floats.
    ///
    /// # Errors
    ///
    /// [`Error::MissingTensor`]; [`Error::ElementType`] where it holds no floats; [`Error::Format`] where an
    /// [update](Self::update) makes something infinite of it, or no number.
    ///
    /// # Panics
    ///
    /// Where the tensor has no such rows, or `out` is not of their length.
    pub fn read_rows(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let info = self.info(name)?;
        let row: usize = info.shape.iter().skip(1).product();
        let part = self.stored_rows(name, &rows)?;
        assert_eq!(out.len(), rows.len() * row, "rows {rows:?} of `{name}`");
        let are_floats = element::floats(info.element, part, &[rows.len(), row], out)
            .map_err(Error::compute(format!("read `{name}`")))?;
        if !are_floats {
            return Err(self.no_weights(name)?);
        }
        if let Some(update) = self.updates.get(name) {
            update.add(rows, out);
            if !out.iter().all(|number| number.is_finite()) {
                return Err(self.no_number(name));
            }
        }
        Ok(())
    }

    /// Refuses a tensor that holds what is no number, or is infinite, as it is stored: rounding to blocks would make
    /// zeros of it and products spread it, and nobody would know where it came from. Whoever computes with a tensor asks
    /// this first. What [updates](Self::update) make of one is looked at when it is read.
    ///
    /// # Errors
    ///
    /// [`Error::MissingTensor`]; [`Error::Format`].
    pub fn check_numbers(&self, name: &str) -> Result<()> {
        let rows = self.info(name)?.shape.first().copied().unwrap_or(1);
        self.check_rows(name, 0..rows)
    }

    /// [`check_numbers`](Self::check_numbers) of some rows alone.
    ///
    /// # Errors
    ///
    /// As [`check_numbers`](Self::check_numbers).
    ///
    /// # Panics
    ///
    /// Where the tensor has no such rows.
    pub fn check_rows(&self, name: &str, rows: Range<usize>) -> Result<()> {
        let element = self.info(name)?.element;
        if element::are_numbers(element, self.stored_rows(name, &rows)?) {
            return Ok(());
        }
        Err(self.no_number(name))
    }

    /// The bytes of rows. Every row has as many: blocks do not go over the end of one.
    fn stored_rows(&self, name: &str, rows: &Range<usize>) -> Result<&[u8]> {
        let all = self.info(name)?.shape.first().copied().unwrap_or(1);
        assert!(rows.end <= all, "`{name}` has {all} rows, not {rows:?}");
        let stored = self.stored(name)?;
        let bytes = stored.len().checked_div(all).unwrap_or(0);
        Ok(&stored[rows.start * bytes..rows.end * bytes])
    }

    /// Compares the tensors with those of an architecture.
    ///
    /// # Errors
    ///
    /// [`Error::MissingTensor`], [`Error::Shape`] and [`Error::ElementType`] for the first tensor that does not
    /// fit.
    pub fn check(&self, architecture: &Architecture) -> Result<()> {
        for wanted in architecture.tensors() {
            let entry = self.entry(&wanted.name)?;
            if let Element::Other(_) = entry.info.element {
                return Err(self.no_weights(&wanted.name)?);
            }
            if entry.info.shape != wanted.shape {
                return Err(Error::Shape {
                    path: self.files[entry.file].path().to_path_buf(),
                    tensor: wanted.name,
                    found: entry.info.shape.clone(),
                    wanted: wanted.shape,
                });
            }
        }
        Ok(())
    }

    /// The element that most of the numbers are stored as; `None` without tensors.
    pub fn usual_element(&self) -> Option<Element> {
        let elements: BTreeSet<Element> = self.infos().map(|info| info.element).collect();
        elements.into_iter().max_by_key(|&element| {
            let infos = self.infos().filter(|info| info.element == element);
            infos
                .map(|info| info.shape.iter().product::<usize>())
                .sum::<usize>()
        })
    }

    fn infos(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values().map(|entry| &entry.info)
    }

    /// A tensor by its name, or by the name that it has where a model was saved with or without its head:
    /// `model.norm.weight` as `norm.weight`, and `encoder.…` as `bert.encoder.…`.
    fn find(&self, name: &str) -> Option<&Entry> {
        let tensors = &self.tensors;
        tensors
            .get(name)
            .or_else(|| tensors.get(name.strip_prefix("model.")?))
            .or_else(|| tensors.get(&format!("bert.{name}")))
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.find(name).ok_or_else(|| Error::MissingTensor {
            place: match self.files.as_slice() {
                [file] => file.path().to_path_buf(),
                _ => self.directory.clone(),
            },
            tensor: name.to_owned(),
        })
    }

    /// The error that a tensor holds what is no number.
    fn no_number(&self, name: &str) -> Error {
        let why = format!("the tensor `{name}` holds what is no number, or is infinite");
        Error::format(&self.directory)(why)
    }

    /// The error that a tensor holds no floats.
    fn no_weights(&self, name: &str) -> Result<Error> {
        let entry = self.entry(name)?;
        Ok(Error::ElementType {
            path: self.files[entry.file].path().to_path_buf(),
            tensor: name.to_owned(),
            found: entry.info.element.to_string(),
        })
    }
}

#[cfg(test)]
mod tests;
