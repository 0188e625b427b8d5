//! `vox model ls`: the models and adapters that are here.

use std::io::{self, Write};

use serde::Serialize;
use vox_crypto::Digest;
use vox_model::bundle::Kind;
use vox_model::library::{Entry, Library, Named};

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{BAD, DIM, GOOD, LITERAL, paint, plain};
use crate::output::table::{Cell, Table};
use crate::output::{View, bytes};

/// Every name, in order.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct List(Vec<Line>);

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Line {
    Whole {
        name: String,
        kind: Kind,
        architecture: Option<String>,
        parameters: u64,
        quantisation: &'static str,
        bytes: u64,
        pinned: bool,
        bundle_hash: Digest,
        manifest: Digest,
        source: String,
    },
    Broken {
        name: String,
        manifest: Digest,
        error: String,
    },
}

impl From<Named> for Line {
    fn from(named: Named) -> Self {
        let Named {
            name,
            digest,
            entry,
        } = named;
        match entry {
            Ok(Entry {
                manifest, pinned, ..
            }) => Self::Whole {
                name,
                kind: manifest.kind,
                parameters: manifest.parameters,
                quantisation: manifest.quantisation.name(),
                bytes: manifest.len(),
                pinned,
                bundle_hash: manifest.bundle_hash,
                manifest: digest,
                architecture: manifest.architecture,
                source: manifest.provenance.source,
            },
            Err(error) => Self::Broken {
                name,
                manifest: digest,
                error: error.to_string(),
            },
        }
    }
}

impl View for List {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.0.is_empty() {
            let command = paint(LITERAL, "vox model import smollm2-135m-instruct");
            return writeln!(out, "no models are here; {command} brings a small one");
        }
        let mut table = Table::new([
            "NAME",
            "KIND",
            "ARCHITECTURE",
            "WEIGHTS",
            "AS",
            "SIZE",
            "",
            "FROM",
        ])
        .right(3)
        .right(5);
        for line in &self.0 {
            match line {
                Line::Whole {
                    name,
                    kind,
                    architecture,
                    parameters,
                    quantisation,
                    bytes: size,
                    pinned,
                    source,
                    ..
                } => {
                    table.row([
                        Cell::styled(LITERAL, name),
                        kind.into(),
                        architecture.as_deref().unwrap_or("-").into(),
                        super::info::in_short(*parameters).into(),
                        (*quantisation).into(),
                        bytes(*size).into(),
                        Cell::styled(GOOD, if *pinned { "pinned" } else { "" }),
                        Cell::styled(DIM, source),
                    ]);
                }
                Line::Broken { name, .. } => {
                    table.row([
                        Cell::styled(LITERAL, name),
                        Cell::styled(BAD, "broken"),
                        "".into(),
                        "".into(),
                        "".into(),
                        "".into(),
                        "".into(),
                        "".into(),
                    ]);
                }
            }
        }
        write!(out, "{table}")?;
        for line in &self.0 {
            if let Line::Broken { name, error, .. } = line {
                writeln!(
                    out,
                    "{} {}: {}",
                    paint(BAD, "broken:"),
                    plain(name),
                    plain(error)
                )?;
            }
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    let named = Library::new(context.store_to_free()?).list()?;
    let lines: Vec<Line> = named.into_iter().map(Line::from).collect();
    let broken = lines.iter().any(|line| matches!(line, Line::Broken { .. }));
    context.output.show(&List(lines))?;
    Ok(if broken { Exit::Failed } else { Exit::Success })
}
