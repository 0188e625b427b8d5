//! From what somebody wants to append to signed ops.
//!
//! The hash of an op does not cover its signature, so the hashes of a batch are chained first, one
//! after the other, and the signatures are made in parallel.

use std::num::NonZero;
use std::thread;
use std::time::SystemTime;

use vox_crypto::{Domain, PublicKey, Signature, SigningKey, canonical, sha3_256};

use crate::db::Tip;
use crate::head::Head;
use crate::{Error, Hash, LogId, NewOp, Op, op};

/// Ops below which another thread costs more than it saves.
const OPS_PER_THREAD: usize = 32;

/// Checks a new op and gives it all that does not depend on its place in the log.
pub(crate) fn prepare(new: NewOp, author: PublicKey, limit: usize) -> Result<Op, Error> {
    op::check_id("run", new.run.as_deref())?;
    op::check_id("step", new.step.as_deref())?;
    let limit = limit.min(op::MAX_PAYLOAD_BYTES);
    if new.payload.len() > limit {
        return Err(Error::TooLarge {
            len: new.payload.len(),
            limit,
        });
    }
    canonical::check(&new.payload).map_err(|error| Error::Payload {
        kind: new.kind.to_string(),
        why: error.to_string(),
    })?;
    Ok(Op {
        seq: 0,
        prev: Hash::ZERO,
        kind: new.kind,
        time: new.time.unwrap_or_else(|| op::micros(SystemTime::now())),
        class: new.class,
        author,
        run: new.run,
        step: new.step,
        payload_hash: Hash(sha3_256(&new.payload)),
        payload: new.payload,
        signature: Signature::from_bytes([0; 64]),
    })
}

/// Ops that follow on each other, and the head that they lead to.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub ops: Vec<Op>,
    /// The hash of each of them.
    pub hashes: Vec<Hash>,
    pub head: Head,
    /// What they were put on top of.
    pub on: Tip,
}

impl Sealed {
    /// Where the op after them goes.
    pub fn tip(&self) -> Tip {
        Tip {
            next: self.on.next + self.ops.len() as u64,
            hash: self.head.hash,
        }
    }
}

/// Puts ops on top of a log, and signs them.
pub(crate) fn seal(key: &SigningKey, log: LogId, on: Tip, mut ops: Vec<Op>) -> Sealed {
    let mut buffer = Vec::with_capacity(512);
    let mut tip = on;
    let hashes: Vec<_> = ops
        .iter_mut()
        .map(|op| {
            (op.seq, op.prev) = (tip.next, tip.hash);
            let hash = op.hash_with(&mut buffer);
            tip = Tip {
                next: tip.next + 1,
                hash,
            };
            hash
        })
        .collect();
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let share = ops.len().div_ceil(threads).max(OPS_PER_THREAD);
    let sign = |ops: &mut [Op], hashes: &[Hash]| {
        for (op, hash) in ops.iter_mut().zip(hashes) {
            op.signature = key.sign(Domain::Op, &hash.0);
        }
    };
    thread::scope(|scope| {
        let mut shares = ops.chunks_mut(share).zip(hashes.chunks(share));
        let own = shares.next();
        for (ops, hashes) in shares {
            scope.spawn(move || sign(ops, hashes));
        }
        if let Some((ops, hashes)) = own {
            sign(ops, hashes);
        }
    });
    let head = Head::sign(key, log, tip.next.saturating_sub(1), tip.hash);
    Sealed {
        ops,
        hashes,
        head,
        on,
    }
}
