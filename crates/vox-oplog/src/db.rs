//! The database of a log: its schema, its settings, and ops as rows of it.
//!
//! | table | holds |
//! |---|---|
//! | `ops` | the ops, by sequence number |
//! | `authors` | the keys that stand in them, once each |
//! | `meta` | whether the log is one of this machine's own or a copy |
//!
//! An op's hash is not stored: it follows from the row, and its successor and the head file name it.
//! The payload is the last column, as reading a row up to there does not touch the pages that a large
//! one overflows to. There are two indexes, by kind and by run; each costs a fifth of an append.
//!
//! # Durability
//!
//! The journal is a WAL with `synchronous=FULL`: a commit writes its pages to `log.db-wal` and calls
//! `fsync` on it once, before it returns. What was acknowledged survives a crash of the process and of
//! the machine, as far as the disk keeps its word about `fsync` (on macOS `F_FULLFSYNC` is used). Now
//! and then a commit also moves the WAL's pages into `log.db`, with an `fsync` of both.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, params};
use vox_crypto::{PublicKey, Signature};

use crate::{Class, Error, Fault, Hash, Kind, Op};

/// `VOXL`, by which `file` and others may tell the format.
pub(crate) const APPLICATION_ID: i64 = 0x564f_584c;
/// The format that this crate writes, the newest that it reads.
pub(crate) const FORMAT: i64 = 1;

/// Pages of the WAL at which a commit moves them into the database: 16 MiB.
const CHECKPOINT_PAGES: i64 = 4096;
const SCHEMA: &str = "
    CREATE TABLE ops (
        seq INTEGER PRIMARY KEY,
        time INTEGER NOT NULL,
        class INTEGER NOT NULL,
        author INTEGER NOT NULL,
        prev BLOB NOT NULL,
        payload_hash BLOB NOT NULL,
        signature BLOB NOT NULL,
        kind TEXT NOT NULL,
        run TEXT,
        step TEXT,
        payload BLOB NOT NULL
    ) STRICT;
    CREATE INDEX ops_kind ON ops (kind);
    CREATE INDEX ops_run ON ops (run) WHERE run IS NOT NULL;
    CREATE TABLE authors (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE) STRICT;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

/// The columns of [`op_of`], in its order.
pub(crate) const COLUMNS: &str =
    "seq, time, class, author, prev, payload_hash, signature, kind, run, step, payload";

/// The same without the payload, which is the last.
pub(crate) const HEADER_COLUMNS: &str =
    "seq, time, class, author, prev, payload_hash, signature, kind, run, step";

/// What a log directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A log that this machine appends to.
    Own,
    /// A copy of another log, extended by imports.
    Replica,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Replica => "replica",
        }
    }
}

/// Where the next op goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tip {
    /// Its sequence number.
    pub next: u64,
    /// The hash of the op before it.
    pub hash: Hash,
}

impl Tip {
    pub const EMPTY: Self = Self {
        next: 0,
        hash: Hash::ZERO,
    };
}

/// What makes a commit durable.
///
/// A commit writes its pages to the WAL and calls `fsync` on it once before it returns, so what was
/// acknowledged survives a crash of the process and of the machine, as far as the disk keeps its word.
/// Once the WAL has [`checkpoint_pages`](Self::checkpoint_pages), a commit also moves it into the
/// database file, with an `fsync` of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durability {
    /// The journal: `wal`.
    pub journal: String,
    /// 2, which is `FULL`: one `fsync` of the WAL in each commit.
    pub synchronous: i64,
    /// Whether the disk's own cache is emptied too, where the system tells the two apart (macOS).
    pub fullfsync: bool,
    /// Pages of the WAL at which a commit moves it into the database file.
    pub checkpoint_pages: i64,
}

/// The settings of a connection.
pub(crate) fn durability(db: &Connection) -> rusqlite::Result<Durability> {
    let number = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok(Durability {
        journal: db.pragma_query_value(None, "journal_mode", |row| row.get(0))?,
        synchronous: number("synchronous")?,
        fullfsync: number("fullfsync")? == 1,
        checkpoint_pages: number("wal_autocheckpoint")?,
    })
}

/// Opens the database for writing and makes it if it is not there. `busy` is how long a statement
/// waits for others.
pub(crate) fn open(path: &Path, busy: Duration) -> Result<Connection, Error> {
    let failed = |error| Error::sqlite("open", path)(error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(failed)?;
    db.busy_timeout(busy).map_err(failed)?;
    check_format(&db, path, true)?;
    (|| {
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "fullfsync", true)?;
        db.pragma_update(None, "checkpoint_fullfsync", true)?;
        db.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |_| Ok(()))?;
        db.pragma_update_and_check(None, "journal_size_limit", 64 << 20, |_| Ok(()))?;
        distrust(&db)
    })()
    .map_err(failed)?;
    Ok(db)
}

/// Opens the database for reading alone.
pub(crate) fn open_read(path: &Path, busy: Duration) -> Result<Connection, Error> {
    let failed = |error| Error::sqlite("open", path)(error);
    if !path.exists() {
        return Err(Error::Missing {
            path: path.parent().unwrap_or(path).into(),
        });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(failed)?;
    db.busy_timeout(busy).map_err(failed)?;
    let db = match try_read(&db) {
        Ok(()) => db,
        // Without a place for the WAL's index beside it, the file is read as it stands.
        Err(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
            ) =>
        {
            if wal_bytes(path) > 0 {
                return Err(Error::NeedsWal { path: path.into() });
            }
            open_immutable(path).map_err(failed)?
        }
        // A full disk has no room for the index: this connection makes one in memory. It shares what it knows
        // of the file with the one that failed until that is gone.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) => {
            drop(db);
            let db = open_uri(path, "readonly_shm=1").map_err(failed)?;
            db.busy_timeout(busy).map_err(failed)?;
            try_read(&db).map_err(failed)?;
            db
        }
        Err(error) => return Err(failed(error)),
    };
    check_format(&db, path, false)?;
    distrust(&db).map_err(failed)?;
    Ok(db)
}

/// Whether anything can be read: opening alone does not look.
fn try_read(db: &Connection) -> rusqlite::Result<()> {
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

/// Opens the database file alone, without its WAL and without locks.
pub(crate) fn open_immutable(path: &Path) -> rusqlite::Result<Connection> {
    open_uri(path, "immutable=1")
}

/// Opens the database for reading in a way that only a URI can ask for.
fn open_uri(path: &Path, how: &str) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            byte => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push('?');
    uri.push_str(how);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri, flags)
}

/// Bytes of the WAL beside a database.
pub(crate) fn wal_bytes(path: &Path) -> u64 {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    std::fs::metadata(wal).map_or(0, |metadata| metadata.len())
}

/// Has SQLite look twice at what stands in the file.
fn distrust(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "trusted_schema", false)
}

/// Refuses a file that is no log or a newer one. `or_empty`: an empty one is to become a log.
fn check_format(db: &Connection, path: &Path, or_empty: bool) -> Result<(), Error> {
    let number = |name: &'static str| {
        db.pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .map_err(Error::sqlite("open", path))
    };
    let (id, format) = (number("application_id")?, number("user_version")?);
    if id == APPLICATION_ID {
        return if format > FORMAT {
            Err(Error::Newer {
                path: path.into(),
                found: format,
                known: FORMAT,
            })
        } else {
            Ok(())
        };
    }
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(Error::sqlite("open", path))?;
    if or_empty && id == 0 && tables == 0 {
        return Ok(());
    }
    Err(Error::NotALog {
        path: path.into(),
        why: if tables == 0 {
            "it is empty".into()
        } else {
            format!("it is a database of something else (application id {id:#x})")
        },
    })
}

/// Whether the tables are there.
pub(crate) fn has_schema(db: &Connection) -> rusqlite::Result<bool> {
    db.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0))
        .map(|id| id == APPLICATION_ID)
}

/// Makes the tables, in the transaction that is open.
pub(crate) fn create(db: &Connection, role: Role) -> rusqlite::Result<()> {
    db.execute_batch(SCHEMA)?;
    db.execute("INSERT INTO meta VALUES ('role', ?1)", [role.name()])?;
    db.pragma_update(None, "application_id", APPLICATION_ID)?;
    db.pragma_update(None, "user_version", FORMAT)
}

/// What the log is for.
pub(crate) fn role(db: &Connection) -> rusqlite::Result<Role> {
    let name: Option<String> = db
        .query_row("SELECT value FROM meta WHERE key = 'role'", [], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(if name.as_deref() == Some(Role::Replica.name()) {
        Role::Replica
    } else {
        Role::Own
    })
}

/// The keys of the authors, by their number in this database.
#[derive(Debug, Default)]
pub(crate) struct Authors(HashMap<i64, PublicKey>);

impl Authors {
    fn of(&mut self, db: &Connection, id: i64) -> Result<PublicKey, String> {
        if let Some(key) = self.0.get(&id) {
            return Ok(*key);
        }
        let bytes: Option<Vec<u8>> = db
            .prepare_cached("SELECT key FROM authors WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([id], |row| row.get(0)).optional())
            .map_err(|error| format!("its author cannot be read ({error})"))?;
        let bytes: [u8; 32] = bytes
            .ok_or_else(|| format!("its author has number {id}, and there is none of that"))?
            .try_into()
            .map_err(|_| "its author's key does not have 32 bytes".to_owned())?;
        let key = PublicKey::from_bytes(&bytes).map_err(|error| error.to_string())?;
        self.0.insert(id, key);
        Ok(key)
    }
}

/// The number of an author, who is entered if need be.
pub(crate) fn author_id(db: &Connection, key: &PublicKey) -> rusqlite::Result<i64> {
    let found = db
        .prepare_cached("SELECT id FROM authors WHERE key = ?1")?
        .query_row([key.as_bytes()], |row| row.get(0))
        .optional()?;
    if let Some(id) = found {
        return Ok(id);
    }
    db.prepare_cached("INSERT INTO authors (key) VALUES (?1)")?
        .insert([key.as_bytes()])
}

/// The op in a row of [`COLUMNS`].
pub(crate) fn op_of(db: &Connection, row: &Row<'_>, authors: &mut Authors) -> Result<Op, Fault> {
    let seq = match row.get_ref(0) {
        Ok(ValueRef::Integer(seq)) => seq,
        _ => -1,
    };
    let refuse = |why: String| Fault::Unreadable { seq, why };
    let column = |at: usize, name: &str| {
        row.get_ref(at)
            .map_err(|error| refuse(format!("column {name}: {error}")))
    };
    let other = |name: &str| refuse(format!("its {name} is not one"));
    let number = |at, name: &str| match column(at, name)? {
        ValueRef::Integer(number) => Ok(number),
        _ => Err(other(name)),
    };
    let blob = |at, name: &str| match column(at, name)? {
        ValueRef::Blob(bytes) => Ok(bytes),
        _ => Err(other(name)),
    };
    let hash = |at, name: &str| {
        let bytes = blob(at, name)?.try_into().map_err(|_| other(name))?;
        Ok(Hash(bytes))
    };
    let text = |at, name: &str| match column(at, name)? {
        ValueRef::Null => Ok(None),
        ValueRef::Text(bytes) => std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| refuse(format!("its {name} is not UTF-8"))),
        _ => Err(other(name)),
    };
    let id = |at, name: &'static str| {
        let id = text(at, name)?;
        crate::op::check_id(name, id).map_err(|error| refuse(error.to_string()))?;
        Ok(id.map(str::to_owned))
    };
    Ok(Op {
        seq: u64::try_from(seq).map_err(|_| refuse("its number is negative".into()))?,
        time: number(1, "time")?,
        class: Class::of(number(2, "class")?).ok_or_else(|| other("class"))?,
        author: authors.of(db, number(3, "author")?).map_err(refuse)?,
        prev: hash(4, "predecessor's hash")?,
        payload_hash: hash(5, "payload's hash")?,
        signature: blob(6, "signature")?
            .try_into()
            .map(Signature::from_bytes)
            .map_err(|_| other("signature"))?,
        kind: Kind::new(text(7, "kind")?.unwrap_or_default())
            .map_err(|error| refuse(error.to_string()))?,
        run: id(8, "run")?,
        step: id(9, "step")?,
        payload: blob(10, "payload")?.to_vec(),
    })
}

/// Writes ops, all by the author of this number.
pub(crate) fn insert<'a>(
    db: &Connection,
    author: i64,
    ops: impl IntoIterator<Item = &'a Op>,
) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO ops (seq, time, class, author, prev, payload_hash, signature, kind, run, step, \
         payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    for op in ops {
        statement.execute(params![
            seq_of(op.seq)?,
            op.time,
            op.class as i64,
            author,
            op.prev.0,
            op.payload_hash.0,
            op.signature.as_bytes(),
            op.kind.as_str(),
            op.run,
            op.step,
            op.payload,
        ])?;
    }
    Ok(())
}

/// A sequence number as SQLite has numbers.
pub(crate) fn seq_of(seq: u64) -> rusqlite::Result<i64> {
    i64::try_from(seq).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// The op of this number.
pub(crate) fn get(
    db: &Connection,
    path: &Path,
    authors: &mut Authors,
    seq: u64,
) -> Result<Option<Op>, Error> {
    let Ok(seq) = i64::try_from(seq) else {
        return Ok(None);
    };
    one(db, path, authors, "WHERE seq = ?1", [seq])
}

/// The last op.
pub(crate) fn last(
    db: &Connection,
    path: &Path,
    authors: &mut Authors,
) -> Result<Option<Op>, Error> {
    one(db, path, authors, "ORDER BY seq DESC LIMIT 1", [])
}

fn one(
    db: &Connection,
    path: &Path,
    authors: &mut Authors,
    which: &str,
    params: impl rusqlite::Params,
) -> Result<Option<Op>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM ops {which}");
    let failed = |error| Error::sqlite("read", path)(error);
    let mut statement = db.prepare_cached(&sql).map_err(failed)?;
    let mut rows = statement.query(params).map_err(failed)?;
    match rows.next().map_err(failed)? {
        Some(row) => op_of(db, row, authors)
            .map(Some)
            .map_err(|fault| Error::fault(path, fault)),
        None => Ok(None),
    }
}

/// Where the next op goes.
pub(crate) fn tip(db: &Connection, path: &Path, authors: &mut Authors) -> Result<Tip, Error> {
    Ok(match last(db, path, authors)? {
        Some(op) => Tip {
            next: op.seq + 1,
            hash: op.hash(),
        },
        None => Tip::EMPTY,
    })
}

/// Begins a transaction that writes, and says who holds the lock when it cannot be had.
pub(crate) fn begin(db: &Connection, path: &Path, busy: Duration) -> Result<(), Error> {
    match db
        .prepare_cached("BEGIN IMMEDIATE")
        .and_then(|mut s| s.execute([]))
    {
        Ok(_) => Ok(()),
        Err(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
            ) =>
        {
            Err(Error::Busy {
                path: path.into(),
                waited: busy,
                holder: holder(path),
            })
        }
        Err(error) => Err(Error::sqlite("write", path)(error)),
    }
}

/// Ends the transaction that is open: all of it is durable after this, or none of it was written.
pub(crate) fn commit(db: &Connection, path: &Path) -> Result<(), Error> {
    db.prepare_cached("COMMIT")
        .and_then(|mut statement| statement.execute([]))
        .map(drop)
        .map_err(Error::sqlite("write", path))
}

/// Ends what is left of a transaction that failed.
pub(crate) fn rollback(db: &Connection) {
    if !db.is_autocommit()
        && let Err(error) = db.execute_batch("ROLLBACK")
    {
        tracing::warn!(%error, "a failed transaction could not be rolled back");
    }
}

/// Who holds the write lock of a database: SQLite's lock is byte 120 of the WAL's index.
fn holder(path: &Path) -> String {
    const UNKNOWN: &str = "another process";
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt as _;
        let mut index = path.as_os_str().to_owned();
        index.push("-shm");
        let Ok(metadata) = std::fs::metadata(index) else {
            return UNKNOWN.into();
        };
        // The kernel writes the list piece by piece, and a lock that another process releases
        // between two pieces can hide the one after it; so one list is not proof of absence.
        const READS: usize = 8;
        let holder = (0..READS).find_map(|_| write_locker(metadata.ino()));
        if let Some(pid) = holder {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return format!("process {pid} ({})", name.trim().escape_debug());
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = path;
    UNKNOWN.into()
}

/// The process that `/proc/locks` names as the holder of byte 120 of a file, if it lists one.
#[cfg(target_os = "linux")]
fn write_locker(inode: u64) -> Option<u32> {
    let inode = format!(":{inode}");
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let at = words.iter().position(|word| word.ends_with(&inode))?;
        let holds = words.contains(&"WRITE") && words.get(at + 1) == Some(&"120");
        (holds && !words.contains(&"->")).then(|| words.get(at - 1)?.parse().ok())?
    })
}
