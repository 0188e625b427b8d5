//! What `vox plugin new` writes, built and tested with the real cargo.

use std::fs;
use std::path::Path;
use std::process::Command;

use vox_build::{NewPlugin, Sdk, Template, scaffold};

#[test]
fn every_new_plugin_builds_without_warnings_and_passes_its_own_test() {
    let place = tempfile::tempdir().unwrap();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut members = Vec::new();
    for template in Template::ALL {
        let plugin = NewPlugin {
            id: format!("acme.new-{}", template.name()).parse().unwrap(),
            template,
            sdk: Sdk::Path(crates.join("vox-plugin")),
        };
        let directory = place.path().join(template.name());
        scaffold(&plugin, &directory).unwrap();
        // One workspace, so that the SDK is compiled once for all of them; its members have no
        // profiles.
        let manifest = directory.join("Cargo.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(
            &manifest,
            text.replace("[workspace]", "")
                .replace("[profile.release]\nlto = true\n", ""),
        )
        .unwrap();
        members.push(format!("{:?}", template.name()));
    }
    // Settings and build directory of this workspace, so that what was compiled for it serves here.
    let workspace = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [{}]\n\
         [profile.dev]\nopt-level = 1\ndebug = \"line-tables-only\"\n\
         [profile.dev.package.\"*\"]\nopt-level = 3\ndebug = false\ndebug-assertions = false\noverflow-checks = false\n",
        members.join(", ")
    );
    fs::write(place.path().join("Cargo.toml"), workspace).unwrap();
    fs::create_dir(place.path().join(".cargo")).unwrap();
    let config = "[build]\nbuild-dir = \"{cargo-cache-home}/build/vox\"\n";
    fs::write(place.path().join(".cargo/config.toml"), config).unwrap();
    // The versions that this workspace is locked to, so that nothing has to be fetched.
    fs::copy(
        crates.join("../Cargo.lock"),
        place.path().join("Cargo.lock"),
    )
    .unwrap();

    let output = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--workspace"])
        .current_dir(place.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert_eq!(
        stdout.matches("1 passed").count(),
        Template::ALL.len(),
        "{stdout}"
    );
    assert!(!stderr.contains("warning:"), "{stderr}");
}
