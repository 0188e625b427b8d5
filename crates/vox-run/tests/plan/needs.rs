//! What steps wait for: others that are there, each once, and never in a circle.

use vox_run::Plan;

use crate::{TWO, parsed, problem_of_b, steps_refused};

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
fn an_input_from_a_step_that_is_not_there_is_refused_with_the_nearest() {
    let (message, hint) = problem_of_b("inputs = { data = { from = \"aa.out\" } }");
    assert_eq!(message, "there is no step `aa`");
    assert_eq!(hint, "did you mean `a`?");
}

#[test]
fn a_file_of_another_step_is_waited_for_and_a_stream_is_not() {
    let plan = parsed(
        "[[step]]\nkey = \"a\"\nuses = \"exec\"\noutputs = { all = { path = \"made\" } }\n\
         [[step]]\nkey = \"b\"\nuses = \"exec\"\ninputs = { data = { from = \"a.all\" } }\n\
         [[step]]\nkey = \"c\"\nuses = \"exec\"\ninputs = { data = { from = \"b.out\" } }",
    );
    let groups: Vec<_> = plan
        .graph()
        .groups()
        .iter()
        .map(|g| g.members.clone())
        .collect();
    assert_eq!(groups, [vec![0], vec![1, 2]]);
    assert_eq!(plan.graph().artifacts().len(), 1);
    assert_eq!(plan.graph().streams().len(), 1);
}

#[test]
fn a_condition_asks_about_what_the_step_needs() {
    for fate in ["failed", "ended"] {
        let (message, hint) = problem_of_b(&format!("when = {{ needs = \"{fate}\" }}"));
        assert_eq!(
            message,
            "the step needs no other whose end it could ask about"
        );
        assert_eq!(hint, "name steps in `needs`, or leave `when.needs` out");
        parsed(&format!(
            "{TWO}needs = [\"a\"]\nwhen = {{ needs = \"{fate}\" }}"
        ));
    }
    let (message, hint) = problem_of_b("when = { results = { \"a.weather\" = \"fine\" } }");
    assert_eq!(
        message,
        "`a.weather` may not be known when the step is to start"
    );
    assert_eq!(hint, "add `a` to its `needs`");
    let (message, hint) = problem_of_b("when = { results = { \"aa.weather\" = \"fine\" } }");
    assert_eq!(message, "there is no step `aa`");
    assert_eq!(hint, "did you mean `a`?");
}

#[test]
fn a_step_needs_another_once() {
    let (message, hint) = problem_of_b("needs = [\"a\", \"a\"]");
    assert_eq!(
        (message.as_str(), hint.as_str()),
        ("`a` is needed twice", "name it once")
    );
}
