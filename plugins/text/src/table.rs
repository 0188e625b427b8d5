//! Rows on their way out: as JSON, one or several to a chunk.

use std::collections::BTreeMap;

use vox_plugin::decode::{Chunks, Sink};
use vox_plugin::{Error, Result, attribute, failed, serde_json};

use crate::Cutter;
use crate::arguments::RowsPlan;
use crate::rows::{Row, Rows};

/// Bytes of JSON after which a chunk is pushed though more rows were asked for.
const CHUNK: usize = 4 * 1024 * 1024;

/// Reads one file of rows.
#[derive(Debug)]
pub struct Table {
    rows: Rows,
    out: Batch,
}

/// The rows of the next chunk.
#[derive(Debug)]
struct Batch {
    plan: RowsPlan,
    /// The names of the columns as JSON, once they are known and if they are asked for.
    header: Option<Vec<String>>,
    json: Vec<u8>,
    count: usize,
    /// The line that the first of them begins in.
    line: u64,
}

impl Table {
    /// At the beginning of a file.
    pub fn new(plan: RowsPlan) -> Self {
        Self {
            rows: Rows::new(plan),
            out: Batch {
                plan,
                header: None,
                json: Vec::new(),
                count: 0,
                line: 0,
            },
        }
    }
}

impl<S: Sink> Cutter<S> for Table {
    fn feed(&mut self, text: &str, chunks: &mut Chunks<S>) -> Result<()> {
        let Self { rows, out } = self;
        rows.feed(text, |row| out.take(row, chunks))
    }

    fn finish(&mut self, chunks: &mut Chunks<S>) -> Result<()> {
        let Self { rows, out } = self;
        rows.finish(|row| out.take(row, chunks))?;
        out.push(chunks)
    }
}

impl Batch {
    fn take<S: Sink>(&mut self, row: &Row, chunks: &mut Chunks<S>) -> Result<()> {
        if self.plan.header && self.header.is_none() {
            self.header = Some(names(row)?);
            return Ok(());
        }
        if self.count == 0 {
            self.line = row.line;
        }
        if self.plan.rows > 1 {
            self.json.push(if self.count == 0 { b'[' } else { b',' });
        }
        self.write(row)?;
        self.count += 1;
        if self.count == self.plan.rows || self.json.len() >= CHUNK {
            self.push(chunks)?;
        }
        Ok(())
    }

    fn write(&mut self, row: &Row) -> Result<()> {
        let fields = row.fields();
        let Some(header) = &self.header else {
            self.json.push(b'[');
            for (at, field) in fields.enumerate() {
                if at > 0 {
                    self.json.push(b',');
                }
                serde_json::to_writer(&mut self.json, field).map_err(failed)?;
            }
            self.json.push(b']');
            return Ok(());
        };
        if fields.len() != header.len() {
            return Err(Error::Invalid(format!(
                "line {}: the row has {} fields and the header names {} columns; mend the file, or \
                 read it with `header = false`",
                row.line,
                fields.len(),
                header.len(),
            )));
        }
        for (at, (name, field)) in header.iter().zip(fields).enumerate() {
            self.json.push(if at == 0 { b'{' } else { b',' });
            self.json.extend_from_slice(name.as_bytes());
            self.json.push(b':');
            serde_json::to_writer(&mut self.json, field).map_err(failed)?;
        }
        self.json.push(b'}');
        Ok(())
    }

    fn push<S: Sink>(&mut self, chunks: &mut Chunks<S>) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        if self.plan.rows > 1 {
            self.json.push(b']');
        }
        let attributes = vec![
            attribute("line", self.line.to_string()),
            attribute("rows", self.count.to_string()),
        ];
        chunks.push("application/json", 0, attributes, &self.json)?;
        self.json.clear();
        self.count = 0;
        Ok(())
    }
}

/// The names of the columns, each as JSON.
fn names(header: &Row) -> Result<Vec<String>> {
    let mut columns = BTreeMap::new();
    for (at, name) in header.fields().enumerate() {
        if let Some(before) = columns.insert(name, at) {
            return Err(Error::Invalid(format!(
                "line {}: the columns {} and {} have the same name `{}`; rename one, or read the \
                 file with `header = false`",
                header.line,
                before + 1,
                at + 1,
                name.escape_debug(),
            )));
        }
    }
    header
        .fields()
        .map(|name| serde_json::to_string(name).map_err(failed))
        .collect()
}
