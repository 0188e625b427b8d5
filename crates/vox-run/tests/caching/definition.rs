//! What of a step's own definition makes another result, and what does not.

use std::fs;

use serde_json::json;
use vox_contract::Carrier;
use vox_run::{CacheUse, RunOutcome};

use super::{maker, serves, taken_from, taken_over, with};
use crate::project::Project;
use crate::steps::{all, course, fact, make, note, notes, of, step};

#[test]
fn a_result_is_taken_over_with_what_was_said_and_what_was_made() {
    let project = Project::new();
    let facts = json!({ "do": "facts", "facts": { "words": "12" } });
    let steps = [with(
        maker("whole"),
        "with",
        all([note("ran"), make("made", "whole"), facts]),
    )];
    let first = project.run(&steps).report;
    fs::remove_file(project.directory().join("out.txt")).unwrap();
    let second = project.run(&steps);
    assert_eq!(second.report.outcome, RunOutcome::Succeeded);
    assert_eq!(taken_from(&second.report, "maker"), Some(first.run));
    assert_eq!(of(&second.report, "maker").provenance.attempts, 0);
    assert_eq!(fact(&second.report, "maker", "words"), Some("12"));
    assert_eq!(
        of(&second.report, "maker").outcome,
        of(&first, "maker").outcome
    );
    assert_eq!(project.read("out.txt"), "whole");
    assert_eq!(course(&second.events), ["-maker succeeded"]);
    assert_eq!(notes(&project.directory()), ["ran"]);
    // The record says where it comes from, and what its key is made of.
    let recorded = project.recorded(second.report.run);
    let earlier = project.recorded(first.run);
    assert_eq!(recorded.ends["maker"].provenance.cached, Some(first.run));
    assert_eq!(recorded.keys["maker"], earlier.keys["maker"]);
    assert_eq!(recorded.parts["maker"], earlier.parts["maker"]);
}

#[test]
fn the_key_and_the_label_of_a_step_make_no_difference() {
    let other = with(maker("whole"), "key", json!("called otherwise"));
    let other = with(other, "label", json!("Makes it"));
    assert!(serves(maker("whole"), other));
}

#[test]
fn a_time_out_retries_and_resources_make_no_difference() {
    let other = with(maker("whole"), "timeout", json!("10min"));
    let other = with(other, "retry", json!({ "count": 3 }));
    let other = with(other, "resources", json!({ "cpus": 2 }));
    assert!(serves(maker("whole"), other));
}

#[test]
fn other_arguments_are_another_result() {
    assert!(!serves(maker("whole"), maker("other")));
}

#[test]
fn another_runner_of_the_plugin_is_another_result() {
    let mut project = Project::new();
    let provides = json!({
        "extension-points": { "step": 1 }, "runners": ["conformance", "conformance-too"],
    });
    project
        .world
        .add_variant("conformance", &json!({ "provides": provides }));
    let other = with(maker("whole"), "uses", json!("conformance-too"));
    let taken = taken_over(&mut project, &[maker("whole")], |_| (), &[other]);
    assert!(!taken);
}

#[test]
fn another_variable_of_the_step_is_another_result() {
    let of = |value: &str| with(maker("whole"), "env", json!({ "LANG": value }));
    assert!(serves(of("C"), of("C")));
    assert!(!serves(of("C"), of("de")));
}

#[test]
fn another_variable_that_the_user_gave_the_run_is_another_result() {
    let project = Project::new();
    let steps = [maker("whole")];
    let run = |value: &str| {
        let told = project.run_with(&steps, |options| {
            options.variables.insert("STAGE".into(), value.into());
        });
        (told.report.run, taken_from(&told.report, "maker"))
    };
    let (first, _) = run("live");
    assert_eq!(run("live").1, Some(first));
    assert_eq!(run("test").1, None);
}

#[test]
fn the_environment_that_native_runners_inherit_makes_no_difference() {
    let project = Project::new();
    let steps = [maker("whole")];
    let first = project.run(&steps).report.run;
    let told = project.run_with(&steps, |options| {
        options.environment.insert("PATH".into(), "/bin".into());
    });
    assert_eq!(taken_from(&told.report, "maker"), Some(first));
}

#[test]
fn what_a_component_does_not_see_makes_no_difference_and_what_is_declared_does() {
    let project = Project::on(Carrier::Component);
    let run = |home: &str, language: &str, cache: CacheUse| {
        let declared = json!({ "env": { "LANG": language } });
        let steps = [step("seen", json!({ "do": "echo" }), declared)];
        let told = project.run_with(&steps, |options| {
            options.environment.insert("HOME".into(), home.into());
            options.cache = cache;
        });
        let report = told.report;
        assert_eq!(fact(&report, "seen", "HOME"), None);
        assert_eq!(fact(&report, "seen", "LANG"), Some(language));
        report
    };
    let first = run("/home/one", "C", CacheUse::Full);
    let second = run("/home/two", "C", CacheUse::Full);
    assert_eq!(taken_from(&second, "seen"), Some(first.run));
    // What it takes over is what it would have seen itself.
    let anew = run("/home/two", "C", CacheUse::Off);
    assert_eq!(taken_from(&anew, "seen"), None);
    let third = run("/home/two", "de", CacheUse::Full);
    assert_eq!(taken_from(&third, "seen"), None);
}

#[test]
fn the_value_of_a_secret_makes_no_difference_and_that_there_is_one_does() {
    let mut project = Project::new();
    let secret = |project: &mut Project, value: &str| {
        let secrets = &mut project.surroundings.secrets;
        secrets.insert("TOKEN".into(), value.into());
    };
    secret(&mut project, "one secret");
    let with_secret = with(maker("whole"), "secrets", json!(["TOKEN"]));
    let another = |project: &mut Project| secret(project, "another secret");
    let steps = [with_secret];
    assert!(taken_over(&mut project, &steps, another, &steps));
    let told = project.run(&[maker("whole")]);
    assert_eq!(taken_from(&told.report, "maker"), None);
}

#[test]
fn another_place_of_an_output_is_another_result() {
    let other = json!({ "made": { "path": "elsewhere.txt" } });
    assert!(!serves(
        maker("whole"),
        with(maker("whole"), "outputs", other)
    ));
}
