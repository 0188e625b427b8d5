//! Calls across the boundary with arguments that no SDK would make: the host crashes on none,
//! answers as the ABI and the contract say, and spends little on what it refuses.
//!
//! A puppet, a native plugin without an SDK, calls every host function with the bytes that it is
//! given. A native plugin is trusted, so this is about mistakes and not about malice; but the same
//! functions serve components, where it is.

use std::sync::Arc;

use serde_json::{Value, json};
use vox_abi::Status;
use vox_abi::call::decode;
use vox_fuzz::{bound, ensure, fuzz, peak_of};
use vox_host::contract::generation::Piece;
use vox_host::contract::{Attribute, ChunkHead, EXPORTS, Error, IMPORTS, call::Target, log::Level};
use vox_host::{CallError, Files, Instance, JsonCallError};
use vox_testkit::{Recorder, World};

const MANIFEST: &str = r#"
id = "puppet"
version = "0.1.0"
description = "Calls the host as it is told"
host = "*"
[payload]
native = { PLATFORM = "libpuppet.so" }
[provides]
extension-points = { step = 1, modality = 1, agent = 1, metrics = 1, storage = 1, hook = 1, command = 1, service = 1 }
runners = ["puppet"]
commands = [{ verb = "puppet", summary = "Does as it is told" }]
hooks = [{ point = "pre_step" }]
services = ["puppet"]
topics = ["puppet"]
[[capabilities]]
name = "kv"
reason = "is told to"
[[capabilities]]
name = "stream_io"
reason = "is told to"
[[capabilities]]
name = "events"
reason = "is told to"
[[capabilities]]
name = "blob"
reason = "is told to"
[[capabilities]]
name = "vsa_ops"
reason = "is told to"
[[capabilities]]
name = "plugin_call"
reason = "is told to"
[[capabilities]]
name = "topics"
reason = "is told to"
"#;

const GRANTS: &str = r#"
[plugin.puppet]
kv = true
stream_io = true
events = true
blob = true
vsa_ops = true
plugin_call = true
topics = true
"#;

/// An instance of the puppet with everything granted; it lives as long as its world.
fn puppet(world: &World) -> Instance {
    let source = vox_testkit::checkout().join("tests/fuzz/puppet/puppet.rs");
    let source = std::fs::read_to_string(source).unwrap();
    let library = vox_testkit::compile_library(world.path(), "puppet", &source);
    let manifest = MANIFEST.replace("PLATFORM", &vox_contract::Platform::current().to_string());
    let library = std::fs::read(library).unwrap();
    world.add("puppet", &manifest, &[("libpuppet.so", &library)]);
    let mut options = Recorder::new().options();
    let blob = vox_testkit::checkout().join("wit/types.wit");
    options.blobs = Arc::new(Files::from_iter([("contract".to_owned(), blob)]));
    let host = world.host(GRANTS);
    host.instance(&"puppet".parse().unwrap(), options).unwrap()
}

/// A call as the puppet is told it.
#[derive(Debug)]
struct HostCall {
    interface: usize,
    function: usize,
    arguments: Vec<Vec<u8>>,
}

impl HostCall {
    /// A call by name with arguments in their encodings.
    fn new(name: &str, arguments: &[&[u8]]) -> Self {
        let (interface, function) = name.split_once('.').unwrap();
        let index = IMPORTS.iter().position(|known| known.name == interface);
        let interface = index.unwrap();
        let functions = IMPORTS[interface].functions;
        let function = functions.iter().position(|known| *known == function);
        Self {
            interface,
            function: function.unwrap(),
            arguments: arguments.iter().map(|bytes| bytes.to_vec()).collect(),
        }
    }

    fn name(&self) -> String {
        let interface = &IMPORTS[self.interface];
        format!("{}.{}", interface.name, interface.functions[self.function])
    }

    /// Reads any bytes as a call of something that is there.
    fn read(bytes: &[u8]) -> Option<Self> {
        let ([interface, function, count], mut rest) = bytes.split_first_chunk()?;
        let interface = usize::from(*interface) % IMPORTS.len();
        let function = usize::from(*function) % IMPORTS[interface].functions.len();
        let mut arguments = Vec::new();
        for _ in 0..count % 8 {
            let Some((length, after)) = rest.split_first_chunk::<2>() else {
                break;
            };
            let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
            let (argument, after) = after.split_at(length);
            arguments.push(argument.to_vec());
            rest = after;
        }
        Some(Self {
            interface,
            function,
            arguments,
        })
    }

    fn write(&self) -> Vec<u8> {
        let head = [self.interface, self.function, self.arguments.len()];
        let mut bytes = head.map(|number| number as u8).to_vec();
        for argument in &self.arguments {
            bytes.extend((argument.len() as u16).to_le_bytes());
            bytes.extend(argument);
        }
        bytes
    }

    /// The same, but waiting for nothing: a guest may wait for weeks, a test may not.
    fn at_once(mut self) -> Self {
        if self.name() == "topics.receive"
            && let Some(timeout) = self.arguments.get_mut(1)
            && timeout.len() == 4
        {
            timeout.fill(0);
        }
        self
    }
}

fn encoded<T: serde::Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).unwrap()
}

/// A call of every host function that does what it is for.
fn sound_calls() -> Vec<HostCall> {
    let attributes = vec![Attribute {
        key: "a".to_owned(),
        value: "ß".to_owned(),
    }];
    let head = encoded(&ChunkHead {
        modality: "text".to_owned(),
        sequence: 1,
        timestamp: u64::MAX,
        attributes: attributes.clone(),
    });
    let (attributes, level) = (encoded(&attributes), encoded(&Level::Warn));
    let (now, soon) = (encoded(&Some(0_u32)), 0_u32.to_le_bytes());
    let (plugin, point) = (
        encoded(&Target::Plugin("puppet".to_owned())),
        encoded(&Target::ExtensionPoint("service".to_owned())),
    );
    let dimensions = 256_u32.to_le_bytes();
    let vector = hypervector();
    let bundle = encoded(&vec![vector.clone(), vector.clone()]);
    let subscription = 1_u64.to_le_bytes();
    let piece = encoded(&Piece {
        token: Some(7),
        text: "ß".to_owned(),
        log_probability: Some(-0.5),
        alternatives: Vec::new(),
    });
    let gradient = [1.0_f32.to_le_bytes(), 2.0_f32.to_le_bytes()].concat();
    vec![
        HostCall::new("log.write", &[&level, b"a message", &attributes]),
        HostCall::new("config.get", &[b"key"]),
        HostCall::new("kv.set", &[b"key", b"value"]),
        HostCall::new("kv.get", &[b"key"]),
        HostCall::new("kv.delete", &[b"key"]),
        HostCall::new("events.emit", &[b"puppet.moved", br#"{"far":1}"#]),
        HostCall::new("cancel.should-cancel", &[]),
        HostCall::new("blob.size", &[b"contract"]),
        HostCall::new(
            "blob.read",
            &[b"contract", &7_u64.to_le_bytes(), &9_u32.to_le_bytes()],
        ),
        HostCall::new("stream.push", &[b"out", &head, b"data", &now]),
        HostCall::new("stream.pull", &[b"in", &now]),
        HostCall::new("vsa.symbol", &[b"name", &dimensions]),
        HostCall::new("vsa.bind", &[&vector, &vector]),
        HostCall::new("vsa.unbind", &[&vector, &vector]),
        HostCall::new("vsa.bundle", &[&bundle]),
        HostCall::new("vsa.similarity", &[&vector, &vector]),
        HostCall::new(
            "call.invoke",
            &[&plugin, b"service.invoke", br#"["puppet",""]"#],
        ),
        HostCall::new("call.invoke", &[&point, b"service.invoke", b"[]"]),
        HostCall::new("topics.publish", &[b"puppet", b"payload"]),
        HostCall::new("topics.subscribe", &[b"puppet"]),
        HostCall::new("topics.receive", &[&subscription, &soon]),
        HostCall::new("topics.unsubscribe", &[&subscription]),
        HostCall::new(
            "reduction.exchange",
            &[b"weight", &2_u64.to_le_bytes(), &gradient],
        ),
        HostCall::new("generation.emit", &[&piece]),
    ]
}

/// A hypervector of 64 dimensions as plugins have it.
fn hypervector() -> Vec<u8> {
    vec![0b1010_0101; 8]
}

/// Makes the call through the puppet; answers its status and its reply.
fn make(instance: &mut Instance, call: &HostCall) -> Result<(Status, Vec<u8>), CallError> {
    let answer = instance.service()?.invoke("puppet", &call.write())?;
    let (status, reply) = answer.split_first_chunk::<4>().unwrap();
    Ok((Status(i32::from_le_bytes(*status)), reply.to_vec()))
}

#[test]
fn the_corpus_has_a_sound_call_of_every_host_function() {
    let world = World::new();
    let mut instance = puppet(&world);
    let mut missing: Vec<String> = IMPORTS
        .iter()
        .flat_map(|interface| {
            let functions = interface.functions.iter();
            functions.map(|function| format!("{}.{function}", interface.name))
        })
        .collect();
    for call in sound_calls() {
        let (status, reply) = make(&mut instance, &call).unwrap();
        assert_ne!(
            status,
            Status::MALFORMED,
            "{}: {}",
            call.name(),
            reply.escape_ascii()
        );
        missing.retain(|name| *name != call.name());
    }
    assert!(missing.is_empty(), "no call of {missing:?}");
}

#[test]
fn any_bytes_may_be_passed_to_any_host_function() {
    let world = World::new();
    let instance = std::cell::RefCell::new(puppet(&world));
    let corpus = sound_calls().iter().map(HostCall::write).collect();
    fuzz(
        corpus,
        &[
            "puppet",
            "contract",
            "in",
            "out",
            "[]",
            "service.invoke",
            "lifecycle.init",
        ],
        |bytes| {
            let Some(call) = HostCall::read(bytes).map(HostCall::at_once) else {
                return Ok(());
            };
            let mut instance = instance.borrow_mut();
            let (made, peak) = peak_of(|| make(&mut instance, &call));
            let (status, reply) = made.map_err(|error| format!("{}: {error}", call.name()))?;
            // A `symbol` may have as much as 1 MiB.
            let most = bound(6 << 20, 256, bytes.len());
            ensure!(
                peak <= most,
                "{}: {peak} bytes of memory for {call:?}",
                call.name()
            );
            match status {
                Status::OK | Status::VALUE => {}
                Status::ERROR => {
                    let error: Result<Error, _> = decode(&reply);
                    ensure!(error.is_ok(), "{}: no error of the contract", call.name());
                }
                Status::MALFORMED => {
                    let text = String::from_utf8(reply);
                    ensure!(
                        text.is_ok_and(|text| text.starts_with("argument ")),
                        "no place"
                    );
                }
                other => {
                    return Err(format!(
                        "{}: {other:?}: {}",
                        call.name(),
                        reply.escape_ascii()
                    ));
                }
            }
            Ok(())
        },
    );
}

#[test]
fn any_json_may_be_passed_to_any_exported_function() {
    let world = World::new();
    let instance = std::cell::RefCell::new(puppet(&world));
    let sound = [
        json!(["lifecycle.health"]),
        json!(["lifecycle.restore", 1, "state"]),
        json!(["hook.handle", {"point": "pre_step", "run": "r", "step": "s", "timestamp": 0, "detail": "{}"}, {"base64": "AAE="}]),
        json!(["agent.receive", {"sender": "a", "topic": "b", "body": [1, 255]}]),
        json!(["agent.start", {"run": "r", "name": "n", "arguments": "{}"}]),
        json!(["command.run", "puppet", ["--all"]]),
        json!(["modality.detect", "a.txt", "prefix"]),
        json!(["storage.enumerate", "a", "b", 10]),
        json!(["storage.read", "a", 0, 10]),
        json!(["step.run", {"run": "r", "step": "s", "runner": "puppet", "arguments": "{}",
            "environment": [{"key": "a", "value": "b"}], "directory": "/", "attempt": 1,
            "idempotency-key": "k", "inputs": [], "outputs": []}]),
        json!(["metrics.collect"]),
    ];
    let corpus = sound
        .iter()
        .map(|call| serde_json::to_vec(call).unwrap())
        .collect();
    fuzz(
        corpus,
        &[
            "service.invoke",
            "\"base64\":",
            "-1",
            "4294967296",
            "1.5",
            "\u{0}",
        ],
        |bytes| {
            let Ok(Value::Array(mut call)) = serde_json::from_slice(bytes) else {
                return Ok(());
            };
            if call.is_empty() {
                return Ok(());
            }
            let Value::String(function) = call.remove(0) else {
                return Ok(());
            };
            // The puppet takes other services for calls that it cannot read.
            if function == "service.invoke" {
                return Ok(());
            }
            let mut instance = instance.borrow_mut();
            let (made, peak) = peak_of(|| instance.call_json(&function, call));
            let most = bound(1 << 20, 256, bytes.len());
            ensure!(
                peak <= most,
                "{peak} bytes of memory for {} of input",
                bytes.len()
            );
            match made {
                Ok(_) | Err(JsonCallError::Call(CallError::Refused { .. })) => Ok(()),
                Err(JsonCallError::Unknown { hint, .. }) => {
                    let interfaces = EXPORTS.iter().any(|known| hint.contains(known.name));
                    ensure!(interfaces, "a hint that names nothing: {hint}");
                    Ok(())
                }
                Err(JsonCallError::Arguments(text)) => {
                    ensure!(!text.is_empty(), "a refusal without a reason");
                    Ok(())
                }
                Err(error) => Err(format!("{function}: {error}")),
            }
        },
    );
}
