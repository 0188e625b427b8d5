//! Lies about a log, each of which verification finds and names.

mod common;

use std::path::Path;

use common::{copy, fault, key, log_of, note, open, verify};
use rusqlite::Connection;
use rusqlite::types::Value;
use vox_crypto::{Domain, SigningKey, sha3_256};
use vox_oplog::{Error, Fault, Hash, Op, OpLog, Options, Reader, VerifyOptions};

const LAST: u64 = 40;

fn database(dir: &Path) -> Connection {
    let db = Connection::open(dir.join("log.db")).unwrap();
    db.pragma_update(None, "synchronous", "OFF").unwrap();
    db
}

/// A sound log, and the database of it.
fn sound() -> (tempfile::TempDir, Connection) {
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), LAST);
    verify(dir.path()).unwrap();
    let db = database(dir.path());
    (dir, db)
}

/// Writes an op over the one of its number, signed by `key`, who is entered as an author.
fn replace(db: &Connection, key: &SigningKey, op: &Op) {
    let op = Op {
        author: key.public(),
        ..op.clone()
    };
    let signature = key.sign(Domain::Op, &op.hash().0);
    let public = key.public();
    db.execute(
        "INSERT OR IGNORE INTO authors (key) VALUES (?1)",
        [public.as_bytes()],
    )
    .unwrap();
    db.execute(
        "UPDATE ops SET time = ?2, prev = ?3, payload = ?4, payload_hash = ?5, signature = ?6, \
         author = (SELECT id FROM authors WHERE key = ?7) WHERE seq = ?1",
        rusqlite::params![
            op.seq as i64,
            op.time,
            op.prev.0,
            op.payload,
            op.payload_hash.0,
            signature.as_bytes(),
            public.as_bytes(),
        ],
    )
    .unwrap();
}

fn op(dir: &Path, seq: u64) -> Op {
    Reader::open(dir).unwrap().get(seq).unwrap().unwrap()
}

#[test]
fn a_flipped_bit_in_any_column_is_found() {
    let columns = [
        "seq",
        "time",
        "class",
        "author",
        "prev",
        "payload_hash",
        "signature",
        "kind",
        "run",
        "step",
        "payload",
    ];
    let (dir, db) = sound();
    let found: Vec<String> = db
        .prepare("SELECT name FROM pragma_table_info('ops')")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(found, columns);
    for column in columns {
        for seq in [0, 1, LAST / 2, LAST] {
            let sql = format!("SELECT {column} FROM ops WHERE seq = {seq}");
            let value: Value = db.query_row(&sql, [], |row| row.get(0)).unwrap();
            let flips: Vec<Value> = match &value {
                // The first bits of a number of an op make it that of another.
                Value::Integer(number) => {
                    let first = if column == "seq" { 7 } else { 0 };
                    (first..64)
                        .step_by(3)
                        .map(|bit| Value::Integer(number ^ (1 << bit)))
                        .collect()
                }
                Value::Blob(bytes) => (0..bytes.len() * 8)
                    .step_by(29)
                    .map(|bit| {
                        let mut bytes = bytes.clone();
                        bytes[bit / 8] ^= 1 << (bit % 8);
                        Value::Blob(bytes)
                    })
                    .collect(),
                Value::Text(text) => (0..text.len() * 8)
                    .filter_map(|bit| {
                        let mut bytes = text.clone().into_bytes();
                        bytes[bit / 8] ^= 1 << (bit % 8);
                        String::from_utf8(bytes).ok().map(Value::Text)
                    })
                    .collect(),
                // The genesis belongs to no run.
                _ => vec![Value::Text("x".into())],
            };
            assert!(!flips.is_empty());
            for flip in flips {
                let set = |from: &Value, to: &Value| {
                    let key = if column == "seq" {
                        from
                    } else {
                        &Value::Integer(seq as i64)
                    };
                    let sql = format!("UPDATE ops SET {column} = ?1 WHERE seq = ?2");
                    assert_eq!(db.execute(&sql, rusqlite::params![to, key]).unwrap(), 1);
                };
                set(&value, &flip);
                let fault = fault(dir.path());
                let where_ = format!("{column} of op {seq}: {flip:?}: {fault}");
                match column {
                    // What is missing is told, or what stands where nothing should.
                    "seq" => assert!(
                        matches!(
                            fault,
                            Fault::Gap { .. } | Fault::Unreadable { .. } | Fault::RolledBack { .. }
                        ),
                        "{where_}"
                    ),
                    _ => assert_eq!(fault.seq(), Some(seq), "{where_}"),
                }
                set(&flip, &value);
            }
        }
    }
    verify(dir.path()).unwrap();
}

#[test]
fn a_flipped_bit_in_the_key_of_an_author_is_found() {
    let (dir, db) = sound();
    for byte in 0..32 {
        let mut bytes = *key(1).public().as_bytes();
        bytes[byte] ^= 1;
        db.execute("UPDATE authors SET key = ?1", [bytes]).unwrap();
        assert_eq!(fault(dir.path()).seq(), Some(0));
    }
}

#[test]
fn a_removed_op_is_found_wherever_it_was() {
    for seq in [0, 1, LAST / 2, LAST - 1] {
        let (dir, db) = sound();
        db.execute("DELETE FROM ops WHERE seq = ?1", [seq as i64])
            .unwrap();
        assert_eq!(fault(dir.path()), Fault::Gap { from: seq, to: seq });
    }
    let (dir, db) = sound();
    db.execute("DELETE FROM ops WHERE seq = ?1", [LAST as i64])
        .unwrap();
    let cut = Fault::RolledBack {
        head: LAST,
        last: Some(LAST - 1),
    };
    assert_eq!(fault(dir.path()), cut);
    let opened = OpLog::open(dir.path(), key(1), Options::default());
    assert_eq!(opened.unwrap_err().as_fault(), Some(&cut));
    db.execute("DELETE FROM ops", []).unwrap();
    assert_eq!(
        fault(dir.path()),
        Fault::RolledBack {
            head: LAST,
            last: None
        }
    );
}

#[test]
fn two_swapped_ops_are_found_also_when_they_are_renumbered() {
    let (dir, db) = sound();
    db.execute_batch(
        "UPDATE ops SET seq = 1000 WHERE seq = 7; UPDATE ops SET seq = 7 WHERE seq = 8;
         UPDATE ops SET seq = 8 WHERE seq = 1000;",
    )
    .unwrap();
    assert!(matches!(
        fault(dir.path()),
        Fault::Predecessor { seq: 7, .. }
    ));
    // With the predecessors put right, the signatures are wrong.
    let (six, seven) = (op(dir.path(), 6).hash(), op(dir.path(), 7));
    db.execute("UPDATE ops SET prev = ?1 WHERE seq = 7", [six.0])
        .unwrap();
    let seven = Op { prev: six, ..seven };
    db.execute("UPDATE ops SET prev = ?1 WHERE seq = 8", [seven.hash().0])
        .unwrap();
    assert!(matches!(fault(dir.path()), Fault::Signature { seq: 7, .. }));
}

#[test]
fn an_op_that_another_key_signed_is_found_wherever_it_is() {
    for seq in [1, LAST / 2, LAST] {
        let (dir, db) = sound();
        replace(&db, &key(66), &op(dir.path(), seq));
        let author = Box::new(key(66).public());
        assert_eq!(fault(dir.path()), Fault::Author { seq, author });
    }
    // A genesis may have any author, but its successor names another one.
    let (dir, db) = sound();
    replace(&db, &key(66), &op(dir.path(), 0));
    assert!(matches!(
        fault(dir.path()),
        Fault::Predecessor { seq: 1, .. }
    ));
}

#[test]
fn an_op_that_its_author_rewrote_is_found() {
    for seq in [1, LAST / 2] {
        let (dir, db) = sound();
        let op = op(dir.path(), seq);
        replace(
            &db,
            &key(1),
            &Op {
                time: op.time + 1,
                ..op
            },
        );
        assert!(matches!(fault(dir.path()), Fault::Predecessor { seq: s, .. } if s == seq + 1));
    }
    let (dir, db) = sound();
    let op = op(dir.path(), LAST);
    replace(
        &db,
        &key(1),
        &Op {
            time: op.time + 1,
            ..op
        },
    );
    assert!(matches!(
        fault(dir.path()),
        Fault::HeadDiffers { seq: LAST, .. }
    ));
}

#[test]
fn a_payload_that_is_not_canonical_is_found_also_when_it_is_signed() {
    let (dir, db) = sound();
    let payload = b"\x18\x01".to_vec();
    let payload_hash = Hash(sha3_256(&payload));
    let bad = Op {
        payload,
        payload_hash,
        ..op(dir.path(), LAST)
    };
    replace(&db, &key(1), &bad);
    assert!(matches!(
        fault(dir.path()),
        Fault::Payload { seq: LAST, .. }
    ));
}

#[test]
fn a_database_that_was_put_back_is_found() {
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), 10);
    let old = tempfile::tempdir().unwrap();
    copy(dir.path(), old.path());
    let log = open(dir.path());
    log.append(note("later")).unwrap();
    log.close();
    std::fs::copy(old.path().join("log.db"), dir.path().join("log.db")).unwrap();
    let rolled_back = Fault::RolledBack {
        head: 11,
        last: Some(10),
    };
    assert_eq!(fault(dir.path()), rolled_back);
    let opened = OpLog::open(dir.path(), key(1), Options::default());
    assert_eq!(opened.unwrap_err().as_fault(), Some(&rolled_back));
}

#[test]
fn a_database_that_was_put_back_and_written_further_is_found() {
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), 10);
    let old = tempfile::tempdir().unwrap();
    copy(dir.path(), old.path());
    let append = |dir: &Path, text: &str| open(dir).append(note(text)).unwrap();
    append(dir.path(), "what happened");
    for text in ["what is to have happened", "and more"] {
        append(old.path(), text);
    }
    std::fs::copy(old.path().join("log.db"), dir.path().join("log.db")).unwrap();
    assert!(matches!(
        fault(dir.path()),
        Fault::HeadDiffers { seq: 11, .. }
    ));
    let opened = OpLog::open(dir.path(), key(1), Options::default()).unwrap_err();
    assert!(matches!(opened.as_fault(), Some(Fault::HeadDiffers { .. })));
}

#[test]
fn another_log_in_its_place_is_found() {
    let (dir, db) = sound();
    drop(db);
    let other = tempfile::tempdir().unwrap();
    log_of(other.path(), LAST + 5);
    std::fs::copy(other.path().join("log.db"), dir.path().join("log.db")).unwrap();
    assert!(matches!(fault(dir.path()), Fault::OtherLog { .. }));
    let opened = OpLog::open(dir.path(), key(1), Options::default()).unwrap_err();
    assert!(matches!(opened.as_fault(), Some(Fault::OtherLog { .. })));
    // With its head file beside it, it is found by whoever knows which log it has to be.
    std::fs::copy(other.path().join("head"), dir.path().join("head")).unwrap();
    verify(dir.path()).unwrap();
    let options = VerifyOptions {
        author: Some(key(2).public()),
        ..VerifyOptions::default()
    };
    let reader = Reader::open(dir.path()).unwrap();
    let result = reader.verify(&options, &mut |_| std::ops::ControlFlow::Continue(()));
    assert!(matches!(
        result.unwrap_err().as_fault(),
        Some(Fault::Author { seq: 0, .. })
    ));
}

#[test]
fn a_flipped_bit_in_the_head_file_is_found() {
    let (dir, _db) = sound();
    let path = dir.path().join("head");
    let head = std::fs::read(&path).unwrap();
    for at in 0..head.len() {
        let mut bytes = head.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(fault(dir.path()), Fault::Head { .. }), "byte {at}");
    }
    std::fs::write(&path, &head[..100]).unwrap();
    assert!(matches!(fault(dir.path()), Fault::Head { .. }));
    assert!(matches!(
        OpLog::open(dir.path(), key(1), Options::default()),
        Err(Error::Fault { .. })
    ));
}

#[test]
fn a_torn_page_is_found() {
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), 400);
    let path = dir.path().join("log.db");
    let whole = std::fs::read(&path).unwrap();
    let pages = whole.len() / 4096;
    for page in 1..pages {
        // The second half of the page never reached the disk.
        let mut torn = whole.clone();
        torn[page * 4096 + 2048..(page + 1) * 4096].fill(0);
        if torn == whole {
            continue;
        }
        std::fs::write(&path, &torn).unwrap();
        assert!(
            matches!(verify(dir.path()), Err(Error::Fault { .. })),
            "page {page}"
        );
    }
    // The last page is missing, or half of it.
    for short in [4096, 2048] {
        std::fs::write(&path, &whole[..whole.len() - short]).unwrap();
        assert!(matches!(verify(dir.path()), Err(Error::Fault { .. })));
    }
}

#[test]
fn any_flipped_bit_in_the_file_is_found_or_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), 60);
    let before: Vec<_> = Reader::open(dir.path())
        .unwrap()
        .ops(Default::default())
        .collect::<Result<_, _>>()
        .unwrap();
    let path = dir.path().join("log.db");
    let whole = std::fs::read(&path).unwrap();
    let mut found = 0;
    for at in (0..whole.len()).step_by(67) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).unwrap();
        if verify(dir.path()).is_err() {
            found += 1;
            continue;
        }
        // Unused space, an index, a number that only SQLite has a use for: the ops are the same.
        let reader = Reader::open(dir.path()).unwrap();
        let after: Result<Vec<_>, _> = reader.ops(Default::default()).collect();
        assert_eq!(after.unwrap(), before, "byte {at}");
    }
    assert!(found > 0);
}

#[test]
fn an_author_that_nobody_let_in_cannot_let_itself_in() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let receipt = log.add_author(key(2).public()).unwrap();
    log.close();
    let db = database(dir.path());
    let stranger = key(66);
    replace(&db, &stranger, &op(dir.path(), receipt.seq));
    let author = Box::new(stranger.public());
    assert_eq!(fault(dir.path()), Fault::Author { seq: 1, author });
}

#[test]
fn an_index_that_says_something_else_than_its_table_is_found() {
    let (dir, db) = sound();
    // The two indexes change places.
    let root = |name: &str| -> i64 {
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        db.query_row(sql, [name], |row| row.get(0)).unwrap()
    };
    let (kind, run) = (root("ops_kind"), root("ops_run"));
    db.pragma_update(None, "writable_schema", true).unwrap();
    let set = "UPDATE sqlite_schema SET rootpage = ?1 WHERE name = ?2";
    db.execute(set, rusqlite::params![run, "ops_kind"]).unwrap();
    db.execute(set, rusqlite::params![kind, "ops_run"]).unwrap();
    assert!(matches!(fault(dir.path()), Fault::Damaged { .. }));
}
