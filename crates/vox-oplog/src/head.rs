//! The head file: where the log ends, signed by who wrote the last op.
//!
//! ```text
//! "vox log head 1\0\0" | log id 32 bytes | seq u64 | hash 32 bytes | author 32 bytes | signature 64
//! ```
//!
//! A database that is put back to an earlier state is sound in itself. The head file stands outside of
//! it and tells: the log has to contain the op that it names.
//!
//! What must stay true: the file is never ahead of what is durable in the log. So it is written after
//! a commit has returned, and without an `fsync`: after a loss of power it may name an earlier op, which
//! is not wrong. It names no earlier op than it did, by whatever process it is written: it is written
//! under a lock on itself, and only forwards. It is made durable before ops are removed.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use vox_crypto::{Domain, PublicKey, Signature, SigningKey};

use crate::{Error, Fault, Hash, LogId};

const MAGIC: &[u8; 16] = b"vox log head 1\0\0";
/// Bytes that are signed: all but the signature.
const SIGNED_BYTES: usize = 120;
/// How often a head that is not valid is read again.
const TRIES: usize = 50;
/// Bytes of the file.
pub(crate) const HEAD_BYTES: usize = SIGNED_BYTES + 64;
/// The name of the file.
pub(crate) const FILE: &str = "head";

/// Where a log ends, or ended once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Which log.
    pub log: LogId,
    /// The number of its last op.
    pub seq: u64,
    /// The hash of that op.
    pub hash: Hash,
    /// Who says so.
    pub author: PublicKey,
    /// The author's signature over this.
    pub signature: Signature,
}

impl Head {
    pub(crate) fn sign(key: &SigningKey, log: LogId, seq: u64, hash: Hash) -> Self {
        let author = key.public();
        let signature = key.sign(Domain::LogHead, &message(&log, seq, &hash, &author));
        Self {
            log,
            seq,
            hash,
            author,
            signature,
        }
    }

    /// The head in writing.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = message(&self.log, self.seq, &self.hash, &self.author);
        bytes.extend_from_slice(self.signature.as_bytes());
        bytes
    }

    /// The head of these bytes; its author signed it, whoever that is.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() != HEAD_BYTES {
            return Err(format!("it has {} bytes and not {HEAD_BYTES}", bytes.len()));
        }
        let rest = bytes
            .strip_prefix(MAGIC.as_slice())
            .ok_or("it does not begin as a head file does")?;
        let short = || "it is too short".to_owned();
        let (log, rest) = rest.split_first_chunk::<32>().ok_or_else(short)?;
        let (seq, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let (hash, rest) = rest.split_first_chunk::<32>().ok_or_else(short)?;
        let (author, rest) = rest.split_first_chunk::<32>().ok_or_else(short)?;
        let signature: [u8; 64] = rest.try_into().map_err(|_| short())?;
        let author = PublicKey::from_bytes(author).map_err(|error| error.to_string())?;
        let head = Self {
            log: LogId(*log),
            seq: u64::from_be_bytes(*seq),
            hash: Hash(*hash),
            author,
            signature: Signature::from_bytes(signature),
        };
        author
            .verify(
                Domain::LogHead,
                bytes.get(..SIGNED_BYTES).unwrap_or_default(),
                &head.signature,
            )
            .map_err(|error| error.to_string())?;
        Ok(head)
    }

    /// Reads the head file of a log's directory; none when there is none.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Fault::Head`] when it is not valid.
    pub fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE);
        match File::open(&path) {
            Ok(file) => {
                // A reader takes no lock, as one that was stopped would stop the writers. What it sees
                // of a write that is under way is another thing the next time.
                let mut tries = 0;
                loop {
                    match read(&file, &path) {
                        Err(Error::Fault { .. }) if tries < TRIES => tries += 1,
                        result => return result,
                    }
                    std::thread::yield_now();
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", &path)(error)),
        }
    }
}

fn message(log: &LogId, seq: u64, hash: &Hash, author: &PublicKey) -> Vec<u8> {
    [
        MAGIC.as_slice(),
        &log.0,
        &seq.to_be_bytes(),
        &hash.0,
        author.as_bytes(),
    ]
    .concat()
}

fn read(mut file: &File, path: &Path) -> Result<Option<Head>, Error> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + 1);
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.take(HEAD_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(Error::io("read", path))?;
    // What is left of a file whose first bytes never reached the disk.
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    Head::from_bytes(&bytes)
        .map(Some)
        .map_err(|why| Error::fault(path, Fault::Head { why }))
}

/// The head file of a log that is written.
#[derive(Debug)]
pub(crate) struct HeadFile {
    file: File,
    path: PathBuf,
}

impl HeadFile {
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(Error::io("open", &path))?;
        Ok(Self { file, path })
    }

    /// Writes this head unless the file names a later op of the same log. `durably`: with an `fsync`.
    pub fn advance(&self, head: &Head, durably: bool) -> Result<(), Error> {
        let mut file = &self.file;
        file.lock().map_err(Error::io("lock", &self.path))?;
        let written = (|| {
            let ahead = read(file, &self.path)
                .is_ok_and(|now| now.is_some_and(|now| now.log == head.log && now.seq > head.seq));
            if !ahead {
                file.seek(SeekFrom::Start(0))
                    .and_then(|_| file.write_all(&head.to_bytes()))
                    .map_err(Error::io("write", &self.path))?;
            }
            if durably {
                file.sync_data().map_err(Error::io("sync", &self.path))?;
            }
            Ok(())
        })();
        file.unlock().map_err(Error::io("unlock", &self.path))?;
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back_and_a_flipped_bit_anywhere_is_found() {
        let key = SigningKey::from_secret(&[3; 32]);
        let head = Head::sign(&key, LogId([1; 32]), 7, Hash([2; 32]));
        let bytes = head.to_bytes();
        assert_eq!(Head::from_bytes(&bytes), Ok(head));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert!(Head::from_bytes(&flipped).is_err(), "byte {at}");
            assert!(Head::from_bytes(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn the_file_only_goes_forwards() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::from_secret(&[3; 32]);
        let head = |seq| Head::sign(&key, LogId([1; 32]), seq, Hash([2; 32]));
        let file = HeadFile::open(dir.path()).unwrap();
        assert_eq!(Head::read(dir.path()).unwrap(), None);
        file.advance(&head(5), true).unwrap();
        file.advance(&head(4), false).unwrap();
        assert_eq!(Head::read(dir.path()).unwrap(), Some(head(5)));
    }
}
