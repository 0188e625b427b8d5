//! What is wrong with a plan.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use vox_contract::Problem;

/// Why a plan is refused: everything that is wrong with it, by its place in the text.
///
/// `Display` prints one `file:line:column: message` for each problem, each followed by its hint on
/// a line of its own.
#[derive(Clone, Debug)]
pub struct PlanError {
    file: PathBuf,
    text: String,
    problems: Vec<Problem>,
}

impl PlanError {
    pub(crate) fn new(file: &Path, text: &str, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.span.start);
        let mut lines = Lines {
            text,
            passed: 0,
            line: 1,
        };
        let problems = findings
            .into_iter()
            .map(|finding| lines.problem(finding))
            .collect();
        Self {
            file: file.into(),
            text: text.into(),
            problems,
        }
    }

    /// What is wrong, in the order of the text.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The file that is named in the problems.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The text that the spans of the problems point into.
    pub fn source_text(&self) -> &str {
        &self.text
    }
}

impl std::error::Error for PlanError {}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            let Problem {
                line,
                column,
                message,
                ..
            } = problem;
            write!(
                f,
                "{separator}{}:{line}:{column}: {message}",
                self.file.display()
            )?;
            if let Some(hint) = &problem.hint {
                write!(f, "\n  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

/// A problem whose line is not looked up yet.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub span: Range<usize>,
    pub message: String,
    pub hint: Option<String>,
}

impl Finding {
    /// A problem that says all in its message.
    pub fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            hint: None,
        }
    }

    /// The same with a way out.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

/// Counts lines once for all the findings of a text, which are sorted by place.
struct Lines<'a> {
    text: &'a str,
    /// Bytes that `line` has been counted up to.
    passed: usize,
    line: usize,
}

impl Lines<'_> {
    fn problem(
        &mut self,
        Finding {
            span,
            message,
            hint,
        }: Finding,
    ) -> Problem {
        let start = self.text.floor_char_boundary(span.start);
        let since = self.text.get(self.passed..start).unwrap_or_default();
        self.line += since.bytes().filter(|byte| *byte == b'\n').count();
        self.passed = start;
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = 1 + before[line_start..].chars().count();
        Problem {
            line: self.line,
            column,
            span,
            message,
            hint,
        }
    }
}

/// A hint for `word`, which is none of `known`: the nearest of them, or some of them.
pub(crate) fn near<'a>(word: &str, known: impl IntoIterator<Item = &'a str>, what: &str) -> String {
    const SHOWN: usize = 12;
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(near) = vox_contract::nearest(word, known.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    let shown: Vec<String> = known
        .iter()
        .take(SHOWN)
        .map(|word| format!("`{word}`"))
        .collect();
    let more = if known.len() > SHOWN { ", …" } else { "" };
    format!("the {what} are {}{more}", shown.join(", "))
}
