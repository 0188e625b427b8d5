//! What every plugin that serves the extension point `storage` must do, as tests.
//!
//! A plugin runs all of them on its own back end by naming what opens an empty one:
//!
//! ```text
//! fn storage() -> Option<(Local, TempDir)> { … }
//!
//! storage_conformance::promises!(storage);
//! ```
//!
//! The function answers the storage and whatever must live beside it, or nothing where the back end
//! cannot be had, after it has printed why. Each promise is a function here, named after what it
//! promises. Tests of one process run at the same time: each gets a storage of its own.

#![allow(
    clippy::missing_panics_doc,
    reason = "a promise panics when it is broken"
)]

use vox_plugin::{Error, Storage};

/// Makes a test of every promise.
#[macro_export]
macro_rules! promises {
    ($open:path) => {
        $crate::promises! {
            $open:
            an_object_is_visible_only_after_commit
            an_aborted_upload_leaves_nothing
            a_commit_replaces_the_older_object
            an_empty_object_exists
            a_range_ends_at_the_end_of_the_object
            twenty_mebibytes_survive_many_appends
            a_listing_is_in_key_order
            a_listing_pages_by_prefix_after_and_limit
            odd_keys_stay_apart
            keys_that_no_back_end_takes_are_refused
            two_uploads_of_one_key_stay_whole
            the_second_removal_finds_nothing
            what_does_not_exist_is_not_found
        }
    };
    ($open:path: $($promise:ident)+) => {
        $(
            #[test]
            fn $promise() {
                if let Some((mut storage, _beside)) = $open() {
                    $crate::$promise(&mut storage);
                }
            }
        )+
    };
}

/// Keys that a file system, an address or a listing in XML could get wrong.
const ODD_KEYS: [&str; 17] = [
    " leading and trailing ",
    "..name",
    "Name",
    "a&b<c>\"d'e",
    "a+b=c?d#e%20f%2Fg",
    "a/b",
    "a/b/c",
    "a!",
    "back\\slash:*|",
    "con.",
    "dots..in/..between..",
    "line\nbreak\ttab",
    "name",
    "emoji 🦀/ünïcödé",
    "עברית/العربية",
    "trailing/slash",
    "~$;@,()[]{}^`",
];

/// Writes an object in one piece.
fn put(storage: &mut dyn Storage, key: &str, data: &[u8]) {
    let upload = storage.begin(key).unwrap();
    storage.append(upload, data).unwrap();
    storage.commit(upload).unwrap();
}

/// Reads an object whole.
fn get(storage: &mut dyn Storage, key: &str) -> Vec<u8> {
    storage.read(key, 0, u32::MAX).unwrap()
}

/// The keys of a listing.
fn keys(storage: &mut dyn Storage, prefix: &str, after: &str, limit: u32) -> Vec<String> {
    let entries = storage.enumerate(prefix, after, limit).unwrap();
    entries.into_iter().map(|entry| entry.key).collect()
}

/// Nothing of an upload can be seen before it is committed.
pub fn an_object_is_visible_only_after_commit(storage: &mut dyn Storage) {
    let upload = storage.begin("report").unwrap();
    storage.append(upload, b"one ").unwrap();
    storage.append(upload, b"two").unwrap();
    assert_eq!(storage.stat("report").unwrap(), None);
    assert!(keys(storage, "", "", 10).is_empty());
    storage.commit(upload).unwrap();
    assert_eq!(storage.stat("report").unwrap(), Some(7));
    assert_eq!(get(storage, "report"), b"one two");
    assert_eq!(keys(storage, "", "", 10), ["report"]);
}

/// After an abort neither the object nor the upload is there.
pub fn an_aborted_upload_leaves_nothing(storage: &mut dyn Storage) {
    let upload = storage.begin("report").unwrap();
    storage.append(upload, &vec![7; 6 << 20]).unwrap();
    storage.abort(upload).unwrap();
    assert_eq!(storage.stat("report").unwrap(), None);
    assert!(keys(storage, "", "", 10).is_empty());
    assert!(matches!(storage.commit(upload), Err(Error::NotFound(_))));
    assert!(matches!(storage.abort(upload), Err(Error::NotFound(_))));
}

/// The older object is there until the newer one is, and gone then.
pub fn a_commit_replaces_the_older_object(storage: &mut dyn Storage) {
    put(storage, "report", b"the older and longer");
    let upload = storage.begin("report").unwrap();
    storage.append(upload, b"newer").unwrap();
    assert_eq!(get(storage, "report"), b"the older and longer");
    storage.commit(upload).unwrap();
    assert_eq!(get(storage, "report"), b"newer");
    assert_eq!(storage.stat("report").unwrap(), Some(5));
}

/// An object without bytes is an object.
pub fn an_empty_object_exists(storage: &mut dyn Storage) {
    let upload = storage.begin("empty").unwrap();
    storage.commit(upload).unwrap();
    assert_eq!(storage.stat("empty").unwrap(), Some(0));
    assert!(get(storage, "empty").is_empty());
    assert!(storage.read("empty", 5, 5).unwrap().is_empty());
    let entries = storage.enumerate("", "", 10).unwrap();
    assert_eq!((entries[0].key.as_str(), entries[0].size), ("empty", 0));
}

/// A range may reach beyond the object, or lie there.
pub fn a_range_ends_at_the_end_of_the_object(storage: &mut dyn Storage) {
    put(storage, "digits", b"0123456789");
    for (offset, length, expected) in [
        (0, 4, "0123"),
        (3, 4, "3456"),
        (8, 2, "89"),
        (8, 100, "89"),
        (10, 1, ""),
        (u64::MAX - 1, 9, ""),
        (u64::MAX, u32::MAX, ""),
        (4, 0, ""),
    ] {
        let range = storage.read("digits", offset, length).unwrap();
        assert_eq!(range, expected.as_bytes(), "{length} from {offset}");
    }
}

/// An object that is larger than any part of it that is held in memory.
pub fn twenty_mebibytes_survive_many_appends(storage: &mut dyn Storage) {
    const PIECE: usize = 77_777;
    let data: Vec<u8> = (0..20 << 20_u32)
        .map(|position: u32| (position.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let upload = storage.begin("large").unwrap();
    for piece in data.chunks(PIECE) {
        storage.append(upload, piece).unwrap();
    }
    storage.commit(upload).unwrap();
    assert_eq!(storage.stat("large").unwrap(), Some(data.len() as u64));
    assert!(get(storage, "large") == data, "the bytes differ");
    let middle = 9 << 20;
    let range = storage.read("large", middle as u64, 4096).unwrap();
    assert!(range == data[middle..middle + 4096], "the range differs");
}

/// Key order is the order of the keys' bytes, whatever they are made of.
pub fn a_listing_is_in_key_order(storage: &mut dyn Storage) {
    let mut expected = [
        "b", "a/b", "a", "a!", "a/", "a0", "B", "ä", "a/b/c", "z", "a b",
    ];
    for key in expected {
        put(storage, key, key.as_bytes());
    }
    expected.sort_unstable();
    let entries = storage.enumerate("", "", 100).unwrap();
    let listed: Vec<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(listed, expected);
    for entry in entries {
        assert_eq!(entry.size, entry.key.len() as u64, "{}", entry.key);
    }
}

/// A listing in pages is the whole listing.
pub fn a_listing_pages_by_prefix_after_and_limit(storage: &mut dyn Storage) {
    let all: Vec<_> = (0..9).map(|number| format!("run/{number}")).collect();
    for key in all
        .iter()
        .map(String::as_str)
        .chain(["rum", "run", "runs/1"])
    {
        put(storage, key, b"x");
    }
    assert_eq!(keys(storage, "run/", "", 100), all);
    assert_eq!(keys(storage, "ru", "run/7", 100), ["run/8", "runs/1"]);
    assert_eq!(keys(storage, "run/", "a", 2), all[..2]);
    assert_eq!(keys(storage, "run/", "z", 2), [""; 0]);
    assert_eq!(keys(storage, "none", "", 2), [""; 0]);
    assert_eq!(keys(storage, "", "", 0), [""; 0]);
    let mut paged: Vec<String> = Vec::new();
    loop {
        let after = paged.last().cloned().unwrap_or_default();
        let page = keys(storage, "run/", &after, 2);
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 2);
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

/// Keys that differ name objects that differ, and come back as they were given.
pub fn odd_keys_stay_apart(storage: &mut dyn Storage) {
    let long = ["l".repeat(500), "ö".repeat(250)].concat();
    let longer = format!("{long}/and more");
    let mut expected: Vec<&str> = ODD_KEYS.to_vec();
    expected.extend([long.as_str(), longer.as_str()]);
    for key in &expected {
        put(storage, key, key.as_bytes());
    }
    for key in &expected {
        assert_eq!(get(storage, key), key.as_bytes(), "{key:?}");
    }
    expected.sort_unstable();
    assert_eq!(keys(storage, "", "", 100), expected);
    for (position, key) in expected.iter().enumerate() {
        assert_eq!(keys(storage, "", key, 100), expected[position + 1..]);
        assert_eq!(keys(storage, key, "", 1), [*key]);
    }
    for key in &expected {
        assert!(storage.remove(key).unwrap(), "{key:?}");
    }
    assert!(keys(storage, "", "", 100).is_empty());
}

/// No back end takes a key that another would misread.
pub fn keys_that_no_back_end_takes_are_refused(storage: &mut dyn Storage) {
    let long = "k".repeat(1025);
    for key in ["", "..", ".", "../up", "a/../b", "a/./b", "a/..", &long] {
        let refused = |answer: Result<(), Error>| {
            assert!(
                matches!(answer, Err(Error::Invalid(_))),
                "{key:?}: {answer:?}"
            );
        };
        refused(storage.begin(key).map(drop));
        refused(storage.stat(key).map(drop));
        refused(storage.read(key, 0, 1).map(drop));
        refused(storage.remove(key).map(drop));
    }
}

/// Whoever commits last has the object; nothing of the other is in it.
pub fn two_uploads_of_one_key_stay_whole(storage: &mut dyn Storage) {
    let (first, second) = (storage.begin("k").unwrap(), storage.begin("k").unwrap());
    assert_ne!(first, second);
    for _ in 0..3 {
        storage.append(first, b"1").unwrap();
        storage.append(second, b"22").unwrap();
    }
    storage.commit(second).unwrap();
    assert_eq!(get(storage, "k"), b"222222");
    storage.commit(first).unwrap();
    assert_eq!(get(storage, "k"), b"111");
}

/// Removing says whether there was something to remove.
pub fn the_second_removal_finds_nothing(storage: &mut dyn Storage) {
    put(storage, "a/b/c", b"x");
    assert!(storage.remove("a/b/c").unwrap());
    assert!(!storage.remove("a/b/c").unwrap());
    assert_eq!(storage.stat("a/b/c").unwrap(), None);
    put(storage, "a/b/c", b"y");
    assert_eq!(get(storage, "a/b/c"), b"y");
}

/// Reading what was never written, and uploads that were never begun.
pub fn what_does_not_exist_is_not_found(storage: &mut dyn Storage) {
    assert!(matches!(storage.read("no", 0, 9), Err(Error::NotFound(_))));
    assert!(matches!(storage.read("no", 0, 0), Err(Error::NotFound(_))));
    assert!(matches!(storage.append(99, b"x"), Err(Error::NotFound(_))));
    assert!(matches!(storage.commit(99), Err(Error::NotFound(_))));
    assert!(matches!(storage.abort(99), Err(Error::NotFound(_))));
}
