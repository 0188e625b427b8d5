//! Looking at the plugins of a process at work, and steering them, over its socket.

#![cfg(unix)]

use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::json;
use vox_contract::PluginId;
use vox_host::contract::{Chunk, ChunkHead, Error as Refused};
use vox_host::control::{ControlError, ControlServer, Outcome, Process, RefusalKind, processes};
use vox_host::lifecycle::State;
use vox_host::{Host, Instance, InstanceOptions, Ports};
use vox_testkit::World;

const GRANTS: &str = "[plugin.conformance]\nstream_io = true\n";

/// Takes whatever is pushed.
struct Discard;

impl Ports for Discard {
    fn push(&self, _: &str, _: ChunkHead, _: &[u8], _: Option<Duration>) -> Result<(), Refused> {
        Ok(())
    }

    fn pull(&self, _: &str, _: Option<Duration>) -> Result<Option<Chunk>, Refused> {
        Ok(None)
    }
}

fn id() -> PluginId {
    "conformance".parse().unwrap()
}

/// A world with a host that listens, and has an instance of `conformance`.
fn at_work() -> (World, Host, ControlServer, Instance) {
    let world = World::with(&["conformance"]);
    let host = world.host(GRANTS);
    let server = host.serve_control("a test").unwrap();
    let mut options = InstanceOptions::default();
    options.ports = Arc::new(Discard);
    let instance = host.instance(&id(), options).unwrap();
    (world, host, server, instance)
}

fn only_process(world: &World) -> Process {
    let found = processes(world.directories()).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

fn call(instance: &mut Instance) -> String {
    let mark = instance.call_json("service.invoke", vec![json!("release"), json!("")]);
    mark.unwrap().as_str().unwrap().to_owned()
}

#[test]
fn a_process_says_what_its_plugins_cost() {
    let (world, host, _server, mut instance) = at_work();
    call(&mut instance);
    let process = only_process(&world);
    assert_eq!(process.pid(), std::process::id());
    let report = process.status().unwrap();
    assert_eq!(
        (report.pid, report.command.as_str(), report.memory_budget),
        (std::process::id(), "a test", host.memory_budget())
    );
    let [plugin] = report.plugins.as_slice() else {
        panic!("{report:?}")
    };
    let own = host.status(&id()).unwrap();
    assert_eq!(plugin.usage, own.usage);
    assert_eq!(
        (plugin.state, plugin.version.clone()),
        (State::Active, own.version)
    );
    assert!(
        plugin.usage.calls >= 2 && plugin.usage.memory > 0,
        "{plugin:?}"
    );
}

#[test]
fn a_plugin_that_is_paused_from_outside_is_not_called_until_it_is_resumed() {
    let (world, host, _server, mut instance) = at_work();
    let process = only_process(&world);
    let done = process.pause(&id()).unwrap();
    assert_eq!((done.state, done.outcome), (State::Paused, Outcome::Paused));
    let before = host.status(&id()).unwrap().usage.calls;
    let caller = thread::spawn(move || call(&mut instance));
    // A process whose plugin is paused can be asked all the same.
    assert_eq!(process.status().unwrap().plugins[0].state, State::Paused);
    assert_eq!(host.status(&id()).unwrap().usage.calls, before);
    let done = process.resume(&id()).unwrap();
    assert_eq!(
        (done.state, done.outcome),
        (State::Active, Outcome::Resumed)
    );
    caller.join().unwrap();
}

#[test]
fn a_plugin_is_reloaded_from_outside_and_one_that_does_not_do_leaves_the_old_one() {
    let (world, _host, _server, mut instance) = at_work();
    let process = only_process(&world);
    assert_eq!(process.reload(&id()).unwrap().outcome, Outcome::Unchanged);
    world.release("second");
    let done = process.reload(&id()).unwrap();
    assert!(matches!(done.outcome, Outcome::Replaced { .. }), "{done:?}");
    assert_eq!(call(&mut instance), "release:second..");

    world.release("failinit");
    let error = process.reload(&id()).unwrap_err();
    assert!(
        matches!(&error, ControlError::Refused { refusal, .. } if refusal.kind == RefusalKind::Refused),
        "{error:?}"
    );
    assert!(error.to_string().contains("goes on serving"), "{error}");
    assert_eq!(call(&mut instance), "release:second..");
    let reloads = &process.status().unwrap().plugins[0].reloads;
    let kept: Vec<bool> = reloads
        .iter()
        .map(|reload| reload.kept_old.is_some())
        .collect();
    assert_eq!(kept, [false, true]);
}

#[test]
fn a_plugin_that_is_unloaded_from_outside_goes_with_its_last_instance() {
    let (world, _host, _server, instance) = at_work();
    let process = only_process(&world);
    let done = process.unload(&id()).unwrap();
    assert_eq!(
        (done.state, done.outcome),
        (State::Draining, Outcome::Unloaded)
    );
    drop(instance);
    assert_eq!(process.status().unwrap().plugins[0].state, State::Unloaded);
}

#[test]
fn what_a_state_does_not_allow_is_refused_with_the_state() {
    let (world, _host, _server, _instance) = at_work();
    let error = only_process(&world).resume(&id()).unwrap_err();
    assert!(error.to_string().contains("in state `active`"), "{error}");
}

#[test]
fn a_plugin_that_the_process_does_not_use_is_not_touched() {
    let world = World::with(&["conformance"]);
    let host = world.host(GRANTS);
    let _server = host.serve_control("a test").unwrap();
    let process = only_process(&world);
    let error = process.pause(&id()).unwrap_err();
    assert!(
        matches!(&error, ControlError::Refused { refusal, .. } if refusal.kind == RefusalKind::NotHere),
        "{error:?}"
    );
    assert!(host.plugins().is_empty());
}

#[test]
fn a_process_that_no_longer_listens_is_not_found() {
    let world = World::new();
    let host = world.host("");
    let server = host.serve_control("a test").unwrap();
    let process = only_process(&world);
    let socket = server.socket().to_owned();
    drop(server);
    assert!(!socket.exists());
    assert_eq!(processes(world.directories()).unwrap(), []);
    assert!(matches!(process.status(), Err(ControlError::Gone { .. })));
}

#[test]
fn where_nobody_ever_listened_nothing_runs() {
    assert_eq!(processes(World::new().directories()).unwrap(), []);
}

#[test]
fn the_sockets_of_dead_processes_are_swept_and_those_of_others_stay() {
    let world = World::new();
    let host = world.host("");
    let _server = host.serve_control("a test").unwrap();
    let runtime = &world.directories().runtime;
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    // Closing a listener leaves its file, as a process does that is killed.
    let dead = runtime.join(format!("{}.sock", ended.id()));
    drop(UnixListener::bind(&dead).unwrap());
    // The parent may be about to listen; and what is no socket of a process is nobody's business.
    let alive = runtime.join(format!("{}.sock", std::os::unix::process::parent_id()));
    drop(UnixListener::bind(&alive).unwrap());
    std::fs::write(runtime.join("notes.txt"), "kept").unwrap();

    let found: Vec<u32> = processes(world.directories())
        .unwrap()
        .iter()
        .map(Process::pid)
        .collect();
    assert!(
        found.contains(&std::process::id()) && !found.contains(&ended.id()),
        "{found:?}"
    );
    assert!(!dead.exists() && alive.exists() && runtime.join("notes.txt").exists());
}

#[test]
fn a_socket_that_a_process_of_the_same_id_left_is_no_hindrance() {
    let world = World::new();
    let host = world.host("");
    let socket = host.serve_control("before").unwrap().socket().to_owned();
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let _server = host.serve_control("after").unwrap();
    assert_eq!(only_process(&world).status().unwrap().command, "after");
}

#[test]
fn what_plugins_cost_is_there_as_measurements_too() {
    let (_world, host, _server, mut instance) = at_work();
    call(&mut instance);
    let samples = host.samples();
    let usage = host.usage();
    let value = |name: &str| {
        let mut found = samples.iter().filter(|sample| sample.name == name);
        let sample = found
            .next()
            .unwrap_or_else(|| panic!("{name}: {samples:?}"));
        assert_eq!(
            (
                sample.labels[0].key.as_str(),
                sample.labels[0].value.as_str()
            ),
            ("plugin", "conformance")
        );
        sample.value
    };
    assert_eq!(value("vox_plugin_calls_total"), usage.calls as f64);
    assert_eq!(value("vox_plugin_memory_bytes"), usage.memory as f64);
    assert_eq!(value("vox_plugin_instances"), 1.0);
    assert_eq!(
        value("vox_plugin_guest_seconds_total"),
        usage.guest_time.as_secs_f64()
    );
    assert!(
        samples
            .iter()
            .all(|sample| sample.name.starts_with(vox_host::HOST_SAMPLES))
    );
}
