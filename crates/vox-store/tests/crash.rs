//! `kill -9` at random points of imports, changes of references and garbage collection.
//!
//! Another process works on a store, says before each step what it is about to do and after it that it
//! is done, and is killed after a random number of words. Then the store is opened: nothing that was
//! said to be done is lost, nothing half done is visible, and what was repaired is said.
//!
//! `VOX_CRASH_ROUNDS` is the number of rounds, `VOX_CRASH_SEED` the seed; the same seed gives the same
//! steps, though not the same moments.

mod child;
mod fixture;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use child::{Other, role, say};
use fixture::nothing;
use vox_crypto::{Algorithm, Digest};
use vox_store::{Class, GcOptions, ImportOptions, Options, Repair, Store};

/// Marsaglia's xorshift: the steps of a round follow from its seed.
struct Random(u64);

impl Random {
    fn of(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.below(1);
        random
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        let mut bytes = vec![self.below(256) as u8; len as usize];
        for chunk in bytes.chunks_mut(4096) {
            chunk[0] = self.below(256) as u8;
        }
        bytes
    }
}

#[test]
fn plays_the_other_process() {
    let Some((seed, root)) = role() else { return };
    let mut random = Random::of(seed.parse().unwrap());
    let (store, _) = Store::open(&root, Options::default()).unwrap();
    say("opened");
    let mut known = Vec::new();
    loop {
        step(&store, &mut random, &mut known);
    }
}

/// Does one of the things that change a store.
fn step(store: &Store, random: &mut Random, known: &mut Vec<Digest>) {
    let name = format!("r{}", random.below(6));
    match random.below(10) {
        0 => known.push(put(|| store.put_bytes(b"small").unwrap())),
        1 => {
            let len = random.below(400_000);
            let bytes = random.bytes(len);
            known.push(put(|| store.put_bytes(&bytes).unwrap()));
        }
        2 => {
            let bytes = random.bytes(1_300_000);
            known.push(put(|| {
                let mut writer = store
                    .writer()
                    .unwrap()
                    .also(&[Algorithm::Sha3_512])
                    .unwrap();
                for piece in bytes.chunks(300_000) {
                    writer.write_all(piece).unwrap();
                    say("writing");
                }
                writer.commit().unwrap().digest
            }));
        }
        3 => {
            let file = store.root().with_extension("file");
            fs::write(&file, random.bytes(2_500_000)).unwrap();
            known.push(put(|| {
                let mut watch = |_| {
                    say("importing");
                    ControlFlow::Continue(())
                };
                let options = ImportOptions {
                    watch: Some(&mut watch),
                    ..ImportOptions::default()
                };
                store.import_file(&file, options).unwrap().digest
            }));
        }
        4..=6 => {
            let links: Vec<_> = known.iter().rev().take(3).copied().collect();
            let value = (random.below(u64::MAX), links);
            let node = put(|| store.put_node(&value).unwrap());
            known.push(node);
            say(&format!("set {name} {node}"));
            store
                .set_ref("crash", &name, &node, Class::Evictable)
                .unwrap();
            say("done");
        }
        7 => {
            say(&format!("remove {name}"));
            store.remove_ref("crash", &name).unwrap();
            say("done");
        }
        8 => {
            say("collect");
            store.gc(&mut nothing, GcOptions::default()).unwrap();
            say("done");
        }
        _ => {
            say("scrub");
            assert!(store.scrub(None).unwrap().broken.is_empty());
            say("done");
        }
    }
}

fn put(put: impl FnOnce() -> Digest) -> Digest {
    say("put");
    let digest = put();
    say(&format!("stored {digest}"));
    digest
}

/// What the process said to be done.
#[derive(Default)]
struct Said {
    opened: bool,
    stored: Vec<Digest>,
    refs: BTreeMap<String, Digest>,
    /// A reference whose change was begun, and what it was to become.
    open_change: Option<(String, Option<Digest>)>,
}

impl Said {
    fn hear(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["opened"] => self.opened = true,
            ["stored", digest] => self.stored.push(digest.parse().unwrap()),
            ["set", name, digest] => {
                self.open_change = Some((name.into(), Some(digest.parse().unwrap())));
            }
            ["remove", name] => self.open_change = Some((name.into(), None)),
            ["done"] => match self.open_change.take() {
                Some((name, Some(digest))) => drop(self.refs.insert(name, digest)),
                Some((name, None)) => drop(self.refs.remove(&name)),
                None => {}
            },
            ["put" | "writing" | "importing" | "collect" | "scrub"] => {}
            _ => panic!("the other process failed: {line}"),
        }
    }
}

/// One process that is killed, and what is found then; returns the references that are set.
fn round(root: &Path, seed: u64, refs: BTreeMap<String, Digest>) -> BTreeMap<String, Digest> {
    let mut random = Random::of(seed ^ 0xdead);
    let mut said = Said {
        refs,
        ..Said::default()
    };
    let mut other = Other::start(&seed.to_string(), root);
    for _ in 0..random.below(40) {
        let line = other.hear().expect("it goes on until it is killed");
        said.hear(&line);
    }
    let id = other.id();
    for line in other.kill() {
        said.hear(&line);
    }

    let (store, opened) = Store::open(root, Options::default()).unwrap();
    let freed = Repair::Lease { process: Some(id) };
    assert!(
        !said.opened || opened.repairs.contains(&freed),
        "{opened:?}"
    );
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(root.join("leases")).unwrap().count(), 1);

    for digest in &said.stored {
        assert!(store.contains(digest), "{digest} was stored and is lost");
    }
    let report = store.scrub(None).unwrap();
    assert!(report.is_clean(), "{report:?}");

    let found: BTreeMap<_, _> = store
        .refs("crash")
        .unwrap()
        .into_iter()
        .map(|found| (found.name.name().to_owned(), found.digest))
        .collect();
    let mut expected = said.refs.clone();
    if let Some((name, change)) = said.open_change
        && found.get(&name) == change.as_ref()
    {
        // It was done and could not be said any more.
        match change {
            Some(digest) => drop(expected.insert(name, digest)),
            None => drop(expected.remove(&name)),
        }
    }
    assert_eq!(found, expected);

    // What is left is what is needed: nothing that the dead process had claimed alone.
    let collected = store.gc(&mut nothing, GcOptions::default()).unwrap();
    assert_eq!(collected.kept.by_processes.objects, 0);
    let report = store.scrub(None).unwrap();
    assert!(report.is_clean(), "{report:?}");
    found
}

#[test]
fn whenever_a_process_is_killed_nothing_acknowledged_is_lost_and_nothing_half_done_is_visible() {
    let number = |name: &str, default: u64| {
        let given = std::env::var(name).ok().map(|text| text.parse());
        given.transpose().unwrap().unwrap_or(default)
    };
    let rounds = number("VOX_CRASH_ROUNDS", 120);
    let seed = number("VOX_CRASH_SEED", 1);
    let mut place = None;
    let mut refs = BTreeMap::new();
    for at in 0..rounds {
        // Now and then a new store: it is killed while it is made, too.
        if at % 15 == 0 {
            place = None;
            refs.clear();
        }
        let dir = place.get_or_insert_with(|| tempfile::tempdir().unwrap());
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(at);
        eprintln!("round {at} with seed {seed}");
        refs = round(&dir.path().join("store"), seed, refs);
    }
}
