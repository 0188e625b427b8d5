//! What steps write and what they are called, as people see it and paste it.

use crate::Place;

/// A user of `exec` with a pipeline of these steps.
fn place(steps: &str) -> Place {
    let place = Place::with(&["exec"]);
    let pipeline = format!("[pipeline]\nname = \"test\"\n{steps}");
    place.write("pipeline.toml", &pipeline);
    place
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
