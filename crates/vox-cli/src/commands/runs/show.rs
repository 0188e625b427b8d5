//! `vox runs show`: what became of a run, and of each of its steps.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use vox_run::record::{RecordedRun, RunState, Told};
use vox_run::report::{OutputLine, Provenance};
use vox_run::{RunId, StepOutcome};

use super::named::NamedRun;
use super::view::{RunLine, in_words, short, style_of};
use crate::commands::run::failure::FailedStep;
use crate::commands::run::view::named;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::screen::Screen;
use crate::output::style::{DIM, LITERAL, STRONG, WARNING, paint, plain};
use crate::output::table::{Cell, Table};
use crate::output::{View, count, shortened};

/// The most of what a step says that the table shows, in columns.
const MAX_RESULT: usize = 72;

/// The least of it: where there is less room the table goes without.
const MIN_RESULT: usize = 20;

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
    /// How many letters fit into a line, where that is known.
    #[serde(skip)]
    room: Option<usize>,
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
    let is_over = matches!(recorded.summary.state, RunState::Ended(_));
    // A run that was resumed tries again what had not succeeded, and has no new end of it yet.
    let is_again = !is_over && head.is_some() && was_told.is_none();
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
            room,
        } = self;
        head(out, run, *resumed)?;
        writeln!(out)?;
        for step in steps.iter().filter(|step| step.state == "failed") {
            write!(out, "{}", failed(step, run.id, *events))?;
        }
        if !steps.is_empty() {
            writeln!(out, "{}", table(steps, *room))?;
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
                "what it printed is gone: `vox run --keep-logs` says of how many runs that is kept";
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

/// A step that failed, as `vox run` tells it.
fn failed(step: &StepLine, run: RunId, is_kept: bool) -> FailedStep<'_> {
    FailedStep {
        run,
        key: &step.step,
        label: step.label.as_deref(),
        runner: step.runner.as_deref(),
        attempts: step.attempts,
        time: step.seconds.map_or_else(String::new, in_words),
        cause: step.cause.unwrap_or("unknown"),
        message: step.message.as_deref().unwrap_or_default(),
        output: &step.output,
        skipped: 0,
        is_kept,
    }
}

/// Failures first, then in the order of the plan.
fn table(steps: &[StepLine], room: Option<usize>) -> Table {
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
            Cell::styled(LITERAL, named(&step.step, step.label.as_deref())),
            Cell::styled(style_of(step.state), step.state),
            step.attempts.into(),
            step.seconds.map_or_else(String::new, in_words).into(),
            Cell::styled(DIM, from),
            Cell::styled(DIM, shortened(plain(first), MAX_RESULT)),
        ]);
    }
    if let Some(room) = room {
        table.squeeze(room, "RESULT", MIN_RESULT);
        table.fit(room, &["FROM", "TRIES", "RESULT"]);
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
        room: Screen::columns(),
    })?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{recorded, with_step};
    use super::*;

    /// What these events tell, given without what all events have.
    fn told(events: Vec<serde_json::Value>) -> Told {
        let run = RunId::generate().to_string();
        let mut told = Told::default();
        for mut event in events {
            event["version"] = 1.into();
            event["run"] = run.clone().into();
            event["timestamp"] = 1.into();
            told.take(serde_json::from_value(event).unwrap());
        }
        told
    }

    fn begun() -> serde_json::Value {
        let step = |key: &str| json!({ "key": key, "uses": "exec" });
        json!({
            "event": "run-started", "pipeline": "p", "file": "p.toml", "resumed": false,
            "steps": [step("c"), step("b"), step("a")],
        })
    }

    #[test]
    fn steps_stand_in_the_order_of_the_plan_and_those_without_an_end_say_how_far_they_came() {
        let mut run = with_step(recorded(), "c", Provenance::default(), &[("code", "1")]);
        run.attempts.insert("b".to_owned(), 2);
        let events = vec![
            begun(),
            json!({ "event": "step-started", "step": "b", "attempt": 2 }),
        ];
        let shown = steps(&run, &told(events));
        let shown: Vec<_> = shown
            .iter()
            .map(|step| (step.step.as_str(), step.state, step.attempts))
            .collect();
        assert_eq!(
            shown,
            [
                ("c", "succeeded", 0),
                ("b", "interrupted", 2),
                ("a", "not-started", 0)
            ]
        );
    }

    #[test]
    fn without_events_the_record_says_what_became_of_the_steps() {
        let run = with_step(recorded(), "b", Provenance::default(), &[]);
        let shown = steps(&run, &Told::default());
        assert_eq!(shown.len(), 1);
        assert_eq!((shown[0].state, shown[0].seconds), ("succeeded", Some(1.0)));
        assert_eq!(shown[0].message.as_deref(), Some("done"));
    }

    #[test]
    fn what_failed_comes_with_all_of_its_message_and_its_last_lines() {
        let events = vec![
            begun(),
            json!({ "event": "step-started", "step": "a", "attempt": 1 }),
            json!({ "event": "step-output", "step": "a", "port": "stderr", "text": "oh no\n" }),
            json!({
                "event": "step-ended", "step": "a", "status": "failed", "cause": "code", "code": 2,
                "message": "exit code 2\nmore of it\noh no", "attempts": 1, "seconds": 1.0,
            }),
        ];
        let shown = steps(&recorded(), &told(events));
        let run = RunId::generate();
        let text = failed(&shown[2], run, true).to_string();
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            format!(
                "failed: a (exec) after 1.00 s, cause: code\n  exit code 2\n  more of it\n  \
                 the last that it wrote:\n  | oh no\n  all of it: vox runs logs {run} a\n\n"
            )
        );
        let table = table(&shown, None).to_string();
        let table = anstream::adapter::strip_str(&table).to_string();
        let second = table.lines().nth(1).unwrap();
        assert!(
            second.starts_with("a ") && second.ends_with("exit code 2"),
            "{table}"
        );
    }
}
