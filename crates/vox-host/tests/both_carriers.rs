//! The promise of one source, two carriers: the same suite runs against the component and the
//! native library of one plugin, and everything that comes back is the same, byte for byte.

use std::sync::Arc;

use serde_json::{Value, json};
use vox_contract::Carrier;
use vox_host::contract::{Attribute, Chunk, ChunkHead};
use vox_host::{Files, Host};
use vox_testkit::{Recorded, Recorder, World};

const GRANTS: &str = r#"
[plugin.conformance]
kv = true
stream_io = true
events = true
blob = true
vsa_ops = true
plugin_call = ["hello"]
topics = ["conformance"]
[plugin.hello]
stream_io = true
"#;

/// What one call brought: its result or its error, and what the instance said meanwhile.
#[derive(Debug, PartialEq)]
struct Answer {
    call: String,
    result: Result<Value, String>,
    recorded: Vec<Recorded>,
}

/// Runs the calls on one instance, each of them whatever the one before it brought.
fn answers(host: &Host, carrier: Carrier, calls: &[(&str, Value)]) -> Vec<Answer> {
    let recorder = Recorder::new();
    for sequence in 0..3 {
        let head = ChunkHead {
            modality: "text".to_owned(),
            sequence,
            timestamp: 1_000 + sequence,
            attributes: vec![Attribute {
                key: "origin".to_owned(),
                value: "test ✓".to_owned(),
            }],
        };
        recorder.feed(
            "in",
            Chunk {
                head,
                data: vec![sequence as u8; 5],
            },
        );
    }
    let mut options = recorder.options();
    options.carrier = Some(carrier);
    let blob = vox_testkit::checkout().join("wit/types.wit");
    options.blobs = Arc::new(Files::from_iter([("contract".to_owned(), blob)]));
    options
        .config
        .insert("condition".to_owned(), json!("so-so"));
    let mut instance = host
        .instance(&"conformance".parse().unwrap(), options)
        .unwrap();
    assert_eq!(instance.carrier_kind(), carrier);
    calls
        .iter()
        .map(|(function, arguments)| {
            let arguments = arguments.as_array().cloned().unwrap();
            let result = instance
                .call_json(function, arguments)
                .map_err(|error| error.to_string());
            Answer {
                call: (*function).to_owned(),
                result,
                recorded: recorder.take(),
            }
        })
        .collect()
}

/// Asserts that both carriers answer alike, and gives the answers.
fn alike(calls: &[(&str, Value)]) -> Vec<Answer> {
    let world = World::with(&["conformance", "hello"]);
    let component = answers(&world.host(GRANTS), Carrier::Component, calls);
    let world = World::with(&["conformance", "hello"]);
    let native = answers(&world.host(GRANTS), Carrier::Native, calls);
    for (component, native) in component.iter().zip(&native) {
        assert_eq!(component, native);
    }
    component
}

fn step(arguments: Value) -> (&'static str, Value) {
    let invocation = json!({
        "run": "run-1", "step": "work", "runner": "conformance", "arguments": arguments.to_string(),
        "environment": [{"key": "LANG", "value": "C"}], "directory": "/", "attempt": 1,
        "idempotency_key": "k", "inputs": ["in"], "outputs": ["out"], "input_files": [], "output_files": [],
    });
    ("step.run", json!([invocation]))
}

/// The attributes of a step's outcome.
fn facts(answer: &Answer) -> Vec<(String, String)> {
    let outcome = answer
        .result
        .as_ref()
        .unwrap_or_else(|error| panic!("{}: {error}", answer.call));
    let facts = outcome["attributes"].as_array().unwrap();
    let text = |fact: &Value, name: &str| fact[name].as_str().unwrap().to_owned();
    facts
        .iter()
        .map(|fact| (text(fact, "key"), text(fact, "value")))
        .collect()
}

#[test]
fn every_extension_point_answers_the_same_on_both_carriers() {
    let head = json!({"modality": "text", "sequence": 4, "timestamp": 9, "attributes": [{"key": "a", "value": "ü"}]});
    let answers = alike(&[
        ("lifecycle.health", json!([])),
        (
            "stage.open",
            json!([{"run": "r", "step": "s", "arguments": "{}"}]),
        ),
        ("stage.process", json!([head, "some text"])),
        ("stage.process", json!([head, {"base64": "/wD+"}])),
        ("stage.finish", json!([])),
        ("lifecycle.snapshot", json!([])),
        ("lifecycle.restore", json!([2, {"base64": "BQAAAAAAAAA="}])),
        ("lifecycle.restore", json!([1, "old"])),
        ("metrics.collect", json!([])),
        ("modality.detect", json!(["notes.txt", ""])),
        ("modality.detect", json!(["notes.bin", {"base64": "AAEC"}])),
        ("modality.decode", json!(["contract", "{}"])),
        (
            "agent.start",
            json!([{"run": "r", "name": "ann", "arguments": "{\"a\":1}"}]),
        ),
        (
            "agent.receive",
            json!([{"sender": "bob", "topic": "t", "body": [1, 2, 3]}]),
        ),
        ("storage.begin", json!(["a/b"])),
        ("storage.append", json!([1, "hello "])),
        ("storage.append", json!([1, "world"])),
        ("storage.stat", json!(["a/b"])),
        ("storage.commit", json!([1])),
        ("storage.stat", json!(["a/b"])),
        ("storage.read", json!(["a/b", 6, 100])),
        ("storage.read", json!(["nothing", 0, 1])),
        ("storage.enumerate", json!(["a", "", 10])),
        ("storage.abort", json!([1])),
        ("storage.remove", json!(["a/b"])),
        (
            "hook.handle",
            json!([{"point": "post_chunk", "run": "r", "step": "s", "timestamp": 1, "detail": "\"replace\""}, "abc"]),
        ),
        (
            "hook.handle",
            json!([{"point": "pre_step", "run": "r", "step": "s", "timestamp": 1, "detail": "\"abort\""}, ""]),
        ),
        (
            "hook.handle",
            json!([{"point": "pre_step", "run": "r", "step": "s", "timestamp": 1, "detail": "{}"}, ""]),
        ),
        ("command.describe", json!(["conformance"])),
        (
            "command.run",
            json!(["conformance", ["a", "b", "--order", "turned"]]),
        ),
        ("command.run", json!(["conformance", ["a", "--code", "7"]])),
        ("command.run", json!(["conformance", ["--nonsense"]])),
        ("service.invoke", json!(["reverse", "abc"])),
        ("service.invoke", json!(["unknown", ""])),
        ("step.arguments-schema", json!(["conformance"])),
        ("step.arguments-schema", json!(["other"])),
        step(json!({"do": "echo"})),
    ]);
    let succeeded = answers
        .iter()
        .filter(|answer| answer.result.is_ok())
        .count();
    assert_eq!(succeeded, answers.len() - 6, "{answers:#?}");
    let pushed = answers.iter().flat_map(|answer| &answer.recorded).count();
    assert!(
        pushed > 200,
        "the chunks of the stage, the blob and the command: {pushed}"
    );
}

#[test]
fn every_host_interface_answers_the_same_on_both_carriers() {
    let answers = alike(&[
        step(json!({"do": "kv", "key": "k", "value": "v"})),
        step(json!({"do": "copy"})),
        step(json!({"do": "push", "port": "out", "timeout_ms": 5})),
        step(json!({"do": "push", "port": "closed", "timeout_ms": 5})),
        step(json!({"do": "push", "port": "full", "timeout_ms": 5})),
        step(json!({"do": "config", "key": "condition"})),
        step(json!({"do": "config", "key": "no.such.key"})),
        step(json!({"do": "log", "message": "hello"})),
        step(json!({"do": "emit", "name": "progress", "payload": "{\"done\": 0.5}"})),
        step(json!({"do": "emit", "name": "progress", "payload": "{"})),
        step(json!({"do": "blob", "id": "contract"})),
        step(json!({"do": "blob", "id": "nothing"})),
        step(json!({"do": "vsa", "dimensions": 10_000})),
        step(json!({"do": "vsa", "dimensions": 7})),
        step(
            json!({"do": "call", "plugin": "hello", "function": "command.describe", "arguments": "[\"hello\"]"}),
        ),
        step(json!({"do": "call", "plugin": "exec", "function": "step.run", "arguments": "[]"})),
        step(
            json!({"do": "call", "plugin": "hello", "function": "command.nothing", "arguments": "[]"}),
        ),
        step(json!({"do": "topics", "topic": "conformance"})),
        step(json!({"do": "topics", "topic": "other"})),
    ]);
    let fact = |index: usize| facts(&answers[index]);
    assert_eq!(
        fact(0),
        [
            ("before", "None"),
            ("after", "Some([118])"),
            ("deleted", "true")
        ]
        .map(|(k, v)| (k.into(), v.into()))
    );
    assert_eq!(fact(1), [("chunks".into(), "3".into())]);
    assert_eq!(answers[1].recorded.len(), 3);
    assert_eq!(
        fact(5),
        [("value".into(), "Some(\"\\\"so-so\\\"\")".into())]
    );
    assert_eq!(fact(6), [("value".into(), "None".into())]);
    let similarity: f32 = fact(12)[0].1.parse().unwrap();
    assert!(
        similarity > 0.4,
        "a bundle of two gives its members back: {similarity}"
    );
    for (index, words) in [
        (3, "closed"),
        (4, "timed out"),
        (9, "not JSON"),
        (11, "there is no blob"),
        (13, "8"),
        (15, "plugin_call"),
        (16, "command.nothing"),
        (18, "topics"),
    ] {
        let error = answers[index].result.as_ref().unwrap_err();
        assert!(error.contains(words), "{error} does not say {words}");
    }
}

#[test]
fn large_values_cross_whole_on_both_carriers() {
    let answers = alike(&[
        step(json!({"do": "large", "bytes": 300_000})),
        (
            "service.invoke",
            json!(["reverse", "0123456789".repeat(100_000)]),
        ),
    ]);
    assert_eq!(facts(&answers[0])[0].1.len(), 300_000);
    assert_eq!(
        answers[1].result.as_ref().unwrap().as_str().unwrap().len(),
        1_000_000
    );
}

#[test]
fn a_panic_says_the_same_on_both_carriers_and_the_next_call_gets_fresh_code() {
    let answers = alike(&[
        step(json!({"do": "panic", "message": "out of cheese"})),
        step(json!({"do": "echo"})),
    ]);
    let crash = answers[0].result.as_ref().unwrap_err();
    assert!(
        crash.contains("crashed: panicked at tests/plugins/conformance/src/deeds.rs:"),
        "{crash}"
    );
    assert!(crash.ends_with(": out of cheese"), "{crash}");
    assert_eq!(facts(&answers[1])[0].1, "run-1");
}
