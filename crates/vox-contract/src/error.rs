//! What can be wrong with a file, with the place and the way out.

use std::{
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why a file of the contract could not be used.
///
/// `Display` prints one `file:line:column: message` for each problem, each followed by its hint on
/// a line of its own.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The file could not be read at all.
    #[error("{}: cannot be read: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The file was read and its content is refused.
    #[error("{0}")]
    Invalid(Box<Invalid>),
    /// A catalogue was asked for a distribution that it does not list.
    #[error("{}: there is no distribution `{name}`\n  hint: {hint}", file.display())]
    UnknownDistribution {
        /// The catalogue.
        file: PathBuf,
        /// What was asked for.
        name: String,
        /// The nearest name, or all of them.
        hint: String,
    },
}

impl ManifestError {
    /// The file at fault.
    pub fn file(&self) -> &Path {
        match self {
            Self::Unreadable { file, .. } | Self::UnknownDistribution { file, .. } => file,
            Self::Invalid(invalid) => &invalid.file,
        }
    }

    /// What is wrong, in the order of the file; empty when the file could not be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Invalid(invalid) => &invalid.problems,
            _ => &[],
        }
    }

    /// The text that the spans of [`problems`](Self::problems) point into; empty when the file
    /// could not be read.
    pub fn source_text(&self) -> &str {
        match self {
            Self::Invalid(invalid) => &invalid.text,
            _ => "",
        }
    }
}

/// A refused text with everything that was found wrong with it.
///
/// It can be made outside this crate so that every file of Vox is refused in one way. `Display`
/// prints one `file:line:column: message` for each problem, each followed by its hint on a line of
/// its own.
#[derive(Debug, Clone)]
pub struct Invalid {
    file: PathBuf,
    text: String,
    problems: Vec<Problem>,
}

impl Invalid {
    /// The refusal of `text` for all of `findings`, which may come in any order; two of one place
    /// keep theirs. `file` is only named.
    pub fn new(file: &Path, text: &str, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.span.start);
        let mut cursor = Cursor::new(text);
        let problems = findings
            .into_iter()
            .map(|finding| cursor.problem(finding))
            .collect();
        Self {
            file: file.into(),
            text: text.into(),
            problems,
        }
    }

    /// The file that is named in the problems.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What is wrong, in the order of the text.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The text that the spans of the problems point into.
    pub fn source_text(&self) -> &str {
        &self.text
    }
}

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
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

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// Bytes of [`Invalid::source_text`] that it concerns.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead, or where to look.
    pub hint: Option<String>,
}

/// A problem whose line and column are not looked up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Bytes of the text that it concerns.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead, or where to look.
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

/// The error for a file in which `findings` were made.
pub(crate) fn invalid(file: &Path, text: &str, findings: Vec<Finding>) -> ManifestError {
    ManifestError::Invalid(Box::new(Invalid::new(file, text, findings)))
}

/// A place in a text that moves forward only, so that a text with many problems is counted once.
struct Cursor<'a> {
    text: &'a str,
    /// Bytes that are counted.
    offset: usize,
    /// Counted from 1.
    line: usize,
    /// In characters, counted from 1.
    column: usize,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            offset: 0,
            line: 1,
            column: 1,
        }
    }

    /// Moves to a byte offset; one within a character or beyond the text counts as the nearest
    /// place before it.
    fn advance(&mut self, offset: usize) {
        let offset = self.text.floor_char_boundary(offset);
        let passed = self.text.get(self.offset..offset).unwrap_or_default();
        let in_line = match passed.rsplit_once('\n') {
            None => passed,
            Some((lines, in_line)) => {
                self.line += 1 + lines.bytes().filter(|byte| *byte == b'\n').count();
                self.column = 1;
                in_line
            }
        };
        self.column += in_line.chars().count();
        self.offset = offset;
    }

    fn problem(&mut self, finding: Finding) -> Problem {
        let Finding {
            span,
            message,
            hint,
        } = finding;
        self.advance(span.start);
        Problem {
            line: self.line,
            column: self.column,
            span,
            message,
            hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_in_the_order_of_the_text_and_columns_count_characters() {
        let text = "a = 1\nß = é é\n";
        let last = text.rfind('é').unwrap();
        let findings =
            [999, last, last + 1, last - 3, 6, 0].map(|start| Finding::new(start..start, "wrong"));
        let invalid = Invalid::new(Path::new("a.toml"), text, findings.into());
        let places: Vec<_> = invalid
            .problems()
            .iter()
            .map(|problem| (problem.line, problem.column))
            .collect();
        assert_eq!(places, [(1, 1), (2, 1), (2, 5), (2, 7), (2, 7), (3, 1)]);
    }

    #[test]
    fn a_refusal_prints_each_place_with_its_way_out() {
        let findings = vec![
            Finding::new(2..3, "no"),
            Finding::new(0..1, "why").hint("leave it out"),
        ];
        let invalid = Invalid::new(Path::new("a.toml"), "a\nb", findings);
        assert_eq!(
            invalid.to_string(),
            "a.toml:1:1: why\n  hint: leave it out\na.toml:2:1: no"
        );
    }
}
