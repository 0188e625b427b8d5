//! Examples on disk, so that data are tokenised once and not at every resume.
//!
//! One file holds all examples of a source:
//!
//! | part | content |
//! |---|---|
//! | magic | `VOXTOK1\n` |
//! | examples | for each: its tokens as 32-bit numbers, then a bit for each that says whether it is learnt, the first in the lowest bit, filled up to a byte |
//! | index | for each: the number of its tokens (32 bits) and its hash (64 bits) |
//! | summary | a [`Summary`] in canonical CBOR |
//! | tail | place of the index, number of examples, length of the summary (64 bits each) |
//! | checksum | BLAKE3 over all before it |
//!
//! Numbers are little-endian. The file appears under its name once it is whole and on disk; it is
//! verified when it is opened, and then read at the places that are asked for, so that memory holds
//! the index and nothing else.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use vox_crypto::{Hasher, canonical};

use super::example::Example;
use crate::error::Error;

const MAGIC: &[u8] = b"VOXTOK1\n";
const TAIL_BYTES: u64 = 3 * 8;
const CHECKSUM_BYTES: u64 = 32;
const ENTRY_BYTES: u64 = 4 + 8;

/// What was found when the data were tokenised.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Records that became examples.
    pub records: u64,
    /// Tokens of all examples.
    pub tokens: u64,
    /// Those of them that are learnt.
    pub learnt: u64,
    /// Lines that were left out because they could not be used.
    pub skipped: u64,
    /// What was wrong with the first of them, each with file and line.
    pub first_skipped: Vec<String>,
}

/// Lines left out that are told one by one.
const TOLD: usize = 10;

/// Writes examples.
#[derive(Debug)]
pub(crate) struct TokenFileWriter {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
    hasher: Hasher,
    index: Vec<Entry>,
    written: u64,
    summary: Summary,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    tokens: u32,
    hash: u64,
}

impl TokenFileWriter {
    /// A file that is to appear at `path`, whose directory is made.
    pub fn new(path: &Path) -> Result<Self, Error> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let file = std::fs::create_dir_all(directory)
            .and_then(|()| NamedTempFile::new_in(directory))
            .map_err(Error::write(directory))?;
        let mut writer = Self {
            path: path.into(),
            file: BufWriter::with_capacity(1 << 20, file),
            hasher: Hasher::new(),
            index: Vec::new(),
            written: 0,
            summary: Summary::default(),
        };
        writer.put(MAGIC)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.file.write_all(bytes).map_err(Error::write(&self.path))
    }

    /// Adds the examples of one record.
    pub fn add(&mut self, examples: &[Example]) -> Result<(), Error> {
        self.summary.records += 1;
        for example in examples {
            let tokens = u32::try_from(example.tokens.len());
            let numbered = u32::try_from(self.index.len());
            let (Ok(tokens), Ok(_)) = (tokens, numbered) else {
                return Err(Error::write(&self.path)(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    "more than 4,294,967,295 examples: divide the data",
                )));
            };
            let mut bytes =
                Vec::with_capacity(example.tokens.len() * 4 + example.learnt.len() / 8 + 1);
            bytes.extend(example.tokens.iter().flat_map(|token| token.to_le_bytes()));
            for eight in example.learnt.chunks(8) {
                let bits = (0..)
                    .zip(eight)
                    .map(|(bit, learnt)| u8::from(*learnt) << bit);
                bytes.push(bits.sum());
            }
            self.put(&bytes)?;
            let learnt = example.learnt.iter().skip(1).filter(|learnt| **learnt);
            self.summary.tokens += u64::from(tokens);
            self.summary.learnt += learnt.count() as u64;
            self.index.push(Entry {
                tokens,
                hash: example.hash(),
            });
        }
        Ok(())
    }

    /// Notes a line that was left out.
    pub fn skip(&mut self, fault: String) {
        self.summary.skipped += 1;
        if self.summary.first_skipped.len() < TOLD {
            self.summary.first_skipped.push(fault);
        }
    }

    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Makes the file appear.
    pub fn finish(mut self) -> Result<(), Error> {
        let index = self.written;
        let entries: Vec<u8> = self
            .index
            .iter()
            .flat_map(|entry| {
                let (tokens, hash) = (entry.tokens.to_le_bytes(), entry.hash.to_le_bytes());
                tokens.into_iter().chain(hash)
            })
            .collect();
        self.put(&entries)?;
        let unwritable = |error: canonical::Error| io::Error::other(error.to_string());
        let summary = canonical::encode(&self.summary)
            .map_err(unwritable)
            .map_err(Error::write(&self.path))?;
        self.put(&summary)?;
        for number in [index, self.index.len() as u64, summary.len() as u64] {
            self.put(&number.to_le_bytes())?;
        }
        let digest = self.hasher.finish();
        let path = self.path;
        let file = self.file.write_all(digest.as_bytes());
        let file = file.and_then(|()| {
            self.file
                .into_inner()
                .map_err(io::IntoInnerError::into_error)
        });
        let file = file.map_err(Error::write(&path))?;
        file.as_file().sync_all().map_err(Error::write(&path))?;
        file.persist(&path)
            .map_err(|error| Error::write(&path)(error.error))?;
        Ok(())
    }
}

/// Examples that were tokenised, each read when it is asked for.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    file: File,
    /// Where each example begins, and where the last ends.
    starts: Vec<u64>,
    tokens: Vec<u32>,
    hashes: Vec<u64>,
    summary: Summary,
}

impl TokenFile {
    /// Opens and verifies a file; none when there is none. It reads the file once.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Read`].
    pub fn open(path: &Path) -> Result<Option<Self>, Error> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::read(path)(error)),
        };
        let damaged = |what: &str| Error::Damaged {
            path: path.into(),
            message: format!("{what}: delete it, and it is made anew"),
        };
        let length = file.metadata().map_err(Error::read(path))?.len();
        let hashed = length
            .checked_sub(CHECKSUM_BYTES)
            .filter(|hashed| *hashed >= MAGIC.len() as u64 + TAIL_BYTES)
            .ok_or_else(|| damaged("the file is cut off"))?;
        let mut reader = BufReader::with_capacity(1 << 20, &file);
        let digest =
            vox_crypto::hash_reader((&mut reader).take(hashed)).map_err(Error::read(path))?;
        let mut checksum = [0; CHECKSUM_BYTES as usize];
        reader
            .read_exact(&mut checksum)
            .map_err(Error::read(path))?;
        if digest.as_bytes() != checksum {
            return Err(damaged("its checksum does not hold"));
        }
        let parsed = Parts::read(&mut reader, hashed).map_err(Error::read(path))?;
        let parts = parsed.ok_or_else(|| damaged("it has another format"))?;
        Ok(Some(Self {
            path: path.into(),
            starts: parts.starts,
            tokens: parts.tokens,
            hashes: parts.hashes,
            summary: parts.summary,
            file,
        }))
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// True when there are no examples.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// For each example, its hash.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The columns that an example takes in a row.
    pub fn columns(&self, example: u32) -> u32 {
        let tokens = self.tokens.get(example as usize);
        tokens.map_or(0, |tokens| tokens.saturating_sub(1))
    }

    /// What was found when the data were tokenised.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Reads an example; an empty one for a number that is not there.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn example(&self, example: u32) -> Result<Example, Error> {
        let at = example as usize;
        let (Some(&[start, end]), Some(&tokens)) =
            (self.starts.get(at..at + 2), self.tokens.get(at))
        else {
            return Ok(Example::default());
        };
        let mut bytes = vec![0; (end - start) as usize];
        read_at(&self.file, &mut bytes, start).map_err(Error::read(&self.path))?;
        let (ids, bits) = bytes.split_at(tokens as usize * 4);
        let (ids, _) = ids.as_chunks();
        let bit = |at: usize| {
            bits.get(at / 8)
                .is_some_and(|byte| byte >> (at % 8) & 1 == 1)
        };
        Ok(Example {
            tokens: ids.iter().map(|id| u32::from_le_bytes(*id)).collect(),
            learnt: (0..tokens as usize).map(bit).collect(),
        })
    }
}

/// What a file holds beside its examples.
struct Parts {
    starts: Vec<u64>,
    tokens: Vec<u32>,
    hashes: Vec<u64>,
    summary: Summary,
}

impl Parts {
    /// Reads them out of a file whose checksum holds; none when it is not of this format.
    fn read(reader: &mut BufReader<&File>, hashed: u64) -> io::Result<Option<Self>> {
        let mut magic = [0; MAGIC.len()];
        reader.seek(SeekFrom::Start(0))?;
        reader.read_exact(&mut magic)?;
        let mut numbers = [0; TAIL_BYTES as usize];
        reader.seek(SeekFrom::Start(hashed - TAIL_BYTES))?;
        reader.read_exact(&mut numbers)?;
        let (numbers, _) = numbers.as_chunks();
        let &[index, count, summary_bytes] = numbers else {
            return Ok(None);
        };
        let [index, count, summary_bytes] = [index, count, summary_bytes].map(u64::from_le_bytes);
        let length = count
            .checked_mul(ENTRY_BYTES)
            .and_then(|length| length.checked_add(summary_bytes));
        let end = length.and_then(|length| length.checked_add(index));
        if magic != *MAGIC || end != Some(hashed - TAIL_BYTES) {
            return Ok(None);
        }
        reader.seek(SeekFrom::Start(index))?;
        let mut parts = Self {
            starts: vec![MAGIC.len() as u64],
            tokens: Vec::new(),
            hashes: Vec::new(),
            summary: Summary::default(),
        };
        let mut start = MAGIC.len() as u64;
        for _ in 0..count {
            let (mut tokens, mut hash) = ([0; 4], [0; 8]);
            reader.read_exact(&mut tokens)?;
            reader.read_exact(&mut hash)?;
            let tokens = u32::from_le_bytes(tokens);
            start += u64::from(tokens) * 4 + u64::from(tokens).div_ceil(8);
            parts.starts.push(start);
            parts.tokens.push(tokens);
            parts.hashes.push(u64::from_le_bytes(hash));
        }
        let mut summary = Vec::new();
        reader.take(summary_bytes).read_to_end(&mut summary)?;
        let Ok(summary) = canonical::decode(&summary) else {
            return Ok(None);
        };
        parts.summary = summary;
        Ok((start == index).then_some(parts))
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt as _;
    while !bytes.is_empty() {
        match file.seek_read(bytes, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                bytes = &mut bytes[read..];
                offset += read as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(path: &Path, examples: &[Example]) {
        let mut writer = TokenFileWriter::new(path).unwrap();
        for example in examples {
            writer.add(std::slice::from_ref(example)).unwrap();
        }
        writer.skip("a:1: wrong".into());
        writer.finish().unwrap();
    }

    fn example(tokens: &[u32]) -> Example {
        Example {
            tokens: tokens.to_vec(),
            learnt: tokens.iter().map(|token| token % 3 == 0).collect(),
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(TokenFile::open(&dir.path().join("x")).unwrap().is_none());
    }

    #[test]
    fn the_summary_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/x");
        written(&path, &[example(&[3, 6, 7]), example(&[1, 2])]);
        let file = TokenFile::open(&path).unwrap().unwrap();
        let expected = Summary {
            records: 2,
            tokens: 5,
            learnt: 1,
            skipped: 1,
            first_skipped: vec!["a:1: wrong".into()],
        };
        assert_eq!(file.summary(), &expected);
        assert_eq!((file.len(), file.columns(0), file.columns(9)), (2, 2, 0));
    }

    #[test]
    fn any_changed_byte_and_any_cut_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        written(&path, &[example(&[3, 6, 7]), example(&[1, 2])]);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let error = TokenFile::open(&path).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{at}: {error}");
            std::fs::write(&path, &whole[..at]).unwrap();
            let error = TokenFile::open(&path).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{at}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = TokenFileWriter::new(&dir.path().join("x")).unwrap();
        writer.add(&[example(&[1, 2])]).unwrap();
        drop(writer);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_written_is_read(
            examples in proptest::collection::vec(proptest::collection::vec(any::<u32>(), 2..40), 0..20),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x");
            let examples: Vec<Example> = examples.iter().map(|tokens| example(tokens)).collect();
            written(&path, &examples);
            let file = TokenFile::open(&path).unwrap().unwrap();
            prop_assert_eq!(file.len(), examples.len());
            for (at, example) in (0..).zip(&examples) {
                prop_assert_eq!(&file.example(at).unwrap(), example);
                prop_assert_eq!(file.hashes()[at as usize], example.hash());
            }
        }
    }
}
