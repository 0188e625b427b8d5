//! Which ops somebody wants to see, and reading them page by page.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::str::FromStr;

use rusqlite::types::Value;
use vox_crypto::PublicKey;

use crate::db::{self, COLUMNS};
use crate::reader::{Inner, Reader};
use crate::{Error, Kind, Op};

/// Ops of one page at most.
const PAGE_OPS: u64 = 256;
/// Bytes at which a page ends.
const PAGE_BYTES: usize = 1 << 20;

/// A kind, or all kinds below a word: `training.checkpoint`, `training.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KindFilter {
    /// This kind alone.
    Exact(Kind),
    /// The kinds that begin with these words and a dot.
    Below(Kind),
}

impl KindFilter {
    /// The condition of a statement, whose parameters are added to `values`. It has no use for an index.
    fn clause(&self, values: &mut Vec<Value>) -> String {
        let mut add = |text: String| {
            values.push(Value::Text(text));
            values.len()
        };
        match self {
            Self::Exact(kind) => format!("+kind = ?{}", add(kind.to_string())),
            Self::Below(words) => {
                // The character after the dot is the slash.
                let (low, high) = (add(format!("{words}.")), add(format!("{words}/")));
                format!("(+kind > ?{low} AND +kind < ?{high})")
            }
        }
    }
}

impl FromStr for KindFilter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.strip_suffix(".*") {
            Some(words) => Kind::new(words).map(Self::Below),
            None => Kind::new(text).map(Self::Exact),
        }
    }
}

/// A selection of ops. What is not set does not select.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// The first number to look at.
    pub from: Option<u64>,
    /// The last number to look at.
    pub to: Option<u64>,
    /// One of these kinds.
    pub kinds: Vec<KindFilter>,
    /// This run.
    pub run: Option<String>,
    /// This step.
    pub step: Option<String>,
    /// Not before this time, in microseconds since the Unix epoch.
    pub since: Option<i64>,
    /// Before this time.
    pub until: Option<i64>,
    /// By this author.
    pub author: Option<PublicKey>,
    /// The last op first.
    pub descending: bool,
    /// So many at most.
    pub limit: Option<u64>,
}

impl Query {
    /// All ops from this number on.
    pub fn from(seq: u64) -> Self {
        Self {
            from: Some(seq),
            ..Self::default()
        }
    }

    /// The last ops, the last first.
    pub fn latest(count: u64) -> Self {
        Self {
            descending: true,
            limit: Some(count),
            ..Self::default()
        }
    }

    /// The statement for the page between two numbers, and its parameters.
    fn statement(&self, low: i64, high: i64, limit: u64) -> (String, Vec<Value>) {
        let mut sql = format!("SELECT {COLUMNS} FROM ops WHERE seq BETWEEN ?1 AND ?2");
        let mut values = vec![Value::Integer(low), Value::Integer(high)];
        let mut add = |clause: &str, value: Value| {
            values.push(value);
            let _ = write!(
                sql,
                " AND {}",
                clause.replace('?', &format!("?{}", values.len()))
            );
        };
        if let Some(run) = &self.run {
            add("run = ?", Value::Text(run.clone()));
        }
        if let Some(step) = &self.step {
            add("step = ?", Value::Text(step.clone()));
        }
        if let Some(since) = self.since {
            add("time >= ?", Value::Integer(since));
        }
        if let Some(until) = self.until {
            add("time < ?", Value::Integer(until));
        }
        if let Some(author) = &self.author {
            let key = Value::Blob(author.as_bytes().to_vec());
            add("author = (SELECT id FROM authors WHERE key = ?)", key);
        }
        // An index is of use where it gives the ops in their order: for one run, or for one kind. The
        // sign keeps SQLite from taking one that would have it sort.
        if let ([KindFilter::Exact(kind)], None) = (self.kinds.as_slice(), &self.run) {
            add("kind = ?", Value::Text(kind.as_str().into()));
        } else if !self.kinds.is_empty() {
            let any: Vec<_> = self
                .kinds
                .iter()
                .map(|kind| kind.clause(&mut values))
                .collect();
            let _ = write!(sql, " AND ({})", any.join(" OR "));
        }
        let order = if self.descending { "DESC" } else { "ASC" };
        let _ = write!(sql, " ORDER BY seq {order} LIMIT {limit}");
        (sql, values)
    }
}

/// The ops of a [`Query`].
#[derive(Debug)]
pub struct Ops<'r> {
    reader: &'r Reader,
    query: Query,
    /// What is left to look at; none at the end.
    range: Option<(i64, i64)>,
    left: u64,
    page: VecDeque<Op>,
}

impl<'r> Ops<'r> {
    pub(crate) fn new(reader: &'r Reader, query: Query) -> Self {
        let clamp = |seq| i64::try_from(seq).unwrap_or(i64::MAX);
        let (low, high) = (
            query.from.map_or(0, clamp),
            query.to.map_or(i64::MAX, clamp),
        );
        Self {
            reader,
            left: query.limit.unwrap_or(u64::MAX),
            query,
            range: (low <= high).then_some((low, high)),
            page: VecDeque::new(),
        }
    }

    /// Reads the next page, if there may be one.
    fn fill(&mut self) -> Result<(), Error> {
        let Some((low, high)) = self.range.take() else {
            return Ok(());
        };
        let limit = self.left.min(PAGE_OPS);
        let (sql, values) = self.query.statement(low, high, limit);
        let path = &self.reader.path;
        let failed = |error| Error::sqlite("read", path)(error);
        let Inner { db, authors } = &mut *self.reader.lock();
        let mut statement = db.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement
            .query(rusqlite::params_from_iter(values))
            .map_err(failed)?;
        let mut bytes = 0usize;
        let mut whole = false;
        while let Some(row) = rows.next().map_err(failed)? {
            let op = db::op_of(db, row, authors).map_err(|fault| self.reader.fault(fault))?;
            bytes = bytes.saturating_add(op.weight());
            self.page.push_back(op);
            whole = bytes >= PAGE_BYTES || self.page.len() as u64 == limit;
            if whole {
                break;
            }
        }
        self.left -= self.page.len() as u64;
        if let Some(last) = self.page.back().filter(|_| whole && self.left > 0) {
            let last = db::seq_of(last.seq).map_err(failed)?;
            let rest = if self.query.descending {
                (low, last.saturating_sub(1))
            } else {
                (last.saturating_add(1), high)
            };
            self.range = (rest.0 <= rest.1).then_some(rest);
        }
        Ok(())
    }
}

impl Iterator for Ops<'_> {
    type Item = Result<Op, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty()
            && let Err(error) = self.fill()
        {
            return Some(Err(error));
        }
        self.page.pop_front().map(Ok)
    }
}
