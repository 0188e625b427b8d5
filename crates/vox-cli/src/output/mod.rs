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
pub mod style;
pub mod table;

use std::fmt;
use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

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

/// A number with its noun: `1 plugin`, `2 plugins`.
pub fn count(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}
