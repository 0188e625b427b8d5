//! What steps write and what they are called, as people see it and paste it.

use std::path::Path;

use crate::{Ended, Place};

/// A user of `exec` with a pipeline of these steps.
fn place(steps: &str) -> Place {
    let place = Place::with(&["exec"]);
    let pipeline = format!("[pipeline]\nname = \"test\"\n{steps}");
    place.write("pipeline.toml", &pipeline);
    place
}

/// What comes of a command that somebody pastes into a shell.
fn pasted(place: &Place, command: &str) -> Ended {
    let script = format!("vox() {{ \"$PROGRAM\" \"$@\"; }}\n{command}");
    Ended::of(
        place
            .program(Path::new("/bin/sh"))
            .env("PROGRAM", env!("CARGO_BIN_EXE_vox"))
            .env("VOX_DATA", place.data())
            .env("VOX_CACHE", &place.0.directories().cache)
            .args(["-c", &script]),
    )
}

#[test]
fn what_a_step_writes_cannot_paint_over_what_vox_says() {
    let place = place(
        r#"
        [[step]]
        key = "paint"
        uses = "exec"
        with = { shell = "printf '\\033[2J\\033[31mred\\n'; exit 1" }
        "#,
    );
    let red = "\u{fffd}[2J\u{1b}[31mred\u{1b}[0m\n";
    let shown = place.run(["--color", "always", "run"]).failed(1, &[]);
    // As it comes, and among the last lines of what failed.
    assert_eq!(shown.stdout.matches(red).count(), 2, "{:?}", shown.stdout);
    assert!(!shown.stdout.contains("\u{1b}[2J"), "{:?}", shown.stdout);
    for again in [["show", "last"], ["logs", "last"]] {
        let shown = place.run(["--color", "always", "runs"].iter().chain(&again));
        let shown = shown.succeeded().stdout;
        assert_eq!(shown.matches(red).count(), 1, "{again:?}: {shown:?}");
    }
    // The log of one step is what it wrote.
    let logs = ["--color", "always", "runs", "logs", "last", "paint"];
    let written = place.run(logs).succeeded().stdout;
    assert_eq!(written, "\u{1b}[2J\u{1b}[31mred\n");
}

#[test]
fn the_log_of_one_step_has_its_colours_and_zero_bytes_in_a_file_too() {
    let place = place(
        r#"
        [[step]]
        key = "paint"
        uses = "exec"
        with = { shell = "printf '\\033[31mred\\000\\377\\376\\n'" }
        "#,
    );
    place.run(["run"]).succeeded();
    let logs = ["runs", "logs", "last", "paint"];
    let written = place.run(logs).succeeded().stdout;
    assert_eq!(written, "\u{1b}[31mred\0\u{fffd}\u{fffd}\n");
    let uncoloured = place.run(["--color", "never"].iter().chain(&logs));
    let uncoloured = uncoloured.succeeded().stdout;
    assert!(uncoloured.starts_with("red"), "{uncoloured:?}");
}

/// What stands behind `before` in the one line that has it.
#[track_caller]
fn behind<'t>(text: &'t str, before: &str) -> &'t str {
    let mut found = text.lines().filter_map(|line| line.split_once(before));
    let (_, rest) = found.next().unwrap_or_else(|| panic!("{before}: {text}"));
    assert!(found.next().is_none(), "{before}: {text}");
    rest
}

#[test]
fn a_command_that_vox_names_can_be_pasted_whatever_the_step_is_called() {
    for name in ["$(touch pwned) it's", "-f", "a&b", "بناء"] {
        let place = place(&format!(
            r#"
            [[step]]
            key = "{name}"
            uses = "exec"
            with = {{ shell = "echo said; exit 1" }}
            "#
        ));
        let ran = place.run(["run"]).failed(1, &[]).stdout;
        let shown = place.run(["runs", "show", "last"]).succeeded().stdout;
        for told in [ran, shown] {
            let log = pasted(&place, behind(&told, "all of it: ")).succeeded();
            assert_eq!(log.stdout, "said\n", "{told}");
        }
        assert!(!place.path().join("pwned").exists());
    }
}

#[test]
fn the_log_of_a_result_from_the_cache_is_named_by_a_command_that_can_be_pasted() {
    let place = place(
        r#"
        [[step]]
        key = "$(touch pwned) it's"
        uses = "exec"
        cache = true
        inputs = {}
        with = { shell = "echo said" }
        "#,
    );
    place.run(["run"]).succeeded();
    place.run(["run"]).succeeded();
    let told = place.run(["runs", "logs", "last"]).succeeded().stderr;
    let command = behind(&told, "was carried out by run ");
    let (_, command) = command.split_once(": ").unwrap();
    let log = pasted(&place, command).succeeded();
    assert_eq!(log.stdout, "said\n", "{told}");
    assert!(!place.path().join("pwned").exists());
}
