//! What the op-log costs, beside SQLite without signatures, and signatures without SQLite.

use std::fs::{self, File};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params_from_iter};
use vox_crypto::{Domain, Signed, SigningKey, canonical, verify_all};
use vox_oplog::{Class, NewOp, OpLog, Options, Query, Reader, VerifyOptions};

use crate::measure::{median, resident};
use crate::report::Row;

/// Ops that are appended in a round.
const OPS: u64 = 100_000;
const ROUNDS: usize = 3;
/// Ops of a large log.
const MILLION: u64 = 1_000_000;
/// Signatures that are verified at once, by the peer as by the log.
const BATCH: usize = 1024;

fn key() -> SigningKey {
    SigningKey::from_secret(&[7; 32])
}

/// An op as a run makes them: a step ended.
fn op(number: u64) -> anyhow::Result<NewOp> {
    let said = serde_json::json!({ "attempt": 1, "exit": 0, "milliseconds": number % 5000, "state": "succeeded" });
    let op = NewOp::new("run.step.ended", canonical::encode(&said)?)?.class(Class::Hot);
    Ok(op
        .run("0199a7c2-6f3e-7d41-9b7e-3f2f5c1d8a10")
        .step(format!("step-{}", number % 100)))
}

fn filled(directory: &Path, ops: u64) -> anyhow::Result<f64> {
    let ready = (0..ops.min(OPS))
        .map(op)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let log = OpLog::open(directory, key(), Options::default())?;
    let start = Instant::now();
    let mut last = None;
    for number in 0..ops {
        last = Some(log.submit(ready[(number % OPS) as usize].clone())?);
    }
    // Ops are durable in their order.
    if let Some(last) = last {
        last.wait()?;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds in which SQLite alone takes the same rows, with the same schema, settings and transactions.
fn bare(log: &Path, directory: &Path) -> anyhow::Result<f64> {
    let source = Connection::open(log.join("log.db"))?;
    let target = Connection::open(directory.join("bare.db"))?;
    target.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
    let mut schema = source.prepare(
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%'",
    )?;
    for sql in schema.query_map([], |row| row.get::<_, String>(0))? {
        target.execute_batch(&sql?)?;
    }
    let mut rows = source.prepare("SELECT * FROM ops ORDER BY seq")?;
    let columns = rows.column_count();
    let rows = rows
        .query_map([], |row| {
            (0..columns)
                .map(|column| row.get(column))
                .collect::<Result<Vec<rusqlite::types::Value>, _>>()
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let places = vec!["?"; columns].join(", ");
    let start = Instant::now();
    let mut insert = target.prepare(&format!("INSERT INTO ops VALUES ({places})"))?;
    for batch in rows.chunks(Options::default().batch_ops) {
        target.execute_batch("BEGIN IMMEDIATE")?;
        for row in batch {
            insert.execute(params_from_iter(row))?;
        }
        target.execute_batch("COMMIT")?;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// `oplog.append`: signed ops a second with group commit, beside SQLite inserting the same rows unsigned.
pub fn append(name: &'static str) -> anyhow::Result<Row> {
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let place = crate::fixture::on_disk()?;
        let log = place.path().join("log");
        ours.push(filled(&log, OPS)?);
        peers.push(bare(&log, place.path())?);
    }
    let (value, peer) = (OPS as f64 / median(ours), OPS as f64 / median(peers));
    let ratio = value / peer;
    Ok(Row {
        name,
        value,
        unit: "ops/s",
        peer,
        peer_name: "SQLite, the same rows unsigned",
        ratio,
        goal: "at least 0.5, and 20,000 ops/s",
        met: ratio >= 0.5 && value >= 20_000.0,
        detail: None,
    })
}

/// `oplog.durable-step`: one op appended, flushed to the disk and answered, beside one flushed write.
pub fn durable_step(name: &'static str) -> anyhow::Result<Row> {
    const STEPS: u64 = 300;
    let place = crate::fixture::on_disk()?;
    let log = OpLog::open(place.path().join("log"), key(), Options::default())?;
    let mut file = File::create(place.path().join("file"))?;
    file.write_all(&vec![0; 4096 * STEPS as usize])?;
    file.sync_all()?;
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for number in 0..STEPS {
        let op = op(number)?;
        let start = Instant::now();
        log.append(op)?;
        ours.push(start.elapsed().as_secs_f64() * 1e6);
        let start = Instant::now();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(number * 4096))?;
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        peers.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let (value, peer) = (median(ours), median(peers));
    let per_second = 1e6 / value;
    Ok(Row {
        name,
        value,
        unit: "us",
        peer,
        peer_name: "4 KiB written over and flushed",
        ratio: value / peer,
        goal: "reported",
        met: true,
        detail: Some(format!(
            "{per_second:.0} durable steps a second; Duroxide reports about 100"
        )),
    })
}

/// A log of a million ops, made once and kept for the benches that need one.
fn large() -> anyhow::Result<std::path::PathBuf> {
    let place = crate::fixture::kept("oplog-1m")?;
    let log = place.join("log");
    let whole = Reader::open(&log)
        .ok()
        .and_then(|reader| reader.head().ok().flatten());
    if whole.is_none_or(|(last, _)| last != MILLION) {
        let _ = fs::remove_dir_all(&log);
        eprintln!("making a log of {MILLION} ops");
        filled(&log, MILLION)?;
    }
    Ok(log)
}

/// `oplog.verify`: a million ops, beside the signature crate alone on as many threads.
pub fn verify(name: &'static str) -> anyhow::Result<Row> {
    let log = large()?;
    let reader = Reader::open(&log)?;
    let threads = thread::available_parallelism()?;
    let signed = reader
        .ops(Query {
            limit: Some(200_000),
            ..Query::default()
        })
        .map(|op| op.map(|op| (op.hash(), op.signature, op.author)))
        .collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    thread::scope(|scope| {
        for part in signed.chunks(signed.len().div_ceil(threads.get())) {
            scope.spawn(move || {
                for batch in part.chunks(BATCH) {
                    let batch: Vec<_> = batch
                        .iter()
                        .map(|(hash, signature, key)| Signed {
                            message: &hash.0,
                            key,
                            signature,
                        })
                        .collect();
                    assert!(
                        verify_all(Domain::Op, &batch).is_ok(),
                        "what the log signed verifies"
                    );
                }
            });
        }
    });
    let peer = signed.len() as f64 / start.elapsed().as_secs_f64();
    drop(signed);
    let before = resident()?;
    let mut most = before;
    let start = Instant::now();
    let summary = reader.verify(&VerifyOptions::default(), &mut |_| {
        most = most.max(resident().unwrap_or(0));
        ControlFlow::Continue(())
    })?;
    let value = summary.ops as f64 / start.elapsed().as_secs_f64();
    let ratio = value / peer;
    Ok(Row {
        name,
        value,
        unit: "ops/s",
        peer,
        peer_name: "ed25519-dalek in batches, signatures alone",
        ratio,
        goal: "at least 0.7",
        met: ratio >= 0.7,
        detail: Some(format!(
            "{} ops on {threads} threads, with {} MiB of memory beside what was there",
            summary.ops,
            (most - before) >> 20
        )),
    })
}

/// `oplog.open1m`: opening a log of a million ops, beside SQLite opening it and finding the last row.
pub fn open1m(name: &'static str) -> anyhow::Result<Row> {
    let log = large()?;
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..21 {
        let start = Instant::now();
        let open = OpLog::open(&log, key(), Options::default())?;
        ours.push(start.elapsed().as_secs_f64() * 1e3);
        drop(open);
        let start = Instant::now();
        let bare = Connection::open(log.join("log.db"))?;
        let last: i64 = bare.query_row("SELECT max(seq) FROM ops", [], |row| row.get(0))?;
        peers.push(start.elapsed().as_secs_f64() * 1e3);
        anyhow::ensure!(last == MILLION as i64, "the log has another length");
    }
    let most = ours.iter().copied().fold(0.0, f64::max);
    let (value, peer) = (median(ours), median(peers));
    let limit = Duration::from_millis(50).as_secs_f64() * 1e3;
    Ok(Row {
        name,
        value,
        unit: "ms",
        peer,
        peer_name: "SQLite, opening and the last row",
        ratio: value / peer,
        goal: "under 50 ms",
        met: value < limit,
        detail: Some(format!("the slowest of 21 took {most:.1} ms")),
    })
}
