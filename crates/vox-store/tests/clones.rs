//! On a file system that can clone, an import shares the blocks of the file and not its fate.
//!
//! The test makes such a file system in a file, and says so where the system does not allow that.
#![cfg(target_os = "linux")]

#[path = "../../../tests/skipped.rs"]
mod skipped;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use vox_crypto::{Algorithm, hash, hash_with};
use vox_store::{Error, ImportOptions, Link, Options, Store};

/// Names the directory in which the inner run works.
const INNER: &str = "VOX_STORE_TEST_INNER";
const NAME: &str = "a_clone_takes_no_space_and_does_not_change_with_the_file";

/// Mounts the file system where only this command and its children see it.
const MOUNT: &str = r#"mount -o loop "$0" "$1" || exit 99; shift; exec "$@""#;

fn outer() {
    let dir = tempfile::tempdir().unwrap();
    let (image, mounted) = (dir.path().join("image"), dir.path().join("mounted"));
    fs::create_dir(&mounted).unwrap();
    File::create(&image).unwrap().set_len(320 << 20).unwrap();
    let made = Command::new("mkfs.xfs")
        .args(["-q", "-m", "reflink=1"])
        .arg(&image)
        .stdout(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        skipped::because("mkfs.xfs does not make a file system here");
        return;
    }
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", MOUNT])
        .args([&image, &mounted])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(INNER, &mounted)
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) if !matches!(output.status.code(), Some(1 | 99)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            panic!("{said}");
        }
        _ => skipped::because("this system does not let this user mount a file"),
    }
}

#[test]
fn a_clone_takes_no_space_and_does_not_change_with_the_file() {
    let Some(mounted) = std::env::var_os(INNER).map(PathBuf::from) else {
        return outer();
    };
    let (store, _) = Store::open(mounted.join("store"), Options::default()).unwrap();
    let bytes: Vec<u8> = (0..32 << 20).map(|at: usize| (at / 977) as u8).collect();
    let file = mounted.join("weights");
    fs::write(&file, &bytes).unwrap();
    File::open(&file).unwrap().sync_all().unwrap();
    let before = free(&mounted);
    let options = || ImportOptions {
        link: Link::Reflink,
        also: &[Algorithm::Sha3_256],
        ..ImportOptions::default()
    };
    for _ in 0..2 {
        let imported = store.import_file(&file, options()).unwrap();
        assert_eq!(imported.digest, hash(&bytes));
        assert_eq!(imported.also, [hash_with(Algorithm::Sha3_256, &bytes)]);
        assert!(before - free(&mounted) < 2 << 20);
    }
    let digest = hash(&bytes);
    let mut writer = OpenOptions::new().write(true).open(&file).unwrap();
    writer.write_all(b"other").unwrap();
    writer.sync_all().unwrap();
    assert_eq!(store.verify(&digest).unwrap(), bytes.len() as u64);

    // A file that changes right after it was cloned may have been changing before.
    let mut watch = |_| {
        writer.write_all(b"again").unwrap();
        ControlFlow::Continue(())
    };
    let changing = ImportOptions {
        watch: Some(&mut watch),
        ..options()
    };
    let error = store.import_file(&file, changing).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    assert!(store.scrub(None).unwrap().is_clean());
}

/// Bytes that are free on a file system.
fn free(path: &Path) -> u64 {
    let status = rustix::fs::statvfs(path).unwrap();
    status.f_bfree * status.f_frsize
}
