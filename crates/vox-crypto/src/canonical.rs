//! The one encoding of values that are hashed or signed.
//!
//! It is [DAG-CBOR](https://ipld.io/specs/codecs/dag-cbor/spec/), a strict subset of CBOR (RFC 8949):
//! integers and lengths in their shortest form, definite lengths only, map keys are texts, sorted by
//! length and then by their bytes, floats of 64 bits, no infinities and no NaN, no tags.
//!
//! What must stay true: a value has exactly one encoding, and [`decode`] refuses bytes that [`encode`]
//! would not have written. So whoever holds the bytes holds the value, and the hash of the one is the
//! hash of the other.
//!
//! ```
//! use std::collections::BTreeMap;
//! use vox_crypto::canonical;
//!
//! let value = BTreeMap::from([("seed", 7), ("id", 1)]);
//! let bytes = canonical::encode(&value)?;
//! assert_eq!(bytes, b"\xa2\x62id\x01\x64seed\x07");
//! assert_eq!(canonical::decode::<BTreeMap<String, i32>>(&bytes)?["seed"], 7);
//! # Ok::<(), vox_crypto::canonical::Error>(())
//! ```

use std::collections::BTreeSet;

use ipld_core::ipld::Ipld;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Digest;

/// Why a value could not be encoded, or bytes not be decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The value has something that the encoding has no form for.
    #[error("this value has no canonical encoding: {0}")]
    Encode(String),
    /// The bytes are no such encoding, or not of a value of this type.
    #[error("these bytes are no canonical CBOR of what is expected here: {0}")]
    Decode(String),
    /// The bytes decode, and are not the one way to write what they say.
    #[error("these bytes are CBOR, and not the canonical form of what they say")]
    NotCanonical,
}

/// The encoding of a value.
///
/// # Errors
/// [`Error::Encode`] when it holds NaN, an infinity, or a map whose keys are not texts.
pub fn encode(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, Error> {
    serde_ipld_dagcbor::to_vec(value).map_err(|error| Error::Encode(error.to_string()))
}

/// The value of an encoding that [`encode`] made. Fields that the type does not know are an error, as
/// they would be lost.
///
/// # Errors
/// [`Error::Decode`], and [`Error::NotCanonical`] when `encode` would have written other bytes.
pub fn decode<'a, T: Deserialize<'a> + Serialize>(bytes: &'a [u8]) -> Result<T, Error> {
    let value: T =
        serde_ipld_dagcbor::from_slice(bytes).map_err(|error| Error::Decode(error.to_string()))?;
    if encode(&value)? != bytes {
        return Err(Error::NotCanonical);
    }
    Ok(value)
}

/// Whether these bytes are the canonical encoding of anything.
///
/// # Errors
/// [`Error::Decode`] and [`Error::NotCanonical`].
pub fn check(bytes: &[u8]) -> Result<(), Error> {
    decode::<Ipld>(bytes).map(drop)
}

/// The value of an encoding in a form that needs no type, such as `serde_json::Value`. Unlike
/// [`decode`] it does not ask whether the encoding is canonical.
///
/// # Errors
/// [`Error::Decode`].
pub fn decode_any<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_ipld_dagcbor::from_slice(bytes).map_err(|error| Error::Decode(error.to_string()))
}

/// Every digest that stands in an encoded value as a text of its own: what the value links to.
///
/// Whoever keeps the value needs these things; that they are found in the value itself leaves nobody
/// to forget to say so.
///
/// # Errors
/// [`Error::Decode`].
pub fn links(bytes: &[u8]) -> Result<BTreeSet<Digest>, Error> {
    let value: Ipld = decode_any(bytes)?;
    let mut found = BTreeSet::new();
    let mut waiting = vec![&value];
    while let Some(value) = waiting.pop() {
        match value {
            Ipld::String(text) => found.extend(text.parse::<Digest>()),
            Ipld::List(values) => waiting.extend(values),
            Ipld::Map(values) => {
                found.extend(values.keys().filter_map(|key| key.parse::<Digest>().ok()));
                waiting.extend(values.values());
            }
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn another_way_to_write_a_value_is_refused() {
        let refused = |bytes: &[u8]| {
            assert!(check(bytes).is_err(), "{bytes:x?}");
        };
        check(b"\xa2\x61a\x01\x61b\x02").unwrap();
        refused(b"\xa2\x61b\x02\x61a\x01"); // keys out of order
        refused(b"\xa2\x61a\x01\x61a\x02"); // a key twice
        refused(b"\x18\x01"); // one in two bytes
        refused(b"\x9f\x01\xff"); // a list without a length
        refused(b"\xfb\x7f\xf8\0\0\0\0\0\0"); // NaN
        refused(b"\xf9\x3c\0"); // a float of 16 bits
        refused(b"\x01\x01"); // something behind the value
        refused(b"\xa1\x01\x02"); // a key that is no text
        refused(b"\xc1\x01"); // a tag
        refused(b"");
    }

    #[test]
    fn links_are_the_digests_wherever_they_stand() {
        let (a, b, c) = (crate::hash(b"a"), crate::hash(b"b"), crate::hash(b"c"));
        let value = serde_json::json!({
            "weights": a, "files": [{ "hash": b }], c.to_string(): 1, "text": format!("not {a}"),
        });
        let bytes = encode(&value).unwrap();
        assert_eq!(links(&bytes).unwrap(), BTreeSet::from([a, b, c]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            let _ = (check(&bytes), links(&bytes));
        }

        #[test]
        fn what_was_encoded_decodes(numbers: Vec<i64>, text: String) {
            let value = (numbers, text);
            let bytes = encode(&value).unwrap();
            prop_assert_eq!(decode::<(Vec<i64>, String)>(&bytes).unwrap(), value);
            check(&bytes).unwrap();
        }
    }
}
