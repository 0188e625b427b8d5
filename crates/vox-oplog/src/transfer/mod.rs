//! Logs as files, for another machine.
//!
//! ```text
//! "vox log export 1\n"
//! for each op:  "o" | length u32, big-endian | canonical CBOR of the op
//! at the end:   "e" | length u32             | canonical CBOR: count, last, hash, head
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `export` | from a log to a file |
//! | `import` | from a file to a copy of the log, verified on the way |
//!
//! What must stay true: a file says nothing that is believed: ops are believed for their signatures and
//! their chain. A file that was cut is told by its missing end.

mod export;
mod import;

pub use export::Exported;
pub use import::{Imported, Replica};

use serde::{Deserialize, Serialize};
use vox_crypto::{PublicKey, Signature};

use crate::{Class, Hash, Kind, MAX_PAYLOAD_BYTES, Op, op};

const MAGIC: &[u8] = b"vox log export 1\n";
const OP: u8 = b'o';
const END: u8 = b'e';
/// The longest record: the largest payload and what an op has beside it.
const MAX_RECORD_BYTES: usize = MAX_PAYLOAD_BYTES + 4096;

/// An op in a file.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    seq: u64,
    prev: Hash,
    kind: String,
    time: i64,
    class: u8,
    author: Hash,
    run: Option<String>,
    step: Option<String>,
    #[serde(with = "serde_bytes")]
    payload: Vec<u8>,
    payload_hash: Hash,
    #[serde(with = "serde_bytes")]
    signature: Vec<u8>,
}

impl From<Op> for Written {
    fn from(op: Op) -> Self {
        Self {
            seq: op.seq,
            prev: op.prev,
            kind: op.kind.to_string(),
            time: op.time,
            class: op.class as u8,
            author: Hash(*op.author.as_bytes()),
            run: op.run,
            step: op.step,
            payload: op.payload,
            payload_hash: op.payload_hash,
            signature: op.signature.as_bytes().to_vec(),
        }
    }
}

impl Written {
    /// The op, or why there can be none like this. `author` is a key that it may be by.
    fn op(self, author: Option<PublicKey>) -> Result<Op, String> {
        let text = |error: crate::Error| error.to_string();
        op::check_id("run", self.run.as_deref()).map_err(text)?;
        op::check_id("step", self.step.as_deref()).map_err(text)?;
        let signature: [u8; 64] = self
            .signature
            .try_into()
            .map_err(|_| "its signature does not have 64 bytes")?;
        if self.payload.len() > MAX_PAYLOAD_BYTES || i64::try_from(self.seq).is_err() {
            return Err("its payload or its number is too large".into());
        }
        Ok(Op {
            seq: self.seq,
            prev: self.prev,
            kind: Kind::new(&self.kind).map_err(text)?,
            time: self.time,
            class: Class::of(i64::from(self.class)).ok_or("its class is none")?,
            author: match author.filter(|key| *key.as_bytes() == self.author.0) {
                Some(key) => key,
                None => PublicKey::from_bytes(&self.author.0).map_err(|error| error.to_string())?,
            },
            run: self.run,
            step: self.step,
            payload: self.payload,
            payload_hash: self.payload_hash,
            signature: Signature::from_bytes(signature),
        })
    }
}

/// The end of a file.
#[derive(Debug, Serialize, Deserialize)]
struct End {
    /// Ops in it.
    count: u64,
    /// The number of the last.
    last: u64,
    /// The hash of the last.
    hash: Hash,
    /// The signed head, where it is the last op.
    head: Option<serde_bytes::ByteBuf>,
}
