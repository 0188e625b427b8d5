//! What is kept out of the record: the values of secrets and variables.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vox_run::{CacheUse, Cause, EventKind, RunEvent, RunOutcome};

use super::notes_itself;
use crate::project::{Project, Told, contents, told};
use crate::steps::{cause, copy, course, fact, fate, of, step};

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
