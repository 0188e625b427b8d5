//! Several processes with one store: none takes what another needs, and the dead need nothing.

mod child;
mod fixture;

use std::io::{BufRead as _, Write as _};
use std::path::Path;

use child::{Other, role, say};
use fixture::nothing;
use vox_crypto::Digest;
use vox_store::{Class, Error, GcOptions, ImportOptions, Kind, Options, Repair, Store};

fn open(root: &Path) -> Store {
    Store::open(root, Options::default()).unwrap().0
}

fn gc(store: &Store) -> Vec<(Kind, Digest)> {
    store
        .gc(&mut nothing, GcOptions::default())
        .unwrap()
        .removed
}

#[test]
fn plays_the_other_process() {
    let Some((role, root)) = role() else { return };
    match role.split_once(' ').unwrap_or((&role, "")) {
        ("hold", _) => hold(&root),
        ("collect", rounds) => {
            let store = open(&root);
            for _ in 0..rounds.parse().unwrap() {
                gc(&store);
            }
        }
        ("produce", name) => produce(&root, name),
        ("count", rounds) => count(&root, rounds.parse().unwrap()),
        ("import", file) => {
            let store = open(&root);
            say("ready");
            wait();
            let blob = store.import_file(file, ImportOptions::default()).unwrap();
            say(&blob.digest.to_string());
        }
        (other, _) => panic!("{other}"),
    }
}

/// Waits until the other side speaks or closes.
fn wait() {
    std::io::stdin()
        .lock()
        .read_line(&mut String::new())
        .unwrap();
}

fn hold(root: &Path) {
    let store = open(root);
    let mut unfinished = store.writer().unwrap();
    unfinished.write_all(&[1; 3 << 20]).unwrap();
    let digest = store.put_bytes(b"just written").unwrap();
    let node = store.put_node(&[digest]).unwrap();
    say(&node.to_string());
    wait();
}

/// Stores bundles, of which every third stays, and looks again at all of them.
fn produce(root: &Path, name: &str) {
    let store = open(root);
    let mut bundles = Vec::new();
    for at in 0..30_u64 {
        let work = store.with_own_lease().unwrap();
        let text = format!("{name} {at} ").repeat(if at % 2 == 0 { 1 } else { 20_000 });
        let blob = work.put_bytes(text.as_bytes()).unwrap();
        // Both producers store it again and again, and collectors remove it whenever they can.
        let common = work
            .put_bytes(format!("common {}", at % 3).as_bytes())
            .unwrap();
        let node = work.put_node(&[blob, common]).unwrap();
        assert_eq!(work.verify(&common).unwrap(), 8);
        if at % 3 == 0 {
            work.set_ref("bundles", &format!("{name} {at}"), &node, Class::Kept)
                .unwrap();
            bundles.push(node);
        }
        drop(work);
        for node in &bundles {
            for digest in store.get_node::<Vec<Digest>>(node).unwrap() {
                store.verify(&digest).unwrap();
            }
        }
    }
}

/// Adds one to a number that a reference names, together with others.
fn count(root: &Path, rounds: u64) {
    let store = open(root);
    for _ in 0..rounds {
        loop {
            let before = store.get_ref("counter", "n").unwrap();
            let number = before
                .as_ref()
                .map_or(0, |found| store.get_node::<u64>(&found.digest).unwrap());
            let next = store.put_node(&(number + 1)).unwrap();
            let expected = before.as_ref().map(|found| &found.digest);
            let new = Some((&next, Class::Kept));
            match store.compare_and_set_ref("counter", "n", expected, new) {
                Ok(()) => break,
                Err(Error::RefMoved(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn gc_does_not_take_what_a_living_process_has_just_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = Other::start("hold", dir.path());
    let node: Digest = other.hear().unwrap().parse().unwrap();
    let (store, opened) = Store::open(dir.path(), Options::default()).unwrap();
    assert!(opened.repairs.is_empty());
    assert!(gc(&store).is_empty());
    let why = store.why(&node, &mut nothing).unwrap();
    assert_eq!(why[0].to_string(), format!("process {}", other.id()));

    let (_, status) = other.finish();
    assert!(status.success());
    assert_eq!(gc(&store).len(), 2);
    let (_, opened) = Store::open(dir.path(), Options::default()).unwrap();
    assert!(opened.repairs.is_empty());
}

#[test]
fn what_a_killed_process_claimed_and_had_not_finished_goes_and_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = Other::start("hold", dir.path());
    let node: Digest = other.hear().unwrap().parse().unwrap();
    let id = other.id();
    other.kill();
    let (store, opened) = Store::open(dir.path(), Options::default()).unwrap();
    let [Repair::Unfinished { bytes, .. }, Repair::Lease { process }] = &opened.repairs[..] else {
        panic!("{opened:?}")
    };
    assert_eq!((*bytes, *process), (3 << 20, Some(id)));
    assert!(opened.repairs[1].to_string().contains(&id.to_string()));
    assert!(store.contains(&node));
    assert_eq!(gc(&store).len(), 2);
}

#[test]
fn gc_itself_frees_what_a_killed_process_claimed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut other = Other::start("hold", dir.path());
    other.hear().unwrap();
    assert!(gc(&store).is_empty());
    other.kill();
    let report = store.gc(&mut nothing, GcOptions::default()).unwrap();
    assert_eq!(report.removed.len(), 2);
    assert_eq!(report.repairs.len(), 2);
}

#[test]
fn processes_store_and_collect_at_once_and_nothing_needed_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let others = ["produce a", "produce b", "collect 60", "collect 60"]
        .map(|role| Other::start(role, dir.path()));
    for other in others {
        let (said, status) = other.finish();
        assert!(status.success(), "{said:#?}");
    }
    let store = open(dir.path());
    assert_eq!(store.refs("bundles").unwrap().len(), 20);
    gc(&store);
    let report = store.scrub(None).unwrap();
    assert!(report.is_clean(), "{report:?}");
    // Ten nodes and blobs of each, and what they share.
    assert_eq!(report.sound, 20 + 20 + 1);
}

#[test]
fn conditional_changes_by_several_processes_are_all_counted() {
    let dir = tempfile::tempdir().unwrap();
    let others = ["count 25"; 3].map(|role| Other::start(role, dir.path()));
    for other in others {
        let (said, status) = other.finish();
        assert!(status.success(), "{said:#?}");
    }
    let store = open(dir.path());
    let found = store.get_ref("counter", "n").unwrap().unwrap();
    assert_eq!(store.get_node::<u64>(&found.digest).unwrap(), 75);
}

#[test]
fn one_file_that_several_processes_import_at_once_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let (root, file) = (dir.path().join("store"), dir.path().join("file"));
    std::fs::write(&file, vec![7; 3 << 20]).unwrap();
    let role = format!("import {}", file.display());
    let mut others = [(); 3].map(|()| Other::start(&role, &root));
    for other in &mut others {
        assert_eq!(other.hear().as_deref(), Some("ready"));
    }
    let heard = others.map(|other| other.finish().0);
    assert!(
        heard
            .iter()
            .all(|lines| lines.len() == 1 && lines == &heard[0])
    );
    let store = open(&root);
    let report = store.scrub(None).unwrap();
    assert!(report.is_clean() && report.sound == 1, "{report:?}");
}
