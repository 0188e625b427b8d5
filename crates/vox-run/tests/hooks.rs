//! What the engine promises of the hooks of a run, with a real plugin on both carriers.

mod steps;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use vox_contract::{Carrier, HookPoint};
use vox_host::InstanceOptions;
use vox_host::hooks::HookSwitches;
use vox_run::{Engine, Plan, RunOptions, RunOutcome, RunReport, Surroundings};
use vox_testkit::World;

use steps::{copy, fate, of, push, step};

/// A hook of a plan: the test plugin by another id. It watches the points that it has a reaction
/// to, and emits each event that it is told of, named by its point.
struct Watcher {
    id: &'static str,
    priority: i32,
    /// By hook point: `continue`, `abort`, `replace`, `fail`, `panic` or `fire`.
    reactions: Value,
    on_failure: Option<&'static str>,
}

impl Watcher {
    fn new(id: &'static str, priority: i32, reactions: Value) -> Self {
        Self {
            id,
            priority,
            reactions,
            on_failure: None,
        }
    }

    /// The same with a policy for every point.
    fn on_failure(mut self, policy: &'static str) -> Self {
        self.on_failure = Some(policy);
        self
    }

    /// Adds the plugin to the world.
    fn install(&self, world: &World) {
        let points = self.reactions.as_object().unwrap().keys();
        let hooks = points.map(|point| {
            let mut entry = json!({ "point": point, "priority": self.priority });
            if let Some(policy) = self.on_failure {
                entry["on-failure"] = json!(policy);
            }
            entry
        });
        world.add_hook(self.id, &hooks.collect());
    }
}

/// One hook, called `guard`, with the reaction to one point.
fn guard(point: &str, reaction: &str) -> [Watcher; 1] {
    [Watcher::new("guard", 100, json!({ point: reaction }))]
}

/// A writer, its reader, and a step that needs the reader.
fn three_steps() -> Vec<Value> {
    let reader = copy("reader", "writer.out", json!([]));
    let after = push("after", json!({ "needs": ["reader"] }));
    vec![push("writer", json!({})), reader, after]
}

/// Runs the steps to their end, once by each carrier, and hands each report to `check`. A hook
/// called `conformance` is the test plugin itself, which watches every point.
fn on_both_carriers(steps: &[Value], watchers: &[Watcher], check: impl Fn(&RunReport)) {
    with_switches(steps, watchers, &HookSwitches::default(), check);
}

/// The same with hooks that may be switched off.
fn with_switches(
    steps: &[Value],
    watchers: &[Watcher],
    switches: &HookSwitches,
    check: impl Fn(&RunReport),
) {
    let world = World::with(&["conformance"]);
    for watcher in watchers {
        if watcher.id != "conformance" {
            watcher.install(&world);
        }
    }
    let hooks: Vec<Value> = watchers
        .iter()
        .map(|hook| json!({ "uses": hook.id, "with": { "hooks": hook.reactions } }))
        .collect();
    let plan = json!({ "pipeline": { "name": "test" }, "step": steps, "hook": hooks }).to_string();
    let plugins: BTreeSet<&str> = watchers
        .iter()
        .map(|hook| hook.id)
        .chain(["conformance"])
        .collect();
    let section = |id: &str, text: &str| format!("[plugin.{id}]\n{text}\n");
    let of_each = |text: &str| {
        plugins
            .iter()
            .map(|id| section(id, text))
            .collect::<String>()
    };
    for carrier in [Carrier::Component, Carrier::Native] {
        world.settings(&of_each(&format!("prefer = \"{carrier}\"")));
        let host = world.host(&of_each("stream_io = true\nevents = true"));
        for id in &plugins {
            let instance = host.instance(&id.parse().unwrap(), InstanceOptions::default());
            assert_eq!(instance.unwrap().carrier_kind(), carrier, "{id}");
        }
        let plan = Plan::parse(&plan, "test.json").unwrap();
        let engine = Engine::prepare(&host, plan, Surroundings::default()).unwrap();
        let mut options = RunOptions::new(world.path());
        options.jobs = 4.try_into().unwrap();
        options.hooks = switches.clone();
        check(&engine.run(&options, &mut |_| ()).unwrap());
    }
}

/// The plugins that were called at `point`, in order.
fn called_at(report: &RunReport, point: &str) -> Vec<String> {
    let events = report.plugin_events.iter();
    let of_point = events.filter(|event| event.name == point);
    of_point.map(|event| event.plugin.to_string()).collect()
}

#[test]
fn an_abort_before_the_run_ends_it_and_names_who_and_why() {
    on_both_carriers(&three_steps(), &guard("pre_pipeline", "abort"), |report| {
        let aborted = RunOutcome::Aborted {
            by: "guard".parse().unwrap(),
            reason: "pre_pipeline of ".into(),
        };
        assert_eq!(report.outcome, aborted);
        for step in ["writer", "reader", "after"] {
            let fate = fate(report, step);
            assert!(
                fate.starts_with("skipped: hook `guard` aborted it"),
                "{fate}"
            );
        }
    });
}

#[test]
fn an_abort_before_a_step_fails_it_and_skips_what_depends_on_it() {
    let steps = [push("a", json!({})), push("b", json!({ "needs": ["a"] }))];
    on_both_carriers(&steps, &guard("pre_step", "abort"), |report| {
        assert_eq!(report.outcome, RunOutcome::Failed);
        assert_eq!(
            fate(report, "a"),
            "failed: hook `guard` aborted it: pre_step of a"
        );
        assert_eq!(fate(report, "b"), "skipped: it needs `a`, which failed");
    });
}

#[test]
fn an_abort_before_a_step_skips_those_that_would_start_together_with_it() {
    on_both_carriers(&three_steps(), &guard("pre_step", "abort"), |report| {
        assert_eq!(
            fate(report, "reader"),
            "skipped: a step that it starts together with failed"
        );
        assert!(report.streams.is_empty(), "{:?}", report.streams);
    });
}

#[test]
fn an_abort_after_a_step_lets_it_count_as_failed() {
    let steps = [push("a", json!({})), push("b", json!({ "needs": ["a"] }))];
    on_both_carriers(&steps, &guard("post_step", "abort"), |report| {
        assert_eq!(
            fate(report, "a"),
            "failed: hook `guard` aborted it: post_step of a"
        );
        assert_eq!(fate(report, "b"), "skipped: it needs `a`, which failed");
    });
}

#[test]
fn an_abort_at_a_chunk_breaks_its_stream() {
    on_both_carriers(&three_steps(), &guard("post_chunk", "abort"), |report| {
        assert_eq!(report.outcome, RunOutcome::Failed);
        assert_eq!(
            report.streams[0].broken.as_deref(),
            Some("hook `guard` aborted it: post_chunk of reader")
        );
        assert_eq!(report.streams[0].chunks_out, 0);
        assert!(!of(report, "reader").outcome.is_success());
    });
}

#[test]
fn a_replacement_of_a_chunk_is_what_its_reader_gets() {
    on_both_carriers(&three_steps(), &guard("post_chunk", "replace"), |report| {
        assert_eq!(report.outcome, RunOutcome::Succeeded);
        assert_eq!(of(report, "reader").output[0].text, "dehsup");
    });
}

#[test]
fn each_hook_of_a_chunk_gets_what_the_one_before_made_of_it() {
    let turn = || json!({ "post_chunk": "replace" });
    let watchers = [
        Watcher::new("one", 1, turn()),
        Watcher::new("two", 2, turn()),
    ];
    on_both_carriers(&three_steps(), &watchers, |report| {
        assert_eq!(called_at(report, "post_chunk"), ["one", "two"]);
        assert_eq!(of(report, "reader").output[0].text, "pushed");
    });
}

#[test]
fn a_hook_that_cannot_answer_where_it_may_abort_counts_as_one_that_aborts() {
    for (reaction, why) in [("fail", "told to fail"), ("panic", "told to panic")] {
        let told = |text: &str| {
            let aborted = "hook `guard` aborted it: it could not answer: ";
            assert!(text.contains(aborted) && text.contains(why), "{text}");
        };
        on_both_carriers(&three_steps(), &guard("pre_pipeline", reaction), |report| {
            let RunOutcome::Aborted { by, reason } = &report.outcome else {
                panic!("{report:?}")
            };
            assert_eq!(by, "guard");
            assert!(reason.contains(why), "{reason}");
            told(&fate(report, "after"));
        });
        for point in ["pre_step", "post_step"] {
            let steps = [push("a", json!({})), push("b", json!({ "needs": ["a"] }))];
            on_both_carriers(&steps, &guard(point, reaction), |report| {
                assert_eq!(report.outcome, RunOutcome::Failed);
                told(&fate(report, "a"));
                assert_eq!(fate(report, "b"), "skipped: it needs `a`, which failed");
            });
        }
        on_both_carriers(&three_steps(), &guard("post_chunk", reaction), |report| {
            assert_eq!(report.outcome, RunOutcome::Failed);
            told(report.streams[0].broken.as_deref().unwrap());
            assert!(fate(report, "after").starts_with("skipped: "));
        });
    }
}

#[test]
fn a_hook_that_fails_where_nothing_can_be_stopped_is_told_and_changes_nothing() {
    let bad = step(
        "bad",
        json!({ "do": "panic", "message": "boom" }),
        json!({}),
    );
    for (reaction, why) in [
        ("fail", "failed: guard: hook.handle: told to fail"),
        ("panic", "failed: guard: hook.handle crashed: "),
        ("abort", "answered `abort` where nothing can be stopped"),
        (
            "replace",
            "answered `replace` where nothing can be replaced",
        ),
    ] {
        let warned = |report: &RunReport, place: &str| {
            // What plugins cost is told at `on_metrics` too, once for each of them.
            let at_the_end = "(at on_metrics)";
            let warnings = report.warnings.iter();
            let warnings: Vec<_> = warnings
                .filter(|text| !text.ends_with(at_the_end))
                .collect();
            let [warning] = warnings.as_slice() else {
                panic!("{:?}", report.warnings)
            };
            let whole = warning.starts_with(&format!("hook `guard` {why}"));
            assert!(whole && warning.ends_with(place), "{warning}");
        };
        for (point, place) in [
            ("on_metrics", "(at on_metrics of `a`)"),
            ("post_pipeline", "(at post_pipeline)"),
        ] {
            on_both_carriers(&[push("a", json!({}))], &guard(point, reaction), |report| {
                assert_eq!(report.outcome, RunOutcome::Succeeded);
                warned(report, place);
            });
        }
        let steps = [bad.clone()];
        on_both_carriers(&steps, &guard("on_error", reaction), |report| {
            assert_eq!(report.outcome, RunOutcome::Failed);
            assert!(fate(report, "bad").contains("boom"));
            warned(report, "(at on_error of `bad`)");
        });
    }
}

#[test]
fn a_hook_that_has_crashed_answers_again_at_later_points() {
    let reactions = json!({ "on_metrics": "panic", "post_step": "continue" });
    let watchers = [Watcher::new("guard", 100, reactions)];
    on_both_carriers(&[push("a", json!({}))], &watchers, |report| {
        assert_eq!(report.outcome, RunOutcome::Succeeded);
        assert_eq!(called_at(report, "post_step"), ["guard"]);
        // What each of the two plugins cost is told at the end.
        let places = ["on_metrics of `a`", "on_metrics", "on_metrics"];
        assert_eq!(report.warnings.len(), places.len(), "{:?}", report.warnings);
        for (warning, place) in report.warnings.iter().zip(places) {
            assert!(warning.ends_with(&format!("(at {place})")), "{warning}");
        }
    });
}

#[test]
fn a_hook_whose_policy_is_open_fails_without_stopping_anything() {
    for (reaction, why) in [("fail", "told to fail"), ("panic", "told to panic")] {
        for point in ["pre_pipeline", "pre_step", "post_step"] {
            let hook = Watcher::new("guard", 100, json!({ point: reaction })).on_failure("open");
            on_both_carriers(&[push("a", json!({}))], &[hook], |report| {
                assert_eq!(report.outcome, RunOutcome::Succeeded);
                let [warning] = report.warnings.as_slice() else {
                    panic!("{:?}", report.warnings)
                };
                assert!(warning.starts_with("hook `guard` failed: "), "{warning}");
                assert!(warning.contains(why), "{warning}");
            });
        }
    }
}

#[test]
fn a_hook_that_is_switched_off_is_not_asked() {
    let switches = HookSwitches::default();
    let point = "pre_step".parse().unwrap();
    switches.switch(&"guard".parse().unwrap(), &point, false);
    let watchers = guard("pre_step", "abort");
    with_switches(&[push("a", json!({}))], &watchers, &switches, |report| {
        assert_eq!(report.outcome, RunOutcome::Succeeded);
    });
}

/// A step that emits an event of this name with the payload `12`.
fn emit(name: &str) -> Value {
    let emit = json!({ "do": "emit", "name": name, "payload": "12" });
    step("a", emit, json!({}))
}

/// The payloads of the events of this name.
fn payloads(report: &RunReport, name: &str) -> Vec<Value> {
    let events = report.plugin_events.iter();
    let of_name = events.filter(|event| event.name == name);
    of_name.map(|event| event.payload.clone()).collect()
}

#[test]
fn an_event_fires_the_custom_point_of_its_name_and_hooks_may_change_it() {
    for (reaction, payload) in [("continue", 12), ("replace", 21)] {
        let watchers = guard("custom:again", reaction);
        on_both_carriers(&[emit("custom:again")], &watchers, |report| {
            assert_eq!(report.outcome, RunOutcome::Succeeded);
            // The hook tells what it was told by the bare name.
            let told = json!({ "plugin": "conformance" });
            assert_eq!(payloads(report, "again"), [told]);
            assert_eq!(payloads(report, "custom:again"), [json!(payload)]);
        });
        on_both_carriers(&[emit("custom:other")], &watchers, |report| {
            assert_eq!(payloads(report, "custom:other"), [json!(12)]);
            assert!(payloads(report, "again").is_empty());
        });
    }
}

#[test]
fn an_abort_at_a_custom_point_refuses_the_event_and_tells_its_emitter() {
    let watchers = guard("custom:again", "abort");
    on_both_carriers(&[emit("custom:again")], &watchers, |report| {
        let fate = fate(report, "a");
        let why = "hook `guard` aborted it: custom:again of a";
        assert!(fate.starts_with("failed: ") && fate.contains(why), "{fate}");
        assert!(payloads(report, "custom:again").is_empty());
    });
}

#[test]
fn a_hook_that_calls_the_run_that_called_it_ends_at_the_limit_of_depth() {
    let reactions = json!({ "pre_step": "fire", "custom:again": "fire" });
    let watchers = [Watcher::new("guard", 100, reactions)];
    on_both_carriers(&[push("a", json!({}))], &watchers, |report| {
        assert_eq!(report.outcome, RunOutcome::Failed);
        let fate = fate(report, "a");
        assert!(
            fate.starts_with("failed: hook `guard` aborted it: "),
            "{fate}"
        );
        assert!(
            fate.contains("the limit `hook-depth` of 4 was reached"),
            "{fate}"
        );
        assert_eq!(called_at(report, "again").len(), 3);
    });
}

#[test]
fn hooks_of_a_point_are_called_by_priority_and_then_by_id() {
    let passing = || json!({ "pre_pipeline": "continue", "post_pipeline": "continue" });
    let watchers = [
        Watcher::new("a-last", 200, passing()),
        Watcher::new("c", 100, passing()),
        Watcher::new("b", 100, passing()),
        Watcher::new("z-first", -5, passing()),
    ];
    on_both_carriers(&[push("a", json!({}))], &watchers, |report| {
        for point in ["pre_pipeline", "post_pipeline"] {
            assert_eq!(called_at(report, point), ["z-first", "b", "c", "a-last"]);
        }
    });
}

#[test]
fn hooks_of_one_plugin_are_called_in_the_order_of_the_plan() {
    for [first, second] in [["abort", "fail"], ["fail", "abort"]] {
        let watchers = [first, second]
            .map(|reaction| Watcher::new("guard", 100, json!({ "pre_pipeline": reaction })));
        on_both_carriers(&[push("a", json!({}))], &watchers, |report| {
            let RunOutcome::Aborted { reason, .. } = &report.outcome else {
                panic!("{report:?}")
            };
            assert_eq!(reason.contains("told to fail"), first == "fail", "{reason}");
        });
    }
}

#[test]
fn nobody_is_asked_after_the_one_who_aborts() {
    let watchers = [
        Watcher::new("stops", 1, json!({ "pre_step": "abort" })),
        Watcher::new("waits", 2, json!({ "pre_step": "continue" })),
    ];
    on_both_carriers(&[push("a", json!({}))], &watchers, |report| {
        assert_eq!(called_at(report, "pre_step"), ["stops"]);
    });
}

#[test]
fn a_hook_is_told_of_the_points_in_the_order_in_which_a_run_meets_them() {
    let points = HookPoint::FIXED.map(|point| (point.name(), json!("continue")));
    let passing = points.into_iter().collect();
    let watchers = [Watcher::new("conformance", 100, passing)];
    let not_granted = json!({ "do": "blob", "id": "any" });
    let steps = [step("a", not_granted, json!({}))];
    on_both_carriers(&steps, &watchers, |report| {
        let told: Vec<&str> = report
            .plugin_events
            .iter()
            .map(|event| event.name.as_str())
            .collect();
        assert_eq!(
            told,
            [
                "pre_pipeline",
                "pre_step",
                "on_metrics",
                "post_step",
                "on_error",
                // What the plugin cost, which is the step's and the hook's.
                "on_metrics",
                "post_pipeline"
            ]
        );
        let detail = |point: &str| {
            let mut events = report.plugin_events.iter();
            events
                .find(|event| event.name == point)
                .unwrap()
                .payload
                .clone()
        };
        assert_eq!(
            detail("pre_pipeline"),
            json!({ "pipeline": "test", "steps": ["a"] })
        );
        assert_eq!(detail("post_step")["status"], "failed");
        assert_eq!(
            detail("on_error")["message"],
            detail("post_step")["message"]
        );
        assert_eq!(
            detail("post_pipeline"),
            json!({ "status": "failed", "steps": { "a": "failed" } })
        );
    });
}
