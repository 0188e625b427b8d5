//! Results that are taken over: what comes back, and what is made anew where something is missing.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use vox_run::{EventKind, RunOutcome, RunReport};
use vox_store::Kind;

use super::{maker, taken_from};
use crate::project::{GRANTS, Project, contents, told};
use crate::steps::{all, fate, make, notes, step};

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
