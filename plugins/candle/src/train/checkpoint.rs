//! What is trained as files, synced to the disk.
//!
//! | file | what it holds |
//! |---|---|
//! | `model.safetensors` | every weight, without an adapter |
//! | `adapter_model.safetensors`, `adapter_config.json` | the adapter, with one |
//! | `optimizer.safetensors` | `first.<name>` and `second.<name>` for every tensor that is trained |
//!
//! All numbers are floats of 32 bits, so what comes back is what was there.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, View};

use super::parameter::Parameter;
use crate::error::{Error, Result};
use crate::ops::host;
use crate::weights::{Element, Weights};

/// The file of all weights.
pub(super) const MODEL: &str = "model.safetensors";

/// The file of the optimizer's state.
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";

/// A tensor on its way into a file; its bytes are there only while they are written.
pub(super) struct Written<'a> {
    pub(super) tensor: &'a Tensor,
    pub(super) dtype: DType,
}

impl View for Written<'_> {
    fn dtype(&self) -> Dtype {
        match self.dtype {
            DType::BF16 => Dtype::BF16,
            DType::F16 => Dtype::F16,
            _ => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        self.tensor.dims()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        // Nothing where a device does not give the tensor; `write` finds the file short.
        Cow::Owned(bytes(self.tensor, self.dtype).unwrap_or_default())
    }

    fn data_len(&self) -> usize {
        self.tensor.elem_count() * self.dtype.size_in_bytes()
    }
}

fn bytes(tensor: &Tensor, dtype: DType) -> candle_core::Result<Vec<u8>> {
    let floats = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(match dtype {
        DType::BF16 => floats
            .iter()
            .flat_map(|&x| half::bf16::from_f32(x).to_le_bytes())
            .collect(),
        DType::F16 => floats
            .iter()
            .flat_map(|&x| half::f16::from_f32(x).to_le_bytes())
            .collect(),
        _ => floats.iter().flat_map(|x| x.to_le_bytes()).collect(),
    })
}

/// Writes tensors into a new file, and syncs it.
///
/// # Errors
///
/// [`Error::Io`], as when the disk is full; [`Error::Format`] for what the format does not allow.
pub(super) fn write<V: View>(path: &Path, tensors: Vec<(String, V)>) -> Result<()> {
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    safetensors::serialize_to_file(tensors, metadata, path).map_err(|error| match error {
        safetensors::SafeTensorError::IoError(source) => Error::io("write", path)(source),
        other => Error::format(path)(other),
    })?;
    Weights::open_file(path)?;
    let file = File::open(path).map_err(Error::io("open", path))?;
    file.sync_all().map_err(Error::io("sync", path))
}

/// Writes a small file, and syncs it.
///
/// # Errors
///
/// [`Error::Io`].
pub(super) fn write_text(path: &Path, text: &str) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(text.as_bytes())
        .map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("sync", path))
}

/// Makes the directory that files are written into, which must have none yet.
///
/// # Errors
///
/// [`Error::Io`]; [`Error::Format`] where there is something in it.
pub(super) fn prepare(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
    let mut entries = fs::read_dir(directory).map_err(Error::io("read", directory))?;
    if entries.next().is_some() {
        let why = "there is something in it, and files are written into an empty directory";
        return Err(Error::format(directory)(why));
    }
    Ok(())
}

/// Syncs a directory, so that its files' names are on the disk.
///
/// # Errors
///
/// [`Error::Io`].
pub(super) fn sync(directory: &Path) -> Result<()> {
    // Elsewhere a directory cannot be opened as a file, and names are synced with the files.
    if cfg!(unix) {
        let file = File::open(directory).map_err(Error::io("open", directory))?;
        file.sync_all().map_err(Error::io("sync", directory))?;
    }
    Ok(())
}

/// Writes the values of parameters.
///
/// # Errors
///
/// As [`write`].
pub(super) fn write_values(path: &Path, parameters: &[Parameter]) -> Result<()> {
    let tensors = parameters.iter().map(|parameter| {
        let written = Written {
            tensor: &parameter.value,
            dtype: DType::F32,
        };
        (parameter.name.clone(), written)
    });
    write(path, tensors.collect())
}

/// Writes the moments of parameters.
///
/// # Errors
///
/// As [`write`].
pub(super) fn write_moments(path: &Path, parameters: &[Parameter]) -> Result<()> {
    let written = |tensor| Written {
        tensor,
        dtype: DType::F32,
    };
    let tensors = parameters.iter().flat_map(|parameter| {
        let name = |moment: &str| format!("{moment}.{}", parameter.name);
        [
            (name("first"), written(&parameter.first)),
            (name("second"), written(&parameter.second)),
        ]
    });
    write(path, tensors.collect())
}

/// Reads a tensor that must be of this shape and of floats of 32 bits.
///
/// # Errors
///
/// [`Error::MissingTensor`]; [`Error::Format`] naming the tensor and what it is instead.
pub(super) fn read(
    path: &Path,
    weights: &Weights,
    name: &str,
    shape: &[usize],
    device: &Device,
) -> Result<Tensor> {
    let info = weights.info(name)?;
    if info.shape != shape {
        let why = format!(
            "the tensor `{name}` is of shape {:?}, and the training's of {shape:?}",
            info.shape
        );
        return Err(Error::format(path)(why));
    }
    if info.element != Element::Plain(DType::F32) {
        let why = format!(
            "the tensor `{name}` is of {}, and a checkpoint's of F32",
            info.element
        );
        return Err(Error::format(path)(why));
    }
    weights.tensor(name, DType::F32, device)
}

/// Puts values that were read in the place of a tensor.
///
/// # Errors
///
/// [`Error::Compute`].
pub(super) fn replace(tensor: &mut Tensor, value: Tensor) -> Result<()> {
    if !host::is_host(tensor) {
        *tensor = value;
        return Ok(());
    }
    let put = || {
        let floats = host::floats(&value)?;
        host::change(tensor, |to| to.copy_from_slice(&floats))
    };
    put().map_err(Error::compute("restore a tensor"))
}
