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
        // One workspace, so that the SDK is compiled once for all of them.
        let manifest = directory.join("Cargo.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(&manifest, text.replace("[workspace]", "")).unwrap();
        members.push(format!("{:?}", template.name()));
    }
    let workspace = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [{}]\n",
        members.join(", ")
    );
    fs::write(place.path().join("Cargo.toml"), workspace).unwrap();
    // The versions that this workspace is locked to, so that nothing has to be fetched.
    fs::copy(
        crates.join("../Cargo.lock"),
        place.path().join("Cargo.lock"),
    )
    .unwrap();

    let output = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--workspace"])
        .current_dir(place.path())
        .env("RUSTFLAGS", "-Dwarnings")
        .output()
        .unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert_eq!(
        stdout.matches("1 passed").count(),
        Template::ALL.len(),
        "{stdout}"
    );
}
