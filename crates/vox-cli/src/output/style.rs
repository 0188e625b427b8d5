//! Colours: which meaning has which.
//!
//! Styles are written as ANSI escapes everywhere and taken out again at the edge, where the stream
//! that is written to does not want them.

use std::borrow::Cow;
use std::fmt;

use anstyle::{AnsiColor, Style};
use clap::builder::Styles;
use unicode_width::UnicodeWidthChar as _;

/// Titles.
pub const HEADING: Style = Style::new().bold().underline();
/// What is typed as it stands: commands, ids, keys.
pub const LITERAL: Style = AnsiColor::Cyan.on_default();
/// What went well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What deserves a look.
pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// What went wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What helps.
pub const HINT: Style = AnsiColor::Green.on_default().bold();
/// What can be skipped in reading.
pub const DIM: Style = Style::new().dimmed();
/// What stands out without being good or bad.
pub const STRONG: Style = Style::new().bold();

/// The same for what clap prints.
pub const CLAP: Styles = Styles::styled()
    .header(HEADING)
    .usage(HEADING)
    .literal(LITERAL)
    .error(BAD)
    .valid(GOOD)
    .invalid(WARNING);

/// A text in a style.
pub fn paint(style: Style, text: impl fmt::Display) -> impl fmt::Display {
    Painted { style, text }
}

struct Painted<T> {
    style: Style,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { style, text } = self;
        write!(f, "{style}{text}{style:#}")
    }
}

/// Text of a plugin or a file in one line: colours are left out, and what would move the cursor or
/// begin a new line is replaced, so that no manifest can paint over what Vox says.
pub fn plain(text: &str) -> String {
    let bare = uncoloured(text);
    let words: Vec<&str> = bare
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    words.join(" ").replace(char::is_control, "\u{fffd}")
}

fn uncoloured(text: &str) -> Cow<'_, str> {
    let mut bare = Cow::Borrowed("");
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        let (kept, taken) = match length_of_colour(&rest[at..]) {
            Some(length) => (at, at + length),
            None => (at + 1, at + 1),
        };
        bare += &rest[..kept];
        rest = &rest[taken..];
    }
    bare + rest
}

/// A line that a step wrote: its colours stay, and end with it. What else a terminal would obey is
/// replaced, so that no output can paint over what Vox says.
pub fn tame(line: &str) -> String {
    let mut rest = line.trim_end_matches('\r');
    let mut tamed = String::with_capacity(rest.len());
    let mut is_coloured = false;
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
        let (before, from) = rest.split_at(at);
        tamed.push_str(before);
        if let Some(length) = length_of_colour(from) {
            tamed.push_str(&from[..length]);
            is_coloured = true;
            rest = &from[length..];
        } else {
            tamed.push('\u{fffd}');
            let mut letters = from.chars();
            letters.next();
            rest = letters.as_str();
        }
    }
    tamed.push_str(rest);
    if is_coloured {
        tamed.push_str("\u{1b}[0m");
    }
    tamed
}

/// The same of at most so many columns, behind which an ellipsis stands for the rest.
pub fn tame_within(line: &str, columns: usize) -> String {
    let mut width = 0;
    let mut rest = line;
    while let Some(letter) = rest.chars().next() {
        if let Some(length) = length_of_colour(rest) {
            rest = &rest[length..];
            continue;
        }
        width += letter.width().unwrap_or(1);
        if width > columns {
            return tame(&line[..line.len() - rest.len()]) + "…";
        }
        rest = &rest[letter.len_utf8()..];
    }
    tame(line)
}

/// The length of the sequence that a text begins with, if that is one that chooses colours (ECMA-48, SGR).
fn length_of_colour(text: &str) -> Option<usize> {
    const BEGIN: &str = "\u{1b}[";
    let parameters = text.strip_prefix(BEGIN)?;
    let end = parameters.find(|c: char| !matches!(c, '0'..='9' | ';' | ':'))?;
    let length = BEGIN.len() + end + 1;
    parameters[end..].starts_with('m').then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_strangers_cannot_paint() {
        assert_eq!(plain("a\n  b\r\n"), "a b");
        assert_eq!(plain("\u{1b}[2Jgone"), "\u{fffd}[2Jgone");
        assert_eq!(plain("a \u{1b}[1;31mred\u{1b}[0m\n\u{1b}[m\nb"), "a red b");
        assert_eq!(plain("\u{1b}\u{1b}[0m\u{1b}"), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_long_line_is_cut_between_letters_and_colours() {
        let red = "\u{1b}[31m";
        for (written, shown) in [
            ("four".to_owned(), "four".to_owned()),
            ("fives".to_owned(), "five…".to_owned()),
            (format!("{red}four"), format!("{red}four\u{1b}[0m")),
            (format!("{red}fives"), format!("{red}five\u{1b}[0m…")),
            (
                format!("fo{red}u{red}rs"),
                format!("fo{red}u{red}r\u{1b}[0m…"),
            ),
            ("日本語".to_owned(), "日本…".to_owned()),
        ] {
            assert_eq!(tame_within(&written, 4), shown, "{written:?}");
        }
        let long = "x".repeat(300_000);
        assert_eq!(tame_within(&long, 100).chars().count(), 101);
    }

    #[test]
    fn a_line_keeps_its_colours_to_itself_and_moves_nothing() {
        for (written, shown) in [
            ("a\tb\r", "a\tb"),
            ("\u{1b}[31mred", "\u{1b}[31mred\u{1b}[0m"),
            (
                "\u{1b}[38;2;1:2:3mx\u{1b}[m y",
                "\u{1b}[38;2;1:2:3mx\u{1b}[m y\u{1b}[0m",
            ),
            ("\u{1b}[2J\u{1b}[Hgone", "\u{fffd}[2J\u{fffd}[Hgone"),
            ("\u{1b}]0;title\u{7}", "\u{fffd}]0;title\u{fffd}"),
            ("10%\r20%\u{8}", "10%\u{fffd}20%\u{fffd}"),
            ("\u{9b}2J", "\u{fffd}2J"),
            ("cut \u{1b}[3", "cut \u{fffd}[3"),
            ("\u{1b}", "\u{fffd}"),
        ] {
            assert_eq!(tame(written), shown, "{written:?}");
        }
    }
}
