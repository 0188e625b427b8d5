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

#[test]
fn an_input_is_either_from_a_step_or_a_path() {
    for input in [
        "{ from = \"a.out\", path = \"data\" }",
        "{}",
        "{ through = [] }",
    ] {
        let (message, hint) = problem_of_b(&format!("inputs = {{ data = {input} }}"));
        assert_eq!(message, "the input `data` needs either `from` or `path`");
        assert_eq!(hint, "`from` names what another step makes, `path` a file");
    }
}

#[test]
fn an_input_from_a_step_that_is_not_there_is_refused_with_the_nearest() {
    let (message, hint) = problem_of_b("inputs = { data = { from = \"aa.out\" } }");
    assert_eq!(message, "there is no step `aa`");
    assert_eq!(hint, "did you mean `a`?");
}

#[test]
fn a_path_that_another_step_makes_is_read_from_there() {
    for path in ["made", "./made", "made/deep/in/it"] {
        let (line, message, hint) = problem(&format!(
            "[[step]]\nkey = \"a\"\nuses = \"exec\"\noutputs = {{ all = {{ path = \"made\" }} }}\n\
             [[step]]\nkey = \"b\"\nuses = \"exec\"\ninputs = {{ data = {{ path = \"{path}\" }} }}"
        ));
        assert_eq!(
            (line, message),
            (9, format!("`{path}` is made by another step"))
        );
        assert_eq!(hint, "read it from there: `from = \"a.all\"`");
    }
}

#[test]
fn a_path_is_no_stream_and_is_not_empty() {
    let (message, _) = problem_of_b("inputs = { data = { path = \"\" } }");
    assert_eq!(message, "the path is empty, or has a NUL in it");
    let stages = "through = [{ stage = \"redact\" }]";
    let (message, _) = problem_of_b(&format!(
        "inputs = {{ data = {{ path = \"x\", {stages} }} }}"
    ));
    assert_eq!(message, "a path is no stream that could pass stages");
    let (line, message, _) = problem(&format!(
        "[[step]]\nkey = \"a\"\nuses = \"exec\"\noutputs = {{ all = {{ path = \"made\" }} }}\n\
         [[step]]\nkey = \"b\"\nuses = \"exec\"\n\
         inputs = {{ data = {{ from = \"a.all\", {stages} }} }}"
    ));
    assert_eq!(line, 9);
    assert_eq!(
        message,
        "`a.all` is a file, and no stream that could pass stages"
    );
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
fn an_output_lies_inside_the_directory_of_the_run() {
    for (path, fault) in [
        ("/tmp/x", "is an absolute path"),
        ("../x", "has a part that is empty, `.` or `..`"),
        ("a/../../x", "has a part that is empty, `.` or `..`"),
        ("./x", "has a part that is empty, `.` or `..`"),
        ("a//x", "has a part that is empty, `.` or `..`"),
        ("a/", "has a part that is empty, `.` or `..`"),
        ("", "is no path"),
    ] {
        let (message, hint) =
            problem_of_b(&format!("outputs = {{ made = {{ path = \"{path}\" }} }}"));
        assert_eq!(message, format!("`{path}` {fault}"));
        assert_eq!(
            hint,
            "write a path relative to the run's directory, such as `out/report.txt`"
        );
    }
}

#[test]
fn no_two_outputs_lie_in_one_place_nor_one_inside_another() {
    // With the line that is named.
    for (one, other, line, told) in [
        ("out", "out", 9, "`out` lies where `a.made` is made"),
        (
            "out",
            "out/deep/x",
            9,
            "`out/deep/x` lies where `a.made` is made",
        ),
        (
            "out/deep/x",
            "out",
            5,
            "`out/deep/x` lies where `b.made` is made",
        ),
    ] {
        let (at, message, hint) = problem(&format!(
            "[[step]]\nkey = \"a\"\nuses = \"exec\"\noutputs = {{ made = {{ path = \"{one}\" }} }}\n\
             [[step]]\nkey = \"b\"\nuses = \"exec\"\noutputs = {{ made = {{ path = \"{other}\" }} }}"
        ));
        assert_eq!((at, message.as_str()), (line, told));
        assert_eq!(hint, "give each output a place of its own");
    }
    // Beside each other is apart from each other.
    parsed(
        "[[step]]\nkey = \"a\"\nuses = \"exec\"\n\
         outputs = { one = { path = \"out/x\" }, two = { path = \"out/xy\" } }",
    );
}

#[test]
fn ports_inputs_and_outputs_have_names_of_one_kind() {
    let hint = "use at most 64 lower-case letters, digits, `-` and `_`, a letter first";
    for line in [
        "inputs = { \"A b\" = { path = \"x\" } }",
        "outputs = { \"A b\" = { path = \"x\" } }",
        "outputs = { made = { path = \"x\", port = \"A b\" } }",
    ] {
        let told = problem_of_b(line);
        assert_eq!(told.0, "`A b` cannot be the name of a port", "{line}");
        assert_eq!(told.1, hint);
    }
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
fn a_step_takes_a_processor_at_least() {
    let (message, _) = problem_of_b("resources = { cpus = 0 }");
    assert_eq!(message, "a step takes one processor at least");
}

#[test]
fn a_step_needs_another_once() {
    let (message, hint) = problem_of_b("needs = [\"a\", \"a\"]");
    assert_eq!(
        (message.as_str(), hint.as_str()),
        ("`a` is needed twice", "name it once")
    );
}

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

#[test]
fn names_may_be_in_any_script_and_with_any_mark_that_can_be_seen() {
    for name in [
        "build it all",
        "it's \\\"quoted\\\" `twice` \\\\ over",
        "בנה את הכל",
        "ابنِ كل شيء",
        "構築 🛠 <b>&amp;</b>",
        "$(rm -rf ~); ${HOME} %PATH%",
    ] {
        let text = format!(
            "pipeline.name = \"{name}\"\n[[step]]\nkey = \"{name}\"\nlabel = \"{name}\"\nuses = \"exec\"\n\
             [[step]]\nkey = \"other\"\nuses = \"exec\"\nneeds = [\"{name}\"]\ninputs.x.from = \"third.out\"\n\
             [[step]]\nkey = \"third\"\nuses = \"exec\"\n"
        );
        let plan = Plan::parse(&text, "pipeline.toml").unwrap();
        assert_eq!(plan.steps[1].needs, [plan.steps[0].key.as_str()]);
        assert_eq!(plan.steps[0].title(), plan.pipeline.name);
    }
}

#[test]
fn names_with_marks_that_hide_or_turn_what_follows_are_refused_wherever_people_read_them() {
    for hidden in [
        '\u{0}', '\u{1b}', '\u{7f}', '\u{85}', '\u{200b}', '\u{200f}', '\u{2028}', '\u{202a}',
        '\u{202e}', '\u{2060}', '\u{2066}', '\u{2069}', '\u{feff}',
    ] {
        let code = u32::from(hidden);
        let fault = format!("contains U+{code:04X}, which cannot be seen");
        let name = format!("a\\u{code:04X}b");
        let step = |members: &str| format!("[[step]]\nuses = \"exec\"\n{members}\n");
        for text in [
            format!("pipeline.name = \"{name}\"\n{}", step("key = \"a\"")),
            format!(
                "pipeline.name = \"p\"\n{}",
                step(&format!("key = \"{name}\""))
            ),
            format!(
                "pipeline.name = \"p\"\n{}",
                step(&format!("key = \"a\"\nlabel = \"{name}\""))
            ),
        ] {
            let told = refusal(&text);
            assert!(told.contains(&fault), "{told}");
            // Nor does the refusal itself show it.
            assert!(!told.contains(hidden), "{told:?}");
        }
    }
}
