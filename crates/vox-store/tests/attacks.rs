//! What somebody, or a disk, may do to a store: it is found, said, and nothing worse follows.

mod fixture;

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::Path;

use fixture::{blob, nothing, overwrite, path_of, store};
use vox_crypto::{hash, tree::GROUP_BYTES};
use vox_store::{Class, Error, Fault, GcOptions, Kind, Options, Reason, Store};

const GROUP: u64 = GROUP_BYTES as u64;

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

#[test]
fn a_node_that_the_log_names_and_scrub_set_aside_stops_garbage_collection() {
    let (_dir, store) = store();
    let root = store.root().to_owned();
    let blob = store.put_bytes(b"weights").unwrap();
    let node = store.put_node(&[blob]).unwrap();
    flip(&path_of(&store, "nodes", &node), 3);
    assert_eq!(store.scrub(None).unwrap().broken.len(), 1);
    drop(store);
    let (store, _) = Store::open(root, Options::default()).unwrap();
    let mut roots = |need: &mut dyn FnMut(_)| {
        need(node);
        Ok(())
    };
    let error = store.gc(&mut roots, GcOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(store.contains(&blob));
}
