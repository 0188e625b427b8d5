//! `vox runs trace`: when each step of a run ran, in a form that can be looked at.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use vox_run::RunId;
use vox_run::record::trace::chrome_trace;

use super::named::NamedRun;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{DIM, LITERAL, paint};
use crate::output::{self, View};

/// Arguments of `vox runs trace`.
#[derive(Debug, Args)]
#[command(
    after_help = "Writes the trace event format of Chrome, which https://ui.perfetto.dev and \
                  chrome://tracing open."
)]
pub struct TraceArgs {
    #[command(flatten)]
    run: NamedRun,
    /// Write it to this file; to standard output without it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written<'a> {
    run: RunId,
    file: &'a Path,
    bytes: u64,
}

impl View for Written<'_> {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "wrote {}, {}",
            paint(LITERAL, self.file.display()),
            output::bytes(self.bytes)
        )?;
        let opens = "https://ui.perfetto.dev and chrome://tracing open it";
        writeln!(out, "  {}", paint(DIM, opens))
    }
}

pub(super) fn run(context: &Context, arguments: &TraceArgs) -> Result<Exit, Failure> {
    let history = super::history(context)?;
    let run = arguments.run.find(&history)?;
    let transcript = super::transcript(&history, run)?;
    let mut unreadable = None;
    let trace = chrome_trace(
        transcript.map_while(|event| event.map_err(|error| unreadable = Some(error)).ok()),
    );
    if let Some(error) = unreadable {
        return Err(error.into());
    }
    let mut text = serde_json::to_vec(&trace).map_err(io::Error::from)?;
    text.push(b'\n');
    match &arguments.output {
        Some(file) => {
            fs::write(file, &text).map_err(|error| Failure::io("write", file, &error))?;
            context.output.show(&Written {
                run,
                file,
                bytes: text.len() as u64,
            })?;
        }
        None => output::print(&text)?,
    }
    Ok(Exit::Success)
}
