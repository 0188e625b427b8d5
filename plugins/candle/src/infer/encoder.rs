//! BERT over tensors of Candle (Devlin et al., "BERT", section 3).

use candle_core::{DType, Device, Result as Computed, Tensor};
use candle_nn::ops;

use super::device::DeviceInfo;
use super::format::WeightFormat;
use super::linear::{Linears, Loader};
use super::model::read;
use crate::architecture::{Activation, EncoderArchitecture};
use crate::error::{Error, Result};
use crate::weights::Weights;

/// The weights of an encoder.
#[derive(Debug)]
pub(super) struct EncoderModel {
    architecture: EncoderArchitecture,
    info: DeviceInfo,
    device: Device,
    words: Tensor,
    positions: Tensor,
    /// That of the first kind, of shape (1, hidden).
    segment: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    /// Queries, keys and values.
    qkv: Linears,
    output: Linears,
    attention_norm: LayerNorm,
    widen: Linears,
    narrow: Linears,
    norm: LayerNorm,
}

/// A norm by mean and variance (Ba, Kiros, Hinton, "Layer normalization").
#[derive(Debug)]
struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f32,
}

impl LayerNorm {
    fn load(loader: &Loader<'_>, name: &str, epsilon: f64) -> Result<Self> {
        Ok(Self {
            weight: loader.plain(&format!("{name}.weight"))?,
            bias: loader.plain(&format!("{name}.bias"))?,
            epsilon: epsilon as f32,
        })
    }

    fn forward(&self, x: &Tensor) -> Computed<Tensor> {
        ops::layer_norm(&x.contiguous()?, &self.weight, &self.bias, self.epsilon)
    }
}

impl EncoderModel {
    /// Loads the weights of a bundle, which have been checked against its architecture.
    pub(super) fn load(
        architecture: &EncoderArchitecture,
        weights: &Weights,
        (info, device): (DeviceInfo, Device),
        format: Option<WeightFormat>,
    ) -> Result<Self> {
        let loader = Loader {
            weights,
            device: &device,
            dtype: Loader::dtype(weights, &device, format)?,
            format,
            layers: architecture.layers,
        };
        let epsilon = architecture.norm_epsilon;
        let layer = |layer: usize| {
            let [query, key, value, output, widen, narrow] = architecture.linears(layer);
            let norm = |part: &str| {
                let name = format!("encoder.layer.{layer}.{part}.LayerNorm");
                LayerNorm::load(&loader, &name, epsilon)
            };
            Ok(Layer {
                qkv: loader.linears(&[query, key, value])?,
                output: loader.linears(&[output])?,
                attention_norm: norm("attention.output")?,
                widen: loader.linears(&[widen])?,
                narrow: loader.linears(&[narrow])?,
                norm: norm("output")?,
            })
        };
        let segments = loader.plain("embeddings.token_type_embeddings.weight")?;
        Ok(Self {
            words: loader.plain("embeddings.word_embeddings.weight")?,
            positions: loader.plain("embeddings.position_embeddings.weight")?,
            segment: segments.narrow(0, 0, 1)?,
            norm: LayerNorm::load(&loader, "embeddings.LayerNorm", epsilon)?,
            layers: (0..architecture.layers).map(layer).collect::<Result<_>>()?,
            architecture: architecture.clone(),
            info,
            device,
        })
    }

    pub(super) fn device(&self) -> &DeviceInfo {
        &self.info
    }

    /// The states of all tokens of a text, place by place.
    pub(super) fn states(&self, tokens: &[u32], out: &mut Vec<f32>) -> Result<()> {
        let context = self.architecture.context;
        if tokens.is_empty() || tokens.len() > context {
            let why = format!(
                "a text has {} tokens, and 1 to {context} can be embedded",
                tokens.len()
            );
            return Err(Error::request("texts", why));
        }
        let vocabulary = self.architecture.vocabulary;
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
            let why = format!("token {token} is none of the {vocabulary} that are embedded");
            return Err(Error::request("texts", why));
        }
        let mut states = self
            .embed(tokens)
            .map_err(Error::compute("embed the tokens"))?;
        for (number, layer) in self.layers.iter().enumerate() {
            states = self
                .layer(layer, &states)
                .map_err(Error::compute(format!("run layer {number}")))?;
        }
        read(Ok(states), out)
    }

    fn embed(&self, tokens: &[u32]) -> Computed<Tensor> {
        let words = self
            .words
            .index_select(&Tensor::new(tokens, &self.device)?, 0)?;
        let positions = self.positions.narrow(0, 0, tokens.len())?;
        self.norm
            .forward(&(words + positions)?.broadcast_add(&self.segment)?)
    }

    fn layer(&self, layer: &Layer, states: &Tensor) -> Computed<Tensor> {
        let change = layer.output.forward_one(&self.attention(layer, states)?)?;
        let states = layer.attention_norm.forward(&(states + change)?)?;
        let wide = layer.widen.forward_one(&states)?;
        let wide = match self.architecture.activation {
            Activation::Silu => ops::silu(&wide)?,
            Activation::Gelu => wide.gelu_erf()?,
            Activation::GeluTanh => wide.gelu()?,
        };
        let change = layer.narrow.forward_one(&wide)?;
        layer.norm.forward(&(states + change)?)
    }

    fn attention(&self, layer: &Layer, states: &Tensor) -> Computed<Tensor> {
        let (heads, hidden) = (self.architecture.heads, self.architecture.hidden);
        let (places, head) = (states.dim(0)?, hidden / heads);
        let qkv = layer.qkv.forward(states)?;
        let split = |x: &Tensor| {
            x.reshape((places, heads, head))?
                .transpose(0, 1)?
                .contiguous()
        };
        let [queries, keys, values] = qkv.as_slice() else {
            candle_core::bail!(
                "there are {} results for queries, keys and values",
                qkv.len()
            );
        };
        let queries = split(queries)?.affine(1.0 / (head as f64).sqrt(), 0.0)?;
        let scores = queries.matmul(&split(keys)?.transpose(1, 2)?)?;
        let weights = ops::softmax_last_dim(&scores)?;
        let mixed = weights.matmul(&split(values)?)?;
        mixed.transpose(0, 1)?.reshape((places, hidden))
    }

    /// Bytes of the weights on the device.
    pub(super) fn bytes(&self) -> u64 {
        let tables = [&self.words, &self.positions];
        let table = |table: &Tensor| (table.elem_count() * table.dtype().size_in_bytes()) as u64;
        let layers = self
            .layers
            .iter()
            .flat_map(|layer| [&layer.qkv, &layer.output, &layer.widen, &layer.narrow]);
        tables.into_iter().map(table).sum::<u64>() + layers.map(Linears::bytes).sum::<u64>()
    }

    /// How most of the weights are held.
    pub(super) fn format(&self) -> String {
        let first = self
            .layers
            .first()
            .and_then(|layer| layer.widen.maps.first());
        let element = first.map(|map| map.matrix.element().name().to_lowercase());
        element.unwrap_or_else(|| DType::F32.as_str().to_owned())
    }
}
