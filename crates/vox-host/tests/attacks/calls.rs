//! Plugins that call each other: in circles, too deep, for too long, and too many at once.

use std::fs;
use std::time::Duration;

use vox_contract::LimitName;
use vox_host::contract::Error as Refusal;
use vox_host::lifecycle::State;
use vox_host::{CallError, CancelToken, Error, Host, Instance};
use vox_testkit::{Guest, Recorder, World};

use super::{LONG, LOOP, id, invoke, start, within, world};

/// What a caller waits that is not to wait for long: on a busy machine it takes a while until it has called.
const PATIENCE: Duration = Duration::from_secs(1);

const GRANTS: &str = "[plugin.caller]\nplugin_call = true\nevents = true\n\
    [plugin.callee]\nplugin_call = true\n[plugin.third]\nplugin_call = true\n";

/// Calls another plugin's service and answers what that answered.
pub(super) fn calls(target: &str) -> Guest {
    let length = target.len();
    Guest::new()
        .import("call", "invoke", "(param i32 i32 i32 i32 i32 i32 i32 i32)")
        .import("events", "emit", "(param i32 i32 i32 i32 i32)")
        .with(&format!(
            r#"(data (i32.const 1024) "service.invoke[\"work\",[]]working{{}}")
               (data (i32.const 1280) "{target}")
               (func $ask (result i32)
                 (call $emit (i32.const 1049) (i32.const 7) (i32.const 1056) (i32.const 2) (i32.const 64))
                 (call $invoke (i32.const 0) (i32.const 1280) (i32.const {length})
                    (i32.const 1024) (i32.const 14) (i32.const 1038) (i32.const 11) (i32.const 64))
                 (i32.const 64))"#
        ))
        .does("invoke", "(call $ask)")
}

fn refusal(result: Result<Vec<u8>, CallError>) -> Refusal {
    match result {
        Err(CallError::Refused { error, .. }) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn plugins_that_call_each_other_are_refused_where_the_circle_closes() {
    let world = world(&[("caller", &calls("callee")), ("callee", &calls("caller"))]);
    let host = world.host(GRANTS);
    within(move || {
        let mut caller = start(&host, "caller").unwrap();
        let Refusal::Failed(text) = refusal(invoke(&mut caller)) else {
            panic!("another refusal");
        };
        assert!(
            text.contains("in a circle: caller → callee → caller"),
            "{text}"
        );
        assert!(caller.is_alive());
    });
}

#[test]
fn a_chain_of_calls_is_no_deeper_than_its_limit() {
    let guests = [
        ("caller", &calls("callee")),
        ("callee", &calls("third")),
        ("third", &Guest::new()),
    ];
    let ask = |depth: u32| {
        let world = world(&guests);
        world.settings(&format!(
            "[plugin.caller.limits]\ncall-depth = {depth}\n[plugin.callee.limits]\ncall-depth = {depth}\n"
        ));
        let host = world.host(GRANTS);
        within(move || invoke(&mut start(&host, "caller").unwrap()))
    };
    ask(3).unwrap();
    let refused = refusal(ask(2));
    assert!(
        matches!(&refused, Refusal::Exceeded(exceeded) if exceeded.limit == "call-depth" && exceeded.value == 2),
        "{refused:?}"
    );
}

/// A caller, and a callee that loops in this function although its time is not limited.
fn looping(function: &'static str) -> World {
    let world = world(&[
        ("caller", &calls("callee")),
        ("callee", &Guest::new().does(function, LOOP)),
    ]);
    world.settings("[plugin.callee.limits]\ncpu = \"unlimited\"\n");
    world
}

#[test]
fn a_callee_that_loops_ends_at_its_own_limit_and_its_caller_is_told_which() {
    let world = looping("invoke");
    world.settings("");
    let host = world.host(GRANTS);
    within(move || {
        let mut caller = start(&host, "caller").unwrap();
        let refused = refusal(invoke(&mut caller));
        assert!(
            matches!(&refused, Refusal::Exceeded(exceeded)
                if exceeded.limit == "cpu" && exceeded.remedy.contains("[plugin.callee]")),
            "{refused:?}"
        );
        assert!(caller.is_alive());
        assert_eq!(host.status(&id("callee")).unwrap().usage.traps, 1);
        assert_eq!(host.status(&id("caller")).unwrap().usage.traps, 0);
    });
}

/// Has the caller call, and disturbs it once it has said that it is about to.
fn ends(
    world: &World,
    prepare: impl FnOnce(&Host, &mut Instance),
    disturb: impl FnOnce(&CancelToken),
) -> (Host, Result<Vec<u8>, CallError>) {
    let host = world.host(GRANTS);
    let recorder = Recorder::new();
    let options = recorder.options();
    let cancel = options.cancel.clone();
    let mut caller = host.instance(&id("caller"), options).unwrap();
    prepare(&host, &mut caller);
    let working = recorder.listen();
    let call = std::thread::spawn(move || within(move || invoke(&mut caller)));
    assert_eq!(working.recv_timeout(LONG).unwrap(), "working");
    disturb(&cancel);
    (host, call.join().unwrap())
}

#[track_caller]
fn assert_cancelled(ended: &Result<Vec<u8>, CallError>) {
    assert!(
        matches!(
            ended,
            Err(CallError::Cancelled { .. }
                | CallError::Refused {
                    error: Refusal::Cancelled,
                    ..
                })
        ),
        "{ended:?}"
    );
}

#[track_caller]
fn assert_timed_out(ended: &Result<Vec<u8>, CallError>) {
    assert!(
        matches!(
            ended,
            Err(CallError::TimedOut { .. }
                | CallError::Refused {
                    error: Refusal::TimedOut(_),
                    ..
                })
        ),
        "{ended:?}"
    );
}

#[test]
fn cancelling_a_caller_reaches_its_callee_in_a_call_and_at_its_start() {
    for function in ["invoke", "init"] {
        let (host, ended) = ends(&looping(function), |_, _| {}, CancelToken::cancel);
        assert_cancelled(&ended);
        assert_eq!(host.status(&id("callee")).unwrap().state, State::Active);
    }
}

#[test]
fn a_callee_has_no_more_time_than_its_caller_in_a_call_and_at_its_start() {
    for function in ["invoke", "init"] {
        let patience = |_: &Host, caller: &mut Instance| {
            caller.set_timeout(Some(PATIENCE));
        };
        let (_, ended) = ends(&looping(function), patience, |_| {});
        assert_timed_out(&ended);
    }
}

#[test]
fn a_paused_callee_does_not_hold_a_caller_that_is_cancelled_or_waits_no_longer() {
    let world = || world(&[("caller", &calls("callee")), ("callee", &Guest::new())]);
    // An instance that is kept from before, and none: both wait.
    for warm in [true, false] {
        let prepare = |host: &Host, caller: &mut Instance| {
            if warm {
                invoke(caller).unwrap();
            }
            drop(start(host, "callee").unwrap());
            host.pause(&id("callee")).unwrap();
        };
        let recorded = world();
        let (_, ended) = ends(&recorded, prepare, CancelToken::cancel);
        assert_cancelled(&ended);
        let (_, ended) = ends(
            &world(),
            |host, caller| {
                prepare(host, caller);
                caller.set_timeout(Some(PATIENCE));
            },
            |_| {},
        );
        assert_timed_out(&ended);
    }
}

#[test]
fn a_caller_without_patience_does_not_bring_its_callee_into_state_error() {
    // Ten callers, as each is itself to blame when it takes too long.
    let world = looping("invoke");
    let mut grants = String::new();
    for number in 0..10 {
        world.add_guest(&format!("caller-{number}"), &calls("callee"));
        grants += &format!("[plugin.caller-{number}]\nplugin_call = true\n");
    }
    let host = world.host(&grants);
    within(move || {
        for number in 0..10 {
            let mut caller = start(&host, &format!("caller-{number}")).unwrap();
            caller.set_timeout(Some(Duration::from_millis(20)));
            assert_timed_out(&invoke(&mut caller));
        }
        let status = host.status(&id("callee")).unwrap();
        assert_eq!(status.state, State::Active, "{:?}", status.reason);
    });
}

#[test]
fn more_instances_than_allowed_are_refused_and_the_plugin_goes_on_serving() {
    let world = world(&[("guest", &Guest::new())]);
    world.settings("[plugin.guest.limits]\ninstances = 2\n");
    let host = world.host("");
    within(move || {
        let mut first = start(&host, "guest").unwrap();
        let second = start(&host, "guest").unwrap();
        for _ in 0..20 {
            let error = start(&host, "guest").unwrap_err();
            assert!(
                matches!(&error, Error::Exceeded { exceeded, .. } if exceeded.limit() == Some(LimitName::Instances)),
                "{error:?}"
            );
        }
        invoke(&mut first).unwrap();
        assert_eq!(host.status(&id("guest")).unwrap().state, State::Active);
        drop(second);
        start(&host, "guest").unwrap();
    });
}

#[test]
fn a_plugin_with_as_many_instances_as_it_may_have_can_be_reloaded() {
    let world = world(&[("guest", &Guest::new())]);
    world.settings("[plugin.guest.limits]\ninstances = 1\n");
    let host = world.host("");
    within(move || {
        let mut only = start(&host, "guest").unwrap();
        world.add_guest("guest", &Guest::new().with("(func $changed)"));
        let reloaded = host.reload(&id("guest")).unwrap();
        assert!(
            matches!(reloaded, vox_host::Reloaded::Replaced { .. }),
            "{reloaded:?}"
        );
        invoke(&mut only).unwrap();
        assert!(
            host.status(&id("guest")).unwrap().reloads[0]
                .kept_old
                .is_none()
        );
    });
}

/// Makes the plugin `guest` depend on so many others, which are there.
fn depend(world: &World, count: usize) {
    let dependencies: Vec<_> = (0..count)
        .map(|number| {
            let id = format!("other-{number}");
            world.add_guest(&id, &Guest::new());
            format!("{id} = \"*\"")
        })
        .collect();
    let file = world
        .directories()
        .installed()
        .join("guest/0.1.0/Plugin.toml");
    let manifest = fs::read_to_string(&file).unwrap();
    let dependencies = format!(
        "dependencies = {{ {} }}\n[payload]",
        dependencies.join(", ")
    );
    fs::write(&file, manifest.replacen("[payload]", &dependencies, 1)).unwrap();
}

#[test]
fn a_plugin_that_depends_on_more_than_its_limit_does_not_start() {
    for (settings, most) in [
        ("", 8),
        ("[plugin.guest.limits]\ndependencies = 1\n", 1),
        ("[plugin.guest.limits]\ndependencies = 0\n", 0),
    ] {
        for count in [most, most + 1] {
            let world = world(&[("guest", &Guest::new())]);
            depend(&world, count);
            world.settings(settings);
            let started = start(&world.host(""), "guest");
            if count == most {
                started.unwrap();
                continue;
            }
            let error = started.unwrap_err();
            assert!(
                matches!(&error, Error::Exceeded { exceeded, .. }
                    if exceeded.limit() == Some(LimitName::Dependencies)),
                "{error}"
            );
            assert!(
                error
                    .to_string()
                    .contains(&format!("the limit `dependencies` of {most} ")),
                "{error}"
            );
        }
    }
}

#[test]
fn a_release_that_depends_on_more_than_the_limit_is_not_reloaded() {
    let world = world(&[("guest", &Guest::new())]);
    let host = world.host("");
    let mut serving = start(&host, "guest").unwrap();
    depend(&world, 9);
    let error = host.reload(&id("guest")).unwrap_err().to_string();
    assert!(error.contains("the limit `dependencies` of 8 "), "{error}");
    invoke(&mut serving).unwrap();
}

#[test]
fn a_release_that_needs_a_library_that_is_not_installed_is_not_reloaded() {
    let world = world(&[("guest", &Guest::new())]);
    let host = world.host("");
    let mut serving = start(&host, "guest").unwrap();
    let file = world
        .directories()
        .installed()
        .join("guest/0.1.0/Plugin.toml");
    let manifest = fs::read_to_string(&file).unwrap();
    let more = "[requires]\nlibraries = [{ name = \"no-such-library\" }]\n[payload]";
    fs::write(&file, manifest.replacen("[payload]", more, 1)).unwrap();
    let error = host.reload(&id("guest")).unwrap_err().to_string();
    assert!(error.contains("no-such-library"), "{error}");
    invoke(&mut serving).unwrap();
}
