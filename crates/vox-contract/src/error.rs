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

/// A refused file with everything that was found wrong with it.
#[derive(Debug, Clone)]
pub struct Invalid {
    file: PathBuf,
    text: String,
    problems: Vec<Problem>,
}

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
    /// Bytes of [`ManifestError::source_text`] that it concerns.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead, or where to look.
    pub hint: Option<String>,
}

/// A problem whose line is not looked up yet.
#[derive(Debug)]
pub(crate) struct Finding {
    pub span: Range<usize>,
    pub message: String,
    pub hint: Option<String>,
}

/// The error for a file in which `findings` were made; sorts them by place.
pub(crate) fn invalid(file: &Path, text: &str, mut findings: Vec<Finding>) -> ManifestError {
    findings.sort_by_key(|finding| finding.span.start);
    let problems = findings
        .into_iter()
        .map(
            |Finding {
                 span,
                 message,
                 hint,
             }| {
                let (line, column) = position(text, span.start);
                Problem {
                    line,
                    column,
                    span,
                    message,
                    hint,
                }
            },
        )
        .collect();
    ManifestError::Invalid(Box::new(Invalid {
        file: file.into(),
        text: text.into(),
        problems,
    }))
}

/// Line and column of a byte offset, both counted from 1; an offset within a character or beyond
/// the text counts as the nearest place before it.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
    (line, 1 + before[line_start..].chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let text = "a = 1\nß = é é\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, text.rfind('é').unwrap()), (2, 7));
        assert_eq!(position(text, 999), (3, 1));
    }
}
