//! Installing and removing: all of it or nothing, whatever comes between.

mod fixture;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use fixture::{Fixture, id, manifest, snapshot};
use vox_contract::{Capability, Grant, Scope};
use vox_host::directories::Directories;
use vox_host::install::{
    Decision, GrantStore, InstallError, Installer, Outcome, Progress, Proposal, Which, remove,
};

fn agree(_: &Proposal<'_>) -> Decision {
    Decision::Install(Vec::new())
}

fn install(fixture: &Fixture, source: &Path) -> Result<Outcome, InstallError> {
    let receipt = Installer::new(&fixture.directories).install(source, agree)?;
    Ok(receipt.outcome)
}

/// A plugin that is to be installed, with some files besides.
fn source(fixture: &Fixture, version: &str) -> PathBuf {
    let directory = fixture.plugin("source", "redact", version, "");
    fs::create_dir_all(directory.join("text/more")).unwrap();
    fs::write(directory.join("text/words.txt"), "words").unwrap();
    fs::write(directory.join("text/more/words.txt"), "more words").unwrap();
    directory
}

fn archive(fixture: &Fixture, fill: impl FnOnce(&mut tar::Builder<&mut Vec<u8>>)) -> PathBuf {
    let mut bytes = Vec::new();
    let mut tar = tar::Builder::new(&mut bytes);
    fill(&mut tar);
    tar.finish().unwrap();
    drop(tar);
    let path = fixture.path("plugin.vox");
    let file = fs::File::create(&path).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &bytes).unwrap();
    gzip.finish().unwrap();
    path
}

/// Adds an entry whose path is written as it is, which the library's own functions refuse.
fn raw_entry(
    tar: &mut tar::Builder<&mut Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    content: &[u8],
) {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    if kind.is_symlink() || kind.is_hard_link() {
        header.set_link_name("/etc/passwd").unwrap();
    }
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

fn file_entry(tar: &mut tar::Builder<&mut Vec<u8>>, path: &str, content: &str) {
    raw_entry(tar, path, tar::EntryType::Regular, content.as_bytes());
}

fn plugin_entries(tar: &mut tar::Builder<&mut Vec<u8>>) {
    file_entry(tar, "Plugin.toml", &manifest("redact", "0.1.0", ""));
    file_entry(tar, "code.wasm", "code");
}

#[test]
fn a_directory_is_installed_whole_in_its_place() {
    let fixture = Fixture::new();
    let source = source(&fixture, "0.1.0");
    assert_eq!(install(&fixture, &source).unwrap(), Outcome::Installed);
    let place = fixture.path("data/plugins/redact/0.1.0");
    let names = |directory: &Path| -> Vec<PathBuf> {
        let files = snapshot(directory).into_iter();
        files
            .map(|(path, _)| path.strip_prefix(directory).unwrap().to_path_buf())
            .collect()
    };
    assert_eq!(names(&place), names(&source));
    assert_eq!(fixture.scan().found()[0].directory, place);
}

#[test]
fn an_archive_is_installed_as_its_directory_is() {
    let fixture = Fixture::new();
    let long = format!("{}/notes.txt", "a-folder-with-a-long-name/".repeat(8));
    let archive = archive(&fixture, |tar| {
        plugin_entries(tar);
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o755);
        tar.append_data(&mut header, &long, &b"notes"[..]).unwrap();
    });
    assert_eq!(install(&fixture, &archive).unwrap(), Outcome::Installed);
    let place = fixture.path("data/plugins/redact/0.1.0");
    assert_eq!(fs::read(place.join("code.wasm")).unwrap(), b"code");
    assert_eq!(fs::read(place.join(&long)).unwrap(), b"notes");
}

#[test]
fn the_same_files_again_change_nothing_and_others_need_to_be_forced() {
    let fixture = Fixture::new();
    let source = source(&fixture, "0.1.0");
    install(&fixture, &source).unwrap();
    assert_eq!(install(&fixture, &source).unwrap(), Outcome::Unchanged);

    fs::write(source.join("text/words.txt"), "other words").unwrap();
    let before = snapshot(&fixture.path("data"));
    let error = install(&fixture, &source).unwrap_err();
    assert!(matches!(error, InstallError::Differs { .. }), "{error}");
    assert_eq!(snapshot(&fixture.path("data")), before);

    let installer = Installer::new(&fixture.directories).replace(true);
    assert_eq!(
        installer.install(&source, agree).unwrap().outcome,
        Outcome::Replaced
    );
    let words = fixture.path("data/plugins/redact/0.1.0/text/words.txt");
    assert_eq!(fs::read(words).unwrap(), b"other words");
    let left: Vec<_> = fs::read_dir(fixture.path("data/plugins"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 2, "only the lock and the plugin: {left:?}");
}

#[test]
fn what_cannot_be_used_is_not_installed() {
    let fixture = Fixture::new();
    let refused = |directory: &Path| install(&fixture, directory).unwrap_err();
    let empty = fixture.path("empty");
    fs::create_dir(&empty).unwrap();
    assert!(matches!(refused(&empty), InstallError::NoManifest { .. }));

    let broken = fixture.plugin("broken", "redact", "0.1.0", "colour = 1");
    let text = refused(&broken).to_string();
    assert!(
        text.starts_with(&broken.join("Plugin.toml").display().to_string()),
        "{text}"
    );

    let future = fixture.plugin("future", "redact", "0.1.0", "host = \">=99\"");
    assert!(matches!(refused(&future), InstallError::Unusable { .. }));

    let hollow = fixture.plugin("hollow", "redact", "0.1.0", "");
    fs::remove_file(hollow.join("code.wasm")).unwrap();
    let text = refused(&hollow).to_string();
    assert!(
        text.contains("code.wasm") && text.contains("vox plugin build"),
        "{text}"
    );
    assert!(fixture.scan().found().is_empty());
}

#[test]
fn a_refusal_by_the_user_leaves_everything_as_it_was() {
    let fixture = Fixture::new();
    let source = source(&fixture, "0.1.0");
    let result = Installer::new(&fixture.directories).install(&source, |proposal| {
        assert_eq!(proposal.manifest.id, id("redact"));
        Decision::Refuse
    });
    assert!(matches!(result, Err(InstallError::Refused { .. })));
    assert!(fixture.scan().found().is_empty());
    let left: Vec<_> = fs::read_dir(fixture.path("data/plugins"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 1, "only the lock: {left:?}");
}

#[cfg(unix)]
#[test]
fn a_directory_with_a_link_in_it_is_refused() {
    let fixture = Fixture::new();
    let source = source(&fixture, "0.1.0");
    std::os::unix::fs::symlink("/etc/passwd", source.join("passwd")).unwrap();
    let error = install(&fixture, &source).unwrap_err();
    assert!(matches!(error, InstallError::NotAFile { .. }), "{error}");
}

#[test]
fn hostile_archives_are_refused_and_write_nothing_outside() {
    use tar::EntryType;
    let fixture = Fixture::new();
    let entries: [(&str, EntryType, &str); 11] = [
        ("../escaped", EntryType::Regular, "not a plain path"),
        ("a/../../escaped", EntryType::Regular, "not a plain path"),
        ("/tmp/vox-escaped", EntryType::Regular, "not a plain path"),
        ("a\\..\\..\\escaped", EntryType::Regular, "not a plain path"),
        ("C:/escaped", EntryType::Regular, "not a plain path"),
        ("link", EntryType::Symlink, "a symbolic link"),
        ("link", EntryType::Link, "a hard link"),
        ("null", EntryType::Char, "a device"),
        ("disk", EntryType::Block, "a device"),
        ("pipe", EntryType::Fifo, "a pipe"),
        ("code.wasm", EntryType::Regular, "comes twice"),
    ];
    for (path, kind, expected) in entries {
        let archive = archive(&fixture, |tar| {
            plugin_entries(tar);
            raw_entry(tar, path, kind, b"");
        });
        let text = install(&fixture, &archive).unwrap_err().to_string();
        assert!(text.contains(expected), "{path}: {text}");
        assert!(fixture.scan().found().is_empty(), "{path}");
    }
    for escaped in ["escaped", "data/escaped", "data/plugins/escaped"] {
        assert!(!fixture.path(escaped).exists(), "{escaped}");
    }
}

#[test]
fn an_archive_that_is_cut_off_or_no_archive_is_refused() {
    let fixture = Fixture::new();
    let whole = archive(&fixture, plugin_entries);
    let bytes = fs::read(&whole).unwrap();
    for length in [0, 1, 12, bytes.len() / 2, bytes.len() - 9] {
        fs::write(&whole, &bytes[..length]).unwrap();
        let error = install(&fixture, &whole).unwrap_err();
        let known = matches!(
            error,
            InstallError::Archive { .. } | InstallError::NoManifest { .. }
        );
        assert!(known, "{length} bytes: {error}");
        assert!(fixture.scan().found().is_empty());
    }
    fs::write(&whole, "just text").unwrap();
    assert!(matches!(
        install(&fixture, &whole),
        Err(InstallError::Archive { .. })
    ));
}

#[test]
fn an_archive_with_too_many_entries_is_refused() {
    let fixture = Fixture::new();
    let archive = archive(&fixture, |tar| {
        plugin_entries(tar);
        for number in 0..vox_host::install::MAX_ENTRIES {
            raw_entry(tar, &format!("d{number}/"), tar::EntryType::Directory, b"");
        }
    });
    let text = install(&fixture, &archive).unwrap_err().to_string();
    assert!(text.contains("more than 10000 entries"), "{text}");
}

/// What the next test runs as a process of its own: it installs and dies without a chance to clean
/// up when it is told of step `VOX_TEST_DIE_AT`. Does nothing when it is run by itself.
#[test]
fn installs_and_dies() {
    let Ok(data) = std::env::var("VOX_TEST_DATA") else {
        return;
    };
    let read = |name: &str| std::env::var(name).unwrap();
    let directories = Directories::new(&data, &data);
    let die_at: usize = read("VOX_TEST_DIE_AT").parse().unwrap();
    let mut step = 0;
    let installer = Installer::new(&directories).replace(true).on_progress(|_| {
        if step == die_at {
            std::process::abort();
        }
        step += 1;
        ControlFlow::Continue(())
    });
    installer
        .install(read("VOX_TEST_SOURCE").as_ref(), agree)
        .unwrap();
}

#[test]
fn an_installation_that_is_killed_at_any_file_changes_nothing_that_can_be_seen() {
    let fixture = Fixture::new();
    let source = source(&fixture, "0.1.0");
    install(&fixture, &source).unwrap();
    let place = fixture.path("data/plugins/redact/0.1.0");
    let before = snapshot(&place);
    fs::write(source.join("text/words.txt"), "other words").unwrap();

    let mut died = 0;
    loop {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "installs_and_dies"])
            .env("VOX_TEST_DATA", fixture.path("data"))
            .env("VOX_TEST_SOURCE", &source)
            .env("VOX_TEST_DIE_AT", died.to_string())
            .output()
            .unwrap();
        if child.status.success() {
            break;
        }
        died += 1;
        assert_eq!(snapshot(&place), before, "killed at step {died}");
        let inventory = fixture.scan();
        assert_eq!(inventory.found().len(), 1);
        assert!(
            inventory.passed_over().is_empty(),
            "{:?}",
            inventory.passed_over()
        );
    }
    assert_eq!(
        died, 5,
        "four files, and the moment before they become visible"
    );
    assert_eq!(
        fs::read(place.join("text/words.txt")).unwrap(),
        b"other words"
    );
    let left: Vec<_> = fs::read_dir(fixture.path("data/plugins"))
        .unwrap()
        .collect();
    assert_eq!(
        left.len(),
        2,
        "what the killed ones left is swept away: {left:?}"
    );
}

#[test]
fn an_installation_that_is_interrupted_leaves_nothing() {
    let fixture = Fixture::new();
    let source = source(&fixture, "0.1.0");
    let installer = Installer::new(&fixture.directories).on_progress(|progress| match progress {
        Progress::Placing => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let error = installer.install(&source, agree).unwrap_err();
    assert!(matches!(error, InstallError::Interrupted));
    assert!(!fixture.path("data/plugins/redact").exists());
}

#[test]
fn a_version_or_all_of_them_are_removed() {
    let fixture = Fixture::new();
    for version in ["0.1.0", "0.2.0", "0.3.0"] {
        fixture.installed("redact", version, "");
    }
    let one = Which::Version("0.2.0".parse().unwrap());
    remove(&fixture.directories, &id("redact"), &one, false).unwrap();
    let left: Vec<String> = fixture
        .scan()
        .found()
        .iter()
        .map(|plugin| plugin.version().to_string())
        .collect();
    assert_eq!(left, ["0.3.0", "0.1.0"]);
    let removed = remove(&fixture.directories, &id("redact"), &Which::All, false).unwrap();
    assert_eq!(removed.directories.len(), 2);
    assert!(!fixture.path("data/plugins/redact").exists());
    let error = remove(&fixture.directories, &id("redact"), &Which::All, false).unwrap_err();
    assert!(
        matches!(error, InstallError::NotInstalled { .. }),
        "{error}"
    );
}

#[test]
fn a_broken_plugin_can_be_removed() {
    let fixture = Fixture::new();
    fixture.installed("redact", "0.1.0", "colour = 1");
    let one = Which::Version("0.1.0".parse().unwrap());
    remove(&fixture.directories, &id("redact"), &one, false).unwrap();
    assert!(fixture.scan().passed_over().is_empty());
}

#[test]
fn a_plugin_that_another_one_needs_stays_unless_it_is_forced_out() {
    let fixture = Fixture::new();
    fixture.installed("redact", "0.1.0", "");
    fixture.installed("redact", "0.2.0", "");
    fixture.installed("report", "1.0.0", "dependencies = { redact = \"^0.2\" }");
    let version = |text: &str| Which::Version(text.parse().unwrap());
    let error = remove(
        &fixture.directories,
        &id("redact"),
        &version("0.2.0"),
        false,
    )
    .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("redact 0.2.0 is needed by report 1.0.0 (in version ^0.2)"),
        "{text}"
    );
    remove(
        &fixture.directories,
        &id("redact"),
        &version("0.1.0"),
        false,
    )
    .unwrap();
    let removed = remove(&fixture.directories, &id("redact"), &Which::All, true).unwrap();
    assert_eq!(removed.broken.len(), 1);
}

#[test]
fn what_vox_did_not_install_is_not_removed() {
    let fixture = Fixture::new();
    let bundled = fixture.plugin("bundle/plugins/redact/0.1.0", "redact", "0.1.0", "");
    let error = remove(&fixture.directories, &id("redact"), &Which::All, true).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&bundled.display().to_string()), "{text}");
    assert!(bundled.exists());
}

#[test]
fn what_is_granted_at_installation_is_kept_and_adds_up_with_the_distribution() {
    let fixture = Fixture::new();
    let source = source(&fixture, "0.1.0");
    let grants = vec![
        Grant {
            capability: Capability::Kv,
            scope: Scope::All,
        },
        Grant {
            capability: Capability::Network,
            scope: Scope::Only(vec!["a.example".into()]),
        },
    ];
    Installer::new(&fixture.directories)
        .install(&source, |_| Decision::Install(grants))
        .unwrap();
    fs::create_dir_all(fixture.path("bundle")).unwrap();
    fs::write(
        fixture.path("bundle/grants.toml"),
        "[plugin.redact]\nstream_io = true\n",
    )
    .unwrap();
    fs::create_dir_all(fixture.path("project/.vox")).unwrap();
    let stolen = "[plugin.redact]\nprocess = true\n";
    fs::write(fixture.path("project/.vox/grants.toml"), stolen).unwrap();
    fs::write(fixture.path("project/grants.toml"), stolen).unwrap();

    let store = GrantStore::open(&fixture.directories);
    let all = store.load().unwrap();
    let redact = all.of(&id("redact")).unwrap();
    assert!(redact.scope(Capability::Kv).is_some());
    assert!(redact.scope(Capability::StreamIo).is_some());
    assert_eq!(
        redact.scope(Capability::Process),
        None,
        "a project grants itself nothing"
    );

    let outcome = store
        .revoke(&id("redact"), &[Capability::Kv, Capability::StreamIo])
        .unwrap();
    assert_eq!(outcome.revoked, [Capability::Kv]);
    let bundled = fixture.path("bundle/grants.toml");
    assert_eq!(outcome.kept, [(Capability::StreamIo, bundled)]);
    assert_eq!(
        store
            .load()
            .unwrap()
            .of(&id("redact"))
            .unwrap()
            .scope(Capability::Kv),
        None
    );
}

#[test]
fn grants_that_cannot_be_read_are_never_overwritten() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path("data")).unwrap();
    fs::write(
        fixture.path("data/grants.toml"),
        "[plugin.redact]\nkv = 1\n",
    )
    .unwrap();
    let store = GrantStore::open(&fixture.directories);
    let before = snapshot(&fixture.path("data"));
    let grant = Grant {
        capability: Capability::Kv,
        scope: Scope::All,
    };
    let error = store.grant(&id("redact"), [grant]).unwrap_err();
    assert!(error.to_string().contains("grants.toml:2"), "{error}");
    let after = snapshot(&fixture.path("data"));
    assert!(before.iter().all(|file| after.contains(file)));
    assert!(store.load().is_err());
}
