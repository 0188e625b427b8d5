//! What a chain of hooks promises, by either carrier and by both together.

mod chain;

use serde_json::json;
use vox_contract::{Carrier, HookPoint};
use vox_host::hooks::Answer;

use chain::{Hook, Run, id, point};

/// The ids of the hooks that were called, in order.
fn ids(run: &Run) -> Vec<String> {
    run.called().into_iter().map(|(plugin, _)| plugin).collect()
}

#[test]
fn hooks_are_asked_by_priority_then_by_id_whatever_carries_them() {
    let passing = || json!({ "pre_step": "continue" });
    let hook = |id, carrier, priority| {
        Hook::new(id, carrier, passing()).entry(json!({ "priority": priority }))
    };
    let run = Run::open(&[
        hook("a-last", Carrier::Native, 200),
        hook("c", Carrier::Component, 100),
        hook("b", Carrier::Native, 100),
        hook("z-first", Carrier::Component, -5),
    ]);
    assert_eq!(run.ask("pre_step"), (Answer::Continue, vec![]));
    assert_eq!(ids(&run), ["z-first", "b", "c", "a-last"]);
}

#[test]
fn the_same_hook_named_twice_is_asked_in_the_order_of_naming() {
    for reactions in [["abort", "fail"], ["fail", "abort"]] {
        // One by each carrier: two instances of one plugin.
        let hooks = [Carrier::Native, Carrier::Component]
            .into_iter()
            .zip(reactions)
            .map(|(carrier, reaction)| Hook::new("twice", carrier, json!({ "pre_step": reaction })))
            .collect::<Vec<_>>();
        let (_, reason) = Run::open(&hooks).aborted("pre_step");
        let failed = reason.contains("told to fail");
        assert_eq!(failed, reactions[0] == "fail", "{reason}");
    }
}

#[test]
fn each_hook_gets_what_the_one_before_it_made_of_the_payload_across_carriers() {
    let turns = |id, carrier| Hook::new(id, carrier, json!({ "post_chunk": "replace" }));
    let run = Run::open(&[
        turns("a", Carrier::Component),
        turns("b", Carrier::Native),
        turns("c", Carrier::Component),
    ]);
    assert_eq!(
        run.ask("post_chunk"),
        (Answer::Replace(b"cba".to_vec()), vec![])
    );
    assert_eq!(ids(&run), ["a", "b", "c"]);
}

#[test]
fn a_replacement_counts_where_the_point_allows_one_and_is_told_elsewhere() {
    let points: Vec<String> = HookPoint::FIXED
        .iter()
        .map(|point| point.to_string())
        .chain(["custom:deploy".to_owned()])
        .collect();
    for carrier in Carrier::ALL {
        let reactions = points.iter().map(|point| (point.clone(), json!("replace")));
        let run = Run::open(&[Hook::new("turns", carrier, reactions.collect())]);
        for name in &points {
            if point(name).may_replace() {
                let replaced = Answer::Replace(b"cba".to_vec());
                assert_eq!(run.ask(name), (replaced, vec![]), "{name}");
            } else {
                assert_eq!(
                    run.told(name),
                    format!(
                        "hook `turns` answered `replace` where nothing can be replaced (at {name} of `a`)"
                    )
                );
            }
        }
        let all = run.called().len();
        assert_eq!(all, points.len(), "it is asked at every point");
    }
}

#[test]
fn an_abort_names_who_and_why_where_the_point_allows_one_and_is_told_elsewhere() {
    for carrier in Carrier::ALL {
        let points = HookPoint::FIXED.map(|point| point.to_string());
        let reactions = points.iter().map(|point| (point.clone(), json!("abort")));
        let run = Run::open(&[Hook::new("stops", carrier, reactions.collect())]);
        for name in &points {
            let why = format!("{name} of a");
            if point(name).may_abort() {
                assert_eq!(run.aborted(name), ("stops".to_owned(), why));
            } else {
                let told = run.told(name);
                let start = "hook `stops` answered `abort` where nothing can be stopped: ";
                assert!(told.starts_with(&format!("{start}{why}")), "{told}");
            }
        }
    }
}

#[test]
fn nobody_is_asked_after_the_one_who_aborts() {
    let hook = |id, reaction| Hook::new(id, Carrier::Native, json!({ "pre_step": reaction }));
    let run = Run::open(&[hook("stops", "abort"), hook("waits", "continue")]);
    assert_eq!(run.aborted("pre_step").0, "stops");
    assert_eq!(ids(&run), ["stops"]);
}

#[test]
fn a_failure_stops_or_is_told_as_the_policy_says() {
    for carrier in Carrier::ALL {
        for reaction in ["fail", "panic"] {
            let reactions = || json!({ "pre_step": reaction });
            let closed = Hook::new("guard", carrier, reactions());
            let (plugin, reason) = Run::open(&[closed]).aborted("pre_step");
            assert_eq!(plugin, "guard");
            assert!(reason.contains("told to "), "{reason}");
            let open = Hook::new("guard", carrier, reactions());
            let open = open.entry(json!({ "on-failure": "open" }));
            let told = Run::open(&[open]).told("pre_step");
            assert!(told.starts_with("hook `guard` failed: "), "{told}");
            assert!(told.contains("told to "), "{told}");
        }
    }
}

#[test]
fn a_hook_that_crashed_begins_anew_at_the_next_event() {
    for carrier in Carrier::ALL {
        let reactions = json!({ "pre_step": "panic", "post_step": "continue" });
        let run = Run::open(&[Hook::new("guard", carrier, reactions)]);
        assert_eq!(run.aborted("pre_step").0, "guard");
        assert_eq!(run.ask("post_step"), (Answer::Continue, vec![]));
        let mut crashes = Vec::new();
        run.chain.visit(|instance| crashes.push(instance.crashes()));
        assert_eq!(crashes, [1]);
    }
}

#[test]
fn a_hook_is_switched_off_and_on_while_it_is_in_use() {
    for carrier in Carrier::ALL {
        let reactions = json!({ "pre_step": "abort", "post_step": "abort" });
        let run = Run::open(&[Hook::new("guard", carrier, reactions)]);
        let switch = |on| run.switches.switch(&id("guard"), &point("pre_step"), on);
        assert_eq!(run.aborted("pre_step").0, "guard");
        switch(false);
        assert!(!run.chain.watches(&point("pre_step")));
        assert_eq!(run.ask("pre_step"), (Answer::Continue, vec![]));
        assert_eq!(run.aborted("post_step").0, "guard", "the other point is on");
        switch(true);
        assert_eq!(run.aborted("pre_step").0, "guard");
    }
}

#[test]
fn what_the_project_switches_off_is_not_even_started_until_it_is_switched_on() {
    for carrier in Carrier::ALL {
        let mut hook = Hook::new("guard", carrier, json!({ "pre_step": "abort" }));
        hook.arguments = json!({ "fail_init": "not now" });
        let off = "[plugin.guard]\nhooks-off = [\"pre_step\"]\n";
        let run = Run::with(&[hook], off).unwrap();
        assert!(!run.chain.watches(&point("pre_step")));
        assert_eq!(run.ask("pre_step"), (Answer::Continue, vec![]));
        run.switches.switch(&id("guard"), &point("pre_step"), true);
        let (_, reason) = run.aborted("pre_step");
        assert!(reason.contains("it cannot be started: "), "{reason}");
        assert!(reason.contains("not now"), "{reason}");
    }
}

#[test]
fn a_hook_that_cannot_be_started_stops_the_run_unless_its_policy_is_open() {
    for carrier in Carrier::ALL {
        let broken = |entry| {
            let mut hook = Hook::new("guard", carrier, json!({ "pre_step": "continue" }));
            hook.arguments = json!({ "fail_init": "no key" });
            hook.entry(entry)
        };
        let abort = Run::with(&[broken(json!({}))], "").err().unwrap();
        assert_eq!(abort.plugin, id("guard"));
        assert!(abort.reason.contains("no key"), "{}", abort.reason);
        let run = Run::open(&[broken(json!({ "on-failure": "open" }))]);
        let told = run.told("pre_step");
        assert!(
            told.contains("takes no part: it cannot be started: "),
            "{told}"
        );
        let again = run.ask("pre_step");
        assert!(again.1.is_empty(), "that is told once: {again:?}");
    }
}
