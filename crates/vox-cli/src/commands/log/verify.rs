//! `vox log verify`: whether the chain is whole, from the first op to the last.

use std::io::{self, Write};
use std::ops::ControlFlow;

use clap::Args;
use serde::Serialize;
use vox_crypto::PublicKey;
use vox_oplog::{Error, VerifyOptions};

use super::chain::Chain;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::interrupt;
use crate::output::style::{BAD, DIM, GOOD, paint, plain};
use crate::output::{View, count};
use crate::progress::Bar;

/// Arguments of `vox log verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Checked are every signature, every hash, the order, the end, and who may write. Ends with 1 when \
                  something\nis wrong."
)]
pub struct VerifyArgs {
    #[command(flatten)]
    chain: Chain,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Verified {
    Sound {
        sound: bool,
        log: Option<String>,
        ops: u64,
        last: Option<u64>,
        head: Option<String>,
        /// The keys that may write it.
        authors: Vec<PublicKey>,
        /// Ops that compactions removed, as they say.
        removed: u64,
    },
    Unsound {
        sound: bool,
        /// The first op that is wrong, where it is one.
        op: Option<u64>,
        fault: String,
    },
}

impl View for Verified {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Sound {
                ops,
                last,
                head,
                authors,
                removed,
                ..
            } => {
                let ops = count(usize::try_from(*ops).unwrap_or(usize::MAX), "op");
                writeln!(
                    out,
                    "the log is {}: {ops}, each signed and in its place",
                    paint(GOOD, "sound")
                )?;
                if let (Some(last), Some(head)) = (last, head) {
                    writeln!(out, "  it ends with op {last}, {head}")?;
                }
                for author in authors {
                    writeln!(out, "  written by {} {}", author.id(), paint(DIM, author))?;
                }
                if *removed > 0 {
                    writeln!(
                        out,
                        "  {removed} were removed by compactions, which are signed"
                    )?;
                }
                Ok(())
            }
            Self::Unsound { fault, .. } => {
                writeln!(
                    out,
                    "the log is {}: {}",
                    paint(BAD, "not sound"),
                    plain(fault)
                )
            }
        }
    }
}

pub(super) fn run(context: &Context, arguments: &VerifyArgs) -> Result<Exit, Failure> {
    let reader = arguments.chain.open(context)?;
    let cancel = interrupt::token();
    let bar = Bar::new(context.output, cancel.clone());
    let mut told = None;
    let result = reader.verify(&VerifyOptions::default(), &mut |at| {
        bar.ops("verifying", &mut told, at.ops, at.last);
        if cancel.is_cancelled() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    drop(bar);
    let verified = match result {
        Ok(summary) => Verified::Sound {
            sound: true,
            log: summary.log.map(|log| log.to_string()),
            ops: summary.ops,
            last: summary.head.map(|(seq, _)| seq),
            head: summary.head.map(|(_, hash)| hash.to_string()),
            authors: summary.authors,
            removed: summary.removed,
        },
        Err(Error::Fault { fault, .. }) => Verified::Unsound {
            sound: false,
            op: fault.seq(),
            fault: fault.to_string(),
        },
        Err(error) => return Err(error.into()),
    };
    context.output.show(&verified)?;
    Ok(match verified {
        Verified::Sound { .. } => Exit::Success,
        Verified::Unsound { .. } => Exit::Failed,
    })
}
