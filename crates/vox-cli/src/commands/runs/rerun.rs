//! `vox runs rerun`: the plan of an earlier run once more.

use clap::Args;
use serde_json::json;

use super::named::NamedRun;
use crate::commands::run::HowToRun;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;

/// Arguments of `vox runs rerun`.
#[derive(Debug, Args)]
#[command(
    after_help = "The plan is run as it was, whatever its file says by now; results that are in the cache are taken \
                  from there.\nWith --failed what had succeeded is taken over from the earlier run; where all of it \
                  had, nothing is run."
)]
pub struct RerunArgs {
    #[command(flatten)]
    run: NamedRun,
    /// Run only what did not succeed, and what depends on it
    #[arg(long)]
    failed: bool,
    #[command(flatten)]
    how: HowToRun,
}

pub(super) fn rerun(context: &Context, arguments: &RerunArgs) -> Result<Exit, Failure> {
    let history = super::history(context)?;
    let run = arguments.run.find(&history)?;
    let found = history.summary_of(run)?;
    if arguments.failed && found.is_some_and(|found| found.state.name() == "succeeded") {
        let text = format!("nothing of run {run} failed; there is nothing to run again");
        context.output.warn(&text, &json!({ "message": text }));
        return Ok(Exit::Success);
    }
    // While anybody reads the log, its writer cannot close it whole, and the next who opens it would say so.
    drop(history);
    crate::commands::run::rerun(context, run, arguments.failed, &arguments.how)
}
