//! Programs that do what they should not.

use std::fs;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::thread;

#[cfg(target_os = "linux")]
use rustix::process::{Signal, kill_process};
use vox_plugin::Error;
use vox_plugin::serde_json::{Value, json};
use vox_plugin::step::Outcome;

use crate::skipped;
use crate::testing::{Memory, both_ways, carried_out, invocation, is_gone, pids};
#[cfg(target_os = "linux")]
use crate::testing::{fact, fifo};

fn ran(arguments: Value) -> (Outcome, Vec<u8>) {
    let (outcome, streams) = carried_out(&invocation(arguments), Memory::default());
    (outcome.unwrap(), streams.chunks("stdout").concat())
}

#[test]
fn cancellation_ends_the_whole_group() {
    let script = json!({ "shell": "sleep 1000 & echo $!; wait" });
    for (outcome, streams) in both_ways(&script, Memory::cancelled_by_output) {
        assert_eq!(outcome.unwrap_err(), Error::Cancelled);
        assert!(
            pids(&streams.chunks("stdout").concat())
                .into_iter()
                .all(is_gone)
        );
    }
}

#[test]
fn a_program_that_ignores_sigterm_is_killed() {
    let script = json!({ "shell": "trap '' TERM; echo $$; while :; do sleep 1000; done" });
    for (outcome, streams) in both_ways(&script, Memory::cancelled_by_output) {
        assert_eq!(outcome.unwrap_err(), Error::Cancelled);
        assert!(
            pids(&streams.chunks("stdout").concat())
                .into_iter()
                .all(is_gone)
        );
    }
}

#[test]
fn a_program_is_asked_to_end_by_the_signal_of_its_step() {
    // What runs in the background of a shell ignores some signals, and so does all that it starts.
    let Some(signal) = ["INT", "QUIT", "HUP"]
        .into_iter()
        .find(|signal| !is_ignored(signal))
    else {
        skipped::because("every signal but TERM is ignored here");
        return;
    };
    let script = json!({
        "shell": format!(
            "trap 'echo asked >&2; exit 0' {signal}; trap '' TERM; echo; \
             while :; do sleep 0.01; done"
        ),
        "stop": { "signal": signal, "grace": "5min" },
    });
    let (outcome, streams) = carried_out(&invocation(script), Memory::cancelled_by_output());
    assert_eq!(outcome.unwrap_err(), Error::Cancelled);
    assert_eq!(streams.chunks("stderr").concat(), b"asked\n");
}

/// Whether this process ignores a signal.
fn is_ignored(signal: &str) -> bool {
    let number = match signal {
        "HUP" => 1,
        "INT" => 2,
        _ => 3,
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 << (number - 1) != 0)
}

#[cfg(target_os = "linux")]
#[test]
fn what_tidies_up_has_the_grace_although_its_parent_was_quicker() {
    for streams in ["", "exec >/dev/null 2>&1;"] {
        let directory = tempfile::tempdir().unwrap();
        let script = format!(
            "(trap 'sleep 0.5; echo > tidied; exit' TERM; echo; {streams}
              while :; do sleep 0.01; done) & wait"
        );
        let mut asked = invocation(json!({ "shell": script, "stop": { "grace": "1min" } }));
        asked.directory = directory.path().to_str().unwrap().to_owned();
        let (outcome, _) = carried_out(&asked, Memory::cancelled_by_output());
        assert_eq!(outcome.unwrap_err(), Error::Cancelled);
        assert!(directory.path().join("tidied").exists());
    }
}

#[test]
fn what_a_program_leaves_running_is_ended_with_it() {
    for (outcome, streams) in
        both_ways(&json!({ "shell": "sleep 1000 & echo $!" }), Memory::default)
    {
        assert_eq!(outcome.unwrap().code, 0);
        assert!(
            pids(&streams.chunks("stdout").concat())
                .into_iter()
                .all(is_gone)
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_daemon_is_ended_with_its_step() {
    // The step ends when it has left the step's group, and not before.
    let script = "left=$(mktemp -u); setsid sh -c 'echo > \"$0\"; exec sleep 1000' $left >/dev/null 2>&1 & daemon=$!
        while [ ! -e $left ]; do sleep 0.01; done; rm $left; echo $daemon";
    let (outcome, output) = ran(json!({ "shell": script }));
    assert_eq!((outcome.code, fact(&outcome, "strays")), (0, Some("1")));
    assert!(
        outcome
            .summary
            .contains("a process that it left running was ended"),
        "{}",
        outcome.summary
    );
    assert!(is_gone(pids(&output)[0]));
}

#[cfg(target_os = "linux")]
#[test]
fn daemons_whose_parents_are_gone_are_ended_with_their_step() {
    let directory = tempfile::tempdir().unwrap();
    let (_one, _two) = (fifo(directory.path(), "one"), fifo(directory.path(), "two"));
    // Each is in a session of its own, and its parent ends at once.
    let daemon = |told| format!("setsid sh -c 'echo $$ > {told}; exec sleep 1000' &");
    let daemons = [daemon("one"), daemon("two")].concat().replace('$', "\\$");
    let script = format!("setsid sh -c \"{daemons}\" >/dev/null 2>&1 &\ncat one; cat two");
    let mut asked = invocation(json!({ "shell": script }));
    asked.directory = directory.path().to_str().unwrap().to_owned();
    let (outcome, streams) = carried_out(&asked, Memory::default());
    assert_eq!(outcome.unwrap().code, 0);
    let daemons = pids(&streams.chunks("stdout").concat());
    assert_eq!(daemons.len(), 2);
    assert!(daemons.into_iter().all(is_gone));
}

#[cfg(target_os = "linux")]
#[test]
fn a_daemon_that_holds_the_pipes_does_not_keep_its_step_from_ending() {
    let script = json!({ "shell": "setsid sleep 1000 & echo $!" });
    for (outcome, streams) in both_ways(&script, Memory::default) {
        let outcome = outcome.unwrap();
        assert_eq!((outcome.code, fact(&outcome, "strays")), (0, Some("1")));
        assert!(is_gone(pids(&streams.chunks("stdout").concat())[0]));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_cannot_be_found_delays_the_end_and_no_more() {
    // It has left the session, and has neither the mark nor anything else of its step.
    let script = json!({ "shell": "env -i setsid sleep 1000 & echo $!" });
    for (outcome, streams) in both_ways(&script, Memory::default) {
        assert_eq!(outcome.unwrap().code, 0);
        let left = pids(&streams.chunks("stdout").concat())[0];
        let _ = kill_process(left, Signal::KILL);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_processes_of_another_step_are_never_hit() {
    let directory = tempfile::tempdir().unwrap();
    let (up, go) = (fifo(directory.path(), "up"), fifo(directory.path(), "go"));
    let mut long = invocation(json!({
        "shell": "setsid cat go >/dev/null & daemon=$!; echo > up; wait $daemon && echo survived",
    }));
    long.directory = directory.path().to_str().unwrap().to_owned();
    let long = thread::spawn(move || carried_out(&long, Memory::default()));
    fs::read(up).unwrap();
    let (outcome, _) = ran(json!({ "shell": "setsid sleep 1000 >/dev/null 2>&1 &" }));
    assert_eq!(fact(&outcome, "strays"), Some("1"));
    fs::write(go, "").unwrap();
    let (outcome, streams) = long.join().unwrap();
    assert_eq!(outcome.unwrap().code, 0);
    assert_eq!(streams.chunks("stdout").concat(), b"survived\n");
}

#[test]
fn a_program_that_floods_its_output_is_ended() {
    for script in [
        "exec yes",
        "trap '' TERM PIPE; while :; do echo x; done 2>/dev/null",
    ] {
        let arguments = json!({ "shell": script, "output-limit": "256KiB" });
        for (outcome, streams) in both_ways(&arguments, Memory::default) {
            let outcome = outcome.unwrap();
            assert_ne!(outcome.code, 0);
            assert!(
                outcome.summary.contains("wrote more than 256KiB"),
                "{}",
                outcome.summary
            );
            assert_eq!(streams.chunks("stdout").concat().len(), 256 << 10);
        }
    }
}

#[test]
fn output_of_exactly_the_limit_is_no_flood() {
    let script = json!({ "shell": "head -c 1024 /dev/zero", "output-limit": "1KiB" });
    for (outcome, streams) in both_ways(&script, Memory::default) {
        assert_eq!(outcome.unwrap().code, 0);
        assert_eq!(streams.chunks("stdout").concat().len(), 1024);
    }
}

#[test]
fn a_full_disk_is_told_in_the_programs_own_words() {
    if !Path::new("/dev/full").exists() {
        skipped::because("this system has no /dev/full");
        return;
    }
    let (outcome, _) = ran(json!({ "command": ["dd", "if=/dev/zero", "of=/dev/full", "count=1"] }));
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.summary.contains("No space left on device"),
        "{}",
        outcome.summary
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_that_fills_the_disk_is_ended_at_its_limit() {
    let directory = tempfile::tempdir().unwrap();
    let mut asked = invocation(json!({
        "command": ["dd", "if=/dev/zero", "of=file", "bs=1024"],
        "limits": { "file-size": "64KiB" },
    }));
    asked.directory = directory.path().to_str().unwrap().to_owned();
    let (outcome, _) = carried_out(&asked, Memory::default());
    let outcome = outcome.unwrap();
    assert!(
        outcome.summary.contains("`limits.file-size` of 64KiB"),
        "{}",
        outcome.summary
    );
    assert_eq!(
        fs::metadata(directory.path().join("file")).unwrap().len(),
        64 << 10
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_that_uses_up_its_processor_time_is_told_so() {
    let (outcome, _) = ran(json!({ "shell": "while :; do :; done", "limits": { "cpu": "1s" } }));
    assert!(
        outcome.summary.contains("`limits.cpu` of 1s"),
        "{}",
        outcome.summary
    );
}

#[test]
fn thousands_of_tiny_lines_arrive_whole_and_in_order() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done";
    let wanted: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    for (outcome, streams) in both_ways(&json!({ "shell": script }), Memory::default) {
        assert_eq!(outcome.unwrap().code, 0);
        assert!(streams.chunks("stdout").concat() == wanted.as_bytes());
    }
}

#[test]
fn binary_output_arrives_as_it_was_written() {
    let script = r"i=0; while [ $i -lt 256 ]; do printf '\'$(printf %o $i)'\n\0'; i=$((i+1)); done";
    let wanted: Vec<u8> = (0..=255).flat_map(|byte| [byte, b'\n', 0]).collect();
    for (outcome, streams) in both_ways(&json!({ "shell": script }), Memory::default) {
        assert_eq!(outcome.unwrap().code, 0);
        assert!(streams.chunks("stdout").concat() == wanted);
    }
}

#[test]
fn one_huge_line_arrives_and_its_failure_is_told_briefly() {
    let script = json!({ "shell": "head -c 3000000 /dev/zero | tr '\\0' x; exit 1" });
    for (outcome, streams) in both_ways(&script, Memory::default) {
        assert_eq!(streams.chunks("stdout").concat(), b"x".repeat(3_000_000));
        let outcome = outcome.unwrap();
        assert_eq!(outcome.code, 1);
        assert!(outcome.summary.len() < 1000);
    }
}

#[test]
fn strange_names_reach_the_program_as_they_are() {
    let names = [
        "a b",
        "it's \"quoted\" `x` $HOME \\",
        "two\nlines",
        "\u{202e}txt.exe",
        "*",
        "-n",
    ];
    let directory = tempfile::tempdir().unwrap();
    for name in names {
        let place = directory.path().join(name);
        fs::create_dir(&place).unwrap();
        // A copy could not be started while a program that is just being started elsewhere still holds it open.
        std::os::unix::fs::symlink("/bin/echo", place.join(name)).unwrap();
        for limits in [json!({}), json!({ "umask": "022" })] {
            let mut arguments =
                json!({ "command": [format!("./{name}"), "x", name], "directory": name });
            arguments
                .as_object_mut()
                .unwrap()
                .extend(limits.as_object().unwrap().clone());
            let mut asked = invocation(arguments);
            asked.directory = directory.path().to_str().unwrap().to_owned();
            asked.environment = vec![vox_plugin::attribute("NAME", name)];
            let (outcome, streams) = carried_out(&asked, Memory::default());
            assert_eq!(outcome.unwrap().code, 0, "{name:?}");
            let wanted = format!("x {name}\n");
            assert_eq!(streams.chunks("stdout").concat(), wanted.as_bytes());
        }
    }
}
