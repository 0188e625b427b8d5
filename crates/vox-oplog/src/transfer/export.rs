//! From a log to a file.

use std::io::{self, Write};
use std::path::Path;

use vox_crypto::canonical;

use super::{END, End, MAGIC, OP, Written};
use crate::db::{self, Authors};
use crate::{Error, Hash, Reader, reader};

/// What was exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Ops.
    pub ops: u64,
    /// The number of the first; none when there are none in the range.
    pub first: Option<u64>,
    /// The number and the hash of the last.
    pub last: Option<(u64, Hash)>,
    /// Bytes of the file.
    pub bytes: u64,
}

impl Reader {
    /// Writes ops number `from` to `to`, or to the last, as a file that a [`super::Replica`] imports.
    /// They are not verified here: whoever imports them does that.
    ///
    /// Gaps that a compaction left are vouched for by a later op, so `to` has to be behind that.
    ///
    /// # Errors
    /// [`Error::Io`] when `out` fails; [`Error::Fault`] when an op cannot be read; [`Error::Sqlite`].
    pub fn export(
        &self,
        from: u64,
        to: Option<u64>,
        out: &mut dyn Write,
    ) -> Result<Exported, Error> {
        let failed = |error| Error::sqlite("read", &self.path)(error);
        let head = self.signed_head()?;
        let db = db::open_read(&self.path, reader::BUSY)?;
        db.execute_batch("BEGIN").map_err(failed)?;
        let columns = db::COLUMNS;
        let sql = format!("SELECT {columns} FROM ops WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq");
        let mut statement = db.prepare(&sql).map_err(failed)?;
        let clamp = |seq| i64::try_from(seq).unwrap_or(i64::MAX);
        let range = [clamp(from), to.map_or(i64::MAX, clamp)];
        let mut rows = statement.query(range).map_err(failed)?;
        let mut authors = Authors::default();
        let mut done = Exported {
            ops: 0,
            first: None,
            last: None,
            bytes: MAGIC.len() as u64,
        };
        out.write_all(MAGIC).map_err(unwritten)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let op = db::op_of(&db, row, &mut authors).map_err(|fault| self.fault(fault))?;
            done.ops += 1;
            done.first.get_or_insert(op.seq);
            done.last = Some((op.seq, op.hash()));
            let record = canonical::encode(&Written::from(op)).map_err(unencoded)?;
            done.bytes += frame(out, OP, &record)?;
        }
        let (last, hash) = done.last.unwrap_or_default();
        let head = head.filter(|head| Some((head.seq, head.hash)) == done.last);
        let end = End {
            count: done.ops,
            last,
            hash,
            head: head.map(|head| head.to_bytes().into()),
        };
        done.bytes += frame(out, END, &canonical::encode(&end).map_err(unencoded)?)?;
        out.flush().map_err(unwritten)?;
        Ok(done)
    }
}

fn frame(out: &mut dyn Write, tag: u8, record: &[u8]) -> Result<u64, Error> {
    let length = u32::try_from(record.len())
        .map_err(|_| unwritten(io::Error::other("an op is larger than 4 GiB")))?;
    out.write_all(&[tag])
        .and_then(|()| out.write_all(&length.to_be_bytes()))
        .and_then(|()| out.write_all(record))
        .map_err(unwritten)?;
    Ok(5 + record.len() as u64)
}

fn unwritten(error: io::Error) -> Error {
    Error::io("write", Path::new("the export"))(error)
}

fn unencoded(error: canonical::Error) -> Error {
    unwritten(io::Error::other(error))
}
