//! What is recorded of a run, and what follows from it for one that is resumed or run anew.

#[path = "../project/child.rs"]
mod child;
mod finding;
#[path = "../project/mod.rs"]
mod project;
mod secrets;
#[path = "../steps/mod.rs"]
mod steps;
mod streams;

use std::fs;
use std::io::{Read as _, Write as _};

use child::{command, part, said, say};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vox_crypto::{Algorithm, canonical};
use vox_oplog::Op;
use vox_run::record::{
    RUN_ENDED, RUN_RESUMED, RUN_STARTED, RunEnded, RunStarted, RunState, STEPS_ENDED,
    STEPS_STARTED, STREAM_ACKNOWLEDGED, StepsEnded, StepsStarted,
};
use vox_run::{
    Engine, EventKind, RecordError, Resume, ResumeError, RunEvent, RunId, RunOptions, RunOutcome,
    Surroundings,
};

use project::{Project, host_at, plan, record_at, told};
use steps::{all, copy, course, make, note, notes, of, push, step, write};

/// A step that notes what it is told of itself, and fails the first time.
fn fails_first(key: &str, needs: &[&str]) -> Value {
    let deeds = [
        note("{step} {attempt} {key}"),
        json!({ "do": "fail-before", "attempt": 2 }),
    ];
    step(key, all(deeds), json!({ "needs": needs }))
}

/// A step that notes what it is told of itself.
fn notes_itself(key: &str, more: Value) -> Value {
    step(key, note("{step} {attempt} {key}"), more)
}

fn payload<T: DeserializeOwned>(op: &Op) -> T {
    canonical::decode_any(&op.payload).unwrap()
}

/// The ops of a run but for how far readers were.
fn transitions(project: &Project, run: RunId) -> Vec<Op> {
    let ops = project.ops(run).into_iter();
    ops.filter(|op| op.kind.as_str() != STREAM_ACKNOWLEDGED)
        .collect()
}

/// What each op of a run says, in short.
fn in_short(project: &Project, run: RunId) -> Vec<String> {
    let short = |op: &Op| match op.kind.as_str() {
        RUN_STARTED => "begins".to_owned(),
        RUN_RESUMED => "goes on".to_owned(),
        STEPS_STARTED => {
            let StepsStarted { steps, attempt } = payload(op);
            format!("+{} {attempt}", steps.join(","))
        }
        STEPS_ENDED => {
            let StepsEnded { steps, .. } = payload(op);
            let ends: Vec<String> = steps
                .iter()
                .map(|end| format!("{} {}", end.step, end.outcome.status()))
                .collect();
            format!("-{}", ends.join(","))
        }
        RUN_ENDED => {
            let RunEnded { outcome, .. } = payload(op);
            format!("ends {outcome:?}")
        }
        other => other.to_owned(),
    };
    transitions(project, run).iter().map(short).collect()
}

#[test]
fn every_transition_is_recorded_in_its_order() {
    let project = Project::new();
    let retry = json!({ "count": 1, "delay": "1ms" });
    let mut again = fails_first("again", &["a"]);
    again["retry"] = retry;
    let told = project.run(&[notes_itself("a", json!({})), again]);
    assert_eq!(told.report.outcome, RunOutcome::Succeeded);
    assert_eq!(
        in_short(&project, told.report.run),
        [
            "begins",
            "+a 1",
            "-a succeeded",
            "+again 1",
            "+again 2",
            "-again succeeded",
            "ends Succeeded"
        ]
    );
    let started: RunStarted = payload(&project.ops(told.report.run)[0]);
    assert_eq!(
        (started.pipeline.as_str(), started.file.as_str()),
        ("test", "test.json")
    );
    assert_eq!((started.steps, started.of), (2, None));
}

#[test]
fn steps_that_streams_join_start_and_end_in_one_op() {
    let project = Project::new();
    let steps = [push("w", json!({})), copy("r", "w.out", json!([]))];
    let run = project.run(&steps).report.run;
    let ops = transitions(&project, run);
    let StepsStarted { steps, .. } = payload(&ops[1]);
    assert_eq!(steps, ["w", "r"]);
    let StepsEnded { mut steps, .. } = payload(&ops[2]);
    steps.sort_by(|a, b| a.step.cmp(&b.step));
    let keys: Vec<&str> = steps.iter().map(|end| end.step.as_str()).collect();
    assert_eq!(keys, ["r", "w"]);
    assert_eq!(ops.len(), 4);
}

#[test]
fn a_resumed_run_does_not_repeat_what_is_done_and_repeats_the_rest_under_the_same_key() {
    let project = Project::new();
    let steps = [
        notes_itself("a", json!({})),
        fails_first("b", &["a"]),
        notes_itself("c", json!({ "needs": ["b"] })),
    ];
    let first = project.run(&steps).report;
    assert_eq!(first.outcome, RunOutcome::Failed);
    let run = first.run;
    let second = project.resume(&steps, run);
    assert_eq!(second.report.outcome, RunOutcome::Succeeded);
    assert_eq!(second.report.run, run);
    assert_eq!(
        notes(&project.directory()),
        [
            format!("a 1 {run}/a"),
            format!("b 1 {run}/b"),
            format!("b 2 {run}/b"),
            format!("c 1 {run}/c"),
        ]
    );
    assert_eq!(of(&second.report, "a").provenance.earlier, Some(run));
    assert_eq!(of(&second.report, "b").provenance.earlier, None);
    assert_eq!(of(&second.report, "b").provenance.attempts, 2);
    let EventKind::RunStarted { resumed, .. } = &second.events[0].kind else {
        panic!("{:?}", second.events[0])
    };
    assert!(resumed);
    assert_eq!(
        in_short(&project, run),
        [
            "begins",
            "+a 1",
            "-a succeeded",
            "+b 1",
            "-b failed",
            "ends Failed",
            "goes on",
            "+b 2",
            "-b succeeded",
            "+c 1",
            "-c succeeded",
            "ends Succeeded"
        ]
    );
    assert_eq!(project.recorded(run).resumed, 1);
}

#[test]
fn a_run_that_is_done_does_nothing_when_it_is_resumed() {
    let project = Project::new();
    let steps = [
        notes_itself("a", json!({})),
        notes_itself("b", json!({ "needs": ["a"] })),
    ];
    let run = project.run(&steps).report.run;
    let again = project.resume(&steps, run);
    assert_eq!(again.report.outcome, RunOutcome::Succeeded);
    assert_eq!(notes(&project.directory()).len(), 2);
    assert_eq!(course(&again.events), ["-a succeeded", "-b succeeded"]);
}

#[test]
fn what_somebody_else_has_done_since_of_a_run_that_goes_on_is_not_done_again() {
    let project = Project::new();
    let steps = [notes_itself("a", json!({})), fails_first("b", &["a"])];
    let run = project.run(&steps).report.run;
    let engine = project.engine(&steps);
    let mut options = project.options();
    options.id = run;
    options.resume = Some(Resume::of(&project.recorded(run), engine.plan()));
    let meanwhile = project.resume(&steps, run).report;
    assert_eq!(meanwhile.outcome, RunOutcome::Succeeded);
    let done = notes(&project.directory());
    let late = told(&engine, &options);
    assert_eq!(late.report.outcome, RunOutcome::Succeeded);
    assert_eq!(course(&late.events), ["-a succeeded", "-b succeeded"]);
    assert_eq!(notes(&project.directory()), done);
}

#[test]
fn a_group_of_which_one_member_failed_runs_again_as_a_whole() {
    let project = Project::new();
    let reader = all([
        json!({ "do": "tell", "port": "in" }),
        json!({ "do": "fail-before", "attempt": 2 }),
    ]);
    let steps = [
        step(
            "w",
            all([note("w {attempt}"), write("out", &["x"])]),
            json!({}),
        ),
        step(
            "r",
            reader,
            json!({ "inputs": { "in": { "from": "w.out" } } }),
        ),
    ];
    let run = project.run(&steps).report.run;
    let second = project.resume(&steps, run).report;
    assert_eq!(second.outcome, RunOutcome::Succeeded);
    assert_eq!(notes(&project.directory()), ["w 1", "w 2"]);
}

/// A step that notes what it is told of itself when another has ended so.
fn after(key: &str, need: &str, fate: &str) -> Value {
    notes_itself(key, json!({ "needs": [need], "when": { "needs": fate } }))
}

/// What steps have noted of a run, in the order of their keys: each with the number of its try.
fn tries(project: &Project, run: RunId) -> Vec<String> {
    let mut tries: Vec<String> = notes(&project.directory())
        .iter()
        .map(|line| {
            let (tried, key) = line.rsplit_once(' ').unwrap();
            assert!(key.starts_with(&run.to_string()), "{line}");
            tried.to_owned()
        })
        .collect();
    tries.sort_unstable();
    tries
}

#[test]
fn what_ran_because_of_a_failure_runs_again_when_the_run_goes_on() {
    let project = Project::new();
    let steps = [
        notes_itself("a", json!({})),
        fails_first("b", &["a"]),
        after("reports", "b", "ended"),
        after("warns", "b", "failed"),
    ];
    let run = project.run(&steps).report.run;
    let second = project.resume(&steps, run).report;
    assert_eq!(second.outcome, RunOutcome::Succeeded);
    assert_eq!(of(&second, "warns").outcome.status(), "skipped");
    assert_eq!(
        tries(&project, run),
        ["a 1", "b 1", "b 2", "reports 1", "reports 2", "warns 1"]
    );
}

#[test]
fn what_ran_after_a_condition_that_did_not_hold_is_not_repeated_when_the_run_goes_on() {
    let project = Project::new();
    let steps = [
        notes_itself("a", json!({})),
        fails_first("b", &[]),
        after("warns", "a", "failed"),
        after("reports", "warns", "ended"),
    ];
    let first = project.run_with(&steps, |options| options.keep_going = true);
    let run = first.report.run;
    let second = project.resume(&steps, run).report;
    assert_eq!(second.outcome, RunOutcome::Succeeded);
    assert_eq!(tries(&project, run), ["a 1", "b 1", "b 2", "reports 1"]);
}

#[test]
fn a_rerun_is_another_run_that_begins_with_what_was_done() {
    let project = Project::new();
    let steps = [notes_itself("a", json!({})), fails_first("b", &["a"])];
    let first = project.run(&steps).report.run;
    let engine = project.engine(&steps);
    let mut options = project.options();
    options.resume = Some(Resume::rerun(&project.recorded(first), engine.plan()));
    let second = told(&engine, &options).report;
    // What is counted begins anew: `b` fails once more, under a key of its own.
    assert_ne!(second.run, first);
    assert_eq!(second.outcome, RunOutcome::Failed);
    assert_eq!(of(&second, "a").provenance.earlier, Some(first));
    assert_eq!(
        notes(&project.directory()),
        [
            format!("a 1 {first}/a"),
            format!("b 1 {first}/b"),
            format!("b 1 {}/b", second.run),
        ]
    );
    // The new run is whole in the record.
    assert_eq!(
        in_short(&project, second.run),
        ["begins", "-a succeeded", "+b 1", "-b failed", "ends Failed"]
    );
    let started: RunStarted = payload(&project.ops(second.run)[0]);
    assert_eq!(started.of, Some(first));
    let third = project.resume(&steps, second.run).report;
    assert_eq!(third.outcome, RunOutcome::Succeeded);
    assert_eq!(notes(&project.directory()).len(), 4);
}

/// A step that makes `out.txt`, cached or not, and one that fails the first time and needs it.
fn maker_and_reader(cached: bool) -> [Value; 2] {
    let mut maker = step(
        "maker",
        all([note("maker"), make("made", "whole")]),
        json!({ "outputs": { "made": { "path": "out.txt" } } }),
    );
    if cached {
        maker["cache"] = json!(true);
        maker["inputs"] = json!({});
    }
    [maker, fails_first("reader", &["maker"])]
}

/// Whether a run of these steps can go on in the state in which the project is.
fn check(project: &Project, steps: &[Value], run: RunId) -> Result<(), ResumeError> {
    let recorded = project.recorded(run);
    let directory = project.directory();
    let plan = plan(steps);
    Resume::of(&recorded, &plan).check(&plan, &directory, &recorded, &project.record)
}

#[test]
fn an_output_that_was_changed_or_removed_since_is_named_and_the_run_does_not_go_on() {
    let project = Project::new();
    let steps = maker_and_reader(false);
    let run = project.run(&steps).report.run;
    check(&project, &steps, run).unwrap();
    project.write("out.txt", "changed");
    let error = check(&project, &steps, run).unwrap_err();
    let path = project.directory().join("out.txt");
    assert_eq!(
        error.to_string(),
        format!(
            "step `maker` is done, and its output `made` was changed since: {}",
            path.display()
        )
    );
    fs::remove_file(&path).unwrap();
    let error = check(&project, &steps, run).unwrap_err();
    assert!(
        matches!(&error, ResumeError::Output { step, output, missing: true, .. }
            if step == "maker" && output == "made"),
        "{error}"
    );
    // Put back as it was, it is as good as ever.
    project.write("out.txt", "whole");
    check(&project, &steps, run).unwrap();
}

#[test]
fn an_output_that_was_changed_since_is_restored_where_the_cache_has_it() {
    let project = Project::new();
    let steps = maker_and_reader(true);
    let run = project.run(&steps).report.run;
    for change in ["changed", ""] {
        project.write("out.txt", change);
        if change.is_empty() {
            fs::remove_file(project.directory().join("out.txt")).unwrap();
        }
        check(&project, &steps, run).unwrap();
        assert_eq!(project.read("out.txt"), "whole");
    }
    let second = project.resume(&steps, run).report;
    assert_eq!(second.outcome, RunOutcome::Succeeded);
    let makers = notes(&project.directory())
        .into_iter()
        .filter(|line| line == "maker");
    assert_eq!(makers.count(), 1);
}

#[test]
fn the_output_of_a_step_that_is_not_done_may_be_anything() {
    let project = Project::new();
    let maker = step(
        "maker",
        all([
            json!({ "do": "fail-before", "attempt": 2 }),
            make("made", "whole"),
        ]),
        json!({ "outputs": { "made": { "path": "out.txt" } } }),
    );
    let steps = [maker];
    let run = project.run(&steps).report.run;
    project.write("out.txt", "somebody else's");
    check(&project, &steps, run).unwrap();
    assert_eq!(
        project.resume(&steps, run).report.outcome,
        RunOutcome::Succeeded
    );
    assert_eq!(project.read("out.txt"), "whole");
}

#[test]
fn the_plan_of_a_run_can_be_read_from_its_record_as_it_was() {
    let project = Project::new();
    let steps = [notes_itself("a", json!({ "label": "שלב \"א\"" }))];
    let run = project.run(&steps).report.run;
    let started = project.recorded(run).summary.started;
    let mut text = String::new();
    let mut blob = project.record.store().get(&started.plan).unwrap();
    blob.read_to_string(&mut text).unwrap();
    assert_eq!(text, plan(&steps).text());
    assert_eq!(started.directory, project.directory().display().to_string());
}

/// A step that works until it is cancelled.
fn busy() -> Value {
    step("busy", json!({ "do": "until-cancelled" }), json!({}))
}

#[test]
fn a_run_that_is_being_carried_out_is_refused_to_everybody_else() {
    let project = Project::new();
    let engine = project.engine(&[busy()]);
    let options = project.options();
    let mut refused = None;
    let report = engine.run(&options, &mut |event| {
        if matches!(event.kind, EventKind::Plugin(_)) {
            refused = Some(engine.run(&options, &mut |_| ()).unwrap_err());
            options.cancel.cancel();
        }
    });
    let run = report.unwrap().run;
    let refused = refused.unwrap();
    assert!(
        matches!(&refused, RecordError::Running { run: of, process }
            if *of == run && *process == std::process::id()),
        "{refused}"
    );
    // Its end is that of the run which was carried out.
    let RunState::Ended(ended) = project.recorded(run).summary.state else {
        panic!("it has ended")
    };
    assert_eq!(ended.outcome, RunOutcome::Cancelled);
}

/// The other process: carries a run out until it is killed.
#[test]
fn child() {
    let Some((run, directory)) = part() else {
        return;
    };
    let host = host_at(directory.parent().unwrap());
    let (record, _log) = record_at(&directory);
    let engine = Engine::prepare(&host, plan(&[busy()]), Surroundings::default());
    let mut options = RunOptions::new(&directory);
    options.id = run.parse().unwrap();
    options.record = Some(record);
    let _ = engine.unwrap().run(&options, &mut |event| {
        if matches!(event.kind, EventKind::Plugin(_)) {
            say("working");
        }
    });
}

#[test]
fn two_processes_cannot_carry_one_run_out_and_a_killed_one_leaves_it_to_others() {
    let project = Project::new();
    let run = RunId::generate();
    let mut other = command(&run.to_string(), &project.data()).spawn().unwrap();
    let mut lines = said(&mut other);
    assert_eq!(lines.next().as_deref(), Some("working"));
    let state = || project.recorded(run).summary.state;
    assert_eq!(state(), RunState::Running(other.id()));
    let engine = project.engine(&[busy()]);
    let mut options = project.options();
    options.id = run;
    let refused = engine.run(&options, &mut |_| ()).unwrap_err();
    assert!(
        matches!(refused, RecordError::Running { process, .. } if process == other.id()),
        "{refused}"
    );
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(state(), RunState::Interrupted);
    options.resume = Some(Resume::of(&project.recorded(run), engine.plan()));
    let report = engine.run(&options, &mut |event| {
        if matches!(event.kind, EventKind::Plugin(_)) {
            options.cancel.cancel();
        }
    });
    let report = report.unwrap();
    assert_eq!(report.outcome, RunOutcome::Cancelled);
    assert_eq!(of(&report, "busy").provenance.attempts, 2);
}

/// The events of a run as its record has them, but for measurements, whose numbers may be rounded.
fn transcript(project: &Project, run: RunId) -> Vec<RunEvent> {
    let transcript = project.history().transcript(run).unwrap().unwrap();
    let events = transcript.map(Result::unwrap);
    events
        .filter(|event| !matches!(event.kind, EventKind::Metrics(_)))
        .collect()
}

#[test]
fn the_record_gives_the_events_back_as_they_were_told() {
    let project = Project::new();
    let steps = [
        push("w", json!({})),
        copy("r", "w.out", json!([{ "stage": "conformance" }])),
        fails_first("b", &["r"]),
    ];
    let told = project.run(&steps);
    let run = told.report.run;
    let mut events = told.events;
    events.retain(|event| !matches!(event.kind, EventKind::Metrics(_)));
    assert_eq!(transcript(&project, run), events);
    // The end of the run vouches for them.
    let file = project.data().join(format!("runs/{run}/events.jsonl"));
    let RunState::Ended(ended) = project.recorded(run).summary.state else {
        panic!("it has ended")
    };
    let hash = vox_crypto::hash_with(Algorithm::Sha256, &fs::read(&file).unwrap());
    assert_eq!(ended.events, Some(hash));
    // A last line that was cut off is none, and what comes later begins a line of its own.
    let mut cut = fs::File::options().append(true).open(&file).unwrap();
    cut.write_all(b"{\"version\":1,\"run\":\"0").unwrap();
    drop(cut);
    assert_eq!(transcript(&project, run), events);
    let mut more = project.resume(&steps, run).events;
    more.retain(|event| !matches!(event.kind, EventKind::Metrics(_)));
    events.extend(more);
    assert_eq!(transcript(&project, run), events);
}
