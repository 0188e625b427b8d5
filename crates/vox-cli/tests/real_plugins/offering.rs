//! A run that was interrupted, and what `vox run` says of it.

use std::fs::File;

use crate::Ended;
use crate::runs::{IN_THREE_STEPS, Quickstart, Underway};
#[cfg(target_os = "linux")]
use crate::terminal::Terminal;

/// A plan of this name with these steps.
fn plan(name: &str, steps: &str) -> String {
    format!("[pipeline]\nname = \"{name}\"\n{steps}")
}

/// A user whose run of `pipeline.toml`, called `test`, was killed in its second step. What that one waited for is
/// there now.
fn interrupted() -> Quickstart {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    place.write("pipeline.toml", &plan("test", IN_THREE_STEPS));
    let mut run = quickstart.vox();
    run.args(["run", "pipeline.toml"]);
    Underway::start(run).kill();
    place.write("go", "");
    quickstart
}

/// The states of all runs, the newest first.
fn states(quickstart: &Quickstart) -> Vec<String> {
    let listed = quickstart.0.json(&["runs", "ls"]);
    let states = listed.as_array().unwrap().iter();
    states
        .map(|run| run["state"].as_str().unwrap().to_owned())
        .collect()
}

/// Runs a plan that comes from standard input.
fn run_from_stdin(quickstart: &Quickstart, plan: &str) -> Ended {
    let file = quickstart.0.write("generated.toml", plan);
    let mut command = quickstart.vox();
    command.args(["run", "-"]).stdin(File::open(file).unwrap());
    Ended::of(&mut command).succeeded()
}

#[test]
fn an_interrupted_run_is_told_of_however_its_file_is_written() {
    let quickstart = interrupted();
    let mut command = quickstart.vox();
    command.args(["run", "./pipeline.toml"]);
    let said = Ended::of(&mut command).succeeded().stderr;
    assert!(
        said.contains("was interrupted after 1 of 3 steps; this is a new one"),
        "{said}"
    );
    assert_eq!(states(&quickstart), ["succeeded", "interrupted"]);
}

#[test]
fn an_interrupted_run_is_found_again_by_its_file_however_that_is_written() {
    let quickstart = interrupted();
    let mut command = quickstart.vox();
    command.args(["run", "./pipeline.toml", "--resume"]);
    Ended::of(&mut command).succeeded();
    assert_eq!(states(&quickstart), ["succeeded"]);
}

#[test]
fn a_plan_from_standard_input_is_told_of_an_interrupted_run_of_its_own_name_alone() {
    let quickstart = interrupted();
    let said = "with = { command = [\"echo\", \"said\"] }";
    let step = format!("[[step]]\nkey = \"say\"\nuses = \"exec\"\n{said}\n");
    let other = run_from_stdin(&quickstart, &plan("other", &step)).stderr;
    assert!(!other.contains("interrupted"), "{other}");
    let own = run_from_stdin(&quickstart, &plan("test", &step)).stderr;
    assert!(
        own.contains("was interrupted after 1 of 3 steps, and the plan has changed since")
            && own.contains(" goes on with that as it was"),
        "{own}"
    );
}

/// Runs `pipeline.toml` on a terminal, and types Enter at this question.
#[cfg(target_os = "linux")]
#[track_caller]
fn entered_at(question: &str, quickstart: &Quickstart) {
    let (is_well, shown) = entered_after(question, quickstart, || ());
    assert!(is_well, "{shown}");
}

/// The same, with something that happens before Enter is typed; answers whether the run ended well, and what the
/// terminal has shown.
#[cfg(target_os = "linux")]
fn entered_after(
    question: &str,
    quickstart: &Quickstart,
    meanwhile: impl FnOnce(),
) -> (bool, String) {
    let mut terminal = Terminal::start(quickstart, "xterm", "run pipeline.toml --plain");
    terminal.shows(question);
    meanwhile();
    terminal.types("\n");
    let (code, written) = terminal.ends();
    (code == Some(0), written)
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_enter_goes_on_with_an_interrupted_run_whose_plan_is_the_same() {
    let quickstart = interrupted();
    entered_at(
        "was interrupted after 1 of 3 steps. Go on with it? [Y/n] ",
        &quickstart,
    );
    assert_eq!(states(&quickstart), ["succeeded"]);
    let counted = std::fs::read_to_string(quickstart.0.path().join("counted")).unwrap();
    assert_eq!(counted, "once\n");
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_that_somebody_else_resumes_while_it_is_asked_for_is_not_done_twice() {
    let quickstart = interrupted();
    let question = "was interrupted after 1 of 3 steps. Go on with it? [Y/n] ";
    let (is_well, shown) = entered_after(question, &quickstart, || {
        Ended::of(quickstart.vox().args(["run", "--resume"])).succeeded();
    });
    assert!(!is_well && shown.contains(" has succeeded"), "{shown}");
    assert_eq!(states(&quickstart), ["succeeded"]);
    for file in ["counted", "keys"] {
        let written = std::fs::read_to_string(quickstart.0.path().join(file)).unwrap();
        assert_eq!(written.lines().count(), 1, "{file}: {written}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_enter_does_not_go_on_with_a_plan_that_has_changed_since() {
    let quickstart = interrupted();
    let edited = plan("test", &format!("{IN_THREE_STEPS}\n# edited\n"));
    quickstart.0.write("pipeline.toml", &edited);
    entered_at(
        "and the plan has changed since. Go on with the plan as it was? [y/N] ",
        &quickstart,
    );
    assert_eq!(states(&quickstart), ["succeeded", "interrupted"]);
}
