//! Colours: which meaning has which.
//!
//! Styles are written as ANSI escapes everywhere and taken out again at the edge, where the stream
//! that is written to does not want them.

use std::fmt;

use anstyle::{AnsiColor, Style};
use clap::builder::Styles;

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

/// Text of a plugin or a file in one line: what would move the cursor, change colours or begin a
/// new line is replaced, so that no manifest can paint over what Vox says.
pub fn plain(text: &str) -> String {
    let words: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    words.join(" ").replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_strangers_cannot_paint() {
        assert_eq!(plain("a\n  b\r\n"), "a b");
        assert_eq!(plain("\u{1b}[2Jgone"), "\u{fffd}[2Jgone");
    }
}
