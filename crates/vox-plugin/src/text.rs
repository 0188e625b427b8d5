//! Small conveniences over the generated types.

use std::io;

use serde::de::DeserializeOwned;

use crate::{Attribute, ChunkHead, Error, Result, host};

/// An attribute of these parts.
pub fn attribute(key: impl Into<String>, value: impl Into<String>) -> Attribute {
    Attribute {
        key: key.into(),
        value: value.into(),
    }
}

/// The head of a chunk of text at a position of its stream, with no time and no attributes.
pub fn text_chunk(sequence: u64) -> ChunkHead {
    ChunkHead {
        modality: "text".to_owned(),
        sequence,
        timestamp: 0,
        attributes: Vec::new(),
    }
}

/// An [`Error::Failed`] that says what failed.
pub fn failed(what: impl std::fmt::Display) -> Error {
    Error::Failed(what.to_string())
}

/// Reads JSON that the host hands over: a configuration or arguments.
///
/// # Errors
///
/// [`Error::Invalid`] with what is wrong and where, when the text does not fit `T`.
pub fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::Invalid(error.to_string()))
}

/// A port as a writer: `Output::new("stdout")`.
///
/// Bytes are pushed as text chunks, whole lines where possible, when the buffer is full or
/// flushed, and at the end of the writer's life.
#[derive(Debug)]
pub struct Output {
    port: &'static str,
    sequence: u64,
    pending: Vec<u8>,
}

impl Output {
    /// Bytes that are held back before they are pushed.
    const CAPACITY: usize = 8 * 1024;

    /// A writer to this port.
    pub const fn new(port: &'static str) -> Self {
        Self {
            port,
            sequence: 0,
            pending: Vec::new(),
        }
    }

    fn push(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        host::stream::push(self.port, &text_chunk(self.sequence), &self.pending, None)?;
        self.sequence += 1;
        self.pending.clear();
        Ok(())
    }
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= Self::CAPACITY {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push().map_err(io::Error::other)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // The plugin had its chance to flush and see the error.
        let _ = self.push();
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::NotFound(error.to_string())
            }
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}
