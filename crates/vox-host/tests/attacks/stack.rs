//! Guests that go deep.

use std::sync::{Arc, Mutex};

use vox_contract::LimitName;
use vox_host::{EventSink, Instance, InstanceOptions};
use vox_testkit::{Guest, World};

use super::calls::calls;
use super::{assert_exceeded, attack, attack_with, invoke, within};

/// Goes so deep, or for ever, with 64 bytes of locals at each level at the least.
fn goes_down(levels: Option<u32>) -> Guest {
    let end = levels.map_or("(i32.const 0)".to_owned(), |levels| {
        format!("(i32.ge_u (local.get $level) (i32.const {levels}))")
    });
    Guest::new()
        .with(&format!(
            "(func $down (param $level i32) (param $a i64) (result i64) (local $b i64) (local $c i64)
                (if {end} (then (return (local.get $a))))
                (local.set $b (i64.mul (local.get $a) (i64.const 3)))
                (local.set $c (i64.add (local.get $a) (i64.const 7)))
                (local.set $a (call $down
                    (i32.add (local.get $level) (i32.const 1)) (i64.add (local.get $b) (i64.const 1))))
                (i64.add (i64.add (local.get $a) (local.get $b)) (local.get $c)))"
        ))
        .does(
            "invoke",
            "(drop (call $down (i32.const 0) (i64.const 1))) (i32.const 0)",
        )
}

fn stack(size: &str) -> String {
    format!("[plugin.guest.limits]\nstack = \"{size}\"\ncpu = \"30s\"\n")
}

#[test]
fn recursion_without_end_is_stopped_whatever_the_stack_is_set_to() {
    assert_exceeded(&attack(&goes_down(None)), LimitName::Stack);
    for size in ["16KiB", "512KiB", "1MiB", "1GiB", "1000000GiB"] {
        assert_exceeded(
            &attack_with(&goes_down(None), &stack(size), ""),
            LimitName::Stack,
        );
    }
}

#[test]
fn a_stack_that_the_user_raises_is_deeper() {
    let guest = goes_down(Some(2_500));
    assert_exceeded(&attack(&guest), LimitName::Stack);
    attack_with(&guest, &stack("512KiB"), "").unwrap();
}

#[test]
fn plugins_that_call_each_other_deep_in_their_stacks_do_not_overflow_the_thread_s() {
    // Each goes down as far as its stack of 1 MiB lets it, less what the call needs, and calls the
    // next. All stacks together are four times a thread's.
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let world = World::new();
    let mut settings = String::new();
    let mut grants = String::new();
    for (at, name) in names.iter().enumerate() {
        let next = names.get(at + 1);
        let guest = match next {
            Some(next) => calls(next).with(
                "(func $down (param $level i32) (param $a i64) (result i64) (local $b i64) (local $c i64)
                    (if (i32.eqz (local.get $level)) (then (return (i64.extend_i32_u (call $ask)))))
                    (local.set $b (i64.mul (local.get $a) (i64.const 3)))
                    (local.set $c (i64.add (local.get $a) (i64.const 7)))
                    (local.set $a (call $down
                        (i32.sub (local.get $level) (i32.const 1)) (i64.add (local.get $b) (i64.const 1))))
                    (global.set $sum (i64.add (local.get $b) (local.get $c)))
                    (local.get $a))
                 (global $sum (mut i64) (i64.const 0))",
            ).does("invoke", "(i32.wrap_i64 (call $down (i32.const 13000) (i64.const 1)))"),
            None => Guest::new(),
        };
        world.add_guest(name, &guest);
        settings +=
            &format!("[plugin.{name}.limits]\nstack = \"1MiB\"\ncpu = \"10s\"\ncall-depth = 16\n");
        grants += &format!("[plugin.{name}]\nplugin_call = true\n");
    }
    world.settings(&settings);
    let host = world.host(&grants);
    within(move || {
        let mut first = host
            .instance(&super::id("a"), InstanceOptions::default())
            .unwrap();
        invoke(&mut first).unwrap();
    });
}

/// Enters the next guest when the one before it says something.
struct Leads(Mutex<Option<Instance>>);

impl EventSink for Leads {
    fn emit(&self, _plugin: &vox_contract::PluginId, _name: &str, _data: &str) {
        let next = self.0.lock().unwrap().take();
        if let Some(mut next) = next {
            invoke(&mut next).unwrap();
        }
    }
}

#[test]
fn guests_that_lead_to_each_other_by_their_events_do_not_overflow_the_thread_s() {
    // As the hooks of a run are entered where a plugin's event is heard, and the stages of a stream
    // where a chunk is pushed. All stacks together are four times a thread's.
    let guest = Guest::new()
        .import("events", "emit", "(param i32 i32 i32 i32 i32)")
        .with(
            "(data (i32.const 1024) \"deep{}\")
             (func $down (param $level i32) (param $a i64) (result i64) (local $b i64) (local $c i64)
                (if (i32.eqz (local.get $level)) (then
                    (call $emit (i32.const 1024) (i32.const 4) (i32.const 1028) (i32.const 2) (i32.const 64))
                    (return (i64.const 0))))
                (local.set $b (i64.mul (local.get $a) (i64.const 3)))
                (local.set $c (i64.add (local.get $a) (i64.const 7)))
                (local.set $a (call $down
                    (i32.sub (local.get $level) (i32.const 1)) (i64.add (local.get $b) (i64.const 1))))
                (global.set $sum (i64.add (local.get $b) (local.get $c)))
                (local.get $a))
             (global $sum (mut i64) (i64.const 0))",
        )
        .does("invoke", "(i32.wrap_i64 (call $down (i32.const 13000) (i64.const 1)))");
    let world = World::new();
    world.add_guest("guest", &guest);
    world.settings(&stack("1MiB"));
    let host = world.host("[plugin.guest]\nevents = true\n");
    within(move || {
        let mut next = None;
        for _ in 0..8 {
            let mut options = InstanceOptions::default();
            options.events = Arc::new(Leads(Mutex::new(next)));
            next = Some(host.instance(&super::id("guest"), options).unwrap());
        }
        invoke(&mut next.unwrap()).unwrap();
    });
}
