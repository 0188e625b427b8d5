//! `vox log compact`: removes what is older than its class is kept, and records that.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use vox_oplog::Policy;

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{DIM, GOOD, paint};
use crate::output::{View, bytes};
use crate::record::now;

/// Arguments of `vox log compact`.
#[derive(Debug, Args)]
#[command(
    after_help = "Ops of class kept, such as checkpoints and imports, always stay. What was removed is recorded in the \
                  log,\nsigned, so that it still verifies."
)]
pub struct CompactArgs {
    /// Remove hot ops that are older
    #[arg(long, default_value = "7days", value_name = "AGE", value_parser = humantime::parse_duration)]
    hot: Duration,
    /// Remove warm ops that are older
    #[arg(long, default_value = "90days", value_name = "AGE", value_parser = humantime::parse_duration)]
    warm: Duration,
    /// The newest ops stay, whatever their class: so many of them
    #[arg(long, default_value_t = 1000, value_name = "NUMBER")]
    keep_last: u64,
    /// Change nothing; say what would go
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct CompactedView {
    dry_run: bool,
    removed: u64,
    /// Bytes of what the removed ops said.
    payload_bytes: u64,
    /// The ops that record it.
    records: Vec<u64>,
}

impl View for CompactedView {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let what = if self.dry_run {
            "would remove"
        } else {
            "removed"
        };
        writeln!(
            out,
            "{} {} ops with {}",
            paint(GOOD, what),
            self.removed,
            bytes(self.payload_bytes)
        )?;
        for record in &self.records {
            writeln!(out, "  {}", paint(DIM, format!("recorded in op {record}")))?;
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context, arguments: &CompactArgs) -> Result<Exit, Failure> {
    let policy = Policy {
        hot: arguments.hot,
        warm: arguments.warm,
        keep_last: arguments.keep_last,
    };
    let compacted = if arguments.dry_run {
        match context.log_reader()? {
            Some(reader) => reader.plan_compaction(&policy, now())?,
            None => vox_oplog::Compacted::default(),
        }
    } else {
        context.log()?.compact(&policy, now())?
    };
    context.output.show(&CompactedView {
        dry_run: arguments.dry_run,
        removed: compacted.removed,
        payload_bytes: compacted.payload_bytes,
        records: compacted
            .records
            .iter()
            .map(|receipt| receipt.seq)
            .collect(),
    })?;
    Ok(Exit::Success)
}
