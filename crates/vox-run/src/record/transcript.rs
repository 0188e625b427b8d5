//! The events of a run as a file: one JSON object a line, as they were told.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use vox_crypto::{Algorithm, Digest, Hasher};

use super::RecordError;
use crate::event::RunEvent;

/// The file in the directory of a run.
pub(super) const EVENTS: &str = "events.jsonl";

/// Adds to the events of a run.
#[derive(Debug)]
pub(crate) struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Writer {
    /// Opens the events of the run in `directory`. A line that a crash has cut off is taken away.
    pub fn open(directory: &Path) -> Result<Self, RecordError> {
        let path = directory.join(EVENTS);
        let open = || -> io::Result<File> {
            let mut file = File::options()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)?;
            let whole = end_of_last_line(&mut file)?;
            file.set_len(whole)?;
            file.seek(SeekFrom::Start(whole))?;
            Ok(file)
        };
        let file = open().map_err(RecordError::io("open", &path))?;
        Ok(Self {
            path,
            file: BufWriter::with_capacity(64 << 10, file),
        })
    }

    /// Adds an event.
    pub fn write(&mut self, event: &RunEvent) -> Result<(), RecordError> {
        let failed = RecordError::io("write", &self.path);
        serde_json::to_writer(&mut self.file, event)
            .map_err(io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"))
            .map_err(failed)
    }

    /// Hands everything to the system, so that other processes see it.
    pub fn flush(&mut self) -> Result<(), RecordError> {
        self.file
            .flush()
            .map_err(RecordError::io("write", &self.path))
    }

    /// Makes the file durable, and answers its hash.
    pub fn finish(mut self) -> Result<Digest, RecordError> {
        self.flush()?;
        let hash = || -> io::Result<Digest> {
            self.file.get_ref().sync_data()?;
            let mut hasher = Hasher::of(Algorithm::Sha256);
            let mut file = BufReader::with_capacity(256 << 10, File::open(&self.path)?);
            loop {
                let bytes = file.fill_buf()?;
                if bytes.is_empty() {
                    return Ok(hasher.finish());
                }
                hasher.update(bytes);
                let read = bytes.len();
                file.consume(read);
            }
        };
        hash().map_err(RecordError::io("read", &self.path))
    }
}

/// The length of the file up to the end of its last whole line.
fn end_of_last_line(file: &mut File) -> io::Result<u64> {
    use std::io::Read as _;
    const PIECE: u64 = 64 << 10;
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(PIECE);
        file.seek(SeekFrom::Start(start))?;
        let mut piece = Vec::new();
        io::Read::by_ref(file)
            .take(end - start)
            .read_to_end(&mut piece)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// The events of a run, in the order in which they were told.
///
/// While the run goes on there may be more after the last one: who follows a run asks again. A line that
/// is not whole yet, or that a crash has cut off, is no event.
#[derive(Debug)]
pub struct Transcript {
    path: PathBuf,
    lines: BufReader<File>,
    /// What was read of the line that comes. The end of what is written may lie within a letter.
    line: Vec<u8>,
}

impl Transcript {
    /// Opens the events of a run; none when they were removed.
    pub(crate) fn open(directory: &Path) -> Result<Option<Self>, RecordError> {
        let path = directory.join(EVENTS);
        match File::open(&path) {
            Ok(file) => Ok(Some(Self {
                path,
                lines: BufReader::with_capacity(64 << 10, file),
                line: Vec::new(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(RecordError::io("open", &path)(error)),
        }
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |meta| meta.len())
    }
}

impl Iterator for Transcript {
    type Item = Result<RunEvent, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.lines.read_until(b'\n', &mut self.line) {
            Ok(_) if !self.line.ends_with(b"\n") => return None,
            Ok(_) => {}
            Err(error) => return Some(Err(RecordError::io("read", &self.path)(error))),
        }
        let event = serde_json::from_slice(&self.line);
        self.line.clear();
        Some(event.map_err(|error| RecordError::Unreadable {
            run: self.path.display().to_string(),
            detail: error.to_string(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EVENT_VERSION, EventKind, RunId};

    fn warning(message: &str) -> RunEvent {
        RunEvent {
            version: EVENT_VERSION,
            run: RunId::generate(),
            timestamp: 1,
            kind: EventKind::Warning {
                message: message.to_owned(),
            },
        }
    }

    #[test]
    fn a_line_that_is_not_whole_yet_is_an_event_once_it_is() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("events.jsonl");
        let (one, two) = (warning("one"), warning("zwölf"));
        let mut text = serde_json::to_vec(&one).unwrap();
        text.push(b'\n');
        let first = text.len();
        text.extend(serde_json::to_vec(&two).unwrap());
        text.push(b'\n');
        // Within the letter of two bytes.
        let cut = first + text[first..].iter().position(|byte| *byte > 127).unwrap() + 1;
        fs::write(&path, &text[..cut]).unwrap();
        let mut events = Transcript::open(place.path()).unwrap().unwrap();
        assert_eq!(events.next().unwrap().unwrap(), one);
        assert!(events.next().is_none());
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(&text[cut..]).unwrap();
        assert_eq!(events.next().unwrap().unwrap(), two);
        assert!(events.next().is_none());
    }
}
