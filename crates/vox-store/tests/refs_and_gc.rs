//! References, pins, garbage collection and eviction: what is needed stays, whatever else goes.

mod fixture;

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

use fixture::{nothing, overwrite};
use vox_crypto::{Algorithm, Digest, hash, hash_with};
use vox_store::{
    BoxError, Class, Error, EvictReport, GcOptions, GcReport, Kind, Options, PINS, Reason, Store,
};

/// A store that several handles open one after the other.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Store {
        Store::open(self.0.path(), Options::default()).unwrap().0
    }

    /// Stores a node with one blob for each text, and forgets its claim on them.
    fn bundle(&self, texts: &[&str]) -> (Digest, Vec<Digest>) {
        let store = self.open();
        let blobs: Vec<_> = texts
            .iter()
            .map(|text| store.put_bytes(text.as_bytes()).unwrap())
            .collect();
        (store.put_node(&blobs).unwrap(), blobs)
    }
}

fn gc(store: &Store) -> GcReport {
    store.gc(&mut nothing, GcOptions::default()).unwrap()
}

#[test]
fn a_reference_names_what_it_was_set_to_last() {
    let place = Place::new();
    let store = place.open();
    let (one, two) = (
        store.put_bytes(b"1").unwrap(),
        store.put_bytes(b"2").unwrap(),
    );
    assert_eq!(store.get_ref("runs", "last").unwrap(), None);
    store.set_ref("runs", "last", &one, Class::Kept).unwrap();
    store
        .set_ref("runs", "last", &two, Class::Evictable)
        .unwrap();
    let found = store.get_ref("runs", "last").unwrap().unwrap();
    assert_eq!((found.digest, found.class), (two, Class::Evictable));
    assert!(found.time.elapsed().unwrap() < Duration::from_secs(600));
    assert!(store.remove_ref("runs", "last").unwrap());
    assert!(!store.remove_ref("runs", "last").unwrap());
    assert_eq!(store.get_ref("runs", "last").unwrap(), None);
    assert!(!store.remove_ref("never", "was").unwrap());
}

#[test]
fn references_are_listed_by_namespace_and_name() {
    let place = Place::new();
    let store = place.open();
    let digest = store.put_bytes(b"x").unwrap();
    let names = ["b", "a", "Ä/ö", "..", "org/model@main"];
    for name in names {
        store.set_ref("models", name, &digest, Class::Kept).unwrap();
    }
    store.pin("mine", &digest).unwrap();
    let listed: Vec<_> = store
        .refs("models")
        .unwrap()
        .into_iter()
        .map(|found| found.name.name().to_owned())
        .collect();
    assert_eq!(listed, ["..", "a", "b", "org/model@main", "Ä/ö"]);
    assert_eq!(store.namespaces().unwrap(), ["models", PINS]);
    assert_eq!(store.all_refs().unwrap().len(), 6);
    assert!(store.refs("nothing").unwrap().is_empty());
}

#[test]
fn a_conditional_change_happens_only_if_nobody_came_between() {
    let place = Place::new();
    let store = place.open();
    let (one, two) = (
        store.put_bytes(b"1").unwrap(),
        store.put_bytes(b"2").unwrap(),
    );
    let set = |expected: Option<&Digest>, new: Option<&Digest>| {
        let new = new.map(|digest| (digest, Class::Kept));
        store.compare_and_set_ref("runs", "r", expected, new)
    };
    set(None, Some(&one)).unwrap();
    for (expected, new) in [
        (None, Some(&two)),
        (Some(&two), None),
        (Some(&two), Some(&one)),
    ] {
        let error = set(expected, new).unwrap_err();
        let Error::RefMoved(moved) = &error else {
            panic!("{error}")
        };
        assert_eq!(moved.found, Some(one));
        assert!(error.to_string().contains("runs/r"), "{error}");
    }
    set(Some(&one), Some(&two)).unwrap();
    set(Some(&two), None).unwrap();
    assert_eq!(store.get_ref("runs", "r").unwrap(), None);
}

#[test]
fn a_reference_is_set_only_to_what_is_here_in_whole() {
    let place = Place::new();
    let store = place.open();
    let absent = hash(b"absent");
    let error = store.set_ref("m", "a", &absent, Class::Kept).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Missing {
                needed_by: None,
                ..
            }
        ),
        "{error}"
    );

    let inner = store.put_node(&[absent]).unwrap();
    let outer = store.put_node(&[inner]).unwrap();
    let error = store.set_ref("m", "a", &outer, Class::Kept).unwrap_err();
    let Error::Missing { digest, needed_by } = &error else {
        panic!("{error}")
    };
    assert_eq!(*digest, absent);
    assert_eq!(*needed_by, Some(format!("node {inner}")));
    assert_eq!(store.get_ref("m", "a").unwrap(), None);

    store.put_bytes(b"absent").unwrap();
    store.set_ref("m", "a", &outer, Class::Kept).unwrap();
    // A digest by another algorithm links to nothing here.
    let foreign = hash_with(Algorithm::Sha3_512, b"absent");
    let node = store.put_node(&[foreign]).unwrap();
    store.set_ref("m", "b", &node, Class::Kept).unwrap();
}

#[test]
fn garbage_goes_and_what_a_reference_leads_to_stays() {
    let place = Place::new();
    let (needed, blobs) = place.bundle(&["a", "b"]);
    let (unneeded, others) = place.bundle(&["b", "c"]);
    let store = place.open();
    store.set_ref("models", "m", &needed, Class::Kept).unwrap();
    let dry = store
        .gc(&mut nothing, GcOptions::default().dry_run())
        .unwrap();
    assert!(dry.dry_run && store.contains(&unneeded));

    let report = gc(&store);
    assert_eq!(report.removed, dry.removed);
    assert_eq!(report.freed, dry.freed);
    assert_eq!(report.kept, dry.kept);
    assert_eq!(
        report.removed,
        [(Kind::Node, unneeded), (Kind::Blob, others[1])]
    );
    assert_eq!(report.kept.by_kept_refs.objects, 3);
    assert!(store.contains(&needed) && blobs.iter().all(|blob| store.contains(blob)));
    assert!(!store.contains(&unneeded) && !store.contains(&others[1]));

    store.remove_ref("models", "m").unwrap();
    let report = gc(&store);
    assert_eq!(report.removed.len(), 3);
    assert_eq!(store.size().unwrap(), 0);
}

#[test]
fn what_the_caller_needs_stays_with_all_it_links_to() {
    let place = Place::new();
    let (node, blobs) = place.bundle(&["a"]);
    let (other, _) = place.bundle(&["b"]);
    let store = place.open();
    let mut roots = |need: &mut dyn FnMut(Digest)| -> Result<(), BoxError> {
        need(node);
        need(hash(b"long gone"));
        need(hash_with(Algorithm::Sha3_512, b"foreign"));
        Ok(())
    };
    let report = store.gc(&mut roots, GcOptions::default()).unwrap();
    assert_eq!(report.kept.by_roots.objects, 2);
    assert!(store.contains(&blobs[0]) && !store.contains(&other));
    assert_eq!(
        store.why(&blobs[0], &mut roots).unwrap(),
        [Reason::Root { digest: node }]
    );
}

#[test]
fn nothing_goes_when_the_caller_cannot_say_what_it_needs() {
    let place = Place::new();
    let (node, _) = place.bundle(&["a"]);
    let store = place.open();
    let mut roots = |_: &mut dyn FnMut(Digest)| Err("the log is torn".into());
    let error = store.gc(&mut roots, GcOptions::default()).unwrap_err();
    assert!(error.to_string().contains("the log is torn"), "{error}");
    let error = store.evict(0, &mut roots).unwrap_err();
    assert!(matches!(error, Error::Roots(_)), "{error}");
    assert!(store.contains(&node));
}

#[test]
fn what_a_handle_wrote_or_opened_stays_until_it_is_dropped() {
    let place = Place::new();
    let (node, blobs) = place.bundle(&["opened"]);
    let collector = place.open();
    let worker = place.open();
    let written = worker.put_bytes(b"written").unwrap();
    worker.get_node_bytes(&node).unwrap();
    let report = gc(&collector);
    assert!(report.removed.is_empty());
    assert_eq!(report.kept.by_processes.objects, 3);
    let id = Some(std::process::id());
    let why = collector.why(&blobs[0], &mut nothing).unwrap();
    assert_eq!(why, [Reason::Process { id }]);

    let clone = worker.clone();
    drop(worker);
    assert!(gc(&collector).removed.is_empty());
    drop(clone);
    assert_eq!(gc(&collector).removed.len(), 3);
    assert!(!collector.contains(&written));
}

#[test]
fn a_handle_with_a_lease_of_its_own_frees_what_it_held_alone() {
    let place = Place::new();
    let server = place.open();
    let work = server.with_own_lease().unwrap();
    let digest = work.put_bytes(b"for one piece of work").unwrap();
    assert!(gc(&server).removed.is_empty());
    drop(work);
    assert_eq!(gc(&server).removed, [(Kind::Blob, digest)]);
}

#[test]
fn what_is_held_stays_and_what_is_gone_cannot_be_held() {
    let place = Place::new();
    let digest = place.open().put_bytes(b"x").unwrap();
    let (holder, collector) = (place.open(), place.open());
    holder.hold(&digest).unwrap();
    assert!(gc(&collector).removed.is_empty());
    drop(holder);
    assert_eq!(gc(&collector).removed.len(), 1);
    let error = collector.hold(&digest).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}

#[test]
fn what_is_young_stays_when_asked_for_with_what_it_links_to() {
    let place = Place::new();
    let (node, blobs) = place.bundle(&["old blob"]);
    let store = place.open();
    let path = |kind: &str, digest: &Digest| {
        let hex = digest.to_hex();
        place.0.path().join(kind).join(&hex[..2]).join(&hex[2..])
    };
    let hours = |hours: u64| SystemTime::now() - Duration::from_secs(3600 * hours);
    set_time(&path("blobs", &blobs[0]), hours(10));
    let options = GcOptions::default().min_age(Duration::from_secs(3600));
    let report = store.gc(&mut nothing, options).unwrap();
    assert!(report.removed.is_empty());
    assert_eq!(report.kept.by_age.objects, 2);
    set_time(&path("nodes", &node), hours(2));
    let report = store.gc(&mut nothing, options).unwrap();
    assert_eq!(report.removed.len(), 2);
}

fn set_time(path: &Path, time: SystemTime) {
    let file = File::open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

#[test]
fn why_names_every_reference_that_leads_to_an_object() {
    let place = Place::new();
    let (node, blobs) = place.bundle(&["shared"]);
    let store = place.open();
    store
        .set_ref("models", "m", &node, Class::Evictable)
        .unwrap();
    store.pin("p", &blobs[0]).unwrap();
    let other = place.bundle(&["other"]).0;
    store.pin("q", &other).unwrap();
    let why: Vec<_> = store
        .why(&blobs[0], &mut nothing)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(why, ["ref models/m (evictable)", "ref pins/p (kept)"]);
    assert!(
        store
            .why(&hash(b"nothing"), &mut nothing)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_node_that_cannot_be_read_stops_garbage_collection() {
    let place = Place::new();
    let (node, blobs) = place.bundle(&["a"]);
    let (unneeded, _) = place.bundle(&["b"]);
    let store = place.open();
    store.pin("p", &node).unwrap();
    let hex = node.to_hex();
    let path = place.0.path().join("nodes").join(&hex[..2]).join(&hex[2..]);
    let sound = fs::read(&path).unwrap();

    let mut damaged = sound.clone();
    damaged[5] ^= 1;
    overwrite(&path, &damaged);
    let error = store.gc(&mut nothing, GcOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    let error = store.evict(0, &mut nothing).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");

    fs::remove_file(&path).unwrap();
    let error = store.gc(&mut nothing, GcOptions::default()).unwrap_err();
    assert!(error.to_string().contains("ref pins/p needs it"), "{error}");
    assert!(store.contains(&blobs[0]) && store.contains(&unneeded));

    store.put_node_bytes(&sound).unwrap();
    assert_eq!(gc(&store).removed.len(), 2);
}

#[test]
fn a_reference_that_cannot_be_read_stops_garbage_collection_and_can_be_removed() {
    let place = Place::new();
    let (node, _) = place.bundle(&["a"]);
    let store = place.open();
    store.pin("p", &node).unwrap();
    let path = place.0.path().join("refs/pins/p");
    let sound = fs::read(&path).unwrap();
    for at in 0..sound.len() {
        let mut damaged = sound.clone();
        damaged[at] ^= 1;
        overwrite(&path, &damaged);
        let error = store.get_ref(PINS, "p").unwrap_err();
        assert!(matches!(error, Error::BadRef { .. }), "{at}: {error}");
    }
    overwrite(&path, &sound[..sound.len() / 2]);
    let error = store.gc(&mut nothing, GcOptions::default()).unwrap_err();
    assert!(matches!(error, Error::BadRef { .. }), "{error}");
    assert!(store.contains(&node));
    assert!(store.unpin("p").unwrap());
    assert_eq!(gc(&store).removed.len(), 2);
}

/// Sets references of class evictable to one blob of 1000 bytes each, the first used longest ago.
fn evictable(place: &Place, names: &[&str]) -> BTreeMap<String, Digest> {
    let mut digests = BTreeMap::new();
    for (at, name) in names.iter().enumerate() {
        let store = place.open();
        let digest = store.put_bytes(&[at as u8; 1000]).unwrap();
        store
            .set_ref("cache", name, &digest, Class::Evictable)
            .unwrap();
        digests.insert((*name).to_owned(), digest);
    }
    for (at, name) in names.iter().enumerate() {
        // Later than the references were set.
        let used = SystemTime::now() + Duration::from_secs(3600 * (at as u64 + 1));
        let hex = digests[*name].to_hex();
        set_time(
            &place.0.path().join("blobs").join(&hex[..2]).join(&hex[2..]),
            used,
        );
    }
    digests
}

fn evicted(report: &EvictReport) -> Vec<&str> {
    report.evicted.iter().map(|name| name.name()).collect()
}

#[test]
fn what_was_not_used_for_longest_is_evicted_first_until_the_rest_fits() {
    let place = Place::new();
    let digests = evictable(&place, &["oldest", "older", "newer", "newest"]);
    let store = place.open();
    let report = store.evict(4000, &mut nothing).unwrap();
    assert!(report.evicted.is_empty() && report.over == 0);
    let planned = store.plan_eviction(2500, &mut nothing).unwrap();
    assert!(store.contains(&digests["oldest"]));
    assert_eq!(store.refs("cache").unwrap().len(), 4);
    let report = store.evict(2500, &mut nothing).unwrap();
    assert_eq!(report, planned);
    assert_eq!(evicted(&report), ["oldest", "older"]);
    assert_eq!((report.freed, report.over), (2000, 0));
    assert!(!store.contains(&digests["older"]) && store.contains(&digests["newer"]));
    assert_eq!(store.refs("cache").unwrap().len(), 2);
}

#[test]
fn what_nobody_needs_is_evicted_before_any_reference() {
    let place = Place::new();
    evictable(&place, &["a", "b"]);
    place.bundle(&["unneeded"]);
    let store = place.open();
    let report = store.evict(2000, &mut nothing).unwrap();
    assert!(report.evicted.is_empty());
    assert_eq!(report.removed.len(), 2);
    assert_eq!(report.over, 0);
}

#[test]
fn pins_the_log_and_running_processes_are_never_evicted() {
    let place = Place::new();
    let digests = evictable(&place, &["pinned", "logged", "opened", "free"]);
    let store = place.open();
    store.pin("p", &digests["pinned"]).unwrap();
    let logged = digests["logged"];
    let reader = place.open();
    reader.get(&digests["opened"]).unwrap();
    let mut roots = |need: &mut dyn FnMut(Digest)| -> Result<(), BoxError> {
        need(logged);
        Ok(())
    };
    let report = store.evict(500, &mut roots).unwrap();
    // A reference to what stays anyhow frees nothing, so that it stays too.
    assert_eq!(evicted(&report), ["free"]);
    assert_eq!(report.over, 2500);
    assert_eq!(report.kept.by_kept_refs.bytes, 1000);
    assert_eq!(report.kept.by_roots.bytes, 1000);
    assert_eq!(report.kept.by_processes.bytes, 1000);
}

#[test]
fn an_object_that_two_references_share_goes_with_the_last_of_them() {
    let place = Place::new();
    let digests = evictable(&place, &["old", "new"]);
    let store = place.open();
    let shared = digests["new"];
    store
        .set_ref("cache", "also", &shared, Class::Evictable)
        .unwrap();
    let report = store.evict(1000, &mut nothing).unwrap();
    assert_eq!(evicted(&report), ["old"]);
    let report = store.evict(999, &mut nothing).unwrap();
    assert_eq!(report.evicted.len(), 2);
    assert!(!store.contains(&shared));
}

#[test]
fn who_does_not_wait_is_told_that_others_publish() {
    let place = Place::new();
    let store = place.open();
    let lock = File::open(place.0.path().join("lock"));
    let lock = lock.or_else(|_| File::create(place.0.path().join("lock")));
    let lock = lock.unwrap();
    lock.lock_shared().unwrap();
    let options = GcOptions::default().without_waiting();
    let error = store.gc(&mut nothing, options).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    // Those who publish share it.
    store.put_bytes(b"x").unwrap();
    lock.unlock().unwrap();
    store.gc(&mut nothing, options).unwrap();
}
