//! The stage `redact`: masks secrets and e-mail addresses in a stream of text.
//!
//! ```toml
//! stdin = { from = "read.stdout", through = [{ stage = "redact", with = { mask = "***" } }] }
//! ```
//!
//! | argument | default | meaning |
//! |---|---|---|
//! | `emails` | `true` | e-mail addresses are masked |
//! | `secrets` | `true` | tokens, keys, passwords and card numbers are masked |
//! | `mask` | `"[{kind}]"` | what stands in for them; `{kind}` becomes what it is, such as `aws-key` |
//!
//! Chunks of other modalities than text pass as they are. One of them ends the text before it: what
//! was held back of that goes first, so that the order stays. A chunk that goes on has the metadata
//! of the chunk that it was completed by, and none goes on empty.

mod quiet;
mod rules;
mod scanner;

use serde::Deserialize;
use vox_plugin::stage::Opening;
use vox_plugin::{ChunkHead, Error, Result, Stage, from_json, host, plugin};

use crate::rules::Rules;
use crate::scanner::Scanner;

/// The port that the stage writes.
const OUT: &str = "out";

/// The stage's arguments.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Arguments {
    emails: bool,
    secrets: bool,
    mask: String,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            emails: true,
            secrets: true,
            mask: "[{kind}]".to_owned(),
        }
    }
}

/// The plugin; an instance serves one stream.
#[plugin(stage)]
#[derive(Default)]
struct Redact {
    stream: Option<Stream>,
}

/// The stream that is being masked.
struct Stream {
    scanner: Scanner,
    /// The position of the next chunk that goes on.
    sequence: u64,
    /// The head of the last chunk of text.
    head: Option<ChunkHead>,
}

impl Stage for Redact {
    fn open(&mut self, opening: Opening) -> Result<()> {
        let Arguments {
            emails,
            secrets,
            mask,
        } = from_json(&opening.arguments)?;
        let scanner = Scanner::new(Rules { emails, secrets }, &mask);
        self.stream = Some(Stream {
            scanner,
            sequence: 0,
            head: None,
        });
        Ok(())
    }

    fn process(&mut self, head: ChunkHead, data: &[u8]) -> Result<()> {
        let Some(stream) = &mut self.stream else {
            return Err(Error::Invalid(
                "`process` was called before `open`".to_owned(),
            ));
        };
        if head.modality == "text" {
            let passed = stream.scanner.feed(data, false);
            stream.sequence = push(&head, stream.sequence, passed)?;
            stream.head = Some(head);
            return Ok(());
        }
        stream.end_text()?;
        host::stream::push(OUT, &at(head, stream.sequence), data, None)?;
        stream.sequence += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.stream.as_mut().map_or(Ok(()), Stream::end_text)
    }
}

impl Stream {
    /// Hands on what is held back.
    fn end_text(&mut self) -> Result<()> {
        if let Some(head) = self.head.take() {
            self.sequence = push(&head, self.sequence, self.scanner.feed(&[], true))?;
        }
        Ok(())
    }
}

/// Hands a chunk on unless it is empty; answers the position of the next one.
fn push(head: &ChunkHead, sequence: u64, data: &[u8]) -> Result<u64> {
    if data.is_empty() {
        return Ok(sequence);
    }
    host::stream::push(OUT, &at(head.clone(), sequence), data, None)?;
    Ok(sequence + 1)
}

fn at(head: ChunkHead, sequence: u64) -> ChunkHead {
    ChunkHead { sequence, ..head }
}
