//! From bytes to digests: at once, piece by piece, or out of a reader.
//!
//! Whatever the way, the same bytes give the same digest, and memory use does not grow with their
//! number.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sha3::Digest as _;

use crate::{Algorithm, Digest, Error};

/// Hashes bytes that arrive piece by piece. The digest does not depend on how they were cut.
#[derive(Debug, Clone)]
pub struct Hasher(State);

/// What a hasher has seen, by algorithm.
#[derive(Debug, Clone)]
enum State {
    Blake3(Box<blake3::Hasher>),
    Sha256(sha2::Sha256),
    Sha3_256(sha3::Sha3_256),
    Sha3_512(sha3::Sha3_512),
}

impl Hasher {
    /// A BLAKE3 hasher that has seen nothing yet.
    pub fn new() -> Self {
        Self::of(Algorithm::Blake3)
    }

    /// A hasher of this algorithm that has seen nothing yet.
    pub fn of(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Blake3 => State::Blake3(Box::default()),
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::default()),
            Algorithm::Sha3_256 => State::Sha3_256(sha3::Sha3_256::default()),
            Algorithm::Sha3_512 => State::Sha3_512(sha3::Sha3_512::default()),
        })
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        match &mut self.0 {
            State::Blake3(state) => {
                state.update(bytes);
            }
            State::Sha256(state) => state.update(bytes),
            State::Sha3_256(state) => state.update(bytes),
            State::Sha3_512(state) => state.update(bytes),
        }
        self
    }

    /// The digest of everything that was taken so far; more may follow.
    pub fn finish(&self) -> Digest {
        match &self.0 {
            State::Blake3(state) => Digest::blake3(*state.finalize().as_bytes()),
            State::Sha256(state) => Digest::sha256(state.clone().finalize().into()),
            State::Sha3_256(state) => Digest::sha3_256(state.clone().finalize().into()),
            State::Sha3_512(state) => Digest::sha3_512(state.clone().finalize().into()),
        }
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
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

/// The BLAKE3 digest of these bytes.
pub fn hash(bytes: &[u8]) -> Digest {
    Digest::blake3(*blake3::hash(bytes).as_bytes())
}

/// The digest of these bytes by this algorithm.
pub fn hash_with(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    Hasher::of(algorithm).update(bytes).finish()
}

/// The SHA3-256 hash of these bytes as bare bytes, for records that hold nothing else.
pub fn sha3_256(bytes: &[u8]) -> [u8; 32] {
    sha3::Sha3_256::digest(bytes).into()
}

/// The BLAKE3 digest of everything that the reader has left to give.
///
/// # Errors
/// Whatever reading fails with, except interruption, which is tried again.
pub fn hash_reader(reader: impl Read) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(reader)?;
    Ok(Digest::blake3(*hasher.finalize().as_bytes()))
}

/// The BLAKE3 digest of a file's contents. Its name and its metadata play no part.
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

    /// From the example values that NIST publishes for FIPS 180-4 and FIPS 202: the message `abc`.
    #[test]
    fn digests_are_those_of_the_published_examples() {
        let published = [
            (
                Algorithm::Sha256,
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                Algorithm::Sha3_256,
                "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
            ),
            (
                Algorithm::Sha3_512,
                "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e\
                 10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0",
            ),
        ];
        for (algorithm, hex) in published {
            let digest = hash_with(algorithm, b"abc");
            assert_eq!(digest.to_string(), format!("{algorithm}:{hex}"));
        }
        assert_eq!(
            sha3_256(b"abc"),
            hash_with(Algorithm::Sha3_256, b"abc").as_bytes()
        );
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
            for algorithm in Algorithm::ALL {
                let streamed = Hasher::of(*algorithm).update(head).update(tail).finish();
                prop_assert_eq!(streamed, hash_with(*algorithm, &bytes));
            }
            prop_assert_eq!(hash_with(Algorithm::Blake3, &bytes), hash(&bytes));
            prop_assert_eq!(hash_reader(&bytes[..]).unwrap(), hash(&bytes));
        }
    }
}
