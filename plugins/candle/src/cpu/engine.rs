//! Models and sequences of the processor, behind the interface of [`infer`](crate::infer).

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::thread;

use candle_core::DType;
use candle_core::quantized::GgmlDType;
use vox_quant::Role;

use super::model::{Model, Source};
use super::sequence::{Options, Sequence, States};
use crate::architecture::{Activation, DecoderArchitecture};
use crate::error::{Error, Result};
use crate::infer::{Decoder, DeviceInfo, Engine, Input, WeightFormat};
use crate::kernels::attention::CacheFormat;
use crate::kernels::packed::Format;
use crate::kernels::pool::Pool;
use crate::kernels::simd::Level;
use crate::weights::{Element, Weights};

/// Tokens whose keys and values have room when a sequence begins.
const RESERVED: usize = 1024;

/// The weights of a decoder in the memory of the processor, packed for it.
#[derive(Debug)]
pub struct CpuEngine {
    pub(super) model: Arc<Model>,
    info: DeviceInfo,
    threads: NonZeroUsize,
    level: Level,
}

impl CpuEngine {
    /// Whether the engine has all that an architecture needs.
    pub fn serves(architecture: &DecoderArchitecture) -> bool {
        architecture.activation != Activation::Gelu
    }

    /// Loads the weights of a bundle, which have been checked against its architecture.
    ///
    /// `format` is how matrices are held; `None` for as the bundle has them. Blocks other than Q8_0, Q5_0, Q4_0,
    /// Q6_K and Q4_K are held as Q8_0. With 0 `threads` there are as many as cores.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for an architecture that is not [served](Self::serves); those of
    /// [`Weights::check_numbers`](crate::weights::Weights::check_numbers) and
    /// [`Weights::read_rows`](crate::weights::Weights::read_rows).
    pub fn load(
        architecture: &DecoderArchitecture,
        weights: &Weights,
        info: DeviceInfo,
        format: Option<WeightFormat>,
        threads: usize,
    ) -> Result<Self> {
        let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads = NonZeroUsize::new(threads).unwrap_or_else(cores);
        let formats = Formats::new(architecture, weights, format);
        let mut pool = Pool::new(threads);
        let model = Model::load(
            architecture,
            &Bundle(weights),
            &|name| formats.of(name),
            &mut pool,
        )?;
        Ok(Self {
            model: Arc::new(model),
            info,
            threads,
            level: Level::best(),
        })
    }

    /// The instructions that it computes with.
    pub fn level(&self) -> Level {
        self.level
    }

    /// How keys and values are held: as exactly as the weights.
    pub(super) fn cache(&self) -> CacheFormat {
        match self.model.format() {
            Format::F32 => CacheFormat::F32,
            _ => CacheFormat::F16,
        }
    }
}

impl Engine for CpuEngine {
    fn architecture(&self) -> &DecoderArchitecture {
        self.model.architecture()
    }

    fn device(&self) -> &DeviceInfo {
        &self.info
    }

    fn format(&self) -> String {
        self.model.format().name().to_owned()
    }

    fn bytes(&self) -> u64 {
        self.model.bytes() as u64
    }

    fn decoder(self: Arc<Self>, context: usize) -> Box<dyn Decoder> {
        let options = Options {
            context,
            reserved: RESERVED,
            threads: self.threads,
            cache: self.cache(),
            level: self.level,
        };
        Box::new(CpuDecoder(Sequence::new(Arc::clone(&self.model), options)))
    }
}

/// One sequence of a [`CpuEngine`].
struct CpuDecoder(Sequence);

impl Decoder for CpuDecoder {
    fn forward(&mut self, tokens: &[u32], position: usize, logits: &mut Vec<f32>) -> Result<()> {
        self.0.forward(tokens, position, logits)
    }

    fn forward_layers(
        &mut self,
        layers: Range<usize>,
        input: Input<'_>,
        position: usize,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let states = match input {
            Input::Tokens(tokens) => States::Tokens(tokens),
            Input::Hidden(states) => States::Hidden(states),
        };
        self.0.forward_layers(layers, states, position, out)
    }

    fn states(&mut self, tokens: &[u32], position: usize, out: &mut Vec<f32>) -> Result<()> {
        self.0.states(tokens, position, out)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    fn bytes(&self) -> u64 {
        self.0.bytes() as u64
    }
}

/// Weights of a bundle, row by row.
struct Bundle<'a>(&'a Weights);

impl Source for Bundle<'_> {
    fn row(&self, name: &str, row: usize, to: &mut [f32]) -> Result<()> {
        self.0.check_rows(name, row..row + 1)?;
        self.0.read_rows(name, row..row + 1, to)
    }

    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>> {
        self.0.check_numbers(name)?;
        let vector = self.0.floats(name)?;
        if vector.len() != length {
            return Err(Error::Shape {
                path: self.0.directory().to_path_buf(),
                tensor: name.to_owned(),
                found: vec![vector.len()],
                wanted: vec![length],
            });
        }
        Ok(vector)
    }

    fn blocks(&self, name: &str, row: usize, format: Format) -> Option<&[u8]> {
        self.0.row_blocks(name, row, format.blocks()?)
    }
}

/// How the matrices of a bundle are held.
struct Formats<'a> {
    weights: &'a Weights,
    wanted: Option<WeightFormat>,
    layers: usize,
    /// Some are held in blocks, so that all are.
    is_quantised: bool,
}

impl<'a> Formats<'a> {
    fn new(
        architecture: &DecoderArchitecture,
        weights: &'a Weights,
        wanted: Option<WeightFormat>,
    ) -> Self {
        let is_blocks = |name: &str| {
            let element = weights.info(name).map(|info| info.element);
            matches!(element, Ok(Element::Blocks(_)))
        };
        let layers = architecture.layers;
        let linears = (0..layers).flat_map(|layer| architecture.linears(layer));
        let mut names = linears.map(|linear| linear.weight()).chain([
            DecoderArchitecture::EMBEDDING.to_owned(),
            architecture.head_name().to_owned(),
        ]);
        Self {
            weights,
            wanted,
            layers,
            is_quantised: wanted.is_none() && names.any(|name| is_blocks(&name)),
        }
    }

    fn of(&self, name: &str) -> Format {
        let info = self.weights.info(name).ok();
        let columns = info
            .and_then(|info| info.shape.last().copied())
            .unwrap_or(0);
        match (self.wanted, info.map(|info| info.element)) {
            (Some(WeightFormat::F32), _) => Format::F32,
            (Some(WeightFormat::F16), _) => Format::F16,
            (Some(WeightFormat::BF16), _) => Format::Bf16,
            (Some(wanted), _) => blocks(wanted.blocks(Role::of(name, self.layers), columns)),
            (None, Some(Element::Blocks(kind))) => blocks(Some(kind)),
            (None, _) if self.is_quantised => Format::Q8_0,
            (None, Some(Element::Plain(DType::F16))) => Format::F16,
            (None, Some(Element::Plain(DType::BF16))) => Format::Bf16,
            (None, _) => Format::F32,
        }
    }
}

/// The blocks here that hold those of ggml, as exactly at least.
fn blocks(kind: Option<GgmlDType>) -> Format {
    match kind {
        Some(GgmlDType::Q4_0) => Format::Q4_0,
        Some(GgmlDType::Q5_0) => Format::Q5_0,
        Some(GgmlDType::Q6K) => Format::Q6K,
        Some(GgmlDType::Q4K) => Format::Q4K,
        _ => Format::Q8_0,
    }
}
