//! Hosts, and guards, that are killed.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use vox_plugin::attribute;
use vox_plugin::serde_json::json;

use crate::guard;
use crate::mark::NAME;
use crate::testing::{Memory, carried_out, fact, fifo, invocation, is_gone, pids};

/// Longer than anything here takes on the slowest machine.
const DEADLINE: Duration = Duration::from_secs(60);

fn ran() {
    let (outcome, _) = carried_out(&invocation(json!({ "shell": ":" })), Memory::default());
    assert_eq!(outcome.unwrap().code, 0);
}

/// The processes of these ids, each with what becomes readable when it has ended.
fn watched(text: &str) -> Vec<(Pid, OwnedFd)> {
    let open = |pid| (pid, pidfd_open(pid, PidfdFlags::empty()).unwrap());
    pids(text.as_bytes()).into_iter().map(open).collect()
}

#[test]
fn a_guard_that_has_been_killed_is_replaced() {
    ran();
    let first = guard::id().unwrap();
    kill_process(first, Signal::KILL).unwrap();
    let began = Instant::now();
    // It may take a moment to end.
    while guard::id() == Some(first) {
        ran();
        assert!(began.elapsed() < DEADLINE);
    }
    assert!(!is_gone(guard::id().unwrap()));
}

/// Runs a guard to its end, for a host that has told of groups and died.
fn guard_a_host_that_told(mark: &str, told: &str) {
    let mut guard = Command::new("/bin/sh")
        .args(["-c", include_str!("guard.sh"), "vox-guard", mark])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = guard.stdin.take().unwrap();
    line.write_all(told.as_bytes()).unwrap();
    drop(line);
    assert!(guard.wait().unwrap().success());
}

#[test]
fn a_group_that_was_not_told_yet_is_found_by_the_mark_of_its_leader() {
    let mark = format!("vox-test-{}.", std::process::id());
    let mut leader = Command::new("/bin/sh")
        .args(["-c", "env -i sleep 1000 & echo $!; wait"])
        .env(NAME, format!("{mark}0"))
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let output = BufReader::new(leader.stdout.take().unwrap());
    output.take(64).read_line(&mut line).unwrap();
    let unmarked = watched(&line);
    guard_a_host_that_told(&mark, "");
    assert!(all_end(&unmarked));
    leader.wait().unwrap();
}

#[test]
fn a_guard_ends_the_groups_that_are_open_and_no_other() {
    let sleep = || {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000").process_group(0).spawn().unwrap()
    };
    let mut groups = [sleep(), sleep(), sleep(), sleep()];
    let [first, second, third, fourth] = groups.each_ref().map(Child::id);
    let told = format!("+{first}\n+{second}\n+{third}\n-{second}\n+{fourth}\n-{first}\n");
    guard_a_host_that_told("no such mark.", &told);
    let [first, second, third, fourth] = &mut groups;
    // These were killed, or this would wait for long.
    third.wait().unwrap();
    fourth.wait().unwrap();
    for spared in [first, second] {
        assert!(spared.try_wait().unwrap().is_none());
        spared.kill().unwrap();
        spared.wait().unwrap();
    }
}

/// Waits until every one of the processes has ended.
fn all_end(processes: &[(Pid, OwnedFd)]) -> bool {
    let patience = Timespec::try_from(DEADLINE).unwrap();
    processes.iter().all(|(_, process)| {
        poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&patience)) == Ok(1)
    })
}

/// Carries the step out that `EXEC_TEST_HOST` holds: the body of a host that another test starts.
#[test]
fn a_host_of_its_own() {
    let Ok(arguments) = std::env::var("EXEC_TEST_HOST") else {
        return;
    };
    let mut asked = invocation(vox_plugin::serde_json::from_str(&arguments).unwrap());
    asked.directory = std::env::var("EXEC_TEST_DIRECTORY").unwrap();
    let _ = carried_out(&asked, Memory::default());
}

/// A host in a process of its own, which runs a script that tells process ids in `told`.
struct Host {
    process: Child,
    /// What the script told, and what becomes readable when each process has ended.
    steps: Vec<(Pid, OwnedFd)>,
}

impl Host {
    fn start(script: &str, directory: &Path) -> Self {
        let told = fifo(directory, "told");
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::a_host_of_its_own", "--nocapture"])
            .env("EXEC_TEST_HOST", json!({ "shell": script }).to_string())
            .env("EXEC_TEST_DIRECTORY", directory)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(fs::File::open(told).unwrap())
            .read_line(&mut line)
            .unwrap();
        let steps = watched(&line);
        Self { process, steps }
    }
}

#[test]
fn a_host_that_is_killed_leaves_nothing_running() {
    let directory = tempfile::tempdir().unwrap();
    let script = "sleep 1000 & child=$!
        setsid sleep 1000 & daemon=$!
        env -i sleep 1000 & unmarked=$!
        trap '' TERM HUP
        echo $$ $child $daemon $unmarked > told
        while :; do sleep 1000; done";
    let mut host = Host::start(script, directory.path());
    assert_eq!(host.steps.len(), 4);
    host.process.kill().unwrap();
    host.process.wait().unwrap();
    assert!(all_end(&host.steps));
}

#[test]
fn a_host_within_a_step_leaves_nothing_running_when_the_step_is_ended() {
    let directory = tempfile::tempdir().unwrap();
    let told = fifo(directory.path(), "told");
    let executable = std::env::current_exe().unwrap();
    let mut asked = invocation(json!({
        "command": [executable, "--exact", "killed::a_host_of_its_own", "--nocapture"],
    }));
    let script = "setsid sleep 1000 >/dev/null 2>&1 & echo $$ $! > told; wait";
    asked.environment = vec![
        attribute("EXEC_TEST_HOST", json!({ "shell": script }).to_string()),
        attribute("EXEC_TEST_DIRECTORY", directory.path().to_str().unwrap()),
    ];
    let reader = thread::spawn(move || {
        let mut text = String::new();
        fs::File::open(told)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        watched(&text)
    });
    let outer = thread::spawn(move || carried_out(&asked, Memory::default()));
    let steps = reader.join().unwrap();
    assert_eq!(steps.len(), 2);
    // The parent of the inner step's leader is the inner host.
    kill_process(parent_of(steps[0].0), Signal::KILL).unwrap();
    let (outcome, _) = outer.join().unwrap();
    assert_eq!(fact(&outcome.unwrap(), "signal"), Some("9"));
    assert!(all_end(&steps));
}

fn parent_of(process: Pid) -> Pid {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    pids(fields.split_ascii_whitespace().nth(1).unwrap().as_bytes())[0]
}
