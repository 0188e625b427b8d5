//! `vox model gc`: removes what nothing needs, and with a budget what was used longest ago.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use vox_contract::Bytes;
use vox_crypto::Digest;
use vox_model::library::{Library, MODELS, Named};
use vox_model::record::MODEL_REMOVE;
use vox_run::cache::Cache;
use vox_store::{BoxError, GcOptions};

use crate::cli::number_of_bytes;
use crate::commands::cache;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{DIM, LITERAL, WARNING, paint, plain};
use crate::output::{View, bytes, count};

/// Arguments of `vox model gc`.
#[derive(Debug, Args)]
#[command(
    after_help = "Needed is what has a name or a pin, what an op of the log links to, and what a running process \
                  uses.\nWith a budget, models that are not pinned and results of steps go as well, those used \
                  longest ago\nfirst."
)]
pub struct GcArgs {
    /// Make the store no larger than this: a whole number and B, KiB, MiB or GiB
    #[arg(long, value_name = "SIZE", value_parser = number_of_bytes)]
    budget: Option<Bytes>,
    /// Change nothing; say what would go
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// What was removed, or would be.
#[derive(Debug, Serialize)]
struct Collected {
    dry_run: bool,
    /// Blobs and nodes.
    removed: usize,
    freed: u64,
    /// Names that went because of the budget, the one first that was not used for longest.
    evicted: Vec<String>,
    /// Results of steps that went because of the budget, in the same order.
    results: Vec<cache::Entry>,
    /// Bytes that stay.
    kept: u64,
    /// Bytes by which the store is still over the budget.
    over: u64,
    /// What scrub has set aside, in bytes; it stays.
    quarantined: u64,
}

impl View for Collected {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for name in &self.evicted {
            writeln!(
                out,
                "{} {}",
                paint(WARNING, "let go of"),
                paint(LITERAL, plain(name))
            )?;
        }
        for result in &self.results {
            result.let_go("let go of the result", out)?;
        }
        let what = if self.dry_run {
            "would remove"
        } else {
            "removed"
        };
        let (objects, freed, kept) = (
            count(self.removed, "object"),
            bytes(self.freed),
            bytes(self.kept),
        );
        writeln!(out, "{what} {objects}, {freed}; {kept} stay")?;
        if self.over > 0 {
            let over = format!("still {} over the budget", bytes(self.over));
            let why = "what is pinned, recorded or in use does not go";
            writeln!(
                out,
                "{} {}",
                paint(WARNING, over),
                paint(DIM, format!("({why})"))
            )?;
        }
        if self.quarantined > 0 {
            let quarantined = format!(
                "{} of broken objects are set aside in quarantine",
                bytes(self.quarantined)
            );
            writeln!(out, "  {}", paint(DIM, quarantined))?;
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context, arguments: &GcArgs) -> Result<Exit, Failure> {
    if arguments.dry_run && arguments.budget.is_some() {
        return Err(Failure::usage(
            "a budget cannot be tried out: what it evicts depends on what goes before it",
        )
        .hint("`vox model ls` shows what there is; `vox model pin` keeps a model"));
    }
    let store = context.store_to_free()?;
    let mut roots = context.roots();
    let mut options = GcOptions::default();
    options.dry_run = arguments.dry_run;
    let collected = store.gc(&mut roots, options)?;
    let mut view = Collected {
        dry_run: collected.dry_run,
        removed: collected.removed.len(),
        freed: collected.freed,
        evicted: Vec::new(),
        results: Vec::new(),
        kept: collected.kept.bytes(),
        over: 0,
        quarantined: collected.quarantined.bytes,
    };
    if let Some(budget) = arguments.budget {
        // What a name led to cannot be told once it is gone.
        let named = Library::new(store.clone()).list()?;
        let reading = Cache::new(store.clone());
        let mut listed = Vec::new();
        let mut needed = |visit: &mut dyn FnMut(Digest)| -> Result<(), BoxError> {
            roots(visit)?;
            // A result that cannot be read is no reason to keep everything: it goes without a word.
            listed = reading.list().unwrap_or_default();
            Ok(())
        };
        let report = store.evict(budget.get(), &mut needed)?;
        let evicted = report
            .evicted
            .iter()
            .filter(|name| name.namespace() == MODELS);
        view.evicted = evicted.map(|name| name.name().to_owned()).collect();
        record_evicted(context, &named, &view.evicted);
        view.results = cache::evicted(context, listed, &report)?;
        view.removed += report.removed.len();
        view.freed += report.freed;
        view.kept = report.kept.bytes();
        view.over = report.over;
    }
    let over = view.over > 0;
    context.output.show(&view)?;
    Ok(if over { Exit::Failed } else { Exit::Success })
}

/// Records which names went.
fn record_evicted(context: &Context, named: &[Named], evicted: &[String]) {
    for Named { name, entry, .. } in named {
        if let (true, Ok(entry)) = (evicted.contains(name), entry) {
            super::record_or_tell(context, MODEL_REMOVE, name, &entry.manifest);
        }
    }
}
