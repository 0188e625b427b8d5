//! What a compaction removes, what it leaves, and lies about it.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{copy, fault, key, note, open, verify};
use rusqlite::Connection;
use vox_oplog::{Class, Compacted, Fault, OpLog, Options, Policy, Query, Reader};

const POLICY: Policy = Policy {
    hot: Duration::from_secs(10),
    warm: Duration::from_secs(100),
    keep_last: 5,
};

/// One op a second from second 1 on: of three hot, one warm; each tenth is kept.
fn fill(log: &OpLog, from: u64, to: u64) {
    let pending: Vec<_> = (from..=to)
        .map(|at| {
            let class = match at {
                at if at % 10 == 0 => Class::Kept,
                at if at % 4 == 0 => Class::Warm,
                _ => Class::Hot,
            };
            let op = note(&format!("{at}{}", "x".repeat(400)));
            log.submit(op.class(class).at(at as i64 * 1_000_000))
                .unwrap()
        })
        .collect();
    for one in pending {
        one.wait().unwrap();
    }
}

fn compact(log: &OpLog, second: i64) -> Compacted {
    log.compact(&POLICY, second * 1_000_000).unwrap()
}

fn seqs(dir: &Path) -> Vec<u64> {
    let reader = Reader::open(dir).unwrap();
    reader
        .ops(Query::default())
        .map(|op| op.unwrap().seq)
        .collect()
}

#[test]
fn a_compacted_log_still_verifies_and_has_what_was_to_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 1, 200);
    let before = verify(dir.path()).unwrap();
    let plan = log
        .reader()
        .unwrap()
        .plan_compaction(&POLICY, 200_000_000)
        .unwrap();
    assert_eq!(seqs(dir.path()).len(), 201, "a plan removes nothing");
    let done = compact(&log, 200);
    assert_eq!((plan.removed, plan.gaps), (done.removed, done.gaps));
    let left = seqs(dir.path());
    assert_eq!(left.len() as u64, 202 - done.removed);
    for seq in 0..=200u64 {
        let kept = seq % 10 == 0 || seq > 195 || if seq % 4 == 0 { seq >= 100 } else { seq >= 190 };
        assert_eq!(left.contains(&seq), kept, "{seq}");
    }
    let after = verify(dir.path()).unwrap();
    assert_eq!(after.removed, done.removed);
    assert_eq!(after.ops + after.removed, before.ops + 1);
    // Nothing more to do, and a later one makes gaps grow.
    assert_eq!(compact(&log, 200).removed, 0);
    fill(&log, 202, 400);
    assert!(compact(&log, 400).removed > 0);
    let again = verify(dir.path()).unwrap();
    assert!(again.gaps < after.gaps + 30);
    log.close();
    assert_eq!(*open(dir.path()).opened(), Default::default());
}

#[test]
fn the_file_gets_smaller() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 1, 5000);
    log.close();
    let bytes = || std::fs::metadata(dir.path().join("log.db")).unwrap().len();
    let before = bytes();
    let log = open(dir.path());
    compact(&log, 5000);
    log.close();
    assert!(bytes() < before / 2, "{} of {before}", bytes());
    verify(dir.path()).unwrap();
}

#[test]
fn more_gaps_than_a_record_holds_are_told_by_several() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let pending: Vec<_> = (0..9000)
        .map(|at| {
            let class = if at % 2 == 0 { Class::Kept } else { Class::Hot };
            log.submit(note("x").class(class).at(at)).unwrap()
        })
        .collect();
    for one in pending {
        one.wait().unwrap();
    }
    let done = compact(&log, 1000);
    assert!(done.gaps > 4000 && done.records.len() > 2, "{done:?}");
    assert_eq!(verify(dir.path()).unwrap().gaps, done.gaps);
}

#[test]
fn appending_goes_on_while_a_log_is_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 1, 3000);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..100 {
                log.append(note("more")).unwrap();
            }
        });
        assert!(compact(&log, 3000).removed > 0);
        writer.join().unwrap();
    });
    verify(dir.path()).unwrap();
}

#[test]
fn what_no_record_tells_of_is_a_gap_and_a_record_that_lies_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 1, 200);
    compact(&log, 200);
    log.close();
    let lie = |sql: &str| {
        let other = tempfile::tempdir().unwrap();
        copy(dir.path(), other.path());
        let db = Connection::open(other.path().join("log.db")).unwrap();
        assert!(db.execute(sql, []).unwrap() > 0, "{sql}");
        fault(other.path())
    };
    // A gap that grew on either side, or is new.
    assert_eq!(
        lie("DELETE FROM ops WHERE seq = 10"),
        Fault::Gap { from: 1, to: 19 }
    );
    assert_eq!(
        lie("DELETE FROM ops WHERE seq = 196"),
        Fault::Gap { from: 196, to: 196 }
    );
    // Without its record, with an altered one, and with other ops around it.
    assert_eq!(
        lie("DELETE FROM ops WHERE kind = 'log.compaction'"),
        Fault::Gap { from: 1, to: 9 }
    );
    let altered = "UPDATE ops SET payload = CAST(replace(payload, x'01', x'02') AS BLOB) \
                   WHERE kind = 'log.compaction'";
    assert!(matches!(
        lie(altered),
        Fault::Gap { .. } | Fault::PayloadHash { .. } | Fault::Compaction { .. }
    ));
    let other = lie("UPDATE ops SET prev = zeroblob(32) WHERE seq = 10");
    assert!(
        matches!(other, Fault::Compaction { from: 1, to: 9, .. }),
        "{other}"
    );
}

#[test]
fn a_log_whose_chain_does_not_hold_is_not_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 1, 100);
    let db = Connection::open(dir.path().join("log.db")).unwrap();
    db.execute("UPDATE ops SET time = time + 1 WHERE seq = 7", [])
        .unwrap();
    let refused = log.compact(&POLICY, 100_000_000).unwrap_err();
    assert!(
        matches!(refused.as_fault(), Some(Fault::Predecessor { seq: 8, .. })),
        "{refused}"
    );
    db.execute("DELETE FROM ops WHERE seq = 7", []).unwrap();
    let refused = log.compact(&POLICY, 100_000_000).unwrap_err();
    assert_eq!(refused.as_fault(), Some(&Fault::Gap { from: 7, to: 7 }));
    assert_eq!(seqs(dir.path()).len(), 100);
}

#[test]
fn two_compactions_at_once_do_not_step_on_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    fill(&first, 1, 2000);
    let second = OpLog::open(dir.path(), key(1), Options::default()).unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| compact(&second, 2000).removed);
        let removed = compact(&first, 2000).removed + other.join().unwrap();
        assert_eq!(removed, verify(dir.path()).unwrap().removed);
    });
}
