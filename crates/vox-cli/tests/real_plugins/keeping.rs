//! What runs keep for later ones, and what they let go of.

use serde_json::Value;

use crate::Ended;
use crate::runs::{Quickstart, report};

/// How many results are in the cache.
fn cached(quickstart: &Quickstart) -> usize {
    let listed = quickstart.0.json(&["cache", "ls"]);
    listed["results"].as_array().unwrap().len()
}

/// The warning that a command gave to programs.
#[track_caller]
fn warning(ended: &Ended) -> Value {
    let mut lines = ended.stderr.lines();
    let found = lines.find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line.get("warning").cloned()
    });
    found.unwrap_or_else(|| panic!("no warning: {}", ended.stderr))
}

#[test]
fn a_result_that_goes_for_the_budget_is_named_to_people_and_to_programs() {
    let quickstart = Quickstart::new();
    let run = |input: &str, more: &[&str]| {
        quickstart.0.write("input.txt", input);
        let steps = r#"
            [[step]]
            key = "copy"
            uses = "exec"
            cache = true
            with = { shell = "cp $VOX_INPUT_TEXT $VOX_OUTPUT_COPY" }
            inputs = { text = { path = "input.txt" } }
            outputs = { copy = { path = "out/copy.txt" } }
        "#;
        Ended::of(quickstart.run(steps).args(more)).succeeded()
    };
    let within = run("one", &[]);
    assert!(!within.stderr.contains("budget"), "{}", within.stderr);

    let people = run("two", &["--cache-budget", "1B"]).stderr;
    assert!(
        people.contains("cache over its budget: let go of ") && people.contains(" copy ("),
        "{people}"
    );
    // What a run has kept itself stays until a later one.
    assert_eq!(cached(&quickstart), 1);

    let programs = run("three", &["--cache-budget", "1B", "--format", "json"]);
    assert_eq!(report(&programs.stdout)["status"], "succeeded");
    let warning = warning(&programs);
    assert_eq!(
        warning["message"],
        "the cache was over its budget of 1B: let go of 1 result"
    );
    assert_eq!(warning["budget"], 1);
    let evicted = warning["evicted"].as_array().unwrap();
    assert_eq!(evicted.len(), 1, "{warning:#}");
    assert_eq!(evicted[0]["steps"], serde_json::json!(["copy"]));
    assert_eq!(cached(&quickstart), 1);
}

#[test]
fn results_of_steps_that_make_no_files_count_against_the_budget_too() {
    let quickstart = Quickstart::new();
    let run = |said: &str| {
        let step = format!(
            r#"
            [[step]]
            key = "say"
            uses = "exec"
            cache = true
            with = {{ command = ["echo", "{said}"] }}
            inputs = {{}}
            "#
        );
        Ended::of(quickstart.run(&step).args(["--cache-budget", "1B"])).succeeded()
    };
    run("one");
    let said = run("two").stderr;
    assert!(said.contains("cache over its budget: let go of "), "{said}");
    assert_eq!(cached(&quickstart), 1);
}

#[test]
fn what_old_runs_printed_goes_with_a_warning_and_what_became_of_them_stays() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    let step = r#"
        [[step]]
        key = "say"
        uses = "exec"
        with = { command = ["echo", "said"] }
    "#;
    Ended::of(&mut quickstart.run(step)).succeeded();
    let again = Ended::of(quickstart.run(step).args(["--keep-logs", "1"])).succeeded();
    assert!(
        again
            .stdout
            .contains("warning: what 1 old run had printed was removed ("),
        "{}",
        again.stdout
    );
    let listed = place.json(&["runs", "ls"]);
    let first = listed[1]["id"].as_str().unwrap();
    place
        .run(["runs", "logs", first])
        .failed(3, &["is not here any more", "--keep-logs"]);
    let shown = place.run(["runs", "show", first]).succeeded().stdout;
    assert!(shown.contains("succeeded"), "{shown}");
    let last = place.run(["runs", "logs", "last"]).succeeded().stdout;
    assert!(last.contains("say | said"), "{last}");
}
