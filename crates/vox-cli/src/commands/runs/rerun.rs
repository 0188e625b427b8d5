//! `vox runs rerun`: the plan of an earlier run once more.

use clap::Args;

use super::named::NamedRun;
use crate::commands::run::HowToRun;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;

/// Arguments of `vox runs rerun`.
#[derive(Debug, Args)]
#[command(
    after_help = "The plan is run as it was, whatever its file says by now; results that are in the cache are taken \
                  from there.\nWith --failed what had succeeded is taken over from the earlier run."
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
    let run = arguments.run.find(&super::history(context)?)?;
    crate::commands::run::rerun(context, run, arguments.failed, &arguments.how)
}
