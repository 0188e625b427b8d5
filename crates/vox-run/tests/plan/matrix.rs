//! Steps that a matrix makes: their keys, their number, and what is refused once for all of them.

use serde_json::json;
use vox_run::Plan;

use crate::{parsed, problem, refusal};

/// A step `test` for each of these values of `n`, and one that needs it.
fn family(values: &str) -> String {
    format!(
        "[[step]]\nkey = \"test\"\nlabel = \"Test ${{matrix.n}}\"\nuses = \"exec\"\n\
         with = {{ command = [\"test\", \"${{matrix.n}}\"] }}\nmatrix = {{ n = {values} }}\n\
         [[step]]\nkey = \"all\"\nuses = \"exec\"\nneeds = [\"test\"]\n"
    )
}

#[test]
fn a_matrix_makes_steps_that_stand_together_for_its_key() {
    let plan = parsed(&family("[1, \"two words\", true, 0.5]"));
    let keys: Vec<&str> = plan.steps.iter().map(|step| step.key.as_str()).collect();
    let family = [
        "test[n=1]",
        "test[n=two words]",
        "test[n=true]",
        "test[n=0.5]",
    ];
    assert_eq!(keys[..4], family);
    assert_eq!(plan.steps[4].needs, family);
    assert_eq!(plan.steps[1].title(), "Test two words");
    assert_eq!(
        plan.steps[1].arguments["command"],
        json!(["test", "two words"])
    );
    assert!(plan.steps.iter().all(|step| step.matrix.is_empty()));
    // One of them can be read from by its name; what is written anew is the same plan.
    let reads = format!(
        "{}inputs.x.from = \"test[n=1].out\"",
        family_without_needs()
    );
    assert_eq!(parsed(&reads).graph().streams().len(), 1);
    let written = serde_json::to_string(&plan).unwrap();
    assert_eq!(Plan::parse(&written, "-").unwrap().steps, plan.steps);
}

fn family_without_needs() -> String {
    family("[1]").replace("needs = [\"test\"]\n", "")
}

#[test]
fn a_matrix_that_makes_no_steps_or_too_many_is_refused() {
    let (line, message, hint) = problem(&family("[]"));
    assert_eq!(
        (line, message.as_str()),
        (7, "the matrix has no values for `n`")
    );
    assert_eq!(hint, "give it at least one, or take it away");
    let many: Vec<usize> = (0..1_001).collect();
    let (line, message, hint) = problem(&family(&format!("{many:?}")));
    assert_eq!(
        (line, message.as_str()),
        (7, "the matrix makes more than 1000 steps")
    );
    assert_eq!(
        hint,
        "give it fewer values, or write a pipeline for each part of them"
    );
    let most: Vec<usize> = (0..1_000).collect();
    assert_eq!(parsed(&family(&format!("{most:?}"))).steps.len(), 1_001);
}

#[test]
fn a_value_that_the_matrix_does_not_have_is_refused_with_the_nearest() {
    let text = family("[1]").replace("Test ${matrix.n}", "Test ${matrix.nn}");
    let (line, message, hint) = problem(&text);
    assert_eq!(line, 2);
    assert_eq!(
        message,
        "`${matrix.nn}` stands in the step, and its matrix has no such name"
    );
    assert_eq!(hint, "did you mean `n`?");
}

#[test]
fn a_step_reads_from_one_step_of_a_matrix_and_not_from_all_of_them() {
    let text = format!(
        "{}inputs.x = {{ from = \"test.out\" }}",
        family_without_needs()
    );
    let (line, message, hint) = problem(&text);
    assert_eq!((line, message.as_str()), (11, "`test` is many steps"));
    assert_eq!(
        hint,
        "its matrix makes several: name one of them, such as `key[a=1].out`"
    );
}

#[test]
fn what_is_wrong_with_a_step_of_a_matrix_is_told_once() {
    let (line, message, _) = problem(&format!(
        "[[step]]\ntimeout = \"0s\"\n{}",
        &family("[1, 2, 3]")["[[step]]\n".len()..]
    ));
    assert_eq!((line, message.as_str()), (3, "the time-out is nothing"));
}

#[test]
fn the_values_of_a_matrix_become_names_and_so_are_such_as_can_be_seen() {
    for (values, fault) in [
        ("[\"a\\nb\"]", "contains U+000A, which cannot be seen"),
        ("[\"a\\u202Eb\"]", "contains U+202E, which cannot be seen"),
        ("[\"\"]", "is empty"),
    ] {
        let (line, message, _) = problem(&family(values));
        assert_eq!(line, 7);
        assert!(message.contains(fault), "{message}");
    }
    // A key that the matrix makes is no longer than one that somebody writes.
    let long = format!("[\"{}\"]", "v".repeat(126));
    let (_, message, _) = problem(&family(&long).replace("label = ", "# "));
    assert!(message.contains("longer than 128 bytes"), "{message}");
}

#[test]
fn the_names_of_a_matrix_are_such_as_can_stand_in_a_text() {
    let text = family("[1]").replace(
        "matrix = { n = [1] }",
        "matrix = { n = [1], \"A b\" = [1] }",
    );
    let (line, message, _) = problem(&text);
    assert_eq!(line, 7);
    assert!(message.contains("`A b`"), "{message}");
}

#[test]
fn no_two_steps_of_a_matrix_have_one_key() {
    for values in ["[1, 1]", "[1, \"1\"]"] {
        let told = refusal(&format!("pipeline.name = \"p\"\n{}", family(values)));
        assert!(told.contains("`test[n=1]`"), "{told}");
    }
    let written = format!(
        "{}[[step]]\nkey = \"test[n=1]\"\nuses = \"exec\"\n",
        family("[1]")
    );
    let told = refusal(&format!("pipeline.name = \"p\"\n{written}"));
    assert!(
        told.contains("two steps have the key `test[n=1]`"),
        "{told}"
    );
}
