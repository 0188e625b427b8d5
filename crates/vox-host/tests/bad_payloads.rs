//! Payloads that no host should run: each is refused with an error that names the file, the cause
//! and what to do, and the plugins beside it go on being served.

use std::fs;
use std::path::Path;

use serde_json::json;
use vox_contract::{Carrier, PluginId};
use vox_host::{CallError, Error, Host, InstanceOptions, LoadError};
use vox_testkit::{Recorder, World};

const GRANTS: &str = "[plugin.hello]\nstream_io = true\n";

/// A manifest of a plugin `bad` that says it is a stage.
fn manifest(payload: &str) -> String {
    format!(
        r#"
id = "bad"
name = "Bad"
version = "0.1.0"
description = "Not what it should be"
authors = ["The Vox developers"]
license = "MIT"
host = "*"
[payload]
{payload}
[provides]
extension-points = {{ stage = 1 }}
"#
    )
}

const COMPONENT: &str = r#"component = "bad.wasm""#;

fn native() -> String {
    format!(
        r#"native = {{ {} = "libbad.so" }}"#,
        vox_contract::Platform::current()
    )
}

fn bad() -> PluginId {
    "bad".parse().unwrap()
}

/// The others are served whatever became of `bad`.
fn assert_hello_is_served(host: &Host) {
    for carrier in Carrier::ALL {
        let recorder = Recorder::new();
        let mut options = recorder.options();
        options.carrier = Some(carrier);
        let mut hello = host.instance(&"hello".parse().unwrap(), options).unwrap();
        hello
            .call_json("command.run", vec![json!("hello"), json!([])])
            .unwrap();
        assert_eq!(recorder.take().len(), 1);
    }
}

/// Opens a host over `hello` and a plugin `bad` with this payload, and gives the refusal.
fn refusal(payload: &str, file: &str, bytes: &[u8]) -> Error {
    let world = World::with(&["hello"]);
    world.add("bad", &manifest(payload), &[(file, bytes)]);
    let host = world.host(GRANTS);
    let error = host
        .instance(&bad(), InstanceOptions::default())
        .unwrap_err();
    assert_hello_is_served(&host);
    // Asked again, it says the same: nothing half-loaded was kept.
    let again = host
        .instance(&bad(), InstanceOptions::default())
        .unwrap_err();
    assert_eq!(error.to_string(), again.to_string());
    error
}

fn refused_component(bytes: &[u8]) -> Error {
    refusal(COMPONENT, "bad.wasm", bytes)
}

/// A component in text form.
fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn conformance(file: &str) -> Vec<u8> {
    fs::read(vox_testkit::plugin("conformance").join(file)).unwrap()
}

#[test]
fn a_truncated_component_is_refused() {
    let whole = conformance("conformance.wasm");
    for length in [0, 4, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        let error = refused_component(&whole[..length]);
        assert!(
            matches!(
                error,
                Error::Load(
                    LoadError::Malformed { .. }
                        | LoadError::NotAComponent { .. }
                        | LoadError::NothingExported { .. }
                )
            ),
            "{length}: {error:?}"
        );
        assert!(error.to_string().contains("bad.wasm"), "{error}");
    }
}

#[test]
fn random_bytes_are_refused() {
    // A fixed xorshift, so that a failure can be repeated.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..20 {
        let mut bytes = vec![0, b'a', b's', b'm', 0x0d, 0, 1, 0];
        for _ in 0..64 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.push(state as u8);
        }
        let start = if round % 2 == 0 { 0 } else { 8 };
        let error = refused_component(&bytes[start..]);
        assert!(
            matches!(
                error,
                Error::Load(LoadError::Malformed { .. } | LoadError::NotAComponent { .. })
            ),
            "{error:?}"
        );
    }
}

#[test]
fn a_core_module_in_place_of_a_component_is_named_as_such() {
    let error = refused_component(&component("(module)"));
    assert!(
        matches!(
            error,
            Error::Load(LoadError::NotAComponent {
                found: "a core WebAssembly module",
                ..
            })
        ),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("vox plugin build --component"),
        "{error}"
    );
}

#[test]
fn a_component_that_exports_nothing_known_is_refused() {
    let error = refused_component(&component("(component)"));
    assert!(
        matches!(error, Error::Load(LoadError::NothingExported { .. })),
        "{error:?}"
    );
}

#[test]
fn a_component_that_imports_something_unknown_is_refused_with_the_import() {
    let error = refused_component(&component(
        r#"(component (import "acme:weather/forecast@1.0.0" (instance)))"#,
    ));
    assert!(
        matches!(&error, Error::Load(LoadError::UnknownImport { import, .. }) if import == "acme:weather/forecast@1.0.0"),
        "{error:?}"
    );
}

#[test]
fn a_component_for_another_major_version_of_the_contract_is_refused_with_both_versions() {
    let error = refused_component(&component(
        r#"(component (instance $i) (export "vox:plugin/stage@2.0.0" (instance $i)))"#,
    ));
    assert!(
        matches!(error, Error::Load(LoadError::ContractVersion { .. })),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("vox:plugin/stage@2.0.0") && text.contains("vox:plugin/stage@1.0.0"),
        "{text}"
    );
}

#[test]
fn a_component_whose_interface_lacks_a_function_is_refused() {
    let error = refused_component(&component(
        r#"(component (instance $i)
             (export "vox:plugin/lifecycle@1.0.0" (instance $i))
             (export "vox:plugin/stage@1.0.0" (instance $i)))"#,
    ));
    assert!(
        matches!(&error, Error::Load(LoadError::Signature { .. })),
        "{error:?}"
    );
}

#[test]
fn a_manifest_that_promises_more_than_is_exported_is_refused() {
    let world = World::with(&["hello"]);
    // `hello` serves `command`; this manifest says `stage`.
    let hello = fs::read(vox_testkit::plugin("hello").join("hello.wasm")).unwrap();
    world.add("bad", &manifest(COMPONENT), &[("bad.wasm", &hello)]);
    let host = world.host(GRANTS);
    let error = host
        .instance(&bad(), InstanceOptions::default())
        .unwrap_err();
    assert!(
        matches!(&error, Error::Load(LoadError::NotProvided { missing, .. }) if missing == &["stage"]),
        "{error:?}"
    );
    assert_hello_is_served(&host);
}

#[test]
fn what_is_exported_but_not_declared_cannot_be_called() {
    let world = World::new();
    world.add(
        "bad",
        &manifest(COMPONENT),
        &[("bad.wasm", &conformance("conformance.wasm"))],
    );
    let mut instance = world
        .host("")
        .instance(&bad(), InstanceOptions::default())
        .unwrap();
    assert!(instance.stage().is_ok());
    assert!(matches!(
        instance.step(),
        Err(CallError::NotExported { .. })
    ));
}

/// A library of this source, with the prelude that describes a plugin's table.
fn refused_library(source: &str) -> Error {
    let place = tempfile::tempdir().unwrap();
    let library = vox_testkit::compile_library(place.path(), "bad", source);
    refusal(&native(), "libbad.so", &fs::read(library).unwrap())
}

#[test]
fn a_library_with_another_abi_version_is_refused_with_both_versions() {
    let error = refused_library(
        "#[unsafe(no_mangle)] pub static VOX_PLUGIN: [u32; 12] = [7, 48, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];",
    );
    assert!(
        matches!(
            error,
            Error::Load(LoadError::AbiVersion {
                found: 7,
                wanted: 1,
                ..
            })
        ),
        "{error:?}"
    );
}

#[test]
fn a_library_with_a_smaller_table_is_refused_with_both_sizes() {
    let error =
        refused_library("#[unsafe(no_mangle)] pub static VOX_PLUGIN: [u32; 4] = [1, 16, 0, 0];");
    assert!(
        matches!(
            error,
            Error::Load(LoadError::VtableSize {
                found: 16,
                wanted: 48,
                ..
            })
        ),
        "{error:?}"
    );
}

#[test]
fn a_library_without_the_entry_symbol_is_refused() {
    let error = refused_library("#[unsafe(no_mangle)] pub static SOMETHING_ELSE: u32 = 1;");
    assert!(
        matches!(error, Error::Load(LoadError::NoEntrySymbol { .. })),
        "{error:?}"
    );
    assert!(error.to_string().contains("VOX_PLUGIN"), "{error}");
}

#[test]
fn a_library_that_needs_a_symbol_nobody_has_is_refused() {
    let error = refused_library(
        r#"unsafe extern "C" { fn no_such_symbol_anywhere(); }
           #[unsafe(no_mangle)] pub extern "C" fn call() { unsafe { no_such_symbol_anywhere() } }"#,
    );
    assert!(
        matches!(&error, Error::Load(LoadError::Unloadable { .. })),
        "{error:?}"
    );
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn a_library_for_another_architecture_is_refused_with_both_architectures() {
    let mut library = conformance("libconformance.so");
    // ELF's e_machine (offset 18): 183 is AArch64.
    library[18..20].copy_from_slice(&183u16.to_le_bytes());
    let error = refusal(&native(), "libbad.so", &library);
    assert!(
        matches!(error, Error::Load(LoadError::OtherMachine { .. })),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .contains("Elf for Aarch64; this host needs Elf for X86_64"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_no_library_is_refused_before_it_is_opened() {
    let whole = conformance("libconformance.so");
    for bytes in [b"#!/bin/sh\nrm -rf /\n".as_slice(), &[], &whole[..40]] {
        let error = refusal(&native(), "libbad.so", bytes);
        assert!(
            matches!(error, Error::Load(LoadError::NotALibrary { .. })),
            "{error:?}"
        );
    }
}

/// Makes `conformance` start with a configuration, by both carriers.
fn start_with(config: serde_json::Value, check: impl Fn(Error)) {
    let world = World::with(&["conformance", "hello"]);
    let host = world.host(GRANTS);
    for carrier in Carrier::ALL {
        let mut options = InstanceOptions::default();
        options.carrier = Some(carrier);
        options.config = config.as_object().cloned().unwrap();
        check(
            host.instance(&"conformance".parse().unwrap(), options)
                .unwrap_err(),
        );
        assert_hello_is_served(&host);
    }
}

#[test]
fn a_panic_in_init_is_an_error_with_its_message() {
    start_with(json!({"panic_in_init": true}), |error| {
        assert!(
            matches!(&error, Error::Call(CallError::Crashed { function: "lifecycle.init", message, .. }) if message.ends_with("told to panic in init")),
            "{error:?}"
        );
    });
}

#[test]
fn an_init_that_fails_says_why() {
    start_with(json!({"fail_init": "no licence server"}), |error| {
        assert_eq!(
            error.to_string(),
            "conformance: lifecycle.init: unavailable: no licence server"
        );
    });
}

#[test]
fn a_configuration_that_the_plugin_does_not_know_is_an_error() {
    start_with(json!({"no_such_key": 1}), |error| {
        assert!(
            error.to_string().contains("unknown field `no_such_key`"),
            "{error}"
        );
    });
}

#[test]
fn a_panic_in_a_call_ends_that_instance_only() {
    let world = World::with(&["conformance", "hello"]);
    let host =
        world.host("[plugin.conformance]\nstream_io = true\n[plugin.hello]\nstream_io = true\n");
    let opening = |text: &str| json!({"run": "r", "step": "s", "arguments": text});
    let head = json!({"modality": "text", "sequence": 3, "timestamp": 0, "attributes": []});
    for carrier in Carrier::ALL {
        let recorder = Recorder::new();
        let start = || {
            let mut options = recorder.options();
            options.carrier = Some(carrier);
            host.instance(&"conformance".parse().unwrap(), options)
                .unwrap()
        };
        let (mut one, mut other) = (start(), start());
        one.call_json("stage.open", vec![opening(r#"{"do":"panic"}"#)])
            .unwrap();
        other.call_json("stage.open", vec![opening("{}")]).unwrap();
        let error = one
            .call_json("stage.process", vec![head.clone(), json!("x")])
            .unwrap_err();
        assert!(
            error.to_string().contains("told to panic at chunk 3"),
            "{error}"
        );
        assert!(!one.is_alive());
        other
            .call_json("stage.process", vec![head.clone(), json!("x")])
            .unwrap();
        assert!(other.is_alive());
        assert_hello_is_served(&host);
    }
}

#[test]
fn a_missing_payload_file_is_reported_and_the_other_payload_serves() {
    let world = World::with(&["hello"]);
    let installed = world.directories().installed().join("hello/0.1.0");
    fs::remove_file(installed.join("hello.wasm")).unwrap();
    let host = world.host(GRANTS);
    let mut options = InstanceOptions::default();
    options.carrier = Some(Carrier::Component);
    let error = host
        .instance(&"hello".parse().unwrap(), options)
        .unwrap_err();
    assert!(error.to_string().contains("hello.wasm"), "{error}");
    let hello = host
        .instance(&"hello".parse().unwrap(), InstanceOptions::default())
        .unwrap();
    assert_eq!(hello.carrier_kind(), Carrier::Native);
    assert!(host.findings().iter().any(|finding| {
        finding
            .path()
            .is_some_and(|path| path.ends_with(Path::new("hello.wasm")) || path == installed)
    }));
}
