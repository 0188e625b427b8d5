//! Errors on standard error: for people with place, excerpt and hint, for programs as one object.

use std::fmt::Write as _;

use serde::Serializer;
use serde_json::{Value, json};
use vox_contract::Problem;

use super::excerpt::Excerpt;
use super::style::{BAD, HINT, paint};
use super::{Output, complain};
use crate::error::Failure;

/// Tells why a command failed.
pub fn failure(output: Output, failure: &Failure) {
    if failure.is_quiet() {
        return;
    }
    if output.is_human() {
        complain(format_args!("{}", human(failure)));
    } else {
        complain(format_args!("{}\n", machine(failure)));
    }
}

/// The report for people.
pub fn human(failure: &Failure) -> String {
    let mut text = String::new();
    // Writing to a `String` cannot fail, here and below.
    if let Some(source) = failure.source_file() {
        for problem in &source.problems {
            let excerpt = Excerpt {
                file: &source.file,
                text: &source.text,
                problem,
            };
            let _ = write!(text, "{excerpt}");
        }
    } else {
        let _ = writeln!(
            text,
            "{} {}",
            paint(BAD, "error:"),
            indented(failure.message())
        );
    }
    if let Some(hint) = failure.hint_text() {
        let _ = writeln!(text, "  {} {}", paint(HINT, "hint:"), indented(hint));
    }
    text
}

/// The report for programs: `{"error": {"code", "message", "hint", "file", "problems"}}`.
fn machine(failure: &Failure) -> Value {
    let mut error = json!({
        "code": failure.exit().code(),
        "message": failure.message(),
        "hint": failure.hint_text(),
    });
    if let Some(source) = failure.source_file() {
        error["file"] = source.file.display().to_string().into();
        error["problems"] = source.problems.iter().map(problem).collect();
    }
    json!({ "error": error })
}

/// A problem of a file for programs.
fn problem(problem: &Problem) -> Value {
    let Problem {
        line,
        column,
        message,
        hint,
        ..
    } = problem;
    json!({ "line": line, "column": column, "message": message, "hint": hint })
}

/// Problems of a file as an array of objects, for `serde`.
pub fn serialize_problems<S: Serializer>(
    problems: &[Problem],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(problems.iter().map(problem))
}

/// A text whose further lines stand below its first. Nothing in it moves the cursor.
fn indented(text: &str) -> String {
    let lines = text
        .trim_end()
        .lines()
        .map(|line| line.replace(char::is_control, "\u{fffd}"));
    lines.collect::<Vec<_>>().join("\n  ")
}
