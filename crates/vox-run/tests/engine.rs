//! What the engine promises of a run, with real plugins.

mod steps;

use serde_json::{Value, json};
use vox_contract::Carrier;
use vox_run::{
    Engine, Error, EventKind, Plan, RunEvent, RunOptions, RunOutcome, RunReport, StepOutcome,
    Surroundings,
};
use vox_testkit::World;

use steps::{copy, course, fact, fate, of, push, step};

const GRANTS: &str = "[plugin.conformance]\nstream_io = true\nevents = true\n";

fn engine(world: &World, steps: Vec<Value>) -> Result<Engine, Error> {
    let plan = json!({ "pipeline": { "name": "test" }, "step": steps }).to_string();
    let plan = Plan::parse(&plan, "test.json").unwrap();
    Engine::prepare(&world.host(GRANTS), plan, Surroundings::default())
}

/// Runs the steps to their end; answers the report and all events.
fn run(steps: Vec<Value>, adjust: impl FnOnce(&mut RunOptions)) -> (RunReport, Vec<RunEvent>) {
    let world = World::with(&["conformance"]);
    let mut options = RunOptions::new(world.path());
    options.jobs = 4.try_into().unwrap();
    adjust(&mut options);
    let mut events = Vec::new();
    let engine = engine(&world, steps).unwrap();
    let report = engine.run(&options, &mut |event| events.push(event.clone()));
    (report.unwrap(), events)
}

#[test]
fn a_stream_flows_through_its_stages_to_its_reader() {
    let stage = json!([{ "stage": "conformance" }]);
    let (report, events) = run(
        vec![push("w", json!({})), copy("r", "w.out", stage)],
        |_| (),
    );
    assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
    assert_eq!(of(&report, "r").output[0].text, "PUSHED");
    let [stream] = report.streams.as_slice() else {
        panic!("{:?}", report.streams)
    };
    assert_eq!(
        (stream.from.as_str(), stream.to.as_str()),
        ("w.out", "r.in")
    );
    assert_eq!((stream.chunks_in, stream.bytes_in), (1, 6));
    assert_eq!((stream.chunks_out, stream.bytes_out), (1, 6));
    assert_eq!(stream.broken, None);
    let output = events.iter().find_map(|event| match &event.kind {
        EventKind::StepOutput { step, port, text } => {
            Some((step.as_str(), port.as_str(), text.as_str()))
        }
        _ => None,
    });
    assert_eq!(output, Some(("r", "out", "PUSHED")));
}

#[test]
fn a_stage_that_measures_is_asked_at_the_end_of_its_stream() {
    let stage = json!([{ "stage": "conformance" }]);
    let (report, _) = run(
        vec![push("w", json!({})), copy("r", "w.out", stage)],
        |_| (),
    );
    let measured = report
        .metrics
        .iter()
        .find(|metrics| metrics.port.is_some())
        .unwrap();
    assert_eq!(
        (measured.step.as_deref(), measured.port.as_deref()),
        (Some("r"), Some("in"))
    );
    assert_eq!(measured.samples[0].name, "chunks_total");
    assert_eq!(measured.samples[0].value, 1.0);
}

#[test]
fn what_every_plugin_cost_is_in_the_report_once() {
    let (report, _) = run(vec![push("w", json!({}))], |_| ());
    let mut values = report.metrics.iter().flat_map(|metrics| {
        let samples = metrics.samples.iter();
        samples.map(move |sample| (metrics, sample))
    });
    let (metrics, calls) = values
        .find(|(_, sample)| sample.name == "vox_plugin_calls_total")
        .unwrap();
    assert_eq!(
        (metrics.plugin.as_str(), &metrics.step),
        ("conformance", &None)
    );
    // `init`, its schema, and the run of the step at the least.
    assert!(calls.value >= 3.0, "{calls:?}");
    assert!(!values.any(|(_, sample)| sample.name == calls.name));
}

#[test]
fn every_reader_of_a_port_gets_its_chunks() {
    let none = json!([]);
    let steps = vec![
        push("w", json!({})),
        copy("a", "w.out", none.clone()),
        copy("b", "w.out", none),
    ];
    let (report, _) = run(steps, |_| ());
    for reader in ["a", "b"] {
        assert_eq!(of(&report, reader).output[0].text, "pushed");
    }
}

#[test]
fn events_begin_with_the_run_and_end_with_it_and_each_step_ends_once() {
    let steps = vec![push("a", json!({})), push("b", json!({ "needs": ["a"] }))];
    let (report, events) = run(steps, |_| ());
    assert!(matches!(
        events.first().unwrap().kind,
        EventKind::RunStarted { .. }
    ));
    assert!(matches!(
        events.last().unwrap().kind,
        EventKind::RunEnded { .. }
    ));
    assert!(events.iter().all(|event| event.run == report.run));
    let order: Vec<String> = events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::StepStarted { step, .. } => Some(format!("+{step}")),
            EventKind::StepEnded { step, .. } => Some(format!("-{step}")),
            _ => None,
        })
        .collect();
    assert_eq!(order, ["+a", "-a", "+b", "-b"]);
}

#[test]
fn a_runner_is_told_its_place_in_the_run() {
    let more = json!({ "env": { "LANG": "C" } });
    let (report, _) = run(vec![step("a", json!({ "do": "echo" }), more)], |_| ());
    let StepOutcome::Succeeded { attributes, .. } = &of(&report, "a").outcome else {
        panic!("{report:?}")
    };
    let told = |key: &str| {
        attributes
            .iter()
            .find(|fact| fact.key == key)
            .unwrap()
            .value
            .clone()
    };
    assert_eq!(told("run"), report.run.to_string());
    assert_eq!(told("idempotency-key"), format!("{}/a", report.run));
    assert_eq!(told("attempt"), "1");
    assert_eq!(told("LANG"), "C");
    assert!(told("directory").starts_with('/'));
}

/// Runs a step that answers its environment, of which everything is set that there can be: a step of the
/// plugin `id`, carried so.
fn run_with_variables(world: &World, id: &str, carrier: Carrier) -> RunReport {
    world.settings(&format!("[plugin.{id}]\nprefer = \"{carrier}\"\n"));
    let env = json!({ "env": { "LANG": "C" } });
    let engine = engine(world, vec![step("a", json!({ "do": "echo" }), env)]).unwrap();
    let mut options = RunOptions::new(world.path());
    options.environment.insert("PATH".into(), "/bin".into());
    options.environment.insert("LANG".into(), "de".into());
    options.variables.insert("STAGE".into(), "live".into());
    engine.run(&options, &mut |_| ()).unwrap()
}

#[test]
fn a_native_runner_inherits_and_a_component_sees_what_is_declared_alone() {
    let world = World::with(&["conformance"]);
    for (carrier, inherited) in [(Carrier::Native, Some("/bin")), (Carrier::Component, None)] {
        let report = run_with_variables(&world, "conformance", carrier);
        assert_eq!(fact(&report, "a", "LANG"), Some("C"), "{carrier}");
        assert_eq!(fact(&report, "a", "STAGE"), Some("live"), "{carrier}");
        assert_eq!(fact(&report, "a", "PATH"), inherited, "{carrier}");
    }
}

#[test]
fn a_native_runner_may_ask_for_declared_variables_alone() {
    let world = World::new();
    let provides = json!({
        "extension-points": { "step": 1 }, "runners": ["conformance"],
        "declared-environment": ["conformance"],
    });
    world.add_variant("elsewhere", &json!({ "provides": provides }));
    let report = run_with_variables(&world, "elsewhere", Carrier::Native);
    assert_eq!(fact(&report, "a", "LANG"), Some("C"));
    assert_eq!(fact(&report, "a", "STAGE"), Some("live"));
    assert_eq!(fact(&report, "a", "PATH"), None);
}

/// A step that crashes beside one that is busy, and one after each of them.
fn bad_beside_busy() -> Vec<Value> {
    let boom = json!({ "do": "panic", "message": "boom" });
    vec![
        step("busy", json!({ "do": "until-cancelled" }), json!({})),
        step("bad", boom, json!({})),
        push("after", json!({ "needs": ["bad"] })),
        push("later", json!({ "needs": ["busy"] })),
    ]
}

#[test]
fn a_failure_is_told_before_what_it_brings_about() {
    let (_, events) = run(bad_beside_busy(), |_| ());
    let mut told = course(&events);
    told.retain(|one| one.starts_with('-'));
    assert_eq!(
        told,
        [
            "-bad failed",
            "-after skipped",
            "-later skipped",
            "-busy cancelled"
        ]
    );
}

#[test]
fn a_stream_whose_steps_are_cancelled_is_not_told_as_broken() {
    let mut steps = bad_beside_busy();
    steps.push(copy("reader", "busy.out", json!([])));
    let (report, _) = run(steps, |_| ());
    assert_eq!(of(&report, "reader").outcome.status(), "cancelled");
    let [stream] = report.streams.as_slice() else {
        panic!("{:?}", report.streams)
    };
    assert_eq!(stream.broken, None);
}

#[test]
fn a_failure_cancels_what_runs_and_skips_the_rest() {
    let (report, _) = run(bad_beside_busy(), |_| ());
    assert_eq!(report.outcome, RunOutcome::Failed);
    assert!(
        fate(&report, "bad").contains("boom"),
        "{}",
        fate(&report, "bad")
    );
    assert_eq!(fate(&report, "busy"), "cancelled: step `bad` failed");
    assert_eq!(
        fate(&report, "after"),
        "skipped: it needs `bad`, which failed"
    );
    assert_eq!(fate(&report, "later"), "skipped: step `bad` failed");
}

#[test]
fn keep_going_runs_what_does_not_depend_on_a_failure() {
    let steps = vec![
        step(
            "bad",
            json!({ "do": "panic", "message": "boom" }),
            json!({}),
        ),
        push("after", json!({ "needs": ["bad"] })),
        push("first", json!({})),
        push("second", json!({ "needs": ["first"] })),
    ];
    let (report, _) = run(steps, |options| options.keep_going = true);
    assert_eq!(report.outcome, RunOutcome::Failed);
    assert_eq!(
        fate(&report, "after"),
        "skipped: it needs `bad`, which failed"
    );
    assert!(of(&report, "second").outcome.is_success());
}

#[test]
fn a_reader_never_takes_the_part_that_a_failed_writer_wrote_for_the_whole() {
    // The writer pushes nothing and crashes; its reader would be content with an empty stream.
    let bad = step("w", json!({ "do": "panic", "message": "boom" }), json!({}));
    let (report, _) = run(vec![bad, copy("r", "w.out", json!([]))], |options| {
        options.keep_going = true
    });
    assert_eq!(
        fate(&report, "r"),
        "cancelled: step `w`, whose stream it reads, did not succeed"
    );
    assert_eq!(report.streams[0].broken.as_deref(), Some("step `w` failed"));
}

#[test]
fn a_stage_that_fails_or_crashes_breaks_its_stream_and_is_named() {
    for (deed, told) in [("fail", "chunk 0"), ("panic", "told to panic at chunk 0")] {
        let stage = json!([{ "stage": "conformance", "with": { "do": deed } }]);
        let (report, _) = run(
            vec![push("w", json!({})), copy("r", "w.out", stage)],
            |_| (),
        );
        assert_eq!(report.outcome, RunOutcome::Failed);
        assert!(!of(&report, "r").outcome.is_success());
        let broken = report.streams[0].broken.clone().unwrap();
        assert!(
            broken.starts_with("stage `conformance`: ") && broken.contains(told),
            "{broken}"
        );
    }
}

#[test]
fn a_cancelled_run_ends_and_says_so() {
    let world = World::with(&["conformance"]);
    let busy = step("busy", json!({ "do": "until-cancelled" }), json!({}));
    let reader = copy("reader", "busy.out", json!([]));
    let later = push("later", json!({ "needs": ["busy"] }));
    let engine = engine(&world, vec![busy, reader, later]).unwrap();
    let options = RunOptions::new(world.path());
    let report = engine.run(&options, &mut |event| {
        if let EventKind::Plugin(event) = &event.kind {
            assert_eq!(
                (event.step.as_deref(), event.name.as_str()),
                (Some("busy"), "working")
            );
            options.cancel.cancel();
        }
    });
    let report = report.unwrap();
    assert_eq!(report.outcome, RunOutcome::Cancelled);
    assert_eq!(fate(&report, "busy"), "cancelled: the run was cancelled");
    assert_eq!(fate(&report, "reader"), "cancelled: the run was cancelled");
    assert_eq!(fate(&report, "later"), "skipped: the run was cancelled");
}

#[test]
fn a_run_that_is_cancelled_before_it_begins_starts_no_step() {
    let (report, events) = run(vec![push("a", json!({}))], |options| {
        options.cancel.cancel()
    });
    assert_eq!(report.outcome, RunOutcome::Cancelled);
    assert!(
        !events
            .iter()
            .any(|event| matches!(event.kind, EventKind::StepStarted { .. }))
    );
}

#[test]
fn many_steps_run_to_their_end() {
    let mut steps = vec![push("s0", json!({}))];
    steps.extend((1..300).map(|step| {
        push(
            &format!("s{step}"),
            json!({ "needs": [format!("s{}", step / 2)] }),
        )
    }));
    let (report, _) = run(steps, |_| ());
    assert_eq!(report.outcome, RunOutcome::Succeeded);
}

#[test]
fn steps_for_which_their_plugin_has_no_instance_left_wait_for_one() {
    let world = World::with(&["conformance"]);
    // One is the hook's; a writer, its reader and the stage between them take the others.
    world.settings("[plugin.conformance.limits]\ninstances = 4\n");
    let mut steps = Vec::new();
    for number in 0..4 {
        let (alone, writer) = (format!("alone-{number}"), format!("writer-{number}"));
        steps.extend([push(&alone, json!({})), push(&writer, json!({}))]);
        let from = format!("{writer}.out");
        let stages = json!([{ "stage": "conformance" }]);
        steps.push(copy(&format!("reader-{number}"), &from, stages));
    }
    let plan = json!({
        "pipeline": { "name": "test" },
        "step": steps,
        "hook": [{ "uses": "conformance" }],
    });
    let plan = Plan::parse(&plan.to_string(), "test.json").unwrap();
    let engine = Engine::prepare(&world.host(GRANTS), plan, Surroundings::default()).unwrap();
    let mut options = RunOptions::new(world.path());
    options.jobs = 32.try_into().unwrap();
    let (mut now, mut most) = (0_usize, 0_usize);
    let report = engine.run(&options, &mut |event| match &event.kind {
        EventKind::StepStarted { .. } => {
            now += 1;
            most = most.max(now);
        }
        EventKind::StepEnded { .. } => now -= 1,
        _ => {}
    });
    let report = report.unwrap();
    assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
    assert!((1..=3).contains(&most), "{most}");
}

#[test]
fn arguments_that_do_not_fit_are_refused_before_anything_runs() {
    let world = World::with(&["conformance"]);
    let text = "pipeline.name = \"p\"\n[[step]]\nkey = \"a\"\nuses = \"conformance\"\n\
                [[step]]\nkey = \"b\"\nuses = \"conformance\"\nwith = { word = 3 }\n";
    let plan = Plan::parse(text, "pipeline.toml").unwrap();
    let error = Engine::prepare(&world.host(GRANTS), plan, Surroundings::default()).unwrap_err();
    assert!(matches!(error, Error::Plan(_)));
    assert_eq!(
        error.to_string(),
        "pipeline.toml:2:1: runner `conformance`: \"do\" is a required property\n\
         pipeline.toml:8:8: runner `conformance`: \"do\" is a required property"
    );
}

/// Runs one step with the test plugin as a hook that is configured so.
fn run_with_hook(config: Value) -> RunReport {
    let world = World::with(&["conformance"]);
    let plan = json!({
        "pipeline": { "name": "test" },
        "step": [push("a", json!({}))],
        "hook": [{ "uses": "conformance", "with": config }],
    });
    let plan = Plan::parse(&plan.to_string(), "test.json").unwrap();
    let engine = Engine::prepare(&world.host(GRANTS), plan, Surroundings::default()).unwrap();
    let options = RunOptions::new(world.path());
    engine.run(&options, &mut |_| ()).unwrap()
}

#[test]
fn a_hook_that_lets_everything_pass_changes_nothing() {
    let report = run_with_hook(json!({}));
    assert_eq!(report.outcome, RunOutcome::Succeeded);
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
}

#[test]
fn a_hook_that_cannot_be_started_keeps_the_run_from_beginning() {
    let report = run_with_hook(json!({ "fail_init": "no journal today" }));
    let RunOutcome::Aborted { by, reason } = &report.outcome else {
        panic!("{report:?}")
    };
    assert_eq!(by, "conformance");
    assert!(reason.contains("no journal today"), "{reason}");
    assert!(fate(&report, "a").starts_with("skipped: hook `conformance` aborted it"));
}
