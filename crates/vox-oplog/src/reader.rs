//! Reading a log: its head, an op, a selection of ops in order, and what comes.
//!
//! What must stay true: a reader writes no op and holds no lock that a writer waits for. It reads ops
//! page by page, so that memory does not grow with the log and no transaction stays open between two of
//! them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use vox_crypto::PublicKey;

use crate::db::{self, Authors, Tip};
use crate::head::Head;
use crate::log::DATABASE;
use crate::query::{Ops, Query};
use crate::signal::Signal;
use crate::subscribe::Subscription;
use crate::{Error, Fault, Hash, LogId, Op, control};

/// How long a reader waits for a writer that recovers or closes the log.
pub(crate) const BUSY: Duration = Duration::from_secs(10);

/// A log that is read. Its methods may be called from many threads; each waits for the others, so a
/// thread that reads much opens one of its own.
#[derive(Debug)]
pub struct Reader {
    pub(crate) dir: PathBuf,
    pub(crate) path: PathBuf,
    inner: Mutex<Inner>,
    pub(crate) signal: Arc<Signal>,
}

/// Guarded alone; SQLite is called under the lock.
#[derive(Debug)]
pub(crate) struct Inner {
    pub db: Connection,
    pub authors: Authors,
}

/// What a log holds, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Ops that are there.
    pub ops: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Bytes of the database and its WAL.
    pub file_bytes: u64,
    /// The earliest time of an op, in microseconds since the Unix epoch.
    pub first_time: Option<i64>,
    /// The latest time of an op.
    pub last_time: Option<i64>,
    /// By kind, in their order.
    pub kinds: Vec<KindStats>,
}

/// The ops of one kind, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindStats {
    /// The kind.
    pub kind: String,
    /// Ops of it.
    pub ops: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// The earliest time of one.
    pub first_time: i64,
    /// The latest time of one.
    pub last_time: i64,
}

impl Reader {
    /// Opens the log in this directory for reading. It needs no key. In a place that may not be written
    /// the log is read as it stands in its file.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotALog`], [`Error::Newer`]; [`Error::NeedsWal`] when there are ops
    /// in a WAL that cannot be read where it is; [`Error::Sqlite`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref().to_owned();
        let path = dir.join(DATABASE);
        let db = db::open_read(&path, BUSY)?;
        let signal = Signal::of(&dir);
        let authors = Authors::default();
        Ok(Self {
            dir,
            path,
            inner: Mutex::new(Inner { db, authors }),
            signal,
        })
    }

    /// Another reader of the same log.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn another(&self) -> Result<Self, Error> {
        Self::open(&self.dir)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which log it is; none for a copy that nothing was imported into.
    ///
    /// # Errors
    /// [`Error::Fault`] when its first op is none.
    pub fn id(&self) -> Result<Option<LogId>, Error> {
        let genesis = self.get(0)?;
        genesis
            .map(|op| control::log_of(&op).map_err(|fault| Error::fault(&self.dir, fault)))
            .transpose()
    }

    /// The number and the hash of the last op; none in a copy that nothing was imported into.
    ///
    /// # Errors
    /// [`Error::Sqlite`], and [`Error::Fault`] when the op cannot be read.
    pub fn head(&self) -> Result<Option<(u64, Hash)>, Error> {
        let tip = self.tip()?;
        Ok(tip.next.checked_sub(1).map(|seq| (seq, tip.hash)))
    }

    pub(crate) fn tip(&self) -> Result<Tip, Error> {
        let Inner { db, authors } = &mut *self.lock();
        db::tip(db, &self.path, authors)
    }

    /// The head that the last writer signed; none when the file is not there. It may lag.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Fault::Head`] when it is not valid.
    pub fn signed_head(&self) -> Result<Option<Head>, Error> {
        Head::read(&self.dir)
    }

    /// The op of this number; none when there is none yet, or a compaction has removed it.
    ///
    /// # Errors
    /// [`Error::Sqlite`], and [`Error::Fault`] when the op cannot be read.
    pub fn get(&self, seq: u64) -> Result<Option<Op>, Error> {
        let Inner { db, authors } = &mut *self.lock();
        db::get(db, &self.path, authors, seq)
    }

    /// The ops that a query selects, in order.
    pub fn ops(&self, query: Query) -> Ops<'_> {
        Ops::new(self, query)
    }

    /// Every op from number `from` on, those that are there and those that come, without a gap but for
    /// what a compaction has removed. It goes on until it is called off.
    ///
    /// What handles of this process append is noticed by itself. For what other processes append
    /// somebody has to call [`refresh`](Self::refresh) on any reader of the log in this process: the
    /// head file (`head` in the log's directory) is written after each commit, and can be watched.
    ///
    /// # Errors
    /// As [`open`](Self::open): it has a connection of its own.
    pub fn subscribe(&self, from: u64) -> Result<Subscription, Error> {
        Ok(Subscription::new(self.another()?, from, false))
    }

    /// Tells those who wait in this process to look again.
    pub fn refresh(&self) {
        self.signal.poke();
    }

    /// Waits until the log has op number `seq`; false when that took longer than `timeout`.
    ///
    /// # Errors
    /// As [`head`](Self::head).
    pub fn wait_for(&self, seq: u64, timeout: Duration) -> Result<bool, Error> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let seen = self.signal.state().pokes;
            if self.tip()?.next > seq {
                return Ok(true);
            }
            if !self.signal.wait(seen, deadline) {
                return Ok(false);
            }
        }
    }

    /// The keys that may write the log, as its ops say.
    ///
    /// # Errors
    /// [`Error::Sqlite`], and [`Error::Fault`] when an op cannot be read.
    pub fn authors(&self) -> Result<Vec<PublicKey>, Error> {
        let genesis = self.get(0)?;
        let Inner { db, authors } = &mut *self.lock();
        let added = crate::log::added(db, &self.path, authors)?;
        Ok(genesis
            .map(|op| op.author)
            .into_iter()
            .chain(added.into_iter().map(|(_, key)| key))
            .collect())
    }

    /// What the log holds, counted. It looks at every op, not at the payloads.
    ///
    /// # Errors
    /// [`Error::Sqlite`].
    pub fn stats(&self) -> Result<Stats, Error> {
        let failed = |error| Error::sqlite("read", &self.path)(error);
        let Inner { db, .. } = &*self.lock();
        let mut statement = db
            .prepare_cached("SELECT kind, length(payload), time FROM ops")
            .map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut kinds: Vec<KindStats> = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let kind = row
                .get_ref(0)
                .and_then(|kind| Ok(kind.as_str()?))
                .map_err(failed)?;
            let bytes = row.get::<_, i64>(1).map_err(failed)?.unsigned_abs();
            let time = row.get(2).map_err(failed)?;
            let at = match kinds.binary_search_by(|known| known.kind.as_str().cmp(kind)) {
                Ok(at) => at,
                Err(at) => {
                    let new = KindStats {
                        kind: kind.to_owned(),
                        ops: 0,
                        payload_bytes: 0,
                        first_time: time,
                        last_time: time,
                    };
                    kinds.insert(at, new);
                    at
                }
            };
            if let Some(known) = kinds.get_mut(at) {
                known.ops += 1;
                known.payload_bytes = known.payload_bytes.saturating_add(bytes);
                known.first_time = known.first_time.min(time);
                known.last_time = known.last_time.max(time);
            }
        }
        let file = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        Ok(Stats {
            ops: kinds.iter().map(|kind| kind.ops).sum(),
            payload_bytes: kinds.iter().map(|kind| kind.payload_bytes).sum(),
            file_bytes: file + db::wal_bytes(&self.path),
            first_time: kinds.iter().map(|kind| kind.first_time).min(),
            last_time: kinds.iter().map(|kind| kind.last_time).max(),
            kinds,
        })
    }

    pub(crate) fn fault(&self, fault: Fault) -> Error {
        Error::fault(&self.dir, fault)
    }
}
