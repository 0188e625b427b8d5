//! From a crate to a package that a host can load, with the real cargo and the real compilers.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vox_build::{BuildError, BuildOptions, Built, Destination, Event, Toolchain, build};
use vox_contract::{Carrier, Platform};

/// A crate that depends on nothing and serves nothing: enough for both compilers.
fn plugin(source: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let platform = Platform::current();
    write(
        "Plugin.toml",
        &format!(
            r#"
            id = "trivial"
            version = "0.1.0"
            description = "Does nothing"
            host = "*"
            [payload]
            component = "trivial.wasm"
            native = {{ {platform} = "trivial.library" }}
            [provides]
            extension-points = {{ stage = 1 }}
            "#
        ),
    );
    write(
        "Cargo.toml",
        r#"
        [package]
        name = "a-trivial-plugin"
        version = "0.1.0"
        edition = "2024"
        [lib]
        crate-type = ["cdylib"]
        [workspace]
        "#,
    );
    // The build directory of the project itself: a standard library that was built from source
    // for its plugins is not built again for this one.
    write(
        ".cargo/config.toml",
        "[build]\nbuild-dir = \"{cargo-cache-home}/build/vox\"\n",
    );
    write("src/lib.rs", source);
    dir
}

/// Builds into the directory `root` of the crate, with a guest toolchain that is installed already.
fn build_quietly(
    plugin: &Path,
    carrier: Option<Carrier>,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Built, BuildError> {
    let options = BuildOptions {
        carrier,
        quiet: true,
        toolchain: Some(
            Toolchain::find_installed(plugin).unwrap_or_else(|error| panic!("{error}")),
        ),
        ..BuildOptions::new(Destination::Root(plugin.join("root")))
    };
    build(plugin, &options, on_event)
}

const TRIVIAL: &str = "#[unsafe(no_mangle)]\npub extern \"C\" fn trivial() -> u32 { 42 }\n";

#[test]
fn one_crate_becomes_a_package_with_both_payloads() {
    let plugin = plugin(TRIVIAL);
    let mut events = Vec::new();
    let built = build_quietly(plugin.path(), None, &mut |event| {
        events.push(match event {
            Event::Toolchain(_) => "toolchain".to_owned(),
            Event::Compiling { package, carrier } => format!("compiling {package} {carrier}"),
            Event::Made { carrier, size, .. } => format!("made {carrier} {}", size > 0),
            Event::Packaged(_) => "packaged".to_owned(),
            other => format!("{other:?}"),
        });
    })
    .unwrap();

    assert_eq!(
        events,
        [
            "toolchain",
            "compiling a-trivial-plugin component",
            "made component true",
            "compiling a-trivial-plugin native",
            "made native true",
            "packaged",
        ]
    );
    let directory = plugin.path().join("root/trivial/0.1.0");
    assert_eq!(built.package.directory, directory);
    assert!(built.package.left_out.is_empty());
    let component = fs::read(directory.join("trivial.wasm")).unwrap();
    assert!(wasmparser::Parser::is_component(&component));
    wasmparser::validate(&component).unwrap();
    assert!(directory.join("trivial.library").is_file());
    assert!(directory.join("Plugin.toml").is_file());
}

#[test]
fn only_the_carrier_that_was_asked_for_is_built() {
    let plugin = plugin(TRIVIAL);
    let built = build_quietly(plugin.path(), Some(Carrier::Native), &mut |_| ()).unwrap();
    assert_eq!(built.package.files, [PathBuf::from("trivial.library")]);
    assert_eq!(built.package.left_out, [PathBuf::from("trivial.wasm")]);
    assert_eq!(built.toolchain, None);
}

#[test]
fn what_the_compiler_says_is_in_the_error_of_a_quiet_build_and_no_package_appears() {
    let plugin = plugin("pub fn broken() -> u32 { \"text\" }");
    let error = build_quietly(plugin.path(), Some(Carrier::Native), &mut |_| ()).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("native payload of `a-trivial-plugin`"),
        "{message}"
    );
    assert!(message.contains("mismatched types"), "{message}");
    assert!(!plugin.path().join("root").exists());
}

#[test]
fn a_carrier_that_the_manifest_does_not_name_is_refused_with_the_line_to_add() {
    let plugin = plugin(TRIVIAL);
    let manifest = plugin.path().join("Plugin.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("component = \"trivial.wasm\"", "")).unwrap();
    let error = build_quietly(plugin.path(), Some(Carrier::Component), &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("add `component = "), "{error}");
}
