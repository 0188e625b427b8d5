//! What a step that runs a program promises when all goes well, and when the program fails.

use rustix::process::Signal;
use vox_plugin::serde_json::json;
use vox_plugin::step::Outcome;
use vox_plugin::{Error, attribute};

use crate::testing::{Memory, both_ways, carried_out, fact, invocation};

/// What a script answers, and what it wrote to `stdout`.
fn ran(arguments: vox_plugin::serde_json::Value) -> (Outcome, String) {
    let (outcome, streams) = carried_out(&invocation(arguments), Memory::default());
    let output = String::from_utf8(streams.chunks("stdout").concat()).unwrap();
    (outcome.unwrap(), output)
}

#[test]
fn output_goes_to_the_port_of_its_name() {
    let script = json!({ "shell": "echo out; echo err >&2" });
    for (outcome, streams) in both_ways(&script, Memory::default) {
        assert_eq!(outcome.unwrap().code, 0);
        assert_eq!(streams.chunks("stdout").concat(), b"out\n");
        assert_eq!(streams.chunks("stderr").concat(), b"err\n");
    }
}

#[test]
fn input_of_any_length_comes_out_again() {
    let chunk = b"0123456789abcde\n".repeat(4096);
    let input = || Memory::with_input(vec![chunk.clone(); 50]);
    for (outcome, streams) in both_ways(&json!({ "shell": "cat" }), input) {
        assert_eq!(outcome.unwrap().code, 0);
        assert!(streams.chunks("stdout").concat() == chunk.repeat(50));
    }
}

#[test]
fn without_input_there_is_nothing_to_read() {
    let (outcome, output) = ran(json!({ "shell": "wc -c" }));
    assert_eq!((outcome.code, output.trim()), (0, "0"));
}

#[test]
fn input_that_is_not_read_does_not_keep_the_step_from_ending() {
    for (outcome, _) in both_ways(&json!({ "shell": "exit 0" }), Memory::with_endless_input) {
        assert_eq!(outcome.unwrap().code, 0);
    }
}

#[test]
fn a_text_is_read_as_standard_input_whatever_its_length() {
    let (_, output) = ran(json!({ "command": ["cat"], "stdin": "zwei\nZeilen ☃" }));
    assert_eq!(output, "zwei\nZeilen ☃");
    let long = "x".repeat(1 << 20);
    let (_, output) = ran(json!({ "shell": "wc -c", "stdin": long }));
    assert_eq!(output.trim(), "1048576");
    let (outcome, _) = ran(json!({ "shell": "exit 0", "stdin": long }));
    assert_eq!(outcome.code, 0);
}

#[test]
fn a_text_and_a_stream_for_one_input_are_refused() {
    let mut asked = invocation(json!({ "command": ["cat"], "stdin": "text" }));
    asked.inputs.push("stdin".to_owned());
    let (outcome, _) = carried_out(&asked, Memory::with_endless_input());
    assert!(matches!(outcome, Err(Error::Invalid(_))));
}

#[test]
fn the_environment_is_the_one_that_was_given() {
    let mut asked = invocation(json!({ "shell": "/usr/bin/env" }));
    asked.environment = vec![attribute("GREETING", "hello world")];
    let (_, streams) = carried_out(&asked, Memory::default());
    let output = String::from_utf8(streams.chunks("stdout").concat()).unwrap();
    assert!(output.contains("GREETING=hello world\n"), "{output}");
    assert!(output.contains("VOX_STEP=step\n"), "{output}");
    // A shell adds these.
    let added = ["GREETING", "PATH", "PWD", "OLDPWD", "SHLVL", "_"];
    for name in output
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
    {
        assert!(added.contains(&name) || name.starts_with("VOX_"), "{name}");
    }
}

#[test]
fn a_failure_has_its_code_and_the_last_words() {
    let (outcome, _) =
        ran(json!({ "shell": "echo out; echo first >&2; echo no such luck >&2; exit 3" }));
    assert_eq!(outcome.code, 3);
    assert_eq!(fact(&outcome, "exit-code"), Some("3"));
    assert_eq!(
        outcome.summary,
        "`/bin/sh` exited with code 3\nfirst\nno such luck"
    );
}

#[test]
fn the_last_words_are_those_of_stdout_when_stderr_is_empty() {
    let (outcome, _) = ran(json!({ "shell": "echo 'error: no space'; exit 1" }));
    assert_eq!(
        outcome.summary,
        "`/bin/sh` exited with code 1\nerror: no space"
    );
}

#[test]
fn the_codes_that_are_success_are_those_of_the_step() {
    let (outcome, _) = ran(json!({ "shell": "exit 3", "codes": [0, 3] }));
    assert_eq!((outcome.code, fact(&outcome, "exit-code")), (0, Some("3")));
    let (outcome, _) = ran(json!({ "shell": "exit 0", "codes": [3] }));
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.summary.contains("not among its `codes`"),
        "{}",
        outcome.summary
    );
}

#[test]
fn a_signal_is_told_by_number_and_name() {
    let (outcome, _) = ran(json!({ "shell": "kill -USR1 $$" }));
    let number = Signal::USR1.as_raw();
    assert_eq!(outcome.code, 128 + number);
    assert_eq!(fact(&outcome, "signal"), Some(number.to_string().as_str()));
    assert!(
        outcome
            .summary
            .ends_with(&format!("signal {number} (USR1)")),
        "{}",
        outcome.summary
    );
}

#[test]
fn a_writer_whose_reader_had_enough_has_succeeded() {
    let refusing = || Memory::refusing(|| Error::Unavailable("enough".to_owned()));
    for script in ["exec yes", "yes; exit $?"] {
        for (outcome, _) in both_ways(&json!({ "shell": script }), refusing) {
            assert_eq!(outcome.unwrap().code, 0);
        }
    }
}

#[test]
fn a_stream_that_breaks_ends_the_program() {
    let broken = || Error::Unavailable("the stream broke".to_owned());
    for (outcome, _) in both_ways(&json!({ "shell": "cat" }), || {
        Memory::with_broken_input(broken)
    }) {
        assert_eq!(outcome.unwrap_err(), broken());
    }
    let refused = || Memory::refusing(|| Error::Invalid("no".into()));
    for (outcome, _) in both_ways(&json!({ "shell": "echo; sleep 1000" }), refused) {
        assert_eq!(outcome.unwrap_err(), Error::Invalid("no".into()));
    }
}

#[test]
fn progress_becomes_an_event_and_is_not_printed() {
    let (outcome, streams) = carried_out(
        &invocation(json!({ "shell": "echo a; echo '::progress 4/4 done' >&2; echo b" })),
        Memory::default(),
    );
    assert_eq!(outcome.unwrap().code, 0);
    assert_eq!(streams.told(), [r#"{"done":4,"message":"done","total":4}"#]);
    assert_eq!(streams.chunks("stdout").concat(), b"a\nb\n");
    assert!(streams.chunks("stderr").is_empty());
}

#[test]
fn processor_time_is_told() {
    let (outcome, _) = ran(json!({ "shell": "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done" }));
    let seconds: f64 = fact(&outcome, "cpu-seconds").unwrap().parse().unwrap();
    assert!(seconds > 0.001, "{seconds}");
    assert_eq!(fact(&outcome, "strays"), Some("0"));
}

#[cfg(target_os = "linux")]
#[test]
fn limits_hold_for_the_program_and_what_it_starts() {
    let (outcome, output) = ran(json!({
        "shell": "umask; cat /proc/self/limits",
        "umask": "027",
        "limits": { "cpu": "10min", "memory": "1GiB", "files": 64, "file-size": "1MiB", "processes": 500 },
    }));
    assert_eq!(outcome.code, 0, "{}", outcome.summary);
    assert!(output.contains("027\n"), "{output}");
    for (name, limit) in [
        ("Max cpu time", "600"),
        ("Max address space", "1073741824"),
        ("Max open files", "64"),
        ("Max file size", "1048576"),
        ("Max processes", "500"),
    ] {
        let line = output.lines().find(|line| line.starts_with(name)).unwrap();
        assert_eq!(
            line[name.len()..].split_ascii_whitespace().next(),
            Some(limit),
            "{line}"
        );
    }
}

/// `cargo test --release -p exec -- --ignored --nocapture what_a_step_costs`
#[test]
#[ignore = "it measures"]
fn what_a_step_costs() {
    use std::time::{Duration, Instant};
    const STEPS: usize = 2000;
    let asked = invocation(json!({ "command": ["true"] }));
    let (mut bare, mut step) = (Vec::new(), Vec::new());
    for _ in 0..STEPS {
        let began = Instant::now();
        std::process::Command::new("true").status().unwrap();
        bare.push(began.elapsed());
        let began = Instant::now();
        let (outcome, _) = carried_out(&asked, Memory::default());
        step.push(began.elapsed());
        assert_eq!(outcome.unwrap().code, 0);
    }
    let told = |mut times: Vec<Duration>| {
        times.sort();
        format!("{:?}, best {:?}", times[STEPS / 2], times[0])
    };
    println!("Command::status: median {}", told(bare));
    println!("a step of exec: median {}", told(step));
}
