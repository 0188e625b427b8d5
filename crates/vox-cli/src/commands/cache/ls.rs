//! `vox cache ls`: results in a list.

use std::io::{self, Write};

use serde::Serialize;

use super::{Entry, age};
use crate::commands::runs::short as short_run;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{DIM, LITERAL, paint};
use crate::output::table::{Cell, Table};
use crate::output::{View, bytes, count, shortened};

/// The most of the names of steps that is shown, in columns.
const MAX_STEPS: usize = 48;

/// Every result, the newest first.
#[derive(Debug, Serialize)]
struct Results {
    results: Vec<Entry>,
    /// Bytes of them and of what their steps made.
    bytes: u64,
}

impl View for Results {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.results.is_empty() {
            return writeln!(
                out,
                "no results are kept here; steps whose plan says {} keep theirs",
                paint(LITERAL, "cache = true")
            );
        }
        let mut table = Table::new(["KEY", "STEPS", "PIPELINE", "RUN", "SIZE", "AGE"])
            .right(4)
            .right(5);
        for entry in &self.results {
            table.row([
                Cell::styled(LITERAL, entry.short()),
                shortened(entry.steps(), MAX_STEPS).into(),
                entry.pipeline.as_deref().unwrap_or("-").into(),
                Cell::styled(DIM, short_run(entry.run)),
                bytes(entry.bytes).into(),
                age(entry.age_seconds).into(),
            ]);
        }
        write!(out, "{table}")?;
        let (results, size) = (count(self.results.len(), "result"), bytes(self.bytes));
        writeln!(out, "{results}, {size}")
    }
}

pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    let results = super::entries(context)?;
    context.output.show(&Results {
        bytes: results.iter().map(|entry| entry.bytes).sum(),
        results,
    })?;
    Ok(Exit::Success)
}
