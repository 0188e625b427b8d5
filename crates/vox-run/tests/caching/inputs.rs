//! Another result for whatever a step reads otherwise.

use std::fs;

use serde_json::{Value, json};

use super::{maker, taken_from, taken_over, with};
use crate::project::Project;
use crate::steps::{all, make, note, step};

/// A step that joins what it reads, from this path.
fn reader(path: &str) -> Value {
    step(
        "reader",
        json!({ "do": "given" }),
        json!({ "cache": true, "inputs": { "data": { "path": path } } }),
    )
}

#[test]
fn a_file_that_was_changed_is_another_result_and_one_that_was_only_touched_is_not() {
    let mut project = Project::new();
    let steps = [reader("data.txt")];
    project.write("data.txt", "one");
    let touch = |project: &mut Project| {
        fs::remove_file(project.directory().join("data.txt")).unwrap();
        project.write("data.txt", "one");
    };
    assert!(taken_over(&mut project, &steps, touch, &steps));
    project.write("data.txt", "two");
    assert_eq!(taken_from(&project.run(&steps).report, "reader"), None);
    // Both are known now.
    project.write("data.txt", "one");
    assert!(taken_from(&project.run(&steps).report, "reader").is_some());
}

#[test]
fn whatever_is_changed_in_a_directory_is_another_result() {
    let changes: [fn(&Project); 4] = [
        |project| project.write("data/deep/one.txt", "changed"),
        |project| project.write("data/deep/more.txt", "more"),
        |project| fs::remove_file(project.directory().join("data/two.txt")).unwrap(),
        |project| {
            let directory = project.directory().join("data");
            fs::rename(directory.join("two.txt"), directory.join("three.txt")).unwrap();
        },
    ];
    for change in changes {
        let mut project = Project::new();
        project.write("data/deep/one.txt", "one");
        project.write("data/two.txt", "two");
        let steps = [reader("data")];
        let between = |project: &mut Project| change(project);
        assert!(!taken_over(&mut project, &steps, between, &steps));
    }
}

#[test]
fn another_file_that_a_pattern_matches_is_another_result() {
    let mut project = Project::new();
    project.write("data/b.txt", "b");
    project.write("data/a.txt", "a");
    let steps = [reader("data/*.txt")];
    let more = |project: &mut Project| project.write("data/c.txt", "c");
    assert!(!taken_over(&mut project, &steps, more, &steps));
    // What it does not match is nothing to it.
    let last = project.run(&steps).report;
    project.write("data/c.md", "c");
    let again = project.run(&steps).report;
    assert_eq!(taken_from(&again, "reader"), taken_from(&last, "reader"));
    assert!(taken_from(&again, "reader").is_some());
}

#[test]
fn what_another_step_makes_otherwise_is_another_result() {
    let joiner = || {
        step(
            "joiner",
            all([note("joined"), json!({ "do": "join", "output": "all" })]),
            json!({
                "cache": true,
                "inputs": { "a": { "from": "maker.made" } },
                "outputs": { "all": { "path": "all.txt" } },
            }),
        )
    };
    let project = Project::new();
    project.run(&[maker("one"), joiner()]);
    let second = project.run(&[maker("two"), joiner()]).report;
    assert_eq!(taken_from(&second, "joiner"), None);
    assert_eq!(project.read("all.txt"), "two");
    let third = project.run(&[maker("one"), joiner()]).report;
    assert!(taken_from(&third, "joiner").is_some());
    assert_eq!(project.read("all.txt"), "one");
    // One that makes the same by other means is as good: what it made counts.
    let same = with(
        maker("one"),
        "with",
        all([note("ran"), note("in another way"), make("made", "one")]),
    );
    let fourth = project.run(&[same, joiner()]).report;
    assert_eq!(taken_from(&fourth, "maker"), None);
    assert!(taken_from(&fourth, "joiner").is_some());
}
