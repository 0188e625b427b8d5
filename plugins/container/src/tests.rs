//! What a step promises, against a Podman.

mod pulling;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vox_plugin::serde_json::{Value, json};
use vox_plugin::step::{Artifact, Invocation, Outcome};
use vox_plugin::{Attribute, Error, Result, attribute};

use crate::testing::{IMAGE, Memory, Podman, kill_guard, podman};
use crate::{Settings, carry_out, skipped};

/// A step of a run of its own.
fn step(arguments: Value) -> Invocation {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let number = RUNS.fetch_add(1, Ordering::Relaxed);
    let run = format!("run-{}-{number}", std::process::id());
    Invocation {
        idempotency_key: format!("key-{run}"),
        run,
        step: "step".to_owned(),
        runner: "container".to_owned(),
        arguments: arguments.to_string(),
        environment: Vec::new(),
        directory: "/".to_owned(),
        attempt: 1,
        inputs: Vec::new(),
        outputs: vec!["stdout".to_owned(), "stderr".to_owned()],
        input_files: Vec::new(),
        output_files: Vec::new(),
    }
}

/// A step that runs a script in the test image.
pub fn shell(script: &str) -> Invocation {
    step(json!({ "image": IMAGE, "shell": script }))
}

fn with(mut step: Invocation, more: Value) -> Invocation {
    let mut arguments: Value = vox_plugin::serde_json::from_str(&step.arguments).unwrap();
    let members = more.as_object().unwrap().clone();
    arguments.as_object_mut().unwrap().extend(members);
    step.arguments = arguments.to_string();
    step
}

fn file(directory: &Path, name: &str) -> Artifact {
    Artifact {
        name: name.to_owned(),
        path: directory.join(name).to_string_lossy().into_owned(),
    }
}

fn run_on(podman: &Podman, mut step: Invocation, streams: &Arc<Memory>) -> Result<Outcome> {
    if streams.has_input() {
        step.inputs = vec!["stdin".to_owned()];
    }
    let settings = Settings {
        socket: Some(podman.socket().to_string_lossy().into_owned()),
    };
    let run = step.run.clone();
    let outcome = carry_out(&step, &settings, &(Arc::clone(streams) as _));
    assert!(podman.containers(&run).is_empty(), "a container is left");
    outcome
}

/// Runs a step. Whatever comes of it, no container is left.
fn run(podman: &Podman, step: Invocation, streams: Memory) -> (Result<Outcome>, Arc<Memory>) {
    let _turn = podman.shared();
    let streams = Arc::new(streams);
    let outcome = run_on(podman, step, &streams);
    (outcome, streams)
}

fn value<'a>(attributes: &'a [Attribute], key: &str) -> &'a str {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    found.map_or("", |attribute| &attribute.value)
}

macro_rules! podman_or_skip {
    () => {
        match podman() {
            Some(podman) => podman,
            None => return,
        }
    };
}

#[test]
fn what_a_container_makes_is_at_its_place_when_it_succeeds() {
    let podman = podman_or_skip!();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("names"), "b\na\n").unwrap();
    let mut step = shell(
        "sort $VOX_INPUT_NAMES > $VOX_OUTPUT_SORTED_TXT && mkdir /vox/out/tree && echo x > \
         /vox/out/tree/leaf",
    );
    step.input_files = vec![file(directory.path(), "names")];
    step.output_files = vec![
        file(directory.path(), "sorted.txt"),
        file(&directory.path().join("deep"), "tree"),
    ];
    let (outcome, _) = run(podman, step, Memory::default());
    let outcome = outcome.unwrap();
    assert_eq!(outcome.code, 0, "{}", outcome.summary);
    assert_eq!(value(&outcome.attributes, "image"), IMAGE);
    assert!(value(&outcome.attributes, "image-id").starts_with("sha256:"));
    assert!(value(&outcome.attributes, "container").starts_with("vox-step-"));
    assert_eq!(value(&outcome.attributes, "exit-code"), "0");
    let made = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    assert_eq!(made("sorted.txt"), "a\nb\n");
    assert_eq!(made("deep/tree/leaf"), "x\n");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
}

#[test]
fn a_container_that_fails_delivers_nothing() {
    let podman = podman_or_skip!();
    let directory = tempfile::tempdir().unwrap();
    let mut step = shell("echo half > /vox/out/result; exit 1");
    step.output_files = vec![file(directory.path(), "result")];
    let (outcome, _) = run(podman, step, Memory::default());
    assert_eq!(outcome.unwrap().code, 1);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn an_input_cannot_be_written() {
    let podman = podman_or_skip!();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("data"), "before").unwrap();
    let mut step = shell("cat /vox/in/data; echo after > /vox/in/data");
    step.input_files = vec![file(directory.path(), "data")];
    let (outcome, streams) = run(podman, step, Memory::default());
    let outcome = outcome.unwrap();
    assert_ne!(outcome.code, 0);
    assert!(outcome.summary.contains("Read-only"), "{}", outcome.summary);
    assert_eq!(streams.text("stdout"), "before");
    assert_eq!(fs::read(directory.path().join("data")).unwrap(), b"before");
}

#[test]
fn a_container_has_no_network_and_no_privileges() {
    let podman = podman_or_skip!();
    let script = "ls /sys/class/net; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status";
    let (outcome, streams) = run(podman, shell(script), Memory::default());
    assert_eq!(outcome.unwrap().code, 0);
    let told = streams.text("stdout");
    let lines: Vec<String> = told.lines().map(|line| line.replace('\t', "")).collect();
    let none = "0000000000000000";
    assert_eq!(
        lines,
        [
            "lo".to_owned(),
            format!("CapEff:{none}"),
            format!("CapBnd:{none}"),
            "NoNewPrivs:1".to_owned()
        ]
    );
}

#[test]
fn a_capability_is_kept_for_the_asking() {
    let podman = podman_or_skip!();
    let step = with(
        shell("grep CapEff /proc/self/status"),
        json!({ "capabilities": ["CHOWN"] }),
    );
    let (_, streams) = run(podman, step, Memory::default());
    assert!(streams.text("stdout").ends_with("0001\n"));
}

#[test]
fn the_images_files_can_be_kept_from_change() {
    let podman = podman_or_skip!();
    let script = "echo x > /tmp/a && cat /tmp/a && echo y > /etc/b";
    let step = with(shell(script), json!({ "read-only": true, "tmpfs": "1MiB" }));
    let (outcome, streams) = run(podman, step, Memory::default());
    let outcome = outcome.unwrap();
    assert_eq!(streams.text("stdout"), "x\n");
    assert!(outcome.summary.contains("Read-only"), "{}", outcome.summary);
}

#[test]
fn a_container_that_uses_too_much_memory_is_killed() {
    let podman = podman_or_skip!();
    // A tmpfs counts as memory; so does a string in a shell.
    let script = "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo ${#x}";
    let step = with(shell(script), json!({ "limits": { "memory": "32MiB" } }));
    let (outcome, streams) = run(podman, step, Memory::default());
    let outcome = outcome.unwrap();
    if streams.text("stdout") == "100000000\n" {
        skipped::because("cgroups do not limit memory here");
        return;
    }
    assert_ne!(outcome.code, 0);
    assert!(outcome.summary.contains("32 MiB"), "{}", outcome.summary);
    assert!(
        outcome.summary.contains("`limits.memory`"),
        "{}",
        outcome.summary
    );
}

#[test]
fn the_environment_is_the_steps_and_the_runs() {
    let podman = podman_or_skip!();
    let mut step = shell("env");
    step.environment = vec![attribute("GREETING", "hello world")];
    let run_id = step.run.clone();
    let (_, streams) = run(podman, step, Memory::default());
    let told = streams.text("stdout");
    for expected in [
        "GREETING=hello world",
        &format!("VOX_RUN={run_id}"),
        "VOX_STEP=step",
        "VOX_ATTEMPT=1",
        &format!("VOX_IDEMPOTENCY_KEY=key-{run_id}"),
    ] {
        assert!(told.lines().any(|line| line == expected), "{told}");
    }
    assert!(!told.contains("CARGO"), "{told}");
}

#[test]
fn output_arrives_whole_and_in_order() {
    let podman = podman_or_skip!();
    let script = "echo first >&2; seq 1 300000; echo last >&2; printf end";
    let (outcome, streams) = run(podman, shell(script), Memory::default());
    assert_eq!(outcome.unwrap().code, 0);
    let numbers: Vec<String> = (1..=300_000)
        .map(|number: u32| number.to_string())
        .collect();
    let expected = format!("{}\nend", numbers.join("\n"));
    assert!(streams.text("stdout") == expected);
    assert_eq!(streams.text("stderr"), "first\nlast\n");
}

#[test]
fn a_slow_reader_holds_the_container_up_and_misses_nothing() {
    let podman = podman_or_skip!();
    let slow = Memory::slow(Duration::from_millis(5));
    let (outcome, streams) = run(podman, shell("seq 1 1000000"), slow);
    assert_eq!(outcome.unwrap().code, 0);
    assert_eq!(streams.chunks("stdout").concat().len(), 6_888_896);
}

#[test]
fn input_of_any_length_comes_out_again() {
    let podman = podman_or_skip!();
    let chunk = b"0123456789abcde\n".repeat(4096);
    let input = Memory::with_input(vec![chunk.clone(); 20]);
    let step = step(json!({ "image": IMAGE, "command": ["cat"] }));
    let (outcome, streams) = run(podman, step, input);
    assert_eq!(outcome.unwrap().code, 0);
    assert!(streams.chunks("stdout").concat() == chunk.repeat(20));
}

#[test]
fn without_input_there_is_nothing_to_read() {
    let podman = podman_or_skip!();
    let (outcome, streams) = run(podman, shell("wc -c"), Memory::default());
    assert_eq!(outcome.unwrap().code, 0);
    assert_eq!(streams.text("stdout").trim(), "0");
}

#[test]
fn input_that_is_not_read_does_not_keep_the_step_from_ending() {
    let podman = podman_or_skip!();
    let (outcome, _) = run(podman, shell("exit 0"), Memory::with_endless_input());
    assert_eq!(outcome.unwrap().code, 0);
}

#[test]
fn a_failure_has_its_code_and_last_words() {
    let podman = podman_or_skip!();
    let script = "echo first >&2; echo no such luck >&2; exit 3";
    let (outcome, _) = run(podman, shell(script), Memory::default());
    let outcome = outcome.unwrap();
    assert_eq!(outcome.code, 3);
    assert_eq!(value(&outcome.attributes, "exit-code"), "3");
    assert_eq!(
        outcome.summary,
        format!("a container of `{IMAGE}` exited with code 3\nfirst\nno such luck")
    );
}

#[test]
fn a_writer_whose_reader_had_enough_has_succeeded() {
    let podman = podman_or_skip!();
    let refusing = Memory::refusing(|| Error::Unavailable("enough".to_owned()));
    let (outcome, _) = run(podman, shell("yes"), refusing);
    assert_eq!(outcome.unwrap().code, 0);
}

#[test]
fn a_container_goes_at_once_when_the_step_is_cancelled() {
    let podman = podman_or_skip!();
    let began = Instant::now();
    let script = "echo; sleep 1000";
    let (outcome, _) = run(podman, shell(script), Memory::cancelled_by_output());
    assert_eq!(outcome.unwrap_err(), Error::Cancelled);
    assert!(began.elapsed() < Duration::from_secs(60));
    let (outcome, _) = run(podman, shell(script), Memory::cancelled());
    assert_eq!(outcome.unwrap_err(), Error::Cancelled);
}

#[test]
fn a_container_that_vanishes_is_told() {
    let podman = podman_or_skip!();
    let step = shell("echo; sleep 1000");
    let run_id = step.run.clone();
    let removed = Memory::doing_at_output(move || {
        let name = podman.containers(&run_id).remove(0);
        podman.call(&["rm", "-f", "-t", "0", &name]).unwrap();
    });
    let (outcome, _) = run(podman, step, removed);
    let told = outcome.unwrap_err().to_string();
    assert!(told.contains("vanished"), "{told}");
}

#[test]
fn a_program_that_the_image_does_not_have_is_told() {
    let podman = podman_or_skip!();
    let step = step(json!({ "image": IMAGE, "command": ["frobnicate"] }));
    let (outcome, _) = run(podman, step, Memory::default());
    let told = outcome.unwrap_err().to_string();
    assert!(told.contains("frobnicate"), "{told}");
    assert!(told.contains("has no such program"), "{told}");
}

#[test]
fn an_image_that_is_missing_is_told_with_what_to_do() {
    let podman = podman_or_skip!();
    let image = "localhost:1/vox/none:1";
    let never = step(json!({ "image": image, "pull": "never" }));
    let Err(Error::NotFound(told)) = run(podman, never, Memory::default()).0 else {
        panic!("it was found")
    };
    assert!(told.contains(&format!("podman pull {image}")), "{told}");
    let Err(Error::Unavailable(told)) =
        run(podman, step(json!({ "image": image })), Memory::default()).0
    else {
        panic!("it was pulled")
    };
    assert!(told.contains("cannot be pulled"), "{told}");
    assert!(told.contains("podman login"), "{told}");
}

#[test]
fn an_engine_that_cannot_be_reached_is_told_with_what_to_do() {
    let settings = Settings {
        socket: Some("/nowhere/engine.sock".to_owned()),
    };
    let streams = Arc::new(Memory::default());
    let told = carry_out(&shell("true"), &settings, &(streams as _)).unwrap_err();
    let Error::Unavailable(told) = told else {
        panic!("{told}")
    };
    assert!(told.contains("/nowhere/engine.sock"), "{told}");
    assert!(told.contains("is the engine running?"), "{told}");
}

#[test]
fn a_snapshot_is_what_the_next_step_builds_in() {
    let podman = podman_or_skip!();
    let mut first = with(shell("echo made > /made"), json!({ "commit": "deps" }));
    first.environment = vec![attribute("TOKEN", "secret")];
    let run_id = first.run.clone();
    let outcome = run(podman, first, Memory::default()).0.unwrap();
    assert_eq!(outcome.code, 0, "{}", outcome.summary);
    let name = format!("localhost/vox/{run_id}/deps:latest");
    assert_eq!(value(&outcome.attributes, "snapshot"), name);
    let label = podman
        .call(&["image", "inspect", &name, "--format", "{{.Config}}"])
        .unwrap();
    assert!(label.contains(&run_id), "{label}");
    assert!(!label.contains("secret"), "{label}");

    let mut second = step(json!({ "builds_in": "deps", "shell": "cat /made; echo [$TOKEN]" }));
    second.run.clone_from(&run_id);
    let (outcome, streams) = run(podman, second, Memory::default());
    assert_eq!(outcome.unwrap().code, 0);
    assert_eq!(streams.text("stdout"), "made\n[]\n");

    let id = value(&outcome_of_id(podman, &run_id), "image-id").to_owned();
    let by_id = step(json!({ "builds_in": id, "command": ["cat", "/made"] }));
    let (outcome, _) = run(podman, by_id, Memory::default());
    assert_eq!(outcome.unwrap().code, 0);

    let another_run = step(json!({ "builds_in": "deps", "shell": "true" }));
    let Err(Error::NotFound(told)) = run(podman, another_run, Memory::default()).0 else {
        panic!("it was found")
    };
    assert!(told.contains("commit = \"deps\""), "{told}");
    podman.call(&["rmi", "-f", &name]).unwrap();
}

fn outcome_of_id(podman: &Podman, run_id: &str) -> Vec<Attribute> {
    let mut step = step(json!({ "builds_in": "deps", "shell": "true" }));
    step.run = run_id.to_owned();
    run(podman, step, Memory::default()).0.unwrap().attributes
}

#[test]
fn what_an_earlier_try_has_left_is_removed_before_the_next() {
    let podman = podman_or_skip!();
    let step = shell("true");
    let (run_label, key_label) = (
        format!("dev.vox.run={}", step.run),
        format!("dev.vox.key={}", step.idempotency_key),
    );
    podman
        .call(&[
            "run",
            "-d",
            "--network=none",
            "-l",
            &run_label,
            "-l",
            &key_label,
            IMAGE,
            "sleep",
            "1000",
        ])
        .unwrap();
    assert_eq!(podman.containers(&step.run).len(), 1);
    let (outcome, _) = run(podman, step, Memory::default());
    assert_eq!(outcome.unwrap().code, 0);
}

/// Not a test by itself: the host that others kill.
#[test]
#[ignore = "runs until it is killed; other tests start it"]
fn host_that_is_killed() {
    let (Ok(socket), Ok(run)) = (
        std::env::var("VOX_TEST_SOCKET"),
        std::env::var("VOX_TEST_RUN"),
    ) else {
        return;
    };
    let settings = Settings {
        socket: Some(socket),
    };
    let mut step = shell("echo; sleep 1000");
    step.run = run;
    // The line that the container writes comes here; then it sleeps.
    let streams = Arc::new(Memory::doing_at_output(|| println!("\nit runs")));
    let _ = carry_out(&step, &settings, &(streams as _));
}

/// Starts a host, and waits until its container runs.
fn host(podman: &Podman, run: &str) -> std::process::Child {
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "tests::host_that_is_killed",
            "--nocapture",
        ])
        .env("VOX_TEST_SOCKET", podman.socket())
        .env("VOX_TEST_RUN", run)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let told = BufReader::new(host.stdout.take().unwrap());
    let runs = told.lines().any(|line| line.unwrap() == "it runs");
    assert!(runs, "the host ended");
    host
}

#[test]
fn a_killed_host_leaves_nothing() {
    let podman = podman_or_skip!();
    let _turn = podman.alone();
    let run_id = shell("").run;
    let mut host = host(podman, &run_id);
    assert_eq!(podman.containers(&run_id).len(), 1);
    host.kill().unwrap();
    host.wait().unwrap();
    podman.wait_until_gone(&run_id);
}

#[test]
fn what_a_killed_host_and_its_killed_guard_leave_is_removed_by_the_next_step() {
    let podman = podman_or_skip!();
    let _turn = podman.alone();
    let run_id = shell("").run;
    let mut host = host(podman, &run_id);
    let name = podman.containers(&run_id).remove(0);
    kill_guard(&name);
    host.kill().unwrap();
    host.wait().unwrap();
    assert_eq!(podman.containers(&run_id).len(), 1);
    let outcome = run_on(podman, shell("true"), &Arc::new(Memory::default()));
    assert_eq!(outcome.unwrap().code, 0);
    assert!(podman.containers(&run_id).is_empty());
}
