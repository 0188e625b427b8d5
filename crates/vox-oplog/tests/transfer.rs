//! Logs on other machines: copies that are true, and files that are not.

mod common;

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use common::{copy, key, log_of, note, open, verify};
use proptest::prelude::*;
use vox_oplog::{Class, Error, Fault, Imported, OpLog, Options, Policy, Query, Reader, Replica};

fn export(dir: &Path, from: u64, to: Option<u64>) -> Vec<u8> {
    let mut file = Vec::new();
    let done = Reader::open(dir)
        .unwrap()
        .export(from, to, &mut file)
        .unwrap();
    assert_eq!(done.bytes, file.len() as u64);
    file
}

fn import(dir: &Path, mut file: &[u8]) -> Result<Imported, Error> {
    Replica::open(dir).unwrap().import(&mut file)
}

fn same(a: &Path, b: &Path) {
    let ops = |dir| -> Vec<_> {
        let reader = Reader::open(dir).unwrap();
        reader.ops(Query::default()).map(Result::unwrap).collect()
    };
    assert!(ops(a) == ops(b));
}

#[test]
fn an_imported_log_is_the_same_and_verifies_and_grows_with_the_next_file() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [ours, theirs] = [dirs[0].path(), dirs[1].path()];
    log_of(theirs, 3000);
    let first = import(ours, &export(theirs, 0, Some(1500))).unwrap();
    assert_eq!((first.added, first.known, first.head.0), (1501, 0, 1500));
    let rest = export(theirs, 1000, None);
    let second = import(ours, &rest).unwrap();
    assert_eq!((second.added, second.known), (1500, 501));
    same(ours, theirs);
    // The signed head came with it.
    assert_eq!(verify(ours).unwrap(), verify(theirs).unwrap());
    let third = import(ours, &rest).unwrap();
    assert_eq!((third.added, third.known), (0, 2001));
    // A file that begins right behind the last op.
    open(theirs).append(note("more")).unwrap();
    assert_eq!(import(ours, &export(theirs, 3001, None)).unwrap().added, 1);
    same(ours, theirs);
}

#[test]
fn a_copy_is_not_appended_to_and_a_log_is_not_imported_into() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [ours, theirs] = [dirs[0].path(), dirs[1].path()];
    log_of(theirs, 3);
    assert!(matches!(
        Replica::open(theirs),
        Err(Error::NotAReplica { .. })
    ));
    import(ours, &export(theirs, 0, None)).unwrap();
    let refused = OpLog::open(ours, key(1), Options::default());
    assert!(matches!(refused, Err(Error::Replica { .. })));
}

#[test]
fn a_fork_is_refused_with_both_hashes() {
    let dirs: [_; 3] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let [ours, one, two] = [dirs[0].path(), dirs[1].path(), dirs[2].path()];
    log_of(one, 10);
    copy(one, two);
    let append = |dir: &Path, text: &str| open(dir).append(note(text)).unwrap();
    let (a, b) = (append(one, "this"), append(two, "that"));
    append(two, "and more");
    import(ours, &export(one, 0, None)).unwrap();
    for from in [0, 5, 11] {
        let error = import(ours, &export(two, from, None)).unwrap_err();
        assert!(
            matches!(&error, Error::Fork(fork)
                if (fork.seq, fork.ours, fork.theirs) == (11, a.hash, b.hash)),
            "{error}"
        );
    }
    let error = import(ours, &export(two, 12, None)).unwrap_err();
    assert!(
        matches!(&error, Error::Fork(fork) if fork.seq == 11),
        "{error}"
    );
    same(ours, one);
}

#[test]
fn another_log_and_a_file_that_does_not_reach_are_refused() {
    let dirs: [_; 3] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let [ours, one, two] = [dirs[0].path(), dirs[1].path(), dirs[2].path()];
    log_of(one, 10);
    log_of(two, 10);
    let error = import(ours, &export(one, 3, None)).unwrap_err();
    assert!(
        matches!(error, Error::Unanchored { first: 3, .. }),
        "{error}"
    );
    import(ours, &export(one, 0, Some(4))).unwrap();
    let error = import(ours, &export(one, 6, None)).unwrap_err();
    assert!(
        matches!(error, Error::Unanchored { first: 6, .. }),
        "{error}"
    );
    let error = import(ours, &export(two, 0, None)).unwrap_err();
    assert!(matches!(error, Error::OtherLog { .. }), "{error}");
}

#[test]
fn a_compacted_log_is_imported_and_the_copy_removes_what_the_log_removed() {
    let dirs: [_; 3] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let [fresh, older, theirs] = [dirs[0].path(), dirs[1].path(), dirs[2].path()];
    let log = open(theirs);
    for at in 1..=50i64 {
        let class = if at % 7 == 0 { Class::Kept } else { Class::Hot };
        log.append(note("x").class(class).at(at)).unwrap();
    }
    import(older, &export(theirs, 0, Some(20))).unwrap();
    let policy = Policy {
        hot: Duration::ZERO,
        warm: Duration::ZERO,
        keep_last: 10,
    };
    let removed = log.compact(&policy, 1000).unwrap().removed;
    let file = export(theirs, 0, None);
    assert_eq!(import(fresh, &file).unwrap().removed, 0);
    assert!(import(older, &file).unwrap().removed > 0);
    for dir in [fresh, older] {
        same(dir, theirs);
        assert_eq!(verify(dir).unwrap().removed, removed);
    }
    // Cut before the record that vouches for the gaps, there are ops missing.
    let cut = tempfile::tempdir().unwrap();
    let error = import(cut.path(), &export(theirs, 0, Some(45))).unwrap_err();
    assert!(
        matches!(error.as_fault(), Some(Fault::Gap { from: 1, to: 6 })),
        "{error}"
    );
}

#[test]
fn a_file_that_was_cut_or_altered_anywhere_imports_nothing() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [ours, theirs] = [dirs[0].path(), dirs[1].path()];
    log_of(theirs, 6);
    let file = export(theirs, 0, None);
    let mut replica = Replica::open(ours).unwrap();
    let mut refused = |file: &[u8], what: String| {
        let result = replica.import(&mut &file[..]);
        assert!(
            matches!(
                result,
                Err(Error::Export { .. } | Error::Fault { .. } | Error::Unanchored { .. })
            ),
            "{what}: {result:?}"
        );
        assert_eq!(replica.reader().unwrap().head().unwrap(), None);
    };
    for length in 0..file.len() {
        refused(&file[..length], format!("{length} bytes"));
    }
    for at in 0..file.len() {
        let mut file = file.clone();
        file[at] ^= 1 << (at % 8);
        refused(&file, format!("byte {at}"));
    }
    let mut longer = file.clone();
    longer.push(0);
    refused(&longer, "a byte more".into());
    assert_eq!(replica.import(&mut file.as_slice()).unwrap().added, 7);
}

#[test]
fn an_absurd_length_takes_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = b"vox log export 1\no".to_vec();
    file.extend_from_slice(&u32::MAX.to_be_bytes());
    let error = import(dir.path(), &file).unwrap_err();
    assert!(
        error.to_string().contains("more than any op has"),
        "{error}"
    );
    let mut file = b"vox log export 1\no".to_vec();
    file.extend_from_slice(&(16u32 << 20).to_be_bytes());
    assert!(matches!(
        import(dir.path(), &file),
        Err(Error::Export { at: 22, .. })
    ));
}

#[test]
fn a_file_that_fails_in_the_middle_is_told_as_such() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("gone"))
        }
    }
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    log_of(dirs[1].path(), 6);
    let file = export(dirs[1].path(), 0, None);
    let result = Replica::open(dirs[0].path())
        .unwrap()
        .import(&mut file[..500].chain(Fails));
    assert!(matches!(result, Err(Error::Io { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_behind_the_first_line_make_an_import_panic(bytes: Vec<u8>, op: bool) {
        let dir = tempfile::tempdir().unwrap();
        let mut file = b"vox log export 1\n".to_vec();
        if op {
            file.push(b'o');
            file.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        }
        file.extend(bytes);
        prop_assert!(import(dir.path(), &file).is_err());
    }
}
