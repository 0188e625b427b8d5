//! Distributions: laid out whole, granted what is listed, and packed to the same bytes.

mod fixture;

use std::fs;
use std::path::{Path, PathBuf};

use fixture::{Fixture, id};
use vox_contract::{Capability, GrantsFile, PluginId, Scope};
use vox_host::directories::Directories;
use vox_host::distribution::{Built, DistributionError, Parts, archive, build};
use vox_host::inventory::Inventory;

const CATALOG: &str = r#"
[[plugin]]
id = "redact"
description = "Masks secrets"
source = "plugins/redact"
payloads = ["component"]
extension-points = ["stage"]
capabilities = ["stream_io", "network"]

[[plugin]]
id = "wordstat"
description = "Counts words"
source = "plugins/wordstat"
payloads = ["component"]
extension-points = ["stage"]

[[distribution]]
name = "vox-base"
description = "The host alone"

[[distribution]]
name = "vox-run"
description = "What pipelines need"
extends = "vox-base"
plugins = ["redact", "wordstat"]
"#;

const ASKS: &str = "capabilities = [\n\
    { name = \"stream_io\", reason = \"r\" },\n\
    { name = \"network\", scope = [\"a.example\"], reason = \"r\" },\n\
    { name = \"process\", reason = \"r\" },\n]";

fn prepared() -> Fixture {
    let fixture = Fixture::new();
    fs::write(fixture.path("catalog.toml"), CATALOG).unwrap();
    fs::write(fixture.path("host"), "#!/bin/sh\n").unwrap();
    fs::write(fixture.path("LICENSE"), "licence").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(fixture.path("host"), mode).unwrap();
    }
    fixture.plugin("built/redact", "redact", "0.1.0", ASKS);
    fixture.plugin("built/wordstat", "wordstat", "0.2.0", "");
    fixture
}

fn build_named(fixture: &Fixture, name: &str, out: &str) -> Result<Built, DistributionError> {
    let find = |plugin: &PluginId| -> Option<PathBuf> {
        Some(fixture.path("built").join(plugin.as_str())).filter(|path| path.exists())
    };
    let parts = Parts {
        catalog: &fixture.path("catalog.toml"),
        name,
        host: &fixture.path("host"),
        plugin: &find,
        extra: &[(fixture.path("LICENSE"), PathBuf::from("licences/LICENSE"))],
    };
    build(&parts, &fixture.path(out))
}

#[test]
fn a_distribution_is_found_by_the_host_that_runs_in_it() {
    let fixture = prepared();
    let built = build_named(&fixture, "vox-run", "out").unwrap();
    assert!(built.executable.is_file());
    for file in ["catalog.toml", "README.txt", "licences/LICENSE"] {
        assert!(built.directory.join(file).is_file(), "{file}");
    }
    let directories =
        Directories::new(fixture.path("data"), fixture.path("cache")).with_bundle(&built.directory);
    let inventory = Inventory::scan(&directories);
    let found: Vec<_> = inventory.ids().collect();
    assert_eq!(found, [&id("redact"), &id("wordstat")]);
    assert_eq!(built.plugins.len(), 2);
    let bare = build_named(&fixture, "vox-base", "bare").unwrap();
    assert!(bare.plugins.is_empty() && bare.directory.join("plugins").is_dir());
}

#[test]
fn its_plugins_are_granted_what_catalogue_and_manifest_agree_on() {
    let fixture = prepared();
    let built = build_named(&fixture, "vox-run", "out").unwrap();
    let grants = GrantsFile::load(&built.directory.join("grants.toml")).unwrap();
    let redact = grants.of(&id("redact")).unwrap();
    assert_eq!(redact.scope(Capability::StreamIo), Some(&Scope::All));
    let narrowed = Scope::Only(vec!["a.example".to_owned()]);
    assert_eq!(redact.scope(Capability::Network), Some(&narrowed));
    assert_eq!(redact.scope(Capability::Process), None);
    assert!(grants.of(&id("wordstat")).is_none());
}

#[test]
fn the_same_files_are_packed_to_the_same_bytes() {
    let fixture = prepared();
    let packed = |out: &str| {
        let built = build_named(&fixture, "vox-run", out).unwrap();
        let target = fixture.path(&format!("{out}.tar.gz"));
        archive(&built, &target).unwrap();
        fs::read(target).unwrap()
    };
    let first = packed("one/out");
    assert_eq!(first, packed("two/out"));
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(&first[..]));
    let mut executables = Vec::new();
    for entry in tar.entries().unwrap() {
        let entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        assert!(
            path.to_string_lossy().starts_with("vox-run-0."),
            "{}",
            path.display()
        );
        if entry.header().entry_type().is_file() && entry.header().mode().unwrap() == 0o755 {
            executables.push(path.file_name().unwrap().to_owned());
        }
    }
    if cfg!(unix) {
        assert_eq!(executables, ["vox"]);
    }
}

#[test]
fn a_distribution_is_replaced_and_anything_else_is_left_alone() {
    let fixture = prepared();
    build_named(&fixture, "vox-base", "out").unwrap();
    let built = build_named(&fixture, "vox-run", "out").unwrap();
    assert!(
        built
            .directory
            .join("plugins/redact/0.1.0/Plugin.toml")
            .is_file()
    );

    fs::create_dir(fixture.path("home")).unwrap();
    fs::write(fixture.path("home/thesis.txt"), "years").unwrap();
    let error = build_named(&fixture, "vox-run", "home").unwrap_err();
    assert!(
        matches!(error, DistributionError::Occupied { .. }),
        "{error}"
    );
    assert!(fixture.path("home/thesis.txt").is_file());
}

#[test]
fn a_plugin_that_is_not_built_is_named_and_leaves_no_distribution() {
    let fixture = prepared();
    fs::remove_dir_all(fixture.path("built/wordstat")).unwrap();
    let error = build_named(&fixture, "vox-run", "out").unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("`wordstat`") && text.contains("plugins/wordstat"),
        "{text}"
    );
    let is_left = |name: &Path| name.to_string_lossy().contains("out");
    let left = fs::read_dir(fixture.path(""))
        .unwrap()
        .any(|entry| is_left(Path::new(&entry.unwrap().file_name())));
    assert!(!left);
}

#[test]
fn an_unknown_distribution_is_answered_with_those_that_there_are() {
    let error = build_named(&prepared(), "vox-rum", "out").unwrap_err();
    assert!(
        error.to_string().contains("did you mean `vox-run`?"),
        "{error}"
    );
}
