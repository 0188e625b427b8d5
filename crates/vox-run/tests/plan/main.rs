//! What a plan's text may say, and what is answered when it may not.

mod keys;
mod matrix;
mod needs;
mod paths;
mod reading;
mod refusing;
mod settings;

use vox_run::Plan;

/// What is wrong with `text`, as it is shown to a person.
fn refusal(text: &str) -> String {
    Plan::parse(text, "pipeline.toml").unwrap_err().to_string()
}

/// What is wrong with a pipeline of these steps.
fn steps_refused(steps: &str) -> String {
    refusal(&format!("pipeline.name = \"p\"\n{steps}"))
}

/// Two steps without anything: `a` in lines 2 to 4, and `b` in lines 5 to 7, to which a test adds.
const TWO: &str =
    "[[step]]\nkey = \"a\"\nuses = \"exec\"\n[[step]]\nkey = \"b\"\nuses = \"exec\"\n";

/// The one problem of a pipeline of these steps: its line, what it says, and the way out.
fn problem(steps: &str) -> (usize, String, String) {
    let text = format!("pipeline.name = \"p\"\n{steps}");
    let error = Plan::parse(&text, "pipeline.toml").unwrap_err();
    let [problem] = error.problems() else {
        panic!("{error}")
    };
    (
        problem.line,
        problem.message.clone(),
        problem.hint.clone().unwrap_or_default(),
    )
}

/// Adds a line to the second of two steps, which is the problem.
fn problem_of_b(line: &str) -> (String, String) {
    let (at, message, hint) = problem(&format!("{TWO}{line}"));
    assert_eq!(at, 8, "{message}");
    (message, hint)
}

fn parsed(steps: &str) -> Plan {
    let text = format!("pipeline.name = \"p\"\n{steps}");
    Plan::parse(&text, "pipeline.toml").unwrap_or_else(|error| panic!("{error}"))
}
