//! From a file to a copy of the log that it was exported from.
//!
//! What must stay true: an import is one transaction: all of a file or nothing of it. Every op of it is
//! verified, also those that are here already, and these have to be the same. Ops that the log of origin
//! has removed are removed here too, so that the copy verifies as the origin does.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use vox_crypto::{PublicKey, canonical};

use super::{END, End, MAGIC, MAX_RECORD_BYTES, OP, Written};
use crate::chain::{Chain, Checked, Claim, check};
use crate::db::{self, Authors, Role, Tip};
use crate::head::{Head, HeadFile};
use crate::{Error, Fault, Fork, Gap, Hash, Kind, LogId, Op, Reader, compact, control, log};

/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(10);
/// Ops that are checked together on one core.
const CHUNK_OPS: usize = 1024;
/// Bytes at which ops are checked, however few.
const CHUNK_BYTES: usize = 8 << 20;

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Which log.
    pub log: LogId,
    /// Ops that are new here.
    pub added: u64,
    /// Ops that were here already, the same.
    pub known: u64,
    /// Ops that are not here any more, as the log of origin has removed them.
    pub removed: u64,
    /// The number and the hash of the last op now.
    pub head: (u64, Hash),
}

/// A copy of another log, which imports extend and nothing is appended to.
#[derive(Debug)]
pub struct Replica {
    dir: PathBuf,
    path: PathBuf,
    db: Connection,
    /// Held shared.
    _lock: File,
}

impl Replica {
    /// Opens the copy in this directory, and makes an empty one if there is none.
    ///
    /// # Errors
    /// [`Error::NotAReplica`] when the log there is one of this machine's own; as
    /// [`crate::OpLog::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref().to_owned();
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let path = dir.join(log::DATABASE);
        let (lock, alone) = log::lock(&dir, &path)?;
        let db = db::open(&path, BUSY)?;
        let failed = |error| Error::sqlite("open", &path)(error);
        if !db::has_schema(&db).map_err(failed)? {
            db::begin(&db, &path, BUSY)?;
            let made = match db::has_schema(&db) {
                Ok(true) => Ok(()),
                Ok(false) => db::create(&db, Role::Replica),
                Err(error) => Err(error),
            };
            let made = made.map_err(failed).and_then(|()| db::commit(&db, &path));
            db::rollback(&db);
            made?;
            log::sync_dir(&dir)?;
        }
        if db::role(&db).map_err(failed)? != Role::Replica {
            return Err(Error::NotAReplica { path: dir });
        }
        if alone {
            lock.lock_shared().map_err(Error::io("lock", &dir))?;
        }
        Ok(Self {
            dir,
            path,
            db,
            _lock: lock,
        })
    }

    /// A reader of the copy.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn reader(&self) -> Result<Reader, Error> {
        Reader::open(&self.dir)
    }

    /// Extends the copy by what a file has, which is verified. Whose log it is, is told by
    /// [`Imported::log`] and by the genesis: whether its author is to be trusted is for the caller to
    /// say.
    ///
    /// # Errors
    /// [`Error::Export`] when it is no whole export; [`Error::Fault`] with the first op that is bad;
    /// [`Error::Fork`], [`Error::OtherLog`], [`Error::Unanchored`]; [`Error::Busy`], [`Error::Full`],
    /// [`Error::Sqlite`]. Nothing was imported then.
    pub fn import(&mut self, file: &mut dyn Read) -> Result<Imported, Error> {
        db::begin(&self.db, &self.path, BUSY)?;
        let result = self.import_within(file);
        db::rollback(&self.db);
        let (imported, head) = result?;
        if let Some(head) = head {
            HeadFile::open(&self.dir)?.advance(&head, true)?;
        }
        crate::signal::Signal::of(&self.dir).poke();
        Ok(imported)
    }

    fn import_within(&self, file: &mut dyn Read) -> Result<(Imported, Option<Head>), Error> {
        let mut authors = Authors::default();
        let tip = db::tip(&self.db, &self.path, &mut authors)?;
        let mut target = Target {
            replica: self,
            tip,
            chain: self.chain(&mut authors)?,
            authors,
            ids: HashMap::new(),
            first: true,
            added: 0,
            known: 0,
            gaps: Vec::new(),
        };
        let mut source = Source {
            file,
            at: 0,
            author: None,
        };
        source.magic()?;
        let (mut chunk, mut bytes, mut count) = (Vec::new(), 0usize, 0u64);
        let most = CHUNK_OPS * cores();
        let end = loop {
            match source.record()? {
                Record::Op(op) => {
                    count += 1;
                    bytes = bytes.saturating_add(op.weight());
                    chunk.push(*op);
                    if chunk.len() >= most || bytes >= CHUNK_BYTES {
                        target.take(std::mem::take(&mut chunk))?;
                        bytes = 0;
                    }
                }
                Record::End(end) => break end,
            }
        };
        target.take(chunk)?;
        source.nothing_more()?;
        target.end(end, count, source.at)
    }

    /// A walk that goes on from what is known here.
    fn chain(&self, authors: &mut Authors) -> Result<Chain, Error> {
        let Some(genesis) = db::get(&self.db, &self.path, authors, 0)? else {
            return Ok(Chain::new(None, None));
        };
        let log = control::log_of(&genesis).map_err(|fault| self.fault(fault))?;
        let added = log::added(&self.db, &self.path, authors)?;
        let keys = added.into_iter().map(|(_, key)| key);
        Ok(Chain::part(log, keys.chain([genesis.author]).collect()))
    }

    fn fault(&self, fault: Fault) -> Error {
        Error::fault(&self.dir, fault)
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// The copy, while a file goes in.
struct Target<'a> {
    replica: &'a Replica,
    /// Where the next op went before the import.
    tip: Tip,
    chain: Chain,
    authors: Authors,
    /// The numbers of authors in the database.
    ids: HashMap<PublicKey, i64>,
    first: bool,
    added: u64,
    known: u64,
    /// What new compaction records tell of.
    gaps: Vec<Claim>,
}

impl Target<'_> {
    /// Checks ops on every core and takes them in order.
    fn take(&mut self, ops: Vec<Op>) -> Result<(), Error> {
        let share = ops.len().div_ceil(cores()).max(1);
        let mut shares = Vec::new();
        let mut ops = ops.into_iter();
        loop {
            let share: Vec<_> = ops.by_ref().take(share).collect();
            if share.is_empty() {
                break;
            }
            shares.push(share);
        }
        let checked: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = shares
                .into_iter()
                .map(|share| scope.spawn(move || check(share)))
                .collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        for share in checked {
            for one in share.map_err(|_| Error::Cancelled)? {
                self.step(one)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, one: Checked) -> Result<(), Error> {
        self.anchor(&one)?;
        let log = self.chain.log;
        self.chain
            .step(&one)
            .map_err(|fault| self.replica.fault(fault))?;
        let Checked { op, .. } = one;
        if op.seq == 0 && log.is_some() {
            let theirs = control::log_of(&op).map_err(|fault| self.replica.fault(fault))?;
            self.same_log(theirs)?;
        }
        if op.seq < self.tip.next {
            self.known += 1;
            return Ok(());
        }
        if op.kind.as_str() == Kind::COMPACTION {
            let record = control::compaction_of(&op).map_err(|fault| self.replica.fault(fault))?;
            self.gaps.extend(record.gaps.iter().map(|gap| Claim {
                record: op.seq,
                gap: *gap,
            }));
        }
        let Replica { db, path, .. } = self.replica;
        let failed = |error| Error::sqlite("write", path)(error);
        let id = match self.ids.get(&op.author) {
            Some(id) => *id,
            None => {
                let id = db::author_id(db, &op.author).map_err(failed)?;
                self.ids.insert(op.author, id);
                id
            }
        };
        db::insert(db, id, [&op]).map_err(failed)?;
        self.added += 1;
        Ok(())
    }

    /// Compares an op with what is here: the first of a file has to stand on it, and each one that is
    /// here has to be the same.
    fn anchor(&mut self, one: &Checked) -> Result<(), Error> {
        let Checked { op, hash, .. } = one;
        let Replica { db, path, dir, .. } = self.replica;
        let first = std::mem::take(&mut self.first);
        let ours = if op.seq < self.tip.next {
            db::get(db, path, &mut self.authors, op.seq)?.map(|ours| ours.hash())
        } else {
            None
        };
        match ours {
            Some(ours) if ours == *hash => Ok(()),
            // Another log begins with another genesis; that is no fork.
            Some(ours) if op.seq == 0 => {
                let theirs = control::log_of(op).map_err(|fault| self.replica.fault(fault))?;
                self.same_log(theirs)?;
                self.fork(0, ours, *hash)
            }
            Some(ours) => self.fork(op.seq, ours, *hash),
            None if !first || op.seq == 0 => Ok(()),
            None if op.seq == self.tip.next && op.prev == self.tip.hash => Ok(()),
            None if op.seq == self.tip.next => {
                self.fork(self.tip.next.saturating_sub(1), self.tip.hash, op.prev)
            }
            None => Err(Error::Unanchored {
                path: dir.clone(),
                first: op.seq,
                have: match self.tip.next.checked_sub(1) {
                    None => "it is empty".into(),
                    Some(last) if last < op.seq => format!("it ends with op {last}"),
                    Some(_) => "it has removed that op".into(),
                },
            }),
        }
    }

    fn same_log(&self, theirs: LogId) -> Result<(), Error> {
        match self.chain.log {
            Some(ours) if ours != theirs => Err(Error::OtherLog {
                path: self.replica.dir.clone(),
                ours,
                theirs,
            }),
            _ => Ok(()),
        }
    }

    fn fork(&self, seq: u64, ours: Hash, theirs: Hash) -> Result<(), Error> {
        Err(Error::Fork(Box::new(Fork {
            path: self.replica.dir.clone(),
            log: self.chain.log.unwrap_or(LogId([0; 32])),
            seq,
            ours,
            theirs,
        })))
    }

    /// Removes what the log of origin has removed, where that is what the record says; the number of ops.
    fn remove(&mut self, claim: &Claim) -> Result<u64, Error> {
        let Replica { db, path, .. } = self.replica;
        let Gap {
            from,
            to,
            prev,
            hash,
            ..
        } = claim.gap;
        for (seq, expected) in [(from.saturating_sub(1), prev), (to, hash)] {
            let op = db::get(db, path, &mut self.authors, seq)?;
            if op.is_some_and(|op| op.hash() != expected) {
                return Err(self.replica.fault(Fault::Compaction {
                    record: claim.record,
                    from,
                    to,
                    why: format!("op {seq} has another hash"),
                }));
            }
        }
        let rows = compact::delete(db, from, to).map_err(Error::sqlite("write", path))?;
        Ok(rows as u64)
    }

    /// Compares the end of the file with what came, and commits.
    fn end(mut self, end: End, count: u64, at: u64) -> Result<(Imported, Option<Head>), Error> {
        let refuse = |why: &str| Error::Export {
            at,
            why: why.into(),
        };
        let (Some(last), Some(log)) = (self.chain.last(), self.chain.log) else {
            return Err(refuse("it has no ops"));
        };
        if (end.count, (end.last, end.hash)) != (count, last) {
            return Err(refuse("its end speaks of other ops than it has"));
        }
        self.chain
            .finish()
            .map_err(|fault| self.replica.fault(fault))?;
        let head = end
            .head
            .map(|bytes| Head::from_bytes(&bytes))
            .transpose()
            .map_err(|why| self.replica.fault(Fault::Head { why }))?;
        if let Some(head) = &head
            && ((head.log, head.seq, head.hash) != (log, last.0, last.1)
                || !self.chain.authors.contains(&head.author))
        {
            let why = "it is not of the last op of this file".into();
            return Err(self.replica.fault(Fault::Head { why }));
        }
        let Replica { db, path, .. } = self.replica;
        let mut removed = 0;
        for claim in std::mem::take(&mut self.gaps) {
            removed += self.remove(&claim)?;
        }
        let tip = db::tip(db, path, &mut self.authors)?;
        db::commit(db, path)?;
        let imported = Imported {
            log,
            added: self.added,
            known: self.known,
            removed,
            head: (tip.next.saturating_sub(1), tip.hash),
        };
        Ok((imported, head))
    }
}

enum Record {
    Op(Box<Op>),
    End(End),
}

/// A file that is read, and how far.
struct Source<'a> {
    file: &'a mut dyn Read,
    at: u64,
    /// The author of the last op: to look at a key costs more than to compare it.
    author: Option<PublicKey>,
}

impl Source<'_> {
    fn magic(&mut self) -> Result<(), Error> {
        let mut magic = Vec::new();
        self.read(MAGIC.len(), &mut magic)?;
        if magic != MAGIC {
            return Err(self.refuse("it does not begin with `vox log export 1`".into()));
        }
        Ok(())
    }

    fn record(&mut self) -> Result<Record, Error> {
        let mut start = Vec::new();
        self.read(5, &mut start)?;
        let [tag, length @ ..] = start.as_slice() else {
            return Err(self.refuse("it ends in the middle".into()));
        };
        let length: [u8; 4] = length
            .try_into()
            .map_err(|_| self.refuse("it ends in the middle".into()))?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_RECORD_BYTES {
            return Err(self.refuse(format!(
                "a record of {length} bytes is more than any op has"
            )));
        }
        let tag = *tag;
        let mut record = Vec::new();
        self.read(length, &mut record)?;
        match tag {
            OP => {
                let written: Written = self.decode(&record)?;
                let op = written.op(self.author).map_err(|why| self.refuse(why))?;
                self.author = Some(op.author);
                Ok(Record::Op(Box::new(op)))
            }
            END => Ok(Record::End(self.decode(&record)?)),
            _ => Err(self.refuse("a record is of no known kind".into())),
        }
    }

    fn decode<'b, T: Serialize + Deserialize<'b>>(&self, bytes: &'b [u8]) -> Result<T, Error> {
        canonical::decode(bytes).map_err(|error| self.refuse(error.to_string()))
    }

    /// Reads exactly so many bytes; memory grows with what comes, not with what was announced.
    fn read(&mut self, length: usize, into: &mut Vec<u8>) -> Result<(), Error> {
        let read = Read::take(&mut *self.file, length as u64)
            .read_to_end(into)
            .map_err(unread)?;
        self.at += read as u64;
        if read < length {
            return Err(self.refuse("it ends in the middle".into()));
        }
        Ok(())
    }

    fn nothing_more(&mut self) -> Result<(), Error> {
        let mut more = Vec::new();
        Read::take(&mut *self.file, 1)
            .read_to_end(&mut more)
            .map_err(unread)?;
        if more.is_empty() {
            Ok(())
        } else {
            Err(self.refuse("something follows on its end".into()))
        }
    }

    fn refuse(&self, why: String) -> Error {
        Error::Export { at: self.at, why }
    }
}

fn unread(error: io::Error) -> Error {
    Error::io("read", Path::new("the export"))(error)
}
