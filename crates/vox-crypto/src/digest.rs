//! The digest type and its written form.
//!
//! The bytes are private to this module and differ in number by algorithm, so that a longer hash
//! or another way to compare them changes nothing for those who hold a digest.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, hex};

/// A hash algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// BLAKE3 with its default output of 256 bits: what the store names its blobs by.
    Blake3,
    /// SHA-256 (FIPS 180-4): what registries and hubs publish for their files.
    Sha256,
    /// SHA3-256 (FIPS 202): what chains the op-log.
    Sha3_256,
    /// SHA3-512 (FIPS 202): what names the weights of a model.
    Sha3_512,
}

impl Algorithm {
    /// Every algorithm that a digest may name.
    pub const ALL: &'static [Self] = &[Self::Blake3, Self::Sha256, Self::Sha3_256, Self::Sha3_512];

    /// The name that stands before the colon of a written digest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
            Self::Sha3_256 => "sha3-256",
            Self::Sha3_512 => "sha3-512",
        }
    }

    /// Length of a digest in bytes.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Blake3 | Self::Sha256 | Self::Sha3_256 => 32,
            Self::Sha3_512 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The hash of some bytes, together with the algorithm that made it.
///
/// Prints and parses as `<algorithm>:<lower-case hex>`; serde uses the same text. The order is
/// that of the written forms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Bytes);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Bytes {
    Blake3([u8; 32]),
    Sha256([u8; 32]),
    Sha3_256([u8; 32]),
    Sha3_512([u8; 64]),
}

impl Digest {
    /// A BLAKE3 digest of these bytes.
    pub const fn blake3(bytes: [u8; 32]) -> Self {
        Self(Bytes::Blake3(bytes))
    }

    /// A SHA-256 digest of these bytes.
    pub const fn sha256(bytes: [u8; 32]) -> Self {
        Self(Bytes::Sha256(bytes))
    }

    /// A SHA3-256 digest of these bytes.
    pub const fn sha3_256(bytes: [u8; 32]) -> Self {
        Self(Bytes::Sha3_256(bytes))
    }

    /// A SHA3-512 digest of these bytes.
    pub const fn sha3_512(bytes: [u8; 64]) -> Self {
        Self(Bytes::Sha3_512(bytes))
    }

    /// The algorithm that made it.
    pub const fn algorithm(&self) -> Algorithm {
        match self.0 {
            Bytes::Blake3(_) => Algorithm::Blake3,
            Bytes::Sha256(_) => Algorithm::Sha256,
            Bytes::Sha3_256(_) => Algorithm::Sha3_256,
            Bytes::Sha3_512(_) => Algorithm::Sha3_512,
        }
    }

    /// The hash itself, [`Algorithm::digest_len`] bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Blake3(bytes) | Bytes::Sha256(bytes) | Bytes::Sha3_256(bytes) => bytes,
            Bytes::Sha3_512(bytes) => bytes,
        }
    }

    /// The hash in lower-case hexadecimal, without the algorithm: for names of files in a place
    /// that holds digests of one algorithm only.
    pub fn to_hex(&self) -> String {
        hex::encode(self.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let Some((name, hex)) = text.split_once(':') else {
            return Err(Error::NoAlgorithm { text: text.into() });
        };
        let algorithm = Algorithm::ALL
            .iter()
            .copied()
            .find(|algorithm| algorithm.name() == name);
        match algorithm {
            Some(known @ Algorithm::Blake3) => decode(text, known, hex).map(Self::blake3),
            Some(known @ Algorithm::Sha256) => decode(text, known, hex).map(Self::sha256),
            Some(known @ Algorithm::Sha3_256) => decode(text, known, hex).map(Self::sha3_256),
            Some(known @ Algorithm::Sha3_512) => decode(text, known, hex).map(Self::sha3_512),
            None => Err(Error::UnknownAlgorithm {
                text: text.into(),
                name: name.into(),
            }),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl de::Visitor<'_> for Written {
            type Value = Digest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a digest such as `blake3:<hex>`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Digest, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Written)
    }
}

/// The bytes that `hex` spells; `text` is the whole digest, for the error.
fn decode<const N: usize>(text: &str, algorithm: Algorithm, hex: &str) -> Result<[u8; N], Error> {
    hex::decode(hex).map_err(|fault| match fault {
        hex::Fault::Length => Error::Length {
            text: text.into(),
            algorithm,
            expected: 2 * N,
            found: hex.len(),
        },
        hex::Fault::Digit => Error::Digit { text: text.into() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digests() -> impl Strategy<Value = Digest> {
        let long = (any::<[u8; 32]>(), any::<[u8; 32]>());
        prop_oneof![
            any::<[u8; 32]>().prop_map(Digest::blake3),
            any::<[u8; 32]>().prop_map(Digest::sha256),
            any::<[u8; 32]>().prop_map(Digest::sha3_256),
            long.prop_map(
                |(a, b)| Digest::sha3_512(std::array::from_fn(|at| if at < 32 {
                    a[at]
                } else {
                    b[at - 32]
                }))
            ),
        ]
    }

    proptest! {
        #[test]
        fn a_written_digest_reads_back_as_itself(digest in digests()) {
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            let json = serde_json::to_string(&digest).unwrap();
            prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = text.parse::<Digest>();
            for algorithm in Algorithm::ALL {
                let _ = format!("{algorithm}:{text}").parse::<Digest>();
            }
        }

        #[test]
        fn digests_sort_as_they_are_written(a in digests(), b in digests()) {
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }

    #[test]
    fn what_is_not_a_digest_is_refused_with_the_reason() {
        let refusal = |text: &str| text.parse::<Digest>().unwrap_err().to_string();
        assert!(refusal("af13").contains("write the algorithm before the hash"));
        assert!(refusal("md5:af13").contains("algorithm `md5` is unknown"));
        assert!(refusal("blake3:af13").contains("needs 64 hexadecimal digits, found 4"));
        let upper = format!("blake3:{}", "AF".repeat(32));
        assert!(refusal(&upper).contains("lower-case"));
    }

    #[test]
    fn a_refusal_shows_control_characters_and_does_not_print_them() {
        for text in ["\u{1b}[2J", "\u{1b}:0", "blake3:\u{1b}"] {
            let refusal = text.parse::<Digest>().unwrap_err().to_string();
            assert!(!refusal.contains('\u{1b}'), "{refusal:?}");
            assert!(refusal.contains("\\u{1b}"), "{refusal:?}");
        }
    }
}
