//! What a plan says, in TOML, in JSON and by its schema, however long it is.

use serde_json::json;
use vox_run::Plan;

const QUICKSTART: &str = r#"
[pipeline]
name = "quickstart"
description = "Counts the words of a book"

[[step]]
key = "read"
label = "Read the book"
uses = "exec"
with = { command = ["cat", "walden.txt"] }

[[step]]
key = "count"
uses = "exec"
with = { command = ["wc", "-w"] }
needs = ["prepare"]
env = { LANG = "C" }
[step.inputs]
stdin = { from = "read.stdout", through = [{ stage = "redact", with = { emails = true } }, { stage = "wordstat" }] }

[[step]]
key = "prepare"
uses = "exec"

[[hook]]
uses = "journal"
with = { path = "journal.jsonl" }
"#;

#[test]
fn a_plan_says_what_its_file_says() {
    let plan = Plan::parse(QUICKSTART, "pipeline.toml").unwrap();
    assert_eq!(plan.pipeline.name, "quickstart");
    assert_eq!(plan.steps[0].title(), "Read the book");
    assert_eq!(plan.steps[1].title(), "count");
    assert_eq!(plan.steps[1].needs, ["prepare"]);
    assert_eq!(plan.steps[1].environment["LANG"], "C");
    let input = plan.steps[1].input("stdin").unwrap();
    assert_eq!(input.from.as_ref().unwrap().to_string(), "read.stdout");
    assert_eq!(input.through[0].stage, "redact");
    assert_eq!(input.through[0].arguments["emails"], json!(true));
    assert_eq!(plan.hooks[0].arguments["path"], json!("journal.jsonl"));
}

#[test]
fn a_plan_written_as_json_is_the_same_plan() {
    let plan = Plan::parse(QUICKSTART, "pipeline.toml").unwrap();
    let written = serde_json::to_string_pretty(&plan).unwrap();
    let read = Plan::parse(&written, "-").unwrap();
    assert_eq!(read.pipeline, plan.pipeline);
    assert_eq!(read.steps, plan.steps);
    assert_eq!(read.hooks, plan.hooks);
}

#[test]
fn the_schema_accepts_a_plan_and_refuses_what_parsing_refuses() {
    let schema = jsonschema::validator_for(&Plan::schema()).unwrap();
    let plan = Plan::parse(QUICKSTART, "pipeline.toml").unwrap();
    let written = serde_json::to_value(&plan).unwrap();
    if let Err(error) = schema.validate(&written) {
        panic!("{error} at {}", error.instance_path());
    }
    for wrong in [
        json!({}),
        json!({ "pipeline": { "name": "p" }, "step": [] }),
        json!({ "pipeline": { "name": "p" }, "step": [{ "key": "a", "uses": "exec", "use": 1 }] }),
        json!({ "pipeline": { "name": "p" }, "step": [{ "key": "a", "uses": "Exec" }] }),
        json!({ "pipeline": { "name": "p" }, "step": [{ "key": "a", "uses": "exec",
            "inputs": { "stdin": { "from": "nowhere" } } }] }),
    ] {
        assert!(!schema.is_valid(&wrong), "{wrong}");
        assert!(Plan::parse(&wrong.to_string(), "-").is_err(), "{wrong}");
    }
}

#[test]
fn toml_and_json_say_everything_alike() {
    let toml = r#"
[pipeline]
name = "all"
[[step]]
key = "a"
uses = "exec"
outputs = { made = { path = "out/a", port = "stdout" } }
secrets = ["TOKEN"]
timeout = "1min 30s"
cache = true
inputs = { data = { path = "data/*.txt" } }
resources = { cpus = 2, memory = "512MiB", gpu = 1 }
[step.retry]
count = 3
delay = "500ms"
factor = 3
max-delay = "5s"
on = ["code", "timed-out"]
[[step]]
key = "b"
uses = "exec"
needs = ["a"]
[step.inputs.stdin]
from = "c.stdout"
through = [{ stage = "redact" }]
restart = "acknowledged"
[step.when]
needs = "ended"
env = { STAGE = "live" }
results = { "a.weather" = "fine" }
[[step]]
key = "c"
uses = "exec"
"#;
    let json = json!({
        "pipeline": { "name": "all" },
        "step": [
            {
                "key": "a", "uses": "exec",
                "outputs": { "made": { "path": "out/a", "port": "stdout" } },
                "secrets": ["TOKEN"], "timeout": "1min 30s", "cache": true,
                "inputs": { "data": { "path": "data/*.txt" } },
                "resources": { "cpus": 2, "memory": "512MiB", "gpu": 1 },
                "retry": {
                    "count": 3, "delay": "500ms", "factor": 3, "max-delay": "5s",
                    "on": ["code", "timed-out"],
                },
            },
            {
                "key": "b", "uses": "exec", "needs": ["a"],
                "inputs": { "stdin": {
                    "from": "c.stdout", "through": [{ "stage": "redact" }],
                    "restart": "acknowledged",
                } },
                "when": {
                    "needs": "ended", "env": { "STAGE": "live" },
                    "results": { "a.weather": "fine" },
                },
            },
            { "key": "c", "uses": "exec" },
        ],
    });
    let of_toml = Plan::parse(toml, "pipeline.toml").unwrap();
    let of_json = Plan::parse(&json.to_string(), "pipeline.json").unwrap();
    assert_eq!(of_toml.steps, of_json.steps);
    let again = serde_json::to_string(&of_toml).unwrap();
    assert_eq!(Plan::parse(&again, "-").unwrap().steps, of_toml.steps);
    let schema = jsonschema::validator_for(&Plan::schema()).unwrap();
    if let Err(error) = schema.validate(&json) {
        panic!("{error} at {}", error.instance_path());
    }
}

#[test]
fn a_hundred_thousand_steps_are_read() {
    let mut text = "pipeline.name = \"p\"\n[[step]]\nkey = \"s0\"\nuses = \"exec\"\n".to_owned();
    for step in 1..100_000 {
        let need = step / 2;
        text.push_str(&format!(
            "[[step]]\nkey = \"s{step}\"\nuses = \"exec\"\nneeds = [\"s{need}\"]\n"
        ));
    }
    let plan = Plan::parse(&text, "pipeline.toml").unwrap();
    assert_eq!(plan.graph().groups().len(), 100_000);
}
