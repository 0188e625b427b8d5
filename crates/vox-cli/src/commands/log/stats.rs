//! `vox log stats`: ops by kind.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

use super::chain::{Chain, imported_ids};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{DIM, LITERAL, paint};
use crate::output::table::{Cell, Table};
use crate::output::{View, bytes};
use crate::record::written_time;

/// Arguments of `vox log stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    #[command(flatten)]
    chain: Chain,
}

#[derive(Debug, Serialize)]
struct StatsView {
    log: Option<String>,
    ops: u64,
    /// Bytes of what the ops say.
    payload_bytes: u64,
    /// Bytes of the files.
    file_bytes: u64,
    first: Option<String>,
    last: Option<String>,
    kinds: Vec<KindView>,
    /// Ids of the logs of other machines that were imported here.
    imported: Vec<String>,
}

#[derive(Debug, Serialize)]
struct KindView {
    kind: String,
    ops: u64,
    payload_bytes: u64,
    last: String,
}

impl View for StatsView {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(["KIND", "OPS", "PAYLOADS", "LAST"])
            .right(1)
            .right(2);
        for kind in &self.kinds {
            table.row([
                Cell::styled(LITERAL, &kind.kind),
                kind.ops.into(),
                bytes(kind.payload_bytes).into(),
                Cell::styled(DIM, &kind.last),
            ]);
        }
        write!(out, "{table}")?;
        writeln!(out, "{} ops in {}", self.ops, bytes(self.file_bytes))?;
        if let Some(log) = &self.log {
            writeln!(out, "  {}", paint(DIM, format!("log {log}")))?;
        }
        for id in &self.imported {
            writeln!(out, "  {}", paint(DIM, format!("imported: {id}")))?;
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context, arguments: &StatsArgs) -> Result<Exit, Failure> {
    let reader = arguments.chain.open(context)?;
    let stats = reader.stats()?;
    let kinds = stats.kinds.into_iter().map(|kind| KindView {
        kind: kind.kind,
        ops: kind.ops,
        payload_bytes: kind.payload_bytes,
        last: written_time(kind.last_time),
    });
    context.output.show(&StatsView {
        log: reader.id()?.map(|log| log.to_string()),
        ops: stats.ops,
        payload_bytes: stats.payload_bytes,
        file_bytes: stats.file_bytes,
        first: stats.first_time.map(written_time),
        last: stats.last_time.map(written_time),
        kinds: kinds.collect(),
        imported: imported_ids(context),
    })?;
    Ok(Exit::Success)
}
