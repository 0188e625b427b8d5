//! A run for people: a line for each event.

use std::fmt::{self, Write as _};
use std::time::Duration;

use anstyle::Style;
use unicode_width::UnicodeWidthStr as _;
use vox_run::report::Provenance;
use vox_run::{EventKind, RunEvent, RunId, StepOutcome};

use crate::output::shortened;
use crate::output::style::{BAD, DIM, GOOD, LITERAL, STRONG, WARNING, paint, plain, tame};

/// The length of the line of a plugin's event, in columns: what plugins tell programs may be long,
/// and programs get all of it (`--format json`, `--events`).
const MAX_EVENT: usize = 100;

/// What the lines of a run have in common.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Width of the longest key of a step.
    width: usize,
}

/// An event as lines.
pub(crate) struct EventLine<'a> {
    /// The event.
    pub(crate) event: &'a RunEvent,
    /// The run's lines.
    pub(crate) lines: &'a mut Lines,
}

impl EventLine<'_> {
    /// The lines; empty for an event that the summary tells.
    pub(crate) fn text(self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(self, out: &mut String) -> fmt::Result {
        match &self.event.kind {
            EventKind::RunStarted {
                pipeline, steps, ..
            } => {
                self.lines.width = steps.iter().map(|step| step.key.width()).max().unwrap_or(0);
                let pipeline = paint(STRONG, plain(pipeline));
                writeln!(
                    out,
                    "{} {pipeline} {}",
                    paint(DIM, "run"),
                    paint(DIM, self.event.run)
                )
            }
            EventKind::StepStarted { step, attempt } => {
                let key = self.key(LITERAL, step);
                match attempt {
                    1 => writeln!(out, "{key} {}", paint(DIM, "started")),
                    _ => writeln!(out, "{key} {} try {attempt}", paint(DIM, "started")),
                }
            }
            EventKind::StepRetried {
                step,
                attempt,
                outcome,
                wait,
            } => {
                let key = self.key(LITERAL, step);
                let failed = paint(WARNING, format!("try {attempt} failed"));
                let wait = seconds(*wait);
                writeln!(out, "{key} {failed}, again in {wait}: {}", text_of(outcome))
            }
            EventKind::StepOutput { step, port, text } => {
                let bar = bar(port);
                let key = self.key(DIM, step);
                text.lines()
                    .try_for_each(|line| writeln!(out, "{key} {bar} {}", tame(line)))
            }
            EventKind::StepEnded {
                step,
                outcome,
                provenance,
                duration,
            } => {
                let key = self.key(LITERAL, step);
                let status = paint(style_of(outcome), outcome.status());
                writeln!(
                    out,
                    "{key} {status} {}",
                    said(outcome, provenance, *duration)
                )
            }
            EventKind::Plugin(event) => {
                let name = format!("{}: {}", event.plugin, plain(&event.name));
                let step = event.step.as_deref().unwrap_or_default();
                let before = self.lines.width.max(step.width()) + name.width() + 2;
                let room = MAX_EVENT.saturating_sub(before);
                let payload = shortened(plain(&event.payload.to_string()), room);
                let key = self.key(DIM, step);
                writeln!(
                    out,
                    "{key} {} {}",
                    paint(LITERAL, name),
                    paint(DIM, payload)
                )
            }
            EventKind::Warning { message } => {
                writeln!(out, "{} {}", paint(WARNING, "warning:"), plain(message))
            }
            _ => Ok(()),
        }
    }

    fn key(&self, style: Style, step: &str) -> String {
        let room = self.lines.width.saturating_sub(step.width());
        format!("{}{:room$}", paint(style, plain(step)), "")
    }
}

pub(super) fn style_of(outcome: &StepOutcome) -> Style {
    match outcome {
        StepOutcome::Succeeded { .. } => GOOD,
        StepOutcome::Failed { .. } => BAD,
        StepOutcome::Cancelled { .. } | StepOutcome::Skipped { .. } => WARNING,
    }
}

/// What there is to say of a step besides its status.
fn said(outcome: &StepOutcome, provenance: &Provenance, duration: Duration) -> String {
    let text = text_of(outcome);
    let how = match outcome {
        StepOutcome::Skipped { .. } => return text,
        _ if provenance.cached.is_some() => "from the cache".to_owned(),
        _ if provenance.earlier.is_some() => "before".to_owned(),
        _ => format!("in {}", seconds(duration)),
    };
    if text.is_empty() {
        how
    } else {
        format!("{how}: {text}")
    }
}

/// The first line of what there is to say of a step, which says it all.
pub(super) fn text_of(outcome: &StepOutcome) -> String {
    let mut lines = outcome.text().lines().map(plain);
    lines.find(|line| !line.is_empty()).unwrap_or_default()
}

/// What a step is called in a table.
pub(crate) fn named(key: &str, label: Option<&str>) -> String {
    label.map_or_else(|| key.to_owned(), |label| format!("{label} ({key})"))
}

/// What stands before a line that was written to a port.
pub(super) fn bar(port: &str) -> impl fmt::Display {
    let style = if port == "stderr" { WARNING } else { DIM };
    paint(style, "|")
}

/// The command that prints what a step of a run wrote, as it can be pasted into a shell.
pub(crate) fn logs_command(run: RunId, step: &str) -> String {
    let step = plain(step);
    // What begins so is an option, in quotes as well.
    let end_of_options = if step.starts_with('-') { "-- " } else { "" };
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:".contains(c);
    let word = if step.chars().all(is_plain) {
        step
    } else {
        format!("'{}'", step.replace('\'', r"'\''"))
    };
    format!("vox runs logs {run} {end_of_options}{word}")
}

/// A duration as people read it.
pub(crate) fn seconds(duration: Duration) -> String {
    match duration {
        short if short < Duration::from_millis(1) => format!("{} µs", short.as_micros()),
        short if short < Duration::from_secs(1) => format!("{} ms", short.as_millis()),
        long if long < Duration::from_secs(60) => format!("{:.2} s", long.as_secs_f64()),
        long => format!("{} min {:02} s", long.as_secs() / 60, long.as_secs() % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_given_in_the_unit_that_fits() {
        let show = |nanos| seconds(Duration::from_nanos(nanos));
        assert_eq!(show(900), "0 µs");
        assert_eq!(show(1_500_000), "1 ms");
        assert_eq!(show(2_500_000_000), "2.50 s");
        assert_eq!(show(125_000_000_000), "2 min 05 s");
    }
}
