//! A problem in a file, with the line that it is about.

use std::fmt::{self, Write as _};
use std::path::Path;

use unicode_width::UnicodeWidthStr;
use vox_contract::Problem;

use super::style::{BAD, DIM, HINT, paint, plain};

/// A problem and the text that it is in.
pub struct Excerpt<'a> {
    /// The file, as it is named to the user.
    pub file: &'a Path,
    /// Its text.
    pub text: &'a str,
    /// What is wrong.
    pub problem: &'a Problem,
}

/// The most of one line that is shown, in columns.
const MAX_COLUMNS: usize = 160;

impl fmt::Display for Excerpt<'_> {
    /// Writes the message, where it is, the line, and the hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            line,
            column,
            message,
            hint,
            ..
        } = self.problem;
        writeln!(f, "{} {}", paint(BAD, "error:"), plain(message))?;
        writeln!(
            f,
            "  {} {}:{line}:{column}",
            paint(DIM, "at"),
            self.file.display()
        )?;
        if let Some((shown, marks)) = self.marked() {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            let bar = paint(DIM, "|");
            writeln!(f, "  {margin} {bar}")?;
            writeln!(f, "  {} {bar} {shown}", paint(DIM, &number))?;
            writeln!(f, "  {margin} {bar} {}", paint(BAD, marks))?;
        }
        if let Some(hint) = hint {
            writeln!(f, "  {} {}", paint(HINT, "hint:"), plain(hint))?;
        }
        Ok(())
    }
}

impl Excerpt<'_> {
    /// The first line that the problem covers, and marks below what it covers of it. None when the
    /// problem is about the file as a whole.
    fn marked(&self) -> Option<(String, String)> {
        let text = self.text;
        let start = text.floor_char_boundary(self.problem.span.start);
        let end = text.ceil_char_boundary(self.problem.span.end.max(start));
        if start == 0 && end == 0 {
            return None;
        }
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..]
            .find('\n')
            .map_or(text.len(), |newline| start + newline);
        let before = visible(&text[line_start..start]);
        let covered = visible(&text[start..end.min(line_end)]);
        let after = visible(&text[end.min(line_end)..line_end]);
        if before.width() >= MAX_COLUMNS {
            return None;
        }
        let mut shown = format!("{before}{covered}{after}").trim_end().to_owned();
        let mut width = covered.width().max(1);
        if shown.width() > MAX_COLUMNS {
            shown = shown.chars().take(MAX_COLUMNS).collect();
            shown.push('…');
            width = width.min(MAX_COLUMNS - before.width());
        }
        let mut marks = String::new();
        // Writing to a `String` cannot fail.
        let _ = write!(marks, "{:1$}{2}", "", before.width(), "^".repeat(width));
        Some((shown, marks))
    }
}

/// Part of a line as it is shown: tabs have one width everywhere, and nothing moves the cursor.
fn visible(text: &str) -> String {
    text.trim_end_matches('\r')
        .replace('\t', "    ")
        .replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use vox_contract::Settings;

    fn show(text: &str) -> String {
        let file = Path::new("Vox.toml");
        let error = Settings::parse(text, file).unwrap_err();
        let problem = error.problems().first().unwrap();
        let excerpt = Excerpt {
            file,
            text,
            problem,
        }
        .to_string();
        anstream::adapter::strip_str(&excerpt).to_string()
    }

    #[test]
    fn the_line_is_shown_with_marks_below_what_is_wrong() {
        let text = show("[plugin.redact]\n\tprefre = \"native\"\n");
        assert!(text.contains("  at Vox.toml:2:2\n"), "{text}");
        assert!(
            text.contains("\n  2 |     prefre = \"native\"\n    |     ^^^^^^\n"),
            "{text}"
        );
        assert!(text.ends_with("  hint: did you mean `prefer`?\n"), "{text}");
    }

    #[test]
    fn marks_stand_below_wide_letters_too() {
        let text = show("[plugin]\n\"日本\" = 1\n");
        assert!(
            text.contains("\n  2 | \"日本\" = 1\n    | ^^^^^^\n"),
            "{text}"
        );
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let text = show(&format!("idd = \"{}\"", "x".repeat(100_000)));
        assert!(text.lines().all(|line| line.width() < 200), "{text}");
    }
}
