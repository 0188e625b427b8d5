//! Which ops name which digests: what the log needs of the store, and who needs a thing in it.

use rusqlite::{Transaction, params};
use vox_crypto::{Digest, canonical};

use super::{Projection, Projections};
use crate::{Error, Op};

/// A row for each digest that stands in the payload of an op ([`canonical::links`]). Ops that a
/// compaction removes need nothing any more.
#[derive(Debug, Clone, Copy, Default)]
pub struct Links;

impl Projection for Links {
    fn name(&self) -> &str {
        "links"
    }

    fn version(&self) -> u32 {
        1
    }

    fn create(&self, tables: &Transaction<'_>) -> rusqlite::Result<()> {
        tables.execute_batch(
            "CREATE TABLE links (digest TEXT NOT NULL, seq INTEGER NOT NULL, \
             PRIMARY KEY (digest, seq)) STRICT, WITHOUT ROWID;
             CREATE INDEX links_seq ON links (seq);",
        )
    }

    fn apply(&self, op: &Op, tables: &Transaction<'_>) -> rusqlite::Result<()> {
        let links = canonical::links(&op.payload)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        if links.is_empty() {
            return Ok(());
        }
        let seq = crate::db::seq_of(op.seq)?;
        let mut statement = tables.prepare_cached("INSERT OR IGNORE INTO links VALUES (?1, ?2)")?;
        for digest in links {
            statement.execute(params![digest.to_string(), seq])?;
        }
        Ok(())
    }

    fn removed(&self, from: u64, to: u64, tables: &Transaction<'_>) -> rusqlite::Result<()> {
        tables
            .prepare_cached("DELETE FROM links WHERE seq BETWEEN ?1 AND ?2")?
            .execute([crate::db::seq_of(from)?, crate::db::seq_of(to)?])
            .map(drop)
    }
}

impl Links {
    /// The numbers of the ops that name this digest, in order. As of the last
    /// [`Projections::catch_up`].
    ///
    /// # Errors
    /// [`Error::Sqlite`], also when it was never brought up.
    pub fn references(&self, of: &Projections, digest: &Digest) -> Result<Vec<u64>, Error> {
        of.tables()
            .prepare_cached("SELECT seq FROM links WHERE digest = ?1 ORDER BY seq")
            .and_then(|mut statement| {
                statement
                    .query_map([digest.to_string()], |row| {
                        row.get::<_, i64>(0).map(i64::unsigned_abs)
                    })?
                    .collect()
            })
            .map_err(|error| of.failed(error))
    }

    /// Gives every digest that an op names to `visit`, once each and in order.
    ///
    /// # Errors
    /// [`Error::Sqlite`], also when it was never brought up or a row is no digest.
    pub fn each(&self, of: &Projections, visit: &mut dyn FnMut(Digest)) -> Result<(), Error> {
        let mut walk = || {
            let mut statement = of
                .tables()
                .prepare_cached("SELECT DISTINCT digest FROM links ORDER BY digest")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let digest = row.get_ref(0)?.as_str()?.parse().map_err(|error| {
                    rusqlite::Error::FromSqlConversionFailure(
                        0,
                        rusqlite::types::Type::Text,
                        Box::<vox_crypto::Error>::new(error),
                    )
                })?;
                visit(digest);
            }
            Ok(())
        };
        walk().map_err(|error| of.failed(error))
    }
}
