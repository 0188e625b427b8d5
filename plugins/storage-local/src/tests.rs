use std::thread;

use tempfile::TempDir;

use super::*;

fn storage() -> Option<(Local, TempDir)> {
    let directory = TempDir::new().unwrap();
    Some((Local::open(directory.path()).unwrap(), directory))
}

storage_conformance::promises!(storage);

/// Files below a directory, at any depth.
fn files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path()),
            false => 1,
        })
        .sum()
}

#[test]
fn an_aborted_upload_has_no_file() {
    let (mut local, _directory) = storage().unwrap();
    let upload = local.begin("a").unwrap();
    local.append(upload, b"x").unwrap();
    assert_eq!(files(&local.uploading), 1);
    local.abort(upload).unwrap();
    assert_eq!(files(&local.uploading), 0);
}

#[test]
fn shutdown_ends_what_is_being_written() {
    let (mut local, _directory) = storage().unwrap();
    local.begin("a").unwrap();
    local.shutdown().unwrap();
    assert_eq!(files(&local.uploading), 0);
}

#[test]
fn what_a_dead_process_left_is_removed_and_what_a_live_one_writes_is_not() {
    let (mut local, directory) = storage().unwrap();
    fs::write(local.uploading.join("1-left"), "half an object").unwrap();
    let upload = local.begin("a").unwrap();
    local.append(upload, b"alive").unwrap();
    let mut other = Local::open(directory.path()).unwrap();
    assert_eq!(files(&local.uploading), 1);
    local.commit(upload).unwrap();
    assert_eq!(other.read("a", 0, 9).unwrap(), b"alive");
}

#[test]
fn removal_leaves_no_empty_directories() {
    let (mut local, _directory) = storage().unwrap();
    for key in ["a/b/c", "a/d"] {
        let upload = local.begin(key).unwrap();
        local.commit(upload).unwrap();
    }
    assert!(local.remove("a/b/c").unwrap());
    assert!(!local.objects.join("d-a/d-b").exists());
    assert!(local.remove("a/d").unwrap());
    assert_eq!(fs::read_dir(&local.objects).unwrap().count(), 0);
}

#[test]
fn a_directory_of_more_names_than_a_batch_is_listed_whole() {
    let (mut local, _directory) = storage().unwrap();
    let expected: Vec<_> = (0..2500).map(|number| format!("k{number:04}")).collect();
    for key in &expected {
        // Not through a commit, which waits for the disk.
        fs::write(local.objects.join(keys::path(key)), "").unwrap();
    }
    let entries = local.enumerate("", "", u32::MAX).unwrap();
    assert!(entries.iter().map(|entry| &entry.key).eq(&expected));
    let entries = local.enumerate("k", "k1100", 1300).unwrap();
    assert!(
        entries
            .iter()
            .map(|entry| &entry.key)
            .eq(&expected[1101..2401])
    );
}

#[test]
fn foreign_files_are_not_listed() {
    let (mut local, _directory) = storage().unwrap();
    fs::write(local.objects.join(".DS_Store"), "").unwrap();
    fs::create_dir(local.objects.join("O-upper")).unwrap();
    assert!(local.enumerate("", "", 9).unwrap().is_empty());
}

#[test]
fn commits_and_removals_of_neighbours_do_not_get_into_each_others_way() {
    let (_, directory) = storage().unwrap();
    thread::scope(|scope| {
        for key in ["deep/down/a", "deep/down/b"] {
            let mut local = Local::open(directory.path()).unwrap();
            scope.spawn(move || {
                for _ in 0..50 {
                    let upload = local.begin(key).unwrap();
                    local.append(upload, key.as_bytes()).unwrap();
                    local.commit(upload).unwrap();
                    assert_eq!(local.read(key, 0, 99).unwrap(), key.as_bytes());
                    assert!(local.remove(key).unwrap());
                }
            });
        }
    });
}

#[test]
fn without_a_directory_the_plugin_says_what_to_write() {
    let Err(Error::Invalid(text)) = Local::init("{}") else {
        panic!("it started");
    };
    assert!(text.contains("[plugin.storage-local.config]"), "{text}");
    assert!(matches!(
        Local::init(r#"{"dir":"x"}"#),
        Err(Error::Invalid(_))
    ));
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let Err(Error::Failed(text)) = Local::open(&file) else {
        panic!("it opened");
    };
    assert!(text.contains(&*file.display().to_string()), "{text}");
}
