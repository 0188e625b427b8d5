//! A decoder for training: the way of a batch forward and back.

use candle_core::{Device, Result as Computed, Tensor};
use rayon::prelude::*;

use super::adapter;
use super::held::{Draws, HeldAdapter, HeldNorm, Linear, Matrix, Vector};
use super::layer::{Kept, Layer, Scene};
use super::parameter::Parameter;
use super::random::Randomness;
use super::spec::{AdapterSpec, Batch, Spec, Statistics};
use crate::architecture::{DecoderArchitecture, LinearSpec};
use crate::error::{Error, Result};
use crate::ops::attention::{Attention, Sight};
use crate::ops::embedding;
use crate::ops::frozen::{Format, Frozen};
use crate::ops::loss::{Head, Loss, cross_entropy};
use crate::ops::norm::Norm;
use crate::ops::rope::Turns;
use crate::weights::{Element, Weights};

/// The spread of weights that begin at random, where a configuration does not say it.
const SPREAD: f64 = 0.02;

/// The parts of a decoder.
#[derive(Debug)]
pub struct Model {
    architecture: DecoderArchitecture,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: HeldNorm,
    /// None where the head is the embedding.
    head: Option<Matrix>,
    /// The first layer of which something is trained.
    first_trained: usize,
    is_checkpointed: bool,
    randomness: Randomness,
    /// The spread of weights that began at random.
    spread: f64,
    device: Device,
    /// The most bytes that were kept of a batch for its way back.
    pub(super) most_kept: u64,
}

/// Where the numbers of tensors come from.
struct Source<'a> {
    spec: &'a Spec,
    architecture: &'a DecoderArchitecture,
    /// None for a beginning at random.
    weights: Option<&'a Weights>,
    spread: f64,
    parameters: Vec<Parameter>,
}

/// The numbers that a tensor begins with at random: matrices normal with a spread, norms as what changes nothing,
/// biases as nothing.
fn beginning(
    randomness: Randomness,
    architecture: &DecoderArchitecture,
    spread: f64,
    name: &str,
    shape: &[usize],
) -> Vec<f32> {
    let elements: usize = shape.iter().product();
    if shape.len() > 1 {
        let random = randomness.beginning(name);
        let draw = |at| (random.normal(at) * spread) as f32;
        return (0..elements as u64).into_par_iter().map(draw).collect();
    }
    let is_one = name.ends_with("norm.weight") && !architecture.norm_plus_one;
    vec![if is_one { 1.0 } else { 0.0 }; elements]
}

impl Source<'_> {
    fn randomness(&self) -> Randomness {
        Randomness {
            seed: self.spec.seed,
            rank: self.spec.rank,
        }
    }

    /// The numbers that a tensor begins with.
    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        if let Some(weights) = self.weights {
            let floats = weights.floats(name)?;
            // They have become others, so that the file's own would be in memory twice.
            weights.release(name)?;
            return Ok(floats);
        }
        Ok(beginning(
            self.randomness(),
            self.architecture,
            self.spread,
            name,
            shape,
        ))
    }

    fn train(&mut self, name: &str, values: Vec<f32>, shape: &[usize]) -> Result<usize> {
        let parameter = Parameter::new(name.to_owned(), values, shape, &self.spec.device)?;
        self.parameters.push(parameter);
        Ok(self.parameters.len() - 1)
    }

    fn matrix(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
        format: Format,
    ) -> Result<Matrix> {
        let values = self.floats(name, &[rows, columns])?;
        if self.spec.adapter.is_none() {
            return Ok(Matrix::Trained(self.train(
                name,
                values,
                &[rows, columns],
            )?));
        }
        let frozen = Frozen::new(values, rows, columns, format, &self.spec.device);
        Ok(Matrix::Frozen(
            frozen.map_err(Error::compute(format!("hold `{name}`")))?,
        ))
    }

    fn vector(&mut self, name: &str, size: usize) -> Result<Vector> {
        let values = self.floats(name, &[size])?;
        if self.spec.adapter.is_none() {
            return Ok(Vector::Trained(self.train(name, values, &[size])?));
        }
        let tensor = Tensor::from_vec(values, size, &self.spec.device);
        Ok(Vector::Frozen(
            tensor.map_err(Error::compute(format!("hold `{name}`")))?,
        ))
    }

    fn norm(&mut self, name: &str, size: usize) -> Result<HeldNorm> {
        Ok(HeldNorm {
            norm: Norm {
                epsilon: self.architecture.norm_epsilon as f32,
                plus_one: self.architecture.norm_plus_one,
            },
            weight: self.vector(name, size)?,
        })
    }

    fn norms(&mut self, names: Option<[String; 2]>, size: usize) -> Result<Option<[HeldNorm; 2]>> {
        let Some([first, second]) = names else {
            return Ok(None);
        };
        Ok(Some([self.norm(&first, size)?, self.norm(&second, size)?]))
    }

    fn linear(&mut self, linear: &LinearSpec) -> Result<Linear> {
        let (outputs, inputs) = (linear.outputs, linear.inputs);
        let weight = self.matrix(&linear.weight(), outputs, inputs, self.spec.base)?;
        let bias = linear
            .bias()
            .map(|name| self.vector(&name, outputs))
            .transpose()?;
        let wanted = self
            .spec
            .adapter
            .clone()
            .filter(|adapter| adapter.takes(&linear.name));
        let adapter = wanted
            .map(|adapter| self.adapter(linear, &adapter))
            .transpose()?;
        Ok(Linear {
            name: linear.name.clone(),
            weight,
            bias,
            adapter,
        })
    }

    /// An adapter that changes nothing yet: A as `torch.nn.Linear` begins, B nothing.
    fn adapter(&mut self, linear: &LinearSpec, spec: &AdapterSpec) -> Result<HeldAdapter> {
        let [a_name, b_name] = adapter::names(&linear.name);
        let random = self.randomness().beginning(&a_name);
        let bound = 1.0 / (linear.inputs as f64).sqrt();
        let elements = (spec.rank * linear.inputs) as u64;
        let values = (0..elements).map(|at| (bound * (2.0 * random.uniform(at) - 1.0)) as f32);
        let a = self.train(&a_name, values.collect(), &[spec.rank, linear.inputs])?;
        let values = vec![0.0; linear.outputs * spec.rank];
        let b = self.train(&b_name, values, &[linear.outputs, spec.rank])?;
        Ok(HeldAdapter {
            a,
            b,
            scale: spec.scale(),
            dropout: spec.dropout,
        })
    }

    fn layer(&mut self, layer: usize) -> Result<Layer> {
        let architecture = self.architecture;
        let [q, k, v, o, gate, up, down] = architecture.linears(layer);
        let own = architecture.attention(layer);
        Ok(Layer {
            attention_norm: self.norm(
                &DecoderArchitecture::attention_norm(layer),
                architecture.hidden,
            )?,
            q: self.linear(&q)?,
            k: self.linear(&k)?,
            v: self.linear(&v)?,
            o: self.linear(&o)?,
            qk_norms: self.norms(architecture.qk_norm_names(layer), architecture.head)?,
            mlp_norm: self.norm(&architecture.mlp_norm(layer), architecture.hidden)?,
            gate: self.linear(&gate)?,
            up: self.linear(&up)?,
            down: self.linear(&down)?,
            post_norms: self.norms(architecture.post_norm_names(layer), architecture.hidden)?,
            shape: Attention {
                heads: architecture.heads,
                kv_heads: architecture.kv_heads,
                head: architecture.head,
                scale: architecture.attention_scale as f32,
                window: own.window,
            },
            activation: architecture.activation,
            is_local: own.window.is_some() && architecture.local_rope.is_some(),
        })
    }
}

/// How the embedding and the head are held beside layers of a format: as they are stored where layers are
/// quantised, which loses nothing.
pub(super) fn table_format(base: Format, stored: Option<Element>) -> Format {
    use candle_core::DType;
    match (base, stored) {
        (base, _) if !base.is_quantised() => base,
        (_, Some(Element::Plain(DType::BF16))) => Format::Bf16,
        (_, Some(Element::Plain(DType::F16))) => Format::F16,
        _ => Format::F32,
    }
}

impl Model {
    /// A model with the weights of a bundle, or without `weights` one that begins at random; and what of it is
    /// trained, in the order of the architecture's tensors.
    ///
    /// # Errors
    ///
    /// As [`Weights::check`]; [`Error::Request`] for a target of the adapter that no linear map has;
    /// [`Error::Compute`] where the device has no room.
    pub fn new(
        architecture: &DecoderArchitecture,
        spec: &Spec,
        weights: Option<&Weights>,
        spread: Option<f64>,
    ) -> Result<(Self, Vec<Parameter>)> {
        if let Some(adapter) = &spec.adapter {
            check_targets(architecture, adapter)?;
        }
        let mut source = Source {
            spec,
            architecture,
            weights,
            spread: spread.unwrap_or(SPREAD),
            parameters: Vec::new(),
        };
        let (vocabulary, hidden) = (architecture.vocabulary, architecture.hidden);
        let name = DecoderArchitecture::EMBEDDING;
        let stored = weights.map(|weights| weights.info(name)).transpose()?;
        let format = table_format(spec.base, stored.map(|info| info.element));
        let embedding = source.matrix(name, vocabulary, hidden, format)?;
        let layers: Vec<Layer> = (0..architecture.layers)
            .map(|at| source.layer(at))
            .collect::<Result<_>>()?;
        let norm = source.norm(DecoderArchitecture::FINAL_NORM, hidden)?;
        let head = match architecture.tied {
            true => None,
            false => Some(source.matrix(DecoderArchitecture::HEAD, vocabulary, hidden, format)?),
        };
        let first_trained = layers.iter().position(Layer::is_trained);
        let model = Self {
            architecture: architecture.clone(),
            embedding,
            first_trained: first_trained.unwrap_or(layers.len()),
            layers,
            norm,
            head,
            is_checkpointed: spec.gradient_checkpointing,
            randomness: source.randomness(),
            spread: source.spread,
            device: spec.device.clone(),
            most_kept: 0,
        };
        Ok((model, source.parameters))
    }

    /// The loss of a batch without dropout.
    ///
    /// # Errors
    ///
    /// What the framework says.
    pub fn evaluate(&self, parameters: &[Parameter], batch: &Batch<'_>) -> Computed<Statistics> {
        let scene = self.scene(batch, None)?;
        let mut x = self.embed(parameters, batch)?;
        for layer in &self.layers {
            (x, _) = layer.forward(parameters, &scene, &x)?;
        }
        let normed = self.norm.forward(parameters, &x)?;
        let head = self.head(parameters);
        let loss = cross_entropy(&normed, head, batch.targets, false, None)?;
        Ok(statistics(&loss))
    }

    /// The logits of a batch without dropout: (tokens, vocabulary).
    ///
    /// # Errors
    ///
    /// What the framework says.
    pub fn logits(&self, parameters: &[Parameter], batch: &Batch<'_>) -> Computed<Tensor> {
        let scene = self.scene(batch, None)?;
        let mut x = self.embed(parameters, batch)?;
        for layer in &self.layers {
            (x, _) = layer.forward(parameters, &scene, &x)?;
        }
        let normed = self.norm.forward(parameters, &x)?;
        let weights = self
            .head
            .as_ref()
            .unwrap_or(&self.embedding)
            .weights(parameters)?;
        crate::ops::linear::forward(&normed, &weights, 1.0)
    }

    /// Computes the loss of a batch and adds the gradients of its sum to those that there are. Where the loss is
    /// not finite all gradients are taken away, as they are of no use.
    ///
    /// # Errors
    ///
    /// What the framework says.
    pub fn forward_backward(
        &mut self,
        parameters: &mut [Parameter],
        batch: &Batch<'_>,
    ) -> Computed<Statistics> {
        let draws = Draws {
            randomness: self.randomness,
            position: batch.position,
        };
        let scene = self.scene(batch, Some(draws))?;
        let mut x = self.embed(parameters, batch)?;
        let mut kept = Vec::with_capacity(self.layers.len());
        let mut bytes = 0;
        for (at, layer) in self.layers.iter().enumerate() {
            let (next, all) = layer.forward(parameters, &scene, &x)?;
            let way = Way::of(x, all, self.is_checkpointed, at >= self.needed_from());
            bytes += way.bytes();
            kept.push(way);
            x = next;
        }
        self.most_kept = self.most_kept.max(bytes);
        let normed = self.norm.forward(parameters, &x)?;
        let mut head_gradient = match self.head_matrix() {
            Matrix::Trained(at) => Some((*at, parameters[*at].gradient.take())),
            Matrix::Frozen(_) => None,
        };
        let head = self.head(parameters);
        let total = head_gradient.as_mut().map(|(_, total)| total);
        let loss = cross_entropy(&normed, head, batch.targets, true, total)?;
        if let Some((at, total)) = head_gradient {
            parameters[at].gradient = total;
        }
        let Some(to_normed) = loss.gradient.as_ref().filter(|_| loss.sum.is_finite()) else {
            for parameter in parameters {
                parameter.gradient = None;
            }
            return Ok(statistics(&loss));
        };
        let gradient = self.norm.backward(parameters, &x, to_normed)?;
        drop((x, normed));
        self.backward(parameters, &scene, batch, kept, gradient)?;
        Ok(statistics(&loss))
    }

    /// The way back through the layers and the embedding.
    fn backward(
        &self,
        parameters: &mut [Parameter],
        scene: &Scene,
        batch: &Batch<'_>,
        mut kept: Vec<Way>,
        mut gradient: Tensor,
    ) -> Computed<()> {
        for (at, layer) in self
            .layers
            .iter()
            .enumerate()
            .skip(self.needed_from())
            .rev()
        {
            let Some(way) = kept.pop() else { break };
            let all = match way {
                Way::All(all) => *all,
                Way::Input(x) => layer.forward(parameters, scene, &x)?.1,
                Way::Nothing => break,
            };
            let wants_input = at > self.needed_from() || self.embedding.is_trained();
            match layer.backward(parameters, scene, &all, &gradient, wants_input)? {
                Some(to_x) => gradient = to_x,
                None => return Ok(()),
            }
        }
        if let Matrix::Trained(at) = self.embedding {
            let rows = self.architecture.vocabulary;
            let scale = self.architecture.embedding_scale as f32;
            let total = &mut parameters[at].gradient;
            embedding::scatter(total, rows, batch.tokens, &gradient, scale)?;
        }
        Ok(())
    }

    /// The first layer whose way back is gone.
    fn needed_from(&self) -> usize {
        if self.embedding.is_trained() {
            0
        } else {
            self.first_trained
        }
    }

    fn embed(&self, parameters: &[Parameter], batch: &Batch<'_>) -> Computed<Tensor> {
        let scale = self.architecture.embedding_scale as f32;
        match &self.embedding {
            Matrix::Trained(at) => embedding::gather(&parameters[*at].value, batch.tokens, scale),
            Matrix::Frozen(frozen) => frozen.gather(batch.tokens, scale),
        }
    }

    fn head_matrix(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    fn head<'a>(&'a self, parameters: &'a [Parameter]) -> Head<'a> {
        match self.head_matrix() {
            Matrix::Trained(at) => Head::Trained(&parameters[*at].value),
            Matrix::Frozen(frozen) => Head::Frozen(frozen),
        }
    }

    fn scene(&self, batch: &Batch<'_>, draws: Option<Draws>) -> Computed<Scene> {
        let sight = Sight::new(batch.segments, batch.columns);
        let positions = sight.positions();
        let turns = |rope| Turns::new(rope, self.architecture.head, &positions, &self.device);
        Ok(Scene {
            turns: turns(&self.architecture.rope)?,
            local_turns: self
                .architecture
                .local_rope
                .as_ref()
                .map(turns)
                .transpose()?,
            sight,
            draws,
        })
    }

    /// The linear maps of all layers.
    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.layers.iter().flat_map(Layer::linears)
    }

    /// The numbers that a tensor of a model begins with that begins at random.
    pub(super) fn beginning(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        beginning(
            self.randomness,
            &self.architecture,
            self.spread,
            name,
            shape,
        )
    }

    /// Bytes of what is not trained.
    pub(super) fn frozen_bytes(&self) -> u64 {
        let layers: u64 = self.layers.iter().map(Layer::frozen_bytes).sum();
        let head = self.head.as_ref().map_or(0, Matrix::frozen_bytes);
        layers + head + self.embedding.frozen_bytes() + self.norm.weight.frozen_bytes()
    }
}

/// What is kept of a layer for the way back.
enum Way {
    /// All that it reads.
    All(Box<Kept>),
    /// What came in, of which the rest is computed again.
    Input(Tensor),
    /// The way back does not come here.
    Nothing,
}

impl Way {
    fn of(x: Tensor, all: Kept, is_checkpointed: bool, is_needed: bool) -> Self {
        match (is_needed, is_checkpointed) {
            (false, _) => Self::Nothing,
            (true, true) => Self::Input(x),
            (true, false) => Self::All(Box::new(all)),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::All(all) => all.bytes(),
            Self::Input(x) => x.elem_count() as u64 * 4,
            Self::Nothing => 0,
        }
    }
}

fn statistics(loss: &Loss) -> Statistics {
    Statistics {
        loss: loss.sum,
        targets: loss.targets,
    }
}

/// Every target must be a linear map's.
fn check_targets(architecture: &DecoderArchitecture, adapter: &AdapterSpec) -> Result<()> {
    let linears: Vec<LinearSpec> = (0..architecture.layers)
        .flat_map(|layer| architecture.linears(layer))
        .collect();
    for target in &adapter.targets {
        let alone = AdapterSpec {
            targets: vec![target.clone()],
            ..adapter.clone()
        };
        if !linears.iter().any(|linear| alone.takes(&linear.name)) {
            let known: Vec<&str> = linears.iter().take(7).map(|linear| linear.short).collect();
            let why = format!(
                "no linear map is named `{}`; there are {} and {}",
                target.escape_debug(),
                known.join(", "),
                AdapterSpec::ALL
            );
            return Err(Error::request("adapter.targets", why));
        }
    }
    Ok(())
}
