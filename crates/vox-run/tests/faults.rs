//! What becomes of a run in which something goes wrong.

mod project;
mod steps;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vox_contract::Carrier;
use vox_crypto::canonical;
use vox_oplog::NewOp;
use vox_run::record::{RUN_STARTED, RunStarted};
use vox_run::{Cause, EventKind, RunEvent, RunId, RunOutcome, RunReport, StepOutcome};

use project::{Project, Told, told};
use steps::{all, cause, copy, course, fact, fate, make, note, notes, of, push, step, write};

/// A step that ends with a code.
fn bad(key: &str, more: Value) -> Value {
    step(key, json!({ "do": "end", "code": 3 }), more)
}

/// A step that notes its key.
fn noted(key: &str, more: Value) -> Value {
    step(key, note("{step}"), more)
}

/// A step that tells every chunk of a stream.
fn teller(key: &str, from: &str) -> Value {
    step(
        key,
        json!({ "do": "tell", "port": "in" }),
        json!({ "inputs": { "in": { "from": from } } }),
    )
}

/// The texts that were told of a stream.
fn texts(report: &RunReport) -> Vec<String> {
    let events = report.plugin_events.iter();
    events
        .filter(|event| event.name == "chunk")
        .map(|event| {
            let bytes: Vec<u8> = serde_json::from_value(event.payload["data"].clone()).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        })
        .collect()
}

#[test]
fn arguments_that_a_plugin_cannot_read_fail_the_step_and_say_why() {
    // The schema of the runner asks for `do` and nothing else.
    let report = Project::new()
        .run(&[step("a", json!({ "do": "nonsense" }), json!({}))])
        .report;
    assert_eq!(cause(&report, "a"), Cause::Error);
    let fate = fate(&report, "a");
    assert!(fate.contains("unknown variant `nonsense`"), "{fate}");
}

#[test]
fn a_step_that_ends_well_without_its_output_has_failed_and_what_was_there_is_put_back() {
    let project = Project::new();
    project.write("out.txt", "old");
    let lazy = step(
        "lazy",
        json!({ "do": "facts", "facts": {} }),
        json!({ "outputs": { "made": { "path": "out.txt" } } }),
    );
    let reader = step(
        "reader",
        note("read"),
        json!({ "inputs": { "a": { "from": "lazy.made" } } }),
    );
    let report = project.run(&[lazy, reader]).report;
    assert_eq!(report.outcome, RunOutcome::Failed);
    assert_eq!(cause(&report, "lazy"), Cause::Output);
    assert_eq!(
        fate(&report, "lazy"),
        "failed: its output `made`: it ended well, and there is no out.txt"
    );
    assert_eq!(of(&report, "reader").outcome.status(), "skipped");
    assert_eq!(project.read("out.txt"), "old");
    assert!(notes(&project.directory()).is_empty());
}

#[cfg(unix)]
#[test]
fn an_output_that_leads_out_of_the_directory_of_the_run_is_refused() {
    let project = Project::new();
    let outside = project.world.path().join("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, project.directory().join("out")).unwrap();
    let maker = step(
        "maker",
        make("made", "text"),
        json!({ "outputs": { "made": { "path": "out/made.txt" } } }),
    );
    let report = project.run(&[maker]).report;
    assert_eq!(cause(&report, "maker"), Cause::Output);
    let fate = fate(&report, "maker");
    assert!(fate.contains("leads out of the run's directory"), "{fate}");
}

#[test]
fn a_plugin_that_crashes_in_the_middle_of_a_stream_fails_its_step_and_breaks_the_stream() {
    for carrier in [Carrier::Component, Carrier::Native] {
        let crash = json!({ "do": "panic", "message": "boom" });
        let writer = step("w", all([write("out", &["part"]), crash]), json!({}));
        let project = Project::on(carrier);
        let report = project.run(&[writer, teller("r", "w.out")]).report;
        assert_eq!(report.outcome, RunOutcome::Failed);
        assert_eq!(cause(&report, "w"), Cause::Crashed, "{carrier}");
        assert!(fate(&report, "w").contains("boom"), "{carrier}");
        // The reader never takes the part for the whole.
        assert_eq!(of(&report, "r").outcome.status(), "cancelled", "{carrier}");
        assert_eq!(report.streams[0].broken.as_deref(), Some("step `w` failed"));
        assert_eq!(report.streams[0].chunks_in, 1);
        // Nothing of it is kept as done.
        let recorded = project.recorded(report.run);
        assert!(recorded.ends.values().all(|end| !end.outcome.is_success()));
    }
}

#[test]
fn a_stage_may_let_nothing_through() {
    let drops = json!([{ "stage": "conformance", "with": { "do": "drop" } }]);
    let report = Project::new()
        .run(&[
            step("w", write("out", &["one", "two"]), json!({})),
            copy("r", "w.out", drops),
        ])
        .report;
    assert_eq!(report.outcome, RunOutcome::Succeeded);
    assert_eq!(fact(&report, "r", "chunks"), Some("0"));
    let stream = &report.streams[0];
    assert_eq!((stream.chunks_in, stream.chunks_out), (2, 0));
    assert_eq!(stream.broken, None);
}

#[test]
fn a_chunk_of_a_modality_that_a_stage_does_not_take_breaks_its_stream() {
    let project = Project::new();
    let provides = json!({
        "extension-points": { "stage": 1 }, "stage": { "accepts": ["audio/*"] },
    });
    project
        .world
        .add_variant("hears", &json!({ "provides": provides }));
    // The runner does not say what it writes, so nobody knew before.
    let report = project
        .run(&[
            step("w", write("out", &["text"]), json!({})),
            copy("r", "w.out", json!([{ "stage": "hears" }])),
        ])
        .report;
    assert_eq!(report.outcome, RunOutcome::Failed);
    assert_eq!(
        report.streams[0].broken.as_deref(),
        Some("stage `hears` takes audio/*, and a chunk of modality text came")
    );
}

/// Runs steps with a hook, `guard`, that reacts so at this point.
fn guarded(steps: &[Value], point: &str, reaction: &str) -> RunReport {
    let project = Project::new();
    project
        .world
        .add_hook("guard", &json!([{ "point": point }]));
    let engine = project.guarded(steps, point, &[reaction]);
    told(&engine, &project.options()).report
}

/// Two streams that are zipped, and told.
fn fusion() -> [Value; 4] {
    let inputs = json!({ "a": { "from": "a.out" }, "b": { "from": "b.out" } });
    let fuse = json!({
        "key": "fused", "uses": "fuse", "with": { "policy": "zip" }, "inputs": inputs,
    });
    let writer = |key| step(key, write("out", &["one"]), json!({}));
    [writer("a"), writer("b"), fuse, teller("told", "fused.out")]
}

#[test]
fn a_hook_that_aborts_a_fusion_fails_its_step() {
    for point in ["pre_fusion", "post_fusion"] {
        let report = guarded(&fusion(), point, "abort");
        assert_eq!(report.outcome, RunOutcome::Failed);
        assert_eq!(cause(&report, "fused"), Cause::Aborted);
        assert_eq!(
            fate(&report, "fused"),
            format!("failed: hook `guard` aborted it: {point} of fused")
        );
        assert!(texts(&report).is_empty());
    }
}

#[test]
fn a_hook_may_replace_what_was_fused_and_what_is_to_be_fused_only_by_a_set() {
    let plain = guarded(&fusion(), "post_fusion", "continue");
    let replaced = guarded(&fusion(), "post_fusion", "replace");
    let data = |report: &RunReport| -> Vec<u8> {
        let mut events = report.plugin_events.iter();
        let event = events.find(|event| event.name == "chunk").unwrap();
        serde_json::from_value(event.payload["data"].clone()).unwrap()
    };
    let turned: Vec<u8> = data(&plain).into_iter().rev().collect();
    assert_eq!(data(&replaced), turned);
    // A set that is turned round is none.
    let report = guarded(&fusion(), "pre_fusion", "replace");
    assert_eq!(cause(&report, "fused"), Cause::Error);
    let fate = fate(&report, "fused");
    let why = "what a hook answered at pre_fusion: it is no set of chunks";
    assert!(fate.contains(why), "{fate}");
}

#[test]
fn a_hook_may_drop_every_chunk_and_the_stream_goes_on_without_them() {
    let steps = [
        step("w", write("out", &["one", "two", "three"]), json!({})),
        teller("r", "w.out"),
    ];
    let report = guarded(&steps, "post_chunk", "drop");
    assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
    assert!(texts(&report).is_empty());
    let stream = &report.streams[0];
    assert_eq!((stream.chunks_in, stream.chunks_out), (3, 0));
}

#[test]
fn a_hook_may_replace_every_chunk() {
    let steps = [
        step("w", write("out", &["one", "two"]), json!({})),
        teller("r", "w.out"),
    ];
    let report = guarded(&steps, "post_chunk", "replace");
    assert_eq!(texts(&report), ["eno", "owt"]);
}

#[test]
fn runs_are_listed_in_the_order_in_which_they_began_whatever_the_clock_said() {
    let project = Project::new();
    let started = RunStarted {
        pipeline: "test".into(),
        file: "test.json".into(),
        directory: "/".into(),
        plan: project.record.store().put_bytes(b"{}").unwrap(),
        steps: 1,
        keep_going: false,
        variables: Vec::new(),
        of: None,
        version: "0.1.0".into(),
    };
    // Each began an hour before the one before it, as the clock had it.
    let runs: Vec<RunId> = (0..4).map(|_| RunId::generate()).collect();
    for (number, run) in (0..).zip(&runs) {
        let payload = canonical::encode(&started).unwrap();
        let op = NewOp::new(RUN_STARTED, payload).unwrap();
        let time = 1_700_000_000_000_000 - number * 3_600_000_000;
        project
            .log()
            .append(op.run(run.to_string()).at(time))
            .unwrap();
    }
    let listed = project.history().list(10, |_| true).unwrap();
    let ids: Vec<RunId> = listed.iter().map(|run| run.id).collect();
    let expected: Vec<RunId> = runs.iter().rev().copied().collect();
    assert_eq!(ids, expected);
    assert!(listed.iter().map(|run| run.time).is_sorted());
    assert_eq!(
        project.history().find("last", Path::new("/")).unwrap(),
        runs[3]
    );
}

#[test]
fn two_runs_of_one_pipeline_at_once_do_not_disturb_each_other() {
    let project = Project::new();
    let engine = project.engine(&[
        push("w", json!({})),
        copy("r", "w.out", json!([{ "stage": "conformance" }])),
        noted("last", json!({ "needs": ["r"] })),
    ]);
    let run = || told(&engine, &project.options());
    let [one, two] = std::thread::scope(|scope| {
        [scope.spawn(run), scope.spawn(run)].map(|run| run.join().unwrap())
    });
    assert_ne!(one.report.run, two.report.run);
    for Told { report, events } in [one, two] {
        assert_eq!(report.outcome, RunOutcome::Succeeded);
        assert!(events.iter().all(|event| event.run == report.run));
        assert_eq!(of(&report, "r").output[0].text, "PUSHED");
        let recorded = project.recorded(report.run);
        assert_eq!(recorded.ends.len(), 3);
    }
    assert_eq!(notes(&project.directory()), ["last", "last"]);
}

#[test]
fn a_step_that_takes_too_long_has_failed_though_it_goes_on_for_a_while() {
    let linger = json!({ "do": "linger", "polls": 100_000, "code": 130 });
    let report = Project::new()
        .run(&[
            step("slow", linger, json!({ "timeout": "50ms" })),
            push("after", json!({ "needs": ["slow"] })),
        ])
        .report;
    assert_eq!(report.outcome, RunOutcome::Failed);
    assert_eq!(cause(&report, "slow"), Cause::TimedOut);
    assert_eq!(
        fate(&report, "slow"),
        "failed: it was still running after 50ms, its time-out"
    );
    assert!(of(&report, "slow").duration >= Duration::from_millis(50));
    assert_eq!(of(&report, "after").outcome.status(), "skipped");
}

#[test]
fn a_step_that_takes_too_long_is_ended_though_another_tells_more_than_is_heard() {
    let lines = vec!["line\n"; 4_000];
    let project = Project::new();
    let engine = project.engine(&[
        step(
            "slow",
            json!({ "do": "until-cancelled" }),
            json!({ "timeout": "50ms" }),
        ),
        step("talks", write("talk", &lines), json!({})),
    ]);
    let mut options = project.options();
    options.keep_going = true;
    let (mut heard, mut heard_before) = (0, 0);
    let report = engine.run(&options, &mut |event| match &event.kind {
        EventKind::StepOutput { .. } => {
            heard += 1;
            // Slower than the step, so that there is always more.
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_micros(100) {
                std::hint::spin_loop();
            }
        }
        EventKind::StepEnded { step, .. } if step == "slow" => heard_before = heard,
        _ => {}
    });
    let report = report.unwrap();
    assert_eq!(cause(&report, "slow"), Cause::TimedOut);
    assert!(of(&report, "talks").outcome.is_success());
    assert_eq!(heard, lines.len());
    assert!(heard_before < heard, "{heard_before}");
}

#[test]
fn each_try_has_the_time_of_its_own() {
    // The second try is as long as the first one may be, and neither is longer.
    let deeds = all([
        note("{attempt}"),
        json!({ "do": "linger", "polls": 0, "code": 130 }),
    ]);
    let more = json!({ "timeout": "1s", "retry": { "count": 1, "delay": "1ms" } });
    let project = Project::new();
    let told = project.run(&[step("slow", deeds, more)]);
    assert_eq!(cause(&told.report, "slow"), Cause::TimedOut);
    assert_eq!(of(&told.report, "slow").provenance.attempts, 2);
    assert_eq!(notes(&project.directory()), ["1", "2"]);
}

/// A step that notes what it is told of itself and fails every try before this one.
fn fails_before(attempt: u32, retry: Value) -> Value {
    let fails = json!({ "do": "fail-before", "attempt": attempt });
    let deeds = all([note("{step} {attempt} {key}"), fails]);
    step("again", deeds, json!({ "retry": retry }))
}

/// How long was to be waited before each further try. None began before all waits up to it were over, as it is
/// told after the run has begun.
fn waits(events: &[RunEvent]) -> Vec<Duration> {
    let begun = events[0].timestamp;
    let mut waits = Vec::new();
    for event in events {
        match &event.kind {
            EventKind::StepRetried { wait, .. } => waits.push(*wait),
            EventKind::StepStarted { .. } => {
                let since = Duration::from_nanos(event.timestamp - begun);
                let waited: Duration = waits.iter().sum();
                assert!(since >= waited, "{since:?} after {waits:?}");
            }
            _ => {}
        }
    }
    waits
}

#[test]
fn a_step_is_tried_again_after_a_longer_wait_each_time_under_the_same_key() {
    let project = Project::new();
    let retry = json!({ "count": 5, "delay": "10ms", "factor": 3, "max-delay": "50ms" });
    let told = project.run(&[fails_before(4, retry)]);
    let run = told.report.run;
    assert_eq!(told.report.outcome, RunOutcome::Succeeded);
    assert_eq!(
        course(&told.events),
        [
            "+again 1",
            "~again 1",
            "+again 2",
            "~again 2",
            "+again 3",
            "~again 3",
            "+again 4",
            "-again succeeded"
        ]
    );
    let waits = waits(&told.events);
    assert_eq!(waits, [10, 30, 50].map(Duration::from_millis));
    assert_eq!(
        notes(&project.directory()),
        [1, 2, 3, 4].map(|attempt| format!("again {attempt} {run}/again"))
    );
}

#[test]
fn a_step_is_tried_no_more_often_than_the_plan_says_and_for_no_other_causes() {
    let project = Project::new();
    let told = project.run(&[fails_before(9, json!({ "count": 2, "delay": "1ms" }))]);
    assert_eq!(told.report.outcome, RunOutcome::Failed);
    assert_eq!(of(&told.report, "again").provenance.attempts, 3);
    assert_eq!(notes(&project.directory()).len(), 3);
    let project = Project::new();
    let retry = json!({ "count": 2, "delay": "1ms", "on": ["timed-out", "crashed"] });
    let told = project.run(&[fails_before(9, retry)]);
    assert_eq!(of(&told.report, "again").provenance.attempts, 1);
    // An error is one of those that may pass.
    let fails = json!({ "do": "fail-before", "attempt": 2, "error": true });
    let retry = json!({ "retry": { "count": 1, "delay": "1ms" } });
    let report = Project::new().run(&[step("a", fails, retry)]).report;
    assert_eq!(of(&report, "a").provenance.attempts, 2);
    assert!(of(&report, "a").outcome.is_success());
}

#[test]
fn steps_that_streams_join_are_tried_again_together() {
    let project = Project::new();
    let writer = step(
        "w",
        all([note("{step} {attempt}"), write("out", &["one"])]),
        json!({}),
    );
    let reader = step(
        "r",
        all([
            note("{step} {attempt}"),
            json!({ "do": "tell", "port": "in" }),
            json!({ "do": "fail-before", "attempt": 2 }),
        ]),
        json!({
            "inputs": { "in": { "from": "w.out" } },
            "retry": { "count": 1, "delay": "1ms" },
        }),
    );
    let report = project.run(&[writer, reader]).report;
    assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
    assert_eq!(texts(&report), ["one", "one"]);
    let mut noted = notes(&project.directory());
    noted.sort_unstable();
    assert_eq!(noted, ["r 1", "r 2", "w 1", "w 2"]);
}

#[test]
fn to_cancel_a_run_ends_the_wait_before_a_try() {
    let project = Project::new();
    let engine = project.engine(&[fails_before(
        2,
        json!({ "count": 1, "delay": "1h", "max-delay": "1h" }),
    )]);
    let options = project.options();
    let report = engine.run(&options, &mut |event| {
        if matches!(event.kind, EventKind::StepRetried { .. }) {
            options.cancel.cancel();
        }
    });
    let report = report.unwrap();
    assert_eq!(report.outcome, RunOutcome::Cancelled);
    assert!(report.duration < Duration::from_secs(600), "{report:?}");
    assert_eq!(notes(&project.directory()).len(), 1);
}

#[test]
fn the_failure_of_another_step_ends_the_wait_before_a_try() {
    let project = Project::new();
    let waits = fails_before(2, json!({ "count": 1, "delay": "1h", "max-delay": "1h" }));
    let fails = step(
        "bad",
        all([
            json!({ "do": "wait", "file": "retried" }),
            json!({ "do": "end", "code": 3 }),
        ]),
        json!({}),
    );
    let engine = project.engine(&[waits, fails]);
    let report = engine.run(&project.options(), &mut |event| {
        if matches!(event.kind, EventKind::StepRetried { .. }) {
            project.write("retried", "");
        }
    });
    let report = report.unwrap();
    assert_eq!(report.outcome, RunOutcome::Failed);
    assert!(report.duration < Duration::from_secs(600), "{report:?}");
    assert!(!of(&report, "again").outcome.is_success());
}

#[test]
fn a_failure_ends_the_run_unless_it_is_to_go_on() {
    let steps = [
        bad("bad", json!({})),
        noted("after", json!({ "needs": ["bad"] })),
        noted("first", json!({ "needs": ["go"] })),
        step("go", json!({ "do": "wait", "file": "go" }), json!({})),
    ];
    // `go` goes on when `bad` has ended, or is told to end because of that.
    for keep_going in [false, true] {
        let project = Project::new();
        let engine = project.engine(&steps);
        let mut options = project.options();
        options.keep_going = keep_going;
        let report = engine.run(&options, &mut |event| {
            if let EventKind::StepEnded { step, .. } = &event.kind
                && step == "bad"
                && keep_going
            {
                project.write("go", "");
            }
        });
        let report = report.unwrap();
        assert_eq!(report.outcome, RunOutcome::Failed);
        assert_eq!(of(&report, "after").outcome.status(), "skipped");
        if keep_going {
            assert_eq!(notes(&project.directory()), ["first"]);
        } else {
            assert_eq!(fate(&report, "go"), "cancelled: step `bad` failed");
            assert_eq!(fate(&report, "first"), "skipped: step `bad` failed");
            assert!(notes(&project.directory()).is_empty());
        }
    }
}

#[test]
fn a_failure_ends_the_step_whose_stream_the_failed_one_reads() {
    // Their group has not ended as long as the writer goes on.
    let writer = step(
        "w",
        json!({ "do": "until-cancelled" }),
        json!({ "timeout": "1min" }),
    );
    let reader = bad("r", json!({ "inputs": { "in": { "from": "w.out" } } }));
    let report = Project::new().run(&[writer, reader]).report;
    assert_eq!(report.outcome, RunOutcome::Failed);
    assert_eq!(cause(&report, "r"), Cause::Code);
    assert_eq!(fate(&report, "w"), "cancelled: step `r` failed");
}

/// A step that runs when these have ended so.
fn after(key: &str, needs: &[&str], fate: &str) -> Value {
    noted(key, json!({ "needs": needs, "when": { "needs": fate } }))
}

#[test]
fn a_step_that_runs_in_the_end_runs_after_a_failure_too() {
    for keep_going in [false, true] {
        let project = Project::new();
        let steps = [
            bad("bad", json!({})),
            noted("never", json!({ "needs": ["bad"] })),
            after("cleans up", &["bad", "never"], "ended"),
            after("reports", &["bad"], "failed"),
        ];
        let told = project.run_with(&steps, |options| options.keep_going = keep_going);
        assert_eq!(told.report.outcome, RunOutcome::Failed);
        let mut noted = notes(&project.directory());
        noted.sort_unstable();
        assert_eq!(noted, ["cleans up", "reports"]);
        assert!(of(&told.report, "cleans up").outcome.is_success());
    }
}

#[test]
fn a_step_that_runs_after_a_failure_is_skipped_after_a_success_and_fails_nothing() {
    let project = Project::new();
    let report = project
        .run(&[
            noted("good", json!({})),
            after("cleans up", &["good"], "ended"),
            after("reports", &["good"], "failed"),
            noted("needs the report", json!({ "needs": ["reports"] })),
        ])
        .report;
    assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
    assert_eq!(notes(&project.directory()), ["good", "cleans up"]);
    assert_eq!(
        fate(&report, "reports"),
        "skipped: nothing that it needs has failed"
    );
    for key in ["reports", "needs the report"] {
        let outcome = &of(&report, key).outcome;
        assert!(
            matches!(
                outcome,
                StepOutcome::Skipped {
                    by_condition: true,
                    ..
                }
            ),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_step_that_runs_in_the_end_does_not_run_after_the_run_was_cancelled() {
    let project = Project::new();
    let engine = project.engine(&[
        step("busy", json!({ "do": "until-cancelled" }), json!({})),
        after("cleans up", &["busy"], "ended"),
    ]);
    let options = project.options();
    let report = engine.run(&options, &mut |event| {
        if matches!(event.kind, EventKind::Plugin(_)) {
            options.cancel.cancel();
        }
    });
    let report = report.unwrap();
    assert_eq!(report.outcome, RunOutcome::Cancelled);
    assert_eq!(fate(&report, "cleans up"), "skipped: the run was cancelled");
    assert!(notes(&project.directory()).is_empty());
}

#[test]
fn a_step_that_runs_in_the_end_waits_before_it_is_tried_again() {
    let project = Project::new();
    let mut cleans_up = fails_before(2, json!({ "count": 1, "delay": "400ms" }));
    cleans_up["needs"] = json!(["bad"]);
    cleans_up["when"] = json!({ "needs": "ended" });
    let told = project.run(&[bad("bad", json!({})), cleans_up]);
    assert!(of(&told.report, "again").outcome.is_success());
    assert_eq!(waits(&told.events), [Duration::from_millis(400)]);
}

#[test]
fn a_condition_on_what_a_step_has_found_chooses_what_runs() {
    let project = Project::new();
    let weather = json!({ "do": "facts", "facts": { "weather": "fine" } });
    let when = |weather: &str| json!({ "needs": ["look"], "when": { "results": { "look.weather": weather } } });
    let report = project
        .run(&[
            step("look", weather, json!({})),
            noted("walk", when("fine")),
            noted("read", when("foul")),
        ])
        .report;
    assert_eq!(report.outcome, RunOutcome::Succeeded);
    assert_eq!(notes(&project.directory()), ["walk"]);
    assert_eq!(
        fate(&report, "read"),
        "skipped: `weather` of `look` is not `foul`"
    );
}

#[test]
fn a_condition_on_the_environment_chooses_what_runs() {
    let project = Project::new();
    let when = |stage: &str| json!({ "when": { "env": { "STAGE": stage } } });
    let steps = [noted("live", when("live")), noted("test", when("test"))];
    let told = project.run_with(&steps, |options| {
        options.environment.insert("STAGE".into(), "live".into());
        options.variables.insert("STAGE".into(), "test".into());
    });
    // What the user gave the run comes before what every step gets.
    assert_eq!(notes(&project.directory()), ["test"]);
    assert_eq!(
        fate(&told.report, "live"),
        "skipped: the variable `STAGE` is not `live`"
    );
}

/// Everything that was told of what a step wrote.
fn written(events: &[RunEvent]) -> String {
    let text = |event: &RunEvent| match &event.kind {
        EventKind::StepOutput { text, .. } => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

#[test]
fn what_a_step_writes_beyond_the_limit_is_not_kept_and_that_is_told_once() {
    // One limit in the middle of a line, and one at its end.
    for (limit, kept) in [(10, "12345\n1234"), (12, "12345\n12345\n")] {
        let project = Project::new();
        let lines = ["12345\n"; 4];
        let steps = [step("a", write("out", &lines), json!({}))];
        let told = project.run_with(&steps, |options| options.log_limit = limit);
        assert_eq!(told.report.outcome, RunOutcome::Succeeded);
        assert_eq!(written(&told.events), kept);
        assert_eq!(
            told.report.warnings,
            [format!(
                "step `a` has written {limit} bytes; what it writes from here on is not kept"
            )]
        );
    }
}

#[test]
fn two_steps_that_want_the_one_graphics_processor_do_not_meet_while_others_run() {
    let gpu = json!({ "resources": { "gpu": 1 } });
    // Each waits for the one that wants none, so both would be running at once if they could be.
    let works = |key| {
        let wait = json!({ "do": "wait", "file": "beside" });
        step(key, all([note("+"), wait, note("-")]), gpu.clone())
    };
    let beside = step(
        "beside",
        json!({ "do": "note", "file": "beside", "line": "" }),
        json!({}),
    );
    let project = Project::new();
    let told = project.run(&[works("one"), works("two"), beside]);
    assert_eq!(told.report.outcome, RunOutcome::Succeeded);
    assert_eq!(notes(&project.directory()), ["+", "-", "+", "-"]);
    let of_gpu = course(&told.events)
        .into_iter()
        .filter(|told| !told.contains("beside"));
    let of_gpu: Vec<String> = of_gpu.collect();
    assert_eq!(
        of_gpu,
        ["+one 1", "-one succeeded", "+two 1", "-two succeeded"]
    );
}

#[test]
fn how_far_a_step_is_is_told() {
    let progress = json!({
        "do": "emit", "name": "progress",
        "payload": r#"{"done": 3, "total": 10, "message": "reading"}"#,
    });
    let told = Project::new().run(&[step("a", progress, json!({}))]);
    let progress = told.events.iter().find_map(|event| match &event.kind {
        EventKind::StepProgress {
            step,
            done,
            total,
            message,
        } => Some((step.as_str(), *done, *total, message.as_deref())),
        _ => None,
    });
    assert_eq!(progress, Some(("a", 3.0, Some(10.0), Some("reading"))));
    assert!(told.report.plugin_events.is_empty());
}
