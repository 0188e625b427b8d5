//! Pipelines: what a run shows, how it ends, and how it is interrupted.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use vox_testkit::checkout;

use crate::{Ended, Place, path};

const QUICKSTART: &str = "examples/quickstart/pipeline.toml";

/// A user who has everything that the quickstart needs in `VOX_PLUGIN_PATH`, trusts it and
/// granted it.
struct Quickstart(Place);

impl Quickstart {
    fn new() -> Self {
        let place = Place::new();
        for (id, capabilities) in [
            ("exec", &["process", "stream_io"][..]),
            ("redact", &["stream_io"]),
            ("wordstat", &["stream_io"]),
            ("journal", &["kv", "events"]),
        ] {
            place
                .run(["plugin", "grant", id].iter().chain(capabilities))
                .succeeded();
            let root = path(vox_testkit::plugins());
            place
                .run(["plugin", "trust", "allow", id, "--root", root])
                .succeeded();
        }
        Self(place)
    }

    fn vox(&self) -> Command {
        let mut command = self.0.vox();
        command.env("VOX_PLUGIN_PATH", vox_testkit::plugins());
        command
    }

    /// Runs a pipeline of these steps.
    fn run(&self, steps: &str) -> Command {
        let pipeline = format!("[pipeline]\nname = \"test\"\n{steps}");
        let mut command = self.vox();
        command
            .arg("run")
            .arg(self.0.write("pipeline.toml", &pipeline));
        command
    }
}

/// The values of a metric.
pub(crate) fn metric<'a>(report: &'a Value, name: &str) -> Vec<&'a Value> {
    let of_plugins = report["metrics"].as_array().unwrap().iter();
    let samples = of_plugins.flat_map(|metrics| metrics["samples"].as_array().unwrap());
    samples
        .filter(|sample| sample["name"] == name)
        .map(|sample| &sample["value"])
        .collect()
}

#[test]
fn the_quickstart_runs_and_reports_to_programs() {
    let ended = Ended::of(
        Quickstart::new()
            .vox()
            .args(["run", "--format", "json"])
            .arg(checkout().join(QUICKSTART)),
    );
    let report = ended.succeeded().json();
    assert_eq!(report["status"], "succeeded", "{report:#}");
    let masked = report["steps"]
        .as_array()
        .unwrap()
        .iter()
        .find(|step| step["key"] == "masked")
        .unwrap();
    let lines: Vec<_> = masked["output"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["text"].as_str().unwrap())
        .collect();
    assert!(
        lines.iter().any(|line| line.ends_with(" [email]")),
        "{lines:?}"
    );
    assert!(metric(&report, "words_total")[0].as_f64().unwrap() > 100_000.0);
}

#[test]
fn people_see_text_masked_and_events_in_lines_that_fit() {
    let ended = Ended::of(&mut Quickstart::new().run(
        r#"
        [[step]]
        key = "write"
        uses = "exec"
        with = { command = ["echo", "mail ada@example.org"] }
        [[step]]
        key = "show"
        uses = "exec"
        with = { command = ["cat"] }
        inputs = { stdin = { from = "write.stdout", through = [{ stage = "redact" }, { stage = "wordstat" }] } }
        [[hook]]
        uses = "journal"
        "#,
    ));
    let shown = ended.succeeded().stdout;
    assert!(shown.contains("\nshow  | mail [email]\n"), "{shown}");
    assert!(shown.contains("\nwords_total"), "{shown}");
    let events: Vec<&str> = shown
        .lines()
        .filter(|line| line.contains("journal: journal.entry {"))
        .collect();
    assert!(!events.is_empty(), "{shown}");
    assert!(
        events.iter().all(|line| line.chars().count() <= 100),
        "{shown}"
    );
    assert!(events.iter().any(|line| line.ends_with('…')), "{shown}");
}

#[test]
fn a_step_that_fails_fails_the_run() {
    let ended = Ended::of(&mut Quickstart::new().run(
        r#"
        [[step]]
        key = "break"
        uses = "exec"
        with = { shell = "echo gone; exit 7" }
        [[step]]
        key = "after"
        uses = "exec"
        with = { command = ["true"] }
        needs = ["break"]
        "#,
    ));
    let shown = ended.failed(1, &[]).stdout;
    assert!(
        shown.contains("failed: break: ") && shown.contains("\n  | gone\n"),
        "{shown}"
    );
    assert!(
        shown.contains("after skipped") && shown.contains("test failed"),
        "{shown}"
    );
}

#[test]
fn a_runner_that_is_missing_is_told_with_the_command_that_installs_it() {
    let place = Place::new();
    place
        .run([Path::new("run"), &checkout().join(QUICKSTART)])
        .failed(3, &["`exec`", "vox plugin install exec"]);
}

/// A run whose step has written a line.
struct Underway {
    vox: Child,
    /// The line, which is the id of the step's process.
    step: String,
    errors: BufReader<std::process::ChildStderr>,
}

impl Underway {
    fn start(mut command: Command) -> Self {
        let mut vox = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(vox.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let step = lines.find_map(|line| Some(line.strip_prefix("wait | ")?.to_owned()));
        let errors = BufReader::new(vox.stderr.take().unwrap());
        // Somebody has to read on, or the run would be told that nobody does.
        std::thread::spawn(move || lines.count());
        Self {
            vox,
            step: step.expect("the step wrote a line"),
            errors,
        }
    }

    fn interrupt(&self) {
        assert!(send("INT", &self.vox.id().to_string()));
    }

    /// The exit code, and what else was said on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.errors.read_to_string(&mut said).unwrap();
        (self.vox.wait().unwrap().code(), said)
    }
}

/// Whether a process has not ended yet. One that its new parent has not waited for has.
fn is_running(process: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    let is_dead = |stat: String| {
        stat.rsplit(')')
            .next()
            .is_some_and(|end| end.starts_with(" Z"))
    };
    send("0", process) && !stat.is_ok_and(is_dead)
}

/// Sends a signal, and answers whether there was a process to send it to.
pub(crate) fn send(signal: &str, process: &str) -> bool {
    let mut kill = Command::new("kill");
    kill.args(["-s", signal, "--", process])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

#[test]
fn ctrl_c_ends_the_run_and_the_programs_that_it_started() {
    let run = Underway::start(Quickstart::new().run(
        r#"
        [[step]]
        key = "wait"
        uses = "exec"
        with = { shell = "echo $$; exec sleep 1000" }
        "#,
    ));
    let step = run.step.clone();
    run.interrupt();
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    assert!(!send("0", &step));
}

#[test]
fn a_second_ctrl_c_waits_for_nobody() {
    let mut run = Underway::start(Quickstart::new().run(
        r#"
        [[step]]
        key = "wait"
        uses = "exec"
        with = { shell = "trap '' TERM; echo $$; exec sleep 1000" }
        "#,
    ));
    let step = run.step.clone();
    run.interrupt();
    let mut heard = String::new();
    run.errors.read_line(&mut heard).unwrap();
    assert!(heard.contains("interrupted"), "{heard}");
    run.interrupt();
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    // Nor does it leave the program behind: what guards the run's programs ends it.
    let began = Instant::now();
    while is_running(&step) {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_distribution_runs_the_quickstart_wherever_it_is_moved() {
    let place = Place::new();
    let out = place.path().join("here");
    place
        .run([
            "dist",
            "build",
            "vox-run",
            "--plugins",
            path(vox_testkit::plugins()),
            "--out",
            path(&out),
        ])
        .succeeded();
    let moved = place.path().join("there");
    std::fs::rename(out, &moved).unwrap();
    let ended = Ended::of(
        place
            .program(&moved.join("vox"))
            .arg("run")
            .arg(checkout().join(QUICKSTART)),
    )
    .succeeded();
    assert!(
        ended.stdout.contains("[email]") && ended.stdout.contains("quickstart succeeded"),
        "{}",
        ended.stdout
    );
}
