//! Lines of JSON: each is checked and handed on as it is.

use serde::de::IgnoredAny;
use vox_plugin::decode::{Chunks, Sink};
use vox_plugin::{Error, Result, attribute, serde_json};

use crate::Cutter;

/// Reads one file of JSON lines. Blank lines are passed over.
#[derive(Debug)]
pub struct JsonLines {
    longest: usize,
    pending: String,
    /// The line that is being read.
    line: u64,
}

impl JsonLines {
    /// At the beginning of a file whose lines have `longest` bytes at most.
    pub fn new(longest: usize) -> Self {
        Self {
            longest,
            pending: String::new(),
            line: 1,
        }
    }

    fn end_line<S: Sink>(&mut self, chunks: &mut Chunks<S>) -> Result<()> {
        let value = self.pending.trim_ascii();
        if !value.is_empty() {
            serde_json::from_str::<IgnoredAny>(value).map_err(|error| {
                let indented = self.pending.len() - self.pending.trim_ascii_start().len();
                let mut text = error.to_string();
                if let Some(end) = text.rfind(" at line ") {
                    text.truncate(end);
                }
                Error::Invalid(format!(
                    "line {}, byte {} of the line: this is not JSON: {text}",
                    self.line,
                    indented + error.column(),
                ))
            })?;
            let attributes = vec![attribute("line", self.line.to_string())];
            chunks.push("application/json", 0, attributes, value.as_bytes())?;
        }
        self.pending.clear();
        self.line += 1;
        Ok(())
    }
}

impl<S: Sink> Cutter<S> for JsonLines {
    fn feed(&mut self, text: &str, chunks: &mut Chunks<S>) -> Result<()> {
        for part in text.split_inclusive('\n') {
            if self.pending.len() + part.len() > self.longest {
                return Err(too_long("line", self.line, self.longest));
            }
            self.pending.push_str(part);
            if part.ends_with('\n') {
                self.end_line(chunks)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, chunks: &mut Chunks<S>) -> Result<()> {
        self.end_line(chunks)
    }
}

/// A line or row that passes `longest`.
pub fn too_long(what: &str, line: u64, longest: usize) -> Error {
    Error::Exceeded(vox_plugin::Exceeded {
        limit: "longest".to_owned(),
        value: longest as u64,
        remedy: format!(
            "the {what} that begins in line {line} of the file is longer; raise the argument `longest`"
        ),
    })
}
