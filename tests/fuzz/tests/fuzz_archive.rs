//! Plugin archives from strangers: whatever is in one, installing ends, writes nothing outside the
//! user's plugins, and leaves either a whole plugin or nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use vox_fuzz::{bound, ensure, fuzz, peak_of};
use vox_host::directories::Directories;
use vox_host::install::{Decision, InstallError, Installer};

const MANIFEST: &str = "id = \"greet\"\nversion = \"0.1.0\"\ndescription = \"Greets\"\nhost = \"*\"\n\
                        [payload]\nskill = \"SKILL.md\"\n";
const SKILL: &str = "---\nname: greet\ndescription: Greets\n---\nSay hello.\n";

/// What an entry is in a tar archive.
const FILE: u8 = b'0';
const SYMBOLIC_LINK: u8 = b'2';
const DIRECTORY: u8 = b'5';
const LONG_NAME: u8 = b'L';
const EXTENDED: u8 = b'x';

/// An archive of these entries: kind, path, content.
fn archive(entries: &[(u8, &str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, path, content) in entries {
        let mut header = [0_u8; 512];
        header[..path.len()].copy_from_slice(path.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[156] = *kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        bytes.extend(header);
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// Writes the sums of all headers anew, without which no change would get past the first header.
fn with_sums(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 512) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().copied().map(u32::from).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let size = std::str::from_utf8(&header[124..135]).unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 8).unwrap_or_default();
        at = at.saturating_add(512 + size.next_multiple_of(512));
    }
    bytes
}

fn corpus() -> Vec<Vec<u8>> {
    let (manifest, skill) = (MANIFEST.as_bytes(), SKILL.as_bytes());
    vec![
        archive(&[(FILE, "Plugin.toml", manifest), (FILE, "SKILL.md", skill)]),
        archive(&[
            (DIRECTORY, "text/", b""),
            (FILE, "./Plugin.toml", manifest),
            (FILE, "SKILL.md", skill),
            (LONG_NAME, "././@LongLink", b"text/a-long-name.txt\0"),
            (FILE, "text/a", b"words"),
            (EXTENDED, "x", b"21 path=text/b.txt\n\n\n"),
            (FILE, "text/b", b"more words"),
        ]),
        archive(&[
            (FILE, "Plugin.toml", manifest),
            (SYMBOLIC_LINK, "SKILL.md", b""),
            (FILE, "../outside", b"words"),
        ]),
    ]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// Every file below a directory.
fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            } else {
                found.insert(entry.path());
            }
        }
    }
    found
}

/// Installs an archive of these bytes in a place of its own, and looks at what is there after.
fn install(bytes: &[u8]) -> Result<(), String> {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("plugin.vox");
    fs::write(&file, bytes).unwrap();
    let data = place.path().join("data");
    let directories = Directories::new(data.clone(), place.path().join("cache"));
    let installer = Installer::new(&directories);
    let (installed, peak) = peak_of(|| installer.install(&file, |_| Decision::Install(Vec::new())));
    let most = bound(2 << 20, 64, bytes.len());
    ensure!(
        peak <= most,
        "{peak} bytes of memory for {} of input",
        bytes.len()
    );

    let after = files(place.path());
    let stray = after
        .iter()
        .find(|path| **path != file && !path.starts_with(&data));
    ensure!(stray.is_none(), "it wrote {stray:?}");
    let plugins = directories.installed();
    let of_plugins = |path: &&PathBuf| {
        let below = path.strip_prefix(&plugins).ok();
        // What begins with a dot is the installer's own.
        below.is_some_and(|below| !below.to_string_lossy().starts_with('.'))
    };
    let of_plugins: Vec<_> = after.iter().filter(of_plugins).collect();
    match installed {
        Ok(receipt) => {
            let manifest = receipt.directory.join("Plugin.toml");
            ensure!(after.contains(&manifest), "no manifest: {after:?}");
            let elsewhere = of_plugins
                .iter()
                .find(|path| !path.starts_with(&receipt.directory));
            ensure!(elsewhere.is_none(), "it wrote {elsewhere:?}");
        }
        Err(error) => {
            ensure!(of_plugins.is_empty(), "{error}, and left {of_plugins:?}");
            ensure!(
                !error
                    .to_string()
                    .chars()
                    .any(|c| c.is_control() && c != '\n'),
                "a message with control characters: {error:?}"
            );
            ensure!(
                !matches!(error, InstallError::Io { .. }),
                "the system refused first: {error}"
            );
        }
    }
    Ok(())
}

#[test]
fn any_tar_in_an_archive_is_a_plugin_or_leaves_nothing() {
    let words = &[
        "../",
        "/etc/x",
        "Plugin.toml",
        "00000000000",
        "77777777777",
        "ustar\u{0}00",
        "path=/x",
    ];
    fuzz(corpus(), words, |bytes| {
        install(&gzip(&with_sums(bytes.to_vec())))
    });
}

#[test]
fn any_bytes_as_an_archive_are_a_plugin_or_leave_nothing() {
    let corpus = corpus()
        .into_iter()
        .map(|tar| gzip(&with_sums(tar)))
        .collect();
    fuzz(corpus, &["\u{1f}"], install);
}

#[test]
fn the_corpus_has_archives_that_are_installed_and_one_that_is_not() {
    let sound = corpus().into_iter().map(|tar| {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("plugin.vox");
        fs::write(&file, gzip(&with_sums(tar))).unwrap();
        let directories = Directories::new(place.path().join("data"), place.path().join("cache"));
        let installed =
            Installer::new(&directories).install(&file, |_| Decision::Install(Vec::new()));
        installed.is_ok()
    });
    assert_eq!(sound.collect::<Vec<_>>(), [true, true, false]);
}
