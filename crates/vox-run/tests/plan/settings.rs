//! How a step is carried out: its variables and secrets, time-out, retries and resources.

use crate::{TWO, parsed, problem_of_b, steps_refused};

#[test]
fn an_environment_variable_must_be_able_to_exist() {
    let told = steps_refused("[[step]]\nkey = \"a\"\nuses = \"exec\"\nenv = { \"A=B\" = \"c\" }");
    assert!(
        told.contains("`A=B` cannot be an environment variable"),
        "{told}"
    );
}

#[test]
fn a_secret_does_not_stand_in_the_plan() {
    let (message, _) = problem_of_b("secrets = [\"TOKEN\"]\nenv = { TOKEN = \"abc\" }");
    assert_eq!(message, "`TOKEN` stands in `env` too, in the clear");
    let (message, _) = problem_of_b("secrets = [\"A=B\"]");
    assert_eq!(message, "`A=B` cannot be an environment variable");
}

#[test]
fn a_length_of_time_is_written_with_its_unit_and_a_time_out_is_not_nothing() {
    let (message, hint) = problem_of_b("timeout = \"0s\"");
    assert_eq!(message, "the time-out is nothing");
    assert_eq!(
        hint,
        "leave it out for a step that may take as long as it likes"
    );
    let (message, _) = problem_of_b("timeout = \"soon\"");
    assert_eq!(
        message,
        "`soon` is no length of time: write `30s`, `10min` or `1h 30min`"
    );
    let plan = parsed(&format!("{TWO}timeout = \"1h 30min\""));
    assert_eq!(plan.steps[1].timeout.unwrap().0.as_secs(), 5_400);
}

#[test]
fn a_retry_is_one_that_tries_again_and_waits_no_less_each_time() {
    let (message, hint) = problem_of_b("retry = { count = 0 }");
    assert_eq!(
        (message.as_str(), hint.as_str()),
        ("no retries are no retry", "leave `retry` out")
    );
    for factor in [0, 11] {
        let (message, _) = problem_of_b(&format!("retry = {{ count = 1, factor = {factor} }}"));
        assert_eq!(message, "the factor is to be from 1 to 10");
    }
    let (message, _) = problem_of_b("retry = { count = 1, on = [\"bad-luck\"] }");
    assert!(message.contains("unknown variant `bad-luck`"), "{message}");
    let plan = parsed(&format!("{TWO}retry = {{ count = 9 }}"));
    let retry = plan.steps[1].retry.as_ref().unwrap();
    let waits: Vec<u64> = (1..=8)
        .map(|attempt| retry.wait(attempt).as_secs())
        .collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    // However often it is tried, the wait can be counted.
    assert_eq!(retry.wait(u32::MAX).as_secs(), 60);
}

#[test]
fn a_step_takes_a_processor_at_least() {
    let (message, _) = problem_of_b("resources = { cpus = 0 }");
    assert_eq!(message, "a step takes one processor at least");
}
