//! Pipelines: what a run shows, how it ends, and how it is interrupted.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use vox_run::record::Told;
use vox_testkit::checkout;

use crate::{Ended, Place, path};

const QUICKSTART: &str = "examples/quickstart/pipeline.toml";

/// A user who has everything that the quickstart needs in `VOX_PLUGIN_PATH`, trusts it and
/// granted it.
pub(crate) struct Quickstart(pub(crate) Place);

impl Quickstart {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn vox(&self) -> Command {
        let mut command = self.0.vox();
        command.env("VOX_PLUGIN_PATH", vox_testkit::plugins());
        command
    }

    /// Runs a pipeline of these steps.
    pub(crate) fn run(&self, steps: &str) -> Command {
        let pipeline = format!("[pipeline]\nname = \"test\"\n{steps}");
        let mut command = self.vox();
        command
            .arg("run")
            .arg(self.0.write("pipeline.toml", &pipeline));
        command
    }
}

/// The report of a run, from the events that it printed as JSON.
pub(crate) fn report(events: &str) -> Value {
    let mut told = Told::default();
    for line in events.lines() {
        told.take(serde_json::from_str(line).unwrap());
    }
    serde_json::to_value(told.into_report().unwrap()).unwrap()
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
    let report = report(&ended.succeeded().stdout);
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
fn a_step_begins_only_when_the_end_of_what_it_needs_is_durable() {
    let quickstart = Quickstart::new();
    let directory = quickstart.0.path();
    for pipe in ["ready", "gate"] {
        let made = Command::new("mkfifo").arg(directory.join(pipe)).status();
        assert!(made.unwrap().success());
    }
    let mut run = quickstart
        .run(
            r#"
            [[step]]
            key = "first"
            uses = "exec"
            with = { command = ["sh", "-c", "echo > ready; cat gate"] }
            [[step]]
            key = "second"
            uses = "exec"
            needs = ["first"]
            with = { command = ["touch", "second-was-here"] }
            "#,
        )
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Either end of a pipe waits for the other.
    std::fs::read(directory.join("ready")).unwrap();
    let log = rusqlite::Connection::open(quickstart.0.data().join("log/log.db")).unwrap();
    log.busy_timeout(Duration::from_secs(10)).unwrap();
    log.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::fs::write(directory.join("gate"), "").unwrap();
    // Nothing tells that a step does not begin; one that did would within a few milliseconds.
    let second = directory.join("second-was-here");
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        assert!(!second.exists());
        std::thread::sleep(Duration::from_millis(10));
    }
    log.execute_batch("COMMIT").unwrap();
    assert!(run.wait().unwrap().success());
    assert!(second.exists());
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
        shown.contains("failed: break (exec) after ")
            && shown.contains("\n  `/bin/sh` exited with code 7\n")
            && shown.contains("\n  | gone\n")
            && shown.contains("1 step did not run because of it")
            && shown.contains("all of it: vox runs logs "),
        "{shown}"
    );
    assert!(
        shown.contains("after skipped") && shown.contains("test failed"),
        "{shown}"
    );
}

/// The files below a directory in which a text stands.
fn files_with(directory: &Path, text: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let found = entries.flat_map(|entry| {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            return files_with(&path, text);
        }
        let is_found = kind.is_file() && {
            let bytes = std::fs::read(&path).unwrap();
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        Vec::from_iter(is_found.then_some(path))
    });
    found.collect()
}

#[test]
fn a_secret_in_the_last_words_of_a_program_is_told_nowhere_and_to_no_hook() {
    const SECRET: &str = "correct-horse-battery-staple";
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    let mut run = quickstart.run(
        r#"
        [[step]]
        key = "a"
        uses = "exec"
        secrets = ["TOKEN"]
        with = { shell = "echo it is $TOKEN >&2; exit 3" }
        [[hook]]
        uses = "journal"
        "#,
    );
    let ended = Ended::of(run.env("TOKEN", SECRET)).failed(1, &[]);
    let said = ended.stdout + &ended.stderr;
    assert!(
        said.contains("it is [secret]") && !said.contains(SECRET),
        "{said}"
    );
    let shown = place.json(&["runs", "show", "last"]);
    let message = shown["steps"][0]["message"].as_str().unwrap();
    assert!(message.contains("it is [secret]"), "{message}");
    assert_eq!(files_with(place.data(), SECRET), Vec::<PathBuf>::new());
    // What the journal was told it keeps.
    let journal = place.data().join("kv/journal");
    assert!(!files_with(&journal, "it is [secret]").is_empty());
}

#[test]
fn a_runner_that_is_missing_is_told_with_the_command_that_installs_it() {
    let place = Place::new();
    place
        .run([Path::new("run"), &checkout().join(QUICKSTART)])
        .failed(3, &["`exec`", "vox plugin install exec"]);
}

/// A run whose step has written a line.
pub(crate) struct Underway {
    vox: Child,
    /// The line, which is the id of the step's process.
    pub(crate) step: String,
    errors: BufReader<std::process::ChildStderr>,
    /// Reads the lines that come after it.
    rest: JoinHandle<Vec<String>>,
}

impl Underway {
    pub(crate) fn start(mut command: Command) -> Self {
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
        let rest = std::thread::spawn(move || lines.collect());
        Self {
            vox,
            step: step.expect("the step wrote a line"),
            errors,
            rest,
        }
    }

    /// Waits until the record knows of the step's try, which begins without waiting for that.
    pub(crate) fn recorded(self, quickstart: &Quickstart) -> Self {
        let tries = ["log", "ls", "--kind", "run.steps-started", "--step", "wait"];
        let began = Instant::now();
        loop {
            let listed = quickstart.0.run(tries.iter().chain(&["--format", "json"]));
            if !listed.succeeded().stdout.is_empty() {
                return self;
            }
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn interrupt(&self) {
        assert!(send("INT", &self.pid()));
    }

    pub(crate) fn pid(&self) -> String {
        self.vox.id().to_string()
    }

    /// The next line on standard error.
    pub(crate) fn hear(&mut self) -> String {
        let mut heard = String::new();
        self.errors.read_line(&mut heard).unwrap();
        heard
    }

    /// Kills it, and waits until what guards the run's programs has ended them with it.
    pub(crate) fn kill(self) {
        assert!(send("KILL", &self.pid()));
        let step = self.step.clone();
        self.end();
        wait_for_the_end_of(&step);
    }

    /// The exit code, and what else was said on standard error.
    pub(crate) fn end(self) -> (Option<i32>, String) {
        let (code, said, _) = self.end_with_lines();
        (code, said)
    }

    /// The same with the lines that were shown after the one of the step.
    pub(crate) fn end_with_lines(mut self) -> (Option<i32>, String, Vec<String>) {
        let mut said = String::new();
        self.errors.read_to_string(&mut said).unwrap();
        let code = self.vox.wait().unwrap().code();
        (code, said, self.rest.join().unwrap())
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

/// Waits until a process has ended, which nothing tells who did not start it.
pub(crate) fn wait_for_the_end_of(process: &str) {
    let began = Instant::now();
    while is_running(process) {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(10));
    }
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
    let heard = run.hear();
    assert!(heard.contains("interrupted"), "{heard}");
    run.interrupt();
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    // Nor does it leave the program behind: what guards the run's programs ends it.
    wait_for_the_end_of(&step);
}

/// `a` is done, `wait` waits for a file, `end` comes after both.
pub(crate) const IN_THREE_STEPS: &str = r#"
    [[step]]
    key = "a"
    uses = "exec"
    with = { shell = "echo once >> counted; echo made > out.txt" }
    outputs = { made = { path = "out.txt" } }
    [[step]]
    key = "wait"
    uses = "exec"
    needs = ["a"]
    with = { shell = "echo $$; while [ ! -e go ]; do sleep 0.05; done; echo $VOX_IDEMPOTENCY_KEY $VOX_ATTEMPT >> keys" }
    [[step]]
    key = "end"
    uses = "exec"
    needs = ["wait"]
    with = { command = ["cat", "out.txt"] }
    inputs = { made = { from = "a.made" } }
"#;

#[test]
fn a_run_that_was_killed_goes_on_where_it_stopped() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    let run = Underway::start(quickstart.run(IN_THREE_STEPS));
    run.recorded(&quickstart).kill();
    let listed = place.json(&["runs", "ls"]);
    assert_eq!(listed[0]["state"], "interrupted", "{listed:#}");

    place.write("go", "");
    let resume = ["run", "--resume", "--format", "json"];
    let ended = Ended::of(quickstart.vox().args(resume));
    let report = report(&ended.succeeded().stdout);
    assert_eq!(report["status"], "succeeded", "{report:#}");
    assert_eq!(report["steps"][0]["earlier"], report["run"], "{report:#}");
    assert_eq!(report["steps"][1]["attempts"], 2, "{report:#}");
    let read = |name: &str| std::fs::read_to_string(place.path().join(name)).unwrap();
    assert_eq!(read("counted"), "once\n");
    let key = format!("{}/wait 2\n", report["run"].as_str().unwrap());
    assert_eq!(read("keys"), key);
    place.run(["log", "verify"]).succeeded();
    // There is nothing more to go on with.
    let again = Ended::of(quickstart.vox().args(["run", "--resume"]));
    again.failed(3, &["no run was interrupted"]);
}

#[test]
fn what_was_run_can_be_looked_at_and_run_again() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    place.write("fails", "");
    let steps = r#"
        [[step]]
        key = "a"
        uses = "exec"
        with = { shell = "echo said by a; echo once >> counted" }
        [[step]]
        key = "b"
        uses = "exec"
        needs = ["a"]
        with = { shell = "echo said by b; test ! -e fails" }
    "#;
    Ended::of(&mut quickstart.run(steps)).failed(1, &[]);
    let shown = place.run(["runs", "show", "last"]).succeeded().stdout;
    assert!(
        shown.contains("failed") && shown.contains("said by b"),
        "{shown}"
    );
    let log = place.run(["runs", "logs", "last", "a"]).succeeded().stdout;
    assert_eq!(log, "said by a\n");
    let replay = place.run(["runs", "replay", "last"]).succeeded().stdout;
    assert!(replay.contains("b | said by b"), "{replay}");
    let trace: Value =
        serde_json::from_str(&place.run(["runs", "trace", "last"]).succeeded().stdout).unwrap();
    assert!(
        trace["traceEvents"].as_array().unwrap().len() > 3,
        "{trace}"
    );

    std::fs::remove_file(place.path().join("fails")).unwrap();
    let rerun = ["runs", "rerun", "last", "--failed"];
    Ended::of(quickstart.vox().args(rerun)).succeeded();
    let counted = std::fs::read_to_string(place.path().join("counted")).unwrap();
    assert_eq!(counted, "once\n");
}

#[test]
fn a_run_that_was_given_a_variable_goes_on_only_with_it() {
    let quickstart = Quickstart::new();
    let steps = r#"
        [[step]]
        key = "a"
        uses = "exec"
        with = { shell = "test \"$STAGE\" = live && test -e there" }
    "#;
    let given = ["--env", "STAGE=live"];
    Ended::of(quickstart.run(steps).args(given)).failed(1, &[]);
    quickstart.0.write("there", "");
    let again = ["runs", "rerun", "last", "--failed"];
    let refused = Ended::of(quickstart.vox().args(again));
    let words = [
        "was given the variable `STAGE`, whose value is not recorded",
        "`--env STAGE`",
    ];
    refused.failed(5, &words);
    Ended::of(quickstart.vox().args(again).args(given)).succeeded();
}

#[test]
fn what_ran_because_of_a_failure_runs_again_with_what_failed() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    let steps = r#"
        [[step]]
        key = "lint"
        uses = "exec"
        with = { shell = "echo lint >> ran" }
        [[step]]
        key = "build"
        uses = "exec"
        needs = ["lint"]
        with = { shell = "echo build >> ran; grep -q green state" }
        [[step]]
        key = "report"
        uses = "exec"
        needs = ["build"]
        when = { needs = "ended" }
        with = { shell = "echo report >> ran; cp state report.txt" }
        outputs = { report = { path = "report.txt" } }
        [[step]]
        key = "alarm"
        uses = "exec"
        needs = ["build"]
        when = { needs = "failed" }
        with = { shell = "echo alarm >> ran" }
    "#;
    place.write("state", "red");
    Ended::of(&mut quickstart.run(steps)).failed(1, &[]);
    place.write("state", "green");
    let rerun = ["runs", "rerun", "last", "--failed", "--format", "json"];
    let told = Ended::of(quickstart.vox().args(rerun)).succeeded().stdout;
    let steps = report(&told)["steps"].take();
    let states = steps.as_array().unwrap().iter().map(|step| &step["status"]);
    assert_eq!(
        states.collect::<Vec<_>>(),
        ["succeeded", "succeeded", "succeeded", "skipped"]
    );
    let read = |name: &str| std::fs::read_to_string(place.path().join(name)).unwrap();
    assert_eq!(read("report.txt"), "green");
    let ran = read("ran");
    let mut ran: Vec<&str> = ran.lines().collect();
    ran.sort_unstable();
    assert_eq!(ran, ["alarm", "build", "build", "lint", "report", "report"]);
    // It has closed the log behind it: nobody has to take anything up from it.
    let listed = Ended::of(quickstart.vox().args(["runs", "ls"])).succeeded();
    assert_eq!(listed.stderr, "");
}

#[test]
fn of_a_run_in_which_nothing_failed_nothing_is_run_again() {
    let quickstart = Quickstart::new();
    let step = r#"
        [[step]]
        key = "a"
        uses = "exec"
        with = { command = ["true"] }
    "#;
    Ended::of(&mut quickstart.run(step)).succeeded();
    let rerun = ["runs", "rerun", "last", "--failed"];
    let said = Ended::of(quickstart.vox().args(rerun)).succeeded().stderr;
    assert!(said.contains("there is nothing to run again"), "{said}");
    let programs = Ended::of(quickstart.vox().args(rerun).args(["--format", "json"]));
    let said = programs.succeeded().stderr;
    let warning: Value = serde_json::from_str(&said).unwrap();
    let message = warning["warning"]["message"].as_str().unwrap();
    assert!(message.contains("nothing of run "), "{said}");
    let listed = quickstart.0.json(&["runs", "ls"]);
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed:#}");
}

#[test]
fn a_result_comes_from_the_cache_and_says_why() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    place.write("input.txt", "one");
    let steps = r#"
        [[step]]
        key = "copy"
        uses = "exec"
        cache = true
        with = { shell = "cp $VOX_INPUT_TEXT $VOX_OUTPUT_COPY; echo once >> counted" }
        inputs = { text = { path = "input.txt" } }
        outputs = { copy = { path = "out/copy.txt" } }
    "#;
    let counted = || std::fs::read_to_string(place.path().join("counted")).unwrap();
    let copy = place.path().join("out/copy.txt");
    Ended::of(&mut quickstart.run(steps)).succeeded();
    std::fs::remove_file(&copy).unwrap();
    let shown = Ended::of(&mut quickstart.run(steps)).succeeded().stdout;
    assert!(shown.contains("from the cache"), "{shown}");
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), "one");
    assert_eq!(counted(), "once\n");

    place.write("input.txt", "two");
    Ended::of(&mut quickstart.run(steps)).succeeded();
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), "two");
    assert_eq!(counted(), "once\nonce\n");
    let why = place.run(["cache", "explain", "copy"]).succeeded().stdout;
    assert!(why.contains("input.text input.txt"), "{why}");
    let listed = place.json(&["cache", "ls"]);
    let results = listed["results"].as_array().or(listed.as_array());
    assert_eq!(results.unwrap().len(), 2, "{listed:#}");
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
