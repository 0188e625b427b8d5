//! The modality `text`: reads files of text, of rows (CSV, TSV) and of lines of JSON.
//!
//! | modality of the file | chunks | their modality |
//! |---|---|---|
//! | `text` | whole lines, paragraphs or pieces | `text` |
//! | `text/csv`, `text/tab-separated-values` | one or more rows as JSON | `application/json` |
//! | `application/jsonl` | one line, which is checked | `application/json` |
//!
//! | argument | of | default | meaning |
//! |---|---|---|---|
//! | `modality` | all | `"text"` | what the file is: the first column above |
//! | `encoding` | all | `"auto"` | `"utf-8"`, `"utf-16le"`, `"utf-16be"`, or by the byte order mark |
//! | `invalid` | all | `"refuse"` | what is not of the encoding: `"refuse"` the file, or `"replace"` it by U+FFFD |
//! | `by` | text | `"size"` | what makes a chunk: `"size"`, `"line"`, `"paragraph"` |
//! | `chunk` | text | 65536 | bytes of a chunk at most, 16 to 16777216; a longer line goes on in pieces |
//! | `header` | rows | `true` | the first row names the columns, and rows are objects; otherwise arrays |
//! | `delimiter` | rows | `","`, a tab for TSV | one ASCII character between fields |
//! | `quote` | rows | `"\""` | one ASCII character around fields; `""` for none |
//! | `rows` | rows | 1 | rows of a chunk; more than one are a JSON array of rows, 4096 at most |
//! | `longest` | rows, JSON lines | 1048576 | bytes of a row or line at most, up to 16777216 |
//!
//! | attribute | of | meaning |
//! |---|---|---|
//! | `line` | all | the line that the chunk begins in, counted from 1 |
//! | `cut` | text | `true` when the chunk ends within a line, or with `by = "paragraph"` within a paragraph |
//! | `rows` | rows | how many rows the chunk has |
//!
//! Line ends stay as they are. What must stay true: the chunks of a `text` put together are the
//! file's characters, without the byte order mark; and memory is bounded by `chunk` or `longest`,
//! whatever the file.

mod arguments;
mod encoding;
mod json;
mod lines;
mod rows;
mod table;

use vox_plugin::decode::{Blob, Chunks, HostBlob, HostSink, Reader, Sink};
use vox_plugin::{Modality, Result, plugin};

use crate::arguments::{Kind, Plan};
use crate::encoding::Decoder;
use crate::json::JsonLines;
use crate::lines::Lines;
use crate::table::Table;

/// The plugin: it keeps nothing.
#[plugin(modality)]
#[derive(Default)]
struct Text;

impl Modality for Text {
    fn detect(&mut self, name: &str, prefix: &[u8]) -> Option<String> {
        encoding::is_text(prefix).then(|| Kind::of_name(name).modality().to_owned())
    }

    fn decode(&mut self, blob: &str, arguments: &str) -> Result<u64> {
        let plan = Plan::new(arguments)?;
        decode(
            Reader::new(HostBlob::new(blob))?,
            Chunks::new(HostSink),
            plan,
        )
    }
}

/// What takes the characters of a file, in pieces that end anywhere between two of them.
trait Cutter<S: Sink> {
    /// Takes the next characters.
    fn feed(&mut self, text: &str, chunks: &mut Chunks<S>) -> Result<()>;

    /// The file is at its end.
    fn finish(&mut self, chunks: &mut Chunks<S>) -> Result<()>;
}

/// Reads a file and pushes its chunks; answers how many.
fn decode<S: Sink>(mut file: Reader<impl Blob>, mut chunks: Chunks<S>, plan: Plan) -> Result<u64> {
    let mut decoder = Decoder::new(plan.encoding, plan.invalid);
    let mut cutter: Box<dyn Cutter<S>> = match plan.kind {
        Kind::Text(text) => Box::new(Lines::new(text)),
        Kind::Rows(rows) => Box::new(Table::new(rows)),
        Kind::JsonLines { longest } => Box::new(JsonLines::new(longest)),
    };
    let mut text = String::new();
    while let Some(piece) = file.piece()? {
        text.clear();
        decoder.feed(piece, &mut text)?;
        cutter.feed(&text, &mut chunks)?;
    }
    text.clear();
    decoder.finish(&mut text)?;
    cutter.feed(&text, &mut chunks)?;
    cutter.finish(&mut chunks)?;
    Ok(chunks.count())
}

#[cfg(test)]
mod tests;
