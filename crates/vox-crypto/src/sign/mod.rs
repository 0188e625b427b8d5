//! Ed25519 signatures: who vouches for which bytes.
//!
//! | module | owns |
//! |---|---|
//! | `key` | [`SigningKey`], [`PublicKey`], [`KeyId`], [`Signature`] and their written forms |
//! | `file` | [`KeyFile`] and [`PublicKeyFile`]: keys on disk, the secret ones for one user only |
//!
//! Signatures are those of RFC 8032, section 5.1 (PureEdDSA), verified strictly: `s` must be below
//! the order of the group, and neither the key nor `R` may be of small order. So a signature cannot
//! be altered into another one that verifies too, and no key verifies what it never signed.
//!
//! What must stay true: nothing is signed or verified without its [`Domain`], and no secret is
//! printed, by `Debug` or in an error.
//!
//! ```
//! use vox_crypto::{Domain, SigningKey};
//!
//! let key = SigningKey::generate()?;
//! let signature = key.sign(Domain::PluginFiles, b"what is vouched for");
//! key.public().verify(Domain::PluginFiles, b"what is vouched for", &signature)?;
//! assert!(key.public().verify(Domain::PluginFiles, b"something else", &signature).is_err());
//! # Ok::<(), vox_crypto::KeyError>(())
//! ```

mod error;
mod file;
mod key;

pub use error::{KeyError, KeyFileFault};
pub use file::{KeyFile, MAX_KEY_NAME_BYTES, PublicKeyFile};
pub use key::{KeyId, PublicKey, Signature, Signed, SigningKey, verify_all};

/// What kind of thing is signed.
///
/// The kind's name stands before the message in what is signed, so that a signature over one kind
/// of thing never verifies as one over another, whatever bytes somebody can get signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Domain {
    /// The list of a plugin's files, `Plugin.sig`.
    PluginFiles,
    /// The hash of one op of an op-log.
    Op,
    /// Where an op-log ends.
    LogHead,
    /// The manifest of a model bundle.
    Bundle,
}

impl Domain {
    /// The name that is signed with the message. It never changes: every signature of this kind
    /// would become invalid.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PluginFiles => "plugin-files",
            Self::Op => "op",
            Self::LogHead => "log-head",
            Self::Bundle => "bundle",
        }
    }

    /// What is signed in place of `message`. No name holds a zero byte, so no two pairs of domain
    /// and message give the same bytes.
    fn separate(self, message: &[u8]) -> Vec<u8> {
        separated(self.name(), message)
    }
}

/// The bytes that are signed for a domain of this name.
fn separated(domain: &str, message: &[u8]) -> Vec<u8> {
    const PREFIX: &[u8] = b"vox signature 1\0";
    [PREFIX, domain.as_bytes(), b"\0", message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_differs_between_domains_however_the_message_is_chosen() {
        let signed = Domain::PluginFiles.separate(b"x");
        assert_eq!(signed, b"vox signature 1\0plugin-files\0x");
        assert_ne!(signed, separated("plugin", b"-files\0x"));
        assert_ne!(signed, separated("plugin-files\0x", b""));
    }

    #[test]
    fn a_message_that_was_signed_for_another_domain_is_refused() {
        let key = SigningKey::generate().unwrap();
        let refused = |signature| {
            let result = key.public().verify(Domain::PluginFiles, b"m", &signature);
            assert!(
                matches!(result, Err(KeyError::Mismatch { .. })),
                "{result:?}"
            );
        };
        refused(key.sign_as("operation", b"m"));
        refused(key.sign_as("", b"m"));
        for other in [Domain::Op, Domain::LogHead, Domain::Bundle] {
            refused(key.sign(other, b"m"));
        }
        let same = key.sign_as("plugin-files", b"m");
        key.public()
            .verify(Domain::PluginFiles, b"m", &same)
            .unwrap();
    }
}
