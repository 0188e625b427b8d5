//! Keys and signatures in memory, and their written forms.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::Signer as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Domain, KeyError};
use crate::hex;

/// What stands before the digits of a written key or signature.
const PREFIX: &str = "ed25519:";

/// A key that signs. Whoever has it can vouch in its owner's name, so its `Debug` form shows the
/// public key only, and its bytes are overwritten when it is dropped.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A new key from the operating system's random numbers.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the system has none to give.
    pub fn generate() -> Result<Self, KeyError> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| KeyError::Random(error.to_string()))?;
        Ok(Self::from_secret(&secret))
    }

    /// The key of a secret: 32 bytes that nobody can guess (RFC 8032, section 5.1.5).
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// The secret in hexadecimal, for the key's file.
    pub(super) fn secret_hex(&self) -> String {
        hex::encode(self.0.as_bytes())
    }

    /// The key that verifies what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs `message` as a thing of the kind `domain`. The same message gives the same signature.
    pub fn sign(&self, domain: Domain, message: &[u8]) -> Signature {
        Signature(self.0.sign(&domain.separate(message)).to_bytes())
    }

    /// Signs for a domain that is none of [`Domain`], as another program would.
    #[cfg(test)]
    pub(super) fn sign_as(&self, domain: &str, message: &[u8]) -> Signature {
        Signature(self.0.sign(&super::separated(domain, message)).to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

/// A key that verifies signatures. Prints and parses as `ed25519:<lower-case hex>`; serde uses the
/// same text, and the order is that of the written forms.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

impl PublicKey {
    /// The key of these bytes (RFC 8032, section 5.1.2).
    ///
    /// # Errors
    /// [`KeyError::PublicKey`] when they are no point of the curve or not its one encoding,
    /// [`KeyError::Weak`] when the point is of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let text = || format!("{PREFIX}{}", hex::encode(bytes));
        let refuse = |why| KeyError::PublicKey { text: text(), why };
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes)
            .map_err(|_| refuse("no key has these bytes"))?;
        if key.is_weak() {
            return Err(KeyError::Weak { text: text() });
        }
        if key.to_edwards().compress().as_bytes() != bytes {
            return Err(refuse("it is not the one way to write this key"));
        }
        Ok(Self(key))
    }

    /// The key's 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// A short form for people. It says which of a user's keys is meant; whether two keys are the
    /// same is told by comparing the keys.
    pub fn id(&self) -> KeyId {
        let hash = blake3::hash(self.as_bytes());
        let mut id = [0; 8];
        id.copy_from_slice(&hash.as_bytes()[..8]);
        KeyId(id)
    }

    /// Verifies that this key signed `message` as a thing of the kind `domain`.
    ///
    /// # Errors
    /// [`KeyError::Mismatch`] when it did not.
    pub fn verify(
        &self,
        domain: Domain,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), KeyError> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0
            .verify_strict(&domain.separate(message), &signature)
            .map_err(|_| KeyError::Mismatch { key: self.id() })
    }
}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl std::hash::Hash for PublicKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = written(text).map_err(|why| KeyError::PublicKey {
            text: text.into(),
            why,
        })?;
        Self::from_bytes(&bytes)
    }
}

/// The short form of a public key: the first 8 bytes of its BLAKE3 hash, printed as 16 digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = hex::decode(text).map_err(|_| KeyError::KeyId { text: text.into() })?;
        Ok(Self(bytes))
    }
}

/// A signature. Prints and parses as `ed25519:<lower-case hex>`.
///
/// That a text is one says nothing yet: see [`PublicKey::verify`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; 64]);

impl Signature {
    /// The signature of these bytes (RFC 8032, section 5.1.6).
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Its 64 bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", hex::encode(&self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

impl FromStr for Signature {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        written(text)
            .map(Self)
            .map_err(|why| KeyError::Signature { why })
    }
}

/// One of several signed messages that are verified together.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// What was signed.
    pub message: &'a [u8],
    /// By whom.
    pub key: &'a PublicKey,
    /// The signature.
    pub signature: &'a Signature,
}

/// Verifies that each of these was signed as a thing of the kind `domain`, about twice as fast as one
/// by one.
///
/// It answers for all of them at once: where it fails, [`PublicKey::verify`] finds out which. The two
/// agree on every signature that [`SigningKey::sign`] makes and on everything that somebody without
/// the key can make. Whoever has the key can make signatures, with points of small order mixed in,
/// that pass the one and not the other; they vouch for no message that the key's owner did not sign.
///
/// # Errors
/// [`KeyError::Mismatch`] with the first key when one of them is wrong.
pub fn verify_all(domain: Domain, batch: &[Signed<'_>]) -> Result<(), KeyError> {
    let Some(first) = batch.first() else {
        return Ok(());
    };
    let messages: Vec<_> = batch
        .iter()
        .map(|one| domain.separate(one.message))
        .collect();
    let messages: Vec<_> = messages.iter().map(Vec::as_slice).collect();
    let signatures: Vec<_> = batch
        .iter()
        .map(|one| ed25519_dalek::Signature::from_bytes(&one.signature.0))
        .collect();
    let keys: Vec<_> = batch.iter().map(|one| one.key.0).collect();
    ed25519_dalek::verify_batch(&messages, &signatures, &keys).map_err(|_| KeyError::Mismatch {
        key: first.key.id(),
    })
}

/// The bytes of a written key or signature, or what is wrong with it.
fn written<const N: usize>(text: &str) -> Result<[u8; N], &'static str> {
    let digits = text
        .strip_prefix(PREFIX)
        .ok_or("it does not begin with `ed25519:`")?;
    hex::decode(digits).map_err(|fault| match fault {
        hex::Fault::Length => "it has another number of digits",
        hex::Fault::Digit => "only 0-9 and lower-case a-f may follow the colon",
    })
}

/// Serialises as the written form.
macro_rules! written_form {
    ($name:ident, $expecting:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Written;

                impl de::Visitor<'_> for Written {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Written)
            }
        }
    };
}

written_form!(PublicKey, "a public key, `ed25519:<hex>`");
written_form!(KeyId, "the id of a key, 16 hexadecimal digits");
written_form!(Signature, "a signature, `ed25519:<hex>`");
