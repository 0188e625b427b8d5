//! Guests that take time: endless loops everywhere, and ways round the clock.

use std::time::{Duration, Instant};

use vox_contract::LimitName;
use vox_host::{CallError, Error, InstanceOptions};
use vox_testkit::{Guest, Recorder, World};

use super::{LONG, LOOP, assert_exceeded, attack, attack_with, id, invoke, start, within, world};

const UNLIMITED: &str = "[plugin.guest.limits]\ncpu = \"unlimited\"\n";
const SHOULD_CANCEL: (&str, &str, &str) = ("cancel", "should-cancel", "(result i32)");

#[test]
fn an_endless_loop_in_a_call_is_stopped_and_the_next_call_gets_fresh_code() {
    // The first call loops, and what it wrote is gone for the second.
    let guest = Guest::new().does(
        "invoke",
        &format!(
            "(i32.store (i32.const 2048) (i32.add (i32.load (i32.const 2048)) (i32.const 1)))
         (if (i32.eqz (local.get $length)) (then {LOOP}))
         (if (i32.ne (i32.load (i32.const 2048)) (i32.const 1)) (then unreachable))
         (i32.const 0)"
        ),
    );
    let world = world(&[("guest", &guest)]);
    let host = world.host("");
    within(move || {
        let mut instance = start(&host, "guest").unwrap();
        assert_exceeded(&invoke(&mut instance), LimitName::Cpu);
        assert!(!instance.is_alive());
        instance.service().unwrap().invoke("work", b"x").unwrap();
        assert_eq!(instance.crashes(), 1);
        assert_eq!(host.status(&id("guest")).unwrap().usage.traps, 1);
    });
}

#[test]
fn an_endless_loop_in_any_function_of_the_lifecycle_is_stopped() {
    for function in ["init", "health", "snapshot", "restore", "shutdown"] {
        let world = world(&[("guest", &Guest::new().does(function, LOOP))]);
        let host = world.host("");
        within(move || {
            let _world = world;
            let mut instance = match (start(&host, "guest"), function) {
                (Err(Error::Call(error)), "init") => {
                    return assert_exceeded(&Err::<(), _>(error), LimitName::Cpu);
                }
                (started, _) => started.unwrap(),
            };
            let mut lifecycle = instance.lifecycle().unwrap();
            let ended = match function {
                "health" => lifecycle.health().map(drop),
                "snapshot" => lifecycle.snapshot().map(drop),
                "restore" => lifecycle.restore(1, b""),
                _ => lifecycle.shutdown(),
            };
            assert_exceeded(&ended, LimitName::Cpu);
        });
    }
}

#[test]
fn an_endless_loop_in_shutdown_does_not_keep_an_instance_from_being_dropped() {
    let world = world(&[("guest", &Guest::new().does("shutdown", LOOP))]);
    let host = world.host("");
    within(move || {
        drop(start(&host, "guest").unwrap());
        let usage = host.status(&id("guest")).unwrap().usage;
        assert_eq!((usage.traps, usage.instances, usage.memory), (1, 0, 0));
    });
}

#[test]
fn an_endless_loop_in_a_start_function_is_stopped() {
    let guest = Guest::new().with(&format!("(func $begin {LOOP}) (start $begin)"));
    let world = world(&[("guest", &guest)]);
    let host = world.host("");
    within(move || {
        let error = start(&host, "guest").unwrap_err();
        assert!(
            matches!(&error, Error::Exceeded { exceeded, .. } if exceeded.limit() == Some(LimitName::Cpu)),
            "{error:?}"
        );
        assert_eq!(host.status(&id("guest")).unwrap().usage.memory, 0);
    });
}

#[test]
fn an_endless_loop_in_the_allocator_is_stopped_when_arguments_and_answers_come_in() {
    // Empty strings are not allocated, so it is the configuration that meets the allocator here.
    let guest = Guest::new().realloc(LOOP);
    let world = world(&[("guest", &guest)]);
    let host = world.host("");
    within(move || {
        let Err(Error::Call(error)) = start(&host, "guest") else {
            panic!("it started");
        };
        assert_exceeded(&Err::<(), _>(error), LimitName::Cpu);
    });

    // The allocator loops once the guest is inside a call of `config.get`.
    let guest = Guest::new()
        .import("config", "get", "(param i32 i32 i32)")
        .with("(global $stuck (mut i32) (i32.const 0)) (data (i32.const 1024) \"key\")")
        .realloc(&format!(
            "(if (global.get $stuck) (then {LOOP})) (i32.const 4096)"
        ))
        .does(
            "invoke",
            "(global.set $stuck (i32.const 1))
             (call $get (i32.const 1024) (i32.const 3) (i32.const 64)) (i32.const 0)",
        );
    let settings = "[plugin.guest.config]\nkey = \"value\"\n";
    assert_exceeded(&attack_with(&guest, settings, ""), LimitName::Cpu);
}

#[test]
fn an_endless_loop_after_the_answer_was_read_is_stopped() {
    let guest = Guest::new().with(&format!(
        r#"(func (export "cabi_post_vox:plugin/service@1.0.0#invoke") (param i32) {LOOP})"#
    ));
    assert_exceeded(&attack(&guest), LimitName::Cpu);
}

#[test]
fn many_short_calls_of_the_host_do_not_hide_a_guest_s_own_time() {
    let (interface, function, kind) = SHOULD_CANCEL;
    let guest = Guest::new().import(interface, function, kind).does(
        "invoke",
        "(loop $again (drop (call $should_cancel)) (br $again)) (unreachable)",
    );
    assert_exceeded(&attack(&guest), LimitName::Cpu);
}

/// Subscribes, says that it works, and waits for a message that never comes.
fn waits(milliseconds: u32) -> Guest {
    Guest::new()
        .import("topics", "subscribe", "(param i32 i32 i32)")
        .import("topics", "receive", "(param i64 i32 i32)")
        .import("events", "emit", "(param i32 i32 i32 i32 i32)")
        .with(r#"(data (i32.const 1024) "working{}")"#)
        .does(
            "invoke",
            &format!(
                "(call $subscribe (i32.const 1024) (i32.const 7) (i32.const 64))
                 (call $emit (i32.const 1024) (i32.const 7) (i32.const 1031) (i32.const 2) (i32.const 128))
                 (call $receive (i64.load (i32.const 72)) (i32.const {milliseconds}) (i32.const 64))
                 (i32.store (i32.const 24) (i32.const 64)) (i32.store (i32.const 28) (i32.const 24))
                 (i32.const 16)"
            ),
        )
}

const TALKS: &str = "[plugin.guest]\ntopics = true\nevents = true\n";

#[test]
fn waiting_in_the_host_does_not_count_as_a_guest_s_processor_time() {
    let settings = "[plugin.guest.limits]\ncpu = \"20ms\"\n";
    let since = Instant::now();
    let answer = attack_with(&waits(300), settings, TALKS).unwrap();
    assert!(since.elapsed() >= Duration::from_millis(300));
    assert_eq!(answer[..16], [0; 16], "no message, and no error");
}

#[test]
fn waiting_for_a_message_for_weeks_ends_when_the_run_is_cancelled_or_the_caller_waits_no_longer() {
    let world = world(&[("guest", &waits(u32::MAX))]);
    let host = world.host(TALKS);
    within(move || {
        let recorder = Recorder::new();
        let working = recorder.listen();
        let options = recorder.options();
        let cancel = options.cancel.clone();
        let mut instance = host.instance(&id("guest"), options).unwrap();
        let call = std::thread::spawn(move || invoke(&mut instance));
        assert_eq!(working.recv_timeout(LONG).unwrap(), "working");
        cancel.cancel();
        let ended = call.join().unwrap();
        assert!(
            matches!(&ended, Err(CallError::Cancelled { .. }))
                || matches!(&ended, Ok(answer) if answer[0] == 1 && answer[8] == 5),
            "{ended:?}"
        );

        let mut instance = start(&host, "guest").unwrap();
        instance.set_timeout(Some(Duration::from_millis(50)));
        let ended = invoke(&mut instance);
        assert!(
            matches!(&ended, Err(CallError::TimedOut { .. }))
                || matches!(&ended, Ok(answer) if answer[..16] == [0; 16]),
            "{ended:?}"
        );
    });
}

#[test]
fn a_guest_that_ignores_cancellation_is_cut_off() {
    let guest = Guest::new()
        .import("events", "emit", "(param i32 i32 i32 i32 i32)")
        .with(r#"(data (i32.const 1024) "working{}")"#)
        .does("invoke", &format!(
            "(call $emit (i32.const 1024) (i32.const 7) (i32.const 1031) (i32.const 2) (i32.const 64)) {LOOP}"
        ));
    let world = world(&[("guest", &guest)]);
    world.settings(UNLIMITED);
    let host = world.host(TALKS);
    within(move || {
        let recorder = Recorder::new();
        let working = recorder.listen();
        let options = recorder.options();
        let cancel = options.cancel.clone();
        let mut instance = host.instance(&id("guest"), options).unwrap();
        let call = std::thread::spawn(move || invoke(&mut instance));
        assert_eq!(working.recv_timeout(LONG).unwrap(), "working");
        cancel.cancel();
        let ended = call.join().unwrap();
        assert!(
            matches!(ended, Err(CallError::Cancelled { .. })),
            "{ended:?}"
        );
    });
}

#[test]
fn a_guest_without_a_cpu_limit_still_ends_with_its_caller_s_patience() {
    let world = world(&[("guest", &Guest::new().does("invoke", LOOP))]);
    world.settings(UNLIMITED);
    let host = world.host("");
    within(move || {
        let mut instance = start(&host, "guest").unwrap();
        instance.set_timeout(Some(Duration::from_millis(50)));
        let ended = invoke(&mut instance);
        assert!(
            matches!(ended, Err(CallError::TimedOut { .. })),
            "{ended:?}"
        );
    });
}

/// Adds the numbers below 100 million, which takes longer than the other's limit, and answers the
/// sum's eight bytes.
fn adds() -> Guest {
    Guest::new().does(
        "invoke",
        "(local $number i64) (local $sum i64)
         (loop $again
            (local.set $sum (i64.add (local.get $sum) (local.get $number)))
            (local.set $number (i64.add (local.get $number) (i64.const 1)))
            (br_if $again (i64.lt_u (local.get $number) (i64.const 100000000))))
         (i64.store (i32.const 64) (local.get $sum))
         (i32.store (i32.const 24) (i32.const 64)) (i32.store (i32.const 28) (i32.const 8))
         (i32.const 16)",
    )
}

#[test]
fn a_sibling_on_the_same_engine_does_not_notice_that_a_plugin_runs_into_its_limits() {
    let world = World::new();
    world.add_guest("guest", &Guest::new().does("invoke", LOOP));
    world.add_guest("sibling", &adds());
    world
        .settings("[plugin.guest.limits]\ncpu = \"1ms\"\n[plugin.sibling.limits]\ncpu = \"30s\"\n");
    let host = world.host("");
    within(move || {
        let mut sibling = start(&host, "sibling").unwrap();
        let adding = std::thread::spawn(move || (invoke(&mut sibling), sibling.crashes()));
        let mut stopped = 0;
        while stopped == 0 || !adding.is_finished() {
            let mut guest = match host.instance(&id("guest"), InstanceOptions::default()) {
                Ok(guest) => guest,
                Err(Error::Call(CallError::BackingOff { wait, .. })) => {
                    std::thread::sleep(wait);
                    continue;
                }
                Err(Error::NotServing { .. }) => {
                    host.reload(&id("guest")).unwrap();
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            assert_exceeded(&invoke(&mut guest), LimitName::Cpu);
            stopped += 1;
        }
        let (sum, crashes) = adding.join().unwrap();
        let sum = u64::from_le_bytes(sum.unwrap().try_into().unwrap());
        assert_eq!(sum, 99_999_999 * 100_000_000 / 2);
        assert_eq!(crashes, 0);
    });
}
