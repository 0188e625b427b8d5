//! What is recorded of a run, and what follows from it for one that is resumed or run anew.

#[path = "project/child.rs"]
mod child;
mod project;
mod steps;

use std::collections::BTreeMap;
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
    CacheUse, Cause, Engine, EventKind, RecordError, Resume, ResumeError, RunEvent, RunId,
    RunOptions, RunOutcome, Surroundings,
};

use project::{Project, Told, contents, host_at, plan, record_at, told};
use steps::{all, cause, copy, course, fact, fate, make, note, notes, of, push, step, write};

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

/// A writer of five chunks, and a reader that tells them and fails the first time.
fn writer_and_reader(restart: &str) -> [Value; 2] {
    let reader = all([
        json!({ "do": "tell", "port": "in" }),
        json!({ "do": "fail-before", "attempt": 2 }),
    ]);
    let inputs = json!({ "in": { "from": "w.out", "restart": restart } });
    [
        step("w", write("out", &["0", "1", "2", "3", "4"]), json!({})),
        step("r", reader, json!({ "inputs": inputs })),
    ]
}

/// The numbers of the chunks that the reader told.
fn sequences(told: &Told) -> Vec<u64> {
    let events = told.report.plugin_events.iter();
    events
        .filter(|event| event.name == "chunk")
        .map(|event| event.payload["sequence"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_stream_begins_behind_what_was_acknowledged_where_the_plan_says_so() {
    let project = Project::new();
    let steps = writer_and_reader("acknowledged");
    let first = project.run(&steps);
    assert_eq!(sequences(&first), [0, 1, 2, 3, 4]);
    let run = first.report.run;
    let acknowledged = project.recorded(run).acknowledged["r.in"];
    // By asking for the second chunk the reader has acknowledged the first; what it acknowledges soon
    // after that need not be recorded.
    assert!((1..=5).contains(&acknowledged), "{acknowledged}");
    let second = project.resume(&steps, run);
    assert_eq!(second.report.outcome, RunOutcome::Succeeded);
    assert_eq!(sequences(&second), (acknowledged..5).collect::<Vec<_>>());
    // By asking for another chunk it has acknowledged one more than before.
    let after = project.recorded(run).acknowledged["r.in"];
    assert!(
        after > acknowledged || acknowledged == 5,
        "{after} after {acknowledged}"
    );
}

#[test]
fn a_stream_that_goes_on_counts_what_hooks_let_through_and_not_what_they_dropped() {
    let project = Project::new();
    project
        .world
        .add_hook("guard", &json!([{ "point": "post_chunk" }]));
    let steps = writer_and_reader("acknowledged");
    let engine = project.guarded(&steps, "post_chunk", &["drop-first"]);
    let first = told(&engine, &project.options());
    assert_eq!(sequences(&first), [1, 2, 3, 4]);
    let run = first.report.run;
    let acknowledged = project.recorded(run).acknowledged["r.in"];
    let second = project.resume_by(&engine, run);
    assert_eq!(second.report.outcome, RunOutcome::Succeeded);
    assert_eq!(
        sequences(&second),
        (acknowledged + 1..5).collect::<Vec<_>>()
    );
}

#[test]
fn a_stream_begins_at_its_beginning_where_the_plan_says_nothing() {
    let project = Project::new();
    let steps = writer_and_reader("beginning");
    let run = project.run(&steps).report.run;
    assert!(project.recorded(run).acknowledged.is_empty());
    let second = project.resume(&steps, run);
    assert_eq!(sequences(&second), [0, 1, 2, 3, 4]);
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

/// A secret, which nothing else in a record is like.
const SECRET: &str = "correct-horse-battery-staple";

/// A project in which the variable `TOKEN` is a secret.
fn secretive() -> Project {
    let mut project = Project::new();
    let secrets = BTreeMap::from([("TOKEN".to_owned(), SECRET.to_owned())]);
    project.surroundings.secrets = secrets;
    project
}

/// The files of the record in which the secret stands.
fn leaks(project: &Project) -> Vec<String> {
    let needle = SECRET.as_bytes();
    let files = contents(&project.data()).into_iter();
    files
        .filter(|(_, bytes)| bytes.windows(needle.len()).any(|part| part == needle))
        .map(|(path, _)| path.display().to_string())
        .collect()
}

/// Asserts that nobody was told the secret and that it stands nowhere in the record.
fn assert_kept(project: &Project, events: &[RunEvent]) {
    let told = format!("{events:?}");
    assert!(!told.contains(SECRET), "{told}");
    assert_eq!(leaks(project), Vec::<String>::new());
}

#[test]
fn a_secret_that_a_step_tells_stands_nowhere_in_the_record() {
    let project = secretive();
    let reveal = json!({ "do": "reveal", "variable": "TOKEN" });
    let more = json!({ "secrets": ["TOKEN"], "cache": true, "inputs": {} });
    let told = project.run(&[step("a", reveal, more)]);
    assert_eq!(fact(&told.report, "a", "value"), Some("[secret]"));
    assert_eq!(of(&told.report, "a").output[0].text, "it is [secret]");
    assert_kept(&project, &told.events);
    // It was recorded, and what makes its key says of the secret that there is one.
    let recorded = project.recorded(told.report.run);
    assert_eq!(recorded.parts["a"]["secret.TOKEN"], "set");
}

#[test]
fn a_secret_in_an_event_of_a_step_is_masked_too() {
    let project = secretive();
    let reveal = json!({ "do": "reveal", "variable": "TOKEN", "event": true });
    let told = project.run(&[step("a", reveal, json!({ "secrets": ["TOKEN"] }))]);
    assert_eq!(told.report.outcome, RunOutcome::Succeeded);
    assert_kept(&project, &told.events);
}

#[test]
fn a_secret_in_the_error_of_a_step_is_masked_at_every_try() {
    let project = secretive();
    let reveal = json!({ "do": "reveal", "variable": "TOKEN", "error": true });
    let retry = json!({ "count": 1, "delay": "1ms" });
    let told = project.run(&[step(
        "a",
        reveal,
        json!({ "secrets": ["TOKEN"], "retry": retry }),
    )]);
    assert_eq!(course(&told.events), ["+a 1", "~a 1", "+a 2", "-a failed"]);
    let fate = fate(&told.report, "a");
    assert!(fate.contains("it is [secret]"), "{fate}");
    assert_kept(&project, &told.events);
}

/// A step `w` that pushes a secret to its port `stdout`.
fn reveals() -> Value {
    let reveal = json!({ "do": "reveal", "variable": "TOKEN" });
    step("w", reveal, json!({ "secrets": ["TOKEN"] }))
}

#[test]
fn a_secret_that_a_stage_quotes_is_masked_in_why_the_stream_broke_and_why_its_reader_failed() {
    let project = secretive();
    let quotes = json!([{ "stage": "conformance", "with": { "do": "quote" } }]);
    let reader = step(
        "r",
        json!({ "do": "wait", "file": "broken" }),
        json!({ "inputs": { "in": { "from": "w.stdout", "through": quotes } } }),
    );
    // As one of the readers takes what is pushed, the writer ends well.
    let other = copy("other", "w.stdout", json!([]));
    let engine = project.engine(&[reveals(), reader, other]);
    let (mut events, mut broken) = (Vec::new(), Vec::new());
    let report = engine.run(&project.options(), &mut |event| {
        if let EventKind::StreamEnded(stream) = &event.kind
            && let Some(reason) = &stream.broken
        {
            broken.push(reason.clone());
            project.write("broken", "");
        }
        events.push(event.clone());
    });
    let report = report.unwrap();
    let why = "cannot handle `it is [secret]";
    assert!(broken[0].contains(why), "{broken:?}");
    assert_eq!(cause(&report, "r"), Cause::Input);
    let fate = fate(&report, "r");
    assert!(
        fate.contains("input `in` ended before its time: ") && fate.contains(why),
        "{fate}"
    );
    assert_kept(&project, &events);
}

#[test]
fn a_secret_that_a_hook_quotes_is_masked_whether_the_hook_stops_something_or_not() {
    for policy in ["closed", "open"] {
        let project = secretive();
        let watch = json!([{ "point": "post_chunk", "on-failure": policy }]);
        project.world.add_hook("guard", &watch);
        let steps = [reveals(), copy("r", "w.stdout", json!([]))];
        let engine = project.guarded(&steps, "post_chunk", &["quote"]);
        let Told { report, events } = told(&engine, &project.options());
        let why = match policy {
            "closed" => report.streams[0].broken.as_ref(),
            _ => report.warnings.first(),
        };
        let why = why.unwrap();
        assert!(why.contains("cannot handle `it is [secret]"), "{why}");
        assert_kept(&project, &events);
    }
}

#[test]
fn the_value_of_a_variable_that_the_user_gave_the_run_is_not_in_its_beginning() {
    let project = Project::new();
    let told = project.run_with(&[notes_itself("a", json!({}))], |options| {
        options.variables.insert("STAGE".into(), "live".into());
        options.cache = CacheUse::Off;
    });
    let started = project.recorded(told.report.run).summary.started;
    assert_eq!(started.variables, ["STAGE"]);
}

#[test]
fn a_run_is_found_by_its_id_its_beginning_its_end_and_as_the_last() {
    let project = Project::new();
    let steps = [notes_itself("a", json!({}))];
    let (one, two) = (
        project.run(&steps).report.run,
        project.run(&steps).report.run,
    );
    let history = project.history();
    let here = project.directory();
    let find = |wanted: &str| history.find(wanted, &here);
    assert_eq!(find("last").unwrap(), two);
    assert_eq!(find(&one.to_string()).unwrap(), one);
    let text = one.to_string();
    assert_eq!(find(&text[text.len() - 8..]).unwrap(), one);
    // Ids begin with the time.
    let same = find(&text[..4]).unwrap_err();
    assert!(
        matches!(&same, RecordError::Ambiguous { found, .. } if found.len() == 2),
        "{same}"
    );
    let none = find("nothing").unwrap_err();
    assert!(matches!(none, RecordError::NoRun { .. }), "{none}");
    let listed: Vec<RunId> = history
        .list(10, |_| true)
        .unwrap()
        .iter()
        .map(|run| run.id)
        .collect();
    assert_eq!(listed, [two, one]);
}

#[test]
fn the_last_run_is_one_of_this_directory_or_of_none() {
    let project = Project::new();
    let run = project.run(&[notes_itself("a", json!({}))]).report.run;
    let history = project.history();
    let (here, data) = (project.directory(), project.data());
    assert_eq!(history.find("last", here.parent().unwrap()).unwrap(), run);
    let other = history.find("last", &data).unwrap_err();
    let RecordError::Elsewhere {
        run: named,
        directory,
        ..
    } = &other
    else {
        panic!("{other}")
    };
    assert_eq!(*named, run);
    assert_eq!(*directory, here.display().to_string());
    // Named by its id it is found from anywhere.
    assert_eq!(history.find(&run.to_string(), &data).unwrap(), run);
}

#[test]
fn a_run_beside_this_directory_is_not_of_it_though_its_name_begins_so() {
    let project = Project::new();
    let (work, data) = (project.directory(), project.data());
    let steps = [notes_itself("a", json!({}))];
    let told = project.run_with(&steps, |options| options.directory = data.join("../work"));
    let history = project.history();
    let other = history.find("last", &data).unwrap_err();
    assert!(matches!(other, RecordError::Elsewhere { .. }), "{other}");
    let here = work.canonicalize().unwrap();
    assert_eq!(history.find("last", &here).unwrap(), told.report.run);
}

#[test]
fn a_run_that_fails_says_so_in_the_list_with_why() {
    let project = Project::new();
    let run = project.run(&[fails_first("a", &[])]).report;
    assert_eq!(fate(&run, "a"), "failed: a");
    let listed = project.history().list(1, |_| true).unwrap();
    assert_eq!(listed[0].state.name(), "failed");
    let end = &project.recorded(run.run).ends["a"];
    assert_eq!(end.outcome, of(&run, "a").outcome);
}
