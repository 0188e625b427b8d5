//! Text, cut into chunks at the ends of lines.

use serde::Deserialize;
use vox_plugin::decode::{Chunks, Sink};
use vox_plugin::{Result, attribute};

use crate::Cutter;
use crate::arguments::TextPlan;

/// What makes a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// As many whole lines as fit.
    Size,
    /// A line with its end.
    Line,
    /// Lines up to and with the blank ones that follow them.
    Paragraph,
}

/// Cuts one text.
///
/// What must stay true: all chunks together are the text, and no chunk is longer than the plan says.
#[derive(Debug)]
pub struct Lines {
    plan: TextPlan,
    /// What is to become the next chunk.
    pending: String,
    /// Where in `pending` the lines end that belong together so far; what follows is the beginning of
    /// a line.
    whole: usize,
    /// The line that `pending` begins in.
    line: u64,
    /// The last whole line was blank, so a line that is not begins a paragraph.
    after_blank: bool,
    /// The beginning of the line that is being taken was pushed already.
    continues: bool,
}

impl Lines {
    /// At the beginning of a text.
    pub fn new(plan: TextPlan) -> Self {
        Self {
            plan,
            pending: String::new(),
            whole: 0,
            line: 1,
            after_blank: false,
            continues: false,
        }
    }

    /// Takes characters of one line; the last of them ends it, or the line goes on later.
    fn take<S: Sink>(&mut self, part: &str, chunks: &mut Chunks<S>) -> Result<()> {
        let mut rest = part;
        while self.pending.len() + rest.len() > self.plan.chunk {
            let room = self.plan.chunk - self.pending.len();
            let (fits, behind) = rest.split_at(rest.floor_char_boundary(room));
            if self.whole > 0 {
                let begins_paragraph =
                    self.after_blank && !(is_blank(&self.pending[self.whole..]) && is_blank(fits));
                let cut = self.plan.by == By::Paragraph && !begins_paragraph;
                self.push(self.whole, cut, chunks)?;
                continue;
            }
            self.pending.push_str(fits);
            rest = behind;
            let splits_end = self.pending.ends_with('\r') && rest.starts_with('\n');
            self.push(self.pending.len() - usize::from(splits_end), true, chunks)?;
            self.continues = true;
        }
        self.pending.push_str(rest);
        if part.ends_with('\n') {
            self.end_line(chunks)?;
        }
        Ok(())
    }

    fn end_line<S: Sink>(&mut self, chunks: &mut Chunks<S>) -> Result<()> {
        let blank = self.end_paragraph(chunks)?;
        self.whole = self.pending.len();
        self.after_blank = blank;
        self.continues = false;
        if self.plan.by == By::Line {
            self.push(self.whole, false, chunks)?;
        }
        Ok(())
    }

    /// Pushes the paragraph that ends before the last line, if one does; answers whether that line is
    /// blank.
    fn end_paragraph<S: Sink>(&mut self, chunks: &mut Chunks<S>) -> Result<bool> {
        let blank = !self.continues && is_blank(&self.pending[self.whole..]);
        if self.plan.by == By::Paragraph && self.after_blank && !blank {
            self.push(self.whole, false, chunks)?;
        }
        Ok(blank)
    }

    /// Pushes the first `length` bytes of what is pending.
    fn push<S: Sink>(&mut self, length: usize, cut: bool, chunks: &mut Chunks<S>) -> Result<()> {
        if length == 0 {
            return Ok(());
        }
        let chunk = &self.pending[..length];
        let mut attributes = vec![attribute("line", self.line.to_string())];
        if cut {
            attributes.push(attribute("cut", "true"));
        }
        chunks.push("text", 0, attributes, chunk.as_bytes())?;
        self.line += chunk.bytes().filter(|byte| *byte == b'\n').count() as u64;
        self.pending.drain(..length);
        self.whole = 0;
        Ok(())
    }
}

impl<S: Sink> Cutter<S> for Lines {
    fn feed(&mut self, text: &str, chunks: &mut Chunks<S>) -> Result<()> {
        text.split_inclusive('\n')
            .try_for_each(|part| self.take(part, chunks))
    }

    fn finish(&mut self, chunks: &mut Chunks<S>) -> Result<()> {
        self.end_paragraph(chunks)?;
        self.push(self.pending.len(), false, chunks)
    }
}

fn is_blank(line: &str) -> bool {
    line.bytes()
        .all(|byte| matches!(byte, b'\r' | b'\n' | b' ' | b'\t'))
}
