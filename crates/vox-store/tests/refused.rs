//! What the system refuses: a full disk, a disk that cannot be written, a directory of somebody else.
//! Each is said, and leaves nothing half done.
//!
//! The tests run themselves once more, in a mount namespace or as another user, and say so where the
//! system does not allow that.
#![cfg(target_os = "linux")]

mod fixture;
#[path = "../../../tests/skipped.rs"]
mod skipped;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fixture::{files_in, nothing};
use vox_crypto::{Algorithm, Digest};
use vox_store::{Class, Error, GcOptions, ImportOptions, Kind, Options, Store};

/// Names the directory in which the inner run works.
const INNER: &str = "VOX_STORE_TEST_INNER";

/// The directory, in the inner run.
fn inner() -> Option<PathBuf> {
    std::env::var_os(INNER).map(PathBuf::from)
}

/// Runs a test once more by this command, and fails if it fails.
fn run_inner(mut command: Command, test: &str, directory: &Path) {
    let output = command
        .args(["--exact", test, "--nocapture"])
        .env(INNER, directory)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

/// Runs a test once more where it may mount; says so and does not where that is not allowed.
fn with_mounts(test: &str, directory: &Path) {
    let allowed = Command::new("unshare").args(["-rm", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        skipped::because("this system does not let this user mount (unshare -rm)");
        return;
    }
    let mut command = Command::new("unshare");
    command.arg("-rm").arg(std::env::current_exe().unwrap());
    run_inner(command, test, directory);
}

fn mount(options: &str, directory: &Path) {
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(directory)
        .status()
        .unwrap();
    assert!(mounted.success());
}

/// Takes what is free of a disk, to the last byte, with a file that it names.
fn fill(directory: &Path) -> PathBuf {
    let filler = directory.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 512]).is_ok() {}
    filler
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[test]
fn a_full_disk_is_said_and_leaves_no_half_object() {
    let Some(directory) = inner() else {
        let dir = tempfile::tempdir().unwrap();
        return with_mounts("a_full_disk_is_said_and_leaves_no_half_object", dir.path());
    };
    mount("size=4m", &directory);
    let (store, _) = Store::open(directory.join("store"), Options::default()).unwrap();
    let sound = store.put_bytes(&noise(1 << 20)).unwrap();
    store.pin("p", &sound).unwrap();
    let before = files_in(&store.root().join("blobs"));

    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().join("large");
    fs::write(&path, noise(8 << 20)).unwrap();
    let options = ImportOptions {
        also: &[Algorithm::Sha3_512],
        ..ImportOptions::default()
    };
    let error = store.import_file(&path, options).unwrap_err();
    let Error::NoSpace { needed, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*needed, Some(8 << 20));
    assert!(error.to_string().contains("nothing was stored"), "{error}");

    let mut writer = store.writer().unwrap();
    let error = std::io::copy(&mut &noise(8 << 20)[..], &mut writer).unwrap_err();
    let error = error.downcast::<Error>().unwrap();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    drop(writer);
    assert_eq!(files_in(&store.root().join("blobs")), before);
    assert!(files_in(&store.root().join("tmp")).is_empty());

    // To the last byte.
    let filler = fill(&directory);
    for _ in 0..2 {
        let error = store.put_bytes(b"small").unwrap_err();
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    }
    let other = store.put_bytes(&noise(1 << 20)).unwrap_err();
    assert!(matches!(other, Error::NoSpace { .. }), "{other}");
    let error = store
        .set_ref("pins", "p", &sound, Class::Evictable)
        .unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    let pinned = store.get_ref("pins", "p").unwrap().unwrap();
    assert_eq!((pinned.digest, pinned.class), (sound, Class::Kept));

    assert_eq!(store.verify(&sound).unwrap(), 1 << 20);
    assert!(files_in(&store.root().join("tmp")).is_empty());
    // Garbage is collected on a full disk too, which is when it is wanted.
    store.gc(&mut nothing, GcOptions::default()).unwrap();
    fs::remove_file(&filler).unwrap();
    let small = store.put_bytes(b"small").unwrap();
    assert_eq!(store.verify(&small).unwrap(), 5);
    assert!(store.scrub(None).unwrap().is_clean());
}

#[test]
fn a_disk_without_a_free_byte_is_freed() {
    let Some(directory) = inner() else {
        let dir = tempfile::tempdir().unwrap();
        return with_mounts("a_disk_without_a_free_byte_is_freed", dir.path());
    };
    mount("size=4m", &directory);
    let root = directory.join("store");
    let (store, _) = Store::open(&root, Options::default()).unwrap();
    let blobs = [1, 2, 3].map(|many| store.put_bytes(&noise(many << 18)).unwrap());
    for (name, blob) in ["kept", "old"].iter().zip(&blobs) {
        store
            .set_ref("models", name, blob, Class::Evictable)
            .unwrap();
    }
    drop(store);
    fill(&directory);
    let error = Store::open(&root, Options::default()).unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");

    let (store, _) = Store::open_to_remove(&root).unwrap();
    let error = store.put_bytes(b"small").unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
    let collected = store.gc(&mut nothing, GcOptions::default()).unwrap();
    assert_eq!(collected.removed, [(Kind::Blob, blobs[2])]);
    fill(&directory);
    assert!(store.remove_ref("models", "old").unwrap());
    fill(&directory);
    let evicted = store.evict(1 << 19, &mut nothing).unwrap();
    assert_eq!(evicted.removed, [(Kind::Blob, blobs[1])]);
    fill(&directory);
    let evicted = store.evict(0, &mut nothing).unwrap();
    assert_eq!(evicted.removed, [(Kind::Blob, blobs[0])]);
    assert_eq!(evicted.over, 0);
    assert!(files_in(&root.join("leases")).is_empty());

    let (store, _) = Store::open(&root, Options::default()).unwrap();
    store.put_bytes(b"small").unwrap();
}

#[test]
fn a_store_on_a_disk_that_cannot_be_written_is_read_and_says_so_when_written() {
    let Some(directory) = inner() else {
        let dir = tempfile::tempdir().unwrap();
        return with_mounts(
            "a_store_on_a_disk_that_cannot_be_written_is_read_and_says_so_when_written",
            dir.path(),
        );
    };
    mount("size=8m", &directory);
    let root = directory.join("store");
    let (store, _) = Store::open(&root, Options::default()).unwrap();
    let bytes = noise(1 << 20);
    let blob = store.put_bytes(&bytes).unwrap();
    let node = store.put_node(&[blob]).unwrap();
    store.pin("p", &node).unwrap();
    drop(store);
    let remounted = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&directory)
        .status()
        .unwrap();
    assert!(remounted.success());

    let error = Store::open(&root, Options::default()).unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
    reads_and_does_not_write(&root, &blob, &node);
}

fn reads_and_does_not_write(root: &Path, blob: &Digest, node: &Digest) {
    let store = Store::open_read(root).unwrap();
    assert_eq!(store.verify(blob).unwrap(), 1 << 20);
    assert_eq!(store.get_node::<Vec<Digest>>(node).unwrap(), [*blob]);
    assert_eq!(store.get_ref("pins", "p").unwrap().unwrap().digest, *node);
    assert!(store.size().unwrap() > 1 << 20);
    let refused = [
        store.put_bytes(b"x").unwrap_err(),
        store.put_node(&1).unwrap_err(),
        store.writer().unwrap_err(),
        store
            .import_file("/etc/hostname", ImportOptions::default())
            .unwrap_err(),
        store.pin("q", node).unwrap_err(),
        store.unpin("p").unwrap_err(),
        store.hold(node).unwrap_err(),
        store.gc(&mut nothing, GcOptions::default()).unwrap_err(),
        store.evict(0, &mut nothing).unwrap_err(),
        store.scrub(None).unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
        assert!(error.to_string().contains("open it for writing"), "{error}");
    }
}

/// Number of a user who owns nothing.
const NOBODY: u32 = 65_534;

#[test]
fn a_directory_of_somebody_else_is_read_and_says_so_when_written() {
    let name = "a_directory_of_somebody_else_is_read_and_says_so_when_written";
    let Some(directory) = inner() else {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (store, _) = Store::open(dir.path().join("store"), Options::default()).unwrap();
        let blob = store.put_bytes(&noise(1 << 20)).unwrap();
        let node = store.put_node(&[blob]).unwrap();
        store.pin("p", &node).unwrap();
        drop(store);
        let secret = dir.path().join("secret");
        fs::write(&secret, noise(10)).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
        if !rustix::process::geteuid().is_root() {
            skipped::because("only root can run it as somebody else");
            return;
        }
        // Where it was built others may not come.
        let exe = dir.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
        let mut command = Command::new(exe);
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        return run_inner(command, name, dir.path());
    };
    let root = directory.join("store");
    let error = Store::open(&root, Options::default()).unwrap_err();
    assert!(matches!(error, Error::Permission { .. }), "{error}");
    assert!(
        error.to_string().contains("give this user access"),
        "{error}"
    );
    let error = Store::open(directory.join("new"), Options::default()).unwrap_err();
    assert!(matches!(error, Error::Permission { .. }), "{error}");

    let reader = Store::open_read(&root).unwrap();
    let node = reader.get_ref("pins", "p").unwrap().unwrap().digest;
    let [blob] = reader.get_node::<Vec<Digest>>(&node).unwrap()[..] else {
        panic!("{node}")
    };
    reads_and_does_not_write(&root, &blob, &node);

    let own = tempfile::tempdir_in("/tmp").unwrap();
    let (store, _) = Store::open(own.path(), Options::default()).unwrap();
    let error = store
        .import_file(directory.join("secret"), ImportOptions::default())
        .unwrap_err();
    assert!(matches!(error, Error::Permission { .. }), "{error}");
    assert!(error.to_string().contains("secret"), "{error}");
    assert!(files_in(&own.path().join("blobs")).is_empty());
}
