//! Errors on standard error: for people with place, excerpt and hint, for programs as one object.

use std::fmt::Write as _;

use serde::Serializer;
use serde_json::{Value, json};
use vox_contract::Problem;

use super::excerpt::Excerpt;
use super::style::{BAD, DIM, HINT, paint};
use super::{Output, complain};
use crate::error::Failure;

/// The most problems of a file that people are shown in full.
const MAX_PROBLEMS: usize = 10;

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
        let in_full = source.problems.len().min(MAX_PROBLEMS);
        let (shown, rest) = source.problems.split_at(in_full);
        for problem in shown {
            let excerpt = Excerpt {
                file: &source.file,
                text: &source.text,
                problem,
            };
            let _ = write!(text, "{excerpt}");
        }
        if !rest.is_empty() {
            let is_alike = |problem: &Problem| {
                let mut shown = shown.iter();
                shown.any(|shown| shown.message == problem.message)
            };
            let alike = if rest.iter().all(is_alike) {
                " like these"
            } else {
                ""
            };
            let number = rest.len();
            let more = format!("and {number} more{alike}; `--format json` has all of them");
            let _ = writeln!(text, "{}", paint(DIM, more));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Why a plan of so many steps is refused that all have one key which there is not.
    fn refused(steps: usize, key: impl Fn(usize) -> String) -> Failure {
        let mut plan = "[pipeline]\nname = \"p\"\n".to_owned();
        for step in 0..steps {
            let key = key(step);
            plan += &format!("[[step]]\nkey = \"s{step}\"\nuses = \"exec\"\n{key} = []\n");
        }
        vox_run::Plan::parse(&plan, "p.toml").unwrap_err().into()
    }

    fn shown(failure: &Failure) -> String {
        anstream::adapter::strip_str(&human(failure)).to_string()
    }

    #[test]
    fn of_many_problems_people_are_shown_ten_and_told_of_the_rest() {
        let failure = refused(300, |_| "neds".to_owned());
        let text = shown(&failure);
        assert_eq!(text.matches("there is no key `neds` here").count(), 10);
        let more = "\nand 290 more like these; `--format json` has all of them\n";
        assert!(text.ends_with(more), "{text}");
        let problems = &machine(&failure)["error"]["problems"];
        assert_eq!(problems.as_array().map(Vec::len), Some(300));

        let text = shown(&refused(11, |step| format!("neds{step}")));
        assert!(
            text.ends_with("\nand 1 more; `--format json` has all of them\n"),
            "{text}"
        );
        let text = shown(&refused(10, |_| "neds".to_owned()));
        assert!(!text.contains(" more"), "{text}");
    }
}
