//! Attacks on the limits: plugins that do on purpose what no plugin should, each against the guard
//! that stands in its way.
//!
//! The guests are written by hand ([`Guest`]), so that nothing of a toolchain or of the SDK stands
//! between an attack and the host. Each test is named after what holds in spite of the attack; an
//! attack that would last for ever runs under [`within`], so that a missing guard is a failure and
//! no hang.

mod boundary;
mod calls;
mod floods;
mod grants;
mod memory;
mod native;
mod stack;
mod time;

use std::fmt::Debug;
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use vox_contract::{LimitName, PluginId};
use vox_host::{CallError, Error, Host, Instance, InstanceOptions};
use vox_testkit::{Guest, World};

/// A body that never ends.
const LOOP: &str = "(loop $again (br $again)) (unreachable)";
/// More than any attack takes that meets its guard.
const LONG: Duration = Duration::from_secs(30);

fn id(text: &str) -> PluginId {
    text.parse().unwrap()
}

/// A world with these guests.
fn world(guests: &[(&str, &Guest)]) -> World {
    let world = World::new();
    for (id, guest) in guests {
        world.add_guest(id, guest);
    }
    world
}

fn start(host: &Host, plugin: &str) -> Result<Instance, Error> {
    host.instance(&id(plugin), InstanceOptions::default())
}

/// Calls the plugin's service.
fn invoke(instance: &mut Instance) -> Result<Vec<u8>, CallError> {
    instance.service().unwrap().invoke("work", b"")
}

/// What a guest whose service is attacked answers.
fn attack(guest: &Guest) -> Result<Vec<u8>, CallError> {
    attack_with(guest, "", "")
}

/// The same with settings and grants for the plugin `guest`.
fn attack_with(guest: &Guest, settings: &str, grants: &str) -> Result<Vec<u8>, CallError> {
    let world = world(&[("guest", guest)]);
    world.settings(settings);
    let host = world.host(grants);
    within(move || {
        let _world = world;
        invoke(&mut start(&host, "guest").unwrap())
    })
}

/// Runs an attack in a thread of its own, and fails when it does not end.
fn within<R: Send + 'static>(attack: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, ended) = mpsc::channel();
    let attack = thread::spawn(move || {
        let result = attack();
        let _ = sender.send(());
        result
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(LONG) {
        panic!("the attack goes on after {LONG:?}");
    }
    attack.join().unwrap_or_else(|panic| resume_unwind(panic))
}

#[track_caller]
fn assert_exceeded<T: Debug>(result: &Result<T, CallError>, limit: LimitName) {
    assert!(
        matches!(result, Err(CallError::Exceeded { exceeded, .. }) if exceeded.limit() == Some(limit)),
        "{limit}: {result:?}"
    );
    let text = result.as_ref().map(|_| ()).unwrap_err().to_string();
    assert!(
        text.contains(&format!("the limit `{limit}` of "))
            && text.contains(&format!("`limits.{limit}` under `[plugin.")),
        "{text}"
    );
}

#[track_caller]
fn assert_crashed<T: Debug>(result: &Result<T, CallError>, why: &str) {
    assert!(
        matches!(result, Err(CallError::Crashed { message, .. }) if message.contains(why)),
        "{result:?}"
    );
}
