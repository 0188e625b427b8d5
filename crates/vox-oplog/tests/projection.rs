//! Tables that follow from the log.

mod common;

use std::cell::Cell;
use std::time::Duration;

use common::{copy, note, open};
use rusqlite::Transaction;
use vox_crypto::{Digest, canonical, hash};
use vox_oplog::{CaughtUp, Class, Error, Links, NewOp, Op, OpLog, Policy, Projection, Projections};

/// Counts ops by kind; fails at one op if it is told to.
struct Count {
    version: u32,
    fails_at: Cell<Option<u64>>,
}

impl Count {
    fn new(version: u32) -> Self {
        let fails_at = Cell::new(None);
        Self { version, fails_at }
    }
}

impl Projection for Count {
    fn name(&self) -> &str {
        "count"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn create(&self, tables: &Transaction<'_>) -> rusqlite::Result<()> {
        tables.execute_batch("CREATE TABLE count_kinds (kind TEXT PRIMARY KEY, ops INTEGER)")
    }

    fn apply(&self, op: &Op, tables: &Transaction<'_>) -> rusqlite::Result<()> {
        if self.fails_at.get() == Some(op.seq) {
            return Err(rusqlite::Error::InvalidQuery);
        }
        let sql = "INSERT INTO count_kinds VALUES (?1, 1) ON CONFLICT DO UPDATE SET ops = ops + 1";
        tables.execute(sql, [op.kind.as_str()]).map(drop)
    }
}

fn fill(log: &OpLog, ops: u64) {
    let pending: Vec<_> = (0..ops).map(|_| log.submit(note("x")).unwrap()).collect();
    for one in pending {
        one.wait().unwrap();
    }
}

fn counted(projections: &Projections) -> u64 {
    let sql = "SELECT sum(ops) FROM count_kinds";
    projections
        .tables()
        .query_row(sql, [], |row| row.get::<_, i64>(0))
        .unwrap() as u64
}

fn done(ops: u64, rebuilt: bool) -> CaughtUp {
    let name = "count".into();
    CaughtUp { name, ops, rebuilt }
}

#[test]
fn every_op_is_applied_once_also_after_a_failure_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 5000);
    let mut projections = Projections::open(dir.path()).unwrap();
    let count = Count::new(1);
    count.fails_at.set(Some(4000));
    assert!(projections.catch_up(&count).is_err());
    count.fails_at.set(None);
    projections.catch_up(&count).unwrap();
    assert_eq!(counted(&projections), 5001);
    fill(&log, 10);
    assert_eq!(projections.catch_up(&count).unwrap(), done(10, false));
    assert_eq!(projections.catch_up(&count).unwrap(), done(0, false));
    drop(projections);
    let mut projections = Projections::open(dir.path()).unwrap();
    assert_eq!(projections.catch_up(&count).unwrap(), done(0, false));
    assert_eq!(counted(&projections), 5011);
}

#[test]
fn another_version_makes_the_tables_anew() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 20);
    let mut projections = Projections::open(dir.path()).unwrap();
    projections.catch_up(&Count::new(1)).unwrap();
    assert_eq!(
        projections.catch_up(&Count::new(2)).unwrap(),
        done(21, true)
    );
    assert_eq!(counted(&projections), 21);
}

#[test]
fn tables_of_another_log_or_another_history_are_made_anew() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(&open(dir.path()), 5);
    copy(dir.path(), other.path());
    fill(&open(dir.path()), 5);
    Projections::open(dir.path())
        .unwrap()
        .catch_up(&Count::new(1))
        .unwrap();
    let take = |ops: u64| {
        for name in ["projections.db", "projections.db-wal"] {
            let _ = std::fs::copy(dir.path().join(name), other.path().join(name));
        }
        let mut projections = Projections::open(other.path()).unwrap();
        assert_eq!(
            projections.catch_up(&Count::new(1)).unwrap(),
            done(ops, true)
        );
        assert_eq!(counted(&projections), ops);
    };
    take(6);
    fill(&open(other.path()), 7);
    take(13);
}

#[test]
fn a_file_of_projections_that_is_none_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    fill(&open(dir.path()), 5);
    std::fs::write(dir.path().join("projections.db"), "nonsense ".repeat(1000)).unwrap();
    let mut projections = Projections::open(dir.path()).unwrap();
    assert_eq!(projections.catch_up(&Count::new(1)).unwrap(), done(6, true));
}

#[test]
fn a_projection_whose_name_could_be_anothers_is_refused() {
    struct Named(&'static str);
    impl Projection for Named {
        fn name(&self) -> &str {
            self.0
        }
        fn version(&self) -> u32 {
            1
        }
        fn create(&self, _: &Transaction<'_>) -> rusqlite::Result<()> {
            Ok(())
        }
        fn apply(&self, _: &Op, _: &Transaction<'_>) -> rusqlite::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    fill(&open(dir.path()), 1);
    let mut projections = Projections::open(dir.path()).unwrap();
    for name in ["", "projections", "a_b", "A", "1", "a\"; DROP TABLE x"] {
        let refused = projections.catch_up(&Named(name));
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{name:?}");
    }
}

#[test]
fn links_tell_who_references_a_digest_until_a_compaction_removes_the_op() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let (a, b) = (hash(b"a"), hash(b"b"));
    let append = |class, digests: &[Digest]| {
        let payload = canonical::encode(digests).unwrap();
        let op = NewOp::new("test.links", payload)
            .unwrap()
            .class(class)
            .at(1);
        log.append(op).unwrap().seq
    };
    let hot = append(Class::Hot, &[a, b, a]);
    let kept = append(Class::Kept, &[a]);
    fill(&log, 3);
    let mut projections = Projections::open(dir.path()).unwrap();
    projections.catch_up(&Links).unwrap();
    let references = |of: &Projections, digest| Links.references(of, digest).unwrap();
    assert_eq!(references(&projections, &a), [hot, kept]);
    assert_eq!(references(&projections, &b), [hot]);
    let mut all = Vec::new();
    Links
        .each(&projections, &mut |digest| all.push(digest))
        .unwrap();
    all.sort();
    let mut both = [a, b];
    both.sort();
    assert_eq!(all, both);
    let policy = Policy {
        hot: Duration::ZERO,
        warm: Duration::MAX,
        keep_last: 1,
    };
    assert_eq!(log.compact(&policy, 1000).unwrap().removed, 1);
    projections.catch_up(&Links).unwrap();
    assert_eq!(references(&projections, &a), [kept]);
    assert!(references(&projections, &b).is_empty());
}
