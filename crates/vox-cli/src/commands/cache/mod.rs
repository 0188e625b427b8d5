//! `vox cache`: results of steps that later runs take over, one file for each verb.
//!
//! What must stay true: looking at results does not count as using them, so that it changes nothing about
//! which of them go first.

mod explain;
pub(crate) mod gc;
mod ls;
mod rm;

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Subcommand;
use serde::Serialize;
use vox_run::RunId;
use vox_run::cache::{Cache, CacheEntry, NAMESPACE};
use vox_store::{EvictReport, Store};

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::bytes;
use crate::output::style::{DIM, LITERAL, WARNING, paint, plain};
use crate::record::{now, written_time};

/// The verbs of `vox cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List the results that runs can take over, the newest first
    Ls,
    /// Let results go, so that their steps run again
    Rm(rm::RmArgs),
    /// Remove what nothing needs, and with a budget the results that were used longest ago
    Gc(gc::GcArgs),
    /// Say why a step was taken from the cache, or was not
    Explain(explain::ExplainArgs),
}

/// Carries out a verb of `vox cache`.
pub(crate) fn run(context: &Context, command: CacheCommand) -> Result<Exit, Failure> {
    match command {
        CacheCommand::Ls => ls::run(context),
        CacheCommand::Rm(arguments) => rm::run(context, &arguments),
        CacheCommand::Gc(arguments) => gc::run(context, &arguments),
        CacheCommand::Explain(arguments) => explain::run(context, &arguments),
    }
}

/// The letters of a key that people are shown.
const SHOWN_LETTERS: usize = 12;

/// The store, to look at; none when nothing was ever stored. What is read through it is neither claimed nor
/// counted as used.
fn reading_store(context: &Context) -> Result<Option<Store>, Failure> {
    let directory = context.directories.data.join("store");
    if !directory.exists() {
        return Ok(None);
    }
    Ok(Some(Store::open_read(directory)?))
}

/// Every result, the newest first.
fn entries(context: &Context) -> Result<Vec<Entry>, Failure> {
    match reading_store(context)? {
        Some(store) => described(context, Cache::new(store).list()?),
        None => Ok(Vec::new()),
    }
}

/// Results with what the log says of the runs that they come from.
fn described(context: &Context, listed: Vec<CacheEntry>) -> Result<Vec<Entry>, Failure> {
    let mut pipelines: BTreeMap<RunId, Option<String>> = listed
        .iter()
        .map(|entry| (entry.result.run, None))
        .collect();
    if let Some(history) = super::runs::history_if_any(context)? {
        for (run, pipeline) in &mut pipelines {
            let found = history.summary_of(*run)?;
            *pipeline = found.map(|run| run.started.pipeline);
        }
    }
    let entries = listed.into_iter().map(|entry| Entry::of(entry, &pipelines));
    Ok(entries.collect())
}

/// The results among these that were evicted, in the order in which they went.
pub(crate) fn evicted(
    context: &Context,
    mut listed: Vec<CacheEntry>,
    report: &EvictReport,
) -> Result<Vec<Entry>, Failure> {
    let place = |entry: &CacheEntry| {
        let mut names = report.evicted.iter();
        names.position(|name| name.namespace() == NAMESPACE && name.name() == entry.key)
    };
    listed.retain(|entry| place(entry).is_some());
    listed.sort_by_key(place);
    described(context, listed)
}

/// A result as it is printed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Entry {
    /// In hexadecimal.
    key: String,
    /// The steps, as the plan calls them that it comes from.
    steps: Vec<String>,
    /// The run that it comes from.
    run: RunId,
    /// The pipeline of that run; none where the log does not know it any more.
    pipeline: Option<String>,
    /// Bytes of the result and of what the steps made.
    bytes: u64,
    time: String,
    age_seconds: u64,
}

impl Entry {
    fn of(entry: CacheEntry, pipelines: &BTreeMap<RunId, Option<String>>) -> Self {
        let CacheEntry {
            key, result, bytes, ..
        } = entry;
        let age = now().saturating_sub(result.time) / 1_000_000;
        Self {
            key,
            pipeline: pipelines.get(&result.run).cloned().flatten(),
            steps: result.steps.into_iter().map(|step| step.step).collect(),
            run: result.run,
            bytes,
            time: written_time(result.time),
            age_seconds: u64::try_from(age).unwrap_or(0),
        }
    }

    /// The beginning of the key, by which it can be named.
    fn short(&self) -> &str {
        short(&self.key)
    }

    fn steps(&self) -> String {
        self.steps.join(", ")
    }

    /// Says that it goes: what it is, how large, and from which run.
    pub(crate) fn let_go(&self, words: &str, out: &mut dyn Write) -> io::Result<()> {
        let about = format!(
            "({}, {} old, from run {})",
            bytes(self.bytes),
            age(self.age_seconds),
            super::runs::short(self.run)
        );
        writeln!(
            out,
            "{} {} {} {}",
            paint(WARNING, words),
            paint(LITERAL, self.short()),
            plain(&self.steps()),
            paint(DIM, about)
        )
    }
}

/// The beginning of a key.
fn short(key: &str) -> &str {
    key.get(..SHOWN_LETTERS).unwrap_or(key)
}

/// An age in the largest unit of which it has two, such as `3 h`.
fn age(seconds: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "days"), (3_600, "h"), (60, "min")];
    let unit = UNITS.iter().find(|(length, _)| seconds >= 2 * length);
    match unit {
        Some((length, name)) => format!("{} {name}", seconds / length),
        None => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_given_in_the_unit_that_fits() {
        assert_eq!(
            [0, 119, 120, 7_199, 7_200, 172_800].map(age),
            ["0 s", "119 s", "2 min", "119 min", "2 h", "2 days"]
        );
    }

    #[test]
    fn the_short_form_of_a_key_is_its_beginning() {
        assert_eq!(short("0123456789abcdef"), "0123456789ab");
        assert_eq!(short("0123"), "0123");
    }
}
