//! Guests that do too much of a small thing: records, events, subscriptions, values, last words.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock, Mutex};

use tracing::field::{Field, Visit};
use tracing::span;
use vox_host::{CallError, InstanceOptions};
use vox_testkit::{Guest, Recorded, Recorder};

use super::{attack_with, id, invoke, start, within, world};

/// Keeps the log records of plugins, as text.
#[derive(Clone, Default)]
struct Records(Arc<Mutex<Vec<String>>>);

/// Somebody else who listens, for as long as the tests run. Where there is one alone, a record that is met for the
/// first time on a thread without any counts as one that nobody wants, and is not told to that one either.
static OTHER: LazyLock<tracing::Dispatch> =
    LazyLock::new(|| tracing::Dispatch::new(Records::default()));

impl Records {
    /// Keeps what is logged on this thread meanwhile.
    fn hear(&self, work: impl FnOnce()) {
        LazyLock::force(&OTHER);
        tracing::subscriber::with_default(self.clone(), work);
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

impl tracing::Subscriber for Records {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "vox.plugin.log"
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Does this so often.
fn repeats(count: u32, deed: &str) -> String {
    format!(
        "(local $done i32)
         (loop $again {deed}
            (local.set $done (i32.add (local.get $done) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $done) (i32.const {count}))))"
    )
}

fn logs(count: u32, length: u32) -> Guest {
    let deed = format!(
        "(call $write (i32.const 2) (i32.const 1024) (i32.const {length}) (i32.const 0) (i32.const 0))"
    );
    Guest::new()
        .memory("32")
        .import("log", "write", "(param i32 i32 i32 i32 i32)")
        .with(r#"(data (i32.const 1024) "something")"#)
        .does(
            "invoke",
            &format!("{} (i32.const 0)", repeats(count, &deed)),
        )
}

#[test]
fn a_flood_of_log_records_is_bounded_counted_and_reported() {
    let world = world(&[("guest", &logs(5000, 9))]);
    world.settings("[plugin.guest.limits]\nlog-rate = 100\ncpu = \"10s\"\n");
    let host = world.host("");
    let records = Records::default();
    records.hear(|| {
        let mut instance = start(&host, "guest").unwrap();
        invoke(&mut instance).unwrap();
        let dropped = host.status(&id("guest")).unwrap().usage.dropped_records;
        let written = records.0.lock().unwrap().len() as u64;
        assert!((100..1000).contains(&written), "{written}");
        assert!(dropped >= 4000, "{dropped}");

        // The next record that is let through says how many were not.
        while !records
            .0
            .lock()
            .unwrap()
            .iter()
            .any(|text| text.contains("were dropped"))
        {
            invoke(&mut instance).unwrap();
        }
        let records = records.0.lock().unwrap();
        let warning = records
            .iter()
            .find(|text| text.contains("were dropped"))
            .unwrap();
        assert!(
            warning.contains("`limits.log-rate` under `[plugin.guest]`"),
            "{warning}"
        );
    });
}

#[test]
fn a_plugin_s_records_are_counted_over_all_its_instances_and_restarts() {
    let world = world(&[("guest", &logs(100, 9))]);
    world.settings("[plugin.guest.limits]\nlog-rate = 100\ncpu = \"10s\"\n");
    let host = world.host("");
    for _ in 0..20 {
        invoke(&mut start(&host, "guest").unwrap()).unwrap();
    }
    let dropped = host.status(&id("guest")).unwrap().usage.dropped_records;
    assert!(dropped >= 1000, "{dropped}");
}

#[test]
fn a_plugin_that_may_not_log_at_all_writes_nothing() {
    let world = world(&[("guest", &logs(10, 9))]);
    world.settings("[plugin.guest.limits]\nlog-rate = 0\n");
    let host = world.host("");
    let records = Records::default();
    records.hear(|| {
        invoke(&mut start(&host, "guest").unwrap()).unwrap();
    });
    assert_eq!(*records.0.lock().unwrap(), Vec::<String>::new());
    assert_eq!(host.status(&id("guest")).unwrap().usage.dropped_records, 10);
}

#[test]
fn a_huge_log_record_is_cut_off() {
    let world = world(&[("guest", &logs(1, 1 << 20))]);
    let host = world.host("");
    let records = Records::default();
    records.hear(|| {
        invoke(&mut start(&host, "guest").unwrap()).unwrap();
    });
    let records = records.0.lock().unwrap();
    assert_eq!(records.len(), 1);
    assert!(records[0].len() < 64 * 1024 && records[0].contains("something"));
}

#[test]
fn a_flood_of_events_is_bounded_and_refused_without_a_trap() {
    // Counts refusals, and answers as many bytes.
    let deed =
        "(call $emit (i32.const 1024) (i32.const 1) (i32.const 1025) (i32.const 2) (i32.const 64))
        (local.set $refused (i32.add (local.get $refused) (i32.load8_u (i32.const 64))))";
    let guest = Guest::new()
        .import("events", "emit", "(param i32 i32 i32 i32 i32)")
        .with(r#"(data (i32.const 1024) "e{}")"#)
        .realloc("(i32.const 65536)")
        .does("invoke", &format!(
            "(local $refused i32) {}
             (i32.store (i32.const 24) (i32.const 4096)) (i32.store (i32.const 28) (local.get $refused))
             (i32.const 16)",
            repeats(2000, deed),
        ));
    let world = world(&[("guest", &guest)]);
    world.settings("[plugin.guest.limits]\nevent-rate = 50\ncpu = \"10s\"\n");
    let host = world.host("[plugin.guest]\nevents = true\n");
    let recorder = Recorder::new();
    let mut instance = host.instance(&id("guest"), recorder.options()).unwrap();
    let refused = invoke(&mut instance).unwrap().len();
    let heard = recorder.take().len();
    assert_eq!(heard + refused, 2000);
    assert!((50..500).contains(&heard), "{heard}");
}

/// Subscribes until it is refused, and answers how often that went well in bytes, or the refusal
/// when it was another than `exceeded`.
fn subscribes(length: u32) -> Guest {
    Guest::new()
        .memory("32")
        .import("topics", "subscribe", "(param i32 i32 i32)")
        .import("topics", "publish", "(param i32 i32 i32 i32 i32)")
        .with(r#"(data (i32.const 1024) "topic")"#)
        .does(
            "invoke",
            &format!(
                "(local $had i32)
             (loop $again
                (call $subscribe (i32.const 1024) (i32.const {length}) (i32.const 64))
                (if (i32.eqz (i32.load8_u (i32.const 64))) (then
                    (local.set $had (i32.add (local.get $had) (i32.const 1))) (br $again))))
             (if (i32.ne (i32.load8_u (i32.const 72)) (i32.const 3)) (then (return (i32.const 64))))
             (i32.store (i32.const 24) (i32.const 4096)) (i32.store (i32.const 28) (local.get $had))
             (i32.const 16)"
            ),
        )
}

const TOPICS: &str = "[plugin.guest]\ntopics = true\n";

#[test]
fn an_instance_holds_no_more_subscriptions_than_its_limit_and_they_end_with_it() {
    let world = world(&[("guest", &subscribes(5))]);
    world.settings("[plugin.guest.limits]\nresources = 10\n");
    let host = world.host(TOPICS);
    within(move || {
        let mut instance = start(&host, "guest").unwrap();
        assert_eq!(invoke(&mut instance).unwrap().len(), 10);
        assert_eq!(invoke(&mut instance).unwrap().len(), 0);
        // Another has its own, and the first one's are gone with it.
        drop(instance);
        assert_eq!(
            invoke(&mut start(&host, "guest").unwrap()).unwrap().len(),
            10
        );
    });
}

#[test]
fn the_name_of_a_topic_is_short() {
    let refused = attack_with(&subscribes(1 << 19), "", TOPICS).unwrap_err();
    assert!(
        matches!(&refused, CallError::Refused { error: vox_host::contract::Error::Invalid(text), .. } if text.contains("a topic has 1 to ")),
        "{refused}"
    );
}

#[test]
fn what_waits_for_all_subscriptions_of_an_instance_together_is_bounded() {
    // 64 subscriptions to one topic, to which a mebibyte is sent ten times: 640 MiB, if each
    // subscription kept its own. How much is kept is seen in what can be received.
    let guest = Guest::new()
        .memory("64")
        .import("topics", "subscribe", "(param i32 i32 i32)")
        .import("topics", "publish", "(param i32 i32 i32 i32 i32)")
        .import("topics", "receive", "(param i64 i32 i32)")
        .with(
            r#"(data (i32.const 1024) "topic")
               (func $drain (param $id i64) (result i32) (local $kept i32)
                  (loop $again
                    (global.set $heap (i32.const 2097152))
                    (call $receive (local.get $id) (i32.const 0) (i32.const 64))
                    (if (i32.load8_u (i32.const 72)) (then
                       (local.set $kept (i32.add (local.get $kept) (i32.const 1)))
                       (br $again))))
                  (local.get $kept))"#,
        )
        .does("invoke", &format!(
            "(local $first i64) (local $last i64) (local $id i64) (local $kept i32) {}
             (local.set $last (i64.load (i32.const 72)))
             (local.set $first (i64.sub (local.get $last) (i64.const 63)))
             (local.set $done (i32.const 0))
             (loop $send
                (call $publish (i32.const 1024) (i32.const 5) (i32.const 4096) (i32.const 1000000) (i32.const 64))
                (if (i32.load8_u (i32.const 64)) (then (return (i32.const 64))))
                (local.set $done (i32.add (local.get $done) (i32.const 1)))
                (br_if $send (i32.lt_u (local.get $done) (i32.const 10))))
             (local.set $id (local.get $first))
             (loop $take
                (local.set $kept (i32.add (local.get $kept) (call $drain (local.get $id))))
                (local.set $id (i64.add (local.get $id) (i64.const 1)))
                (br_if $take (i64.le_u (local.get $id) (local.get $last))))
             (i32.store (i32.const 24) (i32.const 4096)) (i32.store (i32.const 28) (local.get $kept))
             (i32.const 16)",
            repeats(64, "(call $subscribe (i32.const 1024) (i32.const 5) (i32.const 64))"),
        ));
    let settings = "[plugin.guest.limits]\ncpu = \"30s\"\n";
    let kept = attack_with(&guest, settings, TOPICS).unwrap().len();
    assert!((1..=4).contains(&kept), "{kept} MB wait");
}

#[test]
fn the_last_words_of_a_guest_are_short_and_hold_no_control_characters() {
    // What the SDK does at a panic: a record with the field `panic`, then a trap. The text goes on
    // for a mebibyte after an escape sequence.
    let guest = Guest::new()
        .memory("32")
        .import("log", "write", "(param i32 i32 i32 i32 i32)")
        .with(
            r#"(data (i32.const 65536) "\1b[2Jboom\07\0d\c2\9b31m")
               (data (i32.const 1024) "panic")
               (data (i32.const 2048) "\00\04\00\00\05\00\00\00\00\00\00\00\00\00\00\00")"#,
        )
        .does(
            "invoke",
            "(call $write (i32.const 0) (i32.const 65536) (i32.const 1048576) (i32.const 2048) (i32.const 1))
             unreachable",
        );
    let error = attack_with(&guest, "", "").unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, CallError::Crashed { .. }));
    assert!(
        text.contains("boom") && text.len() < 8 * 1024,
        "{}",
        text.len()
    );
    assert!(!text.chars().any(char::is_control), "{text:.100}");
}

#[test]
fn the_words_of_a_refusal_hold_no_control_characters() {
    // `err(failed("\x1b[2Jno"))`.
    let guest = Guest::new()
        .with(r#"(data (i32.const 1024) "\1b[2Jno")"#)
        .does(
            "invoke",
            "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store8 (i32.const 72) (i32.const 7))
         (i32.store (i32.const 80) (i32.const 1024)) (i32.store (i32.const 84) (i32.const 6))
         (i32.const 64)",
        );
    let text = attack_with(&guest, "", "").unwrap_err().to_string();
    assert!(
        text.ends_with("no") && !text.chars().any(char::is_control),
        "{text:?}"
    );
}

#[test]
fn an_event_of_another_plugin_s_making_is_heard_under_its_own_name_alone() {
    let guest = Guest::new()
        .import("events", "emit", "(param i32 i32 i32 i32 i32)")
        .with(r#"(data (i32.const 1024) "no json")"#)
        .does(
            "invoke",
            "(call $emit (i32.const 1024) (i32.const 2) (i32.const 1024) (i32.const 7) (i32.const 64))
             (i32.const 64)",
        );
    let world = world(&[("guest", &guest)]);
    let host = world.host("[plugin.guest]\nevents = true\n");
    let recorder = Recorder::new();
    let mut options = InstanceOptions::default();
    options.events = Arc::clone(&recorder) as _;
    let refused = invoke(&mut host.instance(&id("guest"), options).unwrap()).unwrap_err();
    assert!(refused.to_string().contains("is not JSON"), "{refused}");
    assert_eq!(recorder.take(), Vec::<Recorded>::new());
}
