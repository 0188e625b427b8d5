//! A log that is written: opening, repairing, appending.
//!
//! What must stay true: opening looks at the last op and at a few others by index, never at all of
//! them; it repairs what a crash leaves behind and says so, and it refuses a log that shows signs of
//! something else. While a handle is open it holds `lock` shared; a process that has it alone knows that
//! nobody else writes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use vox_crypto::{PublicKey, SigningKey};

use crate::db::{self, Authors, Durability, Role, Tip};
use crate::head::{Head, HeadFile};
use crate::queue::{Bounds, Pending, Queue, Receipt};
use crate::seal::{prepare, seal};
use crate::signal::Signal;
use crate::writer::{Setup, Writer, write};
use crate::{Error, Fault, Kind, LogId, NewOp, Op, Reader, control, op};

/// The name of the database in a log's directory.
pub(crate) const DATABASE: &str = "log.db";
const LOCK: &str = "lock";

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The largest payload that is taken, in bytes: 16 MiB, which is also the most.
    pub max_payload: usize,
    /// Ops that one transaction takes at most: 4096.
    pub batch_ops: usize,
    /// Bytes that one transaction takes at most, or one op: 8 MiB.
    pub batch_bytes: usize,
    /// Ops that wait for the writer at most, before [`OpLog::submit`] waits itself: 16384.
    pub queue_ops: usize,
    /// Bytes that wait for the writer at most: 64 MiB.
    pub queue_bytes: usize,
    /// How long to wait for another process that writes: 10 seconds.
    pub busy: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_payload: op::MAX_PAYLOAD_BYTES,
            batch_ops: 4096,
            batch_bytes: 8 << 20,
            queue_ops: 16384,
            queue_bytes: 64 << 20,
            busy: Duration::from_secs(10),
        }
    }
}

/// What opening a log did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// Whether the log was made.
    pub created: bool,
    /// What a crash had left behind.
    pub repairs: Vec<Repair>,
}

/// What opening a log repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repair {
    /// The last writer did not close the log: its ops were taken from the WAL.
    Wal {
        /// Ops in the WAL that were not in the database file yet; none when that could not be told, as
        /// the crash came while the WAL was moved into the database.
        ops: Option<u64>,
    },
    /// The head file lagged behind the log and was brought up to it.
    HeadBehind {
        /// By so many ops.
        ops: u64,
    },
    /// The head file was missing or empty and was written anew. Nothing showed that the log was whole.
    HeadMissing,
}

impl std::fmt::Display for Repair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wal { ops: Some(ops) } => {
                write!(
                    f,
                    "the log was not closed; {ops} ops were taken from its WAL"
                )
            }
            Self::Wal { ops: None } => f.write_str("the log was not closed; its WAL was recovered"),
            Self::HeadBehind { ops } => write!(f, "the head file was {ops} ops behind the log"),
            Self::HeadMissing => f.write_str("the head file was missing and was written anew"),
        }
    }
}

/// A log that ops can be appended to. Its methods may be called from many threads at once.
#[derive(Debug)]
pub struct OpLog {
    pub(crate) dir: Arc<Path>,
    pub(crate) path: PathBuf,
    pub(crate) log: LogId,
    pub(crate) key: SigningKey,
    pub(crate) options: Options,
    pub(crate) signal: Arc<Signal>,
    opened: Opened,
    durability: Durability,
    queue: Arc<Queue>,
    writer: Option<Writer>,
    /// Held shared.
    _lock: File,
}

impl OpLog {
    /// Opens the log in this directory, and makes it if there is none: then `key` is its first author.
    ///
    /// # Errors
    /// [`Error::NotAnAuthor`] when the key may not write it; [`Error::Fault`] when it was cut, rolled
    /// back or replaced; [`Error::Newer`], [`Error::NotALog`], [`Error::Replica`] when it is none that
    /// can be appended to; [`Error::Busy`], [`Error::Io`] and [`Error::Sqlite`].
    pub fn open(dir: impl AsRef<Path>, key: SigningKey, options: Options) -> Result<Self, Error> {
        let dir: Arc<Path> = dir.as_ref().into();
        let path = dir.join(DATABASE);
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let mut opened = Opened::default();
        let (lock, alone) = lock(&dir, &path)?;
        if alone && db::wal_bytes(&path) > 0 {
            opened.repairs.push(Repair::Wal { ops: None });
        }
        let in_file = alone.then(|| last_in_file(&path)).flatten();
        let db = db::open(&path, options.busy)?;
        let durability = db::durability(&db).map_err(Error::sqlite("read", &path))?;
        let mut authors = Authors::default();
        if !db::has_schema(&db).map_err(Error::sqlite("read", &path))? {
            create(&db, &path, &key, options.busy)?;
            opened = Opened {
                created: true,
                repairs: Vec::new(),
            };
        }
        if db::role(&db).map_err(Error::sqlite("read", &path))? == Role::Replica {
            return Err(Error::Replica {
                path: dir.to_path_buf(),
            });
        }
        let genesis = db::get(&db, &path, &mut authors, 0)?
            .ok_or_else(|| Error::fault(&dir, Fault::Gap { from: 0, to: 0 }))?;
        let log = control::log_of(&genesis).map_err(|fault| Error::fault(&dir, fault))?;
        if !may_write(&db, &path, &mut authors, &genesis, &key.public())? {
            return Err(Error::NotAnAuthor {
                key: key.public().id(),
                path: dir.to_path_buf(),
            });
        }
        // Read before the log, which has to be at least as far.
        let head = Head::read(&dir)?;
        let tip = db::tip(&db, &path, &mut authors)?;
        if let Some(Repair::Wal { ops }) = opened.repairs.first_mut() {
            *ops = in_file.map(|in_file| tip.next.saturating_sub(in_file));
        }
        let repair = check_head(&db, &dir, &path, &mut authors, head, log, tip)?;
        let file = HeadFile::open(&dir)?;
        let new = opened.created || tip.next == 1;
        if new || repair.is_some() {
            let head = Head::sign(&key, log, tip.next.saturating_sub(1), tip.hash);
            file.advance(&head, new)?;
            sync_dir(&dir)?;
        }
        // A crash between the first op and the first head is no loss of one.
        opened.repairs.extend(repair.filter(|_| !new));
        for repair in &opened.repairs {
            tracing::info!(dir = %dir.display(), %repair, "repaired the op-log");
        }
        if alone {
            lock.lock_shared().map_err(Error::io("lock", &dir))?;
        }
        let bounds = |ops, bytes| Bounds { ops, bytes };
        let queue = Arc::new(Queue::new(
            dir.clone(),
            bounds(options.queue_ops, options.queue_bytes),
        ));
        let signal = Signal::of(&dir);
        let setup = Setup {
            path: path.clone(),
            log,
            key: key.clone(),
            batch: bounds(options.batch_ops, options.batch_bytes),
            busy: options.busy,
            signal: signal.clone(),
        };
        let writer = Writer::start(setup, queue.clone(), db, file, tip)?;
        signal.add_writer();
        Ok(Self {
            dir,
            path,
            log,
            key,
            options,
            signal,
            opened,
            durability,
            queue,
            writer: Some(writer),
            _lock: lock,
        })
    }

    /// What opening it did.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Which log it is.
    pub fn id(&self) -> LogId {
        self.log
    }

    /// The key that signs what is appended.
    pub fn author(&self) -> PublicKey {
        self.key.public()
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Appends an op and waits until it is durable.
    ///
    /// # Errors
    /// As [`submit`](Self::submit) and [`Pending::wait`].
    pub fn append(&self, op: NewOp) -> Result<Receipt, Error> {
        let _span = tracing::debug_span!("vox.oplog.append", kind = op.kind.as_str()).entered();
        self.submit(op)?.wait()
    }

    /// Hands over an op, which is written together with those that others hand over meanwhile. Ops of
    /// one thread are written in their order. Where one of them fails those behind it may still be
    /// written, so whoever needs one to be there before the next waits for it. Waits while the queue is
    /// full.
    ///
    /// # Errors
    /// [`Error::Payload`], [`Error::TooLarge`], [`Error::Invalid`] and [`Error::Reserved`] when it
    /// cannot be an op; [`Error::Closed`] when the writer has ended.
    pub fn submit(&self, op: NewOp) -> Result<Pending, Error> {
        if op.kind.is_reserved() {
            return Err(Error::Reserved {
                kind: op.kind.to_string(),
            });
        }
        self.submit_any(op)
    }

    fn submit_any(&self, op: NewOp) -> Result<Pending, Error> {
        let op = prepare(op, self.key.public(), self.options.max_payload)?;
        self.queue.push(op)
    }

    /// Lets another key write this log from here on.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn add_author(&self, key: PublicKey) -> Result<Receipt, Error> {
        self.submit_any(control::author(key)?)?.wait()
    }

    /// What SQLite said about the durability of a commit on the connection that writes.
    pub fn durability(&self) -> &Durability {
        &self.durability
    }

    /// A reader of this log, with a connection of its own.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn reader(&self) -> Result<Reader, Error> {
        Reader::open(&self.dir)
    }

    /// Writes what was handed over and closes the log. Dropping it does the same.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.queue.close();
        if let Some(writer) = self.writer.take() {
            writer.join();
            self.signal.remove_writer();
        }
    }
}

impl Drop for OpLog {
    fn drop(&mut self) {
        self.end();
    }
}

/// The log's lock, and whether it is held alone. It is held alone when the log has to be made.
pub(crate) fn lock(dir: &Path, database: &Path) -> Result<(File, bool), Error> {
    let path = dir.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let lock = options.open(&path).map_err(Error::io("open", &path))?;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok((lock, true)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
        // Others have it open, or one is opening it, which this waits for.
        lock.lock_shared().map_err(Error::io("lock", &path))?;
        if database.metadata().is_ok_and(|metadata| metadata.len() > 0)
            || db::wal_bytes(database) > 0
        {
            return Ok((lock, false));
        }
        // That one has not made it.
        lock.unlock().map_err(Error::io("unlock", &path))?;
    }
}

/// The number of the op that would follow on those in the database file without its WAL, where that
/// can be told.
fn last_in_file(path: &Path) -> Option<u64> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0) {
        return Some(0);
    }
    let db = db::open_immutable(path).ok()?;
    let last: Option<i64> = db
        .query_row("SELECT max(seq) FROM ops", [], |row| row.get(0))
        .ok()?;
    u64::try_from(last.map_or(0, |last| last.saturating_add(1))).ok()
}

/// Makes the tables and the first op.
fn create(db: &Connection, path: &Path, key: &SigningKey, busy: Duration) -> Result<(), Error> {
    let mut id = [0; 32];
    getrandom::fill(&mut id).map_err(|error| Error::Random(error.to_string()))?;
    let log = LogId(id);
    let now = op::micros(SystemTime::now());
    let genesis = prepare(
        control::genesis(log, now)?.at(now),
        key.public(),
        op::MAX_PAYLOAD_BYTES,
    )?;
    let sealed = seal(key, log, Tip::EMPTY, vec![genesis]);
    db::begin(db, path, busy)?;
    let made = (|| {
        let failed = |error| Error::sqlite("create", path)(error);
        // Another process may have made it between the look and the lock.
        if db::has_schema(db).map_err(failed)? {
            return db::commit(db, path);
        }
        db::create(db, Role::Own).map_err(failed)?;
        let author = db::author_id(db, &key.public()).map_err(failed)?;
        write(db, path, author, &sealed.ops)
    })();
    if made.is_err() {
        db::rollback(db);
    }
    made
}

/// Whether this key is the author of the genesis or was added by an op. Whether that op is sound is for
/// verification to tell.
fn may_write(
    db: &Connection,
    path: &Path,
    authors: &mut Authors,
    genesis: &Op,
    key: &PublicKey,
) -> Result<bool, Error> {
    Ok(genesis.author == *key
        || added(db, path, authors)?
            .iter()
            .any(|(_, author)| author == key))
}

/// The keys that ops added, with the numbers of these ops.
pub(crate) fn added(
    db: &Connection,
    path: &Path,
    authors: &mut Authors,
) -> Result<Vec<(u64, PublicKey)>, Error> {
    of_kind(db, path, authors, Kind::AUTHOR, |op| {
        Ok((op.seq, control::author_of(op)?))
    })
}

/// What the ops of one of the log's own kinds say, in order.
pub(crate) fn of_kind<T>(
    db: &Connection,
    path: &Path,
    authors: &mut Authors,
    kind: &str,
    read: impl Fn(&Op) -> Result<T, Fault>,
) -> Result<Vec<T>, Error> {
    let sql = format!(
        "SELECT {} FROM ops WHERE kind = ?1 ORDER BY seq",
        db::COLUMNS
    );
    let failed = |error| Error::sqlite("read", path)(error);
    let mut statement = db.prepare_cached(&sql).map_err(failed)?;
    let mut rows = statement.query([kind]).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let value = db::op_of(db, row, authors).and_then(|op| read(&op));
        found.push(value.map_err(|fault| Error::fault(path, fault))?);
    }
    Ok(found)
}

/// Compares the head file with the log, and says what to repair of it.
pub(crate) fn check_head(
    db: &Connection,
    dir: &Path,
    path: &Path,
    authors: &mut Authors,
    head: Option<Head>,
    log: LogId,
    tip: Tip,
) -> Result<Option<Repair>, Error> {
    let Some(head) = head else {
        return Ok(Some(Repair::HeadMissing));
    };
    let fault = |fault| Err(Error::fault(dir, fault));
    if head.log != log {
        return fault(Fault::OtherLog {
            expected: head.log,
            found: log,
        });
    }
    if head.seq >= tip.next {
        return fault(Fault::RolledBack {
            head: head.seq,
            last: tip.next.checked_sub(1),
        });
    }
    // An op that a compaction has removed says nothing; later ones were there when it ran.
    if let Some(op) = db::get(db, path, authors, head.seq)? {
        let found = op.hash();
        if found != head.hash {
            return fault(Fault::HeadDiffers {
                seq: head.seq,
                expected: head.hash,
                found,
            });
        }
    }
    let behind = tip.next - 1 - head.seq;
    Ok((behind > 0).then_some(Repair::HeadBehind { ops: behind }))
}

/// Makes the names of new files durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::io("sync", dir))?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}
