//! `vox cache gc`: removes what nothing needs, and with a budget the results that were used longest ago.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use vox_contract::Bytes;
use vox_crypto::Digest;
use vox_run::cache::{Cache, NAMESPACE};
use vox_store::{BoxError, GcOptions, Store};

use super::Entry;
use crate::cli::number_of_bytes;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{DIM, WARNING, paint};
use crate::output::{View, bytes, count};

/// Arguments of `vox cache gc`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without a budget every result stays, and what nothing needs any more goes. With one, results go as \
                  well,\nthose used longest ago first, until the whole store is within it. Models stay: `vox model gc` \
                  lets those go."
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
    /// Results that went because of the budget, the one first that was not used for longest.
    evicted: Vec<Entry>,
    /// Blobs and nodes.
    removed: usize,
    freed: u64,
    /// Bytes that stay.
    kept: u64,
    /// Bytes by which the store is still over the budget.
    over: u64,
}

impl View for Collected {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let (let_go, what) = if self.dry_run {
            ("would let go of", "would remove")
        } else {
            ("let go of", "removed")
        };
        for entry in &self.evicted {
            entry.let_go(let_go, out)?;
        }
        let (objects, freed, kept) = (
            count(self.removed, "object"),
            bytes(self.freed),
            bytes(self.kept),
        );
        writeln!(out, "{what} {objects}, {freed}; {kept} stay")?;
        if self.over > 0 {
            let over = format!("still {} over the budget", bytes(self.over));
            let why = "models, what is recorded and what is in use does not go";
            writeln!(
                out,
                "{} {}",
                paint(WARNING, over),
                paint(DIM, format!("({why})"))
            )?;
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context, arguments: &GcArgs) -> Result<Exit, Failure> {
    let GcArgs { budget, dry_run } = *arguments;
    let store = context.store_to_free()?;
    let view = match budget {
        Some(budget) => evict(context, &store, budget, dry_run)?,
        None => collect(context, &store, dry_run)?,
    };
    let over = view.over > 0;
    context.output.show(&view)?;
    Ok(if over { Exit::Failed } else { Exit::Success })
}

/// Lets results go, those used longest ago first, until all of them take `budget` bytes at most, and warns of
/// each. What the run has just kept is claimed by this process, and stays.
pub(crate) fn keep_within(context: &Context, store: &Store, budget: Bytes) -> Result<(), Failure> {
    let results = Cache::new(Store::open_read(store.root())?).list()?;
    let taken: u64 = results.iter().map(|entry| entry.bytes).sum();
    let Some(excess) = taken.checked_sub(budget.get()).filter(|excess| *excess > 0) else {
        return Ok(());
    };
    let whole = Bytes(store.size()?.saturating_sub(excess));
    let collected = evict(context, store, whole, false)?;
    let Collected { evicted, freed, .. } = collected;
    if evicted.is_empty() {
        return Ok(());
    }
    let mut text = Vec::new();
    for entry in &evicted {
        entry.let_go("cache over its budget: let go of", &mut text)?;
    }
    let message = format!(
        "the cache was over its budget of {budget}: let go of {}",
        count(evicted.len(), "result")
    );
    context.output.warn(
        String::from_utf8_lossy(&text).trim_end(),
        &json!({ "message": message, "budget": budget.get(), "freed": freed, "evicted": evicted }),
    );
    Ok(())
}

fn collect(context: &Context, store: &Store, dry_run: bool) -> Result<Collected, Failure> {
    let mut options = GcOptions::default();
    options.dry_run = dry_run;
    let report = store.gc(&mut context.roots(), options)?;
    Ok(Collected {
        dry_run,
        evicted: Vec::new(),
        removed: report.removed.len(),
        freed: report.freed,
        kept: report.kept.bytes(),
        over: 0,
    })
}

fn evict(
    context: &Context,
    store: &Store,
    budget: Bytes,
    dry_run: bool,
) -> Result<Collected, Failure> {
    // What is read through this handle is neither claimed nor counted as used.
    let reading = Cache::new(Store::open_read(store.root())?);
    let mut listed = Vec::new();
    let mut needed = context.roots();
    let mut roots = |visit: &mut dyn FnMut(Digest)| -> Result<(), BoxError> {
        needed(visit)?;
        // Nobody can keep or remove a result now; what a key led to cannot be told once it is gone.
        listed = reading.list()?;
        // Whatever else has a name, such as a model that is not pinned, stays.
        for reference in store.all_refs()? {
            if reference.name.namespace() != NAMESPACE {
                visit(reference.digest);
            }
        }
        Ok(())
    };
    let report = if dry_run {
        store.plan_eviction(budget.get(), &mut roots)?
    } else {
        store.evict(budget.get(), &mut roots)?
    };
    let evicted = super::evicted(context, listed, &report)?;
    Ok(Collected {
        dry_run,
        evicted,
        removed: report.removed.len(),
        freed: report.freed,
        kept: report.kept.bytes(),
        over: report.over,
    })
}
