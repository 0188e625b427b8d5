//! `vox runs show`: what became of a run, and of each of its steps.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use vox_run::record::{KEPT_RUNS, RecordedRun, RunState, Told};
use vox_run::report::{OutputLine, Provenance};
use vox_run::{RunId, StepOutcome};

use super::named::NamedRun;
use super::view::{RunLine, in_words, short, style_of};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{BAD, DIM, LITERAL, STRONG, WARNING, paint, plain};
use crate::output::table::{Cell, Table};
use crate::output::{View, count, shortened};

/// The most of what a step says that the table shows, in columns.
const MAX_RESULT: usize = 72;

/// Arguments of `vox runs show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    run: NamedRun,
}

/// Everything that is known of a run.
#[derive(Debug, Serialize)]
struct RunView {
    #[serde(flatten)]
    run: RunLine,
    /// How often another process went on with it.
    resumed: u32,
    /// Whether its events are still here.
    events: bool,
    /// The steps that are known, in the order of the plan.
    steps: Vec<StepLine>,
    /// What went wrong and failed nothing.
    warnings: Vec<String>,
}

/// What is known of a step.
#[derive(Debug, Serialize)]
struct StepLine {
    step: String,
    label: Option<String>,
    runner: Option<String>,
    /// `succeeded`, `failed`, `cancelled`, `skipped`, `running`, `interrupted`, `waiting` or `not-started`.
    state: &'static str,
    /// What kind of failure it is.
    cause: Option<&'static str>,
    /// The runner's code.
    code: Option<i32>,
    /// How often it was tried.
    attempts: u32,
    seconds: Option<f64>,
    /// The run whose result this is, where it came from the cache.
    cached: Option<RunId>,
    /// The run that carried it out before.
    earlier: Option<RunId>,
    /// The key under which its result is in the cache.
    key: Option<String>,
    /// The hash of each of its outputs, by name.
    outputs: BTreeMap<String, String>,
    /// Its summary, the message of its failure, or the reason why it did not run.
    message: Option<String>,
    /// The last lines that it wrote, where it failed.
    output: Vec<OutputLine>,
}

/// The steps of a run, as far as the record and what was told know them.
fn steps(recorded: &RecordedRun, told: &Told) -> Vec<StepLine> {
    let planned = told.steps().iter().map(|step| step.key.as_str());
    let mut keys: Vec<&str> = planned.collect();
    let known = recorded.ends.keys().chain(recorded.attempts.keys());
    for key in known {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    keys.into_iter()
        .map(|key| step(key, recorded, told))
        .collect()
}

fn step(key: &str, recorded: &RecordedRun, told: &Told) -> StepLine {
    let head = told.steps().iter().find(|step| step.key == key);
    let is_running = matches!(recorded.summary.state, RunState::Running(_));
    let was_told = told.end_of(key);
    // A run that was resumed tries again what had not succeeded, and has no new end of it yet.
    let is_again = is_running && head.is_some() && was_told.is_none();
    let end = recorded
        .ends
        .get(key)
        .filter(|end| !is_again || end.outcome.is_success());
    // What was told is whole; the record cuts long messages.
    let ended: Option<(&StepOutcome, &Provenance, _)> =
        was_told.or_else(|| end.map(|end| (&end.outcome, &end.provenance, end.duration())));
    let tried = recorded.attempts.get(key).copied();
    let tried = tried.max(told.attempt_of(key));
    let (cause, code) = match ended {
        Some((StepOutcome::Failed { cause, code, .. }, ..)) => (Some(cause.name()), *code),
        _ => (None, None),
    };
    let has_failed = cause.is_some();
    StepLine {
        step: key.to_owned(),
        label: head.and_then(|head| head.label.clone()),
        runner: head.map(|head| head.uses.to_string()),
        state: match ended {
            Some((outcome, ..)) => outcome.status(),
            None => match (tried.is_some(), is_running) {
                (true, true) => "running",
                (true, false) => "interrupted",
                (false, true) => "waiting",
                (false, false) => "not-started",
            },
        },
        cause,
        code,
        attempts: ended.map_or(tried.unwrap_or(0), |(_, provenance, _)| provenance.attempts),
        seconds: ended
            .filter(|(outcome, ..)| !matches!(outcome, StepOutcome::Skipped { .. }))
            .map(|(_, _, duration)| duration.as_secs_f64()),
        cached: ended.and_then(|(_, provenance, _)| provenance.cached),
        earlier: ended.and_then(|(_, provenance, _)| provenance.earlier),
        key: recorded.keys.get(key).cloned(),
        outputs: end.map(|end| end.outputs.clone()).unwrap_or_default(),
        message: ended.map(|(outcome, ..)| outcome.text().to_owned()),
        output: if has_failed {
            told.output_of(key)
        } else {
            Vec::new()
        },
    }
}

impl View for RunView {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self {
            run,
            resumed,
            events,
            steps,
            warnings,
        } = self;
        head(out, run, *resumed)?;
        writeln!(out)?;
        for step in steps.iter().filter(|step| step.state == "failed") {
            failed(out, step)?;
        }
        if !steps.is_empty() {
            writeln!(out, "{}", table(steps))?;
        }
        for warning in warnings {
            writeln!(out, "{} {}", paint(WARNING, "warning:"), plain(warning))?;
        }
        let missing = run.planned_steps.saturating_sub(steps.len() as u64);
        if missing > 0 {
            let steps = count(usize::try_from(missing).unwrap_or(usize::MAX), "step");
            writeln!(out, "{}", paint(DIM, format!("{steps} more did not start")))?;
        }
        if !events {
            let gone =
                format!("what it printed is gone: that is kept of the last {KEPT_RUNS} runs");
            writeln!(out, "{}", paint(DIM, gone))?;
        }
        next(out, run)
    }
}

/// The run itself.
fn head(out: &mut dyn Write, run: &RunLine, resumed: u32) -> io::Result<()> {
    writeln!(
        out,
        "{} {}",
        paint(STRONG, plain(&run.pipeline)),
        paint(DIM, run.id)
    )?;
    let state = paint(style_of(run.state), run.state);
    match &run.reason {
        Some(reason) => writeln!(out, "  state:     {state}: {}", plain(reason))?,
        None => writeln!(out, "  state:     {state}")?,
    }
    writeln!(out, "  began:     {}", run.began)?;
    if run.seconds.is_some() {
        writeln!(out, "  took:      {}", run.took())?;
    }
    if let Some(process) = run.process {
        writeln!(out, "  process:   {process}")?;
    }
    writeln!(out, "  plan:      {}", plain(&run.file))?;
    writeln!(out, "  in:        {}", plain(&run.directory))?;
    if let Some(of) = run.of {
        writeln!(out, "  after:     run {of}")?;
    }
    if resumed > 0 {
        writeln!(out, "  resumed:   {}", count(resumed as usize, "time"))?;
    }
    if !run.variables.is_empty() {
        writeln!(out, "  variables: {}", plain(&run.variables.join(", ")))?;
    }
    Ok(())
}

/// A step that failed: all of its message, and the last that it wrote.
fn failed(out: &mut dyn Write, step: &StepLine) -> io::Result<()> {
    let message = step.message.as_deref().unwrap_or_default();
    let mut lines = message.lines();
    writeln!(
        out,
        "{} {}: {}",
        paint(BAD, "failed:"),
        plain(&step.step),
        plain(lines.next().unwrap_or_default())
    )?;
    for line in lines {
        writeln!(out, "  {}", plain(line))?;
    }
    for line in &step.output {
        let bar = paint(DIM, "|");
        writeln!(out, "  {bar} {}", line.text.trim_end_matches('\r'))?;
    }
    writeln!(out)
}

/// Failures first, then in the order of the plan.
fn table(steps: &[StepLine]) -> Table {
    let mut steps: Vec<&StepLine> = steps.iter().collect();
    steps.sort_by_key(|step| match step.state {
        "failed" => 0,
        "cancelled" | "interrupted" | "running" => 1,
        "succeeded" => 3,
        _ => 2,
    });
    let mut table = Table::new(["STEP", "STATE", "TRIES", "TIME", "FROM", "RESULT"])
        .right(2)
        .right(3);
    for step in steps {
        let from = match (step.cached, step.earlier) {
            (Some(run), _) => format!("cache, run {}", short(run)),
            (None, Some(run)) => format!("run {}", short(run)),
            (None, None) => String::new(),
        };
        let first = step.message.as_deref().unwrap_or_default();
        let first = first.lines().next().unwrap_or_default();
        table.row([
            Cell::styled(LITERAL, &step.step),
            Cell::styled(style_of(step.state), step.state),
            step.attempts.into(),
            step.seconds.map_or_else(String::new, in_words).into(),
            Cell::styled(DIM, from),
            Cell::styled(DIM, shortened(plain(first), MAX_RESULT)),
        ]);
    }
    table
}

/// What can be done with the run now.
fn next(out: &mut dyn Write, run: &RunLine) -> io::Result<()> {
    let id = run.id;
    match run.state {
        "interrupted" => {
            let command = paint(LITERAL, format!("vox run --resume {id}"));
            writeln!(out, "it did not come to its end; {command} goes on with it")
        }
        "running" => {
            let follow = paint(LITERAL, format!("vox runs logs --follow {id}"));
            let cancel = paint(LITERAL, format!("vox runs cancel {id}"));
            writeln!(out, "{follow} shows what it writes, {cancel} ends it")
        }
        "failed" | "cancelled" => {
            let command = paint(LITERAL, format!("vox runs rerun --failed {id}"));
            writeln!(out, "{command} runs what did not succeed")
        }
        _ => Ok(()),
    }
}

pub(super) fn run(context: &Context, arguments: &ShowArgs) -> Result<Exit, Failure> {
    let history = super::history(context)?;
    let run = arguments.run.find(&history)?;
    let mut told = Told::default();
    let transcript = history.transcript(run)?;
    let events = transcript.is_some();
    for event in transcript.into_iter().flatten() {
        match event {
            Ok(event) => told.take(event),
            // The log is enough to say what became of the run.
            Err(error) => {
                context.output.note(&error);
                break;
            }
        }
    }
    // Read after the events, so that it knows at least as much as they tell.
    let recorded = history.load(run)?;
    context.output.show(&RunView {
        run: RunLine::of(&recorded.summary),
        resumed: recorded.resumed,
        events,
        steps: steps(&recorded, &told),
        warnings: told.warnings().to_vec(),
    })?;
    Ok(Exit::Success)
}
