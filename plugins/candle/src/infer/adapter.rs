//! Adapters beside the model that they change: added to its weights as these are read.

use std::path::Path;

use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::train::adapter;
use crate::weights::{Update, Weights};

/// Lets an adapter in the layout of PEFT change the weights of its model.
///
/// # Errors
///
/// [`Error::WrongKind`] for a model without layers that take one; those of [`adapter::read_config`] and
/// [`adapter::open`]; [`Error::ElementType`] where it holds no floats.
pub(super) fn apply(
    weights: &mut Weights,
    architecture: &Architecture,
    directory: &Path,
) -> Result<()> {
    let Architecture::Decoder(decoder) = architecture else {
        return Err(Error::WrongKind {
            found: architecture.family().name(),
            wanted: "have an adapter",
        });
    };
    let spec = adapter::read_config(directory)?;
    let linears = (0..decoder.layers).flat_map(|layer| decoder.linears(layer));
    let linears: Vec<_> = linears
        .filter(|linear| spec.takes(&linear.name))
        .map(|linear| (adapter::names(&linear.name), linear))
        .collect();
    let wanted = linears.iter().flat_map(|([a, b], linear)| {
        let shapes = [[spec.rank, linear.inputs], [linear.outputs, spec.rank]];
        [a.as_str(), b.as_str()].into_iter().zip(shapes)
    });
    let file = adapter::open(directory, wanted)?;
    for ([a, b], linear) in &linears {
        let update = Update {
            a: file.floats(a)?,
            b: file.floats(b)?,
            rank: spec.rank,
            scale: spec.scale(),
        };
        weights.update(&linear.weight(), update)?;
    }
    Ok(())
}
