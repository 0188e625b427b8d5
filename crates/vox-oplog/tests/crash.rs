//! Processes that die at any moment, that write at once, and that find no room.
//!
//! `VOX_CRASH_ROUNDS` sets the number of processes that are killed.

#[path = "common/child.rs"]
mod child;
mod common;
#[path = "../../../tests/skipped.rs"]
mod skipped;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use child::{command, in_shell, part, said, say};
use common::{copy, key, log_of, note, open, verify};
use vox_crypto::canonical;
use vox_oplog::{
    Class, Error, Links, NewOp, OpLog, Options, Policy, Projections, Query, Reader, Repair,
    VerifyOptions,
};

/// What the other processes do; in this one nothing.
#[test]
fn child() {
    let Some((part, dir)) = part() else { return };
    match part.as_str() {
        "append" => append(&dir, false),
        "compact" => append(&dir, true),
        "write" => {
            let log = open(&dir);
            for at in 0..150 {
                log.append(note(&format!("{}: {at}", std::process::id())))
                    .unwrap();
            }
        }
        "leave" => {
            open(&dir).append(note("left in the WAL")).unwrap();
            let log = open(&dir);
            log.append(note("left in the WAL")).unwrap();
            std::process::abort();
        }
        "full" => full(&dir),
        "read-only" => {
            let written = OpLog::open(&dir, key(1), Options::default()).map(drop);
            say(&format!("{written:?}"));
            match Reader::open(&dir) {
                Ok(reader) => say(&format!("{}", reader.ops(Default::default()).count())),
                Err(error) => say(&format!("{error:?}")),
            }
        }
        "read-full" => {
            let reader = Reader::open(&dir).unwrap();
            say(&reader.ops(Query::default()).count().to_string());
            say(&format!("{:?}", Projections::open(&dir).map(drop)));
            let mut made = Projections::in_memory(&dir).unwrap();
            say(&made.catch_up(&Links).unwrap().ops.to_string());
        }
        other => panic!("{other}"),
    }
}

/// Appends until it is killed, from several threads, and says what was acknowledged.
fn append(dir: &Path, compacting: bool) {
    let log = open(dir);
    let policy = Policy {
        hot: Duration::ZERO,
        warm: Duration::ZERO,
        keep_last: 3,
    };
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let log = &log;
            scope.spawn(move || {
                for at in 0u64.. {
                    let kept = (at + thread) % 3 == 0;
                    let class = if kept { Class::Kept } else { Class::Hot };
                    let text = "x".repeat((at % 7 * 700) as usize);
                    let pending: Vec<_> = (0..at % 4 + 1)
                        .map(|_| log.submit(note(&text).class(class)).unwrap())
                        .collect();
                    for one in pending {
                        let receipt = one.wait().unwrap();
                        say(&format!("{} {} {kept}", receipt.seq, receipt.hash));
                    }
                }
            });
        }
        if compacting {
            loop {
                log.compact(&policy, i64::MAX).unwrap();
            }
        }
    });
}

/// Numbers that look random and are the same each time (Marsaglia, "Xorshift RNGs", 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn rounds() -> u64 {
    let set = std::env::var("VOX_CRASH_ROUNDS").ok();
    set.map_or(60, |rounds| rounds.parse().unwrap())
}

/// Kills processes of this part, and checks after each what is left.
fn kill(part: &str, seed: u64) {
    let mut random = Random(seed);
    let (mut dir, mut acknowledged) = (tempfile::tempdir().unwrap(), BTreeMap::new());
    let mut repairs = 0;
    for round in 0..rounds() {
        if round % 12 == 0 {
            dir = tempfile::tempdir().unwrap();
            acknowledged.clear();
        }
        let mut child = command(part, dir.path())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = said(&mut child);
        let mut heard = Vec::new();
        let wanted = random.below(60) as usize;
        while heard.len() < wanted {
            heard.push(lines.next().expect("the child ends only when it is killed"));
        }
        for _ in 0..random.below(400_000) {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // A line may be cut; what it acknowledges is then not known to be.
        heard.extend(lines);
        for line in &heard {
            let words: Vec<_> = line.split(' ').collect();
            if let [seq, hash, kept @ ("true" | "false")] = words[..] {
                acknowledged.insert(
                    seq.parse::<u64>().unwrap(),
                    (hash.to_owned(), kept == "true"),
                );
            }
        }
        repairs += check(dir.path(), &acknowledged);
    }
    assert!(repairs > 0, "no process was killed while its log was open");
}

/// Whether everything that was acknowledged is there after the next open, which says what it repaired.
fn check(dir: &Path, acknowledged: &BTreeMap<u64, (String, bool)>) -> u64 {
    let wal = std::fs::metadata(dir.join("log.db-wal")).map_or(0, |metadata| metadata.len());
    let log = open(dir);
    let opened = log.opened().clone();
    let recovered = opened
        .repairs
        .iter()
        .any(|repair| matches!(repair, Repair::Wal { .. }));
    assert!(wal == 0 || recovered || opened.created, "{opened:?}");
    assert!(!opened.repairs.contains(&Repair::HeadMissing), "{opened:?}");
    let reader = log.reader().unwrap();
    for (seq, (hash, kept)) in acknowledged {
        match reader.get(*seq).unwrap() {
            Some(op) => assert_eq!(op.hash().to_string(), *hash),
            None => assert!(!kept, "op {seq} was acknowledged and is not there"),
        }
    }
    let summary = verify(dir).unwrap();
    let (last, _) = summary.head.unwrap();
    assert!(
        acknowledged
            .keys()
            .next_back()
            .is_none_or(|acknowledged| *acknowledged <= last)
    );
    assert_eq!(summary.head_behind, Some(0));
    log.append(note("and it goes on")).unwrap();
    u64::from(recovered)
}

#[test]
fn nothing_acknowledged_is_lost_when_a_writer_is_killed() {
    kill("append", 0x9e37_79b9_7f4a_7c15);
}

#[test]
fn nothing_kept_is_lost_when_a_compaction_is_killed() {
    kill("compact", 0xbf58_476d_1ce4_e5b9);
}

#[test]
fn two_processes_write_one_log_and_the_chain_holds() {
    let dir = tempfile::tempdir().unwrap();
    // Neither finds a log: one makes it, the other waits for that.
    let children: Vec<_> = (0..2)
        .map(|_| command("write", dir.path()).spawn().unwrap())
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(verify(dir.path()).unwrap().ops, 301);
}

#[test]
fn what_another_process_appends_is_seen_after_a_refresh() {
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), 0);
    let mut subscription = Reader::open(dir.path()).unwrap().subscribe(0).unwrap();
    let canceller = subscription.canceller();
    let mut child = command("write", dir.path()).spawn().unwrap();
    std::thread::scope(|scope| {
        let seen = scope.spawn(move || {
            let seqs: Vec<_> = (0..=150)
                .map(|_| subscription.next().unwrap().unwrap().seq)
                .collect();
            assert_eq!(seqs, (0..=150).collect::<Vec<_>>());
        });
        // Stands for whoever watches the head file.
        let reader = Reader::open(dir.path()).unwrap();
        while !seen.is_finished() {
            reader.refresh();
            std::thread::yield_now();
        }
        seen.join().unwrap();
    });
    canceller.cancel();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_copy_of_the_files_taken_while_they_are_written_is_a_sound_part_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    log_of(dir.path(), 10);
    let done = std::sync::atomic::AtomicBool::new(false);
    let mut sound = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let log = open(dir.path());
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let payload = canonical::encode(&"x".repeat(3000)).unwrap();
                let op = NewOp::new("test.bulk", payload).unwrap();
                let all: Vec<_> = (0..20).map(|_| log.submit(op.clone()).unwrap()).collect();
                for one in all {
                    one.wait().unwrap();
                }
            }
        });
        for _ in 0..12 {
            let other = tempfile::tempdir().unwrap();
            for name in ["log.db", "log.db-wal"] {
                let _ = std::fs::copy(dir.path().join(name), other.path().join(name));
            }
            let options = VerifyOptions {
                require_head: false,
                ..VerifyOptions::default()
            };
            let verified = Reader::open(other.path())
                .and_then(|reader| reader.verify(&options, &mut |_| ControlFlow::Continue(())));
            match verified {
                Ok(summary) => sound += u64::from(summary.ops >= 11),
                Err(Error::Fault { .. } | Error::NotALog { .. } | Error::Sqlite { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(sound > 0);
}

#[test]
fn a_copy_with_its_wal_has_the_ops_of_the_wal() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.append(note("in the WAL")).unwrap();
    let other = tempfile::tempdir().unwrap();
    copy(dir.path(), other.path());
    std::fs::remove_file(other.path().join("log.db-shm")).unwrap();
    assert_eq!(verify(other.path()).unwrap().ops, 2);
}

/// Appends until there is no room, says why it failed, makes room, and goes on.
fn full(dir: &Path) {
    let ballast = dir.join("ballast");
    let _ = std::fs::write(&ballast, vec![1; 300_000]);
    let log = open(&dir.join("log"));
    let big = canonical::encode(&"x".repeat(20_000)).unwrap();
    let mut written = 1;
    let error = loop {
        match log.append(NewOp::new("test.big", big.clone()).unwrap()) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    say(&format!("{error:?}"));
    // Where it is the file that may not grow, there is no room to be made.
    std::fs::remove_file(&ballast).unwrap();
    let again = log.append(note("small"));
    written += u64::from(again.is_ok());
    let summary = verify(&dir.join("log")).unwrap();
    assert_eq!(summary.ops, written);
    say(&format!("{}", again.is_ok()));
}

/// Whether this machine lets a test mount something.
fn mounts() -> bool {
    let tried = Command::new("unshare")
        .args(["-rm", "sh", "-c", "mount -t tmpfs none /mnt"])
        .output();
    let can = tried.as_ref().is_ok_and(|output| output.status.success());
    if !can {
        skipped::because(format_args!("nothing can be mounted here ({tried:?})"));
    }
    can
}

fn lines(mut command: Command) -> Vec<String> {
    let mut child = command.spawn().unwrap();
    let lines = said(&mut child).collect();
    assert!(child.wait().unwrap().success(), "{lines:?}");
    lines
}

#[test]
fn a_full_disk_is_a_clear_error_and_the_log_goes_on_when_there_is_room() {
    if !mounts() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "exec unshare -rm sh -c 'mount -t tmpfs -o size=1m none \"$VOX_OPLOG_DIR\" && exec \
                  \"$@\"' sh \"$@\"";
    let said = lines(in_shell(script, "full", dir.path()));
    assert!(said[0].starts_with("Full"), "{said:?}");
    assert_eq!(said[1], "true");
}

#[test]
fn a_file_that_may_not_grow_is_an_error_and_what_was_written_stays_sound() {
    if !cfg!(unix) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "trap '' XFSZ; ulimit -f 2000; exec \"$@\"";
    let said = lines(in_shell(script, "full", dir.path()));
    assert!(
        said[0].starts_with("Sqlite") || said[0].starts_with("Full"),
        "{said:?}"
    );
    verify(&dir.path().join("log")).unwrap();
}

#[test]
fn a_log_on_a_disk_without_a_free_byte_is_read() {
    if !mounts() {
        return;
    }
    for (part, ops) in [("write", "151"), ("leave", "3")] {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "exec unshare -rm sh -c 'mount -t tmpfs -o size=16m none \"$VOX_OPLOG_DIR\" && \
             cd \"$VOX_OPLOG_DIR\" && VOX_OPLOG_CHILD={part} \"$@\" >/dev/null 2>&1; \
             rm -f log.db-shm; cat /dev/zero >ballast 2>/dev/null; exec \"$@\"' sh \"$@\""
        );
        let said = lines(in_shell(&script, "read-full", dir.path()));
        assert_eq!((said[0].as_str(), said[2].as_str()), (ops, ops), "{said:?}");
        assert!(said[1].starts_with("Err("), "{said:?}");
    }
}

#[test]
fn a_log_in_a_read_only_place_is_read_and_not_written() {
    if !mounts() {
        return;
    }
    let script = |before: &str| {
        format!(
            "exec unshare -rm sh -c 'mount -t tmpfs none \"$VOX_OPLOG_DIR\" && {before}; \
             mount -o remount,ro \"$VOX_OPLOG_DIR\" && exec \"$@\"' sh \"$@\""
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let made = script("VOX_OPLOG_CHILD=write \"$@\" >/dev/null 2>&1");
    let said = lines(in_shell(&made, "read-only", dir.path()));
    assert!(said[0].starts_with("Err("), "{said:?}");
    assert_eq!(said[1], "151");
    // With ops in a WAL that nobody moved into the file.
    let left = script("VOX_OPLOG_CHILD=leave \"$@\" >/dev/null 2>&1");
    let said = lines(in_shell(&left, "read-only", dir.path()));
    assert!(
        said[1] == "3" || said[1].starts_with("NeedsWal"),
        "{said:?}"
    );
}
