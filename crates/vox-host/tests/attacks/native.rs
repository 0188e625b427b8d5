//! What native code can do to its host by mistake. It is trusted and not stopped: what is promised
//! is that its panics stay inside, and that nothing it still holds goes away under it.

use serde_json::json;
use vox_contract::Carrier;
use vox_host::contract::step::Invocation;
use vox_host::{CallError, Host, Instance};
use vox_testkit::{Recorder, World};

use super::{LONG, assert_crashed, id, within};

const GRANTS: &str =
    "[plugin.conformance]\nevents = true\nkv = true\ntopics = true\nplugin_call = true\n";

fn instance(
    host: &Host,
    recorder: &std::sync::Arc<Recorder>,
    config: serde_json::Value,
) -> Instance {
    let mut options = recorder.options();
    options.carrier = Some(Carrier::Native);
    options.config = config.as_object().cloned().unwrap();
    host.instance(&id("conformance"), options).unwrap()
}

fn run(instance: &mut Instance, arguments: serde_json::Value) -> Result<i32, CallError> {
    let outcome = instance.step()?.run(&Invocation {
        run: "run".into(),
        step: "step".into(),
        runner: "conformance".into(),
        arguments: arguments.to_string(),
        environment: vec![],
        directory: "/".into(),
        attempt: 1,
        idempotency_key: "key".into(),
        inputs: vec![],
        outputs: vec![],
        input_files: vec![],
        output_files: vec![],
    })?;
    Ok(outcome.code)
}

#[test]
fn a_panic_in_any_function_of_the_lifecycle_ends_its_instance_alone() {
    // `init` is in bad_payloads.rs, as a host makes nothing of it.
    let world = World::with(&["conformance"]);
    let host = world.host(GRANTS);
    let recorder = Recorder::new();
    let mut bystander = instance(&host, &recorder, json!({}));
    for function in ["health", "snapshot", "restore", "shutdown"] {
        let mut panics = instance(&host, &recorder, json!({"panic_in": function}));
        let mut lifecycle = panics.lifecycle().unwrap();
        let ended = match function {
            "health" => lifecycle.health().map(drop),
            "snapshot" => lifecycle.snapshot().map(drop),
            "restore" => lifecycle.restore(2, &[0; 8]),
            _ => lifecycle.shutdown(),
        };
        assert_crashed(&ended, &format!("told to panic in {function}"));
        assert!(!panics.is_alive());
        run(&mut panics, json!({"do": "echo"})).unwrap();
        run(&mut bystander, json!({"do": "echo"})).unwrap();
    }
    // The last instance was told to panic in `shutdown`, and did so again when it was dropped.
    assert_eq!(host.status(&id("conformance")).unwrap().usage.traps, 5);
}

#[test]
fn a_thread_that_calls_the_host_while_its_instance_is_dropped_finds_the_host_and_is_told_to_end() {
    within(|| {
        let world = World::with(&["conformance", "hello"]);
        let host = world.host(GRANTS);
        let recorder = Recorder::new();
        let events = recorder.listen();
        let mut threaded = instance(&host, &recorder, json!({}));
        run(&mut threaded, json!({"do": "thread"})).unwrap();
        assert_eq!(events.recv_timeout(LONG).unwrap(), "thread-begins");
        drop(threaded);
        assert_eq!(events.recv_timeout(LONG).unwrap(), "thread-ends");
        drop(host);
    });
}

#[test]
fn a_thread_outlives_the_host_that_it_calls() {
    within(|| {
        let world = World::with(&["conformance", "hello"]);
        let host = world.host(GRANTS);
        let recorder = Recorder::new();
        let events = recorder.listen();
        let mut threaded = instance(&host, &recorder, json!({}));
        run(&mut threaded, json!({"do": "thread"})).unwrap();
        assert_eq!(events.recv_timeout(LONG).unwrap(), "thread-begins");
        drop(host);
        drop(threaded);
        assert_eq!(events.recv_timeout(LONG).unwrap(), "thread-ends");
    });
}
