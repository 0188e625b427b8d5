//! Whether a log is what it claims to be, op by op from the first.
//!
//! ```text
//! [read rows] -> chunks -> [check on every core: hashes, payloads, signatures] -> in order -> [chain]
//! ```
//!
//! What must stay true: the fault that is reported is the first in the order of the log, whatever
//! thread found one first; and the memory in use does not grow with the log: there is a fixed number of
//! chunks on the way. Everything is read in one transaction, so that the WAL cannot be emptied
//! meanwhile, and writers go on.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::Connection;
use vox_crypto::PublicKey;

use crate::chain::{Chain, Checked, Claims, check};
use crate::db::{self, Authors};
use crate::head::Head;
use crate::{Error, Fault, Hash, Kind, LogId, Op, Reader, control, log, reader};

/// Ops that are checked together.
const CHUNK_OPS: usize = 1024;
/// Bytes at which a chunk ends.
const CHUNK_BYTES: usize = 4 << 20;

/// How a log is verified.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Threads that check; none for as many as there are cores.
    pub threads: Option<NonZero<usize>>,
    /// Whether a log without a head file is a fault: yes. A copy of the database alone has none.
    pub require_head: bool,
    /// The log that it has to be.
    pub log: Option<LogId>,
    /// The key that has to have begun it.
    pub author: Option<PublicKey>,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            threads: None,
            require_head: true,
            log: None,
            author: None,
        }
    }
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Ops that were found good.
    pub ops: u64,
    /// The number of the last of them.
    pub seq: u64,
    /// The number of the last op of the log.
    pub last: u64,
}

/// What a sound log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Which log; none for a copy that nothing was imported into.
    pub log: Option<LogId>,
    /// Ops that are there.
    pub ops: u64,
    /// The number and the hash of the last.
    pub head: Option<(u64, Hash)>,
    /// The keys that may write it.
    pub authors: Vec<PublicKey>,
    /// Stretches that compactions removed.
    pub gaps: u64,
    /// Ops that compactions removed.
    pub removed: u64,
    /// Ops that came after the head file was written; none when there is no head file.
    pub head_behind: Option<u64>,
}

impl Reader {
    /// Walks the whole log. `progress` is called now and then and may call the verification off.
    ///
    /// # Errors
    /// [`Error::Fault`] with the first thing that is wrong; [`Error::Cancelled`]; [`Error::Sqlite`] and
    /// [`Error::Io`] when the log cannot be read at all.
    pub fn verify(
        &self,
        options: &VerifyOptions,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Summary, Error> {
        let span = tracing::info_span!("vox.oplog.verify", dir = %self.dir.display());
        let _entered = span.enter();
        // Read before the log, which has to be at least as far.
        let head = Head::read(&self.dir)?;
        if head.is_none() && options.require_head {
            return Err(self.fault(Fault::NoHead));
        }
        let db = db::open_read(&self.path, reader::BUSY)?;
        db.execute_batch("BEGIN")
            .map_err(Error::sqlite("read", &self.path))?;
        let mut authors = Authors::default();
        // What cannot be read is told by the walk, which comes to it in order.
        let claims = claims(&db, &self.path, &mut authors).unwrap_or_default();
        let last: Option<i64> = db
            .query_row("SELECT max(seq) FROM ops", [], |row| row.get(0))
            .map_err(Error::sqlite("read", &self.path))?;
        let last = u64::try_from(last.unwrap_or(0)).unwrap_or(0);
        let mut chain = Chain::new(Some(claims), head);
        let (ops, db) = self.walk(db, authors, &mut chain, options, last, progress)?;
        self.conclude(&chain, head, options)?;
        self.integrity(&db)?;
        let head_seq = chain.last();
        Ok(Summary {
            log: chain.log,
            ops,
            head: head_seq,
            authors: chain.authors.iter().copied().collect(),
            gaps: chain.gaps,
            removed: chain.missing,
            head_behind: head
                .zip(head_seq)
                .map(|(head, (last, _))| last.saturating_sub(head.seq)),
        })
    }

    /// Reads, checks and chains every op; the number of them.
    fn walk(
        &self,
        db: Connection,
        mut authors: Authors,
        chain: &mut Chain,
        options: &VerifyOptions,
        last: u64,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(u64, Connection), Error> {
        let threads = options
            .threads
            .or_else(|| thread::available_parallelism().ok())
            .map_or(1, NonZero::get);
        let stop = AtomicBool::new(false);
        let in_flight = threads * 2 + 2;
        let (work, chunks) = bounded::<(usize, Vec<Op>)>(in_flight);
        let (results, checked) = bounded::<(usize, Result<Vec<Checked>, Error>)>(in_flight);
        let (permits, permit) = bounded::<()>(in_flight);
        for _ in 0..in_flight {
            let _ = permits.send(());
        }
        thread::scope(|scope| {
            for _ in 0..threads {
                let (chunks, results): (Receiver<_>, Sender<_>) = (chunks.clone(), results.clone());
                scope.spawn(move || {
                    for (at, ops) in chunks {
                        if results.send((at, Ok(check(ops)))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(chunks);
            let stop = &stop;
            let reader = scope.spawn(move || {
                let mut at = 0;
                let read = self.read(&db, &mut authors, |ops| {
                    // A permit comes back with every chunk that the chain has taken.
                    if stop.load(Ordering::Relaxed) || permit.recv().is_err() {
                        return false;
                    }
                    at += 1;
                    work.send((at - 1, ops)).is_ok()
                });
                if let Err(error) = read {
                    let _ = results.send((at, Err(error)));
                }
                db
            });
            let taken = self.take(&checked, &permits, chain, options, last, progress);
            stop.store(true, Ordering::Relaxed);
            drop((permits, checked));
            let db = reader.join().map_err(|_| Error::Cancelled)?;
            taken.map(|ops| (ops, db))
        })
    }

    /// Reads all rows, in chunks, until `take` wants no more.
    fn read(
        &self,
        db: &Connection,
        authors: &mut Authors,
        mut take: impl FnMut(Vec<Op>) -> bool,
    ) -> Result<(), Error> {
        let failed = |error| Error::sqlite("read", &self.path)(error);
        let sql = format!("SELECT {} FROM ops ORDER BY seq", db::COLUMNS);
        let mut statement = db.prepare(&sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let (mut chunk, mut bytes) = (Vec::with_capacity(CHUNK_OPS), 0usize);
        loop {
            let row = rows.next().map_err(failed).and_then(|row| {
                row.map(|row| db::op_of(db, row, authors).map_err(|fault| self.fault(fault)))
                    .transpose()
            });
            match row {
                Ok(Some(op)) => {
                    bytes = bytes.saturating_add(op.weight());
                    chunk.push(op);
                    if chunk.len() < CHUNK_OPS && bytes < CHUNK_BYTES {
                        continue;
                    }
                    bytes = 0;
                    let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_OPS));
                    if !take(full) {
                        return Ok(());
                    }
                }
                Ok(None) => {
                    if !chunk.is_empty() {
                        take(chunk);
                    }
                    return Ok(());
                }
                Err(error) => {
                    // What stands before it may have a fault of its own, and that comes first.
                    if !chunk.is_empty() {
                        take(chunk);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Takes checked chunks in their order.
    fn take(
        &self,
        checked: &Receiver<(usize, Result<Vec<Checked>, Error>)>,
        permits: &Sender<()>,
        chain: &mut Chain,
        options: &VerifyOptions,
        last: u64,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<u64, Error> {
        let (mut early, mut next, mut ops) = (BTreeMap::new(), 0, 0);
        for (at, result) in checked {
            early.insert(at, result);
            while let Some(result) = early.remove(&next) {
                next += 1;
                for one in &result? {
                    chain.step(one).map_err(|fault| self.fault(fault))?;
                    if one.op.seq == 0 {
                        self.expected(chain, options)?;
                    }
                    ops += 1;
                }
                let _ = permits.try_send(());
                let seq = chain.last().map_or(0, |(seq, _)| seq);
                if progress(Progress { ops, seq, last }).is_break() {
                    return Err(Error::Cancelled);
                }
            }
        }
        Ok(ops)
    }

    /// Whether the log is the one that was asked about.
    fn expected(&self, chain: &Chain, options: &VerifyOptions) -> Result<(), Error> {
        if let (Some(expected), Some(found)) = (options.log, chain.log)
            && expected != found
        {
            return Err(self.fault(Fault::OtherLog { expected, found }));
        }
        let author = chain.authors.first().copied();
        if let (Some(expected), Some(author)) = (options.author, author)
            && expected != author
        {
            let author = Box::new(author);
            return Err(self.fault(Fault::Author { seq: 0, author }));
        }
        Ok(())
    }

    /// What can be told at the end of the log only.
    fn conclude(
        &self,
        chain: &Chain,
        head: Option<Head>,
        options: &VerifyOptions,
    ) -> Result<(), Error> {
        chain.finish().map_err(|fault| self.fault(fault))?;
        let last = chain.last();
        if let Some(head) = head {
            if last.is_none_or(|(last, _)| head.seq > last) {
                return Err(self.fault(Fault::RolledBack {
                    head: head.seq,
                    last: last.map(|(last, _)| last),
                }));
            }
            if !chain.authors.contains(&head.author) {
                let why = format!("its author {} may not write this log", head.author);
                return Err(self.fault(Fault::Head { why }));
            }
        }
        if last.is_none() && options.log.is_some() {
            return Err(self.fault(Fault::Gap { from: 0, to: 0 }));
        }
        Ok(())
    }

    /// Has SQLite look at the structure of the file, and whether its indexes have what its table has.
    fn integrity(&self, db: &Connection) -> Result<(), Error> {
        let said: String = db
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
            .map_err(Error::sqlite("read", &self.path))?;
        if said == "ok" {
            return Ok(());
        }
        Err(self.fault(Fault::Damaged { why: said }))
    }
}

/// What the compaction records of a log say.
pub(crate) fn claims(db: &Connection, path: &Path, authors: &mut Authors) -> Result<Claims, Error> {
    let records = log::of_kind(db, path, authors, Kind::COMPACTION, |op| {
        Ok((op.seq, control::compaction_of(op)?))
    })?;
    let mut claims = Claims::default();
    for (seq, record) in &records {
        claims.add(*seq, record);
    }
    Ok(claims)
}
