//! Files of data, from a path to records.
//!
//! A source is a list of files in a fixed order: those that were named, in the order in which they
//! were, and those of a directory by their path. What must stay true: nothing is passed over without
//! a word. A line that cannot be used comes out as an error with file and line, and reading goes on
//! after it; whoever reads decides whether it is left out and counted.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vox_crypto::Digest;

use super::lines::Lines;
use super::record::{Kind, Passage, Record, parse};
use crate::error::{Error, LineError, LineFault, NotText};

/// The longest part of a text that is tokenised at once: 1 MiB. A longer text is cut after a line,
/// or after a space where a line is longer than that, so that neither memory nor one call of the
/// tokenizer grows with it.
pub const MAX_PASSAGE_BYTES: usize = 1 << 20;

/// The line that separates texts in a file of text, as GPT-2 and many data sets after it have it.
pub const SEPARATOR: &str = "<|endoftext|>";

/// Bytes of a file by which it is told what it is.
const HEAD_BYTES: usize = 8 << 10;

/// How the kind of a file's records is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// By the first line of each file that is not blank: JSONL where it is an object with the keys
    /// of a kind, text otherwise. A line that begins as JSON and shows no kind is refused, as is any
    /// such line of a file named `.jsonl` or `.json`.
    #[default]
    Auto,
    /// Text as it is.
    Plain,
    /// JSONL with `text`.
    Text,
    /// JSONL with `prompt` and `completion`.
    Completion,
    /// JSONL with `messages`.
    Messages,
}

impl Format {
    /// The kind that is set; none when it is to be found.
    pub const fn kind(self) -> Option<Kind> {
        match self {
            Self::Auto => None,
            Self::Plain => Some(Kind::Plain),
            Self::Text => Some(Kind::Text),
            Self::Completion => Some(Kind::Completion),
            Self::Messages => Some(Kind::Messages),
        }
    }
}

/// A file of data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub kind: Kind,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 over its bytes.
    pub digest: Digest,
}

/// Files of data in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    files: Vec<DataFile>,
}

/// A record and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// Number of the file in [`Source::files`].
    pub file: usize,
    /// Its first line, counted from 1.
    pub line: u64,
    /// What stands there.
    pub record: Record,
}

impl Source {
    /// Finds the files under `paths`, tells the kind of each, and hashes them all.
    ///
    /// Of a directory all files are taken, those in its directories too, in the order of their
    /// paths; names that begin with a dot are passed over, as are links to directories.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::NoFiles`], [`Error::NotText`]; [`Error::Line`] for a first line that
    /// shows no kind, where that is to be found.
    pub fn open(paths: &[impl AsRef<Path>], format: Format) -> Result<Self, Error> {
        let mut files = Vec::new();
        for path in paths {
            for path in files_under(path.as_ref())? {
                files.push(look_at(path, format)?);
            }
        }
        Ok(Self { files })
    }

    /// The files.
    pub fn files(&self) -> &[DataFile] {
        &self.files
    }

    /// What the files hold that are not empty, each kind once.
    pub fn kinds(&self) -> Vec<Kind> {
        let is_there = |kind: &Kind| {
            let mut files = self.files.iter();
            files.any(|file| file.bytes > 0 && file.kind == *kind)
        };
        Kind::ALL.into_iter().filter(is_there).collect()
    }

    /// Size of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The records of all files, in order. What cannot be used comes as [`Error::Line`], after
    /// which the next record follows; after any other error comes nothing.
    pub fn records(&self) -> Records<'_> {
        Records {
            files: &self.files,
            at: 0,
            open: None,
        }
    }
}

/// The files under a path, in order.
fn files_under(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let metadata = fs::metadata(path).map_err(Error::read(path))?;
    if metadata.is_file() {
        return Ok(vec![path.into()]);
    }
    if !metadata.is_dir() {
        let reason = NotText::Special;
        let path = path.into();
        return Err(Error::NotText { path, reason });
    }
    let mut found = BTreeSet::new();
    let mut open = vec![path.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).map_err(Error::read(&directory))? {
            let entry = entry.map_err(Error::read(&directory))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(Error::read(&path))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() {
                open.push(path);
            } else if fs::metadata(&path).map_err(Error::read(&path))?.is_file() {
                found.insert(path);
            }
        }
    }
    if found.is_empty() {
        return Err(Error::NoFiles { path: path.into() });
    }
    Ok(found.into_iter().collect())
}

/// What a file is, by its first bytes and its first line.
fn look_at(path: PathBuf, format: Format) -> Result<DataFile, Error> {
    let file = File::open(&path).map_err(Error::read(&path))?;
    let bytes = file.metadata().map_err(Error::read(&path))?.len();
    let mut head = Vec::with_capacity(HEAD_BYTES);
    file.take(HEAD_BYTES as u64)
        .read_to_end(&mut head)
        .map_err(Error::read(&path))?;
    if let Some(reason) = fault_in(&head) {
        return Err(Error::NotText { path, reason });
    }
    let kind = match format.kind() {
        Some(kind) => kind,
        None => kind_of(&path)?,
    };
    let digest = File::open(&path)
        .and_then(vox_crypto::hash_reader)
        .map_err(Error::read(&path))?;
    Ok(DataFile {
        path,
        kind,
        bytes,
        digest,
    })
}

/// What shows that a file with this beginning is not text.
fn fault_in(head: &[u8]) -> Option<NotText> {
    const COMPRESSED: [&[u8]; 4] = [
        b"\x1f\x8b",
        b"\x28\xb5\x2f\xfd",
        b"\xfd7zXZ\0",
        b"PK\x03\x04",
    ];
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return Some(NotText::Utf16);
    }
    if COMPRESSED.iter().any(|magic| head.starts_with(magic)) {
        return Some(NotText::Compressed);
    }
    let zero = head.iter().position(|byte| *byte == 0);
    zero.map(NotText::Binary)
}

/// The kind that a file's first line shows which is not blank.
fn kind_of(path: &Path) -> Result<Kind, Error> {
    let extension = path.extension().unwrap_or_default();
    let of_json = ["jsonl", "json", "ndjson"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known));
    let file = File::open(path).map_err(Error::read(path))?;
    let mut lines = Lines::new(BufReader::new(file));
    while let Some((number, line)) = lines.next().map_err(Error::read(path))? {
        let kind = match line {
            Ok(line) if line.trim().is_empty() => continue,
            Ok(line) => Kind::of_first_line(line, of_json),
            Err(fault) if of_json => Err(fault),
            // Of a text, it is told when it is read.
            Err(_) => break,
        };
        return kind.map_err(|fault| {
            let file = path.to_owned();
            let line = number;
            Error::Line(LineError { file, line, fault })
        });
    }
    Ok(Kind::Plain)
}

/// Records, one after the other; see [`Source::records`].
#[derive(Debug)]
pub struct Records<'s> {
    files: &'s [DataFile],
    /// The file that is open, or that is opened next.
    at: usize,
    open: Option<OpenFile>,
}

impl Records<'_> {
    /// Bytes of all files that were read so far.
    pub fn bytes(&self) -> u64 {
        let done = self.files.iter().take(self.at).map(|file| file.bytes);
        let open = self.open.as_ref().map_or(0, |open| open.lines.bytes());
        done.sum::<u64>() + open
    }
}

#[derive(Debug)]
struct OpenFile {
    lines: Lines<BufReader<File>>,
    /// Of a file of text: what was read of the text that goes on.
    passage: String,
    /// Whether `passage` is the beginning of its text.
    begins: bool,
    /// The line on which `passage` begins.
    line: u64,
    ended: bool,
}

impl Iterator for Records<'_> {
    type Item = Result<Located, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let file = self.files.get(self.at)?;
            if self.open.is_none() {
                match File::open(&file.path) {
                    Ok(opened) => self.open = Some(OpenFile::new(opened)),
                    Err(error) => {
                        self.at = self.files.len();
                        return Some(Err(Error::read(&file.path)(error)));
                    }
                }
            }
            let open = self.open.as_mut()?;
            let found = match file.kind {
                Kind::Plain => open.passage(),
                kind => open.object(kind),
            };
            match found {
                Ok(Some((line, Ok(record)))) => {
                    let file = self.at;
                    return Some(Ok(Located { file, line, record }));
                }
                Ok(Some((line, Err(fault)))) => {
                    let file = file.path.clone();
                    return Some(Err(Error::Line(LineError { file, line, fault })));
                }
                Ok(None) => {
                    self.open = None;
                    self.at += 1;
                }
                Err(error) => {
                    self.at = self.files.len();
                    return Some(Err(Error::read(&file.path)(error)));
                }
            }
        }
    }
}

/// A record or a fault, with its line.
type Found = Option<(u64, Result<Record, LineFault>)>;

impl OpenFile {
    fn new(file: File) -> Self {
        Self {
            lines: Lines::new(BufReader::with_capacity(1 << 16, file)),
            passage: String::new(),
            begins: true,
            line: 1,
            ended: false,
        }
    }

    /// The next line as JSON.
    fn object(&mut self, kind: Kind) -> std::io::Result<Found> {
        let next = self.lines.next()?;
        Ok(next.map(|(number, line)| (number, line.and_then(|line| parse(line, kind)))))
    }

    /// The next text, or the next part of one.
    fn passage(&mut self) -> std::io::Result<Found> {
        loop {
            if self.passage.len() >= MAX_PASSAGE_BYTES {
                let cut = place_to_cut(&self.passage);
                let rest = self.passage.split_off(cut);
                let text = std::mem::replace(&mut self.passage, rest);
                let passage = Passage {
                    text,
                    begins: std::mem::replace(&mut self.begins, false),
                    ends: false,
                };
                return Ok(Some((self.line, Ok(Record::Text(passage)))));
            }
            if self.ended {
                return Ok(self.finished());
            }
            match self.lines.next()? {
                None => self.ended = true,
                Some((number, Ok(SEPARATOR))) => {
                    let found = self.finished();
                    self.line = number + 1;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                Some((number, Ok(line))) => {
                    if self.passage.is_empty() {
                        self.line = number;
                        // What a text begins with is its first line that is not empty.
                        if line.is_empty() && self.begins {
                            continue;
                        }
                    }
                    self.passage.push_str(line);
                    self.passage.push('\n');
                }
                Some((number, Err(fault))) => {
                    // The text goes on after a line that is left out.
                    return Ok(Some((number, Err(fault))));
                }
            }
        }
    }

    /// The text that ends here, without the line breaks after it; none where it is blank.
    fn finished(&mut self) -> Found {
        let mut text = std::mem::take(&mut self.passage);
        let begins = std::mem::replace(&mut self.begins, true);
        text.truncate(text.trim_end_matches('\n').len());
        if text.trim().is_empty() {
            return None;
        }
        let passage = Passage {
            text,
            begins,
            ends: true,
        };
        Some((self.line, Ok(Record::Text(passage))))
    }
}

/// Where a text is cut that is longer than [`MAX_PASSAGE_BYTES`]: after its last line before that,
/// else before its last space, else between two characters.
fn place_to_cut(text: &str) -> usize {
    let end = text.floor_char_boundary(MAX_PASSAGE_BYTES);
    let head = &text[..end];
    let place = head
        .rfind('\n')
        .map(|at| at + 1)
        .or_else(|| head.rfind(' '));
    place.filter(|at| *at > 0).unwrap_or(end)
}
