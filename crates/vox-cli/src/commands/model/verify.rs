//! `vox model verify`: reads every byte and compares the hashes.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use vox_crypto::{Digest, KeyId};

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::interrupt;
use crate::output::style::{BAD, DIM, GOOD, LITERAL, paint, plain};
use crate::output::{View, bytes, count};
use crate::progress::Bar;

/// Arguments of `vox model verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without a model everything in the store is read. What is broken is then moved aside, so that \
                  the next\nimport of it brings it back whole. Ends with 1 when something is wrong."
)]
pub struct VerifyArgs {
    /// The model: its name, its hash, or the begin of one of them; the whole store without it
    model: Option<String>,
}

#[derive(Debug, Serialize)]
struct Verified {
    model: String,
    bundle_hash: Digest,
    manifest: Digest,
    /// Whose signature the manifest has.
    signer: KeyId,
    /// Whether that is this user's own key here.
    own: bool,
    files: usize,
    bytes: u64,
    whole: bool,
    faults: Vec<String>,
}

impl View for Verified {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let model = paint(LITERAL, plain(&self.model));
        if self.whole {
            let (files, size) = (count(self.files, "file"), bytes(self.bytes));
            writeln!(
                out,
                "{model} is {}: {files}, {size}, every byte as its manifest says",
                paint(GOOD, "whole")
            )?;
        } else {
            writeln!(out, "{model} is {}", paint(BAD, "broken"))?;
            for fault in &self.faults {
                writeln!(out, "  {}", plain(fault))?;
            }
        }
        let whose = if self.own {
            "this node's own key"
        } else {
            "another's key"
        };
        writeln!(
            out,
            "  {}",
            paint(DIM, format!("signed by {} ({whose})", self.signer))
        )
    }
}

pub(super) fn run(context: &Context, arguments: &VerifyArgs) -> Result<Exit, Failure> {
    let Some(model) = &arguments.model else {
        return super::scrub::run(context);
    };
    let library = context.library()?;
    let entry = library.find(model)?;
    let progress = Bar::new(context.output, interrupt::token());
    let faults = library.verify(&entry.manifest, &progress)?;
    drop(progress);
    let signer = entry.manifest.provenance.signer;
    let whole = faults.is_empty();
    context.output.show(&Verified {
        model: entry.title(),
        bundle_hash: entry.manifest.bundle_hash,
        manifest: entry.digest,
        signer: signer.id(),
        own: context.node_key()?.public() == signer,
        files: entry.manifest.files.len(),
        bytes: entry.manifest.len(),
        whole,
        faults: faults.iter().map(ToString::to_string).collect(),
    })?;
    Ok(if whole { Exit::Success } else { Exit::Failed })
}
