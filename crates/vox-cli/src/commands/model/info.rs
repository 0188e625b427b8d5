//! `vox model info`: all about one model.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use vox_crypto::Digest;
use vox_model::bundle::{Manifest, Role};
use vox_model::library::Entry;

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{DIM, GOOD, LITERAL, STRONG, paint, plain};
use crate::output::table::{Cell, Table};
use crate::output::{View, bytes};
use crate::record::written_time;

/// Arguments of `vox model info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// The model: its name, its hash, or the begin of one of them
    model: String,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
}

#[derive(Debug, Serialize)]
struct Info {
    name: Option<String>,
    pinned: bool,
    /// The digest of the signed manifest.
    digest: Digest,
    bytes: u64,
    manifest: Manifest,
    /// Of each type of elements how many tensors, elements and bytes there are.
    types: BTreeMap<String, Amount>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tensors: Vec<TensorLine>,
    /// Who needs it: names, pins, processes, ops.
    needed_by: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Amount {
    tensors: u64,
    elements: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct TensorLine {
    name: String,
    dtype: &'static str,
    shape: Vec<u64>,
    file: String,
}

impl View for Info {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { manifest, .. } = self;
        let title = self.name.clone().unwrap_or_else(|| self.digest.to_string());
        let pinned = if self.pinned {
            format!(" {}", paint(GOOD, "pinned"))
        } else {
            String::new()
        };
        writeln!(
            out,
            "{} {}{pinned}",
            paint(LITERAL, plain(&title)),
            manifest.kind
        )?;
        let architecture = manifest
            .architecture
            .as_deref()
            .map_or_else(|| "unknown".to_owned(), plain);
        writeln!(out, "  architecture: {architecture}")?;
        let weights = format!(
            "{} as {}",
            in_short(manifest.parameters),
            manifest.quantisation
        );
        writeln!(
            out,
            "  weights:      {weights}, {} in all",
            bytes(self.bytes)
        )?;
        let licence = manifest
            .licence
            .as_deref()
            .map_or_else(|| "not stated".to_owned(), plain);
        writeln!(out, "  licence:      {licence}")?;
        writeln!(
            out,
            "  from:         {}",
            plain(&manifest.provenance.source)
        )?;
        if let Some(digest) = &manifest.provenance.source_digest {
            writeln!(out, "                {}", paint(DIM, digest))?;
        }
        let signed = format!(
            "{} by {}",
            written_time(manifest.provenance.time),
            manifest.provenance.signer.id()
        );
        writeln!(
            out,
            "  signed:       {signed}, {}",
            plain(&manifest.provenance.made_by)
        )?;
        if let Some(base) = &manifest.provenance.derived_from {
            writeln!(out, "  derived from: {base}")?;
        }
        writeln!(out, "  bundle:       {}", manifest.bundle_hash)?;
        writeln!(out, "  weights hash: {}", manifest.weights_hash)?;
        writeln!(out, "  manifest:     {}", self.digest)?;
        self.files(out)?;
        self.types(out)?;
        if !self.tensors.is_empty() {
            self.tensors(out)?;
        }
        writeln!(out, "\n{}", paint(STRONG, "needed by"))?;
        for who in &self.needed_by {
            writeln!(out, "  {}", plain(who))?;
        }
        if self.needed_by.is_empty() {
            writeln!(out, "  nobody; `vox model gc` would remove it")?;
        }
        Ok(())
    }
}

impl Info {
    fn files(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(["FILE", "ROLE", "SIZE", "BLAKE3"]).right(2);
        for file in &self.manifest.files {
            table.row([
                Cell::styled(LITERAL, &file.path),
                format!("{:?}", file.role).to_lowercase().into(),
                bytes(file.len).into(),
                Cell::styled(DIM, &file.blake3.to_hex()[..16]),
            ]);
        }
        write!(out, "\n{table}")
    }

    fn types(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(["TYPE", "TENSORS", "ELEMENTS", "SIZE"])
            .right(1)
            .right(2)
            .right(3);
        for (name, amount) in &self.types {
            table.row([
                name.into(),
                amount.tensors.into(),
                in_short(amount.elements).into(),
                Cell::from(bytes(amount.bytes)),
            ]);
        }
        write!(out, "\n{table}")
    }

    fn tensors(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(["TENSOR", "TYPE", "SHAPE"]);
        for tensor in &self.tensors {
            let shape = tensor
                .shape
                .iter()
                .map(u64::to_string)
                .collect::<Vec<_>>()
                .join("×");
            table.row([
                Cell::styled(LITERAL, &tensor.name),
                tensor.dtype.into(),
                shape.into(),
            ]);
        }
        write!(out, "\n{table}")
    }
}

/// A number in a few letters: `135 M`, `1.7 B`.
pub(super) fn in_short(number: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000_000_000_000, "T"),
        (1_000_000_000, "B"),
        (1_000_000, "M"),
        (1000, "k"),
    ];
    match UNITS.iter().find(|(unit, _)| number >= *unit) {
        None => number.to_string(),
        Some((unit, name)) => {
            let scaled = number as f64 / *unit as f64;
            if scaled < 10.0 {
                format!("{scaled:.1} {name}")
            } else {
                format!("{scaled:.0} {name}")
            }
        }
    }
}

pub(super) fn run(context: &Context, arguments: &InfoArgs) -> Result<Exit, Failure> {
    let library = context.library()?;
    let Entry {
        name,
        digest,
        manifest,
        pinned,
    } = library.find(&arguments.model)?;
    let mut types = BTreeMap::<String, Amount>::new();
    let mut tensors = Vec::new();
    for file in manifest.files_of(Role::Weights) {
        for tensor in library.tensors(file)? {
            let amount = types.entry(tensor.dtype.name().to_owned()).or_default();
            amount.tensors += 1;
            amount.elements = amount
                .elements
                .saturating_add(tensor.elements().unwrap_or(0));
            amount.bytes = amount.bytes.saturating_add(tensor.byte_len().unwrap_or(0));
            if arguments.tensors {
                tensors.push(TensorLine {
                    name: tensor.name,
                    dtype: tensor.dtype.name(),
                    shape: tensor.shape,
                    file: file.path.clone(),
                });
            }
        }
    }
    let needed_by = context.needed_by(library.store(), &digest)?;
    let size = manifest.len();
    context.output.show(&Info {
        name,
        pinned,
        digest,
        bytes: size,
        manifest,
        types,
        tensors,
        needed_by,
    })?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_weights_are_given_as_people_say_them() {
        let shown = [7, 1500, 134_515_008, 1_700_000_000].map(in_short);
        assert_eq!(shown, ["7", "1.5 k", "135 M", "1.7 B"]);
    }
}
