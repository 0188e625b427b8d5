//! Content hashes, which name a payload, a cache entry, a file; and signatures, which say who
//! vouches for one.
//!
//! This crate is the only one that depends on crates for hashes and signatures, so that a look at
//! it tells which algorithms Vox relies on.
//!
//! | module | owns |
//! |---|---|
//! | `digest` | [`Digest`] and its written form, `<algorithm>:<lower-case hex>` |
//! | `hasher` | from bytes, readers and files to digests |
//! | `sign` | the keys that sign and verify, their files, and the kinds of things that are signed |
//! | [`canonical`] | the one encoding of values that are hashed or signed |
//! | [`tree`] | BLAKE3's tree of a large blob, by which a part of it is verified alone |
//! | [`merkle`] | one hash over the hashes of several files |
//!
//! In a component there are hashes alone: no keys, and nothing that takes random numbers.
//!
//! What must stay true: a digest carries its algorithm wherever it goes, two digests of different
//! algorithms are never equal, and every digest, key and signature has exactly one written form, so
//! that written ones may be compared and used as file names' parts. A signature over one kind of
//! thing never verifies as one over another ([`Domain`]).
//!
//! ```
//! let digest = vox_crypto::hash(b"");
//! let written = digest.to_string();
//! assert!(written.starts_with("blake3:af1349b9"));
//! assert_eq!(written.parse::<vox_crypto::Digest>()?, digest);
//! # Ok::<(), vox_crypto::Error>(())
//! ```

pub mod canonical;
mod digest;
mod hasher;
mod hex;
pub mod merkle;
#[cfg(not(target_family = "wasm"))]
mod sign;
pub mod tree;

pub use digest::{Algorithm, Digest};
pub use hasher::{Hasher, hash, hash_file, hash_reader, hash_with, sha3_256};
#[cfg(not(target_family = "wasm"))]
pub use sign::{
    Domain, KeyError, KeyFile, KeyFileFault, KeyId, MAX_KEY_NAME_BYTES, PublicKey, PublicKeyFile,
    Signature, Signed, SigningKey, verify_all,
};

use std::path::PathBuf;

/// Whether two secrets are the same, in a time that does not tell where they differ. Their lengths
/// are no secret.
///
/// Digests, public keys and signatures are known to everybody and are compared with `==`; this is
/// for what a stranger must not guess piece by piece, such as a token that opens a server.
#[cfg(not(target_family = "wasm"))]
pub fn equal_secrets(a: &[u8], b: &[u8]) -> bool {
    use subtle::ConstantTimeEq as _;
    a.ct_eq(b).into()
}

/// Why a digest could not be read or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text has no colon, so that it does not say which algorithm made it.
    #[error(
        "`{}` is not a digest: write the algorithm before the hash, as in `blake3:<hex>`",
        text.escape_debug()
    )]
    NoAlgorithm {
        /// The text that was to be read.
        text: String,
    },

    /// The algorithm before the colon is not one of [`Algorithm::ALL`].
    #[error(
        "`{}` is not a digest: algorithm `{}` is unknown; known are blake3, sha256, sha3-256 and \
         sha3-512",
        text.escape_debug(),
        name.escape_debug()
    )]
    UnknownAlgorithm {
        /// The text that was to be read.
        text: String,
        /// The part before the colon.
        name: String,
    },

    /// The part after the colon is too short or too long.
    #[error(
        "`{}` is not a digest: {algorithm} needs {expected} hexadecimal digits, found {found}",
        text.escape_debug()
    )]
    Length {
        /// The text that was to be read.
        text: String,
        /// The algorithm that the text names.
        algorithm: Algorithm,
        /// Digits that a digest of this algorithm has.
        expected: usize,
        /// Bytes that stand after the colon.
        found: usize,
    },

    /// The part after the colon holds something else than `0` to `9` and `a` to `f`.
    #[error(
        "`{}` is not a digest: only 0-9 and lower-case a-f may follow the colon",
        text.escape_debug()
    )]
    Digit {
        /// The text that was to be read.
        text: String,
    },

    /// A file that was to be hashed could not be read.
    #[error("cannot hash {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}
