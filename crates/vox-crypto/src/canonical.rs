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

/// How deep lists and maps may stand in each other in what [`check`] accepts.
pub const MAX_DEPTH: usize = 128;

/// Whether these bytes are the canonical encoding of anything. It looks at each byte once and makes no
/// value, so that it costs little beside a hash of the bytes.
///
/// # Errors
/// [`Error::Decode`] and [`Error::NotCanonical`].
pub fn check(bytes: &[u8]) -> Result<(), Error> {
    let mut scan = Scan { bytes };
    scan.item(0)?;
    match scan.bytes {
        [] => Ok(()),
        _ => Err(Error::Decode(
            "something stands behind the value".to_owned(),
        )),
    }
}

/// What is left of an encoding.
struct Scan<'a> {
    bytes: &'a [u8],
}

impl<'a> Scan<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], Error> {
        let taken = usize::try_from(count)
            .ok()
            .and_then(|count| self.bytes.split_at_checked(count));
        let (taken, rest) =
            taken.ok_or_else(|| Error::Decode("it ends within a value".to_owned()))?;
        self.bytes = rest;
        Ok(taken)
    }

    /// The major type of the next item, its additional information, and the number that this stands for
    /// (RFC 8949, section 3).
    fn head(&mut self) -> Result<(u8, u8, u64), Error> {
        let [first] = *self.take(1)? else {
            return Err(Error::NotCanonical);
        };
        let (major, info) = (first >> 5, first & 0x1f);
        let (width, least) = match info {
            0..24 => return Ok((major, info, info.into())),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            _ => return Err(Error::NotCanonical),
        };
        let number = self
            .take(width)?
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
        // A float has its width whatever it is; everything else its shortest form.
        if major != 7 && number < least {
            return Err(Error::NotCanonical);
        }
        Ok((major, info, number))
    }

    fn text(&mut self, len: u64) -> Result<&'a [u8], Error> {
        let text = self.take(len)?;
        str::from_utf8(text).map_err(|error| Error::Decode(error.to_string()))?;
        Ok(text)
    }

    fn item(&mut self, depth: usize) -> Result<(), Error> {
        let (major, info, number) = self.head()?;
        if matches!(major, 4 | 5) && depth == MAX_DEPTH {
            return Err(Error::Decode(format!(
                "it is more than {MAX_DEPTH} levels deep"
            )));
        }
        match major {
            0 | 1 => Ok(()),
            2 => self.take(number).map(drop),
            3 => self.text(number).map(drop),
            4 => (0..number).try_for_each(|_| self.item(depth + 1)),
            5 => self.map(number, depth),
            7 => match info {
                20..=22 => Ok(()),
                27 if f64::from_bits(number).is_finite() => Ok(()),
                _ => Err(Error::NotCanonical),
            },
            _ => Err(Error::NotCanonical),
        }
    }

    /// Pairs whose keys are texts, the shorter first and those of one length in the order of their bytes.
    fn map(&mut self, pairs: u64, depth: usize) -> Result<(), Error> {
        let mut before: Option<&[u8]> = None;
        for _ in 0..pairs {
            let (3, _, len) = self.head()? else {
                return Err(Error::NotCanonical);
            };
            let key = self.text(len)?;
            if before.is_some_and(|before| (before.len(), before) >= (key.len(), key)) {
                return Err(Error::NotCanonical);
            }
            before = Some(key);
            self.item(depth + 1)?;
        }
        Ok(())
    }
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

    fn has_link(value: &Ipld) -> bool {
        match value {
            Ipld::Link(_) => true,
            Ipld::List(values) => values.iter().any(has_link),
            Ipld::Map(values) => values.values().any(has_link),
            _ => false,
        }
    }

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

    /// Values of every kind that the encoding has.
    fn values() -> impl Strategy<Value = Ipld> {
        let leaf = prop_oneof![
            Just(Ipld::Null),
            any::<bool>().prop_map(Ipld::Bool),
            any::<i64>().prop_map(|number| Ipld::Integer(number.into())),
            any::<u64>().prop_map(|number| Ipld::Integer(number.into())),
            proptest::num::f64::NORMAL.prop_map(Ipld::Float),
            ".{0,40}".prop_map(Ipld::String),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(Ipld::Bytes),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Ipld::List),
                proptest::collection::btree_map(".{0,12}", inner, 0..6).prop_map(Ipld::Map),
            ]
        })
    }

    #[test]
    fn a_value_that_is_too_deep_is_refused_and_costs_no_stack() {
        let nested = |depth: usize| [vec![0x81; depth], vec![0]].concat();
        check(&nested(MAX_DEPTH)).unwrap();
        assert!(check(&nested(MAX_DEPTH + 1)).is_err());
        assert!(check(&nested(1 << 20)).is_err());
        assert!(links(&nested(1 << 20)).is_err());
        // A list that claims to be long costs nothing either.
        assert!(check(b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            let _ = (check(&bytes), links(&bytes));
        }

        #[test]
        fn a_check_accepts_what_decoding_and_encoding_again_does(
            value in values(),
            place: proptest::sample::Index,
            flip in 0_u8..=255,
        ) {
            let mut bytes = encode(&value).unwrap();
            check(&bytes).unwrap();
            let at = place.index(bytes.len());
            bytes[at] ^= flip;
            // Tags are left out: DAG-CBOR has one for links of another kind.
            let has_link = matches!(decode_any::<Ipld>(&bytes), Ok(value) if has_link(&value));
            prop_assert_eq!(check(&bytes).is_ok(), decode::<Ipld>(&bytes).is_ok() && !has_link);
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
