//! `vox log show`: one op.

use clap::Args;

use super::chain::Chain;
use super::view::OpView;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;

/// Arguments of `vox log show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The op by its number; the last one without it
    op: Option<u64>,
    #[command(flatten)]
    chain: Chain,
}

pub(super) fn run(context: &Context, arguments: &ShowArgs) -> Result<Exit, Failure> {
    let reader = arguments.chain.open(context)?;
    let last = reader.head()?.map_or(0, |(seq, _)| seq);
    let seq = arguments.op.unwrap_or(last);
    let op = reader.get(seq)?.ok_or_else(|| {
        let failure = Failure::new(Exit::NotFound, format!("there is no op {seq}"));
        if seq > last {
            failure.hint(format!("the last one is {last}"))
        } else {
            failure.hint(
                "it was removed when the log was compacted: `vox log ls --kind log.compaction`",
            )
        }
    })?;
    context.output.show(&OpView::of(&op))?;
    Ok(Exit::Success)
}
