//! `vox runs ls`: runs in a list.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::view::{RunLine, short, style_of};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::View;
use crate::output::style::{DIM, LITERAL, paint};
use crate::output::table::{Cell, Table};
use crate::record::here;

/// Arguments of `vox runs ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// At most so many, the newest of them; 0 for all
    #[arg(short = 'n', long, default_value_t = 20, value_name = "NUMBER")]
    limit: usize,
    /// Only runs of the pipeline of this name
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
}

/// Runs, the newest first.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Runs {
    runs: Vec<RunLine>,
    /// The directory in which it was asked for.
    #[serde(skip)]
    here: PathBuf,
}

impl View for Runs {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.runs.is_empty() {
            let command = paint(LITERAL, "vox run pipeline.toml");
            return writeln!(out, "no runs are recorded here; {command} records one");
        }
        let places: Vec<String> = self.runs.iter().map(|run| self.place(run)).collect();
        let all_here = places.iter().all(String::is_empty);
        let place = if all_here { "" } else { "IN" };
        let mut table = Table::new(["RUN", "PIPELINE", "STATE", "BEGAN", "TOOK", "STEPS", place])
            .right(4)
            .right(5);
        for (run, place) in self.runs.iter().zip(places) {
            table.row([
                Cell::styled(LITERAL, short(run.id)),
                (&run.pipeline).into(),
                Cell::styled(style_of(run.state), run.state),
                Cell::styled(DIM, &run.began),
                run.took().into(),
                run.planned_steps.into(),
                Cell::styled(DIM, place),
            ]);
        }
        write!(out, "{table}")
    }
}

impl Runs {
    /// Where the steps of a run work; nothing where that is here, and from here where it is below.
    fn place(&self, run: &RunLine) -> String {
        let directory = Path::new(&run.directory);
        let place = directory.strip_prefix(&self.here).unwrap_or(directory);
        place.display().to_string()
    }
}

pub(super) fn run(context: &Context, arguments: &LsArgs) -> Result<Exit, Failure> {
    let LsArgs { limit, pipeline } = arguments;
    let limit = if *limit == 0 { usize::MAX } else { *limit };
    let found = match super::history_if_any(context)? {
        Some(history) => history.list(limit, |run| {
            let of = &run.started.pipeline;
            pipeline.as_ref().is_none_or(|pipeline| pipeline == of)
        })?,
        None => Vec::new(),
    };
    context.output.show(&Runs {
        runs: found.iter().map(RunLine::of).collect(),
        here: here()?,
    })?;
    if found.len() == limit {
        context
            .output
            .note(format_args!("the newest {limit}; `-n 0` lists all"));
    }
    Ok(Exit::Success)
}
