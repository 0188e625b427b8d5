//! What keys, ports, labels and plugins may be called.

use vox_run::Plan;

use crate::{problem_of_b, refusal, steps_refused};

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
