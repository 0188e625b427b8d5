//! Rows of fields, as RFC 4180 writes them down, from text that arrives in pieces.
//!
//! Own code, because the readers there are neither say where a quote was never closed nor bound what
//! they hold of a row. It takes what others write: a row ends with `\n`, `\r\n` or `\r`, blank lines are
//! passed over, and a quote within a field that does not begin with one is a character like any other.

use vox_plugin::{Error, Result};

use crate::arguments::RowsPlan;
use crate::json::too_long;

/// Fields of a row at most.
const MOST_FIELDS: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the beginning of a row.
    RowStart,
    /// At the beginning of a further field.
    FieldStart,
    /// In a field without quotes.
    Plain,
    /// In a field with quotes.
    Quoted,
    /// Behind a quote within such a field: its end, or the first of two that stand for one.
    QuoteInQuoted,
}

/// Where a character stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    line: u64,
    /// Characters, counted from 1.
    column: u64,
}

/// Reads the rows of one file.
#[derive(Debug)]
pub struct Rows {
    plan: RowsPlan,
    state: State,
    here: Place,
    /// The last character was a `\r`, which has ended its line.
    after_return: bool,
    /// Where the quote that is open was opened.
    opened: Place,
    row: Row,
}

/// A row.
#[derive(Debug, Default)]
pub struct Row {
    /// The line that it begins in.
    pub line: u64,
    text: String,
    /// Where each field ends in `text`.
    ends: Vec<usize>,
}

impl Row {
    /// The fields.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = &str> {
        self.ends.iter().enumerate().map(|(at, end)| {
            let from = at.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.text[from..*end]
        })
    }
}

impl Rows {
    /// At the beginning of a file.
    pub fn new(plan: RowsPlan) -> Self {
        let start = Place { line: 1, column: 1 };
        Self {
            plan,
            state: State::RowStart,
            here: start,
            after_return: false,
            opened: start,
            row: Row::default(),
        }
    }

    /// Takes text and hands each row that is complete to `each`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with line and column when the text is not of rows, [`Error::Exceeded`] when
    /// a row is too long, and what `each` answers.
    pub fn feed(&mut self, text: &str, mut each: impl FnMut(&Row) -> Result<()>) -> Result<()> {
        for character in text.chars() {
            if self.take(character)? {
                each(&self.row)?;
            }
            self.pass(character);
        }
        Ok(())
    }

    /// Takes the end of the text.
    ///
    /// # Errors
    ///
    /// As [`Rows::feed`].
    pub fn finish(&mut self, mut each: impl FnMut(&Row) -> Result<()>) -> Result<()> {
        match self.state {
            State::RowStart => return Ok(()),
            State::Quoted => {
                let what = "this quote is never closed";
                return Err(self.wrong(self.opened, what));
            }
            _ => {}
        }
        self.end_field()?;
        self.state = State::RowStart;
        each(&self.row)
    }

    fn pass(&mut self, character: char) {
        let after_return = std::mem::replace(&mut self.after_return, character == '\r');
        match character {
            '\n' if after_return => {}
            '\n' | '\r' => {
                self.here = Place {
                    line: self.here.line + 1,
                    column: 1,
                }
            }
            _ => self.here.column += 1,
        }
    }

    /// Takes a character; answers whether it has completed the row.
    fn take(&mut self, character: char) -> Result<bool> {
        let is = |byte: u8| character == char::from(byte);
        let is_quote = self.plan.quote.is_some_and(is);
        let ends_line = matches!(character, '\r' | '\n');
        match self.state {
            State::Quoted if is_quote => self.state = State::QuoteInQuoted,
            State::Quoted => self.add(character)?,
            State::QuoteInQuoted if is_quote => {
                self.state = State::Quoted;
                self.add(character)?;
            }
            State::RowStart if ends_line => {}
            _ if ends_line => {
                self.end_field()?;
                self.state = State::RowStart;
                return Ok(true);
            }
            state => {
                if state == State::RowStart {
                    self.row.text.clear();
                    self.row.ends.clear();
                    self.row.line = self.here.line;
                }
                if is(self.plan.delimiter) {
                    self.end_field()?;
                    self.state = State::FieldStart;
                } else if state == State::QuoteInQuoted {
                    let what = "text follows a quote that closes its field; within a field write \
                                two quotes for one";
                    return Err(self.wrong(self.here, what));
                } else if is_quote && state != State::Plain {
                    self.opened = self.here;
                    self.state = State::Quoted;
                } else {
                    self.state = State::Plain;
                    self.add(character)?;
                }
            }
        }
        Ok(false)
    }

    fn add(&mut self, character: char) -> Result<()> {
        if self.row.text.len() + character.len_utf8() > self.plan.longest {
            return Err(too_long("row", self.row.line, self.plan.longest));
        }
        self.row.text.push(character);
        Ok(())
    }

    fn end_field(&mut self) -> Result<()> {
        if self.row.ends.len() == MOST_FIELDS {
            let what = format!("the row has more than {MOST_FIELDS} fields");
            return Err(self.wrong(self.here, &what));
        }
        self.row.ends.push(self.row.text.len());
        Ok(())
    }

    fn wrong(&self, Place { line, column }: Place, what: &str) -> Error {
        Error::Invalid(format!("line {line}, column {column}: {what}"))
    }
}
