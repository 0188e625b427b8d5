//! Linear maps, plain and quantised, and the norms between them.

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{DType, Device, Module as _, Result as Computed, Tensor};
use candle_nn::ops;
use vox_quant::Role;

use super::format::WeightFormat;
use crate::architecture::LinearSpec;
use crate::error::{Error, Result};
use crate::weights::{Element, Weights};

/// Reads the tensors of a model in one format.
pub(super) struct Loader<'w> {
    pub(super) weights: &'w Weights,
    pub(super) device: &'w Device,
    /// The type of what is not held as blocks, and of what is computed.
    pub(super) dtype: DType,
    /// `None` for blocks where the bundle has blocks.
    pub(super) format: Option<WeightFormat>,
    /// Layers of the model.
    pub(super) layers: usize,
}

impl Loader<'_> {
    /// The type in which a model of these weights is computed on a device.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for a format that the device does not compute.
    pub(super) fn dtype(
        weights: &Weights,
        device: &Device,
        format: Option<WeightFormat>,
    ) -> Result<DType> {
        if let Some(format) = format {
            if device.is_cpu() && format == WeightFormat::BF16 {
                let why = "bf16 is not computed on the processor by Candle; take f32 or q8_0";
                return Err(Error::request("format", why));
            }
            return Ok(format.plain().unwrap_or(DType::F32));
        }
        Ok(match weights.usual_element() {
            Some(Element::Plain(dtype @ (DType::BF16 | DType::F16))) if !device.is_cpu() => dtype,
            _ => DType::F32,
        })
    }

    /// A vector, or a table that is read by rows.
    pub(super) fn plain(&self, name: &str) -> Result<Tensor> {
        self.tensor(name, self.dtype, self.device)
    }

    /// A tensor, all of whose numbers are such.
    fn tensor(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        self.weights.check_numbers(name)?;
        self.weights.tensor(name, dtype, device)
    }

    /// The weight of a norm; `plus` is added to it.
    pub(super) fn norm(&self, name: &str, plus: f64, epsilon: f64) -> Result<Norm> {
        let weight = self.tensor(name, DType::F32, self.device)?;
        let weight = weight
            .affine(1.0, plus)
            .and_then(|weight| weight.to_dtype(self.dtype));
        Ok(Norm {
            weight: weight.map_err(Error::compute(format!("load `{name}`")))?,
            epsilon: epsilon as f32,
        })
    }

    /// Matrices with rows of the same length, one below the other.
    pub(super) fn matrix(&self, names: &[String]) -> Result<Matrix> {
        let blocks = match names {
            [name] => self.own_blocks(name)?,
            _ => None,
        };
        if let Some(blocks) = blocks {
            return Matrix::of_blocks(blocks);
        }
        let doing = || format!("load `{}`", names.join("`, `"));
        match self.kind(names)? {
            None => {
                let parts = names.iter().map(|name| self.plain(name));
                let parts = parts.collect::<Result<Vec<_>>>()?;
                let whole = match parts.as_slice() {
                    [part] => Ok(part.clone()),
                    parts => Tensor::cat(parts, 0),
                };
                Ok(Matrix::Plain(whole.map_err(Error::compute(doing()))?))
            }
            Some(kind) => {
                let parts = names
                    .iter()
                    .map(|name| self.tensor(name, DType::F32, &Device::Cpu));
                let parts = parts.collect::<Result<Vec<_>>>()?;
                let blocks = Tensor::cat(&parts, 0)
                    .and_then(|whole| QTensor::quantize_onto(&whole, kind, self.device));
                Matrix::of_blocks(blocks.map_err(Error::compute(doing()))?)
            }
        }
    }

    /// A tensor as the blocks that the bundle has, where these are wanted.
    fn own_blocks(&self, name: &str) -> Result<Option<QTensor>> {
        let element = self.weights.info(name)?.element;
        if self.format.is_some() || !matches!(element, Element::Blocks(_)) {
            return Ok(None);
        }
        self.weights.check_numbers(name)?;
        self.weights.blocks(name, self.device)
    }

    /// The type of blocks that all of these become; `None` for plain numbers.
    fn kind(&self, names: &[String]) -> Result<Option<GgmlDType>> {
        let Some((format, name)) = self.format.zip(names.first()) else {
            return Ok(None);
        };
        let shape = &self.weights.info(name)?.shape;
        let columns = shape.last().copied().unwrap_or(1);
        Ok(format.blocks(Role::of(name, self.layers), columns))
    }

    /// Linear maps that read the same: one, as far as they are held alike.
    pub(super) fn linears(&self, specs: &[LinearSpec]) -> Result<Linears> {
        let mut maps = Vec::new();
        let mut rest = specs;
        while let [first, ..] = rest {
            let kind = self.kind(&[first.weight()])?;
            let is_own = self.format.is_none() && self.is_blocks(first)?;
            let mut count = 1;
            while let Some(next) = rest.get(count)
                && !is_own
                && next.bias == first.bias
                && self.kind(&[next.weight()])? == kind
                && !(self.format.is_none() && self.is_blocks(next)?)
            {
                count += 1;
            }
            let (joined, others) = rest.split_at(count);
            maps.push(self.linear(joined)?);
            rest = others;
        }
        Ok(Linears {
            maps,
            outputs: specs.iter().map(|spec| spec.outputs).collect(),
        })
    }

    fn is_blocks(&self, spec: &LinearSpec) -> Result<bool> {
        let element = self.weights.info(&spec.weight())?.element;
        Ok(matches!(element, Element::Blocks(_)))
    }

    fn linear(&self, specs: &[LinearSpec]) -> Result<Linear> {
        let names: Vec<String> = specs.iter().map(LinearSpec::weight).collect();
        let biases = specs.iter().filter_map(LinearSpec::bias);
        let biases = biases
            .map(|name| self.plain(&name))
            .collect::<Result<Vec<_>>>()?;
        let bias = match biases.as_slice() {
            [] => None,
            biases => Some(Tensor::cat(biases, 0)?),
        };
        Ok(Linear {
            matrix: self.matrix(&names)?,
            bias,
        })
    }
}

/// A matrix of shape (outputs, inputs).
#[derive(Debug, Clone)]
pub(super) enum Matrix {
    Plain(Tensor),
    Blocks(Arc<QTensor>, Arc<QMatMul>),
}

impl Matrix {
    fn of_blocks(blocks: QTensor) -> Result<Self> {
        let blocks = Arc::new(blocks);
        let map = QMatMul::from_arc(Arc::clone(&blocks))?;
        Ok(Self::Blocks(blocks, Arc::new(map)))
    }

    /// `x Wᵀ` for `x` of shape (places, inputs).
    pub(super) fn forward(&self, x: &Tensor) -> Computed<Tensor> {
        match self {
            Self::Plain(weight) => x.matmul(&weight.t()?),
            Self::Blocks(_, map) => map.forward(x),
        }
    }

    /// Rows of the matrix by their numbers, of shape (numbers, inputs).
    pub(super) fn rows(&self, numbers: &Tensor) -> Computed<Tensor> {
        match self {
            Self::Plain(weight) => weight.index_select(numbers, 0),
            Self::Blocks(_, map) => map.embedding(numbers),
        }
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Plain(weight) => (weight.elem_count() * weight.dtype().size_in_bytes()) as u64,
            Self::Blocks(blocks, _) => blocks.storage_size_in_bytes() as u64,
        }
    }

    /// What its numbers are held as.
    pub(super) fn element(&self) -> Element {
        match self {
            Self::Plain(weight) => Element::Plain(weight.dtype()),
            Self::Blocks(blocks, _) => Element::Blocks(blocks.dtype()),
        }
    }
}

/// A linear map `x Wᵀ + b`.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    pub(super) matrix: Matrix,
    pub(super) bias: Option<Tensor>,
}

impl Linear {
    pub(super) fn forward(&self, x: &Tensor) -> Computed<Tensor> {
        let y = self.matrix.forward(x)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// Linear maps that read the same. Those that are held alike are one map, for one product is faster than three.
#[derive(Debug, Clone)]
pub(super) struct Linears {
    pub(super) maps: Vec<Linear>,
    /// Columns of each result.
    outputs: Vec<usize>,
}

impl Linears {
    /// The results of the maps, in their order.
    pub(super) fn forward(&self, x: &Tensor) -> Computed<Vec<Tensor>> {
        let mut results = Vec::with_capacity(self.outputs.len());
        let mut outputs = self.outputs.iter();
        for map in &self.maps {
            let joined = map.forward(x)?;
            let width = joined.dim(1)?;
            let mut start = 0;
            while start < width
                && let Some(&columns) = outputs.next()
            {
                results.push(joined.narrow(1, start, columns)?);
                start += columns;
            }
        }
        Ok(results)
    }

    /// The result of a map that is alone.
    pub(super) fn forward_one(&self, x: &Tensor) -> Computed<Tensor> {
        let mut results = self.forward(x)?;
        results
            .pop()
            .ok_or_else(|| candle_core::Error::Msg("there is no linear map".to_owned()))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.maps.iter().map(|map| map.matrix.bytes()).sum()
    }
}

/// A norm by the root of the mean square (Zhang and Sennrich, "Root mean square layer normalization").
#[derive(Debug, Clone)]
pub(super) struct Norm {
    weight: Tensor,
    epsilon: f32,
}

impl Norm {
    /// The norm over the last dimension.
    pub(super) fn forward(&self, x: &Tensor) -> Computed<Tensor> {
        ops::rms_norm(&x.contiguous()?, &self.weight, self.epsilon)
    }
}
