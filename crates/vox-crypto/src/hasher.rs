//! From bytes to digests: at once, piece by piece, or out of a reader.
//!
//! Whatever the way, the same bytes give the same digest, and memory use does not grow with their
//! number.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::{Digest, Error};

/// Hashes bytes that arrive piece by piece. The digest does not depend on how they were cut.
#[derive(Debug, Clone, Default)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// A BLAKE3 hasher that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// The digest of everything that was taken so far; more may follow.
    pub fn finish(&self) -> Digest {
        Digest::blake3(*self.0.finalize().as_bytes())
    }
}

/// Takes everything that is written, so that `io::copy` and encoders can feed a hasher.
impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The digest of these bytes.
pub fn hash(bytes: &[u8]) -> Digest {
    Digest::blake3(*blake3::hash(bytes).as_bytes())
}

/// The digest of everything that the reader has left to give.
///
/// # Errors
/// Whatever reading fails with, except interruption, which is tried again.
pub fn hash_reader(reader: impl Read) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    hasher.0.update_reader(reader)?;
    Ok(hasher.finish())
}

/// The digest of a file's contents. Its name and its metadata play no part.
///
/// # Errors
/// [`Error::Read`], which names the file.
pub fn hash_file(path: impl AsRef<Path>) -> Result<Digest, Error> {
    let path = path.as_ref();
    File::open(path)
        .and_then(hash_reader)
        .map_err(|source| Error::Read {
            path: path.into(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From the official test vectors of BLAKE3, `test_vectors/test_vectors.json`: input lengths
    /// 0 and 1, first 32 bytes of `hash`.
    #[test]
    fn digests_are_those_of_the_official_test_vectors() {
        let empty = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        let zero = "blake3:2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213";
        assert_eq!(hash(b"").to_string(), empty);
        assert_eq!(hash(b"\0").to_string(), zero);
    }

    #[test]
    fn a_file_hashes_like_its_contents_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("payload");
        let contents = vec![7; 200_000];
        std::fs::write(&path, &contents).unwrap();
        assert_eq!(hash_file(&path).unwrap(), hash(&contents));

        let missing = dir.path().join("nothing-here");
        let message = hash_file(&missing).unwrap_err().to_string();
        assert!(message.contains("nothing-here"), "{message}");
    }

    proptest! {
        #[test]
        fn the_digest_does_not_depend_on_how_the_bytes_were_cut(
            bytes in proptest::collection::vec(any::<u8>(), 0..5000),
            cut in 0_usize..5000,
        ) {
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            let streamed = Hasher::new().update(head).update(tail).finish();
            prop_assert_eq!(streamed, hash(&bytes));
            prop_assert_eq!(hash_reader(&bytes[..]).unwrap(), hash(&bytes));
        }
    }
}
