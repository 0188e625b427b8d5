//! What is printed, and how.
//!
//! A command answers a [`View`]: a value whose serialised form is the command's documented JSON
//! and which can write itself for people. [`Output`] chooses between the two. Data goes to
//! standard output; notes, questions and errors go to standard error.
//!
//! What must stay true: nothing else in this crate writes to standard output, so that with
//! `--format json` it carries JSON and nothing else; and a reader that went away ends the command
//! quietly ([`Failure::closed`](crate::error::Failure::closed)).

pub mod excerpt;
pub mod report;
pub mod screen;
pub mod style;
pub mod table;

use std::fmt;
use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;
use serde_json::{Value, json};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::cli::{Color, Format};
use crate::error::Failure;

/// What a command has to show.
pub trait View: Serialize {
    /// Writes it for people, with ANSI escapes.
    ///
    /// # Errors
    ///
    /// Whatever `out` answers.
    fn human(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// The process's streams, in the format that was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
}

impl Output {
    /// Output in a format.
    pub const fn new(format: Format) -> Self {
        Self { format }
    }

    /// The format.
    pub const fn format(self) -> Format {
        self.format
    }

    /// Whether people read what is printed.
    pub fn is_human(self) -> bool {
        self.format == Format::Human
    }

    /// Shows what a command answers.
    ///
    /// # Errors
    ///
    /// Standard output cannot be written to.
    pub fn show(self, view: &impl View) -> Result<(), Failure> {
        let mut text = Vec::new();
        match self.format {
            Format::Human => view.human(&mut text)?,
            Format::Json => json(view, &mut text)?,
        }
        print(&text)
    }

    /// Tells people something on the side; programs are not told.
    pub fn note(self, text: impl fmt::Display) {
        if self.is_human() {
            complain(format_args!("{text}\n"));
        }
    }

    /// Tells people and programs of what was done, or left undone, though nobody asked for it: people in a text,
    /// programs in one line, `{"warning": {"message", …}}`, on standard error as errors are.
    pub fn warn(self, text: impl fmt::Display, warning: &Value) {
        if self.is_human() {
            complain(format_args!("{text}\n"));
        } else {
            complain(format_args!("{}\n", json!({ "warning": warning })));
        }
    }

    /// Whether somebody sits there who can answer a question.
    pub fn can_ask(self) -> bool {
        self.is_human() && io::stdin().is_terminal() && io::stderr().is_terminal()
    }
}

/// Writes text with escapes to standard output, without them where they are not wanted.
///
/// # Errors
///
/// Standard output cannot be written to.
pub fn print(text: &[u8]) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text)?;
    Ok(stdout.flush()?)
}

/// Writes what a step wrote to standard output as it is. A file or a pipe gets its colours and its zero bytes as
/// well, unless no colours were asked for.
///
/// # Errors
///
/// Standard output cannot be written to.
pub fn pass_on(text: &[u8]) -> Result<(), Failure> {
    let uncoloured = anstream::ColorChoice::global() == anstream::ColorChoice::Never;
    if uncoloured || io::stdout().is_terminal() {
        return print(text);
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(text)?;
    Ok(stdout.flush()?)
}

/// Writes to standard error. There is nowhere to say that this failed.
pub fn complain(text: fmt::Arguments<'_>) {
    let _ = anstream::stderr().lock().write_fmt(text);
}

/// Writes a value as JSON, indented, with a line break at the end.
pub fn json(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    out.push(b'\n');
    Ok(())
}

/// Applies the user's choice of colours to both streams.
pub fn choose_colors(color: Color) {
    let choice = match color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
}

/// A number of bytes in a few letters: `512 B`, `1.5 MiB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut scaled = number as f64 / 1024.0;
    let mut unit = 0;
    // What would be rounded to 1024 of one unit is one of the next.
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// A text in at most so many columns, with an ellipsis for what there is no room for.
pub fn shortened(mut text: String, columns: usize) -> String {
    if text.width() <= columns {
        return text;
    }
    let mut width = 1;
    let fits = |letter: char| {
        width += letter.width().unwrap_or(0);
        width > columns
    };
    let end = text.find(fits).unwrap_or(text.len());
    text.truncate(end);
    text.push('…');
    text
}

/// A number with its noun: `1 plugin`, `2 plugins`.
pub fn count(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_given_in_the_unit_that_fits() {
        let shown = [0, 1023, 1024, 1_572_864, (1 << 30) - 1, 3 << 40].map(bytes);
        assert_eq!(
            shown,
            ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "1.0 GiB", "3.0 TiB"]
        );
    }

    #[test]
    fn what_is_long_is_cut_to_the_columns_there_are() {
        let cut = |text: &str, columns| shortened(text.to_owned(), columns);
        assert_eq!(cut("four", 4), "four");
        assert_eq!(cut("fives", 4), "fiv…");
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 0), "…");
    }
}
