//! Plain bundles out of weights and adapters.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, View};

use super::checkpoint::{self, Written};
use super::model::Model;
use super::parameter::Parameter;
use crate::architecture::{Architecture, DecoderArchitecture, TensorSpec};
use crate::error::{Error, Result};
use crate::ops::{host, linear};
use crate::weights::{Element, Weights};

/// Files of a bundle beside its weights that go with it.
const COMPANIONS: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
];

/// The template of chats, which newer bundles have in a file of its own.
const TEMPLATE: &str = "chat_template.jinja";

/// A tensor of the bundle that is written.
enum Merged<'a> {
    /// As it is stored in the bundle that training began with.
    Stored(Dtype, &'a [usize], &'a [u8]),
    /// As it is now.
    Now(Tensor, DType),
}

impl View for Merged<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Self::Stored(dtype, ..) => *dtype,
            Self::Now(tensor, dtype) => Written {
                tensor,
                dtype: *dtype,
            }
            .dtype(),
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Stored(_, shape, _) => shape,
            Self::Now(tensor, _) => tensor.dims(),
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Stored(_, _, bytes) => Cow::Borrowed(bytes),
            Self::Now(tensor, dtype) => {
                let written = Written {
                    tensor,
                    dtype: *dtype,
                };
                Cow::Owned(written.data().into_owned())
            }
        }
    }

    fn data_len(&self) -> usize {
        match self {
            Self::Stored(_, _, bytes) => bytes.len(),
            Self::Now(tensor, dtype) => tensor.elem_count() * dtype.size_in_bytes(),
        }
    }
}

/// The type that tensors of a bundle are stored as, of those that a bundle is written with.
fn kept_type(element: Option<Element>) -> DType {
    match element {
        Some(Element::Plain(dtype @ (DType::BF16 | DType::F16))) => dtype,
        _ => DType::F32,
    }
}

/// The type of plain numbers that are copied as they are.
fn plain_type(element: Element) -> Option<Dtype> {
    match element {
        Element::Plain(DType::BF16) => Some(Dtype::BF16),
        Element::Plain(DType::F16) => Some(Dtype::F16),
        Element::Plain(DType::F32) => Some(Dtype::F32),
        _ => None,
    }
}

/// Writes the bundle into an empty directory, and answers the names of its files. `bundle` is what training
/// began with, and `weights` are its; none where it began at random. Weights are stored in the type that they
/// had there, blocks as floats.
///
/// # Errors
///
/// As [`checkpoint::prepare`] and [`checkpoint::write`]; [`Error::Compute`].
pub(super) fn write(
    directory: &Path,
    bundle: &Path,
    architecture: &DecoderArchitecture,
    model: &Model,
    parameters: &[Parameter],
    weights: Option<&Weights>,
) -> Result<Vec<String>> {
    checkpoint::prepare(directory)?;
    let mut files = Vec::new();
    for name in COMPANIONS.into_iter().chain([TEMPLATE]) {
        let from = bundle.join(name);
        if from.is_file() {
            let to = directory.join(name);
            fs::copy(&from, &to).map_err(Error::io("copy", &from))?;
            let file = fs::File::open(&to).map_err(Error::io("open", &to))?;
            file.sync_all().map_err(Error::io("sync", &to))?;
            files.push(name.to_owned());
        }
    }
    let tensors = Architecture::Decoder(architecture.clone()).tensors();
    let merged = tensors.into_iter().map(|spec| {
        let tensor = merged(&spec, model, parameters, weights)?;
        Ok((spec.name, tensor))
    });
    let merged = merged.collect::<Result<Vec<_>>>()?;
    checkpoint::write(&directory.join(checkpoint::MODEL), merged)?;
    files.push(checkpoint::MODEL.to_owned());
    checkpoint::sync(directory)?;
    Ok(files)
}

fn merged<'a>(
    spec: &TensorSpec,
    model: &Model,
    parameters: &[Parameter],
    weights: Option<&'a Weights>,
) -> Result<Merged<'a>> {
    let name = spec.name.as_str();
    let element = weights
        .and_then(|weights| weights.info(name).ok())
        .map(|info| info.element);
    let dtype = kept_type(element);
    if let Some(parameter) = parameters.iter().find(|parameter| parameter.name == name) {
        return Ok(Merged::Now(parameter.value.clone(), dtype));
    }
    let linear = name.strip_suffix(".weight").and_then(|name| {
        model
            .linears()
            .find(|linear| linear.name == name && linear.adapter.is_some())
    });
    let adapter = linear.and_then(|linear| linear.adapter.as_ref());
    if let (None, Some(weights)) = (adapter, weights) {
        let info = weights.info(name)?;
        if let Some(stored) = plain_type(info.element) {
            return Ok(Merged::Stored(stored, &info.shape, weights.stored(name)?));
        }
    }
    let plain = match weights {
        Some(weights) => weights.tensor(name, DType::F32, &Device::Cpu)?,
        None => host::tensor(model.beginning(name, &spec.shape), &spec.shape)
            .map_err(Error::compute(format!("hold `{name}`")))?,
    };
    let Some(adapter) = adapter else {
        return Ok(Merged::Now(plain, dtype));
    };
    let sum = || {
        let a = parameters[adapter.a].value.to_device(&Device::Cpu)?;
        let b = parameters[adapter.b].value.to_device(&Device::Cpu)?;
        linear::input_gradient(Some(plain.copy()?), &b, &a, adapter.scale)
    };
    let sum = sum().map_err(Error::compute(format!("merge the adapter of `{name}`")))?;
    Ok(Merged::Now(sum, dtype))
}
