//! A step that failed, as people are told of it at the end of a run, and when they look at it again.

use std::fmt;

use vox_run::RunId;
use vox_run::report::OutputLine;

use super::view::{bar, logs_command};
use crate::output::style::{BAD, DIM, STRONG, paint, plain, tame_within};
use crate::output::{count, shortened};

/// The most of one line of a failure that is shown, in columns; the command below it prints the whole.
pub(super) const MAX_LINE: usize = 500;

/// What failed, how long and how often, why, and the last that it wrote.
pub(crate) struct FailedStep<'a> {
    /// The run.
    pub(crate) run: RunId,
    /// The step's key.
    pub(crate) key: &'a str,
    /// What people read beside it.
    pub(crate) label: Option<&'a str>,
    /// The runner, where it is known.
    pub(crate) runner: Option<&'a str>,
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// How long it took, as people read it.
    pub(crate) time: String,
    /// What kind of failure it is.
    pub(crate) cause: &'a str,
    /// Why.
    pub(crate) message: &'a str,
    /// The last lines that it wrote.
    pub(crate) output: &'a [OutputLine],
    /// How many steps did not run because of it.
    pub(crate) skipped: usize,
    /// Whether everything that it wrote is kept.
    pub(crate) is_kept: bool,
}

impl fmt::Display for FailedStep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = plain(self.key);
        let (name, mut about) = match self.label {
            Some(label) => (plain(label), vec![key.as_str()]),
            None => (key.clone(), Vec::new()),
        };
        about.extend(self.runner);
        let about = if about.is_empty() {
            String::new()
        } else {
            format!(" ({})", about.join(", "))
        };
        let time = &self.time;
        let tries = match self.attempts {
            0 => ", not started".to_owned(),
            1 => format!(" after {time}"),
            tries => format!(" after {time} in try {tries}"),
        };
        writeln!(
            f,
            "{} {}{about}{tries}, cause: {}",
            paint(BAD, "failed:"),
            paint(STRONG, name),
            self.cause
        )?;
        let lines = self.message.lines();
        for line in lines.filter(|line| !is_written(line, self.output)) {
            writeln!(f, "  {}", shortened(plain(line), MAX_LINE))?;
        }
        if !self.output.is_empty() {
            writeln!(f, "  {}", paint(DIM, "the last that it wrote:"))?;
        }
        for line in self.output {
            writeln!(
                f,
                "  {} {}",
                bar(&line.port),
                tame_within(&line.text, MAX_LINE)
            )?;
        }
        if self.skipped > 0 {
            let steps = count(self.skipped, "step");
            let because = format!("{steps} did not run because of it");
            writeln!(f, "  {}", paint(DIM, because))?;
        }
        if self.is_kept && (!self.output.is_empty() || self.attempts > 1) {
            let hint = format!("all of it: {}", logs_command(self.run, &key));
            writeln!(f, "  {}", paint(DIM, hint))?;
        }
        writeln!(f)
    }
}

/// Whether a line of a message is one that the step wrote and that stands among the last of these: runners often
/// end with them. They trim them, and cut those that are long.
fn is_written(line: &str, output: &[OutputLine]) -> bool {
    const LONG: usize = 256;
    let line = line.trim_end();
    let begins = line.trim_end_matches('\u{fffd}');
    output.iter().any(|written| {
        let written = written.text.trim_end();
        written == line || line.len() > LONG && written.starts_with(begins)
    })
}
