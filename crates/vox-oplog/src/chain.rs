//! Whether ops are sound: each in itself, and one after the other.
//!
//! [`check`] looks at ops by themselves and is what takes time; it runs on several threads. [`Chain`]
//! then takes them in order. Verifying a log and importing one are the same two steps.

use std::collections::{BTreeSet, HashMap};

use vox_crypto::{Domain, PublicKey, Signed, canonical, sha3_256, verify_all};

use crate::head::Head;
use crate::{Compaction, Fault, Gap, Hash, Kind, LogId, Op, control};

/// An op, its hash, and what is wrong with it in itself.
#[derive(Debug)]
pub(crate) struct Checked {
    pub op: Op,
    pub hash: Hash,
    pub fault: Option<Fault>,
}

/// Checks payloads and signatures. The signatures are verified together, and one by one where that
/// fails.
pub(crate) fn check(ops: Vec<Op>) -> Vec<Checked> {
    let mut buffer = Vec::with_capacity(512);
    let mut checked: Vec<_> = ops
        .into_iter()
        .map(|op| Checked {
            hash: op.hash_with(&mut buffer),
            fault: payload_fault(&op),
            op,
        })
        .collect();
    let batch: Vec<_> = checked
        .iter()
        .map(|one| Signed {
            message: &one.hash.0,
            key: &one.op.author,
            signature: &one.op.signature,
        })
        .collect();
    if verify_all(Domain::Op, &batch).is_err() {
        for one in &mut checked {
            let (author, signature) = (&one.op.author, &one.op.signature);
            let signed = author.verify(Domain::Op, &one.hash.0, signature);
            if signed.is_err() && one.fault.is_none() {
                one.fault = Some(Fault::Signature {
                    seq: one.op.seq,
                    author: author.id(),
                });
            }
        }
    }
    checked
}

fn payload_fault(op: &Op) -> Option<Fault> {
    let found = Hash(sha3_256(&op.payload));
    if found != op.payload_hash {
        return Some(Fault::PayloadHash {
            seq: op.seq,
            expected: op.payload_hash,
            found,
        });
    }
    let why = canonical::check(&op.payload).err()?;
    Some(Fault::Payload {
        seq: op.seq,
        why: why.to_string(),
    })
}

/// What a compaction record says about one gap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub record: u64,
    pub gap: Gap,
}

/// The gaps that compaction records tell of, by their first and last op.
#[derive(Debug, Default)]
pub(crate) struct Claims(HashMap<(u64, u64), Claim>);

impl Claims {
    pub fn add(&mut self, record: u64, compaction: &Compaction) {
        for gap in &compaction.gaps {
            self.0
                .insert((gap.from, gap.to), Claim { record, gap: *gap });
        }
    }

    /// Whether a record vouches for this gap between an op of hash `prev` and one that names `hash`.
    pub fn cover(&self, from: u64, to: u64, prev: Hash, hash: Hash) -> Result<(), Fault> {
        let Some(claim) = self.0.get(&(from, to)) else {
            return Err(Fault::Gap { from, to });
        };
        if claim.gap.prev != prev || claim.gap.hash != hash {
            return Err(Fault::Compaction {
                record: claim.record,
                from,
                to,
                why: "the ops on both sides have other hashes".into(),
            });
        }
        Ok(())
    }
}

/// A gap that was met and is not vouched for yet.
#[derive(Debug)]
struct Open {
    from: u64,
    to: u64,
    prev: Hash,
    hash: Hash,
}

/// Where a walk along a log stands.
#[derive(Debug)]
pub(crate) struct Chain {
    /// The number that comes next; none before the first op.
    next: Option<u64>,
    prev: Hash,
    pub log: Option<LogId>,
    /// Who may write, as far as the walk has come.
    pub authors: BTreeSet<PublicKey>,
    pub claims: Claims,
    /// Whether `claims` has every record already, so that gaps are judged as they are met.
    claims_known: bool,
    open: Vec<Open>,
    pub gaps: u64,
    pub missing: u64,
    /// What the log has to contain.
    head: Option<Head>,
}

impl Chain {
    /// A walk from the genesis on, with what records say about gaps if that is known beforehand, and
    /// the head that has to be met.
    pub fn new(claims: Option<Claims>, head: Option<Head>) -> Self {
        Self {
            next: None,
            prev: Hash::ZERO,
            log: None,
            authors: BTreeSet::new(),
            claims_known: claims.is_some(),
            claims: claims.unwrap_or_default(),
            open: Vec::new(),
            gaps: 0,
            missing: 0,
            head,
        }
    }

    /// A walk of a part of a log that is known up to somewhere: it may begin with any op, which the
    /// caller has to compare with what is known.
    pub fn part(log: LogId, authors: BTreeSet<PublicKey>) -> Self {
        Self {
            log: Some(log),
            authors,
            ..Self::new(None, None)
        }
    }

    /// The number and the hash of the last op that was taken.
    pub fn last(&self) -> Option<(u64, Hash)> {
        Some((self.next?.checked_sub(1)?, self.prev))
    }

    /// Takes the next op.
    pub fn step(&mut self, one: &Checked) -> Result<(), Fault> {
        let Checked { op, hash, fault } = one;
        self.place(op)?;
        match self.log {
            None => {
                // A genesis that was altered is told as such before its payload is looked into.
                fault.clone().map_or(Ok(()), Err)?;
                let log = control::log_of(op)?;
                if let Some(head) = self.head.filter(|head| head.log != log) {
                    return Err(Fault::OtherLog {
                        expected: head.log,
                        found: log,
                    });
                }
                self.log = Some(log);
                self.authors.insert(op.author);
            }
            Some(_) if !self.authors.contains(&op.author) => {
                return Err(Fault::Author {
                    seq: op.seq,
                    author: Box::new(op.author),
                });
            }
            Some(_) => fault.clone().map_or(Ok(()), Err)?,
        }
        match op.kind.as_str() {
            Kind::GENESIS if op.seq != 0 => {
                return Err(Fault::Control {
                    seq: op.seq,
                    why: "a log begins once".into(),
                });
            }
            Kind::AUTHOR => {
                self.authors.insert(control::author_of(op)?);
            }
            Kind::COMPACTION => self.claims.add(op.seq, &control::compaction_of(op)?),
            _ => {}
        }
        if let Some(head) = self
            .head
            .filter(|head| head.seq == op.seq && head.hash != *hash)
        {
            return Err(Fault::HeadDiffers {
                seq: op.seq,
                expected: head.hash,
                found: *hash,
            });
        }
        self.next = Some(op.seq + 1);
        self.prev = *hash;
        Ok(())
    }

    /// Whether the op may stand where it does.
    fn place(&mut self, op: &Op) -> Result<(), Fault> {
        let Some(next) = self.next else {
            if self.log.is_none() && op.seq > 0 {
                let to = op.seq - 1;
                return Err(Fault::Gap { from: 0, to });
            }
            return Ok(());
        };
        if op.seq < next {
            return Err(Fault::Order {
                seq: op.seq,
                after: next.saturating_sub(1),
            });
        }
        if op.seq == next {
            return if op.prev == self.prev {
                Ok(())
            } else {
                Err(Fault::Predecessor {
                    seq: op.seq,
                    expected: self.prev,
                    found: op.prev,
                })
            };
        }
        let (from, to, prev, hash) = (next, op.seq - 1, self.prev, op.prev);
        if self.claims_known {
            self.claims.cover(from, to, prev, hash)?;
        } else {
            self.open.push(Open {
                from,
                to,
                prev,
                hash,
            });
        }
        self.gaps += 1;
        self.missing += to - from + 1;
        Ok(())
    }

    /// What is left to say at the end: whether every gap was vouched for.
    pub fn finish(&self) -> Result<(), Fault> {
        self.open
            .iter()
            .try_for_each(|gap| self.claims.cover(gap.from, gap.to, gap.prev, gap.hash))
    }
}
