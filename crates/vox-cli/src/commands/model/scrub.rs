//! `vox model verify` without a model: the whole store.

use std::io::{self, Write};
use std::ops::ControlFlow;

use serde::Serialize;
use vox_model::progress::Progress as _;
use vox_store::ScrubReport;

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::interrupt;
use crate::output::style::{BAD, DIM, GOOD, WARNING, paint, plain};
use crate::output::{View, bytes, count};
use crate::progress::Bar;

/// What reading the whole store found.
#[derive(Debug, Serialize)]
struct Scrubbed {
    clean: bool,
    /// Objects whose bytes are those of their names.
    sound: u64,
    bytes: u64,
    /// What is broken was set aside.
    broken: Vec<String>,
    /// What is needed and not there.
    missing: Vec<String>,
    /// What was mended.
    mended: Vec<String>,
    /// What has no place in a store, and was left.
    left: Vec<String>,
}

impl From<ScrubReport> for Scrubbed {
    fn from(report: ScrubReport) -> Self {
        let clean = report.is_clean();
        let needed = |reasons: &[vox_store::Reason]| match reasons {
            [] => "nobody needs it".to_owned(),
            reasons => {
                let who: Vec<_> = reasons.iter().map(ToString::to_string).collect();
                format!("needed by {}", who.join(", "))
            }
        };
        let broken = report.broken.iter().map(|broken| {
            let (digest, fault) = (&broken.digest, &broken.fault);
            format!(
                "{digest}: {fault}; {}; it is in {} now",
                needed(&broken.needed_by),
                broken.set_aside.display()
            )
        });
        let missing = report
            .missing
            .iter()
            .map(|missing| format!("{}: {}", missing.digest, needed(&missing.needed_by)));
        let mended = report
            .trees_rebuilt
            .iter()
            .map(|digest| format!("the tree of {digest}"));
        let strays = report.strays.iter().map(|path| path.display().to_string());
        Self {
            clean,
            sound: report.sound,
            bytes: report.bytes,
            broken: broken.collect(),
            missing: missing.collect(),
            mended: mended.collect(),
            left: report.bad_refs.iter().cloned().chain(strays).collect(),
        }
    }
}

impl View for Scrubbed {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let objects = count(usize::try_from(self.sound).unwrap_or(usize::MAX), "object");
        writeln!(
            out,
            "{objects} {}, {} read",
            paint(GOOD, "sound"),
            bytes(self.bytes)
        )?;
        for (title, style, lines) in [
            ("broken:", BAD, &self.broken),
            ("missing:", BAD, &self.missing),
            ("mended:", WARNING, &self.mended),
            ("left:", WARNING, &self.left),
        ] {
            for line in lines {
                writeln!(out, "{} {}", paint(style, title), plain(line))?;
            }
        }
        if !self.missing.is_empty() {
            let what =
                "import the models again that need what is missing; `vox model ls` names them";
            writeln!(out, "  {}", paint(DIM, what))?;
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    let store = context.store()?;
    let bar = Bar::new(context.output, interrupt::token());
    let mut told = None;
    let mut watch = |at: vox_store::Progress| {
        if told.is_none() {
            bar.begin("verifying", Some(at.total));
        }
        bar.advance(at.done.saturating_sub(told.unwrap_or(0)));
        told = Some(at.done);
        if bar.is_cancelled() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let report = store.scrub(Some(&mut watch))?;
    drop(bar);
    let scrubbed = Scrubbed::from(report);
    context.output.show(&scrubbed)?;
    let lost = !scrubbed.broken.is_empty() || !scrubbed.missing.is_empty();
    Ok(if lost { Exit::Failed } else { Exit::Success })
}
