//! Tables that follow from the log and can be made again from it at any time.
//!
//! They live in `projections.db` beside the log, so that keeping them up takes no lock that a writer of
//! the log waits for. Each has a position: the next op that it has not seen.
//!
//! What must stay true: a transaction applies ops and moves the position, or does neither, so that each
//! op is applied once. Tables of another version, of another log, or of a history that the log does not
//! have, are dropped and made anew. The file may be removed at any time.

mod links;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

pub use links::Links;

use crate::{Error, Kind, LogId, Op, Query, Reader, control};

/// The name of the database in a log's directory.
const FILE: &str = "projections.db";
/// Ops of one transaction.
const BATCH: u64 = 2048;
const BUSY: Duration = Duration::from_secs(30);

/// Tables that follow from a log.
///
/// What it writes follows from the ops alone, so that making it again gives the same.
pub trait Projection {
    /// Its name: lower-case letters and digits, a letter first. Its tables have this name, or begin with
    /// it and an underscore.
    fn name(&self) -> &str;

    /// The version of what it writes. When it changes, the tables are made again.
    fn version(&self) -> u32;

    /// Makes the empty tables.
    ///
    /// # Errors
    /// What SQLite says.
    fn create(&self, tables: &Transaction<'_>) -> rusqlite::Result<()>;

    /// Takes the next op.
    ///
    /// # Errors
    /// What SQLite says, or why the op cannot be understood; the op is taken again the next time.
    fn apply(&self, op: &Op, tables: &Transaction<'_>) -> rusqlite::Result<()>;

    /// Learns that a compaction has removed ops `from` to `to`, of which it has seen some.
    ///
    /// # Errors
    /// What SQLite says.
    fn removed(&self, from: u64, to: u64, tables: &Transaction<'_>) -> rusqlite::Result<()> {
        let _ = (from, to, tables);
        Ok(())
    }
}

/// What bringing a projection up to the log did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaughtUp {
    /// Its name.
    pub name: String,
    /// Ops that it took.
    pub ops: u64,
    /// Whether its tables were made anew.
    pub rebuilt: bool,
}

/// The projections of a log.
#[derive(Debug)]
pub struct Projections {
    path: PathBuf,
    db: Connection,
    reader: Reader,
}

impl Projections {
    /// Opens the projections of the log in this directory.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let reader = Reader::open(&dir)?;
        let path = dir.as_ref().join(FILE);
        let db = match connect(&path) {
            Ok(db) => db,
            Err(error)
                if matches!(
                    error.sqlite_error_code(),
                    Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt)
                ) =>
            {
                tracing::warn!(%error, path = %path.display(), "the projections are made anew");
                std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                connect(&path).map_err(Error::sqlite("open", &path))?
            }
            Err(error) => return Err(Error::sqlite("open", &path)(error)),
        };
        Ok(Self { path, db, reader })
    }

    /// Projections of the log in this directory that are kept nowhere, for where nothing can be written: the
    /// whole log is read to bring one up, and memory holds it.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn in_memory(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let reader = Reader::open(&dir)?;
        let path = dir.as_ref().join(FILE);
        let db = Connection::open_in_memory().and_then(prepared);
        let db = db.map_err(Error::sqlite("open", &path))?;
        Ok(Self { path, db, reader })
    }

    /// The database, for queries.
    pub fn tables(&self) -> &Connection {
        &self.db
    }

    /// The log.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Has a projection take all ops that it has not seen.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be one; [`Error::Sqlite`]; [`Error::Fault`] when an op
    /// cannot be read.
    pub fn catch_up(&mut self, projection: &dyn Projection) -> Result<CaughtUp, Error> {
        let name = projection.name();
        let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !fits || name == "projections" {
            return Err(Error::Invalid {
                what: "projection",
                text: name.into(),
                why: "its name is lower-case letters and digits, a letter first",
            });
        }
        let mut done = CaughtUp {
            name: name.into(),
            ops: 0,
            rebuilt: false,
        };
        loop {
            let tables = self
                .db
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(Error::sqlite("write", &self.path))?;
            let (ops, rebuilt) = step(projection, &tables, &self.reader, &self.path)?;
            tables
                .commit()
                .map_err(Error::sqlite("write", &self.path))?;
            done.ops += ops;
            done.rebuilt |= rebuilt;
            if ops == 0 {
                return Ok(done);
            }
        }
    }

    /// The error of a query of [`tables`](Self::tables) that failed.
    pub fn failed(&self, error: rusqlite::Error) -> Error {
        Error::sqlite("read", &self.path)(error)
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open(path).and_then(prepared)
}

/// A database with the settings and the table that all projections share.
fn prepared(db: Connection) -> rusqlite::Result<Connection> {
    db.busy_timeout(BUSY)?;
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // What a loss of power takes is made again.
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS projections (name TEXT PRIMARY KEY, version INTEGER NOT NULL, \
         log BLOB NOT NULL, next INTEGER NOT NULL, last BLOB NOT NULL) STRICT, WITHOUT ROWID",
    )?;
    Ok(db)
}

/// Applies the next ops; how many there were, and whether the tables were made anew.
fn step(
    projection: &dyn Projection,
    tables: &Transaction<'_>,
    reader: &Reader,
    path: &Path,
) -> Result<(u64, bool), Error> {
    let failed = |error| Error::sqlite("write", path)(error);
    let (name, version) = (projection.name(), projection.version());
    let Some(log) = reader.id()? else {
        return Ok((0, false));
    };
    let stands = position(tables, name, version, log).map_err(failed)?;
    let next = match stands {
        Some((next, last)) if of_this_history(reader, next, last)? => Some(next),
        _ => None,
    };
    let rebuilt = next.is_none();
    if rebuilt {
        drop_tables(tables, name).map_err(failed)?;
        projection.create(tables).map_err(failed)?;
    }
    let query = Query {
        limit: Some(BATCH),
        ..Query::from(next.unwrap_or(0))
    };
    let (mut ops, mut last) = (0, None);
    for op in reader.ops(query) {
        let op = op?;
        projection.apply(&op, tables).map_err(failed)?;
        if op.kind.as_str() == Kind::COMPACTION {
            let record = control::compaction_of(&op).map_err(|fault| reader.fault(fault))?;
            for gap in &record.gaps {
                projection
                    .removed(gap.from, gap.to, tables)
                    .map_err(failed)?;
            }
        }
        ops += 1;
        last = Some((op.seq, op.hash()));
    }
    if let Some((seq, hash)) = last {
        let next = crate::db::seq_of(seq.saturating_add(1)).map_err(failed)?;
        tables
            .execute(
                "INSERT OR REPLACE INTO projections VALUES (?1, ?2, ?3, ?4, ?5)",
                params![name, version, log.0, next, hash.0],
            )
            .map_err(failed)?;
    }
    Ok((ops, rebuilt))
}

/// Where a projection of this version stands in this log, and the hash of the last op that it took.
fn position(
    tables: &Transaction<'_>,
    name: &str,
    version: u32,
    log: LogId,
) -> rusqlite::Result<Option<(u64, [u8; 32])>> {
    tables
        .query_row(
            "SELECT next, last FROM projections WHERE name = ?1 AND version = ?2 AND log = ?3",
            params![name, version, log.0],
            |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?)),
        )
        .optional()
}

/// Whether the log has the op that was taken last. One that a compaction has removed was there.
fn of_this_history(reader: &Reader, next: u64, last: [u8; 32]) -> Result<bool, Error> {
    if next > reader.tip()?.next {
        return Ok(false);
    }
    let op = next.checked_sub(1).map(|seq| reader.get(seq)).transpose()?;
    Ok(op.flatten().is_none_or(|op| op.hash().0 == last))
}

fn drop_tables(tables: &Transaction<'_>, name: &str) -> rusqlite::Result<()> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' \
               AND (name = ?1 OR substr(name, 1, length(?1) + 1) = ?1 || '_')";
    let found: Vec<String> = tables
        .prepare(sql)?
        .query_map([name], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for table in found {
        let quoted = table.replace('"', "\"\"");
        tables.execute_batch(&format!("DROP TABLE \"{quoted}\""))?;
    }
    tables.execute("DELETE FROM projections WHERE name = ?1", [name])?;
    Ok(())
}
