//! What somebody may do to a store from outside: by links and pipes, by names, by files that change or
//! claim to be huge, and by directories that are no stores.

mod fixture;

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fixture::{blob, files_in, nothing, path_of, store};
use vox_crypto::{hash, tree::GROUP_BYTES};
use vox_store::{
    Class, Error, Fault, GcOptions, ImportOptions, Link, MAX_NAME_BYTES, Options, Store,
};

fn fault(error: &Error) -> Fault {
    match error {
        Error::Corrupt { fault, .. } => fault.clone(),
        other => panic!("{other}"),
    }
}

#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_an_object_is_not_followed() {
    use std::os::unix::fs::symlink;
    let (dir, store) = store();
    let (blob, node) = (
        store.put_bytes(b"blob").unwrap(),
        store.put_node(&7).unwrap(),
    );
    let outside = dir.path().join("outside");
    // Even where it would lead to the right bytes.
    for (kind, digest, bytes) in [("blobs", &blob, &b"blob"[..]), ("nodes", &node, b"\x07")] {
        fs::write(&outside, bytes).unwrap();
        let path = path_of(&store, kind, digest);
        fs::remove_file(&path).unwrap();
        symlink(&outside, &path).unwrap();
        assert!(!store.contains(digest));
    }
    assert_eq!(fault(&store.get(&blob).unwrap_err()), Fault::NotAFile);
    assert_eq!(
        fault(&store.get_node_bytes(&node).unwrap_err()),
        Fault::NotAFile
    );
    assert_eq!(store.scrub(None).unwrap().broken.len(), 2);
    assert_eq!(fs::read(&outside).unwrap(), b"\x07");
    store.put_bytes(b"blob").unwrap();
    assert_eq!(store.verify(&blob).unwrap(), 4);
}

#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_a_directory_is_not_followed() {
    use std::os::unix::fs::symlink;
    let (dir, store) = store();
    let digest = hash(b"x");
    let outside = dir.path().join("outside");
    let shard = path_of(&store, "blobs", &digest)
        .parent()
        .unwrap()
        .to_owned();
    let precious = outside.join(&digest.to_hex()[2..]);
    fs::create_dir(&outside).unwrap();
    fs::write(&precious, b"precious").unwrap();
    symlink(&outside, &shard).unwrap();
    let error = store.put_bytes(b"x").unwrap_err();
    assert!(error.to_string().contains("link"), "{error}");
    let report = store.gc(&mut nothing, GcOptions::default()).unwrap();
    assert!(report.removed.is_empty());
    assert_eq!(store.scrub(None).unwrap().strays, [shard]);

    let digest = store.put_bytes(b"y").unwrap();
    symlink(&outside, store.root().join("refs").join("models")).unwrap();
    let error = store
        .set_ref("models", "m", &digest, Class::Kept)
        .unwrap_err();
    assert!(error.to_string().contains("link"), "{error}");
    assert!(store.gc(&mut nothing, GcOptions::default()).is_err());
    assert_eq!(files_in(&outside), std::slice::from_ref(&precious));
    assert_eq!(fs::read(precious).unwrap(), b"precious");
}

#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_an_object_or_a_file_is_not_waited_for() {
    let (dir, store) = store();
    let pipe = |path: &Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    };
    let digest = store.put_bytes(b"x").unwrap();
    let path = path_of(&store, "blobs", &digest);
    fs::remove_file(&path).unwrap();
    pipe(&path);
    assert_eq!(fault(&store.get(&digest).unwrap_err()), Fault::NotAFile);
    let source = dir.path().join("pipe");
    pipe(&source);
    for path in [source.as_path(), dir.path()] {
        for link in [Link::Auto, Link::Hardlink] {
            let options = ImportOptions {
                link,
                ..ImportOptions::default()
            };
            let error = store.import_file(path, options).unwrap_err();
            assert!(matches!(error, Error::NotAFile { .. }), "{error}");
        }
    }
}

#[test]
fn no_name_of_a_reference_leaves_its_directory() {
    let (dir, store) = store();
    let digest = store.put_bytes(b"x").unwrap();
    let long = "ä".repeat(MAX_NAME_BYTES / 2);
    let other = format!("{}b", "ä".repeat(MAX_NAME_BYTES / 2 - 1));
    let names = [
        "../x",
        "/",
        "/etc/passwd",
        "..",
        ".",
        "\0",
        "a\0b",
        "con",
        "x\\y",
        "%2e",
        "\u{202e}",
        "é",
        "e\u{301}",
        "A",
        "a",
        " ",
        "a.",
        "a\n",
        &long,
        &other,
    ];
    for (at, name) in names.iter().enumerate() {
        let digest = store.put_bytes(&[at as u8]).unwrap();
        store.set_ref("names", name, &digest, Class::Kept).unwrap();
    }
    for (at, name) in names.iter().enumerate() {
        let found = store.get_ref("names", name).unwrap().unwrap();
        assert_eq!(found.digest, hash(&[at as u8]), "{name:?}");
        assert_eq!(found.name.name(), *name);
    }
    assert_eq!(store.refs("names").unwrap().len(), names.len());
    assert_eq!(
        files_in(&store.root().join("refs/names")).len(),
        names.len()
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

    for space in ["..", "/", "a/b", "\0", "Ä"] {
        store.set_ref(space, "x", &digest, Class::Kept).unwrap();
    }
    assert_eq!(store.namespaces().unwrap().len(), 6);
    let refused = [
        ("names", ""),
        ("", "x"),
        ("names", &"a".repeat(MAX_NAME_BYTES + 1)),
        (&"a".repeat(65), "x"),
    ];
    for (space, name) in refused {
        let error = store
            .set_ref(space, name, &digest, Class::Kept)
            .unwrap_err();
        assert!(matches!(error, Error::BadRefName { .. }), "{error}");
    }
}

#[test]
fn a_file_that_changes_while_it_is_imported_is_refused() {
    let (dir, store) = store();
    let path = dir.path().join("model");
    type Change = fn(&Path);
    let changes: [Change; 5] = [
        // It grows.
        |path| {
            let mut file = OpenOptions::new().append(true).open(path).unwrap();
            file.write_all(b"more").unwrap();
        },
        // It is cut.
        |path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(1 << 20).unwrap();
        },
        // A part that was read already is written anew.
        |path| {
            let mut file = OpenOptions::new().write(true).open(path).unwrap();
            file.seek(SeekFrom::Start(5)).unwrap();
            file.write_all(b"other").unwrap();
        },
        // Another file takes its name.
        |path| {
            let other = path.with_extension("other");
            fs::copy(path, &other).unwrap();
            let times = FileTimes::new().set_modified(long_ago());
            File::open(&other).unwrap().set_times(times).unwrap();
            fs::rename(other, path).unwrap();
        },
        // It is gone.
        |path| fs::remove_file(path).unwrap(),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        for link in [Link::Copy, Link::Hardlink] {
            fs::write(&path, blob(3 << 20)).unwrap();
            let times = FileTimes::new().set_modified(long_ago());
            File::open(&path).unwrap().set_times(times).unwrap();
            let mut changed = false;
            let mut watch = |_| {
                if !changed {
                    change(&path);
                }
                changed = true;
                ControlFlow::Continue(())
            };
            let options = ImportOptions {
                link,
                watch: Some(&mut watch),
                ..ImportOptions::default()
            };
            let error = store.import_file(&path, options).unwrap_err();
            let gone = at == 4 && matches!(error, Error::Io { .. });
            assert!(
                gone || matches!(error, Error::Changed { .. }),
                "{at}: {error}"
            );
            assert!(files_in(&store.root().join("blobs")).is_empty());
            assert!(files_in(&store.root().join("tmp")).is_empty());
        }
    }
}

fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

#[test]
fn a_file_that_claims_to_be_huge_costs_no_memory() {
    let (_dir, store) = store();
    let huge = |path: &Path| {
        fs::remove_file(path).unwrap();
        File::create(path).unwrap().set_len(1 << 40).unwrap();
    };
    let node = store.put_node(&7).unwrap();
    huge(&path_of(&store, "nodes", &node));
    assert_eq!(
        fault(&store.get_node_bytes(&node).unwrap_err()),
        Fault::Whole
    );
    // Its tree tells how long it is at most, so that it is not read either.
    let digest = store.put_bytes(&blob(3 * GROUP_BYTES)).unwrap();
    let path = path_of(&store, "blobs", &digest);
    huge(&path);
    assert_eq!(fault(&store.get(&digest).unwrap_err()), Fault::Whole);
    let bytes = blob(3 * GROUP_BYTES + 1);
    let digest = store.put_bytes(&bytes).unwrap();
    huge(&path_of(&store, "blobs", &digest).with_extension("tree"));
    assert_eq!(store.verify(&digest).unwrap(), bytes.len() as u64);
}

#[test]
fn a_directory_that_is_no_store_is_not_made_one() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
    let error = Store::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let file = dir.path().join("thesis.txt");
    assert!(Store::open(&file, Options::default()).is_err());
    assert!(Store::open_read(dir.path().join("nothing")).is_err());
}

#[test]
fn a_store_of_another_version_is_refused_by_name() {
    let (_dir, store) = store();
    let path = store.root().join("format");
    for other in ["vox store 2\n", "vox store 1", "\u{1b}[2J", ""] {
        fs::write(&path, other).unwrap();
        let error = Store::open(store.root(), Options::default()).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{error}");
        assert!(!error.to_string().contains('\u{1b}'), "{error:?}");
        assert!(Store::open_read(store.root()).is_err());
    }
    fs::write(&path, "vox store 2\n").unwrap();
    let error = Store::open(store.root(), Options::default()).unwrap_err();
    assert!(error.to_string().contains("vox store 2"), "{error}");
}

#[test]
fn a_damaged_lease_of_a_running_process_stops_garbage_collection() {
    let (_dir, store) = store();
    let worker = store.with_own_lease().unwrap();
    let digest = worker.put_bytes(b"x").unwrap();
    for lease in files_in(&store.root().join("leases")) {
        let mut file = OpenOptions::new().append(true).open(lease).unwrap();
        file.write_all(b"blake3:what\n").unwrap();
    }
    let error = store.gc(&mut nothing, GcOptions::default()).unwrap_err();
    assert!(matches!(error, Error::BadLease { .. }), "{error}");
    assert!(store.contains(&digest));
}
