//! What the ops of the log itself say: that it begins, who may write it, what was removed from it.
//!
//! What must stay true: these payloads are canonical CBOR of exactly these fields, and an op that says
//! something else is a fault, never ignored.

use serde::{Deserialize, Serialize};
use vox_crypto::{PublicKey, canonical};

use crate::{Class, Error, Fault, Hash, Kind, LogId, NewOp, Op};

/// The format of the ops, which the genesis states.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Genesis {
    format: u32,
    id: Hash,
    created: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct NewAuthor {
    key: PublicKey,
}

/// What a compaction removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compaction {
    /// Hot ops from before this time were removed; in microseconds since the Unix epoch.
    pub hot_before: i64,
    /// Warm ops from before this time were removed.
    pub warm_before: i64,
    /// Where ops are missing since, in order. Gaps of earlier compactions stand here again only where
    /// they have grown.
    pub gaps: Vec<Gap>,
}

/// A stretch of ops that are not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first of them.
    pub from: u64,
    /// The last of them.
    pub to: u64,
    /// The hash of the op before the first.
    pub prev: Hash,
    /// The hash of the last.
    pub hash: Hash,
    /// How many of them this compaction removed; earlier ones removed the others.
    pub removed: u64,
}

pub(crate) fn genesis(id: LogId, created: i64) -> Result<NewOp, Error> {
    let value = Genesis {
        format: FORMAT,
        id: Hash(id.0),
        created,
    };
    own(Kind::GENESIS, &value)
}

pub(crate) fn author(key: PublicKey) -> Result<NewOp, Error> {
    own(Kind::AUTHOR, &NewAuthor { key })
}

pub(crate) fn compaction(record: &Compaction) -> Result<NewOp, Error> {
    own(Kind::COMPACTION, record)
}

fn own(kind: &'static str, value: &impl Serialize) -> Result<NewOp, Error> {
    let payload = canonical::encode(value).map_err(|error| Error::Payload {
        kind: kind.into(),
        why: error.to_string(),
    })?;
    Ok(NewOp {
        kind: Kind::own(kind),
        class: Class::Kept,
        run: None,
        step: None,
        payload,
        time: None,
    })
}

/// Which log this op begins.
pub(crate) fn log_of(op: &Op) -> Result<LogId, Fault> {
    let refuse = |why: String| Fault::Genesis { why };
    if op.seq != 0 || op.kind.as_str() != Kind::GENESIS {
        return Err(refuse(format!("it is op {} of kind `{}`", op.seq, op.kind)));
    }
    if op.prev != Hash::ZERO {
        return Err(refuse("it names a predecessor".into()));
    }
    let genesis: Genesis =
        canonical::decode(&op.payload).map_err(|error| refuse(error.to_string()))?;
    if genesis.format != FORMAT {
        return Err(refuse(format!(
            "its format is {} and this Vox reads {FORMAT}",
            genesis.format
        )));
    }
    Ok(LogId(genesis.id.0))
}

/// The key that this op adds.
pub(crate) fn author_of(op: &Op) -> Result<PublicKey, Fault> {
    said::<NewAuthor>(op).map(|added| added.key)
}

/// What this op says was removed.
pub(crate) fn compaction_of(op: &Op) -> Result<Compaction, Fault> {
    let record: Compaction = said(op)?;
    for gap in &record.gaps {
        let sane = 0 < gap.from
            && gap.from <= gap.to
            && gap.to < op.seq
            && gap.removed > 0
            && gap.removed <= gap.to - gap.from + 1;
        if !sane {
            return Err(Fault::Compaction {
                record: op.seq,
                from: gap.from,
                to: gap.to,
                why: format!("it cannot have removed {} of them", gap.removed),
            });
        }
    }
    Ok(record)
}

fn said<'a, T: Serialize + Deserialize<'a>>(op: &'a Op) -> Result<T, Fault> {
    canonical::decode(&op.payload).map_err(|error| Fault::Control {
        seq: op.seq,
        why: error.to_string(),
    })
}
