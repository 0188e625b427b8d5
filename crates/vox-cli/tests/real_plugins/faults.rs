//! What the system does to a run: a disk that is full or cannot be written, a clock that jumps, and a second
//! run of the same pipeline.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::runs::{IN_THREE_STEPS, Quickstart, Underway, report, send, wait_for_the_end_of};
use crate::{Ended, skipped};

/// A command by way of another program, which is given these words and then the command's.
fn by_way_of(words: &[&str], command: &Command) -> Command {
    let mut way = Command::new(words[0]);
    way.args(&words[1..])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .env_clear();
    for (name, value) in command.get_envs() {
        way.env(name, value.unwrap_or_default());
    }
    if let Some(directory) = command.get_current_dir() {
        way.current_dir(directory);
    }
    way
}

fn read(quickstart: &Quickstart, name: &str) -> String {
    fs::read_to_string(quickstart.0.path().join(name)).unwrap()
}

#[test]
fn a_step_whose_end_finds_no_room_in_the_record_has_failed_and_runs_again_with_the_same_key() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    // A limit on the size of files answers as a full disk does, once its signal is ignored. Standard error
    // goes to a file too, which can take no more either.
    let script = "trap '' XFSZ; exec \"$0\" \"$@\" 2> said";
    let command = by_way_of(&["sh", "-c", script], &quickstart.run(IN_THREE_STEPS));
    let run = Underway::start(command);
    let limited = Command::new("prlimit")
        .args(["--pid", &run.pid(), "--fsize=1"])
        .status();
    assert!(limited.unwrap().success());
    place.write("go", "");
    let (code, _, lines) = run.end_with_lines();
    let shown = lines.join("\n");
    assert_eq!(code, Some(1), "{shown}");
    for told in [
        "wait failed in ",
        ": its end could not be recorded: ",
        "\nend  skipped it needs `wait`, which failed\n",
        "warning: events are no longer kept: ",
        "warning: the end of the run is not recorded: ",
    ] {
        assert!(shown.contains(told), "{told}: {shown}");
    }

    // There is room again.
    let listed = place.json(&["runs", "ls"]);
    assert_eq!(listed[0]["state"], "interrupted", "{listed:#}");
    let resume = ["run", "--resume", "--format", "json"];
    let ended = Ended::of(quickstart.vox().args(resume));
    let report = report(&ended.succeeded().stdout);
    assert_eq!(report["status"], "succeeded", "{report:#}");
    assert_eq!(read(&quickstart, "counted"), "once\n");
    let key = format!("{}/wait", report["run"].as_str().unwrap());
    let keys = read(&quickstart, "keys");
    let keys: Vec<&str> = keys
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(keys, [key.as_str(), key.as_str()]);
    place.run(["log", "verify"]).succeeded();
}

/// A step that counts how often it is carried out.
const COUNTS: &str = r#"
    [[step]]
    key = "a"
    uses = "exec"
    with = { shell = "echo once >> counted" }
"#;

#[test]
fn where_nothing_can_be_recorded_the_run_does_not_begin_and_the_way_without_a_record_is_told() {
    let allowed = Command::new("unshare").args(["-rm", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        skipped::because("this system does not let this user mount (unshare -rm)");
        return;
    }
    // Everything of the data directory, on a disk that cannot be written.
    let script = r#"
        cp -a "$VOX_DATA" saved &&
        mount -t tmpfs tmpfs "$VOX_DATA" &&
        cp -a saved/. "$VOX_DATA" &&
        mount -o remount,ro "$VOX_DATA" &&
        rm -rf saved &&
        exec "$0" "$@"
    "#;
    let read_only = |command: &mut Command| -> Ended {
        Ended::of(&mut by_way_of(
            &["unshare", "-rm", "sh", "-c", script],
            command,
        ))
    };
    let quickstart = Quickstart::new();
    let why = [
        "Read-only file system",
        "`--no-record` runs without a record",
    ];
    // Without a record, and with one that is there already.
    for runs in ["", "once\n"] {
        let counted = || fs::read_to_string(quickstart.0.path().join("counted"));
        let refused = read_only(&mut quickstart.run(COUNTS)).failed(1, &why);
        assert_eq!(refused.stdout, "");
        let refused = read_only(quickstart.run(COUNTS).args(["--format", "json"])).failed(1, &[]);
        let error: Value = serde_json::from_str(&refused.stderr).unwrap();
        assert_eq!(error["error"]["hint"], why[1], "{error:#}");
        assert_eq!(counted().unwrap_or_default(), runs);
        read_only(quickstart.run(COUNTS).arg("--no-record")).succeeded();
        assert_eq!(counted().unwrap(), format!("{runs}once\n"));

        fs::remove_file(quickstart.0.path().join("counted")).unwrap();
        Ended::of(&mut quickstart.run(COUNTS)).succeeded();
    }
    // What was recorded can be read.
    let listed = read_only(quickstart.vox().args(["runs", "ls", "--format", "json"])).succeeded();
    assert_eq!(listed.json().as_array().unwrap().len(), 2);
}

/// A directory with a small model: one tensor of 4096 bytes, which are `seed`.
fn small_model(directory: &Path, seed: u8) {
    fs::create_dir_all(directory).unwrap();
    let header = br#"{"a":{"dtype":"U8","shape":[4096],"data_offsets":[0,4096]}}     "#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend([seed; 4096]);
    fs::write(directory.join("model.safetensors"), file).unwrap();
}

#[test]
fn a_full_disk_is_looked_at_and_freed() {
    let allowed = Command::new("unshare").args(["-rm", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this system does not let this user mount (unshare -rm)");
        return;
    }
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    let step = |key: &str| {
        format!(
            r#"
            [[step]]
            key = "{key}"
            uses = "exec"
            cache = true
            with = {{ shell = "echo {key} > $VOX_OUTPUT_MADE" }}
            inputs = {{}}
            outputs = {{ made = {{ path = "{key}.txt" }} }}
            "#
        )
    };
    Ended::of(&mut quickstart.run(&(step("one") + &step("two")))).succeeded();
    for (seed, name) in [(1, "first"), (2, "second"), (3, "third")] {
        small_model(&place.path().join(name), seed);
        place
            .run(["model", "import", &format!("./{name}")])
            .succeeded();
    }
    place.run(["model", "pin", "third"]).succeeded();
    let cached = place.json(&["cache", "ls"]);
    let key = cached["results"][0]["key"].as_str().unwrap();

    // Each command finds a disk without a free byte, and says how it ended.
    let script = r#"
        cp -a "$VOX_DATA" saved &&
        size=$(($(du -sk saved | cut -f 1) + 2048)) &&
        mount -t tmpfs -o "size=${size}k" tmpfs "$VOX_DATA" &&
        cp -a saved/. "$VOX_DATA" &&
        rm -rf saved || exit
        vox() {
            cat /dev/zero >> "$VOX_DATA/filler" 2> said
            "$command" "$@" 2>&1
            echo "ended with $?"
        }
        command="$0"
        vox runs ls
        vox runs show last
        vox cache ls
        vox cache rm "$1"
        vox cache gc
        vox model ls
        vox model rm first
        vox model unpin third
        vox model gc
        vox model gc --budget 1B
        rm "$VOX_DATA/filler"
        "$command" log verify
        "$command" model ls
        "$command" cache ls
    "#;
    let words = ["unshare", "-rm", "sh", "-c", script];
    let ended = Ended::of(&mut by_way_of(&words, place.vox().arg(key))).succeeded();
    let mut rest = ended.stdout.as_str();
    let mut next = |code: &str, words: &[&str]| {
        let (text, after) = rest.split_once("ended with ").unwrap();
        let (ended_with, after) = after.split_once('\n').unwrap();
        assert_eq!(ended_with, code, "{}", ended.stdout);
        for word in words {
            assert!(text.contains(word), "{word}: {}", ended.stdout);
        }
        assert!(!text.contains("removed 0 objects"), "{}", ended.stdout);
        rest = after;
    };
    let not_recorded = |kind: &str, name: &str| format!("`{kind}` of `{name}` is not recorded: ");
    next("0", &["test", "succeeded"]);
    next("0", &["one", "two"]);
    next("0", &["one", "two", "2 results"]);
    next("0", &["let go of "]);
    next("0", &["removed "]);
    next("0", &["first", "second", "third"]);
    let removed = not_recorded("model.remove", "first");
    next("0", &["let go of first", &removed]);
    let unpinned = not_recorded("model.unpin", "third");
    next("0", &["third may go", &unpinned]);
    next("0", &["removed "]);
    // The plan of the run is kept by the log.
    let evicted = ["second", "third", "the result"].map(|what| format!("let go of {what}"));
    next("1", &[&evicted[0], &evicted[1], &evicted[2]]);
    for word in ["sound", "no models are here", "no results are kept here"] {
        assert!(rest.contains(word), "{word}: {}", ended.stdout);
    }
}

/// A day, in nanoseconds.
const DAY: u64 = 86_400_000_000_000;

/// The time of now, in nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_nanos().try_into().unwrap()
}

/// A library that gives a program another clock: one that is a day ahead, and at every other look an hour more.
fn another_clock(quickstart: &Quickstart) -> PathBuf {
    let source = include_str!("faults/clock.rs");
    vox_testkit::compile_library(quickstart.0.path(), "clock", source)
}

#[test]
fn a_clock_that_jumps_changes_neither_time_outs_nor_waits() {
    let quickstart = Quickstart::new();
    let clock = another_clock(&quickstart);
    let began = now();
    let ended = Ended::of(
        quickstart
            .run(
                r#"
                [[step]]
                key = "slow"
                uses = "exec"
                timeout = "500ms"
                with = { command = ["sleep", "1000"] }
                [[step]]
                key = "again"
                uses = "exec"
                retry = { count = 1, delay = "500ms" }
                with = { shell = "test $VOX_ATTEMPT = 2" }
                "#,
            )
            .args(["--keep-going", "--format", "json"])
            .env("LD_PRELOAD", &clock),
    );
    let ended = ended.failed(1, &[]);
    let report = report(&ended.stdout);
    // It had that clock.
    assert!(
        report["started"].as_u64().unwrap() >= began + DAY,
        "{report:#}"
    );
    let sane = |seconds: &Value| (0.4..100.0).contains(&seconds.as_f64().unwrap());
    let [slow, again] = [&report["steps"][0], &report["steps"][1]];
    assert_eq!(slow["cause"], "timed-out", "{report:#}");
    assert!(sane(&slow["seconds"]), "{report:#}");
    assert_eq!(again["status"], "succeeded", "{report:#}");
    assert_eq!(again["attempts"], 2, "{report:#}");
    assert!(sane(&report["seconds"]), "{report:#}");
    quickstart.0.run(["log", "verify"]).succeeded();
}

#[test]
fn a_run_goes_on_though_the_clock_was_set_back_a_day_meanwhile() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    let clock = another_clock(&quickstart);
    let mut command = quickstart.run(IN_THREE_STEPS);
    command.env("LD_PRELOAD", &clock);
    let run = Underway::start(command);
    let step = run.step.clone();
    assert!(send("KILL", &run.pid()));
    run.end();
    wait_for_the_end_of(&step);

    place.write("go", "");
    let resume = ["run", "--resume", "--format", "json"];
    let ended = Ended::of(quickstart.vox().args(resume));
    let report = report(&ended.succeeded().stdout);
    assert_eq!(report["status"], "succeeded", "{report:#}");
    assert!(report["started"].as_u64().unwrap() < now(), "{report:#}");
    assert_eq!(read(&quickstart, "counted"), "once\n");
    let listed = place.json(&["runs", "ls"]);
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed:#}");
    assert_eq!(listed[0]["state"], "succeeded", "{listed:#}");
    place.run(["log", "verify"]).succeeded();

    // In the trace both parts follow each other.
    let trace = place.run(["runs", "trace", "last"]).succeeded().json();
    let events = trace["traceEvents"].as_array().unwrap().iter();
    let times = |event: &Value| ["ts", "dur"].map(|member| event[member].as_f64().unwrap());
    let parts: Vec<[f64; 2]> = events
        .filter(|event| event["ph"] == "X" && event["cat"] == "run")
        .map(times)
        .collect();
    let [[first, took], [second, _]] = parts[..] else {
        panic!("{trace:#}")
    };
    assert!(second >= first + took, "{trace:#}");
}

/// A pipeline that is held up until `go` is there, and makes a file of what runs of it have noted.
const NOTES_AND_WAITS: &str = r#"
    [[step]]
    key = "wait"
    uses = "exec"
    outputs = { made = { path = "made.txt" } }
    with = { shell = "echo begins >> order; echo $$; while [ ! -e go ]; do sleep 0.05; done; cp order made.txt; echo ends >> order" }
"#;

#[test]
fn a_second_run_of_a_pipeline_in_a_directory_waits_for_the_first() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    let first = Underway::start(quickstart.run(NOTES_AND_WAITS));
    // It is the name of the pipeline that counts, whatever its file is called.
    let other = |file: &str, steps: &str| {
        let pipeline = format!("[pipeline]\nname = \"test\"\n{steps}");
        let mut command = quickstart.vox();
        command.arg("run").arg(place.write(file, &pipeline));
        command
    };
    let mut second = other("second.toml", NOTES_AND_WAITS)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut errors = BufReader::new(second.stderr.take().unwrap());
    errors.read_line(&mut said).unwrap();
    let waits = format!(
        "process {} runs this pipeline here; waiting until it is done\n",
        first.pid()
    );
    assert_eq!(said, waits);
    // One that is not recorded waits for nobody.
    let third = "[[step]]\nkey = \"a\"\nuses = \"exec\"\nwith = { command = [\"true\"] }\n";
    Ended::of(other("third.toml", third).arg("--no-record")).succeeded();
    assert_eq!(read(&quickstart, "order"), "begins\n");

    place.write("go", "");
    let (code, said) = first.end();
    assert_eq!(code, Some(0), "{said}");
    let output = second.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert_eq!(read(&quickstart, "order"), "begins\nends\nbegins\nends\n");
    assert_eq!(read(&quickstart, "made.txt"), "begins\nends\nbegins\n");
    let listed = place.json(&["runs", "ls"]);
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed:#}");
}

#[test]
fn a_pipeline_may_be_larger_than_any_other_file_that_is_written_by_hand() {
    let quickstart = Quickstart::new();
    let step = "[[step]]\nkey = \"a\"\nuses = \"exec\"\nwith = { command = [\"true\"] }\n";
    let words = "# What a program has to say of the plan that it wrote.\n".repeat(40_000);
    assert!(words.len() > 2 << 20);
    let ended = Ended::of(quickstart.run(&(words + step)).arg("--no-record"));
    ended.succeeded();
}

#[test]
fn a_pipeline_of_more_than_64_mib_is_refused_as_other_invalid_files_are() {
    let quickstart = Quickstart::new();
    // A hole costs no disk.
    let file = fs::File::create(quickstart.0.path().join("pipeline.toml")).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    let refused = quickstart.0.run(["run", "pipeline.toml"]);
    refused.failed(5, &["pipeline.toml", "larger than 64 MiB"]);
}
