//! Results that later runs take over, and what keeps them from it.

mod project;
mod steps;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vox_contract::Carrier;
use vox_host::{Host, Reloaded};
use vox_run::cache::Cache;
use vox_run::{CacheUse, EventKind, RunId, RunOutcome, RunReport};
use vox_store::Kind;

use project::{GRANTS, Project, contents, plan, told};
use steps::{all, copy, course, fact, fate, make, note, notes, of, step, write};

/// A step that notes that it ran and makes `out.txt`, whose result may be taken over.
fn maker(text: &str) -> Value {
    step(
        "maker",
        all([note("ran"), make("made", text)]),
        json!({
            "cache": true, "inputs": {}, "outputs": { "made": { "path": "out.txt" } },
        }),
    )
}

/// The run from which a step's result comes, if it was taken over.
fn taken_from(report: &RunReport, key: &str) -> Option<RunId> {
    of(report, key).provenance.cached
}

/// Runs `before` twice and then `after`; `between` is done before that. The first time nothing is taken
/// over, the second time everything; answers whether it is then too.
fn taken_over(
    project: &mut Project,
    before: &[Value],
    between: impl FnOnce(&mut Project),
    after: &[Value],
) -> bool {
    let first = project.run(before).report;
    let all = |report: &RunReport| {
        assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
        let taken = report.steps.iter().map(|step| step.provenance.cached);
        taken.collect::<Vec<_>>()
    };
    assert_eq!(all(&first), vec![None; before.len()]);
    let second = project.run(before).report;
    assert_eq!(all(&second), vec![Some(first.run); before.len()]);
    between(project);
    let third = all(&project.run(after).report);
    let taken = third.iter().filter(|taken| taken.is_some()).count();
    assert!(taken == 0 || taken == third.len(), "{third:?}");
    taken > 0
}

/// Whether the result of `before` serves for `after`.
fn serves(before: Value, after: Value) -> bool {
    taken_over(&mut Project::new(), &[before], |_| (), &[after])
}

/// A step with a member more.
fn with(mut step: Value, member: &str, value: Value) -> Value {
    step[member] = value;
    step
}

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

#[test]
fn another_configuration_of_the_plugin_is_another_result() {
    let mut project = Project::new();
    let steps = [maker("whole")];
    let configure = |project: &mut Project| {
        let settings = "[plugin.conformance]\nprefer = \"native\"\n\
                        config = { condition = \"well enough\" }\n";
        project.world.settings(settings);
    };
    assert!(!taken_over(&mut project, &steps, configure, &steps));
}

#[test]
fn other_code_of_the_plugin_is_another_result() {
    let mut project = Project::new();
    let steps = [maker("whole")];
    let release = |project: &mut Project| project.world.release("another");
    assert!(!taken_over(&mut project, &steps, release, &steps));
}

/// Runs steps to their end; once the step `after` has ended, and before another begins, other code of the
/// test plugin takes over.
fn released_during(project: &Project, host: &Host, steps: &[Value], after: &str) -> RunReport {
    let surroundings = project.surroundings.clone();
    let engine = vox_run::Engine::prepare(host, plan(steps), surroundings).unwrap();
    let report = engine.run(&project.options(), &mut |event| {
        if let EventKind::StepEnded { step, .. } = &event.kind
            && step == after
        {
            project.world.release("another");
            let reloaded = host.reload(&"conformance".parse().unwrap());
            assert!(
                matches!(reloaded, Ok(Reloaded::Replaced { .. })),
                "{reloaded:?}"
            );
        }
    });
    let report = report.unwrap();
    assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
    report
}

#[test]
fn what_code_makes_that_came_during_the_run_is_the_result_of_that_code() {
    let project = Project::new();
    let first = step("first", note("first"), json!({}));
    let steps = [first, with(maker("whole"), "needs", json!(["first"]))];
    let report = released_during(&project, &project.host(), &steps, "first");
    assert_eq!(report.results_kept, 1);
    let second = project.run(&steps).report;
    assert_eq!(taken_from(&second, "maker"), Some(report.run));
    project.world.release("good");
    let third = project.run(&steps).report;
    assert_eq!(taken_from(&third, "maker"), None);
}

#[test]
fn what_goes_through_code_of_a_stage_that_came_during_the_run_is_the_result_of_that_code() {
    let project = Project::new();
    let provides = json!({ "extension-points": { "step": 1 }, "runners": ["conformance-too"] });
    project
        .world
        .add_variant("worker", &json!({ "provides": provides }));
    let host = || {
        let grants = format!("{GRANTS}[plugin.worker]\nstream_io = true\n");
        project.world.host(&grants)
    };
    // A writer and a reader of another plugin than the one of the stage.
    let pair = |writer: &str, reader: &str, needs: &[&str]| {
        let more = json!({ "cache": true, "inputs": {}, "needs": needs });
        let through = json!([{ "stage": "conformance" }]);
        let mut pair = [
            step(writer, write("out", &[writer]), more),
            copy(reader, &format!("{writer}.out"), through),
        ];
        pair[1]["cache"] = json!(true);
        pair.map(|step| with(step, "uses", json!("conformance-too")))
    };
    let [before, after] = [pair("w", "r", &[]), pair("w2", "r2", &["r"])];
    let steps = [before, after].concat();
    let report = released_during(&project, &host(), &steps, "r");
    assert_eq!(report.results_kept, 2);
    project.world.release("good");
    let surroundings = project.surroundings.clone();
    let engine = vox_run::Engine::prepare(&host(), plan(&steps), surroundings).unwrap();
    let second = told(&engine, &project.options()).report;
    assert_eq!(taken_from(&second, "r"), Some(report.run));
    assert_eq!(taken_from(&second, "r2"), None);
}

#[test]
fn another_configuration_of_a_plugin_that_a_fusion_calls_is_another_result() {
    let project = Project::new();
    let provides = json!({ "extension-points": { "stage": 1 } });
    project
        .world
        .add_variant("joiner", &json!({ "provides": provides }));
    let writer = |key| {
        let more = json!({ "cache": true, "inputs": {} });
        step(key, write("out", &["one\n"]), more)
    };
    let fused = json!({
        "key": "fused", "uses": "fuse", "cache": true,
        "with": { "policy": "stage", "stage": "joiner" },
        "inputs": { "a": { "from": "a.out" }, "b": { "from": "b.out" } },
    });
    let reader = with(copy("reader", "fused.out", json!([])), "cache", json!(true));
    let steps = [writer("a"), writer("b"), fused, reader];
    let taken = || {
        let grants = format!("{GRANTS}[plugin.joiner]\nstream_io = true\n");
        let host = project.world.host(&grants);
        let surroundings = project.surroundings.clone();
        let engine = vox_run::Engine::prepare(&host, plan(&steps), surroundings).unwrap();
        let report = told(&engine, &project.options()).report;
        assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
        taken_from(&report, "fused").is_some()
    };
    assert!(!taken());
    assert!(taken());
    let settings = "[plugin.conformance]\nprefer = \"native\"\n\
                    [plugin.joiner]\nconfig = { condition = \"well enough\" }\n";
    project.world.settings(settings);
    assert!(!taken());
}

/// A writer and a reader with a stage between them, which may be cached.
fn joined(stage: Value) -> [Value; 2] {
    let mut reader = copy("reader", "writer.out", json!([stage]));
    reader["cache"] = json!(true);
    reader["outputs"] = json!({ "text": { "path": "text.txt", "port": "out" } });
    let writer = step(
        "writer",
        all([note("wrote"), write("out", &["one\n", "two\n"])]),
        json!({ "cache": true, "inputs": {} }),
    );
    [writer, reader]
}

#[test]
fn steps_that_streams_join_are_taken_over_together() {
    let project = Project::new();
    let steps = joined(json!({ "stage": "conformance" }));
    let first = project.run(&steps).report;
    assert_eq!(first.streams.len(), 1);
    fs::remove_file(project.directory().join("text.txt")).unwrap();
    let second = project.run(&steps).report;
    for key in ["writer", "reader"] {
        assert_eq!(taken_from(&second, key), Some(first.run));
    }
    assert!(second.streams.is_empty());
    assert_eq!(project.read("text.txt"), "ONE\nTWO\n");
    assert_eq!(notes(&project.directory()), ["wrote"]);
}

#[test]
fn what_keys_are_made_of_is_recorded_with_its_step_in_whatever_order_steps_end() {
    let project = Project::new();
    let [writer, reader] = joined(json!({ "stage": "conformance" }));
    // The reader, which ends last, comes first in the plan.
    let steps = [reader, writer];
    let first = project.run(&steps).report;
    let second = project.run(&steps).report;
    assert_eq!(taken_from(&second, "reader"), Some(first.run));
    let parts = project.recorded(first.run).parts;
    assert!(parts["reader"].contains_key("stream.in"), "{parts:?}");
    assert_eq!(parts, project.recorded(second.run).parts);
}

#[test]
fn other_arguments_of_a_stage_are_another_result_of_all_that_the_stream_joins() {
    let before = joined(json!({ "stage": "conformance" }));
    let after = joined(json!({ "stage": "conformance", "with": { "do": "forward" } }));
    let mut project = Project::new();
    assert!(!taken_over(&mut project, &before, |_| (), &after));
    assert_eq!(project.read("text.txt"), "one\ntwo\n");
}

#[test]
fn another_hook_that_may_change_chunks_is_another_result_whichever_of_them_it_is() {
    let project = Project::new();
    project
        .world
        .add_hook("guard", &json!([{ "point": "post_chunk" }]));
    let steps = joined(json!({ "stage": "conformance" }));
    let run = |reactions: &[&str]| {
        let engine = project.guarded(&steps, "post_chunk", reactions);
        let report = told(&engine, &project.options()).report;
        assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
        (
            taken_from(&report, "reader").is_some(),
            project.read("text.txt"),
        )
    };
    let plain = "ONE\nTWO\n".to_owned();
    // One that replaces turns each chunk round.
    let turned = "\nENO\nOWT".to_owned();
    assert_eq!(run(&["continue"]), (false, plain.clone()));
    assert_eq!(run(&["continue"]), (true, plain.clone()));
    assert_eq!(run(&["replace"]), (false, turned.clone()));
    assert_eq!(run(&["continue", "continue"]), (false, plain));
    assert_eq!(run(&["replace", "continue"]), (false, turned.clone()));
    assert_eq!(run(&["continue", "replace"]), (false, turned));
}

#[test]
fn one_step_that_is_not_to_be_cached_keeps_all_that_streams_join_with_it_from_it() {
    let project = Project::new();
    let mut steps = joined(json!({ "stage": "conformance" }));
    steps[0]["cache"] = json!(false);
    project.run(&steps);
    let second = project.run(&steps).report;
    for key in ["writer", "reader"] {
        assert_eq!(taken_from(&second, key), None);
    }
}

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

#[test]
fn outputs_come_back_whole_with_their_directories_and_what_can_be_executed() {
    let project = Project::new();
    let member = |member: &str, text: &str, executable: bool| {
        json!({
            "do": "make", "output": "tree", "member": member, "text": text,
            "executable": executable,
        })
    };
    let maker = step(
        "maker",
        all([
            make("file", ""),
            member("bin/tool", "#!/bin/sh\n", true),
            member("share/data.txt", "data", false),
            member("share/a \"b\" ש.txt", "quoted", false),
        ]),
        json!({
            "cache": true, "inputs": {},
            "outputs": { "file": { "path": "empty" }, "tree": { "path": "out/tree" } },
        }),
    );
    let steps = [maker];
    let first = project.run(&steps).report;
    assert_eq!(
        first.outcome,
        RunOutcome::Succeeded,
        "{}",
        fate(&first, "maker")
    );
    let made = contents(&project.directory());
    assert_eq!(made.len(), 4);
    for change in ["gone", "changed"] {
        fs::remove_dir_all(project.directory()).unwrap();
        fs::create_dir(project.directory()).unwrap();
        if change == "changed" {
            project.write("out/tree/share/data.txt", "changed");
            project.write("out/tree/more.txt", "more");
            project.write("empty", "not empty");
        }
        let second = project.run(&steps).report;
        assert_eq!(taken_from(&second, "maker"), Some(first.run));
        assert_eq!(contents(&project.directory()), made, "{change}");
        let tree = project.directory().join("out/tree");
        assert!(is_executable(&tree.join("bin/tool")));
        assert!(!is_executable(&tree.join("share/data.txt")));
    }
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.ends_with("tool")
}

/// Where the store keeps what the step of [`maker`] makes.
fn blob(project: &Project, text: &str) -> PathBuf {
    let digest = vox_crypto::hash(text.as_bytes());
    project.record.store().path_of(&digest).unwrap()
}

#[test]
fn a_result_of_which_something_is_missing_or_damaged_is_made_anew_with_a_warning() {
    let damages: [fn(&Path); 2] = [
        |blob| fs::remove_file(blob).unwrap(),
        |blob| {
            fs::remove_file(blob).unwrap();
            fs::write(blob, "wrong").unwrap();
        },
    ];
    for damage in damages {
        let project = Project::new();
        let steps = [maker("whole")];
        project.run(&steps);
        damage(&blob(&project, "whole"));
        project.write("out.txt", "changed");
        let second = project.run(&steps).report;
        assert_eq!(second.outcome, RunOutcome::Succeeded);
        assert_eq!(taken_from(&second, "maker"), None);
        assert_eq!(project.read("out.txt"), "whole");
        let [warning] = second.warnings.as_slice() else {
            panic!("{:?}", second.warnings)
        };
        let why = "the result of `maker` cannot be taken from the cache, it runs: ";
        assert!(warning.starts_with(why), "{warning}");
        // What was made is kept anew.
        fs::remove_file(project.directory().join("out.txt")).unwrap();
        let third = project.run(&steps).report;
        assert_eq!(taken_from(&third, "maker"), Some(second.run));
        assert_eq!(project.read("out.txt"), "whole");
    }
}

#[test]
fn a_damaged_result_that_is_not_needed_is_taken_over() {
    // What is in its place already is what would be fetched.
    let project = Project::new();
    let steps = [maker("whole")];
    let first = project.run(&steps).report.run;
    fs::remove_file(blob(&project, "whole")).unwrap();
    let second = project.run(&steps).report;
    assert_eq!(taken_from(&second, "maker"), Some(first));
    assert!(second.warnings.is_empty(), "{:?}", second.warnings);
}

#[test]
fn what_was_evicted_since_is_made_anew() {
    let mut project = Project::new();
    let steps = [maker("whole")];
    project.run(&steps);
    project.reopen();
    let evicted = project.record.store().evict(0, &mut |_| Ok(())).unwrap();
    assert_eq!(evicted.evicted.len(), 1);
    assert!(evicted.removed.iter().any(|(kind, _)| *kind == Kind::Blob));
    let second = project.run(&steps).report;
    assert_eq!(second.outcome, RunOutcome::Succeeded);
    assert_eq!(taken_from(&second, "maker"), None);
    assert!(second.warnings.is_empty(), "{:?}", second.warnings);
    assert_eq!(notes(&project.directory()), ["ran", "ran"]);
}

#[test]
fn a_store_that_takes_nothing_more_costs_a_warning_and_fails_nothing() {
    let project = Project::new();
    let engine = project.engine(&[maker("whole")]);
    let temporary = project.record.store().root().join("tmp");
    let aside = temporary.with_extension("aside");
    let report = engine.run(&project.options(), &mut |event| {
        // The run is recorded by now, and nothing has been kept yet. A file in the place of a directory
        // keeps everybody out, the superuser included.
        if matches!(event.kind, EventKind::RunStarted { .. }) {
            fs::rename(&temporary, &aside).unwrap();
            fs::write(&temporary, "").unwrap();
        }
    });
    fs::remove_file(&temporary).unwrap();
    fs::rename(&aside, &temporary).unwrap();
    let report = report.unwrap();
    assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
    assert_eq!(project.read("out.txt"), "whole");
    let told = report.warnings.join("\n");
    assert!(
        told.contains("out.txt cannot be kept in the cache: "),
        "{told}"
    );
    assert!(
        told.contains("a result cannot be kept in the cache: "),
        "{told}"
    );
    // What could not be kept is not there for the next one.
    let second = project.run(&[maker("whole")]).report;
    assert_eq!(taken_from(&second, "maker"), None);
}

#[test]
fn a_hook_is_asked_about_a_result_that_is_taken_over() {
    let project = Project::new();
    let watch = json!([{ "point": "post_step", "priority": 1 }]);
    project.world.add_hook("watcher", &watch);
    let plan = json!({
        "pipeline": { "name": "test" },
        "step": [maker("whole")],
        "hook": [{ "uses": "watcher", "with": { "hooks": { "post_step": "continue" } } }],
    });
    let grants = format!("{GRANTS}[plugin.watcher]\nevents = true\n");
    let host = project.world.host(&grants);
    let plan = vox_run::Plan::parse(&plan.to_string(), "test.json").unwrap();
    let surroundings = project.surroundings.clone();
    let engine = vox_run::Engine::prepare(&host, plan, surroundings).unwrap();
    let cached = |report: &RunReport| {
        let mut events = report.plugin_events.iter();
        let event = events.find(|event| event.name == "post_step").unwrap();
        event.payload["cached"].clone()
    };
    let first = told(&engine, &project.options()).report;
    assert_eq!(cached(&first), json!(false));
    let second = told(&engine, &project.options()).report;
    assert!(taken_from(&second, "maker").is_some());
    assert_eq!(cached(&second), json!(true));
}
