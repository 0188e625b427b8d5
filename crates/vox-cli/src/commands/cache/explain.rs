//! `vox cache explain`: why the result of a step was taken from the cache, or was not.
//!
//! The record of a run says what the key of each result was made of. Two of them side by side say what has
//! changed.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write};

use clap::Args;
use serde::Serialize;
use vox_run::cache::key::differences;
use vox_run::cache::{Cache, Difference};
use vox_run::record::{RecordedRun, RunSummary};
use vox_run::{History, Plan, RecordError, RunId};

use crate::commands::runs::{history, is_made_by_matrix, made_by_matrix, short as short_run};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{BAD, DIM, GOOD, LITERAL, WARNING, paint, plain};
use crate::output::table::{Cell, Table};
use crate::output::{View, shortened};
use crate::record::here;

/// The most of a part of a key that is shown, in columns; programs get all of it.
const MAX_PART: usize = 48;

/// Arguments of `vox cache explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The step
    #[arg(value_name = "STEP")]
    step: String,
    /// In this run: its id, the beginning or the end of that, or `last`; without it in the newest run that
    /// has the step
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
}

/// What became of a step as far as the cache goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// Its result was taken from the cache.
    Hit,
    /// It ran, as nothing was in the cache under its key.
    Miss,
    /// An earlier run had carried it out, and this one began with its results.
    TakenOver,
    /// It has no key.
    NotCached,
}

/// Why a step was taken from the cache, or was not.
#[derive(Debug, Serialize)]
struct Explained {
    step: String,
    run: RunId,
    pipeline: String,
    verdict: Verdict,
    /// The run whose result it has, where that is another one.
    from: Option<RunId>,
    /// The verdict in words.
    why: String,
    /// What can be done about it.
    hint: Option<String>,
    /// The key of its result, in hexadecimal.
    key: Option<String>,
    /// Whether that is in the cache now.
    kept: bool,
    /// What the key is made of.
    parts: BTreeMap<String, String>,
    /// The run before this one that has the step and a key of it.
    previous: Option<RunId>,
    /// In what the key differs from the one of that run.
    differences: Vec<Difference>,
}

impl View for Explained {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let style = match self.verdict {
            Verdict::Hit => GOOD,
            Verdict::Miss | Verdict::TakenOver => WARNING,
            Verdict::NotCached => BAD,
        };
        let word = match self.verdict {
            Verdict::Hit => "cached",
            Verdict::Miss => "ran",
            Verdict::TakenOver => "taken over",
            Verdict::NotCached => "not cached",
        };
        writeln!(
            out,
            "{} {}: {} {}",
            paint(LITERAL, plain(&self.step)),
            paint(style, word),
            self.why,
            paint(DIM, format!("(run {})", self.run))
        )?;
        if let Some(hint) = &self.hint {
            writeln!(out, "  {hint}")?;
        }
        if let Some(key) = &self.key {
            let kept = if self.kept {
                "in the cache"
            } else {
                "not in the cache now"
            };
            writeln!(
                out,
                "  key {} {}",
                paint(LITERAL, super::short(key)),
                paint(DIM, kept)
            )?;
        }
        if let Some(previous) = self.previous
            && !self.differences.is_empty()
        {
            let before = format!("RUN {}", short_run(previous));
            write!(out, "\n{}", changed(&before, &self.differences))?;
        }
        if !self.parts.is_empty() {
            write!(out, "\n{}", made_of(&self.parts))?;
        }
        Ok(())
    }
}

/// What has changed since another run.
fn changed(before: &str, differences: &[Difference]) -> Table {
    let mut table = Table::new(["CHANGED", before, "THIS RUN"]);
    let show = |value: &Option<String>| match value {
        Some(value) => Cell::from(shortened(plain(value), MAX_PART)),
        None => Cell::styled(DIM, "-"),
    };
    for difference in differences {
        table.row([
            Cell::styled(LITERAL, &difference.part),
            show(&difference.before),
            show(&difference.now),
        ]);
    }
    table
}

fn made_of(parts: &BTreeMap<String, String>) -> Table {
    let mut table = Table::new(["MADE OF", "IS"]);
    for (part, value) in parts {
        table.row([
            Cell::styled(LITERAL, part),
            shortened(plain(value), MAX_PART).into(),
        ]);
    }
    table
}

pub(super) fn run(context: &Context, arguments: &ExplainArgs) -> Result<Exit, Failure> {
    let step = arguments.step.as_str();
    let history = history(context)?;
    let has_step = |run: &RecordedRun| {
        let mut keys = run.ends.keys();
        keys.any(|key| key == step || is_made_by_matrix(step, key))
    };
    let this = match &arguments.run {
        Some(run) => history.load(history.find(run, &here()?)?)?,
        None => newest(&history, |_| true, has_step)?.ok_or_else(|| {
            let message = format!("no run has a step `{}` that has ended", plain(step));
            Failure::new(Exit::NotFound, message)
                .hint("`vox runs ls` lists runs, `vox runs show <run>` the steps of one")
        })?,
    };
    if !this.ends.contains_key(step) {
        return Err(no_end(step, &this));
    }
    // Before it, and of the same pipeline: a name may be that of another step elsewhere.
    let started = &this.summary.started;
    let is_before = |other: &RunSummary| {
        other.id < this.summary.id
            && other.started.pipeline == started.pipeline
            && other.started.directory == started.directory
    };
    let before = newest(&history, is_before, |run| run.parts.contains_key(step))?;
    let plan = plan(context, &this);
    let mut explained = explain(step, &this, before.as_ref(), plan.as_ref());
    if let (Some(key), Some(store)) = (&explained.key, super::reading_store(context)?) {
        explained.kept = Cache::new(store).find(key)?.is_some();
    }
    context.output.show(&explained)?;
    Ok(Exit::Success)
}

/// The newest run of which both hold: what a list says of it, and then all that is known of it.
fn newest(
    history: &History,
    listed: impl Fn(&RunSummary) -> bool,
    wanted: impl Fn(&RecordedRun) -> bool,
) -> Result<Option<RecordedRun>, Failure> {
    let mut found: Option<Result<RecordedRun, RecordError>> = None;
    history.list(1, |summary| {
        if !listed(summary) {
            return false;
        }
        let loaded = history.load(summary.id);
        // What cannot be read ends the search, and is told.
        let ends = loaded.as_ref().map_or(true, &wanted);
        if ends {
            found = Some(loaded);
        }
        ends
    })?;
    Ok(found.transpose()?)
}

fn no_end(step: &str, run: &RecordedRun) -> Failure {
    let id = run.summary.id;
    let message = format!("run {id} has no step `{}` that has ended", plain(step));
    let ended = || run.ends.keys().map(String::as_str);
    let hint = made_by_matrix(step, ended()).unwrap_or_else(|| {
        match vox_contract::nearest(step, ended()) {
            Some(near) => format!("did you mean `{}`?", plain(near)),
            None => format!("`vox runs show {id}` lists its steps"),
        }
    });
    Failure::new(Exit::NotFound, message).hint(hint)
}

/// The plan of a run; none where the store has it no more, or this version of Vox cannot read it.
fn plan(context: &Context, run: &RecordedRun) -> Option<Plan> {
    let started = &run.summary.started;
    let store = super::reading_store(context).ok().flatten()?;
    let mut text = String::new();
    store
        .get(&started.plan)
        .ok()?
        .read_to_string(&mut text)
        .ok()?;
    Plan::parse(&text, &started.file).ok()
}

fn explain(
    step: &str,
    this: &RecordedRun,
    before: Option<&RecordedRun>,
    plan: Option<&Plan>,
) -> Explained {
    let provenance = this.ends.get(step).map(|end| &end.provenance);
    let cached = provenance.and_then(|provenance| provenance.cached);
    let earlier = provenance.and_then(|provenance| provenance.earlier);
    let parts = this.parts.get(step).cloned().unwrap_or_default();
    let key = this.keys.get(step).cloned();
    let previous = before.filter(|_| key.is_some());
    let changed = previous
        .and_then(|before| before.parts.get(step))
        .map(|before| differences(before, &parts))
        .unwrap_or_default();
    let (verdict, why, hint) = match (&key, cached, earlier) {
        (_, Some(from), _) => (
            Verdict::Hit,
            format!("its result is that of run {from}"),
            None,
        ),
        // A rerun knows the key of what it took over, and has not looked for it.
        (_, None, Some(from)) => (
            Verdict::TakenOver,
            format!(
                "run {from} had carried it out, and this run began with what that one has done"
            ),
            Some(format!(
                "`vox cache explain {step} --run {from}` says how that came to its result"
            )),
        ),
        (Some(_), None, None) => {
            let (why, hint) = missed(step, this, previous, &changed);
            (Verdict::Miss, why, hint)
        }
        (None, None, None) => {
            let (why, hint) = uncached(step, plan);
            (Verdict::NotCached, why, Some(hint))
        }
    };
    Explained {
        step: step.to_owned(),
        run: this.summary.id,
        pipeline: this.summary.started.pipeline.clone(),
        verdict,
        from: cached.or(earlier),
        why,
        hint,
        key,
        kept: false,
        parts,
        previous: previous.map(|before| before.summary.id),
        differences: changed,
    }
}

/// Why nothing was in the cache under the key of a step.
fn missed(
    step: &str,
    this: &RecordedRun,
    previous: Option<&RecordedRun>,
    changed: &[Difference],
) -> (String, Option<String>) {
    let Some(before) = previous else {
        let why = "no earlier run of this pipeline has a key for it".to_owned();
        return (why, None);
    };
    let id = before.summary.id;
    if let [one] = changed {
        return (format!("{} is not as in run {id}", plain(&one.part)), None);
    }
    if !changed.is_empty() {
        let count = changed.len();
        return (
            format!("{count} parts of its key are not as in run {id}"),
            None,
        );
    }
    if before.keys.get(step) != this.keys.get(step) {
        let why = format!("a step that streams join to it is not as in run {id}");
        return (
            why,
            Some("`vox cache explain` says it of that step".to_owned()),
        );
    }
    if before
        .ends
        .get(step)
        .is_some_and(|end| !end.outcome.is_success())
    {
        let why =
            format!("its key is that of run {id}, where it did not succeed: that is not kept");
        return (why, None);
    }
    let why = format!("its key is that of run {id}, whose result was not kept or not to be used");
    let hint = "it was let go of (`vox cache gc`, `vox cache rm`, a budget), a step that streams join to it did not \
                succeed, or the run was told to carry every step out";
    (why, Some(hint.to_owned()))
}

/// Why a step has no key, and what to write so that it has one.
fn uncached(step: &str, plan: Option<&Plan>) -> (String, String) {
    let planned = plan.and_then(|plan| plan.steps.iter().find(|planned| planned.key == step));
    let Some(planned) = planned else {
        return (
            "it has no key, and the plan of the run is not here to say why".to_owned(),
            "write `cache = true` and what it reads in `inputs`, so that later runs can take its result over"
                .to_owned(),
        );
    };
    match planned.cache {
        Some(false) => (
            "the plan says `cache = false`".to_owned(),
            "take that out, and say in `inputs` what it reads".to_owned(),
        ),
        None => (
            format!(
                "its runner `{}`, or a stage on the way to it, may read anything, so that nobody knows whether its \
                 result is the same again",
                planned.uses
            ),
            "write `cache = true`, and what it reads in `inputs` (`inputs = {}` says that it reads nothing)".to_owned(),
        ),
        Some(true) => (
            "the plan says `cache = true`, and it has no key all the same".to_owned(),
            "the run was told to use no cache, an input was missing, or a step that streams join to it is not cached"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use vox_run::report::Provenance;

    use super::*;
    use crate::commands::runs::fixture;

    /// A run of the step `s`, whose key is made of this.
    fn recorded(parts: &[(&str, &str)], provenance: Provenance) -> RecordedRun {
        fixture::with_step(fixture::recorded(), "s", provenance, parts)
    }

    #[test]
    fn a_miss_names_what_has_changed_since_the_run_before() {
        let before = recorded(
            &[("arguments", "{}"), ("input.a a", "1")],
            Provenance::default(),
        );
        let this = recorded(
            &[("arguments", "{}"), ("input.a a", "2")],
            Provenance::default(),
        );
        let explained = explain("s", &this, Some(&before), None);
        assert_eq!(explained.verdict, Verdict::Miss);
        assert_eq!(explained.previous, Some(before.summary.id));
        assert!(
            explained.why.starts_with("input.a a is not as in run"),
            "{}",
            explained.why
        );
        let table = changed("RUN x", &explained.differences).to_string();
        let table = anstream::adapter::strip_str(&table).to_string();
        assert_eq!(table, "CHANGED    RUN x  THIS RUN\ninput.a a  1      2\n");
    }

    #[test]
    fn a_hit_names_the_run_that_it_comes_from() {
        let from = RunId::generate();
        let provenance = Provenance {
            cached: Some(from),
            ..Provenance::default()
        };
        let explained = explain(
            "s",
            &recorded(&[("arguments", "{}")], provenance),
            None,
            None,
        );
        assert_eq!(
            (explained.verdict, explained.from),
            (Verdict::Hit, Some(from))
        );
    }

    #[test]
    fn a_step_that_a_rerun_took_over_is_no_miss_though_its_key_is_known() {
        let before = recorded(&[("arguments", "{}")], Provenance::default());
        let provenance = Provenance {
            earlier: Some(before.summary.id),
            ..Provenance::default()
        };
        let mut this = recorded(&[], provenance);
        this.keys.clone_from(&before.keys);
        let explained = explain("s", &this, Some(&before), None);
        assert_eq!(
            (explained.verdict, explained.from),
            (Verdict::TakenOver, Some(before.summary.id))
        );
    }

    #[test]
    fn a_step_without_a_key_says_what_to_write_for_one() {
        let run = recorded(&[], Provenance::default());
        let plan = |cache: &str| {
            let text = format!(
                "[pipeline]\nname = \"p\"\n\n[[step]]\nkey = \"s\"\nuses = \"exec\"\n{cache}\n"
            );
            Plan::parse(&text, "p.toml").unwrap()
        };
        let told = |plan: Option<&Plan>| {
            let explained = explain("s", &run, None, plan);
            assert_eq!(explained.verdict, Verdict::NotCached);
            (explained.why, explained.hint.unwrap())
        };
        assert!(
            told(Some(&plan("cache = false")))
                .0
                .contains("`cache = false`")
        );
        assert!(told(Some(&plan(""))).1.contains("`inputs = {}`"));
        assert!(told(None).1.contains("`cache = true`"));
    }
}
