//! How a refusal is told: every problem at once, each with its place and a way out.

use vox_run::Plan;

use crate::{refusal, steps_refused};

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
    for (line, said) in [
        (
            "needs = \"b\"",
            "9: `needs` is a list such as `[\"a\"]`, not the text \"b\"",
        ),
        ("needs = [3]", "10: expected a text, found the number 3"),
        (
            "retry = 3",
            "9: `retry` is a table such as `{ count = 3 }`, not the number 3",
        ),
        (
            "retry = { count = -1 }",
            "19: `count` is a whole number, 0 or more, not the number -1",
        ),
        (
            "resources = { memory = \"2GB\" }",
            "24: `2GB` is not a number of bytes; \
             write a whole number and one of B, KiB, MiB, GiB, such as `16MiB`",
        ),
    ] {
        assert_eq!(
            steps_refused(&format!("[[step]]\nkey = \"a\"\nuses = \"exec\"\n{line}")),
            format!("pipeline.toml:5:{said}")
        );
    }
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
fn text_that_is_no_plan_at_all_is_refused_with_a_place() {
    for text in ["{", "[", "key", "\u{0}", "{\"a\":1}}", "= 1"] {
        let error = Plan::parse(text, "pipeline.toml").unwrap_err();
        assert!(
            error.problems()[0].message.starts_with("not valid"),
            "{text:?}: {error}"
        );
    }
}
