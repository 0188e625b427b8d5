//! Blobs and nodes: what was stored comes back, verified, whole and in parts.

mod fixture;
#[path = "../../../tests/skipped.rs"]
mod skipped;

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::path::Path;

use fixture::{blob, files_in, store};
use vox_crypto::{Algorithm, Digest, hash, hash_with, tree::GROUP_BYTES};
use vox_store::{Error, ImportOptions, Link, Options, Store};

fn read(store: &Store, digest: &Digest) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.get(digest).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_was_put_comes_back_whatever_its_length() {
    let (_dir, store) = store();
    for len in [
        0,
        1,
        GROUP_BYTES - 1,
        GROUP_BYTES,
        GROUP_BYTES + 1,
        3 * GROUP_BYTES,
        3 * 1024 * 1024 + 5,
    ] {
        let bytes = blob(len);
        let digest = store.put_bytes(&bytes).unwrap();
        assert_eq!(digest, hash(&bytes));
        assert!(store.contains(&digest));
        assert_eq!(store.len(&digest).unwrap(), len as u64);
        assert_eq!(read(&store, &digest), bytes);
        assert_eq!(store.verify(&digest).unwrap(), len as u64);
        assert_eq!(fs::read(store.path_of(&digest).unwrap()).unwrap(), bytes);
    }
}

#[test]
fn it_does_not_matter_in_which_pieces_a_blob_is_written() {
    let (_dir, store) = store();
    let bytes = blob(5 * 1024 * 1024 + 3);
    let algorithms = [Algorithm::Sha3_512, Algorithm::Sha256];
    for piece in [1000, 65_536, 1 << 20, 1 << 30] {
        let mut writer = store.writer().unwrap().also(&algorithms).unwrap();
        for piece in bytes.chunks(piece) {
            writer.write_all(piece).unwrap();
        }
        let stored = writer.commit().unwrap();
        assert_eq!(stored.digest, hash(&bytes));
        assert_eq!(stored.len, bytes.len() as u64);
        let also = algorithms.map(|algorithm| hash_with(algorithm, &bytes));
        assert_eq!(stored.also, also);
    }
}

#[test]
fn a_blob_that_is_not_committed_leaves_nothing() {
    let (_dir, store) = store();
    let mut writer = store.writer().unwrap();
    writer.write_all(&blob(3 << 20)).unwrap();
    assert_eq!(files_in(&store.root().join("tmp")).len(), 1);
    drop(writer);
    assert!(files_in(&store.root().join("tmp")).is_empty());
    assert!(files_in(&store.root().join("blobs")).is_empty());
}

#[test]
fn what_is_there_already_costs_no_second_copy() {
    let (dir, store) = store();
    let bytes = blob(200_000);
    let path = dir.path().join("weights");
    fs::write(&path, &bytes).unwrap();
    for _ in 0..2 {
        store.put_bytes(&bytes).unwrap();
        store.import_file(&path, ImportOptions::default()).unwrap();
        // The blob and its tree.
        assert_eq!(files_in(&store.root().join("blobs")).len(), 2);
    }
    let small = store.put_bytes(b"small").unwrap();
    assert_eq!(store.put_bytes(b"small").unwrap(), small);
    assert_eq!(files_in(&store.root().join("blobs")).len(), 3);
}

#[test]
fn a_damaged_blob_is_healed_by_storing_it_again() {
    let (_dir, store) = store();
    for len in [10, 300_000] {
        let bytes = blob(len);
        let digest = store.put_bytes(&bytes).unwrap();
        let path = store.path_of(&digest).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"something else").unwrap();
        assert!(store.verify(&digest).is_err());
        store.put_bytes(&bytes).unwrap();
        assert_eq!(read(&store, &digest), bytes);
    }
}

#[test]
fn any_part_of_a_blob_can_be_read() {
    let (_dir, store) = store();
    let bytes = blob(4 * GROUP_BYTES + 100);
    let digest = store.put_bytes(&bytes).unwrap();
    let mut reader = store.get(&digest).unwrap();
    let group = GROUP_BYTES as u64;
    for (offset, len) in [
        (0, 1),
        (group - 1, 2),
        (group, group),
        (100, 3 * group),
        (0, 0),
    ] {
        let part = reader.read_range(offset, len).unwrap();
        assert_eq!(part, bytes[offset as usize..(offset + len) as usize]);
    }
    let end = bytes.len() as u64;
    assert!(reader.read_range(end, 0).unwrap().is_empty());
    for (offset, len) in [(end, 1), (0, end + 1), (u64::MAX, 2), (1, u64::MAX)] {
        let error = reader.read_range(offset, len).unwrap_err();
        assert!(matches!(error, Error::Range { .. }), "{error}");
    }
    let mut tail = Vec::new();
    reader.seek(SeekFrom::End(-50)).unwrap();
    reader.read_to_end(&mut tail).unwrap();
    assert_eq!(tail, bytes[bytes.len() - 50..]);
    assert!(reader.seek(SeekFrom::Current(-(end as i64) - 1)).is_err());
    reader.seek(SeekFrom::Start(u64::MAX)).unwrap();
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_file_is_imported_with_all_its_digests_and_its_progress_is_told() {
    let (dir, store) = store();
    let bytes = blob(3 * 1024 * 1024 + 17);
    let path = dir.path().join("model.safetensors");
    fs::write(&path, &bytes).unwrap();
    let mut steps = Vec::new();
    let mut watch = |progress: vox_store::Progress| {
        assert_eq!(progress.total, bytes.len() as u64);
        steps.push(progress.done);
        ControlFlow::Continue(())
    };
    let options = ImportOptions {
        link: Link::Copy,
        also: &[Algorithm::Sha3_512],
        watch: Some(&mut watch),
    };
    let imported = store.import_file(&path, options).unwrap();
    assert_eq!(imported.digest, hash(&bytes));
    assert_eq!(imported.also, [hash_with(Algorithm::Sha3_512, &bytes)]);
    assert_eq!(steps, [1 << 20, 2 << 20, 3 << 20, bytes.len() as u64]);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn an_import_stops_when_it_is_told_to() {
    let (dir, store) = store();
    let path = dir.path().join("large");
    fs::write(&path, blob(4 << 20)).unwrap();
    for link in [Link::Copy, Link::Hardlink] {
        let mut calls = 0;
        let mut watch = |_| {
            calls += 1;
            if calls == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let options = ImportOptions {
            link,
            watch: Some(&mut watch),
            ..ImportOptions::default()
        };
        let error = store.import_file(&path, options).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
        assert_eq!(calls, 2);
        assert!(files_in(&store.root().join("blobs")).is_empty());
        assert!(files_in(&store.root().join("tmp")).is_empty());
    }
}

#[cfg(unix)]
#[test]
fn a_hard_link_is_the_same_file_and_is_made_only_when_asked_for() {
    use std::os::unix::fs::MetadataExt as _;
    let (dir, store) = store();
    let bytes = blob(100_000);
    let path = dir.path().join("weights");
    fs::write(&path, &bytes).unwrap();
    let place = |path: &Path| fs::metadata(path).unwrap().ino();

    let imported = store.import_file(&path, ImportOptions::default()).unwrap();
    assert_ne!(
        place(&store.path_of(&imported.digest).unwrap()),
        place(&path)
    );

    let options = || ImportOptions {
        link: Link::Hardlink,
        ..ImportOptions::default()
    };
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    for _ in 0..2 {
        let linked = store.import_file(&path, options()).unwrap();
        assert_eq!(linked.digest, imported.digest);
        assert_eq!(place(&store.path_of(&linked.digest).unwrap()), place(&path));
        assert_eq!(read(&store, &linked.digest), bytes);
    }
    // Its times are the user's.
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
    assert!(files_in(&store.root().join("tmp")).is_empty());
}

#[test]
fn what_cannot_be_cloned_is_copied_or_refused_as_asked() {
    let (dir, store) = store();
    let path = dir.path().join("weights");
    fs::write(&path, blob(100_000)).unwrap();
    let options = ImportOptions {
        link: Link::Reflink,
        ..ImportOptions::default()
    };
    match store.import_file(&path, options) {
        Ok(_) => skipped::because("this file system clones"),
        Err(error) => {
            assert!(matches!(error, Error::CannotLink { .. }), "{error}");
            assert!(error.to_string().contains("import it as a copy"));
            assert!(files_in(&store.root().join("blobs")).is_empty());
        }
    }
    store.import_file(&path, ImportOptions::default()).unwrap();
}

#[test]
fn zeros_take_no_space() {
    let (dir, store) = store();
    let path = dir.path().join("sparse");
    let file = fs::File::create(&path).unwrap();
    file.set_len(64 << 20).unwrap();
    let imported = store.import_file(&path, ImportOptions::default()).unwrap();
    assert_eq!(imported.len, 64 << 20);
    assert_eq!(store.verify(&imported.digest).unwrap(), 64 << 20);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let stored = fs::metadata(store.path_of(&imported.digest).unwrap()).unwrap();
        assert!(stored.blocks() * 512 < 1 << 20, "{}", stored.blocks());
    }
}

#[test]
fn a_node_is_the_canonical_form_of_its_value_and_tells_its_links() {
    let (_dir, store) = store();
    let weights = store.put_bytes(b"weights").unwrap();
    let foreign = hash_with(Algorithm::Sha3_512, b"weights");
    let value = (weights, "a text", foreign);
    let node = store.put_node(&value).unwrap();
    let read: (Digest, String, Digest) = store.get_node(&node).unwrap();
    assert_eq!(read, (weights, "a text".into(), foreign));
    assert_eq!(store.links(&node).unwrap(), [weights].into());

    let bytes = store.get_node_bytes(&node).unwrap();
    assert_eq!(hash(&bytes), node);
    assert_eq!(store.put_node_bytes(&bytes).unwrap(), node);
    let error = store.put_node_bytes(b"\x18\x01").unwrap_err();
    assert!(matches!(error, Error::Canonical { .. }), "{error}");
    let error = store.get_node::<u64>(&node).unwrap_err();
    assert!(
        error.to_string().contains("another kind of node"),
        "{error}"
    );
}

#[test]
fn a_node_is_no_blob_and_a_blob_is_no_node() {
    let (_dir, store) = store();
    let node = store.put_node(&7).unwrap();
    assert!(matches!(store.get(&node), Err(Error::Missing { .. })));
    let blob = store.put_bytes(b"\x08").unwrap();
    assert!(matches!(
        store.get_node_bytes(&blob),
        Err(Error::Missing { .. })
    ));
}

#[test]
fn only_blake3_names_objects() {
    let (_dir, store) = store();
    let foreign = hash_with(Algorithm::Sha256, b"x");
    assert!(!store.contains(&foreign));
    assert!(matches!(
        store.get(&foreign),
        Err(Error::ForeignDigest { .. })
    ));
}

#[test]
fn the_size_is_counted_and_what_is_over_the_budget_told() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(dir.path(), Options::with_budget(1000)).unwrap();
    assert_eq!(store.over_budget().unwrap(), 0);
    store.put_bytes(&[1; 900]).unwrap();
    assert_eq!(store.over_budget().unwrap(), 0);
    store.put_bytes(&[2; 900]).unwrap();
    assert_eq!(store.size().unwrap(), 1800);
    assert_eq!(store.over_budget().unwrap(), 800);
}

#[test]
fn threads_share_a_handle() {
    let (_dir, store) = store();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let store = &store;
            scope.spawn(move || {
                for at in 0..20_u8 {
                    let own = store.put_bytes(&[thread, at]).unwrap();
                    let common = store.put_bytes(&vec![at; 100_000]).unwrap();
                    assert_eq!(read(store, &own), [thread, at]);
                    assert_eq!(store.verify(&common).unwrap(), 100_000);
                }
            });
        }
    });
    let report = store.scrub(None).unwrap();
    assert!(report.is_clean() && report.sound == 100, "{report:?}");
}
