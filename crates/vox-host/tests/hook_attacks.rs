//! Hooks that would hold up or bring down the run that they watch.
//!
//! Each of these fails, or never ends, when its guard is taken away; what could hang runs on a
//! thread that is waited for so long and no longer.

mod chain;

use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::json;
use vox_contract::Carrier;
use vox_host::contract::Error;
use vox_host::hooks::Answer;

use chain::{Hook, Run};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does something that must end.
fn ends<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(PATIENCE).expect("it ends")
}

/// Whether an emitter was refused because hooks are `depth` deep inside each other.
fn is_too_deep(error: &Error, depth: u64) -> bool {
    matches!(error, Error::Exceeded(limit) if limit.limit == "hook-depth" && limit.value == depth)
}

#[test]
fn a_component_that_never_answers_is_stopped_when_its_time_is_over() {
    let spins = |policy: &str| {
        let hook = Hook::new("guard", Carrier::Component, json!({ "pre_step": "spin" }));
        hook.entry(json!({ "timeout": "30ms", "on-failure": policy }))
    };
    let stopped = "guard: hook.handle was stopped: it had 30ms";
    let closed = Run::open(&[spins("closed")]);
    let (_, reason) = ends(move || closed.aborted("pre_step"));
    assert!(reason.contains(stopped), "{reason}");
    let open = Run::open(&[spins("open")]);
    let told = ends(move || open.told("pre_step"));
    assert!(told.contains(stopped), "{told}");
}

#[test]
fn native_code_is_told_when_its_time_is_over_and_a_late_answer_is_a_failure() {
    let late = |policy: &str| {
        let hook = Hook::new("guard", Carrier::Native, json!({ "pre_step": "late" }));
        hook.entry(json!({ "timeout": "30ms", "on-failure": policy }))
    };
    let too_late = "guard: hook.handle answered too late: it had 30ms";
    let closed = Run::open(&[late("closed")]);
    let (_, reason) = ends(move || closed.aborted("pre_step"));
    assert!(reason.contains(too_late), "{reason}");
    let open = Run::open(&[late("open")]);
    let told = ends(move || open.told("pre_step"));
    assert!(told.contains(too_late), "{told}");
}

#[test]
fn each_hook_has_its_own_time_whatever_those_before_it_took() {
    let slow = |id| {
        let hook = Hook::new(id, Carrier::Native, json!({ "pre_step": "late" }));
        hook.entry(json!({ "timeout": "1s", "on-failure": "open" }))
    };
    // It has less than those before it take together, and enough on a busy machine.
    let quick = Hook::new("z", Carrier::Component, json!({ "pre_step": "abort" }));
    let quick = quick.entry(json!({ "timeout": "1500ms", "priority": 200 }));
    let run = Run::open(&[slow("a"), slow("b"), quick]);
    let (plugin, reason) = ends(move || run.aborted("pre_step"));
    assert_eq!((&*plugin, &*reason), ("z", "pre_step of a"));
}

#[test]
fn a_hook_within_a_hook_has_no_more_time_than_the_outer_one_has_left() {
    let outer = Hook::new("outer", Carrier::Component, json!({ "pre_step": "fire" }));
    let outer = outer.entry(json!({ "timeout": "50ms" }));
    let inner = Hook::new(
        "inner",
        Carrier::Component,
        json!({ "custom:again": "spin" }),
    );
    let inner = inner.entry(json!({ "timeout": "60s" }));
    // Nothing but the time of the outer hook can end the inner one.
    let settings = "[plugin.inner]\nlimits.cpu = \"unlimited\"\n";
    let run = Run::with(&[outer, inner], settings).unwrap();
    let (plugin, _) = ends(move || run.aborted("pre_step"));
    assert_eq!(plugin, "outer");
}

#[test]
fn a_hook_that_leads_to_itself_ends_at_the_limit_of_depth() {
    for carrier in Carrier::ALL {
        let reactions = || json!({ "pre_step": "fire", "custom:again": "fire" });
        let run = Run::open(&[Hook::new("guard", carrier, reactions())]);
        let (run, (plugin, reason)) = ends(move || {
            let aborted = run.aborted("pre_step");
            (run, aborted)
        });
        assert_eq!(plugin, "guard");
        assert!(reason.contains("`hook-depth` of 4"), "{reason}");
        assert_eq!(run.called().len(), 4, "four are inside each other");
        assert!(is_too_deep(&run.refused()[0], 4));
        // Nothing of it remains.
        assert!(
            ends(move || run.aborted("pre_step"))
                .1
                .contains("`hook-depth`")
        );

        let set = "[plugin.guard]\nlimits.hook-depth = 2\n";
        let run = Run::with(&[Hook::new("guard", carrier, reactions())], set).unwrap();
        assert!(run.aborted("pre_step").1.contains("`hook-depth` of 2"));
        assert_eq!(run.called().len(), 2);
    }
}

#[test]
fn the_depth_outlives_a_crash() {
    for carrier in Carrier::ALL {
        let reactions =
            json!({ "pre_pipeline": "panic", "pre_step": "fire", "custom:again": "fire" });
        let run = Run::open(&[Hook::new("guard", carrier, reactions)]);
        assert_eq!(run.aborted("pre_pipeline").0, "guard");
        assert!(ends(move || {
            run.aborted("pre_step");
            run.called().len() == 5 && is_too_deep(&run.refused()[0], 4)
        }));
    }
}

#[test]
fn hooks_that_lead_to_each_other_from_two_threads_never_wait_for_each_other() {
    for carrier in Carrier::ALL {
        let hook = |id, point: &str| {
            Hook::new(
                id,
                carrier,
                json!({ point: "fire", "custom:again": "continue" }),
            )
            .entry(json!({ "timeout": "60s" }))
        };
        let run = Run::open(&[hook("a", "pre_step"), hook("b", "post_step")]);
        let start = Arc::new(Barrier::new(2));
        let asking = ["pre_step", "post_step"].map(|point| {
            let (run, start) = (Arc::clone(&run), Arc::clone(&start));
            move || {
                for _ in 0..100 {
                    start.wait();
                    assert_eq!(run.ask(point), (Answer::Continue, vec![]));
                }
            }
        });
        let [one, other] = asking;
        ends(move || {
            let other = thread::spawn(other);
            one();
            other.join().unwrap();
        });
        assert_eq!(run.called().len(), 600);
    }
}

#[test]
fn a_hook_that_is_called_by_a_hook_is_one_more_within_it() {
    for carrier in Carrier::ALL {
        let hooks = || {
            let mut calls = Hook::new("calls", carrier, json!({ "pre_step": "call" }));
            calls.arguments = json!({ "calls": "called" });
            let called = Hook::new("called", carrier, json!({ "post_step": "continue" }));
            [calls, called]
        };
        let prefer = format!("[plugin.called]\nprefer = \"{carrier}\"\n");
        let run = Run::with(&hooks(), &prefer).unwrap();
        assert_eq!(run.ask("pre_step"), (Answer::Continue, vec![]));
        let limit = "[plugin.calls]\nlimits.hook-depth = 1\n";
        let run = Run::with(&hooks(), &format!("{prefer}{limit}")).unwrap();
        let (_, reason) = run.aborted("pre_step");
        assert!(reason.contains("`hook-depth` of 1"), "{reason}");
    }
}

#[test]
fn what_a_called_plugin_fires_counts_from_the_hook_that_called_it() {
    for carrier in Carrier::ALL {
        let hooks = || {
            let mut calls = Hook::new("calls", carrier, json!({ "pre_step": "call" }));
            calls.arguments = json!({ "calls": "called" });
            let called = Hook::new("called", carrier, json!({ "custom:again": "continue" }));
            [calls, called]
        };
        // As a hook of its own run it goes on; called, it fires the point that it watches.
        let called = |limit: &str| {
            format!(
                "[plugin.called]\nprefer = \"{carrier}\"\n{limit}config.hooks = {{ pre_step = \"fire\" }}\n"
            )
        };
        let run = Run::with(&hooks(), &called("")).unwrap();
        assert_eq!(run.ask("pre_step"), (Answer::Continue, vec![]));
        let points: Vec<_> = run.called().into_iter().map(|(_, point)| point).collect();
        assert_eq!(points, ["pre_step", "pre_step", "again"]);

        let run = Run::with(&hooks(), &called("limits.hook-depth = 2\n")).unwrap();
        assert_eq!(run.aborted("pre_step").0, "calls");
        assert!(is_too_deep(&run.refused()[0], 2), "{:?}", run.refused());
    }
}

#[test]
fn an_event_that_only_looks_like_a_point_is_refused() {
    use vox_host::InstanceOptions;
    for carrier in Carrier::ALL {
        let world = vox_testkit::World::with(&["conformance"]);
        let host = world.host("[plugin.conformance]\nevents = true\n");
        let mut options = InstanceOptions::default();
        options.carrier = Some(carrier);
        let mut instance = host.instance(&chain::id("conformance"), options).unwrap();
        let arguments = json!({ "do": "emit", "name": "custom: x", "payload": "{}" });
        let invocation = json!({
            "run": "run", "step": "a", "runner": "conformance",
            "arguments": arguments.to_string(), "environment": [], "directory": "/",
            "attempt": 1, "idempotency_key": "a", "inputs": [], "outputs": [], "input_files": [], "output_files": [],
        });
        let error = instance
            .call_json("step.run", vec![invocation])
            .unwrap_err();
        assert!(error.to_string().contains("names no hook point"), "{error}");
    }
}
