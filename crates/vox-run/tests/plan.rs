//! What a plan's text may say, and what is answered when it may not.

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

/// What is wrong with `text`, as it is shown to a person.
fn refusal(text: &str) -> String {
    Plan::parse(text, "pipeline.toml").unwrap_err().to_string()
}

/// What is wrong with a pipeline of these steps.
fn steps_refused(steps: &str) -> String {
    refusal(&format!("pipeline.name = \"p\"\n{steps}"))
}

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
fn every_problem_is_told_at_once_with_its_place_and_a_way_out() {
    let text = r#"[pipeline]
name = "p"
descripton = "x"
[[step]]
key = "a"
usess = "exec"
[[step]]
key = "b"
uses = "exec"
needs = ["aa"]
[step.inputs]
stdin = { from = "c.stdout", trough = [] }
[[hooks]]
uses = "journal"
"#;
    assert_eq!(
        refusal(text),
        "\
pipeline.toml:3:1: there is no key `descripton` here
  hint: did you mean `description`?
pipeline.toml:4:1: `uses` is missing
pipeline.toml:6:1: there is no key `usess` here
  hint: did you mean `uses`?
pipeline.toml:10:10: there is no step `aa`
  hint: did you mean `a`?
pipeline.toml:12:18: there is no step `c`
  hint: did you mean `a`?
pipeline.toml:12:30: there is no key `trough` here
  hint: did you mean `through`?
pipeline.toml:13:3: there is no key `hooks` here
  hint: did you mean `hook`?"
    );
}

#[test]
fn problems_in_json_are_placed_too() {
    let text = "{\n  \"pipeline\": {\"name\": \"p\"},\n  \"step\": [\n    {\"key\": \"a\", \"uses\": \"exec\",\n     \"needs\": [\"a b\"]}]\n}";
    let error = Plan::parse(text, "<stdin>").unwrap_err();
    assert_eq!(
        error.to_string(),
        "<stdin>:5:16: there is no step `a b`\n  hint: the steps are `a`"
    );
    assert_eq!(&text[error.problems()[0].span.clone()], "\"a b\"");
}

#[test]
fn a_value_of_the_wrong_type_is_placed() {
    assert_eq!(
        steps_refused("[[step]]\nkey = \"a\"\nuses = \"exec\"\nneeds = \"b\""),
        "pipeline.toml:5:9: expected a sequence, found string \"b\""
    );
    assert_eq!(
        steps_refused("step = 3"),
        "pipeline.toml:2:1: `step` is a number, not an array of tables\n  hint: write `[[step]]`"
    );
}

#[test]
fn a_plan_without_pipeline_or_steps_is_refused() {
    let told = refusal("");
    assert!(told.contains("the plan has no `[pipeline]`"), "{told}");
    assert!(told.contains("the plan has no steps"), "{told}");
}

#[test]
fn two_steps_cannot_have_one_key() {
    let told = steps_refused(
        "step = [{ key = \"a\", uses = \"exec\" }, { key = \"a\", uses = \"exec\" }]",
    );
    assert!(
        told.starts_with("pipeline.toml:2:47: two steps have the key `a`"),
        "{told}"
    );
}

#[test]
fn a_key_is_one_line_that_can_be_seen() {
    for (key, fault) in [
        ("", "is empty"),
        ("a\\nb", "contains U+000A, which cannot be seen"),
        ("a\\u202Eb", "contains U+202E, which cannot be seen"),
        (" a", "begins or ends with white space"),
        (&"k".repeat(129), "is longer than 128 bytes"),
    ] {
        let told = steps_refused(&format!("[[step]]\nkey = \"{key}\"\nuses = \"exec\""));
        assert!(told.contains(fault), "{told}");
    }
    let spoken =
        "pipeline.name = \"p\"\n[[step]]\nkey = \"בנה את \\\"הכל\\\" v1.2\"\nuses = \"exec\"";
    Plan::parse(spoken, "pipeline.toml").unwrap();
}

#[test]
fn a_key_may_contain_dots_and_still_be_read_from() {
    let plan = "pipeline.name = \"p\"\n[[step]]\nkey = \"v1.2\"\nuses = \"exec\"\n[[step]]\n\
                key = \"b\"\nuses = \"exec\"\ninputs.stdin.from = \"v1.2.stdout\"";
    let plan = Plan::parse(plan, "pipeline.toml").unwrap();
    let input = plan.steps[1].input("stdin").unwrap();
    assert_eq!(input.from.as_ref().unwrap().step, "v1.2");
}

#[test]
fn a_source_without_a_port_is_refused() {
    let told = steps_refused(
        "[[step]]\nkey = \"a\"\nuses = \"exec\"\n[[step]]\nkey = \"b\"\nuses = \"exec\"\ninputs.stdin.from = \"a\"",
    );
    assert!(
        told.contains("`a` names nothing of a step: write `step.port`"),
        "{told}"
    );
}

#[test]
fn runners_and_plugins_are_names_without_white_space() {
    let told = steps_refused(
        "hook = [{ uses = \"The Journal\" }]\n[[step]]\nkey = \"a\"\nuses = \"my exec\"",
    );
    assert!(
        told.contains("pipeline.toml:2:18: plugin id `The Journal` contains white space"),
        "{told}"
    );
    assert!(
        told.contains("pipeline.toml:5:8: runner name `my exec` contains white space"),
        "{told}"
    );
}

#[test]
fn an_environment_variable_must_be_able_to_exist() {
    let told = steps_refused("[[step]]\nkey = \"a\"\nuses = \"exec\"\nenv = { \"A=B\" = \"c\" }");
    assert!(
        told.contains("`A=B` cannot be an environment variable"),
        "{told}"
    );
}

#[test]
fn a_circle_is_shown_where_it_begins() {
    let told = steps_refused(
        "[[step]]\nkey = \"a\"\nuses = \"exec\"\nneeds = [\"b\"]\n\
         [[step]]\nkey = \"b\"\nuses = \"exec\"\ninputs.stdin.from = \"a.stdout\"",
    );
    assert_eq!(
        told,
        "pipeline.toml:5:10: these steps need one another in a circle: a → b → a\n  hint: each waits \
         for the one after the arrow: take away one of these `needs` or inputs"
    );
}

#[test]
fn a_reader_that_also_needs_its_writer_is_refused() {
    let told = steps_refused(
        "[[step]]\nkey = \"a\"\nuses = \"exec\"\n\
         [[step]]\nkey = \"b\"\nuses = \"exec\"\nneeds = [\"a\"]\ninputs.stdin.from = \"a.stdout\"",
    );
    assert!(
        told.contains("pipeline.toml:8:10: these steps wait for one another for ever: b → a ⇄ b"),
        "{told}"
    );
}

#[test]
fn one_port_may_have_several_readers() {
    let reader = |key| {
        format!("[[step]]\nkey = \"{key}\"\nuses = \"exec\"\ninputs.stdin.from = \"a.stdout\"\n")
    };
    let text = format!(
        "pipeline.name = \"p\"\n[[step]]\nkey = \"a\"\nuses = \"exec\"\n{}{}",
        reader("b"),
        reader("c")
    );
    let plan = Plan::parse(&text, "pipeline.toml").unwrap();
    assert_eq!(plan.graph().groups().len(), 1);
    assert_eq!(plan.graph().streams().len(), 2);
}

#[test]
fn text_that_is_no_plan_at_all_is_refused_with_a_place() {
    for text in ["{", "[", "key", "\u{0}", "{\"a\":1}}", "= 1"] {
        let error = Plan::parse(text, "pipeline.toml").unwrap_err();
        assert!(
            error.problems()[0].message.starts_with("not valid"),
            "{text:?}: {error}"
        );
    }
}
