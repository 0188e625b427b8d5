//! What guests hand over: too much, what is not there, and what is not what it says.

use std::sync::{Arc, Mutex};

use vox_contract::{Carrier, LimitName};
use vox_host::contract::step::Invocation;
use vox_host::contract::{Error as Refusal, Exceeded};
use vox_host::{BlobSource, CallError, Instance, InstanceOptions};
use vox_testkit::{Guest, World};

use super::{
    assert_crashed, assert_exceeded, attack, attack_with, id, invoke, start, within, world,
};

/// Answers `ok` with a list of bytes at this address.
fn answers(address: u32, length: u32) -> String {
    format!(
        "(i32.store (i32.const 24) (i32.const {address})) (i32.store (i32.const 28) (i32.const {length}))
         (i32.const 16)"
    )
}

#[test]
fn a_result_larger_than_its_cap_ends_the_call_on_both_carriers() {
    let mib = 1 << 20;
    let guest = Guest::new()
        .memory("32")
        .does("invoke", &answers(0, mib + 1));
    let settings = "[plugin.guest.limits]\nresult = \"1MiB\"\n";
    assert_exceeded(&attack_with(&guest, settings, ""), LimitName::Result);
    let guest = Guest::new().memory("32").does("invoke", &answers(0, mib));
    assert_eq!(attack_with(&guest, settings, "").unwrap().len(), 1 << 20);

    let world = World::with(&["conformance"]);
    world.settings("[plugin.conformance.limits]\nresult = \"1MiB\"\n");
    let host = world.host("");
    for carrier in Carrier::ALL {
        let mut options = InstanceOptions::default();
        options.carrier = Some(carrier);
        let mut instance = host.instance(&id("conformance"), options).unwrap();
        let large = large(&mut instance, 2 << 20);
        assert_exceeded(&large, LimitName::Result);
        assert_eq!(large_length(&mut instance), 1000);
    }
}

fn large(instance: &mut Instance, bytes: usize) -> Result<usize, CallError> {
    let outcome = instance.step()?.run(&Invocation {
        run: "run".into(),
        step: "step".into(),
        runner: "conformance".into(),
        arguments: format!(r#"{{"do":"large","bytes":{bytes}}}"#),
        environment: vec![],
        directory: "/".into(),
        attempt: 1,
        idempotency_key: "key".into(),
        inputs: vec![],
        outputs: vec![],
        input_files: vec![],
        output_files: vec![],
    })?;
    Ok(outcome.attributes[0].value.len())
}

fn large_length(instance: &mut Instance) -> usize {
    large(instance, 1000).unwrap()
}

#[test]
fn a_snapshot_larger_than_the_cap_ends_the_call() {
    // `ok(some({ version, state }))`: the state begins 16 bytes after the result's own tag.
    let guest = Guest::new().memory("32").does(
        "snapshot",
        "(i32.store8 (i32.const 72) (i32.const 1)) (i32.store (i32.const 80) (i32.const 0))
         (i32.store (i32.const 84) (i32.const 2000000)) (i32.const 64)",
    );
    let world = world(&[("guest", &guest)]);
    world.settings("[plugin.guest.limits]\nresult = \"1MiB\"\n");
    let mut instance = start(&world.host(""), "guest").unwrap();
    let saved = instance.lifecycle().unwrap().snapshot();
    assert_exceeded(&saved, LimitName::Result);
}

#[test]
fn a_list_whose_length_lies_crashes_its_guest_alone() {
    for (address, length) in [
        (0, u32::MAX),
        (u32::MAX, 1),
        (u32::MAX - 15, 32),
        (131_072, 1),
        (131_000, 73),
    ] {
        let guest = Guest::new().does("invoke", &answers(address, length));
        assert_crashed(&attack(&guest), "out of bounds");
    }
    let guest = Guest::new().does("invoke", &answers(131_000, 72));
    assert_eq!(attack(&guest).unwrap().len(), 72);
}

#[test]
fn a_result_that_lies_outside_of_memory_or_is_none_of_its_type_crashes_its_guest_alone() {
    let nowhere = Guest::new().does("invoke", "(i32.const -8)");
    assert_crashed(&attack(&nowhere), "out of bounds");
    let crooked = Guest::new().does("invoke", "(i32.const 1)");
    assert_crashed(&attack(&crooked), "aligned");
    let no_such_case = Guest::new().does(
        "invoke",
        "(i32.store8 (i32.const 64) (i32.const 7)) (i32.const 64)",
    );
    assert_crashed(&attack(&no_such_case), "discriminant");
    // `err(failed(…))` with a text that is no UTF-8.
    let no_text = Guest::new()
        .with(r#"(data (i32.const 1024) "\ff\fe\fd")"#)
        .does(
            "invoke",
            "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store8 (i32.const 72) (i32.const 7))
             (i32.store (i32.const 80) (i32.const 1024)) (i32.store (i32.const 84) (i32.const 3))
             (i32.const 64)",
        );
    assert_crashed(&attack(&no_text), "utf-8");
}

#[test]
fn an_allocator_that_answers_with_a_bad_address_crashes_its_guest_alone() {
    for address in ["-8", "131072", "131071"] {
        let guest = Guest::new().realloc(&format!("(i32.const {address})"));
        let world = world(&[("guest", &guest)]);
        let error = start(&world.host(""), "guest").unwrap_err().to_string();
        assert!(error.contains("realloc return: "), "{error}");
    }
}

#[test]
fn an_allocator_that_calls_the_host_crashes_its_guest_alone() {
    let guest = Guest::new()
        .import("cancel", "should-cancel", "(result i32)")
        .realloc("(drop (call $should_cancel)) (i32.const 4096)");
    let world = world(&[("guest", &guest)]);
    let error = start(&world.host(""), "guest").unwrap_err().to_string();
    assert!(error.contains("cannot leave component instance"), "{error}");
}

const LOG: (&str, &str, &str) = ("log", "write", "(param i32 i32 i32 i32 i32)");

#[test]
fn a_text_for_the_host_that_is_not_there_crashes_its_guest_alone() {
    let (interface, function, kind) = LOG;
    let guest = Guest::new().import(interface, function, kind).does(
        "invoke",
        "(call $write (i32.const 0) (i32.const 4096) (i32.const -1) (i32.const 0) (i32.const 0))
         (i32.const 0)",
    );
    assert_crashed(&attack(&guest), "out of bounds");
}

/// Hands a log record over with so many fields, whose values are all the same text of so many
/// bytes.
fn logs_fields(count: u32, length: u32) -> Guest {
    let (interface, function, kind) = LOG;
    Guest::new()
        .memory("64")
        .import(interface, function, kind)
        .does(
            "invoke",
            &format!(
                "(local $field i32)
             (loop $again
                (i32.store (i32.add (i32.const 2097160) (i32.mul (local.get $field) (i32.const 16)))
                    (i32.const 4096))
                (i32.store (i32.add (i32.const 2097164) (i32.mul (local.get $field) (i32.const 16)))
                    (i32.const {length}))
                (local.set $field (i32.add (local.get $field) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $field) (i32.const {count}))))
             (call $write (i32.const 0) (i32.const 4096) (i32.const 4)
                (i32.const 2097152) (i32.const {count}))
             (i32.const 0)"
            ),
        )
}

#[test]
fn texts_that_share_their_bytes_count_each_for_themselves() {
    // 64 fields of 1 MiB lie in 1 MiB of the guest, and would take 64 of the host.
    assert_exceeded(&attack(&logs_fields(64, 1 << 20)), LimitName::Result);
    // Many small things count with what they take in the host.
    let settings = "[plugin.guest.limits]\nresult = \"1MiB\"\n";
    let many = logs_fields(65_536, 0);
    assert_exceeded(&attack_with(&many, settings, ""), LimitName::Result);
    attack(&logs_fields(8, 1 << 20)).unwrap();
}

#[test]
fn nested_lists_that_share_their_elements_do_not_multiply_in_the_host() {
    // `describe` answers 1000 nodes that share 1000 words: a million strings in the host of what
    // takes 72 KB in the guest. A node is path, about, arguments and a flag, in 28 bytes.
    let guest = Guest::new().memory("4").does(
        "describe",
        "(local $node i32)
         (loop $again
            (i32.store (i32.add (i32.const 65536) (i32.mul (local.get $node) (i32.const 28)))
                (i32.const 131072))
            (i32.store (i32.add (i32.const 65540) (i32.mul (local.get $node) (i32.const 28)))
                (i32.const 1000))
            (local.set $node (i32.add (local.get $node) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $node) (i32.const 1000))))
         (i32.store (i32.const 72) (i32.const 65536)) (i32.store (i32.const 76) (i32.const 1000))
         (i32.const 64)",
    );
    let world = world(&[("guest", &guest)]);
    let host = world.host("");
    within(move || {
        let mut instance = start(&host, "guest").unwrap();
        let nodes = instance.command().unwrap().describe("guest");
        assert_exceeded(&nodes.map(|nodes| nodes.len()), LimitName::Result);
    });
}

#[test]
fn a_message_larger_than_its_cap_is_refused_and_harms_nobody() {
    let emits = |bytes: u32| {
        Guest::new()
            .memory("32")
            .import("events", "emit", "(param i32 i32 i32 i32 i32)")
            .import("topics", "publish", "(param i32 i32 i32 i32 i32)")
            .with(r#"(data (i32.const 1024) "0")"#)
            .does("invoke", &format!(
                "(call $publish (i32.const 1024) (i32.const 1) (i32.const 4096) (i32.const {bytes}) (i32.const 64))
                 (if (i32.load8_u (i32.const 64)) (then (return (i32.const 64))))
                 (i32.const 0)"
            ))
    };
    let grants = "[plugin.guest]\ntopics = true\n";
    attack_with(&emits((1 << 20) - 1), "", grants).unwrap();
    let refused = attack_with(&emits(1 << 20), "", grants).unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("the limit `message` of 1048576 was reached"),
        "{text}"
    );
    assert!(
        matches!(refused, CallError::Refused { .. }),
        "a refusal, no trap"
    );
}

#[test]
fn a_guest_that_crashed_in_its_result_serves_again() {
    // It lies at its first call only: the second finds fresh code, where the flag is 0 again, so it
    // is the request that tells them apart.
    let guest = Guest::new().does(
        "invoke",
        "(if (i32.eqz (local.get $length)) (then (return (i32.const 1048576)))) (i32.const 0)",
    );
    let world = world(&[("guest", &guest)]);
    let host = world.host("");
    let mut instance = start(&host, "guest").unwrap();
    assert_crashed(&invoke(&mut instance), "out of bounds");
    instance.service().unwrap().invoke("work", b"x").unwrap();
}

/// Notes how much it is asked for, and gives little.
#[derive(Debug, Default)]
struct Meagre(Mutex<Vec<u32>>);

impl BlobSource for Meagre {
    fn size(&self, _: &str) -> Result<u64, Refusal> {
        Ok(u64::MAX)
    }

    fn read(&self, _: &str, _: u64, length: u32) -> Result<Vec<u8>, Refusal> {
        self.0.lock().unwrap().push(length);
        Ok(vec![7; 4])
    }
}

#[test]
fn no_more_of_a_blob_is_read_at_once_than_a_plugin_has_memory() {
    let guest = Guest::new()
        .import("blob", "read", "(param i32 i32 i64 i32 i32)")
        .does(
            "invoke",
            "(call $read (i32.const 1024) (i32.const 0) (i64.const 0) (i32.const -1) (i32.const 64))
             (i32.const 64)",
        );
    let world = world(&[("guest", &guest)]);
    world.settings("[plugin.guest.limits]\nmemory = \"1MiB\"\n");
    let host = world.host("[plugin.guest]\nblob = true\n");
    let blobs = Arc::new(Meagre::default());
    let mut options = InstanceOptions::default();
    options.blobs = Arc::clone(&blobs) as Arc<dyn BlobSource>;
    let mut instance = host.instance(&id("guest"), options).unwrap();
    assert_eq!(invoke(&mut instance).unwrap(), [7; 4]);
    assert_eq!(*blobs.0.lock().unwrap(), [1 << 20]);
}

#[test]
fn a_vector_of_more_dimensions_than_allowed_is_not_made() {
    const MOST: u32 = 8 << 20;
    let symbol = |dimensions: u32| {
        let guest = Guest::new()
            .memory("32")
            .import("vsa", "symbol", "(param i32 i32 i32 i32)")
            .with(r#"(data (i32.const 1024) "red")"#)
            .does(
                "invoke",
                &format!(
                    "(call $symbol (i32.const 1024) (i32.const 3) (i32.const {dimensions}) (i32.const 64))
                     (i32.const 64)"
                ),
            );
        let vector = attack_with(&guest, "", "[plugin.guest]\nvsa_ops = true\n");
        vector.map(|bytes| bytes.len())
    };
    for dimensions in [MOST + 8, u32::MAX - 7] {
        let result = symbol(dimensions);
        assert!(
            matches!(
                &result,
                Err(CallError::Refused { error: Refusal::Exceeded(Exceeded { limit, value, .. }), .. })
                    if limit == "vsa-dimensions" && *value == u64::from(MOST)
            ),
            "{dimensions}: {result:?}"
        );
    }
    assert!(symbol(MOST).unwrap() >= MOST as usize / 8);
}
