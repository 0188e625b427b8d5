//! `vox log ls`: ops in a list.

use std::io::Write as _;

use clap::Args;
use vox_oplog::Query;

use super::chain::Chain;
use super::select::Select;
use super::view::OpLine;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output;

/// Arguments of `vox log ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    #[command(flatten)]
    select: Select,
    /// At most so many, the newest of them; 0 for all
    #[arg(short = 'n', long, default_value_t = 50, value_name = "NUMBER")]
    limit: u64,
    #[command(flatten)]
    chain: Chain,
}

pub(super) fn run(context: &Context, arguments: &LsArgs) -> Result<Exit, Failure> {
    let reader = arguments.chain.open(context)?;
    let query = arguments.select.query(&reader)?;
    if arguments.limit == 0 {
        for op in reader.ops(query) {
            print(context, &OpLine::of(&op?))?;
        }
        return Ok(Exit::Success);
    }
    let newest = Query {
        descending: true,
        limit: Some(arguments.limit),
        ..query
    };
    let lines = reader.ops(newest).map(|op| op.map(|op| OpLine::of(&op)));
    let mut lines = lines.collect::<Result<Vec<_>, _>>()?;
    lines.reverse();
    for line in &lines {
        print(context, line)?;
    }
    if lines.len() as u64 == arguments.limit && lines.first().is_some_and(|first| first.seq > 0) {
        context.output.note(format_args!(
            "the newest {}; `-n 0` lists all",
            arguments.limit
        ));
    }
    Ok(Exit::Success)
}

/// Prints an op in one line, for people or as JSON.
pub(super) fn print(context: &Context, line: &OpLine) -> Result<(), Failure> {
    let mut text = Vec::new();
    if context.output.is_human() {
        line.line(&mut text)?;
    } else {
        serde_json::to_writer(&mut text, line).map_err(std::io::Error::from)?;
        text.write_all(b"\n")?;
    }
    output::print(&text)
}
