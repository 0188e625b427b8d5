//! Files that steps read and make: where they may lie, and from where they are read.

use crate::{parsed, problem, problem_of_b};

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
