//! What the tests of the op-log share.
#![allow(dead_code)]

use std::ops::ControlFlow;
use std::path::Path;

use vox_crypto::{SigningKey, canonical};
use vox_oplog::{Error, Fault, NewOp, OpLog, Options, Reader, Summary, VerifyOptions};

pub fn key(number: u8) -> SigningKey {
    SigningKey::from_secret(&[number; 32])
}

pub fn open(dir: &Path) -> OpLog {
    OpLog::open(dir, key(1), Options::default()).unwrap()
}

pub fn note(text: &str) -> NewOp {
    NewOp::new("test.note", canonical::encode(text).unwrap()).unwrap()
}

pub fn verify(dir: &Path) -> Result<Summary, Error> {
    Reader::open(dir)?.verify(
        &VerifyOptions::default(),
        &mut |_| ControlFlow::Continue(()),
    )
}

pub fn fault(dir: &Path) -> Fault {
    let error = verify(dir).expect_err("the log passes for a sound one");
    error
        .as_fault()
        .unwrap_or_else(|| panic!("{error}"))
        .clone()
}

/// A log of ops 0 to `last`, closed.
pub fn log_of(dir: &Path, last: u64) {
    let log = open(dir);
    let pending: Vec<_> = (1..=last)
        .map(|seq| {
            let op = note(&format!("op {seq}"))
                .run(format!("r{}", seq % 3))
                .step("s");
            log.submit(op.at(seq as i64)).unwrap()
        })
        .collect();
    for pending in pending {
        pending.wait().unwrap();
    }
    log.close();
}

/// Copies the files of a directory.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
