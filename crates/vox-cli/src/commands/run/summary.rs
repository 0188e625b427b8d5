//! The end of a run for people: what failed, what was printed unseen, and the tables.

use std::fmt::{self, Write as _};

use unicode_width::UnicodeWidthStr as _;
use vox_host::HOST_SAMPLES;
use vox_host::contract::metrics::Sample;
use vox_run::report::{PluginMetrics, StepReport, StreamReport};
use vox_run::{RunOutcome, RunReport, StepOutcome};

use super::failure::{FailedStep, MAX_LINE};
use super::view::{bar, named, seconds, style_of, text_of};
use crate::output::style::{BAD, DIM, GOOD, LITERAL, STRONG, WARNING, paint, plain, tame_within};
use crate::output::table::{Cell, Table};
use crate::output::{count, shortened};

/// The most of a step's result that the table shows, in columns; what failed is told in full above
/// it.
const MAX_RESULT: usize = 72;

/// The least of it: where there is less room the table goes without.
const MIN_RESULT: usize = 20;

/// The most lines that the end of a run shows of what steps wrote that did not fail, where they were not shown as
/// they came. Where there are more, only the command that prints them is.
const MAX_OUTPUT: usize = 10;

/// The end of a run: what failed with its last output, the steps, the streams, the measurements.
pub(crate) struct Summary<'a> {
    /// The run.
    pub(crate) report: &'a RunReport,
    /// Whether what its steps wrote is kept.
    pub(crate) is_kept: bool,
    /// How many letters fit into a line; as many as there are where nobody knows.
    pub(crate) room: Option<usize>,
    /// Whether what the steps wrote was shown already, as it came.
    pub(crate) was_shown: bool,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            report,
            is_kept,
            room,
            was_shown,
        } = *self;
        let room = room.unwrap_or(usize::MAX);
        writeln!(f)?;
        for step in report
            .steps
            .iter()
            .filter(|step| matches!(step.outcome, StepOutcome::Failed { .. }))
        {
            write!(f, "{}", failed(step, report, is_kept))?;
        }
        let unseen = if was_shown { 0 } else { unseen(report) };
        if (1..=MAX_OUTPUT).contains(&unseen) {
            written(f, report)?;
        }
        let (table, left_out) = steps(&report.steps, room);
        write!(f, "{table}")?;
        if left_out > 0 {
            let more = format!(
                "and {} more; vox runs show {}",
                count(left_out, "step"),
                report.run
            );
            writeln!(f, "{}", paint(DIM, more))?;
        }
        if !report.streams.is_empty() {
            write!(f, "\n{}", streams(&report.streams, room))?;
        }
        let measured = |metrics: &PluginMetrics| metrics.samples.iter().any(is_own);
        if report.metrics.iter().any(measured) {
            write!(f, "\n{}", measurements(&report.metrics, room))?;
        }
        writeln!(f)?;
        for stream in &report.streams {
            if let Some(why) = &stream.broken {
                writeln!(
                    f,
                    "{} {} -> {}: {}",
                    paint(WARNING, "warning:"),
                    stream.from,
                    stream.to,
                    plain(why)
                )?;
            }
        }
        if unseen > MAX_OUTPUT {
            let command = if is_kept {
                format!("vox runs logs {}", report.run)
            } else {
                "`vox run --plain` shows it as it comes".to_owned()
            };
            writeln!(f, "{}", paint(DIM, format!("output: {command}")))?;
        }
        let name = paint(STRONG, plain(&report.pipeline));
        let time = seconds(report.duration);
        match &report.outcome {
            RunOutcome::Succeeded => writeln!(f, "{name} {} in {time}", paint(GOOD, "succeeded")),
            RunOutcome::Failed => writeln!(f, "{name} {} after {time}", paint(BAD, "failed")),
            RunOutcome::Cancelled => {
                writeln!(f, "{name} {} after {time}", paint(WARNING, "was cancelled"))
            }
            RunOutcome::Aborted { by, reason } => {
                writeln!(
                    f,
                    "{name} {}: {}",
                    paint(BAD, format!("was stopped by {by}")),
                    plain(reason)
                )
            }
        }
    }
}

/// The steps whose last lines do not stand among what failed.
fn others(report: &RunReport) -> impl Iterator<Item = &StepReport> {
    let is_other = |step: &&StepReport| !matches!(step.outcome, StepOutcome::Failed { .. });
    report.steps.iter().filter(is_other)
}

/// How many lines they wrote, of those that the report has.
fn unseen(report: &RunReport) -> usize {
    others(report).map(|step| step.output.len()).sum()
}

/// What they wrote, each line with its step, as it is shown where lines are shown as they come.
fn written(f: &mut fmt::Formatter<'_>, report: &RunReport) -> fmt::Result {
    let keys = others(report).filter(|step| !step.output.is_empty());
    let width = keys.map(|step| step.step.key.width()).max().unwrap_or(0);
    for step in others(report) {
        let key = plain(&step.step.key);
        let room = width.saturating_sub(key.width());
        for line in &step.output {
            let text = tame_within(&line.text, MAX_LINE);
            let key = paint(DIM, &key);
            writeln!(f, "{key}{:room$} {} {text}", "", bar(&line.port))?;
        }
    }
    writeln!(f)
}

fn failed<'a>(step: &'a StepReport, report: &'a RunReport, is_kept: bool) -> FailedStep<'a> {
    let StepReport {
        step,
        outcome,
        provenance,
        duration,
        output,
    } = step;
    let cause = match outcome {
        StepOutcome::Failed { cause, .. } => cause.name(),
        _ => outcome.status(),
    };
    let because = |other: &&StepReport| {
        let StepOutcome::Skipped {
            reason,
            by_condition: false,
        } = &other.outcome
        else {
            return false;
        };
        reason.contains(&format!("`{}`", step.key))
    };
    FailedStep {
        run: report.run,
        key: &step.key,
        label: step.label.as_deref(),
        runner: Some(step.uses.as_str()),
        attempts: provenance.attempts,
        time: seconds(*duration),
        cause,
        message: outcome.text(),
        output,
        skipped: report.steps.iter().filter(because).count(),
        is_kept,
    }
}

/// The most steps that the table lists; those that succeeded are left out first.
const MAX_ROWS: usize = 60;

/// Failures first, then in the order of the plan.
fn steps(steps: &[StepReport], room: usize) -> (Table, usize) {
    let mut steps: Vec<&StepReport> = steps.iter().collect();
    steps.sort_by_key(|step| match step.outcome {
        StepOutcome::Failed { .. } => 0,
        StepOutcome::Cancelled { .. } => 1,
        StepOutcome::Skipped { .. } => 2,
        StepOutcome::Succeeded { .. } => 3,
    });
    let left_out = steps.len().saturating_sub(MAX_ROWS);
    steps.truncate(MAX_ROWS);
    let is_retried = steps.iter().any(|step| step.provenance.attempts > 1);
    let mut table = Table::new(["STEP", "STATUS", "TRIES", "TIME", "RUNNER", "RESULT"])
        .right(2)
        .right(3);
    for StepReport {
        step,
        outcome,
        provenance,
        duration,
        ..
    } in steps
    {
        let time = match outcome {
            StepOutcome::Skipped { .. } => String::new(),
            _ if provenance.cached.is_some() => "cached".to_owned(),
            _ if provenance.earlier.is_some() => "before".to_owned(),
            _ => seconds(*duration),
        };
        table.row([
            Cell::styled(LITERAL, named(&step.key, step.label.as_deref())),
            Cell::styled(style_of(outcome), outcome.status()),
            provenance.attempts.into(),
            time.into(),
            (&step.uses).into(),
            Cell::styled(DIM, shortened(text_of(outcome), MAX_RESULT)),
        ]);
    }
    // As a rule there is one, and nothing to be learnt from it.
    if !is_retried {
        table.give_up("TRIES");
    }
    table.squeeze(room, "RESULT", MIN_RESULT);
    table.fit(room, &["RUNNER", "TRIES", "RESULT"]);
    (table, left_out)
}

fn streams(streams: &[StreamReport], room: usize) -> Table {
    let mut table = Table::new(["STREAM", "THROUGH", "CHUNKS", "BYTES IN", "BYTES OUT"])
        .right(2)
        .right(3)
        .right(4);
    for stream in streams {
        let through: Vec<&str> = stream
            .through
            .iter()
            .map(vox_contract::PluginId::as_str)
            .collect();
        let through = if through.is_empty() {
            "-".to_owned()
        } else {
            through.join(", ")
        };
        table.row([
            format!("{} -> {}", stream.from, stream.to).into(),
            through.into(),
            stream.chunks_in.into(),
            stream.bytes_in.into(),
            stream.bytes_out.into(),
        ]);
    }
    table.fit(room, &["THROUGH", "BYTES IN", "CHUNKS"]);
    table
}

/// Whether a sample is the plugin's own. What the host counts is for programs, and for
/// `vox plugin top`.
fn is_own(sample: &Sample) -> bool {
    !sample.name.starts_with(HOST_SAMPLES)
}

fn measurements(metrics: &[PluginMetrics], room: usize) -> Table {
    let mut table = Table::new(["METRIC", "VALUE", "PLUGIN", "STEP", "WHAT"]).right(1);
    for PluginMetrics {
        plugin,
        step,
        samples,
        ..
    } in metrics
    {
        for sample in samples.iter().filter(|sample| is_own(sample)) {
            let mut name = sample.name.clone();
            for (index, label) in sample.labels.iter().enumerate() {
                let before = if index == 0 { "{" } else { "," };
                // Writing to a `String` cannot fail.
                let _ = write!(name, "{before}{}={}", label.key, label.value);
            }
            if !sample.labels.is_empty() {
                name.push('}');
            }
            table.row([
                name.into(),
                sample.value.into(),
                plugin.into(),
                step.as_deref().unwrap_or("-").into(),
                Cell::styled(DIM, &sample.help),
            ]);
        }
    }
    table.squeeze(room, "WHAT", MIN_RESULT);
    table.fit(room, &["WHAT", "PLUGIN"]);
    table
}

#[cfg(test)]
mod tests {
    use vox_run::report::OutputLine;

    use super::*;

    /// A run in which a step failed at its last try, as it is told to programs.
    fn failed_run() -> RunReport {
        let run = "0199a7c2-6f3e-7d41-9b7e-3f2f5c1d8a10";
        let step = |key: &str, more: serde_json::Value| {
            let mut step = serde_json::json!({
                "key": key, "uses": "exec", "plugin": "exec", "attempts": 1, "seconds": 0.25,
            });
            step.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            step
        };
        let line = |port: &str, text: &str| serde_json::json!({ "port": port, "text": text });
        let report = serde_json::json!({
            "version": 1, "run": run, "pipeline": "release", "file": "pipeline.toml",
            "started": 1_764_460_800_000_000_000_u64, "seconds": 95.2, "status": "failed",
            "steps": [
                step("fetch", serde_json::json!({
                    "status": "succeeded", "summary": "3 files", "attributes": [], "seconds": 0.0,
                    "attempts": 0, "cached": "0199a7c2-0000-7d41-9b7e-3f2f5c1d8a10",
                })),
                step("test[os=linux]", serde_json::json!({
                    "status": "failed", "cause": "code", "code": 101, "attempts": 3, "seconds": 61.4,
                    "message": "`cargo` exited with code 101\nerror: 1 target failed:\n    `-p vox-run --test durable`",
                    "output": [
                        line("stdout", "test a_run_goes_on ... FAILED"),
                        line("stderr", "error: test failed, to rerun pass `-p vox-run --test durable`"),
                    ],
                })),
                step("build docs", serde_json::json!({
                    "label": "Build the book", "status": "cancelled", "seconds": 12.0,
                    "reason": "step `test[os=linux]` failed",
                })),
                step("publish", serde_json::json!({
                    "status": "skipped", "attempts": 0, "seconds": 0.0,
                    "reason": "it needs `test[os=linux]`, which failed",
                })),
                step("clean", serde_json::json!({
                    "status": "succeeded", "summary": "`rm` succeeded", "attributes": [],
                })),
            ],
            "streams": [], "metrics": [], "plugin_events": [], "plugin_events_omitted": 0,
            "warnings": [],
        });
        serde_json::from_value(report).unwrap()
    }

    /// The summary without colours.
    fn summary(report: &RunReport, is_kept: bool) -> String {
        within(report, is_kept, None)
    }

    fn within(report: &RunReport, is_kept: bool, room: Option<usize>) -> String {
        let shown = Summary {
            report,
            is_kept,
            room,
            was_shown: true,
        };
        let shown = shown.to_string();
        anstream::adapter::strip_str(&shown).to_string()
    }

    #[test]
    fn a_failure_is_told_first_with_all_that_is_known_of_it() {
        insta::assert_snapshot!("failure-on-a-terminal", summary(&failed_run(), true));
    }

    #[test]
    fn a_run_without_a_record_has_no_log_to_point_to() {
        let shown = summary(&failed_run(), false);
        assert!(!shown.contains("vox runs logs"), "{shown}");
    }

    #[test]
    fn the_table_fits_into_a_line_of_the_terminal() {
        for room in [100, 80, 60] {
            let shown = within(&failed_run(), true, Some(room));
            let table = shown.lines().skip_while(|line| !line.starts_with("STEP "));
            let table: Vec<_> = table.take_while(|line| !line.is_empty()).collect();
            assert_eq!(table.len(), 6, "{shown}");
            assert!(table.iter().all(|line| line.width() <= room), "{shown}");
            assert_eq!(table[0].contains("RESULT"), room > 60, "{shown}");
        }
    }

    #[test]
    fn a_step_that_succeeded_in_its_second_try_says_so_and_others_have_no_tries() {
        let mut run = failed_run();
        run.steps[1].provenance.attempts = 1;
        assert!(!summary(&run, true).contains("TRIES"));
        run.steps[4].provenance.attempts = 2;
        let shown = summary(&run, true);
        let row = shown
            .lines()
            .find(|line| line.starts_with("clean "))
            .unwrap();
        let row: Vec<_> = row.split_whitespace().take(4).collect();
        assert_eq!(row, ["clean", "succeeded", "2", "250"]);
    }

    #[test]
    fn a_failure_has_its_label_and_its_key() {
        let mut run = failed_run();
        run.steps[1].step.label = Some("Test on Linux".to_owned());
        let shown = summary(&run, true);
        let head =
            "failed: Test on Linux (test[os=linux], exec) after 1 min 01 s in try 3, cause: code";
        assert!(shown.lines().any(|line| line == head), "{shown}");
        assert!(
            shown.contains("\nTest on Linux (test[os=linux])  failed"),
            "{shown}"
        );
    }

    #[test]
    fn of_a_message_the_table_has_the_first_line_without_colours() {
        let mut run = failed_run();
        let StepOutcome::Failed { message, .. } = &mut run.steps[1].outcome else {
            panic!("it failed")
        };
        *message = "\u{1b}[31m`sh` exited\u{1b}[0m with code 1\n2".to_owned();
        let shown = summary(&run, true);
        let row = shown
            .lines()
            .find(|line| line.starts_with("test[os=linux] "));
        assert!(
            row.unwrap().ends_with("  `sh` exited with code 1"),
            "{shown}"
        );
        assert!(
            shown.contains("\n  `sh` exited with code 1\n  2\n"),
            "{shown}"
        );
    }

    /// The summary behind a view that shows no output, of a run that writes so many lines and fails.
    fn behind_the_view(lines: usize, is_kept: bool) -> String {
        let mut run = failed_run();
        let line = |number: usize| OutputLine {
            port: "stdout".to_owned(),
            text: format!("file {number}"),
        };
        run.steps[0].output = (1..=lines).map(line).collect();
        let shown = Summary {
            report: &run,
            is_kept,
            room: None,
            was_shown: false,
        };
        anstream::adapter::strip_str(&shown.to_string()).to_string()
    }

    #[test]
    fn few_lines_that_nobody_has_seen_are_shown_and_of_many_the_command_that_prints_them() {
        let few = behind_the_view(2, true);
        assert!(
            few.contains("\nfetch | file 1\nfetch | file 2\n\nSTEP "),
            "{few}"
        );
        assert!(!few.contains("output: "), "{few}");
        // What failed has its lines above.
        assert!(!few.contains("test[os=linux] | "), "{few}");

        let many = behind_the_view(MAX_OUTPUT + 1, true);
        assert!(!many.contains("fetch | "), "{many}");
        let command = format!(
            "\noutput: vox runs logs {}\nrelease failed",
            failed_run().run
        );
        assert!(many.contains(&command), "{many}");
        let unkept = behind_the_view(MAX_OUTPUT + 1, false);
        assert!(unkept.contains("output: `vox run --plain` "), "{unkept}");

        let none = behind_the_view(0, true);
        assert!(
            !none.contains(" | file") && !none.contains("output: "),
            "{none}"
        );
        assert_eq!(none, summary(&failed_run(), true));
    }

    #[test]
    fn a_long_line_is_shortened_once_and_what_a_runner_repeats_of_it_is_left_out() {
        let mut run = failed_run();
        let long = "x".repeat(300_000);
        run.steps[1].output[1].text = long.clone() + " ";
        let StepOutcome::Failed { message, .. } = &mut run.steps[1].outcome else {
            panic!("it failed")
        };
        *message = format!("`cargo` exited with code 101\n{}", &long[..512]);
        let shown = summary(&run, true);
        let of_it = shown.lines().filter(|line| line.starts_with("  "));
        let of_it: Vec<_> = of_it.filter(|line| line.contains("xx")).collect();
        assert_eq!(of_it, [format!("  | {}…", "x".repeat(MAX_LINE))]);
        assert!(shown.contains("all of it: vox runs logs "), "{shown}");
    }
}
