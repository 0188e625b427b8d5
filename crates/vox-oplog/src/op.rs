//! What an op is, and the bytes that its hash is over.
//!
//! ```text
//! "vox op 1\0"
//! seq u64 | prev 32 bytes | time i64 | class u8 | author 32 bytes
//! kind:  length u16, bytes
//! run:   length u16 (0xffff: none), bytes
//! step:  as run
//! hash of the payload 32 bytes
//! ```
//!
//! Numbers are big-endian. The hash of an op is the SHA3-256 of these bytes; what is signed is that
//! hash, in [`vox_crypto::Domain::Op`].
//!
//! What must stay true: the layout never changes, as every signature would become invalid; no two ops
//! have the same bytes, as every field of variable length is led by its length.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vox_crypto::{PublicKey, Signature, sha3_256};

use crate::Error;

/// The longest kind, in bytes.
pub const MAX_KIND_BYTES: usize = 64;
/// The longest id of a run or a step, in bytes.
pub const MAX_ID_BYTES: usize = 256;
/// The largest payload unless the options say otherwise, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;
/// Kinds that begin like this are those of the log itself.
pub(crate) const RESERVED: &str = "log.";

const TAG: &[u8] = b"vox op 1\0";
const NONE: u16 = u16::MAX;

/// A SHA3-256 hash that chains ops: prints as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// What stands in the place of the predecessor's hash in the first op.
    pub const ZERO: Self = Self([0; 32]);
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_bytes::ByteArray::deserialize(deserializer).map(|bytes| Self(bytes.into_array()))
    }
}

/// The name of a log, drawn at random when it is made: prints as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub [u8; 32]);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hash(self.0).fmt(f)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

/// What an op says: a name of lower-case words joined by dots, such as `training.checkpoint`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(Box<str>);

impl Kind {
    /// The first op of every log.
    pub const GENESIS: &'static str = "log.genesis";
    /// Adds a key that may write.
    pub const AUTHOR: &'static str = "log.author";
    /// Says which ops were removed.
    pub const COMPACTION: &'static str = "log.compaction";

    /// The kind of this name.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is not 1 to [`MAX_KIND_BYTES`] bytes of words of `a-z`, `0-9`, `_`
    /// and `-` that begin with a letter and are joined by single dots.
    pub fn new(name: &str) -> Result<Self, Error> {
        let word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_lowercase())
                && word.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte)
                })
        };
        if name.len() > MAX_KIND_BYTES || !name.split('.').all(word) {
            return Err(Error::Invalid {
                what: "kind",
                text: name.into(),
                why: "it is lower-case words joined by dots, at most 64 bytes, such as \
                      `training.checkpoint`",
            });
        }
        Ok(Self(name.into()))
    }

    /// The name of a kind that is a constant of this crate.
    pub(crate) fn own(name: &'static str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one of the log's own.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED)
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::new(name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({self})")
    }
}

/// How long an op is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// For a short time: progress, traces.
    Hot = 0,
    /// For a longer time: what a run did in detail.
    Warm = 1,
    /// For as long as the log is: what must stay provable.
    Kept = 2,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 3] = [Self::Hot, Self::Warm, Self::Kept];

    /// The class of this number.
    pub(crate) fn of(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as i64 == number)
    }

    /// `hot`, `warm` or `kept`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Warm => "warm",
            Self::Kept => "kept",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One signed record of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    /// Its place in the log, from 0.
    pub seq: u64,
    /// The hash of the op before it; [`Hash::ZERO`] in the first.
    pub prev: Hash,
    /// What it says.
    pub kind: Kind,
    /// Microseconds since the Unix epoch, as the clock of the writer said. The chain orders ops; the
    /// clock may jump.
    pub time: i64,
    /// How long it is kept.
    pub class: Class,
    /// Who signed it.
    pub author: PublicKey,
    /// The run that it belongs to.
    pub run: Option<String>,
    /// The step of that run.
    pub step: Option<String>,
    /// Canonical CBOR.
    pub payload: Vec<u8>,
    /// SHA3-256 of the payload.
    pub payload_hash: Hash,
    /// The author's signature over the op's hash.
    pub signature: Signature,
}

impl Op {
    /// The hash of the op, by which its successor names it.
    pub fn hash(&self) -> Hash {
        self.hash_with(&mut Vec::with_capacity(256))
    }

    /// As [`hash`](Self::hash), in a buffer that is used again.
    pub(crate) fn hash_with(&self, buffer: &mut Vec<u8>) -> Hash {
        Header {
            seq: self.seq,
            prev: &self.prev,
            kind: self.kind.as_str(),
            time: self.time,
            class: self.class,
            author: &self.author,
            run: self.run.as_deref(),
            step: self.step.as_deref(),
            payload_hash: &self.payload_hash,
        }
        .hash(buffer)
    }

    /// Bytes that it needs in memory, about.
    pub(crate) fn weight(&self) -> usize {
        512 + self.payload.len()
    }
}

/// What the hash of an op covers.
pub(crate) struct Header<'a> {
    pub seq: u64,
    pub prev: &'a Hash,
    pub kind: &'a str,
    pub time: i64,
    pub class: Class,
    pub author: &'a PublicKey,
    pub run: Option<&'a str>,
    pub step: Option<&'a str>,
    pub payload_hash: &'a Hash,
}

impl Header<'_> {
    pub fn hash(&self, buffer: &mut Vec<u8>) -> Hash {
        buffer.clear();
        buffer.extend_from_slice(TAG);
        buffer.extend_from_slice(&self.seq.to_be_bytes());
        buffer.extend_from_slice(&self.prev.0);
        buffer.extend_from_slice(&self.time.to_be_bytes());
        buffer.push(self.class as u8);
        buffer.extend_from_slice(self.author.as_bytes());
        for text in [Some(self.kind), self.run, self.step] {
            let length = text.map_or(NONE, |text| u16::try_from(text.len()).unwrap_or(NONE - 1));
            buffer.extend_from_slice(&length.to_be_bytes());
            buffer.extend_from_slice(text.unwrap_or_default().as_bytes());
        }
        buffer.extend_from_slice(&self.payload_hash.0);
        Hash(sha3_256(buffer))
    }
}

/// An op that is to be appended.
#[derive(Debug, Clone)]
pub struct NewOp {
    /// What it says.
    pub kind: Kind,
    /// How long it is kept.
    pub class: Class,
    /// The run that it belongs to.
    pub run: Option<String>,
    /// The step of that run.
    pub step: Option<String>,
    /// Canonical CBOR ([`vox_crypto::canonical`]).
    pub payload: Vec<u8>,
    /// Microseconds since the Unix epoch; none for the time at which it is handed over.
    pub time: Option<i64>,
}

impl NewOp {
    /// An op of class [`Class::Warm`] that belongs to no run.
    ///
    /// # Errors
    /// See [`Kind::new`].
    pub fn new(kind: &str, payload: Vec<u8>) -> Result<Self, Error> {
        Ok(Self {
            kind: Kind::new(kind)?,
            class: Class::Warm,
            run: None,
            step: None,
            payload,
            time: None,
        })
    }

    /// The same op of this class.
    pub fn class(self, class: Class) -> Self {
        Self { class, ..self }
    }

    /// The same op as one of this run.
    pub fn run(self, run: impl Into<String>) -> Self {
        let run = Some(run.into());
        Self { run, ..self }
    }

    /// The same op as one of this step.
    pub fn step(self, step: impl Into<String>) -> Self {
        let step = Some(step.into());
        Self { step, ..self }
    }

    /// The same op with a time of its own, in microseconds since the Unix epoch.
    pub fn at(self, time: i64) -> Self {
        let time = Some(time);
        Self { time, ..self }
    }
}

/// Refuses an id of a run or step that cannot be one.
pub(crate) fn check_id(what: &'static str, id: Option<&str>) -> Result<(), Error> {
    match id {
        Some(id) if id.is_empty() || id.len() > MAX_ID_BYTES || id.contains(char::is_control) => {
            Err(Error::Invalid {
                what,
                text: id.chars().take(MAX_ID_BYTES).collect(),
                why: "it is 1 to 256 bytes without control characters",
            })
        }
        _ => Ok(()),
    }
}

/// A time in microseconds since the Unix epoch.
pub fn micros(time: SystemTime) -> i64 {
    let signed = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => signed(since),
        Err(before) => -signed(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vox_crypto::SigningKey;

    fn op() -> Op {
        let key = SigningKey::from_secret(&[7; 32]);
        Op {
            seq: 3,
            prev: Hash([1; 32]),
            kind: Kind::new("a.b").unwrap(),
            time: -5,
            class: Class::Warm,
            author: key.public(),
            run: None,
            step: Some("s".into()),
            payload: b"\x01".to_vec(),
            payload_hash: Hash(sha3_256(b"\x01")),
            signature: Signature::from_bytes([0; 64]),
        }
    }

    #[test]
    fn the_hash_is_over_the_documented_bytes() {
        let op = op();
        let bytes = [
            &b"vox op 1\0"[..],
            &3u64.to_be_bytes(),
            &[1; 32],
            &(-5i64).to_be_bytes(),
            &[1],
            op.author.as_bytes(),
            b"\0\x03a.b",
            b"\xff\xff",
            b"\0\x01s",
            &op.payload_hash.0,
        ]
        .concat();
        assert_eq!(op.hash(), Hash(sha3_256(&bytes)));
    }

    #[test]
    fn a_run_is_not_mistaken_for_a_step_nor_none_for_something() {
        let step = op();
        let run = Op {
            run: step.step.clone(),
            step: None,
            ..step.clone()
        };
        let neither = Op {
            step: None,
            ..step.clone()
        };
        assert_ne!(step.hash(), run.hash());
        assert_ne!(step.hash(), neither.hash());
    }

    #[test]
    fn a_kind_is_lower_case_words_joined_by_dots() {
        for good in ["a", "training.checkpoint", "a-b.c_d.e2"] {
            assert_eq!(Kind::new(good).unwrap().as_str(), good);
        }
        let long = "a".repeat(65);
        for bad in [
            "", ".", "a.", ".a", "a..b", "A", "a b", "ä", "1a", "a\u{1b}", &long,
        ] {
            assert!(Kind::new(bad).is_err(), "{bad:?}");
        }
        let refusal = Kind::new("\u{1b}[2J").unwrap_err().to_string();
        assert!(!refusal.contains('\u{1b}'), "{refusal:?}");
    }
}
