//! Guests that go on using what they may not use any more.

use std::path::Path;

use vox_contract::GrantsFile;
use vox_host::CallError;
use vox_host::contract::Error as Refusal;
use vox_testkit::{Guest, Recorder};

use super::calls::calls;
use super::{id, invoke, start, within, world};

fn grants(text: &str) -> GrantsFile {
    GrantsFile::parse(text, Path::new("grants of the test")).unwrap()
}

#[track_caller]
fn assert_denied<T: std::fmt::Debug>(result: &Result<T, CallError>, capability: &str) {
    assert!(
        matches!(result, Err(CallError::Refused { error: Refusal::Denied(text), .. })
            if text.starts_with(&format!("`{capability}")) && text.contains("; grant it with `vox plugin grant ")),
        "{result:?}"
    );
}

/// Emits an event.
fn emits() -> Guest {
    Guest::new()
        .import("events", "emit", "(param i32 i32 i32 i32 i32)")
        .with(r#"(data (i32.const 1024) "e{}")"#)
        .does(
            "invoke",
            "(call $emit (i32.const 1024) (i32.const 1) (i32.const 1025) (i32.const 2) (i32.const 64))
             (if (i32.load8_u (i32.const 64)) (then (return (i32.const 64)))) (i32.const 0)",
        )
}

#[test]
fn what_is_revoked_is_refused_at_the_next_call_of_an_instance_that_lives() {
    let world = world(&[("guest", &emits())]);
    let host = world.host("[plugin.guest]\nevents = true\n");
    let recorder = Recorder::new();
    let mut instance = host.instance(&id("guest"), recorder.options()).unwrap();
    invoke(&mut instance).unwrap();
    host.set_grants(GrantsFile::default());
    assert_denied(&invoke(&mut instance), "events");
    assert_eq!(recorder.take().len(), 1);
    host.set_grants(grants("[plugin.guest]\nevents = true\n"));
    invoke(&mut instance).unwrap();
    assert_eq!(instance.crashes(), 0);
}

#[test]
fn what_is_revoked_is_refused_in_an_instance_that_is_kept_for_calls_and_to_its_caller() {
    let world = world(&[("caller", &calls("callee")), ("callee", &emits())]);
    let both = "[plugin.caller]\nplugin_call = true\n[plugin.callee]\nevents = true\n";
    let host = world.host(both);
    within(move || {
        let mut caller = start(&host, "caller").unwrap();
        invoke(&mut caller).unwrap();
        host.set_grants(grants("[plugin.caller]\nplugin_call = true\n"));
        assert_denied(&invoke(&mut caller), "events");
        host.set_grants(grants("[plugin.callee]\nevents = true\n"));
        assert_denied(&invoke(&mut caller), "plugin_call");
        host.set_grants(grants(both));
        invoke(&mut caller).unwrap();
    });
}

#[test]
fn a_topic_that_is_revoked_is_not_read_through_an_old_subscription() {
    // The first call subscribes and sends; a call with a request receives.
    let guest = Guest::new()
        .import("topics", "subscribe", "(param i32 i32 i32)")
        .import("topics", "publish", "(param i32 i32 i32 i32 i32)")
        .import("topics", "receive", "(param i64 i32 i32)")
        .with(r#"(data (i32.const 1024) "newsflash") (global $id (mut i64) (i64.const 0))"#)
        .does(
            "invoke",
            "(if (i32.eqz (local.get $length)) (then
                (call $subscribe (i32.const 1024) (i32.const 4) (i32.const 64))
                (global.set $id (i64.load (i32.const 72)))
                (call $publish (i32.const 1024) (i32.const 4) (i32.const 1028) (i32.const 5) (i32.const 64))
                (return (i32.const 0))))
             (call $receive (global.get $id) (i32.const 0) (i32.const 64))
             (if (i32.load8_u (i32.const 64)) (then (return (i32.const 64))))
             (i32.store (i32.const 24) (i32.const 4096))
             (i32.store (i32.const 28) (i32.load8_u (i32.const 72)))
             (i32.const 16)",
        );
    let world = world(&[("guest", &guest)]);
    let host = world.host("[plugin.guest]\ntopics = [\"news\"]\n");
    let mut instance = start(&host, "guest").unwrap();
    invoke(&mut instance).unwrap();
    host.set_grants(grants("[plugin.guest]\ntopics = [\"mail\"]\n"));
    assert_denied(&instance.service().unwrap().invoke("work", b"x"), "topics");
    host.set_grants(grants("[plugin.guest]\ntopics = [\"news\"]\n"));
    let received = instance.service().unwrap().invoke("work", b"x").unwrap();
    assert_eq!(received.len(), 1);
}
