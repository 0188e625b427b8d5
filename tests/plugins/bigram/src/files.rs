//! The files of a bundle and of a checkpoint.
//!
//! | file | what it holds |
//! |---|---|
//! | `config.json` | architecture, vocabulary and context of the model |
//! | `tokenizer.json` | its tokenizer |
//! | `model.safetensors` | every weight |
//! | `optimizer.safetensors` | `first.<name>` and `second.<name>` for every tensor that is trained |
//!
//! What must stay true: what was written is whole and on the disk when a function answers; what cannot be read
//! whole changes nothing.

use std::borrow::Cow;
use std::fmt::Display;
use std::fs::{self, File};
use std::path::Path;

use safetensors::{Dtype, SafeTensors, View};
use tokenizers::Tokenizer;
use vox_plugin::serde::Deserialize;
use vox_plugin::{Error, Result, serde_json};

use crate::model::{Bigram, Parameter};

/// What `config.json` calls a bigram model.
pub const ARCHITECTURE: &str = "BigramForCausalLM";

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";

/// Files of a bundle beside its weights, which go with them.
const COMPANIONS: [&str; 6] = [
    CONFIG,
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
];

/// What a bundle says of its model.
#[derive(Deserialize)]
#[serde(crate = "vox_plugin::serde")]
pub struct Config {
    architectures: Vec<String>,
    /// Number of its tokens.
    #[serde(rename = "vocab_size")]
    pub vocabulary: u32,
    /// Most tokens of a row.
    #[serde(rename = "max_position_embeddings")]
    pub context: u32,
}

impl Config {
    /// Reads `config.json` of a bundle.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is of another model.
    pub fn read(bundle: &Path) -> Result<Self> {
        let path = bundle.join(CONFIG);
        let text = fs::read_to_string(&path).map_err(cannot("read", &path))?;
        let config: Self = serde_json::from_str(&text).map_err(wrong(&path))?;
        if config.architectures != [ARCHITECTURE] {
            let why = format!(
                "the architecture is {:?}, and this backend trains `{ARCHITECTURE}` alone",
                config.architectures
            );
            return Err(wrong(&path)(why));
        }
        if config.vocabulary == 0 {
            return Err(wrong(&path)("a vocabulary of 0 tokens foretells nothing"));
        }
        Ok(config)
    }
}

/// The tokenizer of a bundle, which neither pads nor cuts texts off.
///
/// # Errors
///
/// There is none, or none that can be read.
pub fn tokenizer(bundle: &Path) -> Result<Tokenizer> {
    let path = bundle.join(TOKENIZER);
    let mut tokenizer = Tokenizer::from_file(&path).map_err(wrong(&path))?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(wrong(&path))?;
    Ok(tokenizer)
}

/// Takes the weights of a bundle.
///
/// # Errors
///
/// They cannot be read, or are of another model.
pub fn load(bundle: &Path, model: &mut Bigram) -> Result<()> {
    let values = read(&bundle.join(MODEL), model, "")?;
    for (parameter, value) in model.parameters.iter_mut().zip(values) {
        parameter.value = value;
    }
    Ok(())
}

// ANCHOR: checkpoint
/// Writes a checkpoint into an empty directory, and answers the names of its files.
///
/// # Errors
///
/// There is something in the directory, or it cannot be written.
pub fn save(directory: &Path, model: &Bigram) -> Result<Vec<String>> {
    prepare(directory)?;
    write_values(directory, model)?;
    let moments = model.parameters.iter().flat_map(|parameter| {
        let moments = [("first", &parameter.first), ("second", &parameter.second)];
        moments.map(|(moment, numbers)| {
            let name = format!("{moment}.{}", parameter.name);
            (name, Floats::of(parameter, numbers))
        })
    });
    write(&directory.join(OPTIMIZER), moments)?;
    sync(directory)?;
    Ok(vec![MODEL.to_owned(), OPTIMIZER.to_owned()])
}

/// Goes back to a checkpoint.
///
/// # Errors
///
/// It cannot be read, or is of another model; the training is then as it was.
pub fn restore(directory: &Path, model: &mut Bigram) -> Result<()> {
    let optimizer = directory.join(OPTIMIZER);
    let values = read(&directory.join(MODEL), model, "")?;
    let first = read(&optimizer, model, "first.")?;
    let second = read(&optimizer, model, "second.")?;
    // Nothing can fail from here on.
    let restored = values.into_iter().zip(first.into_iter().zip(second));
    for (parameter, (value, (first, second))) in model.parameters.iter_mut().zip(restored) {
        parameter.value = value;
        parameter.first = first;
        parameter.second = second;
    }
    model.forget_gradients();
    Ok(())
}
// ANCHOR_END: checkpoint

/// Writes a bundle into an empty directory: the weights, and what else was in the bundle that training began
/// with. Answers the names of its files.
///
/// # Errors
///
/// As [`save`]; a file of the bundle cannot be copied.
pub fn merge(directory: &Path, bundle: &Path, model: &Bigram) -> Result<Vec<String>> {
    prepare(directory)?;
    let mut names = Vec::new();
    for name in COMPANIONS {
        let (from, to) = (bundle.join(name), directory.join(name));
        if from.is_file() {
            fs::copy(&from, &to).map_err(cannot("copy", &from))?;
            sync(&to)?;
            names.push(name.to_owned());
        }
    }
    write_values(directory, model)?;
    names.push(MODEL.to_owned());
    sync(directory)?;
    Ok(names)
}

/// Makes the directory that files go into, which must have none yet.
fn prepare(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(cannot("create", directory))?;
    let mut entries = fs::read_dir(directory).map_err(cannot("read", directory))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(wrong(directory)("it is not empty")),
    }
}

/// Sees to it that a file, or the names in a directory, are on the disk.
fn sync(path: &Path) -> Result<()> {
    // Elsewhere a directory cannot be opened as a file, and names are synced with the files.
    if path.is_dir() && !cfg!(unix) {
        return Ok(());
    }
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(cannot("sync", path))
}

fn write_values(directory: &Path, model: &Bigram) -> Result<()> {
    let values = model.parameters.iter().map(|parameter| {
        let name = parameter.name.to_owned();
        (name, Floats::of(parameter, &parameter.value))
    });
    write(&directory.join(MODEL), values)
}

fn write<'a>(path: &Path, tensors: impl Iterator<Item = (String, Floats<'a>)>) -> Result<()> {
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    safetensors::serialize_to_file(tensors, metadata, path).map_err(cannot("write", path))?;
    sync(path)
}

/// Reads of each parameter the tensor whose name is its own after `prefix`.
fn read(path: &Path, model: &Bigram, prefix: &str) -> Result<Vec<Vec<f32>>> {
    let bytes = fs::read(path).map_err(cannot("read", path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(wrong(path))?;
    let tensors = model.parameters.iter().map(|parameter| {
        let name = format!("{prefix}{}", parameter.name);
        floats(path, &file, &name, &parameter.shape)
    });
    tensors.collect()
}

fn floats(path: &Path, file: &SafeTensors<'_>, name: &str, wanted: &[u64]) -> Result<Vec<f32>> {
    let tensor = file.tensor(name).map_err(wrong(path))?;
    let (dtype, shape) = (tensor.dtype(), tensor.shape());
    let sizes = shape.iter().map(|&size| size as u64);
    if dtype != Dtype::F32 || !sizes.eq(wanted.iter().copied()) {
        let why = format!(
            "the tensor `{name}` is {dtype} of shape {shape:?}, and should be F32 of shape {wanted:?}"
        );
        return Err(wrong(path)(why));
    }
    let (numbers, _) = tensor.data().as_chunks();
    Ok(numbers
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect())
}

/// Numbers on their way into a file.
struct Floats<'a> {
    shape: Vec<usize>,
    numbers: &'a [f32],
}

impl<'a> Floats<'a> {
    /// Numbers of the shape of a parameter.
    fn of(parameter: &Parameter, numbers: &'a [f32]) -> Self {
        let shape = parameter.shape.iter().map(|&size| size as usize);
        Self {
            shape: shape.collect(),
            numbers,
        }
    }
}

impl View for Floats<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = self.numbers.iter().flat_map(|number| number.to_le_bytes());
        Cow::Owned(bytes.collect())
    }

    fn data_len(&self) -> usize {
        size_of_val(self.numbers)
    }
}

/// For `map_err` of what the system refuses.
fn cannot<E: Display>(doing: &str, path: &Path) -> impl FnOnce(E) -> Error {
    move |error| Error::Failed(format!("cannot {doing} {}: {error}", path.display()))
}

/// For `map_err` of what is in a file.
fn wrong<E: Display>(path: &Path) -> impl FnOnce(E) -> Error {
    move |why| Error::Invalid(format!("{}: {why}", path.display()))
}
