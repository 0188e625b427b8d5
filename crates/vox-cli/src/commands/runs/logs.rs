//! `vox runs logs`: what the steps of a run wrote.
//!
//! A step whose result was taken over wrote nothing in this run: what is printed for it is what it wrote in
//! the run that carried it out.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use vox_run::record::{RecordedRun, RunState};
use vox_run::{EventKind, History, RecordError, RunEvent, RunId};

use super::named::{NamedRun, made_by_matrix};
use super::replay::print_event;
use crate::commands::run::view::{EventLine, Lines, logs_command};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::plain;
use crate::{interrupt, output};

/// How often it is looked whether a run has written more.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Arguments of `vox runs logs`.
#[derive(Debug, Args)]
#[command(
    after_help = "Of one step everything that it wrote is printed as it was, also its colours, unless --color says \
                  `never`;\nbytes that are no UTF-8 are replaced by U+FFFD when they are kept. Of all steps each line \
                  is printed with its\nstep before it. With --format json the run's `step-output` events are printed, \
                  one a line."
)]
pub struct LogsArgs {
    #[command(flatten)]
    run: NamedRun,
    /// Only of this step
    #[arg(value_name = "STEP")]
    step: Option<String>,
    /// Only what was written to this port, such as stdout
    #[arg(long, value_name = "PORT")]
    port: Option<String>,
    /// Go on until the run is over
    #[arg(short, long)]
    follow: bool,
}

pub(super) fn run(context: &Context, arguments: &LogsArgs) -> Result<Exit, Failure> {
    let history = super::history(context)?;
    let asked = arguments.run.find(&history)?;
    let (run, step) = match &arguments.step {
        Some(step) => {
            let (run, step) = source(context, &history, asked, step)?;
            (run, Some(step))
        }
        None => (asked, None),
    };
    let mut transcript = super::transcript(&history, run)?;
    let mut printer = Printer {
        context,
        run,
        step,
        port: arguments.port.as_deref(),
        lines: Lines::default(),
        over: false,
        silent: true,
    };
    let cancel = arguments.follow.then(interrupt::token);
    // Looked at before the events are read, so that none that a run told last is missed.
    let mut goes_on = true;
    while goes_on {
        goes_on = cancel.is_some() && is_running(&history, run)?;
        for event in transcript.by_ref() {
            printer.tell(&event?)?;
        }
        goes_on &= !printer.over;
        if let (true, Some(cancel)) = (goes_on, &cancel) {
            let _ = cancel.cancelled().recv_timeout(LOOK_EVERY);
            if cancel.is_cancelled() {
                return Ok(Exit::Interrupted);
            }
        }
    }
    if printer.silent {
        context.output.note("nothing was written");
    }
    Ok(Exit::Success)
}

fn is_running(history: &History, run: RunId) -> Result<bool, Failure> {
    let found = history.summary_of(run)?;
    Ok(found.is_some_and(|found| matches!(found.state, RunState::Running(_))))
}

/// Prints what is asked for of the events of a run.
struct Printer<'a> {
    context: &'a Context,
    run: RunId,
    step: Option<String>,
    port: Option<&'a str>,
    lines: Lines,
    /// Whether the end of the run was told.
    over: bool,
    /// Whether nothing was printed.
    silent: bool,
}

impl Printer<'_> {
    fn tell(&mut self, event: &RunEvent) -> Result<(), Failure> {
        match &event.kind {
            EventKind::RunStarted { steps, .. } => {
                self.over = false;
                let keys: Vec<&str> = steps.iter().map(|step| step.key.as_str()).collect();
                if let Some(step) = &self.step
                    && !keys.contains(&step.as_str())
                {
                    return Err(no_step(self.run, step, &keys));
                }
                // This is where the lines learn how wide they are.
                let _ = self.line(event);
                Ok(())
            }
            EventKind::StepOutput { step, port, text } => {
                let other_step = self.step.as_ref().is_some_and(|wanted| wanted != step);
                let other_port = self.port.is_some_and(|wanted| wanted != port);
                if other_step || other_port {
                    return Ok(());
                }
                self.silent = false;
                if !self.context.output.is_human() {
                    return print_event(event);
                }
                if self.step.is_some() {
                    return output::pass_on(text.as_bytes());
                }
                let line = self.line(event);
                output::print(line.as_bytes())
            }
            EventKind::StepEnded {
                step, provenance, ..
            } if self.step.is_none() => {
                let elsewhere = provenance.cached.or(provenance.earlier);
                if let Some(from) = elsewhere.filter(|from| *from != self.run) {
                    self.context.output.note(format_args!(
                        "`{}` was carried out by run {from}: {}",
                        plain(step),
                        logs_command(from, step)
                    ));
                }
                Ok(())
            }
            EventKind::RunEnded { .. } => {
                self.over = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn line(&mut self, event: &RunEvent) -> String {
        let lines = &mut self.lines;
        EventLine { event, lines }.text()
    }
}

/// The run that carried a step out whose result `run` has, and what the step is called there.
fn source(
    context: &Context,
    history: &History,
    mut run: RunId,
    step: &str,
) -> Result<(RunId, String), Failure> {
    let mut step = step.to_owned();
    let mut seen = BTreeSet::from([run]);
    let mut here = history.load(run)?;
    loop {
        let provenance = here.ends.get(&step).map(|end| &end.provenance);
        let elsewhere = provenance.and_then(|provenance| provenance.cached.or(provenance.earlier));
        let Some(from) = elsewhere.filter(|from| seen.insert(*from)) else {
            return Ok((run, step));
        };
        let there = match history.load(from) {
            Err(RecordError::NoRun { .. }) => return Err(gone(run, &step, from)),
            loaded => loaded?,
        };
        let Some(name) = namesake(&step, &here, &there) else {
            return Err(gone(run, &step, from));
        };
        context.output.note(format_args!(
            "`{}` was carried out by run {from}; this is its log",
            plain(&step)
        ));
        (run, step, here) = (from, name, there);
    }
}

/// What a step is called in the run that its result comes from. The same result may be that of a step with
/// another name: its name is not in the key of the cache.
fn namesake(step: &str, here: &RecordedRun, there: &RecordedRun) -> Option<String> {
    let (key, parts) = (here.keys.get(step), here.parts.get(step));
    let is_same = |name: &str| {
        there.keys.get(name) == key
            && parts.is_some_and(|parts| there.parts.get(name) == Some(parts))
    };
    let same = || there.parts.keys().find(|name| is_same(name)).cloned();
    // A rerun names what it took over as the run before did, and says no more of it than the key.
    if key.is_some() && parts.is_some() && !is_same(step) {
        return same();
    }
    there.ends.contains_key(step).then(|| step.to_owned())
}

fn gone(run: RunId, step: &str, from: RunId) -> Failure {
    let message = format!(
        "run {run} took the result of `{}` over from run {from}, of which the log says nothing any more",
        plain(step)
    );
    Failure::new(Exit::NotFound, message).hint("`vox run --no-cache` carries it out again")
}

fn no_step(run: RunId, step: &str, keys: &[&str]) -> Failure {
    let message = format!("run {run} has no step `{}`", plain(step));
    let hint = made_by_matrix(step, keys.iter().copied()).unwrap_or_else(|| {
        match vox_contract::nearest(step, keys.iter().copied()) {
            Some(near) => format!("did you mean `{}`?", plain(near)),
            None => format!("its steps are {}", plain(&keys.join(", "))),
        }
    });
    Failure::new(Exit::NotFound, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use vox_run::report::Provenance;

    use super::super::fixture::{recorded, with_step};
    use super::*;

    /// A run with steps, each with the text that its key is made of, if it has one.
    fn run(steps: &[(&str, Option<&str>)]) -> RecordedRun {
        steps.iter().fold(recorded(), |run, (step, part)| {
            let parts: Vec<(&str, &str)> = part.iter().map(|part| ("arguments", *part)).collect();
            with_step(run, step, Provenance::default(), &parts)
        })
    }

    #[test]
    fn a_cached_step_is_found_by_what_its_key_is_made_of_whatever_it_is_called() {
        let there = run(&[("build", Some("one")), ("test", Some("two"))]);
        let here = run(&[("compile", Some("one")), ("test", Some("two"))]);
        assert_eq!(namesake("compile", &here, &there).as_deref(), Some("build"));
        assert_eq!(namesake("test", &here, &there).as_deref(), Some("test"));
        let swapped = run(&[("test", Some("one"))]);
        assert_eq!(namesake("test", &swapped, &there).as_deref(), Some("build"));
        assert_eq!(
            namesake("other", &run(&[("other", Some("3"))]), &there),
            None
        );
    }

    #[test]
    fn a_step_without_a_key_keeps_its_name() {
        let there = run(&[("build", Some("one"))]);
        assert_eq!(
            namesake("build", &run(&[("build", None)]), &there).as_deref(),
            Some("build")
        );
        assert_eq!(namesake("gone", &run(&[("gone", None)]), &there), None);
    }
}
