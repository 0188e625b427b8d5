//! Removing what need not be kept, so that the rest still verifies.
//!
//! One transaction removes the ops and appends a signed record of which ones are missing since, with
//! the hashes on both sides of each gap. Verification accepts a gap that a record vouches for, and no
//! other.
//!
//! What must stay true: the genesis, the ops of the log itself, kept ops and the last ops are never
//! removed; nothing is removed from a log whose chain does not hold, as the gap would hide that; and the
//! head file is durable before ops are removed, so that it never names one that is gone for good.

use std::time::Duration;

use rusqlite::Connection;

use crate::db::{self, Authors, Tip};
use crate::head::{Head, HeadFile};
use crate::seal::{prepare, seal};
use crate::writer::write;
use crate::{
    Class, Compaction, Error, Fault, Gap, Hash, Kind, Op, OpLog, Reader, Receipt, control, op,
    reader, verify,
};

/// Gaps in one record, which keeps its payload below 256 KiB.
const GAPS_PER_RECORD: usize = 2000;
/// Pages that are given back to the file system at once, between which others may write.
const VACUUM_PAGES: i64 = 2000;

/// What is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Hot ops that are older.
    pub hot: Duration,
    /// Warm ops that are older.
    pub warm: Duration,
    /// The last ops, whatever their class, stay: so many of them. One always does.
    pub keep_last: u64,
}

/// What a compaction removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Ops.
    pub removed: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Gaps that are new or have grown.
    pub gaps: u64,
    /// The signed records; none where nothing was removed.
    pub records: Vec<Receipt>,
}

/// What is to be removed, seen from one state of the log.
struct Plan {
    gaps: Vec<Gap>,
    payload_bytes: u64,
    /// The last record at that time: while it is the last, the plan holds.
    after: Option<i64>,
}

impl Plan {
    fn report(&self) -> Compacted {
        Compacted {
            removed: self.gaps.iter().map(|gap| gap.removed).sum(),
            payload_bytes: self.payload_bytes,
            gaps: self.gaps.len() as u64,
            records: Vec::new(),
        }
    }
}

/// The times before which ops are removed.
#[derive(Clone, Copy)]
struct Cutoff {
    hot: i64,
    warm: i64,
    keep_last: u64,
}

impl Cutoff {
    fn of(policy: &Policy, now: i64) -> Self {
        let before =
            |age: Duration| now.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
        Self {
            hot: before(policy.hot),
            warm: before(policy.warm),
            keep_last: policy.keep_last.max(1),
        }
    }

    fn removes(&self, op: &Op) -> bool {
        let old = match op.class {
            Class::Hot => op.time < self.hot,
            Class::Warm => op.time < self.warm,
            Class::Kept => false,
        };
        old && op.seq > 0 && !op.kind.is_reserved()
    }
}

impl Reader {
    /// What [`OpLog::compact`] would remove.
    ///
    /// # Errors
    /// As that.
    pub fn plan_compaction(&self, policy: &Policy, now: i64) -> Result<Compacted, Error> {
        let db = db::open_read(&self.path, reader::BUSY)?;
        db.execute_batch("BEGIN")
            .map_err(Error::sqlite("read", &self.path))?;
        self.plan(&db, Cutoff::of(policy, now))
            .map(|plan| plan.report())
    }

    fn plan(&self, db: &Connection, cutoff: Cutoff) -> Result<Plan, Error> {
        let (path, mut authors) = (&self.path, Authors::default());
        let failed = |error| Error::sqlite("read", path)(error);
        let fault = |fault| self.fault(fault);
        let tip = db::tip(db, path, &mut authors)?;
        let claims = verify::claims(db, path, &mut authors)?;
        let mut plan = Plan {
            gaps: Vec::new(),
            payload_bytes: 0,
            after: last_record(db).map_err(failed)?,
        };
        let Some(limit) = (tip.next.saturating_sub(1)).checked_sub(cutoff.keep_last) else {
            return Ok(plan);
        };
        // The payload is not read: an op's hash covers its hash.
        let columns = db::HEADER_COLUMNS;
        let sql = format!("SELECT {columns}, x'', length(payload) FROM ops ORDER BY seq");
        let mut statement = db.prepare(&sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut buffer = Vec::with_capacity(512);
        // The op before, and the last that stays.
        let (mut before, mut stays): (Option<(u64, Hash)>, _) = (None, (0, Hash::ZERO));
        let (mut removed, mut bytes) = (0, 0u64);
        while let Some(row) = rows.next().map_err(failed)? {
            let op = db::op_of(db, row, &mut authors).map_err(fault)?;
            let hash = op.hash_with(&mut buffer);
            match before {
                Some((seq, expected)) if op.seq == seq + 1 && op.prev != expected => {
                    return Err(fault(Fault::Predecessor {
                        seq: op.seq,
                        expected,
                        found: op.prev,
                    }));
                }
                Some((seq, hash)) if op.seq > seq + 1 => {
                    claims
                        .cover(seq + 1, op.seq - 1, hash, op.prev)
                        .map_err(fault)?;
                }
                _ => {}
            }
            before = Some((op.seq, hash));
            if op.seq <= limit && cutoff.removes(&op) {
                removed += 1;
                bytes += row.get::<_, i64>(11).map_err(failed)?.unsigned_abs();
                continue;
            }
            if removed > 0 {
                plan.gaps.push(Gap {
                    from: stays.0 + 1,
                    to: op.seq - 1,
                    prev: stays.1,
                    hash: op.prev,
                    removed,
                });
                plan.payload_bytes += bytes;
                (removed, bytes) = (0, 0);
            }
            if op.seq > limit {
                break;
            }
            stays = (op.seq, hash);
        }
        Ok(plan)
    }
}

impl OpLog {
    /// Removes hot and warm ops that are older than the policy says, as seen from `now` (microseconds
    /// since the Unix epoch), and makes the file smaller. Others may go on writing and reading.
    ///
    /// # Errors
    /// [`Error::Fault`] when the chain of the log does not hold; [`Error::Busy`], [`Error::Full`],
    /// [`Error::Sqlite`]: then nothing was removed.
    pub fn compact(&self, policy: &Policy, now: i64) -> Result<Compacted, Error> {
        let span = tracing::info_span!("vox.oplog.compact", dir = %self.dir.display());
        let _entered = span.enter();
        let cutoff = Cutoff::of(policy, now);
        let reader = self.reader()?;
        let db = db::open(&self.path, self.options.busy)?;
        let failed = |error| Error::sqlite("write", &self.path)(error);
        let report = loop {
            // Looking through the log takes its time, in which others may write.
            db.execute_batch("BEGIN").map_err(failed)?;
            let plan = reader.plan(&db, cutoff);
            db::rollback(&db);
            let plan = plan?;
            if plan.gaps.is_empty() {
                return Ok(plan.report());
            }
            if let Some((seq, hash)) = reader.head()? {
                let head = Head::sign(&self.key, self.log, seq, hash);
                HeadFile::open(&self.dir)?.advance(&head, true)?;
            }
            db::begin(&db, &self.path, self.options.busy)?;
            let removed = self.remove(&db, &plan, cutoff);
            db::rollback(&db);
            if let Some(report) = removed? {
                break report;
            }
        };
        self.signal.poke();
        if let Err(error) = shrink(&db) {
            tracing::warn!(%error, "the space of removed ops is kept for new ones");
        }
        Ok(report)
    }

    /// Does what was planned; none when somebody else has compacted the log since.
    fn remove(
        &self,
        db: &Connection,
        plan: &Plan,
        cutoff: Cutoff,
    ) -> Result<Option<Compacted>, Error> {
        let failed = |error| Error::sqlite("write", &self.path)(error);
        if last_record(db).map_err(failed)? != plan.after {
            return Ok(None);
        }
        for gap in &plan.gaps {
            delete(db, gap.from, gap.to).map_err(failed)?;
        }
        let author = self.key.public();
        let records = plan.gaps.chunks(GAPS_PER_RECORD).map(|gaps| {
            let record = control::compaction(&Compaction {
                hot_before: cutoff.hot,
                warm_before: cutoff.warm,
                gaps: gaps.to_vec(),
            })?;
            prepare(record, author, op::MAX_PAYLOAD_BYTES)
        });
        let records = records.collect::<Result<Vec<_>, _>>()?;
        let tip: Tip = db::tip(db, &self.path, &mut Authors::default())?;
        let sealed = seal(&self.key, self.log, tip, records);
        let id = db::author_id(db, &author).map_err(failed)?;
        write(db, &self.path, id, &sealed.ops)?;
        if let Err(error) = HeadFile::open(&self.dir)?.advance(&sealed.head, false) {
            tracing::warn!(%error, "the head file lags");
        }
        let receipts = sealed.ops.iter().zip(&sealed.hashes);
        Ok(Some(Compacted {
            records: receipts
                .map(|(op, hash)| Receipt {
                    seq: op.seq,
                    hash: *hash,
                })
                .collect(),
            ..plan.report()
        }))
    }
}

/// The number of the last compaction record.
fn last_record(db: &Connection) -> rusqlite::Result<Option<i64>> {
    db.query_row(
        "SELECT max(seq) FROM ops WHERE kind = ?1",
        [Kind::COMPACTION],
        |row| row.get(0),
    )
}

/// Removes a stretch of ops.
pub(crate) fn delete(db: &Connection, from: u64, to: u64) -> rusqlite::Result<usize> {
    db.prepare_cached("DELETE FROM ops WHERE seq BETWEEN ?1 AND ?2")?
        .execute([db::seq_of(from)?, db::seq_of(to)?])
}

/// Gives free pages back to the file system.
fn shrink(db: &Connection) -> rusqlite::Result<()> {
    let free = || db.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0));
    let mut left = free()?;
    while left > 0 {
        let sql = format!("PRAGMA incremental_vacuum({VACUUM_PAGES})");
        let mut statement = db.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        let now = free()?;
        if now >= left {
            break;
        }
        left = now;
    }
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
