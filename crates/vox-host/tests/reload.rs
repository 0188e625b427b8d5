//! Replacing a plugin while it serves: what goes over, and what keeps the old one serving.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use vox_contract::{Carrier, PluginId};
use vox_host::contract::stage::Opening;
use vox_host::contract::{Chunk, ChunkHead, Error as Refusal};
use vox_host::lifecycle::State;
use vox_host::{CallError, Error, Host, Instance, InstanceOptions, Ports, Reloaded};
use vox_testkit::World;

const GRANTS: &str = "[plugin.conformance]\nstream_io = true\n";

/// Takes whatever is pushed.
struct Discard;

impl Ports for Discard {
    fn push(&self, _: &str, _: ChunkHead, _: &[u8], _: Option<Duration>) -> Result<(), Refusal> {
        Ok(())
    }

    fn pull(&self, _: &str, _: Option<Duration>) -> Result<Option<Chunk>, Refusal> {
        Ok(None)
    }
}

fn id() -> PluginId {
    "conformance".parse().unwrap()
}

fn instance(host: &Host, carrier: Carrier) -> Instance {
    let mut options = InstanceOptions::default();
    options.ports = Arc::new(Discard);
    options.carrier = Some(carrier);
    host.instance(&id(), options).unwrap()
}

/// The word of the release that answers.
fn release(instance: &mut Instance) -> String {
    let mark = instance
        .call_json("service.invoke", vec![json!("release"), json!("")])
        .unwrap();
    let mark = mark.as_str().unwrap();
    mark.trim_start_matches("release:")
        .trim_matches('.')
        .to_owned()
}

fn process(instance: &mut Instance) {
    let head = ChunkHead {
        modality: "text".into(),
        sequence: 0,
        timestamp: 0,
        attributes: vec![],
    };
    instance.stage().unwrap().process(&head, b"chunk").unwrap();
}

/// How many chunks the instance remembers.
fn chunks(instance: &mut Instance) -> u64 {
    let samples = instance.call_json("metrics.collect", vec![]).unwrap();
    samples[0]["value"].as_f64().unwrap() as u64
}

fn replaced(result: Result<Reloaded, Error>) {
    assert!(
        matches!(result, Ok(Reloaded::Replaced { .. })),
        "{result:?}"
    );
}

#[test]
fn a_reload_takes_the_state_over_on_both_carriers() {
    for carrier in Carrier::ALL {
        let world = World::with(&["conformance"]);
        let host = world.host(GRANTS);
        let mut old = instance(&host, carrier);
        process(&mut old);
        process(&mut old);
        world.release("second");
        replaced(host.reload(&id()));
        assert_eq!(release(&mut old), "second");
        assert_eq!(chunks(&mut old), 2, "the state went over");
        assert_eq!(release(&mut instance(&host, carrier)), "second");
        assert_eq!(host.status(&id()).unwrap().state, State::Active);
        assert_eq!(host.status(&id()).unwrap().reloads.len(), 1);
    }
}

#[test]
fn an_instance_that_stays_does_so_until_it_crashes() {
    for carrier in Carrier::ALL {
        let world = World::with(&["conformance"]);
        let host = world.host(GRANTS);
        let mut options = InstanceOptions::default();
        options.ports = Arc::new(Discard);
        options.carrier = Some(carrier);
        options.stays = true;
        let mut staying = host.instance(&id(), options).unwrap();
        let first = release(&mut staying);
        process(&mut staying);
        world.release("second");
        replaced(host.reload(&id()));
        assert_eq!(release(&mut instance(&host, carrier)), "second");
        assert_eq!(release(&mut staying), first);
        assert_eq!(chunks(&mut staying), 1, "what it held is there");
        let opening = Opening {
            run: String::new(),
            step: String::new(),
            arguments: r#"{"do":"panic"}"#.to_owned(),
        };
        staying.stage().unwrap().open(&opening).unwrap();
        let head = ChunkHead {
            modality: "text".into(),
            sequence: 1,
            timestamp: 0,
            attributes: vec![],
        };
        let crash = staying.stage().unwrap().process(&head, b"chunk");
        assert!(crash.is_err());
        assert_eq!(release(&mut staying), "second");
    }
}

#[test]
fn files_that_are_touched_but_not_changed_reload_nothing() {
    let world = World::with(&["conformance"]);
    let host = world.host(GRANTS);
    let _serving = instance(&host, Carrier::Component);
    world.release("good");
    assert_eq!(host.reload(&id()).unwrap(), Reloaded::Unchanged);
    assert!(host.status(&id()).unwrap().reloads.is_empty());
}

/// A release that does not do leaves the old one serving with its state, and the reason is kept.
fn keeps_the_old_one(carrier: Carrier, word: &str, why: &str, at_reload: bool) {
    let world = World::with(&["conformance"]);
    let host = world.host(GRANTS);
    let mut serving = instance(&host, carrier);
    process(&mut serving);
    world.release(word);
    let result = host.reload(&id());
    if at_reload {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::NotReloaded { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    } else {
        replaced(result);
    }
    process(&mut serving);
    assert_eq!(
        chunks(&mut serving),
        2,
        "{word}: no call and no state is lost"
    );
    assert_eq!(release(&mut serving), "good");
    assert_eq!(release(&mut instance(&host, carrier)), "good");
    let status = host.status(&id()).unwrap();
    assert_eq!(status.state, State::Active);
    let reason = status.reloads[0].kept_old.as_deref().unwrap();
    assert!(reason.contains(why), "{reason}");
}

#[test]
fn a_release_whose_init_fails_never_serves() {
    for carrier in Carrier::ALL {
        keeps_the_old_one(carrier, "failinit", "this release never starts", true);
    }
}

#[test]
fn a_release_that_is_not_well_never_serves() {
    for carrier in Carrier::ALL {
        keeps_the_old_one(carrier, "unwell", "this release is never well", true);
    }
}

#[test]
fn a_component_release_that_loops_in_init_never_serves() {
    keeps_the_old_one(
        Carrier::Component,
        "spininit",
        "the limit `cpu` of 100ms was reached",
        true,
    );
}

#[test]
fn a_release_that_does_not_take_the_state_over_gives_way() {
    for carrier in Carrier::ALL {
        keeps_the_old_one(carrier, "norestor", "takes no state over", false);
    }
}

#[test]
fn a_release_that_panics_in_restore_gives_way() {
    for carrier in Carrier::ALL {
        keeps_the_old_one(carrier, "panicres", "panics in restore", false);
    }
}

#[test]
fn a_release_that_crashes_in_its_first_calls_gives_way_and_the_call_is_made_again() {
    for carrier in Carrier::ALL {
        keeps_the_old_one(carrier, "panicwrk", "panics at work", false);
    }
}

#[test]
fn a_release_that_crashes_in_the_first_calls_of_a_fresh_instance_gives_way() {
    for carrier in Carrier::ALL {
        let world = World::with(&["conformance"]);
        let host = world.host(GRANTS);
        let mut serving = instance(&host, carrier);
        process(&mut serving);
        world.release("panicwrk");
        replaced(host.reload(&id()));
        // As the next step of a run gets one; there is no old code in it to go on with.
        let mut fresh = instance(&host, carrier);
        let head = ChunkHead {
            modality: "text".into(),
            sequence: 0,
            timestamp: 0,
            attributes: vec![],
        };
        let crashed = fresh.stage().unwrap().process(&head, b"chunk");
        assert!(
            matches!(crashed, Err(CallError::Crashed { .. })),
            "{crashed:?}"
        );
        assert_eq!(release(&mut fresh), "good");
        assert_eq!(release(&mut serving), "good");
        let status = host.status(&id()).unwrap();
        let reason = status.reloads[0].kept_old.as_deref().unwrap();
        assert!(reason.contains("panics at work"), "{reason}");
        assert_eq!(status.state, State::Active);
    }
}

#[test]
fn an_instance_that_loops_in_snapshot_begins_anew() {
    let world = World::with(&["conformance"]);
    world.release("spinsnap");
    let host = world.host(GRANTS);
    let mut serving = instance(&host, Carrier::Component);
    process(&mut serving);
    world.release("good");
    replaced(host.reload(&id()));
    assert_eq!(chunks(&mut serving), 0);
    let reason = host.status(&id()).unwrap().reloads[0].kept_old.clone();
    assert!(reason.unwrap().contains("its state could not be taken"));
}

#[test]
fn a_half_written_payload_never_serves() {
    for carrier in Carrier::ALL {
        let world = World::with(&["conformance"]);
        let host = world.host(GRANTS);
        let mut serving = instance(&host, carrier);
        let plugin = host.plugin(&id()).unwrap();
        let file = plugin.payload(carrier).unwrap();
        let bytes = std::fs::read(file).unwrap();
        std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        let error = host.reload(&id()).unwrap_err();
        assert!(matches!(error, Error::NotReloaded { .. }), "{error}");
        assert_eq!(release(&mut serving), "good");
    }
}

#[test]
fn calls_that_are_made_all_the_time_are_neither_lost_nor_failed() {
    for carrier in Carrier::ALL {
        let world = World::with(&["conformance"]);
        let host = world.host(GRANTS);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let callers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut instance = instance(&host, carrier);
                        let mut made = 0;
                        while !over.load(Ordering::Acquire) {
                            process(&mut instance);
                            made += 1;
                        }
                        (made, chunks(&mut instance), release(&mut instance))
                    })
                })
                .collect();
            let outcomes: Vec<_> = (0..10)
                .map(|number| {
                    world.release(["one", "two"][number % 2]);
                    host.reload(&id())
                })
                .collect();
            over.store(true, Ordering::Release);
            outcomes.into_iter().for_each(replaced);
            for caller in callers {
                let (made, counted, release) = caller.join().unwrap();
                assert_eq!(made, counted, "every call reached exactly one release");
                assert_eq!(release, "two");
            }
        });
    }
}

#[test]
fn native_libraries_of_earlier_releases_are_counted_and_capped() {
    let world = World::with(&["conformance"]);
    world.settings("[host]\nretained = \"1B\"\n");
    let host = world.host(GRANTS);
    let mut serving = instance(&host, Carrier::Native);
    assert_eq!(host.retained_bytes(), 0);
    world.release("second");
    replaced(host.reload(&id()));
    assert_eq!(release(&mut serving), "second");
    let size = host.plugin(&id()).unwrap().native.clone().unwrap();
    assert_eq!(host.retained_bytes(), size.metadata().unwrap().len());
    world.release("third");
    let error = host.reload(&id()).unwrap_err().to_string();
    assert!(error.contains("`retained` under `[host]`"), "{error}");
    assert_eq!(release(&mut serving), "second");
}

#[test]
fn a_paused_plugin_holds_its_calls_until_it_is_resumed() {
    let world = World::with(&["conformance"]);
    let host = world.host(GRANTS);
    let mut paused = instance(&host, Carrier::Component);
    host.pause(&id()).unwrap();
    let error = host.reload(&id()).unwrap_err();
    assert!(matches!(error, Error::IllegalStep { .. }), "{error}");
    let (sender, answered) = std::sync::mpsc::channel();
    let call = thread::spawn(move || {
        let word = release(&mut paused);
        sender.send(()).unwrap();
        word
    });
    assert!(answered.try_recv().is_err());
    host.resume(&id()).unwrap();
    assert_eq!(call.join().unwrap(), "good");
}

#[test]
fn a_plugin_that_is_let_go_refuses_calls_and_is_unloaded_with_its_last_instance() {
    let world = World::with(&["conformance"]);
    let host = world.host(GRANTS);
    let mut last = instance(&host, Carrier::Component);
    host.unload(&id()).unwrap();
    assert_eq!(host.status(&id()).unwrap().state, State::Draining);
    let error = last
        .call_json("service.invoke", vec![json!("release"), json!("")])
        .unwrap_err()
        .to_string();
    assert!(error.contains("in state `draining`"), "{error}");
    let refused = host.instance(&id(), InstanceOptions::default());
    assert!(matches!(refused, Err(Error::NotServing { .. })));
    drop(last);
    assert_eq!(host.status(&id()).unwrap().state, State::Unloaded);
    assert_eq!(release(&mut instance(&host, Carrier::Component)), "good");
}

#[test]
fn a_plugin_that_crashes_again_and_again_rests_and_ends_in_error_with_the_reason() {
    let world = World::with(&["conformance"]);
    world.release("panicwrk");
    let host = world.host(GRANTS);
    let mut broken = instance(&host, Carrier::Component);
    let mut rested = false;
    let error = loop {
        let head = ChunkHead {
            modality: "text".into(),
            sequence: 0,
            timestamp: 0,
            attributes: vec![],
        };
        let error = broken.stage().unwrap().process(&head, b"").unwrap_err();
        match error {
            CallError::Crashed { .. } => {}
            // What is waited for is the time that the plugin was told to rest.
            CallError::BackingOff { wait, .. } => {
                rested = true;
                thread::sleep(wait);
            }
            error => break error.to_string(),
        }
    };
    assert!(rested);
    assert!(
        error.contains("in state `error` (it failed 8 times in a row"),
        "{error}"
    );
    assert!(error.contains("panics at work"), "{error}");
    assert_eq!(host.status(&id()).unwrap().state, State::Error);
    world.release("good");
    host.reload(&id()).unwrap();
    process(&mut broken);
}
