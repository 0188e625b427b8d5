//! Weights of other formats, which become SafeTensors on their way into the store.
//!
//! Nothing is written twice: tensors are read, dequantised where they are quantised, quantised where that is asked for,
//! and go straight into blobs of the store. What must stay true: the bytes that come out depend on the source and on the
//! request alone, so that who imports the same file elsewhere gets the same hashes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use vox_crypto::Algorithm;
use vox_quant::Mix;
use vox_store::Store;

use super::error::ImportError;
use super::files::{self, Stored, entry_of};
use super::layout::{Directory, LeftOut, Taken};
use super::{Request, config};
use crate::bundle::{FileEntry, Quantisation, Role};
use crate::formats::gguf::{GgufModel, Precision};
use crate::formats::pytorch::PyTorchFile;
use crate::formats::safetensors::{SafeTensors, ShardIndex, ShardPlan};
use crate::progress::Progress;
use crate::quantise::{NOTE, Quantised};
use crate::tensor::{TensorInfo, TensorSource};

/// Why an adapter is not quantised.
const ADAPTER: &str =
    "it is an adapter, whose matrices are added to those of its model; import it without `--quant`";

/// Why weights in blocks are not quantised.
const QUANTISED: &str = "its weights are in blocks already; import it without `--quant`, or import the model that they \
                         were made of";

/// Why weights without matrices in blocks are not quantised.
const NOTHING: &str = "none of its tensors is a matrix that backends hold in blocks: a map of a layer, the embedding or \
                       the head of a Llama, Mistral, Qwen, Gemma or BERT, with rows of a multiple of 32 numbers; import \
                       it without `--quant`";

/// Imports a directory: as it is, or with weights that are quantised or come from PyTorch.
pub(super) fn directory(
    store: &Store,
    request: &Request<'_>,
    directory: &Directory,
    progress: &dyn Progress,
) -> Result<Stored, ImportError> {
    if request.quantise.is_some() && directory.is_adapter {
        return Err(refuse_to_quantise(request, ADAPTER));
    }
    let is_converted = |taken: &&Taken| {
        request.quantise.is_some() && matches!(taken.role, Role::Weights | Role::Index)
    };
    let (weights, others): (Vec<&Taken>, Vec<&Taken>) =
        directory.taken.iter().partition(is_converted);
    let mut stored = files::describe(&directory.taken)?;
    stored.left_out.extend(directory.left_out.iter().cloned());
    if !weights.is_empty() {
        let paths = weights.iter().filter(|taken| taken.role == Role::Weights);
        let paths: Vec<&Path> = paths.map(|taken| taken.file.as_path()).collect();
        let converted = safetensors(store, request, &paths, progress)?;
        stored.files.extend(converted.files);
        stored.quantisation = converted.quantisation;
    }
    let others: Vec<Taken> = others.into_iter().cloned().collect();
    let others = files::put(store, &others, request.link(), progress)?;
    stored.files.extend(others);
    if !directory.pytorch.is_empty() {
        let converted = pytorch(store, request, &directory.pytorch, progress)?;
        if let Some(index) = &directory.pytorch_index {
            let name = index
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            stored.left_out.push(LeftOut::new(
                name,
                "the converted weights have an index of their own",
            ));
        }
        stored.files.extend(converted.files);
        stored.left_out.extend(converted.left_out);
        stored.parameters = converted.parameters;
        stored.quantisation = converted.quantisation;
    }
    Ok(stored)
}

/// Imports the tensors of PyTorch files.
pub(super) fn pytorch(
    store: &Store,
    request: &Request<'_>,
    paths: &[PathBuf],
    progress: &dyn Progress,
) -> Result<Stored, ImportError> {
    let mut sources = Vec::new();
    let mut left_out = Vec::new();
    for path in paths {
        let file = PyTorchFile::open(path).map_err(ImportError::format(path))?;
        left_out.extend(file.skipped().iter().map(|skipped| {
            LeftOut::new(
                &skipped.name,
                format!("it is {}, and no tensor", skipped.what),
            )
        }));
        sources.push(file);
    }
    let source = Together::new(sources);
    let written = write(store, request, &source, &pytorch_metadata(), progress)?;
    Ok(Stored {
        files: written,
        parameters: parameters(source.tensors()),
        quantisation: quantisation(request, &source),
        left_out,
        ..Stored::default()
    })
}

/// Imports the tensors of SafeTensors files, quantised.
fn safetensors(
    store: &Store,
    request: &Request<'_>,
    paths: &[&Path],
    progress: &dyn Progress,
) -> Result<Stored, ImportError> {
    let mut sources = Vec::new();
    let mut metadata = BTreeMap::new();
    for &path in paths {
        let file = SafeTensors::open(path).map_err(ImportError::format(path))?;
        metadata.extend(file.metadata().clone());
        sources.push(file);
    }
    if metadata.keys().any(|key| key.starts_with(NOTE)) {
        return Err(refuse_to_quantise(request, QUANTISED));
    }
    let source = Together::new(sources);
    let written = write(store, request, &source, &metadata, progress)?;
    Ok(Stored {
        files: written,
        parameters: parameters(source.tensors()),
        quantisation: quantisation(request, &source),
        ..Stored::default()
    })
}

/// What programs for the hub's layout expect of weights that come from PyTorch.
fn pytorch_metadata() -> BTreeMap<String, String> {
    BTreeMap::from([("format".to_owned(), "pt".to_owned())])
}

/// Imports a GGUF file: weights, configuration and tokenizer.
pub(super) fn gguf(
    store: &Store,
    request: &Request<'_>,
    path: &Path,
    progress: &dyn Progress,
) -> Result<Stored, ImportError> {
    let refused = || ImportError::format(path);
    let precision = match request.quantise {
        Some(_) => Precision::F32,
        None => request.precision,
    };
    let model = GgufModel::open(path, precision).map_err(refused())?;
    // All that may be refused is made before the weights, which take long.
    let config = model.config().map_err(refused())?;
    let has_tokenizer = model
        .gguf()
        .metadata()
        .get("tokenizer.ggml.model")
        .is_some();
    let tokenizer = match has_tokenizer {
        true => Some((
            model.tokenizer().map_err(refused())?,
            model.tokenizer_config().map_err(refused())?,
        )),
        false => None,
    };
    let architecture = serde_json::from_str(&config.text)
        .ok()
        .as_ref()
        .and_then(config::architecture);

    let mut left_out: Vec<_> = model
        .skipped()
        .iter()
        .map(|skipped| LeftOut::new(&skipped.tensor, skipped.why))
        .collect();
    let mut files = write(
        store,
        request,
        &model,
        &model.safetensors_metadata(),
        progress,
    )?;
    let mut notes = Vec::new();
    if request.quantise.is_some() && is_quantised(&model) {
        notes.push(format!(
            "the weights were quantised before{}; what they lost by that is not regained",
            model
                .quantisation()
                .map(|name| format!(", to {name}"))
                .unwrap_or_default()
        ));
    }
    let mut rebuilt = vec![("config.json", Role::Config, config)];
    match tokenizer {
        Some((tokenizer, settings)) => rebuilt.extend([
            ("tokenizer.json", Role::Tokenizer, tokenizer),
            ("tokenizer_config.json", Role::Tokenizer, settings),
        ]),
        None => left_out.push(LeftOut::new("tokenizer.json", "the file has no tokenizer")),
    }
    for (name, role, rebuilt) in rebuilt {
        files.push(put(store, name, role, rebuilt.text.as_bytes())?);
        notes.extend(rebuilt.notes.iter().map(|note| format!("{name}: {note}")));
    }
    Ok(Stored {
        files,
        architecture,
        parameters: model.parameters(),
        quantisation: gguf_quantisation(request, &model),
        licence: model
            .gguf()
            .metadata()
            .text("general.license")
            .ok()
            .flatten()
            .map(str::to_owned),
        adapter: None,
        left_out,
        notes,
    })
}

/// How the weights of a GGUF model are stored here.
fn gguf_quantisation(request: &Request<'_>, model: &GgufModel) -> Quantisation {
    if model.precision() != Precision::Quantised {
        return quantisation(request, model);
    }
    let stated = model.quantisation().and_then(|name| name.parse().ok());
    stated.unwrap_or_else(|| {
        let stored = (0..model.tensors().len()).filter_map(|index| model.stored(index));
        Quantisation::of_parts(stored.map(|tensor| {
            let elements = tensor.rows().saturating_mul(tensor.row_len());
            (
                elements,
                tensor.kind.name().parse().unwrap_or(Quantisation::Mixed),
            )
        }))
    })
}

/// Whether a GGUF file has tensors in blocks.
fn is_quantised(model: &GgufModel) -> bool {
    let mut tensors = model.gguf().tensors().iter();
    tensors.any(|tensor| tensor.kind.is_quantised())
}

/// Imports one SafeTensors file, under the name that programs look for.
pub(super) fn single(
    store: &Store,
    request: &Request<'_>,
    path: &Path,
    progress: &dyn Progress,
) -> Result<Stored, ImportError> {
    if request.quantise.is_some() {
        return safetensors(store, request, &[path], progress);
    }
    let taken = Taken {
        path: "model.safetensors".to_owned(),
        file: path.to_path_buf(),
        role: Role::Weights,
    };
    files::store(store, &[taken], request.link(), progress)
}

/// Writes the tensors of a source into blobs of the store, in blocks where these are asked for.
fn write(
    store: &Store,
    request: &Request<'_>,
    source: &dyn TensorSource,
    metadata: &BTreeMap<String, String>,
    progress: &dyn Progress,
) -> Result<Vec<FileEntry>, ImportError> {
    let Some(mix) = request.quantise else {
        return write_shards(store, request, source, metadata, progress);
    };
    let blocks = Quantised::new(source, mix);
    if blocks.quantised() == 0 {
        return Err(refuse_to_quantise(request, NOTHING));
    }
    let mut metadata = metadata.clone();
    metadata.extend(blocks.notes());
    write_shards(store, request, &blocks, &metadata, progress)
}

fn refuse_to_quantise(request: &Request<'_>, why: &'static str) -> ImportError {
    ImportError::Quantise {
        path: request.path.to_path_buf(),
        why,
    }
}

/// Writes the tensors of a source into blobs of the store.
fn write_shards(
    store: &Store,
    request: &Request<'_>,
    source: &dyn TensorSource,
    metadata: &BTreeMap<String, String>,
    progress: &dyn Progress,
) -> Result<Vec<FileEntry>, ImportError> {
    let plan = ShardPlan::new(source.tensors(), metadata, request.shard_bytes)
        .map_err(ImportError::format(request.path))?;
    let total = plan
        .shards()
        .iter()
        .fold(0_u64, |sum, shard| sum.saturating_add(shard.plan.len()));
    progress.begin("converting", Some(total));
    let mut files = Vec::new();
    for shard in plan.shards() {
        let mut blob = store.writer()?.also(&[Algorithm::Sha3_512])?;
        let mut out = Watched {
            out: &mut blob,
            progress,
        };
        shard
            .plan
            .write(source, &mut out, &mut |_| {})
            .map_err(|error| failed_with(error, request.path))?;
        files.push(entry_of(&shard.file_name, Role::Weights, &blob.commit()?));
    }
    if let [_, _, ..] = plan.shards() {
        let index = plan.index().to_json();
        files.push(put(
            store,
            ShardIndex::FILE_NAME,
            Role::Index,
            index.as_bytes(),
        )?);
    }
    progress.end();
    Ok(files)
}

/// Passes bytes on and tells how many; ends when the work is wanted no longer.
struct Watched<'a, W> {
    out: &'a mut W,
    progress: &'a dyn Progress,
}

impl<W: Write> Write for Watched<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.progress.is_cancelled() {
            return Err(io::Error::other(ImportError::Cancelled));
        }
        let written = self.out.write(bytes)?;
        self.progress.advance(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What a conversion failed with: what the store or the request said, or what is wrong with the file.
fn failed_with(error: io::Error, path: &Path) -> ImportError {
    let error = match error.downcast::<ImportError>() {
        Ok(error) => return error,
        Err(error) => error,
    };
    match error.downcast::<vox_store::Error>() {
        Ok(error) => error.into(),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            ImportError::format(path)(error)
        }
        Err(error) => ImportError::io("read", path)(error),
    }
}

fn put(store: &Store, path: &str, role: Role, bytes: &[u8]) -> Result<FileEntry, ImportError> {
    let mut blob = store.writer()?.also(&[Algorithm::Sha3_512])?;
    blob.write_all(bytes)
        .map_err(|error| failed_with(error, Path::new(path)))?;
    Ok(entry_of(path, role, &blob.commit()?))
}

/// How most weights of a source are stored once they are written.
fn quantisation(request: &Request<'_>, source: &dyn TensorSource) -> Quantisation {
    match request.quantise {
        None => Quantisation::of_parts(parts(source.tensors())),
        Some(Mix::Q8_0) => Quantisation::Q8_0,
        Some(Mix::Q4_0) => Quantisation::Q4_0,
        Some(Mix::Q4KM) => Quantisation::Q4KM,
    }
}

fn parameters(tensors: &[TensorInfo]) -> u64 {
    parts(tensors).fold(0, |sum, (elements, _)| sum.saturating_add(elements))
}

fn parts(tensors: &[TensorInfo]) -> impl Iterator<Item = (u64, Quantisation)> {
    let of = |tensor: &TensorInfo| {
        (
            tensor.elements().unwrap_or(0),
            Quantisation::of_dtype(tensor.dtype),
        )
    };
    tensors.iter().map(of)
}

/// Several sources as one: the shards of a PyTorch model.
struct Together<S> {
    sources: Vec<S>,
    tensors: Vec<TensorInfo>,
    /// Of each tensor its source, and its number there.
    places: Vec<(usize, usize)>,
}

impl<S: TensorSource> Together<S> {
    fn new(sources: Vec<S>) -> Self {
        let mut tensors = Vec::new();
        let mut places = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            tensors.extend(source.tensors().iter().cloned());
            places.extend((0..source.tensors().len()).map(|index| (number, index)));
        }
        Self {
            sources,
            tensors,
            places,
        }
    }
}

impl<S: TensorSource> TensorSource for Together<S> {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn write_tensor(&self, index: usize, out: &mut dyn Write) -> io::Result<()> {
        let (source, index) = self.places[index];
        self.sources[source].write_tensor(index, out)
    }
}
