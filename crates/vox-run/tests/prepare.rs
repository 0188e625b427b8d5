//! What a plan is told about the plugins that it names, and the machine that it is to run on.

mod project;
mod steps;

use serde_json::json;
use vox_contract::Carrier;
use vox_host::{Host, HostOptions, directories::Directories};
use vox_run::{Engine, Error, Plan, Surroundings};
use vox_testkit::World;

use project::{GRANTS, Project};

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

/// A problem: its line, what it says, and the way out.
type Problem = (usize, String, String);

/// What is wrong with a pipeline of these steps, which begin in line 2.
fn refused(host: &Host, surroundings: &Surroundings, steps: &str) -> Vec<Problem> {
    let text = format!("pipeline.name = \"p\"\n{steps}");
    let plan = Plan::parse(&text, "pipeline.toml").unwrap_or_else(|error| panic!("{error}"));
    let error = Engine::prepare(host, plan, surroundings.clone()).unwrap_err();
    let problems = error.plan_error().problems().iter();
    problems
        .map(|problem| {
            let hint = problem.hint.clone().unwrap_or_default();
            (problem.line, problem.message.clone(), hint)
        })
        .collect()
}

/// The one problem of a step of the test plugin with this in lines 6 and following of the pipeline.
fn problem(project: &Project, lines: &str) -> (String, String) {
    let steps = format!(
        "[[step]]\nkey = \"a\"\nuses = \"conformance\"\nwith = {{ do = \"echo\" }}\n{lines}"
    );
    let told = refused(&project.host(), &project.surroundings, &steps);
    let [(line, message, hint)] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(*line, 6, "{message}");
    (message.clone(), hint.clone())
}

#[test]
fn a_secret_that_is_not_set_is_told_before_the_run() {
    let mut project = Project::new();
    let (message, hint) = problem(&project, "secrets = [\"TOKEN\"]");
    assert_eq!(message, "the secret `TOKEN` is not set");
    assert_eq!(hint, "set the variable before the run: `export TOKEN=…`");
    let secrets = &mut project.surroundings.secrets;
    secrets.insert("TOKEN".into(), "hidden value".into());
    let step = steps::step(
        "a",
        json!({ "do": "echo" }),
        json!({ "secrets": ["TOKEN"] }),
    );
    project.engine(&[step]);
    // Whoever shows what a plan is prepared with does not show the secrets.
    let shown = format!("{:?}", project.surroundings);
    assert!(
        shown.contains("TOKEN") && !shown.contains("hidden"),
        "{shown}"
    );
}

#[test]
fn a_step_that_asks_for_more_than_the_machine_has_is_refused() {
    let project = Project::new();
    let (message, hint) = problem(&project, "resources = { memory = \"1000000GiB\" }");
    assert!(
        message.starts_with("the step asks for 1024000000 MiB of memory, and this machine allows "),
        "{message}"
    );
    assert_eq!(hint, "ask for less, or run it on a larger machine");
    let (message, _) = problem(&project, "resources = { gpu = 2 }");
    assert_eq!(
        message,
        "the step asks for 2 graphics processors, and this machine has 1"
    );
    // More processors than there are only take longer.
    let cpus = json!({ "resources": { "cpus": 1_000 } });
    project.engine(&[steps::step("a", json!({ "do": "echo" }), cpus)]);
}

#[test]
fn steps_that_start_together_and_ask_together_for_more_than_the_machine_has_are_refused() {
    let project = Project::new();
    let gpu = json!({ "resources": { "gpu": 1 } });
    let mut writer = steps::push("w", gpu.clone());
    let mut reader = steps::copy("r", "w.out", json!([]));
    reader["resources"] = gpu["resources"].clone();
    let told = project.prepare(&[writer.clone(), reader.clone()]);
    let told = told.unwrap_err().to_string();
    assert!(told.contains("graphics processors"), "{told}");
    let memory = project.surroundings.machine.memory;
    let most = format!("{}MiB", (memory >> 20) * 2 / 3);
    for step in [&mut writer, &mut reader] {
        step["resources"] = json!({ "memory": most });
    }
    let told = project.prepare(&[writer, reader]).unwrap_err().to_string();
    assert!(told.contains("memory"), "{told}");
}

#[test]
fn a_result_that_may_depend_on_anything_is_cached_only_with_what_the_step_reads() {
    let project = Project::new();
    let (message, hint) = problem(&project, "cache = true");
    assert_eq!(
        message,
        "the runner `conformance` may read anything, and the step does not say what it reads"
    );
    assert_eq!(
        hint,
        "name what it reads in `inputs`; `inputs = {}` says that it reads nothing"
    );
    let cached = |more| steps::step("a", json!({ "do": "echo" }), more);
    project.engine(&[cached(json!({ "cache": true, "inputs": {} }))]);
    // A component that is granted nothing of the outside reads nothing else anyway.
    Project::on(Carrier::Component).engine(&[cached(json!({ "cache": true }))]);
}

#[test]
fn a_runner_that_nobody_serves_is_told_with_the_nearest_name() {
    let project = Project::new();
    for (name, near) in [("conformanse", "conformance"), ("fuze", "fuse")] {
        let steps = format!("[[step]]\nkey = \"a\"\nuses = \"{name}\"\n");
        let told = refused(&project.host(), &project.surroundings, &steps);
        let [(line, message, hint)] = told.as_slice() else {
            panic!("{told:?}")
        };
        assert_eq!(*line, 4);
        assert!(
            message.contains(&format!("the runner `{name}`")),
            "{message}"
        );
        assert!(
            hint.starts_with(&format!("did you mean `{near}`?")),
            "{hint}"
        );
    }
}

#[test]
fn a_runner_that_many_steps_name_and_nobody_serves_is_told_once() {
    let step = |key| format!("[[step]]\nkey = \"{key}\"\nuses = \"nowhere\"\n");
    let steps: String = ["a", "b", "c"].map(step).concat();
    let told = refused(&bare_host(), &Surroundings::default(), &steps);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0, 4);
}

#[test]
fn a_path_that_is_not_there_and_that_no_step_makes_is_told_where_the_place_of_the_run_is_known() {
    let mut project = Project::new();
    let step = |path: &str| {
        let inputs = json!({ "inputs": { "data": { "path": path } } });
        steps::step("a", json!({ "do": "given" }), inputs)
    };
    // Where it is not known, the run itself will tell.
    project.engine(&[step("data.txt")]);
    project.surroundings.directory = Some(project.directory());
    for (path, fault) in [
        ("data.txt", "there is no data.txt, and no step makes it"),
        ("*.txt", "nothing matches *.txt, and no step makes it"),
    ] {
        let line = format!("inputs = {{ data = {{ path = \"{path}\" }} }}");
        let (message, hint) = problem(&project, &line);
        assert_eq!(message, fault);
        assert_eq!(
            hint,
            "a file that a step makes is one of its `outputs`, and read `from` it"
        );
    }
    project.write("data.txt", "");
    project.engine(&[step("data.txt")]);
    project.engine(&[step("*.txt")]);
}

/// A world in which the runner `conformance` says what it reads and writes, and in which there are stages
/// that take and make this and that.
fn typed() -> World {
    let world = World::new();
    let ports = json!({ "conformance": {
        "reads": { "in": ["text", "audio/*"] }, "writes": { "out": "text" },
    } });
    let runner = json!({
        "extension-points": { "step": 1 }, "runners": ["conformance"], "ports": ports,
    });
    world.add_variant("typed", &json!({ "provides": runner }));
    for (id, stage) in [
        ("hears", json!({ "accepts": ["audio/*"], "emits": "text" })),
        ("paints", json!({ "emits": "image/png" })),
        ("says", json!({ "accepts": ["text"], "emits": "audio/pcm" })),
    ] {
        let provides = json!({ "extension-points": { "stage": 1 }, "stage": stage });
        world.add_variant(id, &json!({ "provides": provides }));
    }
    world
}

/// A step `a`, and a step `b` with this in line 10 of the pipeline.
fn two(line: &str) -> String {
    let step = |key| {
        format!("[[step]]\nkey = \"{key}\"\nuses = \"conformance\"\nwith = {{ do = \"copy\" }}\n")
    };
    format!("{}{}{line}\n", step("a"), step("b"))
}

#[test]
fn a_stream_begins_and_ends_at_ports_that_are_there_and_carries_what_is_taken() {
    let world = typed();
    let host = world.host(GRANTS);
    let surroundings = Surroundings::default();
    for (line, message, hint) in [
        (
            "inputs = { in = { from = \"a.err\" } }",
            "`a` makes no `err`: it is neither an output of the step nor a port of the runner \
             `conformance`",
            "the ports and outputs are `out`",
        ),
        (
            "inputs = { other = { from = \"a.out\" } }",
            "the runner `conformance` reads no port `other`",
            "the ports are `in`",
        ),
        (
            "inputs = { in = { from = \"a.out\", through = [{ stage = \"hears\" }] } }",
            "stage `hears` takes audio/*, and text comes to it",
            "put a stage before it that makes what it takes",
        ),
        (
            "inputs = { in = { from = \"a.out\", through = [{ stage = \"paints\" }] } }",
            "the runner `conformance` takes text, audio/* at `in`, and image/png comes to it",
            "",
        ),
    ] {
        let told = refused(&host, &surroundings, &two(line));
        let expected = (10, message.to_owned(), hint.to_owned());
        assert_eq!(told, [expected], "{line}");
    }
    // Each stage is given what the one before it makes.
    let chain = "inputs = { in = { from = \"a.out\", through = [{ stage = \"says\" }, \
                 { stage = \"hears\" }, { stage = \"says\" }] } }";
    for line in ["inputs = { in = { from = \"a.out\" } }", chain] {
        let text = format!("pipeline.name = \"p\"\n{}", two(line));
        let plan = Plan::parse(&text, "pipeline.toml").unwrap();
        Engine::prepare(&host, plan, surroundings.clone())
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn a_stage_that_is_no_stage_and_one_that_is_not_there_are_told() {
    let world = typed();
    let host = world.host(GRANTS);
    let through = |stage: &str| {
        let line = format!(
            "inputs = {{ in = {{ from = \"a.out\", through = [{{ stage = \"{stage}\" }}] }} }}"
        );
        let told = refused(&host, &Surroundings::default(), &two(&line));
        let [(10, message, hint)] = told.as_slice() else {
            panic!("{told:?}")
        };
        (message.clone(), hint.clone())
    };
    assert_eq!(through("typed").0, "plugin `typed` is not a stage");
    assert_eq!(through("hear").1, "did you mean `hears`?");
}

#[test]
fn a_runner_of_a_plugin_is_named_by_the_plugin_too() {
    let project = Project::new();
    let by_id = |with: serde_json::Value| json!({ "key": "a", "uses": "plugin", "with": with });
    let told = project.run(&[by_id(
        json!({ "id": "conformance", "with": { "do": "echo" } }),
    )]);
    assert_eq!(
        steps::fact(&told.report, "a", "runner"),
        Some("conformance")
    );
    let error = project.prepare(&[by_id(json!({ "id": "conformance", "runner": "other" }))]);
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("plugin `conformance` has no runner `other`"),
        "{error}"
    );
    let error = project.prepare(&[by_id(json!({ "id": "conformance" }))]);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("\"do\" is a required property"), "{error}");
}
