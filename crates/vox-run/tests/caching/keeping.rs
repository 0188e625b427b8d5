//! Which results are kept at all, and which are asked for.

use serde_json::{Value, json};
use vox_contract::Carrier;
use vox_run::cache::Cache;
use vox_run::{CacheUse, RunId, RunOutcome};

use super::{maker, taken_from, with};
use crate::project::{GRANTS, Project, plan, told};
use crate::steps::{all, copy, make, note, notes, step, write};

/// Runs the steps twice; answers whether the result of the first one was taken over.
fn twice(project: &Project, steps: &[Value]) -> bool {
    let first = project.run(steps).report;
    let second = project.run(steps).report;
    let key = first.steps[0].step.key.as_str();
    assert_eq!(taken_from(&first, key), None);
    taken_from(&second, key).is_some()
}

#[test]
fn a_step_that_is_not_to_be_cached_is_not() {
    let step = with(maker("whole"), "cache", json!(false));
    assert!(!twice(&Project::new(), &[step]));
}

#[test]
fn what_a_plugin_that_can_know_nothing_but_the_plan_does_is_taken_over_by_itself() {
    let facts = json!({ "do": "facts", "facts": { "a": "1" } });
    let step = step("pure", facts, json!({}));
    assert!(twice(&Project::on(Carrier::Component), &[step]));
}

#[test]
fn what_a_plugin_that_may_read_anything_does_is_never_taken_over_by_itself() {
    let facts = json!({ "do": "facts", "facts": { "a": "1" } });
    let step = step("impure", facts, json!({}));
    // Native code can read whatever its user can.
    assert!(!twice(&Project::new(), std::slice::from_ref(&step)));
    // A component that is granted what changes from run to run.
    let project = Project::on(Carrier::Component);
    let host = project.world.host(&format!("{GRANTS}kv = true\n"));
    let surroundings = project.surroundings.clone();
    let engine = vox_run::Engine::prepare(&host, plan(&[step]), surroundings).unwrap();
    for _ in 0..2 {
        let told = told(&engine, &project.options());
        assert_eq!(taken_from(&told.report, "impure"), None);
    }
}

#[test]
fn a_stage_that_may_read_anything_keeps_what_it_joins_from_being_taken_over_by_itself() {
    let project = Project::on(Carrier::Component);
    let provides = json!({ "extension-points": { "stage": 1 } });
    project
        .world
        .add_variant("reads", &json!({ "provides": provides }));
    let component = |plugin: &str| format!("[plugin.{plugin}]\nprefer = \"component\"\n");
    let settings = component("conformance") + &component("reads");
    project.world.settings(&settings);
    let steps = [
        step("w", write("out", &["one\n"]), json!({})),
        copy("r", "w.out", json!([{ "stage": "reads" }])),
    ];
    let taken = |more: &str| {
        let grants = format!("{GRANTS}[plugin.reads]\nstream_io = true\n{more}");
        let host = project.world.host(&grants);
        let surroundings = project.surroundings.clone();
        let engine = vox_run::Engine::prepare(&host, plan(&steps), surroundings).unwrap();
        let report = told(&engine, &project.options()).report;
        assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
        taken_from(&report, "r").is_some()
    };
    assert!(!taken(""));
    assert!(taken(""));
    assert!(!taken("kv = true\n"));
}

#[test]
fn a_result_whose_input_changed_while_it_was_made_is_not_kept() {
    let project = Project::new();
    project.write("in.txt", "old\n");
    let change = json!({ "do": "note", "file": "in.txt", "line": "new" });
    let maker = with(
        maker("whole"),
        "with",
        all([change, make("made", "of the old")]),
    );
    let maker = with(maker, "inputs", json!({ "a": { "path": "in.txt" } }));
    let report = project.run(&[maker]).report;
    assert_eq!(report.outcome, RunOutcome::Succeeded);
    assert_eq!(
        report.warnings,
        ["the result of `maker` is not kept in the cache: what it reads changed while it ran"]
    );
    assert_eq!(report.results_kept, 0);
    let cache = Cache::new(project.record.store().clone());
    assert_eq!(cache.list().unwrap(), []);
}

#[test]
fn a_failed_step_is_never_taken_over() {
    let project = Project::new();
    let failing = step(
        "failing",
        all([note("ran"), json!({ "do": "end", "code": 3 })]),
        json!({ "cache": true, "inputs": {} }),
    );
    for _ in 0..2 {
        let report = project.run(std::slice::from_ref(&failing)).report;
        assert_eq!(report.outcome, RunOutcome::Failed);
        assert_eq!(taken_from(&report, "failing"), None);
    }
    assert_eq!(notes(&project.directory()), ["ran", "ran"]);
    let cache = Cache::new(project.record.store().clone());
    assert_eq!(cache.list().unwrap(), []);
}

#[test]
fn to_refresh_is_to_run_everything_and_keep_it() {
    let project = Project::new();
    let steps = [maker("whole")];
    project.run(&steps);
    let refreshed = project.run_with(&steps, |options| options.cache = CacheUse::Refresh);
    assert_eq!(taken_from(&refreshed.report, "maker"), None);
    let third = project.run(&steps).report;
    assert_eq!(taken_from(&third, "maker"), Some(refreshed.report.run));
}

#[test]
fn a_cache_that_is_off_gives_nothing_and_keeps_nothing() {
    let project = Project::new();
    let steps = [maker("whole")];
    let off = |project: &Project| {
        let told = project.run_with(&steps, |options| options.cache = CacheUse::Off);
        taken_from(&told.report, "maker")
    };
    assert_eq!(off(&project), None);
    let first = project.run(&steps).report;
    assert_eq!(taken_from(&first, "maker"), None);
    assert_eq!(off(&project), None);
    let cache = Cache::new(project.record.store().clone());
    let kept: Vec<RunId> = cache
        .list()
        .unwrap()
        .iter()
        .map(|entry| entry.result.run)
        .collect();
    assert_eq!(kept, [first.run]);
}
