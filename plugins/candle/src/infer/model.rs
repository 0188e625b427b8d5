//! Decoders over tensors of Candle, on any device.
//!
//! This is the path of GPUs, and what faster paths are compared with: every step is one operation of the
//! framework. The shape of hidden states is (places, elements) throughout, for one sequence.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{D, DType, Device, Result as Computed, Tensor};
use candle_nn::ops;

use super::cache::Cache;
use super::decoder::{Decoder, Engine, Input};
use super::device::DeviceInfo;
use super::format::WeightFormat;
use super::linear::{Linears, Loader, Matrix, Norm};
use super::rotation::Rotation;
use crate::architecture::{Activation, DecoderArchitecture};
use crate::error::{Error, Result};
use crate::weights::Weights;

/// The weights of a decoder as tensors.
#[derive(Debug)]
pub struct CandleEngine {
    architecture: DecoderArchitecture,
    info: DeviceInfo,
    device: Device,
    dtype: DType,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Norm,
    /// `None` where it is the embedding.
    head: Option<Matrix>,
}

/// A layer's weights.
#[derive(Debug)]
struct Layer {
    attention_norm: Norm,
    /// Queries, keys and values.
    qkv: Linears,
    qk_norms: Option<[Norm; 2]>,
    output: Linears,
    mlp_norm: Norm,
    /// The two halves of a feed-forward block.
    gate_up: Linears,
    down: Linears,
    post_norms: Option<[Norm; 2]>,
}

impl CandleEngine {
    /// Loads the weights of a bundle, which have been checked against its architecture.
    ///
    /// `format` is how matrices are held; `None` for as the bundle has them, but on the processor plain numbers
    /// of less than 32 bits become such of 32.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for a format that the device does not compute; those of
    /// [`Weights::check_numbers`](crate::weights::Weights::check_numbers) and
    /// [`Weights::tensor`](crate::weights::Weights::tensor).
    pub fn load(
        architecture: &DecoderArchitecture,
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
        let name = |name: &str| [name.to_owned()];
        let layers = 0..architecture.layers;
        let layers = layers.map(|layer| Layer::load(architecture, &loader, layer));
        let head = match architecture.tied {
            true => None,
            false => Some(loader.matrix(&name(DecoderArchitecture::HEAD))?),
        };
        let plus = if architecture.norm_plus_one { 1.0 } else { 0.0 };
        let final_norm = DecoderArchitecture::FINAL_NORM;
        Ok(Self {
            embedding: loader.matrix(&name(DecoderArchitecture::EMBEDDING))?,
            layers: layers.collect::<Result<_>>()?,
            norm: loader.norm(final_norm, plus, architecture.norm_epsilon)?,
            head,
            dtype: loader.dtype,
            architecture: architecture.clone(),
            info,
            device,
        })
    }

    /// The states of tokens before the first layer.
    fn embed(&self, tokens: &[u32]) -> Computed<Tensor> {
        let numbers = Tensor::new(tokens, &self.device)?;
        let states = self.embedding.rows(&numbers)?.to_dtype(self.dtype)?;
        match self.architecture.embedding_scale {
            1.0 => Ok(states),
            scale => states.affine(scale, 0.0),
        }
    }

    /// The logits of states that have gone through the norm.
    fn logits(&self, states: &Tensor) -> Computed<Tensor> {
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        head.forward(states)
    }
}

impl Engine for CandleEngine {
    fn architecture(&self) -> &DecoderArchitecture {
        &self.architecture
    }

    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn format(&self) -> String {
        let layer = self
            .layers
            .first()
            .and_then(|layer| layer.gate_up.maps.first());
        let matrix = layer.map_or(&self.embedding, |map| &map.matrix);
        matrix.element().name().to_lowercase()
    }

    fn bytes(&self) -> u64 {
        let layers = self
            .layers
            .iter()
            .flat_map(|layer| [&layer.qkv, &layer.output, &layer.gate_up, &layer.down]);
        let head = self.head.as_ref().map_or(0, Matrix::bytes);
        layers.map(Linears::bytes).sum::<u64>() + self.embedding.bytes() + head
    }

    fn decoder(self: Arc<Self>, context: usize) -> Box<dyn Decoder> {
        Box::new(CandleDecoder::new(self, context))
    }
}

impl Layer {
    fn load(architecture: &DecoderArchitecture, loader: &Loader<'_>, layer: usize) -> Result<Self> {
        let epsilon = architecture.norm_epsilon;
        let plus = if architecture.norm_plus_one { 1.0 } else { 0.0 };
        let norm = |name: &str| loader.norm(name, plus, epsilon);
        let norms = |names: Option<[String; 2]>| -> Result<Option<[Norm; 2]>> {
            let Some([first, second]) = names else {
                return Ok(None);
            };
            Ok(Some([norm(&first)?, norm(&second)?]))
        };
        let linears = architecture.linears(layer);
        Ok(Self {
            attention_norm: norm(&DecoderArchitecture::attention_norm(layer))?,
            qkv: loader.linears(&linears[..3])?,
            qk_norms: norms(architecture.qk_norm_names(layer))?,
            output: loader.linears(&linears[3..4])?,
            mlp_norm: norm(&architecture.mlp_norm(layer))?,
            gate_up: loader.linears(&linears[4..6])?,
            down: loader.linears(&linears[6..])?,
            post_norms: norms(architecture.post_norm_names(layer))?,
        })
    }
}

/// One sequence of a [`CandleEngine`].
#[derive(Debug)]
struct CandleDecoder {
    engine: Arc<CandleEngine>,
    context: usize,
    caches: Vec<Cache>,
    rotation: Rotation,
    local_rotation: Option<Rotation>,
}

impl CandleDecoder {
    fn new(engine: Arc<CandleEngine>, context: usize) -> Self {
        let architecture = &engine.architecture;
        let (dtype, device) = (engine.dtype, &engine.device);
        let heads = (architecture.kv_heads, architecture.head);
        let cache = || Cache::new(heads, context, dtype, device);
        let rotation = |rope| Rotation::new(rope, architecture.head, dtype, device);
        Self {
            caches: (0..architecture.layers).map(|_| cache()).collect(),
            rotation: rotation(&architecture.rope),
            local_rotation: architecture.local_rope.as_ref().map(rotation),
            context,
            engine,
        }
    }

    /// Refuses places that there cannot be.
    fn check(&self, layers: &Range<usize>, places: usize, position: usize) -> Result<()> {
        let all = self.engine.architecture.layers;
        if layers.is_empty() || layers.end > all {
            let why = format!("{layers:?} are no layers of a model that has {all}");
            return Err(Error::request("layers", why));
        }
        let kept = self.caches[layers.start].len();
        if places == 0 {
            return Err(Error::request("tokens", "there are none"));
        }
        if position > kept {
            let why = format!("it is {position}, and only {kept} places are known before it");
            return Err(Error::request("position", why));
        }
        if position + places > self.context {
            let why = format!(
                "{places} places from {position} on are beyond the context of {}",
                self.context
            );
            return Err(Error::request("position", why));
        }
        Ok(())
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let vocabulary = self.engine.architecture.vocabulary;
        match tokens.iter().find(|&&token| token as usize >= vocabulary) {
            Some(token) => {
                let why = format!("token {token} is none of the {vocabulary} that are embedded");
                Err(Error::request("tokens", why))
            }
            None => Ok(()),
        }
    }

    /// Runs layers, and forgets all places where that fails.
    fn run(&mut self, layers: Range<usize>, input: Input<'_>, position: usize) -> Result<Tensor> {
        let hidden = self.engine.architecture.hidden;
        let places = match input {
            Input::Tokens(tokens) if layers.start == 0 => {
                self.check_tokens(tokens)?;
                tokens.len()
            }
            Input::Hidden(states) if layers.start > 0 && states.len().is_multiple_of(hidden) => {
                states.len() / hidden
            }
            Input::Hidden(states) if layers.start > 0 => {
                let why = format!("{} numbers are no states of {hidden} each", states.len());
                return Err(Error::request("hidden", why));
            }
            _ => {
                let why = "layer 0 reads tokens, and every other one hidden states";
                return Err(Error::request("layers", why));
            }
        };
        self.check(&layers, places, position)?;
        let states = self.try_run(layers, input, places, position);
        if states.is_err() {
            self.truncate(0);
        }
        states
    }

    fn try_run(
        &mut self,
        layers: Range<usize>,
        input: Input<'_>,
        places: usize,
        position: usize,
    ) -> Result<Tensor> {
        self.rotation.reach(position + places)?;
        if let Some(rotation) = &mut self.local_rotation {
            rotation.reach(position + places)?;
        }
        let engine = Arc::clone(&self.engine);
        let hidden = engine.architecture.hidden;
        let states = match input {
            Input::Tokens(tokens) => engine.embed(tokens),
            Input::Hidden(states) => Tensor::from_slice(states, (places, hidden), &engine.device)
                .and_then(|states| states.to_dtype(engine.dtype)),
        };
        let mut states = states.map_err(Error::compute("embed the tokens"))?;
        let mut masks = Masks::new(position, places);
        for layer in layers {
            states = self
                .layer(&engine, layer, &states, position, &mut masks)
                .map_err(Error::compute(format!("run layer {layer}")))?;
        }
        Ok(states)
    }

    fn layer(
        &mut self,
        engine: &CandleEngine,
        number: usize,
        states: &Tensor,
        position: usize,
        masks: &mut Masks,
    ) -> Computed<Tensor> {
        let layer = &engine.layers[number];
        let normed = layer.attention_norm.forward(states)?;
        let mut change = self.attention(engine, number, &normed, position, masks)?;
        if let Some([norm, _]) = &layer.post_norms {
            change = norm.forward(&change)?;
        }
        let states = (states + change)?;
        let normed = layer.mlp_norm.forward(&states)?;
        let mut change = feed_forward(layer, &normed, engine.architecture.activation)?;
        if let Some([_, norm]) = &layer.post_norms {
            change = norm.forward(&change)?;
        }
        states + change
    }

    fn attention(
        &mut self,
        engine: &CandleEngine,
        number: usize,
        states: &Tensor,
        position: usize,
        masks: &mut Masks,
    ) -> Computed<Tensor> {
        let architecture = &engine.architecture;
        let layer = &engine.layers[number];
        let attention = architecture.attention(number);
        let (heads, kv_heads, head) =
            (architecture.heads, architecture.kv_heads, architecture.head);
        let places = states.dim(0)?;
        let qkv = layer.qkv.forward(states)?;
        let [queries, keys, values] = qkv.as_slice() else {
            candle_core::bail!(
                "there are {} results for queries, keys and values",
                qkv.len()
            );
        };
        let split = |x: &Tensor, heads: usize, norm: Option<&Norm>| {
            let x = x.reshape((places, heads, head))?;
            let x = match norm {
                Some(norm) => norm.forward(&x)?,
                None => x,
            };
            x.transpose(0, 1)
        };
        let [query_norm, key_norm] = match &layer.qk_norms {
            Some([queries, keys]) => [Some(queries), Some(keys)],
            None => [None, None],
        };
        let is_local = attention.window.is_some();
        let local = self.local_rotation.as_ref().filter(|_| is_local);
        let rotation = local.unwrap_or(&self.rotation);
        let queries = rotation.turn(&split(queries, heads, query_norm)?, position)?;
        let keys = rotation.turn(&split(keys, kv_heads, key_norm)?, position)?;
        let values = split(values, kv_heads, None)?;
        let cache = &mut self.caches[number];
        cache.truncate(position);
        cache.push(&keys, &values)?;
        // Before this place no query of this call sees any key.
        let start = attention
            .window
            .map_or(0, |window| (position + 1).saturating_sub(window));
        let (keys, values) = cache.since(start)?;
        // Query heads that share a head of keys are places of one product.
        let rows = (kv_heads, heads / kv_heads * places, head);
        let queries = queries
            .affine(architecture.attention_scale, 0.0)?
            .reshape(rows)?;
        let scores = queries.matmul(&keys.transpose(1, 2)?)?;
        let scores = match masks.get(attention.window, start, engine)? {
            Some(mask) => {
                let seen = scores.dim(D::Minus1)?;
                let by_head = scores.reshape((heads, places, seen))?;
                by_head.broadcast_add(mask)?.reshape(scores.shape())?
            }
            None => scores,
        };
        let weights = ops::softmax_last_dim(&scores)?;
        let mixed = weights.matmul(&values)?;
        let mixed = mixed.reshape((heads, places, head))?.transpose(0, 1)?;
        layer
            .output
            .forward_one(&mixed.reshape((places, heads * head))?)
    }

    /// The states that the head reads.
    fn normed(&self, states: &Tensor) -> Result<Tensor> {
        let states = self.engine.norm.forward(states);
        states.map_err(Error::compute("run the last norm"))
    }
}

impl Decoder for CandleDecoder {
    fn forward(&mut self, tokens: &[u32], position: usize, logits: &mut Vec<f32>) -> Result<()> {
        let layers = 0..self.engine.architecture.layers;
        let states = self.run(layers, Input::Tokens(tokens), position)?;
        let last = states.narrow(0, tokens.len() - 1, 1)?;
        let computed = self.engine.logits(&self.normed(&last)?);
        read(computed, logits)
    }

    fn forward_layers(
        &mut self,
        layers: Range<usize>,
        input: Input<'_>,
        position: usize,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let is_last = layers.end == self.engine.architecture.layers;
        let states = self.run(layers, input, position)?;
        if !is_last {
            return read(Ok(states), out);
        }
        read(self.engine.logits(&self.normed(&states)?), out)
    }

    fn states(&mut self, tokens: &[u32], position: usize, out: &mut Vec<f32>) -> Result<()> {
        let layers = 0..self.engine.architecture.layers;
        let states = self.run(layers, Input::Tokens(tokens), position)?;
        read(Ok(self.normed(&states)?), out)
    }

    fn len(&self) -> usize {
        self.caches.iter().map(Cache::len).max().unwrap_or(0)
    }

    fn truncate(&mut self, len: usize) {
        for cache in &mut self.caches {
            cache.truncate(len);
        }
    }

    fn bytes(&self) -> u64 {
        self.caches.iter().map(Cache::bytes).sum()
    }
}

/// `down(activation(gate(x)) · up(x))`.
fn feed_forward(layer: &Layer, x: &Tensor, activation: Activation) -> Computed<Tensor> {
    let halves = layer.gate_up.forward(x)?;
    let [gate, up] = halves.as_slice() else {
        candle_core::bail!("there are {} halves of a feed-forward block", halves.len());
    };
    let gate = match activation {
        Activation::Silu => ops::silu(gate)?,
        Activation::Gelu => gate.gelu_erf()?,
        Activation::GeluTanh => gate.gelu()?,
    };
    layer.down.forward_one(&(gate * up)?)
}

/// Takes numbers off a device.
pub(super) fn read(computed: Computed<Tensor>, out: &mut Vec<f32>) -> Result<()> {
    let read = computed.and_then(|tensor| {
        let numbers = tensor.to_dtype(DType::F32)?.flatten_all()?;
        *out = numbers.to_vec1()?;
        Ok(())
    });
    read.map_err(Error::compute("read what was computed"))
}

/// Which keys the queries of a call see: 0 for those, minus infinity for others.
struct Masks {
    position: usize,
    places: usize,
    /// By the window and the first key.
    made: Vec<((Option<usize>, usize), Tensor)>,
}

impl Masks {
    fn new(position: usize, places: usize) -> Self {
        Self {
            position,
            places,
            made: Vec::new(),
        }
    }

    /// The mask for keys from `start` on, of shape (places, keys); `None` where every query sees every key.
    fn get(
        &mut self,
        window: Option<usize>,
        start: usize,
        engine: &CandleEngine,
    ) -> Computed<Option<&Tensor>> {
        // One query sees every key, as there are none beyond it, nor before the window.
        if self.places == 1 {
            return Ok(None);
        }
        let key = (window, start);
        let at = match self.made.iter().position(|(made, _)| *made == key) {
            Some(at) => at,
            None => {
                let mask = self.make(window, start, engine)?;
                self.made.push((key, mask));
                self.made.len() - 1
            }
        };
        Ok(self.made.get(at).map(|(_, mask)| mask))
    }

    fn make(&self, window: Option<usize>, start: usize, engine: &CandleEngine) -> Computed<Tensor> {
        let end = self.position + self.places;
        let keys = end - start;
        let of_query = |query: usize| {
            (start..end).map(move |key| {
                let is_seen = key <= query && window.is_none_or(|window| query - key < window);
                if is_seen { 0.0 } else { f32::NEG_INFINITY }
            })
        };
        let mask: Vec<f32> = (self.position..end).flat_map(of_query).collect();
        Tensor::from_vec(mask, (self.places, keys), &engine.device)?.to_dtype(engine.dtype)
    }
}
