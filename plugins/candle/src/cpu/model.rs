//! The weights of a decoder, packed for the processor.

use std::sync::{Mutex, PoisonError};

use crate::architecture::{Activation, DecoderArchitecture, LinearSpec};
use crate::error::{Error, Result};
use crate::kernels::packed::{Epilogue, Format, Gated, Packed};
use crate::kernels::pool::Pool;
use crate::kernels::rows;
use crate::kernels::simd::LANES;

/// Where weights come from. Names and shapes are those of
/// [`Architecture::tensors`](crate::architecture::Architecture::tensors).
pub trait Source: Sync {
    /// Reads a row of a matrix.
    ///
    /// # Errors
    ///
    /// Where there is no such matrix, or it holds no floats.
    fn row(&self, name: &str, row: usize, to: &mut [f32]) -> Result<()>;

    /// Reads a vector of so many numbers.
    ///
    /// # Errors
    ///
    /// As [`row`](Self::row).
    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>>;

    /// The bytes of a row, where the matrix is kept in blocks of this format; they are then held as they are, and are not
    /// made again of their numbers, which would lose a little once more.
    fn blocks(&self, _name: &str, _row: usize, _format: Format) -> Option<&[u8]> {
        None
    }
}

/// How matrices are held: by their names, what is wanted of them. All are quantised, or none.
pub type Matrices<'a> = &'a (dyn Fn(&str) -> Format + 'a);

/// A linear map `x Wᵀ + b`, of one or several matrices below each other.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: Packed,
    bias: Option<Vec<[f32; LANES]>>,
}

impl Linear {
    /// What becomes of its products; they are added to what is there where `add` says so.
    pub(super) fn epilogue(&self, add: bool) -> Epilogue<'_> {
        Epilogue {
            bias: self.bias.as_deref(),
            add,
        }
    }
}

/// A layer's weights.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attention_norm: Vec<f32>,
    /// Queries, keys and values, one below the other.
    pub(super) qkv: Linear,
    pub(super) qk_norms: Option<[Vec<f32>; 2]>,
    pub(super) output: Linear,
    pub(super) mlp_norm: Vec<f32>,
    pub(super) gated: Gated,
    pub(super) down: Linear,
    pub(super) post_norms: Option<[Vec<f32>; 2]>,
}

/// The weights of a decoder, which any number of sequences share.
#[derive(Debug)]
pub struct Model {
    architecture: DecoderArchitecture,
    pub(super) embedding: Packed,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Vec<f32>,
    /// `None` where it is the embedding.
    head: Option<Packed>,
}

impl Model {
    /// Reads and packs all weights, on all threads of a pool.
    ///
    /// Where `matrices` says [`Format::Q6K`] or [`Format::Q4K`] and rows are no multiple of 256, it becomes [`Format::Q8_0`]; maps that read
    /// the same are held as the most exact of them is, with the numbers that the others have in formats of their own: those
    /// that they would have if each stood alone, or were stored so.
    ///
    /// # Errors
    ///
    /// Those of the source; [`Error::Request`] for an activation that is not built in here, and for formats of which some
    /// are quantised and some are not.
    pub fn load(
        architecture: &DecoderArchitecture,
        source: &dyn Source,
        matrices: Matrices<'_>,
        pool: &mut Pool,
    ) -> Result<Self> {
        let activation = match architecture.activation {
            Activation::Silu => rows::Activation::Silu,
            Activation::GeluTanh => rows::Activation::GeluTanh,
            Activation::Gelu => {
                let why =
                    "GELU without its approximation is not built into the engine of the processor";
                return Err(Error::request("hidden_act", why));
            }
        };
        let mut loader = Loader {
            architecture,
            source,
            matrices,
            pool,
        };
        let hidden = architecture.hidden;
        let vocabulary = |name: &str| [(name.to_owned(), architecture.vocabulary)];
        let layers = (0..architecture.layers).map(|layer| loader.layer(layer, activation));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let head = match architecture.tied {
            true => None,
            false => Some(loader.matrix(&vocabulary(DecoderArchitecture::HEAD), hidden)?),
        };
        let model = Self {
            embedding: loader.matrix(&vocabulary(DecoderArchitecture::EMBEDDING), hidden)?,
            norm: loader.norm(DecoderArchitecture::FINAL_NORM, hidden)?,
            architecture: architecture.clone(),
            layers,
            head,
        };
        model.check()
    }

    /// Refuses a mix of quantised and plain matrices, whose inputs would differ.
    fn check(self) -> Result<Self> {
        let is_quantised = self.is_quantised();
        let of_layers = self.layers.iter().flat_map(|layer| {
            [&layer.qkv, &layer.output, &layer.down]
                .map(|map| map.weight.format())
                .into_iter()
                .chain([layer.gated.format()])
        });
        let mut all = of_layers.chain([self.head().format()]);
        if all.any(|format| format.is_quantised() != is_quantised) {
            let why = "either all matrices are quantised or none is";
            return Err(Error::request("format", why));
        }
        Ok(self)
    }

    /// What the model is made of.
    pub fn architecture(&self) -> &DecoderArchitecture {
        &self.architecture
    }

    /// The matrices are quantised.
    pub fn is_quantised(&self) -> bool {
        self.embedding.format().is_quantised()
    }

    /// How the matrices of the feed-forward blocks are held.
    pub fn format(&self) -> Format {
        let layer = self.layers.first();
        layer.map_or(self.embedding.format(), |layer| layer.gated.format())
    }

    /// Bytes of all matrices.
    pub fn bytes(&self) -> usize {
        let layers = self.layers.iter().map(|layer| {
            let maps = [&layer.qkv, &layer.output, &layer.down];
            maps.map(|map| map.weight.bytes()).iter().sum::<usize>() + layer.gated.bytes()
        });
        let head = self.head.as_ref().map_or(0, Packed::bytes);
        layers.sum::<usize>() + self.embedding.bytes() + head
    }

    /// The head.
    pub(super) fn head(&self) -> &Packed {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

/// Reads weights.
struct Loader<'a> {
    architecture: &'a DecoderArchitecture,
    source: &'a dyn Source,
    matrices: Matrices<'a>,
    pool: &'a mut Pool,
}

impl Loader<'_> {
    fn layer(&mut self, layer: usize, activation: rows::Activation) -> Result<Layer> {
        let architecture = self.architecture;
        let (hidden, head) = (architecture.hidden, architecture.head);
        let linears = architecture.linears(layer);
        let [gate, up] = [&linears[4], &linears[5]];
        let biases = match (gate.bias(), up.bias()) {
            (Some(of_gate), Some(of_up)) => Some([
                self.source.vector(&of_gate, gate.outputs)?,
                self.source.vector(&of_up, up.outputs)?,
            ]),
            _ => None,
        };
        let of_rows = biases
            .as_ref()
            .map(|biases| biases.each_ref().map(|bias| &bias[..]));
        let gated = Gated::new(
            self.matrix(&[(gate.weight(), gate.outputs)], gate.inputs)?,
            self.matrix(&[(up.weight(), up.outputs)], up.inputs)?,
            of_rows,
            activation,
        );
        Ok(Layer {
            attention_norm: self.norm(&DecoderArchitecture::attention_norm(layer), hidden)?,
            qkv: self.linear(&linears[..3])?,
            qk_norms: self.norms(architecture.qk_norm_names(layer), head)?,
            output: self.linear(&linears[3..4])?,
            mlp_norm: self.norm(&architecture.mlp_norm(layer), hidden)?,
            gated,
            down: self.linear(&linears[6..])?,
            post_norms: self.norms(architecture.post_norm_names(layer), hidden)?,
        })
    }

    /// The weight of a norm as it multiplies.
    fn norm(&self, name: &str, length: usize) -> Result<Vec<f32>> {
        let mut weight = self.source.vector(name, length)?;
        if self.architecture.norm_plus_one {
            for weight in &mut weight {
                *weight += 1.0;
            }
        }
        Ok(weight)
    }

    fn norms(&self, names: Option<[String; 2]>, length: usize) -> Result<Option<[Vec<f32>; 2]>> {
        let Some([first, second]) = names else {
            return Ok(None);
        };
        Ok(Some([
            self.norm(&first, length)?,
            self.norm(&second, length)?,
        ]))
    }

    /// Maps that read the same, as one.
    fn linear(&mut self, specs: &[LinearSpec]) -> Result<Linear> {
        let mut bias = Vec::new();
        for spec in specs {
            if let Some(name) = spec.bias() {
                bias.extend(self.source.vector(&name, spec.outputs)?);
            }
        }
        let names: Vec<_> = specs
            .iter()
            .map(|spec| (spec.weight(), spec.outputs))
            .collect();
        Ok(Linear {
            weight: self.matrix(&names, specs.first().map_or(1, |spec| spec.inputs))?,
            bias: (!bias.is_empty()).then(|| Epilogue::padded(&bias)),
        })
    }

    /// Matrices with so many rows each, one below the other.
    fn matrix(&mut self, names: &[(String, usize)], columns: usize) -> Result<Packed> {
        let formats = names.iter().map(|(name, _)| match (self.matrices)(name) {
            format if format.holds(columns) => format,
            _ => Format::Q8_0,
        });
        let formats: Vec<Format> = formats.collect();
        let bits = |format: &Format| match format {
            Format::F32 => 32,
            Format::F16 => 17,
            Format::Bf16 => 16,
            Format::Q8_0 => 8,
            Format::Q6K => 7,
            Format::Q5_0 => 6,
            Format::Q4K => 5,
            Format::Q4_0 => 4,
        };
        let format = formats.iter().copied().max_by_key(bits);
        let format = format.unwrap_or(Format::F32);
        let failure = Mutex::new(None);
        let source = self.source;
        let read = |row: usize, to: &mut [f32]| {
            let mut row = row;
            for ((name, rows), &own) in names.iter().zip(&formats) {
                if row < *rows {
                    // Blocks are read as numbers too: that is how those that are none are noticed.
                    if let Err(error) = source.row(name, row, to) {
                        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        return None;
                    }
                    let is_made = own != format && source.blocks(name, row, own).is_none();
                    if let Some(kind) = own.blocks().filter(|_| is_made) {
                        kind.round(to);
                    }
                    return source.blocks(name, row, format);
                }
                row -= rows;
            }
            None
        };
        let rows = names.iter().map(|(_, rows)| rows).sum();
        let packed = Packed::of_blocks(format, rows, columns, self.pool, &read);
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(packed),
        }
    }
}
