//! What somebody, or a disk, may do to a store: it is found, said, and nothing worse follows.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use vox_crypto::{Digest, hash, tree::GROUP_BYTES};
use vox_store::{
    BoxError, Class, Error, Fault, GcOptions, ImportOptions, Kind, Link, MAX_NAME_BYTES, Options,
    Reason, Store,
};

const GROUP: u64 = GROUP_BYTES as u64;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path().join("store"), Options::default()).unwrap();
    (dir, store)
}

fn blob(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251 + 7) as u8).collect()
}

fn path_of(store: &Store, kind: &str, digest: &Digest) -> PathBuf {
    let hex = digest.to_hex();
    store.root().join(kind).join(&hex[..2]).join(&hex[2..])
}

/// Puts other bytes in the place of a file that is read-only.
fn overwrite(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 0x10;
    overwrite(path, &bytes);
}

fn fault(error: &Error) -> Fault {
    match error {
        Error::Corrupt { fault, .. } => fault.clone(),
        other => panic!("{other}"),
    }
}

fn nothing(_: &mut dyn FnMut(Digest)) -> Result<(), BoxError> {
    Ok(())
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_in(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn a_flipped_bit_in_a_blob_is_found_when_that_part_is_read() {
    let (_dir, store) = store();
    let bytes = blob(4 * GROUP_BYTES + 9);
    let digest = store.put_bytes(&bytes).unwrap();
    let path = path_of(&store, "blobs", &digest);
    for at in [0, GROUP - 1, GROUP, 2 * GROUP + 77, 4 * GROUP + 8] {
        overwrite(&path, &bytes);
        flip(&path, at);
        let mut reader = store.get(&digest).unwrap();
        let error = reader.read_range(at, 1).unwrap_err();
        let offset = at / GROUP * GROUP;
        let len = GROUP.min(bytes.len() as u64 - offset);
        assert_eq!(fault(&error), Fault::Bytes { offset, len });
        assert!(error.to_string().contains(&digest.to_string()), "{error}");
        // The other parts are sound and stay readable.
        let sound = (at / GROUP + 1) % 5 * GROUP;
        assert_eq!(
            reader.read_range(sound, 1).unwrap(),
            [bytes[sound as usize]]
        );
        assert!(store.verify(&digest).is_err());

        let mut all = Vec::new();
        let error = store
            .get(&digest)
            .unwrap()
            .read_to_end(&mut all)
            .unwrap_err();
        assert!(error.to_string().contains("altered"), "{error}");
        assert_eq!(all, bytes[..offset as usize]);
    }
}

#[test]
fn a_flipped_bit_in_a_small_blob_is_found() {
    let (_dir, store) = store();
    let digest = store.put_bytes(b"four").unwrap();
    flip(&path_of(&store, "blobs", &digest), 2);
    let error = store.verify(&digest).unwrap_err();
    assert_eq!(fault(&error), Fault::Bytes { offset: 0, len: 4 });
}

#[test]
fn a_blob_that_was_cut_or_extended_is_found() {
    let (_dir, store) = store();
    for len in [100, GROUP_BYTES, 3 * GROUP_BYTES, 3 * GROUP_BYTES + 5] {
        let bytes = blob(len);
        let digest = store.put_bytes(&bytes).unwrap();
        let path = path_of(&store, "blobs", &digest);
        let longer = [&bytes[..], b"x"].concat();
        let much_longer = [&bytes[..], &bytes[..]].concat();
        let others = [
            &bytes[..len - 1],
            &bytes[..len / 2],
            &[],
            &longer,
            &much_longer,
        ];
        for other in others {
            overwrite(&path, other);
            let error = store.verify(&digest).expect_err("it is another blob");
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        }
    }
}

#[test]
fn a_blob_that_is_cut_while_it_is_read_is_an_error() {
    let (_dir, store) = store();
    let digest = store.put_bytes(&blob(4 * GROUP_BYTES)).unwrap();
    let path = path_of(&store, "blobs", &digest);
    let mut reader = store.get(&digest).unwrap();
    reader.read_range(0, 1).unwrap();
    let file = writable(&path);
    file.set_len(2 * GROUP + 1).unwrap();
    assert_eq!(
        fault(&reader.read_range(2 * GROUP, 9).unwrap_err()),
        Fault::Cut
    );
    assert!(reader.read_range(GROUP, 9).is_ok());
}

fn writable(path: &Path) -> File {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    OpenOptions::new().write(true).open(path).unwrap()
}

#[test]
fn a_damaged_tree_beside_a_sound_blob_is_made_anew() {
    let (_dir, store) = store();
    let bytes = blob(4 * GROUP_BYTES + 9);
    let digest = store.put_bytes(&bytes).unwrap();
    let tree = path_of(&store, "blobs", &digest).with_extension("tree");
    let sound = fs::read(&tree).unwrap();
    let damages: [&dyn Fn(); 4] = [
        &|| flip(&tree, 40),
        &|| overwrite(&tree, &sound[..64]),
        &|| overwrite(&tree, &[&sound[..], &sound[..]].concat()),
        &|| fs::remove_file(&tree).unwrap(),
    ];
    for damage in damages {
        damage();
        let part = store
            .get(&digest)
            .unwrap()
            .read_range(3 * GROUP, 50)
            .unwrap();
        assert_eq!(part, bytes[3 * GROUP_BYTES..][..50]);
        assert_eq!(fs::read(&tree).unwrap(), sound);

        damage();
        let report = store.scrub(None).unwrap();
        assert_eq!(report.trees_rebuilt, [digest]);
        assert!(report.broken.is_empty());
        assert_eq!(fs::read(&tree).unwrap(), sound);

        // Who may only read makes do without.
        damage();
        let reader = Store::open_read(store.root()).unwrap();
        assert_eq!(reader.verify(&digest).unwrap(), bytes.len() as u64);
        assert_eq!(store.verify(&digest).unwrap(), bytes.len() as u64);
    }
}

#[test]
fn a_tree_of_another_blob_is_not_believed() {
    let (_dir, store) = store();
    let [one, two] = [3, 5].map(|by| {
        let mut bytes = blob(4 * GROUP_BYTES);
        bytes[by] ^= 1;
        store.put_bytes(&bytes).unwrap()
    });
    // Blob and tree agree with each other, and not with the name.
    for extension in ["", "tree"] {
        let [from, to] =
            [&one, &two].map(|digest| path_of(&store, "blobs", digest).with_extension(extension));
        overwrite(&to, &fs::read(from).unwrap());
    }
    assert_eq!(fault(&store.get(&two).unwrap_err()), Fault::Whole);
}

#[test]
fn a_damaged_node_is_found_on_read_and_on_scrub() {
    let (_dir, store) = store();
    let node = store.put_node(&("some", "value")).unwrap();
    store.pin("p", &node).unwrap();
    let path = path_of(&store, "nodes", &node);
    flip(&path, 3);
    assert_eq!(
        fault(&store.get_node_bytes(&node).unwrap_err()),
        Fault::Whole
    );
    // Bytes that hash as they should and are no canonical value.
    let odd = hash(b"\x18\x01");
    let odd_path = path_of(&store, "nodes", &odd);
    fs::create_dir_all(odd_path.parent().unwrap()).unwrap();
    fs::write(odd_path, b"\x18\x01").unwrap();
    assert_eq!(fault(&store.links(&odd).unwrap_err()), Fault::NotCanonical);

    let report = store.scrub(None).unwrap();
    let mut broken: Vec<_> = report.broken.iter().map(|found| found.digest).collect();
    broken.sort();
    let mut expected = [node, odd];
    expected.sort();
    assert_eq!(broken, expected);
    // Its links are unknown now, so that nothing may go.
    let error = store.gc(&mut nothing, GcOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}

#[test]
fn a_node_that_scrub_set_aside_stops_garbage_collection_below_what_links_to_it() {
    let (_dir, store) = store();
    let weights = store.put_bytes(b"weights").unwrap();
    let inner = store.put_node(&[weights]).unwrap();
    let outer = store.put_node(&[inner]).unwrap();
    store.pin("p", &outer).unwrap();
    let root = store.root().to_owned();
    flip(&path_of(&store, "nodes", &inner), 3);
    assert_eq!(store.scrub(None).unwrap().broken.len(), 1);
    drop(store);
    let (store, _) = Store::open(root, Options::default()).unwrap();
    let error = store.gc(&mut nothing, GcOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(store.contains(&weights));
    store.put_node(&[weights]).unwrap();
    store.gc(&mut nothing, GcOptions::default()).unwrap();
    assert!(store.contains(&weights));
}

#[test]
fn scrub_sets_a_broken_blob_aside_and_says_who_misses_it() {
    let (_dir, store) = store();
    let bytes = blob(3 * GROUP_BYTES);
    let digest = store.put_bytes(&bytes).unwrap();
    let node = store.put_node(&[digest]).unwrap();
    store.set_ref("models", "m", &node, Class::Kept).unwrap();
    assert!(store.scrub(None).unwrap().is_clean());
    flip(&path_of(&store, "blobs", &digest), 3);

    let mut told = 0;
    let mut watch = |progress: vox_store::Progress| {
        assert!(progress.done >= told && progress.done <= progress.total);
        told = progress.done;
        ControlFlow::Continue(())
    };
    let report = store.scrub(Some(&mut watch)).unwrap();
    let [broken] = &report.broken[..] else {
        panic!("{report:?}")
    };
    assert_eq!((broken.digest, broken.kind), (digest, Kind::Blob));
    assert!(
        broken
            .set_aside
            .starts_with(store.root().join("quarantine"))
    );
    assert_eq!(fs::read(&broken.set_aside).unwrap().len(), bytes.len());
    let [Reason::Ref { name, .. }] = &broken.needed_by[..] else {
        panic!("{broken:?}")
    };
    assert_eq!(name.name(), "m");
    assert!(!store.contains(&digest));

    for _ in 0..2 {
        let report = store.scrub(None).unwrap();
        assert_eq!(report.missing.len(), 1);
        assert_eq!(report.missing[0].digest, digest);
        assert_eq!(report.missing[0].needed_by, broken.needed_by);
    }
    let report = store.gc(&mut nothing, GcOptions::default()).unwrap();
    assert_eq!(report.quarantined.objects, 1);
    store.put_bytes(&bytes).unwrap();
    assert!(store.scrub(None).unwrap().is_clean());
}

#[test]
fn scrub_stops_when_it_is_told_to() {
    let (_dir, store) = store();
    store.put_bytes(&blob(3 * GROUP_BYTES)).unwrap();
    let mut watch = |_| ControlFlow::Break(());
    let error = store.scrub(Some(&mut watch)).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
}

#[test]
fn an_object_under_a_wrong_name_and_files_without_a_place_are_found() {
    let (_dir, store) = store();
    let digest = store.put_bytes(b"right").unwrap();
    let other = hash(b"wrong");
    let path = path_of(&store, "blobs", &other);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"right").unwrap();
    let strays = [
        "notes.txt",
        "blobs/notes",
        "nodes/zz/abc",
        "refs/UP",
        "blobs/00/x.tree",
    ];
    for stray in strays {
        let path = store.root().join(stray);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"?").unwrap();
    }
    let report = store.scrub(None).unwrap();
    assert_eq!(report.broken.len(), 1);
    assert_eq!(report.broken[0].digest, other);
    assert_eq!(report.sound, 1);
    let mut found = report.strays.clone();
    found.sort();
    let mut expected = strays.map(|stray| store.root().join(stray));
    expected.sort();
    assert_eq!(found, expected);
    // They are somebody's: nothing of the store removes them.
    fs::remove_file(store.root().join("refs/UP")).unwrap();
    store.gc(&mut nothing, GcOptions::default()).unwrap();
    assert!(store.root().join("blobs/notes").exists());
    assert!(store.contains(&digest));
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
    assert_eq!(files_in(&outside), [precious.clone()]);
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
