//! What is appended is there, in order, signed, durable, and seen by those who wait for it.

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::{key, log_of, note, open, verify};
use vox_crypto::{Domain, canonical};
use vox_oplog::{
    Class, Error, Head, Kind, NewOp, OpLog, Options, Query, Reader, Repair, VerifyOptions,
};

#[test]
fn what_was_appended_reads_back_and_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    assert!(log.opened().created);
    let op = note("one").class(Class::Kept).run("r").step("s").at(77);
    let receipt = log.append(op.clone()).unwrap();
    let reader = log.reader().unwrap();
    let read = reader.get(1).unwrap().unwrap();
    assert_eq!((read.seq, read.hash()), (receipt.seq, receipt.hash));
    assert_eq!(
        (read.kind.as_str(), read.class, read.time),
        ("test.note", Class::Kept, 77)
    );
    assert_eq!((read.run, read.step), (op.run, op.step));
    assert_eq!(read.payload, op.payload);
    assert_eq!(read.prev, reader.get(0).unwrap().unwrap().hash());
    let signed = key(1)
        .public()
        .verify(Domain::Op, &receipt.hash.0, &read.signature);
    signed.unwrap();
    assert_eq!(Head::read(dir.path()).unwrap().unwrap().hash, receipt.hash);
    let summary = verify(dir.path()).unwrap();
    assert_eq!((summary.ops, summary.head), (2, Some((1, receipt.hash))));
    assert_eq!(summary.head_behind, Some(0));
}

#[test]
fn a_closed_log_opens_again_without_repairs() {
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), 500);
    let log = open(dir.path());
    assert_eq!(*log.opened(), Default::default());
    assert_eq!(log.append(note("next")).unwrap().seq, 501);
    assert_eq!(verify(dir.path()).unwrap().ops, 502);
}

#[test]
fn an_acknowledged_op_is_as_durable_as_the_settings_say() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let settings = log.durability();
    assert_eq!(settings.journal, "wal");
    // 2 is FULL: an fsync of the WAL in every commit.
    assert_eq!(settings.synchronous, 2);
    assert!(settings.fullfsync);
}

#[test]
fn ops_of_many_threads_are_all_there_and_each_thread_keeps_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(open(dir.path()));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let log = log.clone();
            thread::spawn(move || {
                let pending: Vec<_> = (0..300)
                    .map(|at| {
                        log.submit(note(&format!("{at}")).run(format!("t{thread}")))
                            .unwrap()
                    })
                    .collect();
                pending
                    .into_iter()
                    .map(|p| p.wait().unwrap().seq)
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let mut all = Vec::new();
    for thread in threads {
        let seqs = thread.join().unwrap();
        assert!(seqs.is_sorted());
        all.extend(seqs);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=1200).collect::<Vec<_>>());
    assert_eq!(verify(dir.path()).unwrap().ops, 1201);
}

#[test]
fn two_handles_on_one_log_interleave_and_the_chain_holds() {
    let dir = tempfile::tempdir().unwrap();
    let first = Arc::new(open(dir.path()));
    first.add_author(key(2).public()).unwrap();
    let second = OpLog::open(dir.path(), key(2), Options::default()).unwrap();
    let writer = thread::spawn({
        let first = first.clone();
        move || {
            (0..200).for_each(|at| {
                first.append(note(&format!("a{at}"))).unwrap();
            })
        }
    });
    let pending: Vec<_> = (0..200)
        .map(|at| second.submit(note(&format!("b{at}"))).unwrap())
        .collect();
    for one in pending {
        one.wait().unwrap();
    }
    writer.join().unwrap();
    let summary = verify(dir.path()).unwrap();
    assert_eq!((summary.ops, summary.authors.len()), (402, 2));
}

#[test]
fn a_key_that_was_not_added_may_not_write() {
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), 1);
    let refused = OpLog::open(dir.path(), key(9), Options::default());
    assert!(matches!(refused, Err(Error::NotAnAuthor { .. })));
}

#[test]
fn what_cannot_be_an_op_is_refused_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        max_payload: 64,
        ..Options::default()
    };
    let log = OpLog::open(dir.path(), key(1), options).unwrap();
    let refused = |op: NewOp| log.append(op).unwrap_err();
    let payload = |bytes: &[u8]| NewOp::new("a.b", bytes.to_vec()).unwrap();
    assert!(matches!(
        refused(payload(b"\x18\x01")),
        Error::Payload { .. }
    ));
    assert!(matches!(refused(payload(b"")), Error::Payload { .. }));
    assert!(matches!(
        refused(payload(&[0x81; 60])),
        Error::Payload { .. }
    ));
    assert!(matches!(
        refused(payload(&[0; 65])),
        Error::TooLarge { len: 65, limit: 64 }
    ));
    assert!(matches!(
        refused(note("x").run("")),
        Error::Invalid { what: "run", .. }
    ));
    let long = "x".repeat(257);
    assert!(matches!(
        refused(note("x").step(long)),
        Error::Invalid { what: "step", .. }
    ));
    assert!(matches!(
        refused(note("x").run("a\nb")),
        Error::Invalid { .. }
    ));
    let own = NewOp::new(Kind::AUTHOR, b"\x01".to_vec()).unwrap();
    assert!(matches!(refused(own), Error::Reserved { .. }));
    assert_eq!(log.append(note("good")).unwrap().seq, 1);
}

#[test]
fn a_payload_nested_deeper_than_any_stack_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let mut deep = vec![0x81; 8 << 20];
    deep.push(1);
    let refused = log.append(NewOp::new("a.b", deep).unwrap());
    assert!(matches!(refused, Err(Error::Payload { .. })));
}

#[test]
fn a_query_selects_by_kind_run_step_time_and_author() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let payload = || canonical::encode(&1).unwrap();
    for (at, kind) in ["a.b", "a.b.c", "a.bc", "d"]
        .into_iter()
        .cycle()
        .take(1200)
        .enumerate()
    {
        let op = NewOp::new(kind, payload()).unwrap().at(at as i64);
        drop(
            log.submit(op.run(format!("r{}", at % 2)).step(format!("s{}", at % 3)))
                .unwrap(),
        );
    }
    let last = log
        .append(NewOp::new("end", payload()).unwrap().at(5000))
        .unwrap();
    let reader = log.reader().unwrap();
    let count = |query: Query| reader.ops(query).map(Result::unwrap).count();
    let kinds = |texts: &[&str]| Query {
        kinds: texts.iter().map(|text| text.parse().unwrap()).collect(),
        ..Query::default()
    };
    assert_eq!(count(Query::default()), 1202);
    assert_eq!(count(kinds(&["a.b"])), 300);
    assert_eq!(count(kinds(&["a.b.*"])), 300);
    assert_eq!(count(kinds(&["a.*"])), 900);
    assert_eq!(count(kinds(&["a.b", "d", "end"])), 601);
    assert_eq!(
        count(Query {
            run: Some("r1".into()),
            ..kinds(&["a.*"])
        }),
        300
    );
    assert_eq!(
        count(Query {
            run: Some("r1".into()),
            ..Query::default()
        }),
        600
    );
    assert_eq!(
        count(Query {
            step: Some("s1".into()),
            ..Query::default()
        }),
        400
    );
    let span = Query {
        since: Some(100),
        until: Some(110),
        ..Query::default()
    };
    assert_eq!(count(span), 10);
    let author = |number| Query {
        author: Some(key(number).public()),
        ..Query::default()
    };
    assert_eq!((count(author(1)), count(author(2))), (1202, 0));
    assert_eq!(
        count(Query {
            to: Some(9),
            ..Query::from(5)
        }),
        5
    );
    assert_eq!(
        count(Query {
            limit: Some(300),
            ..Query::default()
        }),
        300
    );
    let latest: Vec<_> = reader
        .ops(Query::latest(3))
        .map(|op| op.unwrap().seq)
        .collect();
    assert_eq!(latest, [last.seq, last.seq - 1, last.seq - 2]);
    let all = Query {
        descending: true,
        ..Query::default()
    };
    let all: Vec<_> = reader.ops(all).map(|op| op.unwrap().seq).collect();
    assert_eq!(all, (0..=last.seq).rev().collect::<Vec<_>>());
    let stats = reader.stats().unwrap();
    assert_eq!((stats.ops, stats.kinds.len()), (1202, 6));
}

#[test]
fn a_subscription_sees_every_op_once_and_in_order_while_they_come() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.append(note("before")).unwrap();
    let subscription = log.subscribe(0).unwrap();
    let seen = thread::spawn(move || subscription.map(|op| op.unwrap().seq).collect::<Vec<_>>());
    for at in 0..700 {
        drop(log.submit(note(&format!("{at}"))).unwrap());
    }
    log.close();
    assert_eq!(seen.join().unwrap(), (0..=701).collect::<Vec<_>>());
}

#[test]
fn a_subscription_that_waits_ends_when_it_is_called_off() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let mut subscription = Reader::open(dir.path()).unwrap().subscribe(0).unwrap();
    let canceller = subscription.canceller();
    assert_eq!(subscription.next().unwrap().unwrap().seq, 0);
    let waits = thread::spawn(move || subscription.next().is_none());
    canceller.cancel();
    assert!(waits.join().unwrap());
    drop(log);
}

#[test]
fn waiting_for_an_op_ends_when_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let reader = log.reader().unwrap();
    assert!(!reader.wait_for(1, Duration::ZERO).unwrap());
    let waits = thread::spawn(move || reader.wait_for(1, Duration::from_secs(60)).unwrap());
    log.append(note("it")).unwrap();
    assert!(waits.join().unwrap());
}

#[test]
fn a_reader_does_not_keep_a_writer_waiting() {
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), 3000);
    let options = Options {
        busy: Duration::ZERO,
        ..Options::default()
    };
    let log = OpLog::open(dir.path(), key(1), options).unwrap();
    let reader = log.reader().unwrap();
    let mut appended = 0;
    let summary = reader
        .verify(&VerifyOptions::default(), &mut |_| {
            log.append(note("meanwhile")).unwrap();
            appended += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(appended > 0);
    assert_eq!(summary.ops, 3001);
}

#[test]
fn a_head_file_that_lags_is_brought_up_and_said() {
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), 3);
    let old = std::fs::read(dir.path().join("head")).unwrap();
    open(dir.path()).append(note("more")).unwrap();
    std::fs::write(dir.path().join("head"), old).unwrap();
    assert_eq!(verify(dir.path()).unwrap().head_behind, Some(1));
    let log = open(dir.path());
    assert_eq!(log.opened().repairs, [Repair::HeadBehind { ops: 1 }]);
    assert_eq!(verify(dir.path()).unwrap().head_behind, Some(0));
}

#[test]
fn a_head_file_that_is_gone_is_said() {
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), 3);
    std::fs::remove_file(dir.path().join("head")).unwrap();
    assert_eq!(common::fault(dir.path()), vox_oplog::Fault::NoHead);
    assert_eq!(open(dir.path()).opened().repairs, [Repair::HeadMissing]);
    verify(dir.path()).unwrap();
}

#[test]
fn what_is_no_log_or_a_newer_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Reader::open(dir.path().join("none"));
    assert!(matches!(missing, Err(Error::Missing { .. })));
    log_of(dir.path(), 3);
    let db = rusqlite::Connection::open(dir.path().join("log.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    let refused = OpLog::open(dir.path(), key(1), Options::default());
    assert!(matches!(
        refused,
        Err(Error::Newer {
            found: 99,
            known: 1,
            ..
        })
    ));
    db.pragma_update(None, "application_id", 5).unwrap();
    assert!(matches!(
        Reader::open(dir.path()),
        Err(Error::NotALog { .. })
    ));
    drop(db);
    std::fs::write(
        dir.path().join("log.db"),
        "not a database at all ".repeat(100),
    )
    .unwrap();
    assert!(matches!(
        Reader::open(dir.path()),
        Err(Error::NotALog { .. })
    ));
    let refused = OpLog::open(dir.path(), key(1), Options::default());
    assert!(matches!(refused, Err(Error::NotALog { .. })));
}

#[test]
fn a_lock_that_is_held_too_long_is_told_with_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        busy: Duration::from_millis(20),
        ..Options::default()
    };
    let log = OpLog::open(dir.path(), key(1), options).unwrap();
    let other = rusqlite::Connection::open(dir.path().join("log.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = log.append(note("x")).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    if cfg!(target_os = "linux") {
        let pid = format!("process {} ", std::process::id());
        assert!(error.to_string().contains(&pid), "{error}");
    }
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(log.append(note("y")).unwrap().seq, 1);
    verify(dir.path()).unwrap();
}

#[test]
fn every_op_of_a_commit_that_fails_gets_the_error_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let other = rusqlite::Connection::open(dir.path().join("log.db")).unwrap();
    let trigger = "CREATE TRIGGER t BEFORE INSERT ON ops WHEN new.kind = 'test.bad' BEGIN \
                   SELECT raise(ABORT, 'no'); END";
    other.execute_batch(trigger).unwrap();
    let bad = || NewOp::new("test.bad", vec![1]).unwrap();
    let pending: Vec<_> = (0..50).map(|_| log.submit(bad()).unwrap()).collect();
    for one in pending {
        assert!(matches!(one.wait(), Err(Error::Sqlite { .. })));
    }
    other.execute_batch("DROP TRIGGER t").unwrap();
    assert_eq!(log.append(note("good")).unwrap().seq, 1);
    verify(dir.path()).unwrap();
}
