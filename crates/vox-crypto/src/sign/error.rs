//! What is wrong with keys, signatures and the files of keys.

use std::io;
use std::path::PathBuf;

/// Why a key or a signature cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is no public key.
    #[error(
        "`{}` is not a public key: {why}; it is written `ed25519:` and 64 digits of 0-9a-f",
        text.escape_debug()
    )]
    PublicKey {
        /// The text that was to be read.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The text is no signature.
    #[error("this is not a signature: {why}; it is written `ed25519:` and 128 digits of 0-9a-f")]
    Signature {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The text is no short form of a key.
    #[error("`{}` is not the id of a key: that is 16 digits of 0-9a-f", text.escape_debug())]
    KeyId {
        /// The text that was to be read.
        text: String,
    },
    /// Every message would verify under this key.
    #[error("the key {text} is weak: it verifies what nobody signed; make another one")]
    Weak {
        /// The key.
        text: String,
    },
    /// The key did not sign this, or not as a thing of this kind.
    #[error("the signature is not one of key {key} over this content")]
    Mismatch {
        /// The key's short form.
        key: super::KeyId,
    },
    /// The operating system has no random numbers to give.
    #[error("no key can be made: the system gives no random numbers ({0})")]
    Random(String),
    /// A name that a key file cannot hold.
    #[error(
        "`{}` cannot be the name of a key: it is one line of 1 to {} bytes without control \
         characters and without space at its ends", name.escape_debug(), super::MAX_KEY_NAME_BYTES
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The file system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A key file is not what it should be.
    #[error("the key file {} is refused: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: KeyFileFault,
    },
}

/// What is wrong with a key file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileFault {
    /// Somebody else may read the secret.
    #[error(
        "others than its owner may open it (mode {mode:o}), so its secret may be known; make a new \
         key, or if nobody can have read it: `chmod 600`"
    )]
    Open {
        /// The permission bits.
        mode: u32,
    },
    /// It is a directory, a pipe, a device.
    #[error("it is not a regular file")]
    NotAFile,
    /// It is larger than any key file.
    #[error("it is too large for a key")]
    TooLarge,
    /// It does not have the lines of a key file.
    #[error("{0}; `vox plugin keygen` writes such files")]
    Malformed(&'static str),
    /// The public key in it is not that of the secret.
    #[error("its public key does not belong to its secret; restore it from a copy")]
    Torn,
}
