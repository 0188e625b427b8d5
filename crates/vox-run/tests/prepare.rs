//! What a plan is told about the plugins that it names.

use vox_host::{Host, HostOptions, directories::Directories};
use vox_run::{Engine, Error, Plan, Surroundings};

/// A host without any plugin.
fn bare_host() -> Host {
    let nowhere = Directories::new("/nonexistent", "/nonexistent");
    Host::open(nowhere, HostOptions::default()).unwrap()
}

#[test]
fn every_plugin_that_is_missing_is_told_at_once_with_its_place() {
    let plan = r#"
pipeline.name = "p"
[[step]]
key = "a"
uses = "exec"
[[step]]
key = "b"
uses = "exec"
inputs.stdin = { from = "a.stdout", through = [{ stage = "redact" }] }
[[hook]]
uses = "journal"
"#;
    let plan = Plan::parse(plan, "pipeline.toml").unwrap();
    let error = Engine::prepare(&bare_host(), plan, Surroundings::default()).unwrap_err();
    assert!(matches!(error, Error::Unresolved(_)), "{error}");
    let problems = error.plan_error().problems();
    let told: Vec<_> = problems
        .iter()
        .map(|problem| (problem.line, problem.message.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (
                5,
                "no plugin provides the runner `exec` (extension point `step`)"
            ),
            (9, "no plugin `redact` is installed"),
            (11, "no plugin `journal` is installed"),
        ]
    );
    assert!(problems.iter().all(|problem| problem.hint.is_some()));
}
