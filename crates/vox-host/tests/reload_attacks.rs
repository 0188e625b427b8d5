//! What a reload must not let in: releases that are not admitted, state of somebody else, and the
//! old release when the new one has proved itself.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use vox_contract::{Carrier, PluginId};
use vox_crypto::SigningKey;
use vox_host::lifecycle::State;
use vox_host::signing::{self, SIGNATURE_FILE, Time, TrustStore, TrustedKey};
use vox_host::{CallError, Error, Host, Instance, Reloaded};
use vox_testkit::{Guest, Recorder, World};

const GRANTS: &str = "[plugin.conformance]\nstream_io = true\n[plugin.other]\nstream_io = true\n";

fn id(text: &str) -> PluginId {
    text.parse().unwrap()
}

fn conformance() -> PluginId {
    id("conformance")
}

fn instance_of(host: &Host, plugin: &str, carrier: Carrier) -> Result<Instance, Error> {
    let mut options = Recorder::new().options();
    options.carrier = Some(carrier);
    host.instance(&id(plugin), options)
}

fn instance(host: &Host, carrier: Carrier) -> Result<Instance, Error> {
    instance_of(host, "conformance", carrier)
}

/// The word of the release that answers.
fn release(instance: &mut Instance) -> String {
    let mark = instance
        .call_json("service.invoke", vec![json!("release"), json!("")])
        .unwrap();
    let mark = mark.as_str().unwrap();
    mark.trim_start_matches("release:")
        .trim_matches('.')
        .to_owned()
}

fn process(instance: &mut Instance) -> Result<(), CallError> {
    let head = vox_host::contract::ChunkHead {
        modality: "text".into(),
        sequence: 0,
        timestamp: 0,
        attributes: vec![],
    };
    instance.stage()?.process(&head, b"chunk")
}

/// How many chunks the instance remembers.
fn chunks(instance: &mut Instance) -> u64 {
    let samples = instance.call_json("metrics.collect", vec![]).unwrap();
    samples[0]["value"].as_f64().unwrap() as u64
}

#[track_caller]
fn replaced(result: Result<Reloaded, Error>) {
    assert!(
        matches!(result, Ok(Reloaded::Replaced { .. })),
        "{result:?}"
    );
}

fn directory(world: &World, plugin: &str) -> PathBuf {
    let installed = world.directories().installed();
    installed.join(plugin).join("0.1.0")
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_secret(&[number; 32])
}

fn sign(world: &World, by: u8) {
    let directory = directory(world, "conformance");
    signing::sign(&directory, &key(by), Time::now(), None).unwrap();
}

fn trust(world: &World, number: u8) {
    let trusted = TrustedKey {
        name: "Ada".to_owned(),
        added: Time::now(),
        expires: None,
    };
    let key = key(number).public();
    TrustStore::change(world.directories(), |store| store.trust(key, trusted)).unwrap();
}

/// The plugin `conformance` as it was installed: signed, and bound to its signer.
fn signed() -> World {
    let world = World::with(&["conformance"]);
    sign(&world, 1);
    let version = "0.1.0".parse().unwrap();
    TrustStore::change(world.directories(), |trust| {
        trust.note_installed(&conformance(), key(1).public(), &version);
    })
    .unwrap();
    world
}

fn unsign(world: &World) {
    fs::remove_file(directory(world, "conformance").join(SIGNATURE_FILE)).unwrap();
}

/// Replaces a signed plugin that serves, and finds that a reload refuses what is there now, for
/// this reason. What its signer signed is taken.
#[track_caller]
fn not_admitted(replace: impl Fn(&World), why: &str) {
    for carrier in Carrier::ALL {
        let world = signed();
        let host = world.host(GRANTS);
        let mut serving = instance(&host, carrier).unwrap();
        process(&mut serving).unwrap();
        replace(&world);
        let error = host.reload(&conformance()).unwrap_err();
        assert!(matches!(error, Error::NotReloaded { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");

        assert_eq!(release(&mut serving), "good");
        assert_eq!(chunks(&mut serving), 1);
        assert_eq!(release(&mut instance(&host, carrier).unwrap()), "good");
        let status = host.status(&conformance()).unwrap();
        assert_eq!(status.state, State::Active);
        assert_eq!(status.reloads.len(), 1);
        let reason = status.reloads[0].kept_old.as_deref().unwrap();
        assert!(reason.contains(why), "{reason}");

        // Nor does code of it come in that no instance has asked for yet.
        for other in Carrier::ALL.into_iter().filter(|other| *other != carrier) {
            let error = instance(&host, other).unwrap_err();
            assert!(matches!(error, Error::Signing(_)), "{error}");
        }

        world.release("second");
        sign(&world, 1);
        replaced(host.reload(&conformance()));
        assert_eq!(release(&mut serving), "second");
    }
}

#[test]
fn a_reload_takes_no_unsigned_release_of_a_plugin_that_was_signed() {
    let replace = |world: &World| {
        world.release("second");
        unsign(world);
    };
    not_admitted(replace, "it is not signed, and it was first installed with");
    // Not even when nothing else has changed.
    not_admitted(unsign, "it is not signed, and it was first installed with");
}

#[test]
fn a_reload_takes_no_release_that_another_key_signed_trusted_or_not() {
    let replace = |world: &World| {
        world.release("second");
        sign(world, 2);
    };
    not_admitted(replace, "it is signed by key");
    let replace = |world: &World| {
        trust(world, 2);
        replace(world);
    };
    not_admitted(replace, "it is signed by key");
}

#[test]
fn a_reload_takes_no_release_of_which_a_file_is_not_the_one_that_was_signed() {
    not_admitted(|world| world.release("second"), "was changed");
    let add = |world: &World| {
        world.release("second");
        sign(world, 1);
        fs::write(directory(world, "conformance").join("more"), "").unwrap();
    };
    not_admitted(add, "`more` was added");
}

#[test]
fn a_reload_takes_no_release_whose_signature_has_expired() {
    let replace = |world: &World| {
        world.release("second");
        let past = Time::from_seconds(1);
        let directory = directory(world, "conformance");
        signing::sign(&directory, &key(1), past, Some(past)).unwrap();
    };
    not_admitted(replace, "its signature expired");
}

#[test]
fn native_code_of_a_signer_who_is_trusted_no_more_is_not_reloaded() {
    let world = World::with(&["conformance"]);
    sign(&world, 1);
    trust(&world, 1);
    TrustStore::change(world.directories(), |trust| {
        let allowed: Vec<_> = trust.allowed().cloned().collect();
        allowed.iter().for_each(|allowed| {
            trust.disallow(allowed);
        });
    })
    .unwrap();
    let host = world.host(GRANTS);
    let mut serving = instance(&host, Carrier::Native).unwrap();
    world.release("second");
    sign(&world, 1);
    let key = key(1).public();
    TrustStore::change(world.directories(), |store| store.distrust(&key)).unwrap();
    let error = host.reload(&conformance()).unwrap_err().to_string();
    assert!(
        error.contains("the native code of conformance is refused"),
        "{error}"
    );
    assert_eq!(release(&mut serving), "good");
}

#[test]
fn a_reload_of_a_plugin_that_is_not_loaded_or_in_error_admits_nothing_either() {
    let world = signed();
    let host = world.host(GRANTS);
    world.release("second");
    assert_eq!(host.reload(&conformance()).unwrap(), Reloaded::NotLoaded);
    let error = instance(&host, Carrier::Component).unwrap_err();
    assert!(matches!(error, Error::Signing(_)), "{error}");
    assert_eq!(host.status(&conformance()).unwrap().state, State::Error);
    let error = host.reload(&conformance()).unwrap_err();
    assert!(matches!(error, Error::Signing(_)), "{error}");
    instance(&host, Carrier::Component).unwrap_err();
    assert_eq!(host.status(&conformance()).unwrap().state, State::Error);
    sign(&world, 1);
    host.reload(&conformance()).unwrap();
    let mut serving = instance(&host, Carrier::Component).unwrap();
    assert_eq!(release(&mut serving), "second");
}

/// The code of `conformance` as the plugin `other`.
fn add_other(world: &World) {
    let from = vox_testkit::plugin("conformance");
    let manifest = fs::read_to_string(from.join("Plugin.toml")).unwrap();
    let manifest = manifest
        .replace(r#"id = "conformance""#, r#"id = "other""#)
        .replace(r#"verb = "conformance""#, r#"verb = "other""#)
        .replace(r#"["conformance"]"#, r#"["other"]"#)
        .replace(r#"["reverse"]"#, r#"["other"]"#);
    world.add("other", &manifest, &[]);
    copy_payloads(&from, &directory(world, "other"));
}

fn copy_payloads(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap().flatten() {
        if file.file_name() != "Plugin.toml" {
            let aside = to.join(".aside");
            fs::copy(file.path(), &aside).unwrap();
            fs::rename(aside, to.join(file.file_name())).unwrap();
        }
    }
}

#[test]
fn state_goes_over_to_the_same_instance_of_the_same_plugin_alone() {
    for carrier in Carrier::ALL {
        let world = World::with(&["conformance"]);
        add_other(&world);
        let host = world.host(GRANTS);
        let start = |plugin: &str, count: u64| {
            let mut instance = instance_of(&host, plugin, carrier).unwrap();
            (0..count).for_each(|_| process(&mut instance).unwrap());
            instance
        };
        let mut ours = [start("conformance", 2), start("conformance", 3)];
        let mut theirs = [start("other", 5), start("other", 7)];
        let expect = |instances: &mut [Instance; 2], word: &str, counts: [u64; 2]| {
            assert_eq!(instances.each_mut().map(release), [word; 2]);
            assert_eq!(instances.each_mut().map(chunks), counts);
        };

        world.release("second");
        replaced(host.reload(&conformance()));
        expect(&mut theirs, "good", [5, 7]);
        expect(&mut ours, "second", [2, 3]);
        copy_payloads(
            &directory(&world, "conformance"),
            &directory(&world, "other"),
        );
        replaced(host.reload(&id("other")));
        expect(&mut ours, "second", [2, 3]);
        expect(&mut theirs, "second", [5, 7]);
    }
}

/// A plugin of this id that answers `snapshot` with 8 bytes of state, a 9 first, of this version.
fn add_predecessor(world: &World, version: u32) {
    // `ok(some({ version, state }))`, with its state at 128.
    let guest = Guest::new()
        .with(r#"(data (i32.const 128) "\09")"#)
        .does(
            "snapshot",
            &format!(
                "(i32.store8 (i32.const 72) (i32.const 1))
                 (i32.store (i32.const 76) (i32.const {version}))
                 (i32.store (i32.const 80) (i32.const 128))
                 (i32.store (i32.const 84) (i32.const 8)) (i32.const 64)"
            ),
        )
        .does(
            "invoke",
            "(i32.store (i32.const 24) (i32.const 128)) (i32.store (i32.const 28) (i32.const 1))
             (i32.const 16)",
        );
    let manifest = r#"
id = "conformance"
version = "0.1.0"
description = "What served before"
host = "*"
[payload]
component = "before.wasm"
[provides]
extension-points = { service = 1 }
services = ["reverse"]
"#;
    let file = [("before.wasm", &guest.component()[..])];
    world.add("conformance", manifest, &file);
}

/// Reloads a predecessor with the plugin `conformance`, which reads version 2 of its state.
fn succeeded_from(version: u32) -> (Host, Instance, World) {
    let world = World::new();
    add_predecessor(&world, version);
    let host = world.host(GRANTS);
    let serving = instance(&host, Carrier::Component).unwrap();
    world.add_directory(&vox_testkit::plugin("conformance"));
    replaced(host.reload(&conformance()));
    (host, serving, world)
}

#[test]
fn a_snapshot_of_a_version_that_the_new_code_does_not_know_keeps_the_old_one_serving() {
    for unknown in [0, 1, 3, u32::MAX] {
        let (host, mut serving, _world) = succeeded_from(unknown);
        let mut invoke = || serving.service().unwrap().invoke("reverse", b"").unwrap();
        assert_eq!(invoke(), [9], "the old code answers");
        assert_eq!(invoke(), [9]);
        let status = host.status(&conformance()).unwrap();
        assert_eq!(status.state, State::Active);
        let reason = status.reloads[0].kept_old.as_deref().unwrap();
        let expected = format!("8 bytes of state version {unknown}");
        assert!(
            reason.contains("it did not take the state over") && reason.contains(&expected),
            "{reason}"
        );
    }
    let (host, mut serving, _world) = succeeded_from(2);
    assert_eq!(chunks_after_a_call(&mut serving), 9);
    assert_eq!(
        host.status(&conformance()).unwrap().reloads[0].kept_old,
        None
    );
}

/// The call moves the instance over to code that has metrics.
fn chunks_after_a_call(instance: &mut Instance) -> u64 {
    let answer = instance.service().unwrap().invoke("reverse", b"ab");
    assert_eq!(answer.unwrap(), b"ba");
    chunks(instance)
}

/// A new release of which so many calls were answered before one that crashes.
fn crashes_after(calls: usize, carrier: Carrier) -> (World, Host, Instance) {
    let world = World::with(&["conformance"]);
    let host = world.host(GRANTS);
    let mut serving = instance(&host, carrier).unwrap();
    world.release("second");
    replaced(host.reload(&conformance()));
    let opening = json!({"run": "r", "step": "s", "arguments": r#"{"do":"panic"}"#});
    for _ in 0..calls {
        let opening = vec![opening.clone()];
        serving.call_json("stage.open", opening).unwrap();
    }
    (world, host, serving)
}

#[test]
fn a_crash_takes_a_release_back_until_16_calls_were_answered_and_not_afterwards() {
    for carrier in Carrier::ALL {
        // The old code was told nothing and makes the call.
        let (_world, host, mut serving) = crashes_after(15, carrier);
        process(&mut serving).unwrap();
        assert_eq!(release(&mut serving), "good");
        assert_eq!(release(&mut instance(&host, carrier).unwrap()), "good");
        let status = host.status(&conformance()).unwrap();
        let reason = status.reloads[0].kept_old.clone();
        assert!(reason.unwrap().contains("told to panic"));

        let (_world, host, mut serving) = crashes_after(16, carrier);
        let error = process(&mut serving).unwrap_err();
        assert!(matches!(error, CallError::Crashed { .. }), "{error}");
        assert_eq!(release(&mut serving), "second");
        assert_eq!(release(&mut instance(&host, carrier).unwrap()), "second");
        let status = host.status(&conformance()).unwrap();
        assert_eq!(status.reloads[0].kept_old, None);
        assert_eq!(status.state, State::Active);
    }
}
