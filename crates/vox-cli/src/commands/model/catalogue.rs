//! `vox model import --list`: the models that are known by name.

use std::io::{self, Write};

use serde::Serialize;
use vox_model::source::Catalogue;

use super::info::in_short;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::View;
use crate::output::style::{DIM, LITERAL};
use crate::output::table::{Cell, Table};

/// The models of the catalogue, in its order.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Models(Vec<Line>);

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    description: String,
    licence: String,
    architecture: String,
    parameters: u64,
    /// Where it is, the preferred place first.
    sources: Vec<String>,
    /// Whether the first of them has its hash in the catalogue.
    pinned: bool,
}

impl View for Models {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(["NAME", "WEIGHTS", "LICENCE", "HASH", "DESCRIPTION"]).right(1);
        for model in &self.0 {
            table.row([
                Cell::styled(LITERAL, &model.name),
                in_short(model.parameters).into(),
                (&model.licence).into(),
                if model.pinned { "pinned" } else { "-" }.into(),
                Cell::styled(DIM, &model.description),
            ]);
        }
        write!(out, "{table}")
    }
}

pub(super) fn run(context: &Context, catalogue: &Catalogue) -> Result<Exit, Failure> {
    let models = catalogue.models().iter().map(|model| Line {
        name: model.name.clone(),
        description: model.description.clone(),
        licence: model.licence.clone(),
        architecture: model.architecture.clone(),
        parameters: model.parameters,
        sources: model
            .sources
            .iter()
            .map(|source| source.spec.to_string())
            .collect(),
        pinned: model
            .sources
            .first()
            .is_some_and(|source| source.is_pinned()),
    });
    context.output.show(&Models(models.collect()))?;
    Ok(Exit::Success)
}
