//! Bytes, as they are and as they will be.

use std::fs;

use super::parameter::Parameter;
use super::spec::{AdapterSpec, MemoryReport, Spec};
use crate::architecture::{Architecture, DecoderArchitecture};
use crate::infer::available;
use crate::ops::frozen::Format;
use crate::ops::loss;

/// Bytes of a float.
const FLOAT: u64 = 4;

/// The memory that a training needs with batches of `rows · columns` tokens. `tables` is how the embedding and
/// the head are held.
///
/// The sum is that of everything that is held at once at the worst moment: weights, all gradients, both moments,
/// what is kept of every layer (with gradient checkpointing of one, and every layer's input), and the greater of
/// what a layer and the head compute in between.
pub(super) fn estimate(
    architecture: &DecoderArchitecture,
    spec: &Spec,
    adapter: Option<&AdapterSpec>,
    tables: Format,
    rows: u64,
    columns: u64,
) -> MemoryReport {
    let (weights, trained) = weights(architecture, spec, adapter, tables);
    let gradients = trained * FLOAT;
    let activations = activations(architecture, spec, adapter, tables, rows, columns);
    MemoryReport {
        weights,
        gradients,
        optimizer: 2 * gradients,
        activations,
        peak: (weights + 3 * gradients).saturating_add(activations),
        available: available(&spec.device),
    }
}

/// Bytes of all weights, and the numbers of those that are trained.
fn weights(
    architecture: &DecoderArchitecture,
    spec: &Spec,
    adapter: Option<&AdapterSpec>,
    tables: Format,
) -> (u64, u64) {
    let Some(adapter) = adapter else {
        let tensors = Architecture::Decoder(architecture.clone()).parameters();
        return (tensors * FLOAT, tensors);
    };
    let table = (architecture.vocabulary * architecture.hidden) as u64;
    let count = if architecture.tied { 1 } else { 2 };
    let mut bytes = count * tables.bytes(table) + architecture.hidden as u64 * FLOAT;
    let mut trained = 0;
    for layer in 0..architecture.layers {
        for tensor in architecture.layer_tensors(layer) {
            let is_matrix = tensor.shape.len() > 1;
            let format = if is_matrix { spec.base } else { Format::F32 };
            bytes += format.bytes(tensor.elements());
        }
        for linear in architecture.linears(layer) {
            if adapter.takes(&linear.name) {
                trained += (adapter.rank * (linear.inputs + linear.outputs)) as u64;
            }
        }
    }
    (bytes + trained * FLOAT, trained)
}

/// Bytes that are kept of a batch, and computed in between. Of a batch that nothing could hold it is the largest
/// number there is.
fn activations(
    architecture: &DecoderArchitecture,
    spec: &Spec,
    adapter: Option<&AdapterSpec>,
    tables: Format,
    rows: u64,
    columns: u64,
) -> u64 {
    let (columns, tokens) = (u128::from(columns), u128::from(rows) * u128::from(columns));
    let (hidden, middle) = (
        architecture.hidden as u128,
        architecture.intermediate as u128,
    );
    let (queries, keys) = (
        architecture.query_width() as u128,
        architecture.kv_width() as u128,
    );
    let heads = architecture.heads as u128;
    let mut kept = 2 * hidden + 2 * queries + 2 * keys + heads + 2 * middle;
    if architecture.qk_norm {
        kept += queries + keys;
    }
    if architecture.post_norms {
        kept += 2 * hidden;
    }
    let layers = architecture.layers as u128;
    let all = match spec.gradient_checkpointing {
        true => layers * hidden + kept,
        false => layers * kept,
    };
    // The feed-forward block's way back holds gradients of both halves and of what is between them; the
    // attention's those of queries, keys and values, by head and by token.
    let between = (4 * middle + 3 * hidden).max(6 * queries + 4 * keys + 3 * hidden);
    let head = architecture.vocabulary as u128;
    let states = 3 * tokens * hidden;
    let mut extra = if spec.device.is_cpu() {
        let logits = tokens.min(loss::ROWS as u128) * head;
        (tokens * between).max(logits + states)
    } else {
        // Composed operations have what is between them: of scores those of all queries, with their exponentials,
        // probabilities and slopes; of logits the same, and where the targets are.
        let scores = 4 * tokens * heads * columns;
        let logits = 5 * tokens.min(loss::DEVICE_ROWS as u128) * head;
        (tokens * between + scores).max(logits + states)
    };
    if spec.base != Format::F32 && adapter.is_some() {
        extra += middle * hidden;
    }
    if tables != Format::F32 {
        extra += 4096.min(head) * hidden;
    }
    let bytes = (tokens * all + extra) * u128::from(FLOAT);
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Bytes of the parameters' values, gradients and moments.
pub(super) fn of_parameters(parameters: &[Parameter]) -> [u64; 3] {
    let mut bytes = [0; 3];
    for parameter in parameters {
        let size = parameter.elements() * FLOAT;
        let gradient = parameter.gradient.as_ref().map_or(0, |_| size);
        bytes = [bytes[0] + size, bytes[1] + gradient, bytes[2] + 2 * size];
    }
    bytes
}

/// The most bytes that this process had in memory; 0 where that is not known.
pub(super) fn most() -> u64 {
    field("/proc/self/status", "VmHWM:")
}

/// A field in kibibytes of a file of Linux, in bytes.
fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}
