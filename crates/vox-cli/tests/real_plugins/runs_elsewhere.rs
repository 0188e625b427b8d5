//! Runs that are begun, followed, ended and cleaned up after by somebody else than who sits before them:
//! programs, and people at another terminal.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::Ended;
use crate::runs::{IN_THREE_STEPS, Quickstart, Underway, report, wait_for_the_end_of};

#[test]
fn a_program_gives_a_pipeline_on_standard_input_and_hears_what_becomes_of_it() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    place.write("input.txt", "read from here\n");
    let plan = json!({
        "pipeline": { "name": "generated" },
        "step": [{ "key": "a", "uses": "exec", "with": { "command": ["cat", "input.txt"] } }],
    });
    let mut vox = quickstart
        .vox()
        .args(["run", "-", "--format", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = vox.stdin.take().unwrap();
    stdin.write_all(plan.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = vox.wait_with_output().unwrap();
    assert!(output.status.success());
    let told = report(std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!(told["pipeline"], "generated", "{told:#}");
    assert_eq!(told["status"], "succeeded", "{told:#}");
    let wrote = &told["steps"][0]["output"][0]["text"];
    assert_eq!(wrote, "read from here", "{told:#}");
    // It is recorded as any other, and can be run again.
    let rerun = ["runs", "rerun", "last", "--format", "json"];
    let again = Ended::of(quickstart.vox().args(rerun)).succeeded().stdout;
    assert_eq!(report(&again)["pipeline"], "generated");
}

#[test]
fn a_run_is_cancelled_from_elsewhere_and_may_clean_up() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    let run = Underway::start(quickstart.run(
        r#"
        [[step]]
        key = "wait"
        uses = "exec"
        with = { shell = "trap 'echo tidy > cleaned; exit 7' TERM; echo $$; while :; do sleep 0.05; done", stop = { grace = "1min" } }
        [[step]]
        key = "next"
        uses = "exec"
        needs = ["wait"]
        with = { command = ["touch", "next-was-here"] }
        "#,
    ));
    let step = run.step.clone();
    let cancelled = place.json(&["runs", "cancel", "last"]);
    assert_eq!(cancelled["state"], "cancelled", "{cancelled:#}");
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    wait_for_the_end_of(&step);
    assert!(place.path().join("cleaned").exists());
    assert!(!place.path().join("next-was-here").exists());
    // There is nothing more to cancel, and nothing to go on with.
    place
        .run(["runs", "cancel", "last"])
        .failed(3, &["was cancelled"]);
    let resume = Ended::of(quickstart.vox().args(["run", "--resume"]));
    resume.failed(3, &["no run was interrupted"]);
}

#[test]
fn a_run_that_is_cancelled_twice_from_elsewhere_ends_at_once_and_can_be_resumed() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    // It takes five minutes to end, unless it is killed.
    let mut run = Underway::start(quickstart.run(
        r#"
        [[step]]
        key = "wait"
        uses = "exec"
        with = { shell = "test ! -e go || exit 0; trap '' TERM; echo $$; exec sleep 1000", stop = { grace = "5min" } }
        "#,
    ));
    let step = run.step.clone();
    let mut cancel = place.vox();
    cancel.args(["runs", "cancel", "last", "--format", "json"]);
    let first = cancel.stdout(Stdio::piped()).spawn().unwrap();
    let heard = run.hear();
    assert!(heard.contains("interrupted"), "{heard}");
    let second = Ended::of(&mut cancel).succeeded().json();
    let first = first.wait_with_output().unwrap();
    let first: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!(second["state"], "interrupted", "{second:#}");
    assert_eq!(first["state"], "interrupted", "{first:#}");
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    wait_for_the_end_of(&step);
    place.write("go", "");
    Ended::of(quickstart.vox().args(["run", "--resume"])).succeeded();
}

/// The newest run.
fn newest(quickstart: &Quickstart) -> String {
    let listed = quickstart.0.json(&["runs", "ls"]);
    listed[0]["id"].as_str().unwrap().to_owned()
}

/// The lines of a file that steps have written.
fn lines_of(quickstart: &Quickstart, file: &str) -> Vec<String> {
    let text = fs::read_to_string(quickstart.0.path().join(file)).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_run_that_goes_on_is_not_resumed_and_none_of_it_is_done_twice() {
    let quickstart = Quickstart::new();
    let run = Underway::start(quickstart.run(IN_THREE_STEPS));
    let id = newest(&quickstart);
    let process = format!("run {id} is still going on, in process {}", run.pid());
    let cancel = format!("vox runs cancel {id}");
    let resume = Ended::of(quickstart.vox().args(["run", "--resume", &id]));
    resume.failed(5, &[&process, &cancel]);
    quickstart.0.write("go", "");
    let (code, said) = run.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(lines_of(&quickstart, "counted"), ["once"]);
    assert_eq!(lines_of(&quickstart, "keys"), [format!("{id}/wait 1")]);
}

#[test]
fn of_two_that_resume_a_run_at_once_the_second_finds_it_ended() {
    let quickstart = Quickstart::new();
    let run = Underway::start(quickstart.run(IN_THREE_STEPS));
    run.recorded(&quickstart).kill();
    let id = newest(&quickstart);
    // Another run of the pipeline holds both up until both have seen that this one was interrupted.
    let other = Underway::start(quickstart.run(IN_THREE_STEPS));
    let resumes = [(); 2].map(|()| {
        let mut vox = quickstart
            .vox()
            .args(["run", "--resume", &id])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(vox.stderr.take().unwrap());
        let mut heard = String::new();
        errors.read_line(&mut heard).unwrap();
        assert!(heard.contains("waiting until it is done"), "{heard}");
        (vox, errors)
    });
    quickstart.0.write("go", "");
    let (code, said) = other.end();
    assert_eq!(code, Some(0), "{said}");
    let mut ends = resumes.map(|(mut vox, mut errors)| {
        let mut said = String::new();
        errors.read_to_string(&mut said).unwrap();
        (vox.wait().unwrap().code(), said)
    });
    ends.sort();
    let [first, second] = ends;
    assert_eq!(first.0, Some(0), "{}", first.1);
    assert_eq!(second.0, Some(5), "{}", second.1);
    let ended = format!("run {id} has succeeded");
    assert!(second.1.contains(&ended), "{}", second.1);
    // Each of the two runs has done each of its steps once.
    assert_eq!(lines_of(&quickstart, "counted"), ["once", "once"]);
    let keys = lines_of(&quickstart, "keys");
    let of_it = keys.iter().filter(|key| key.starts_with(&id));
    assert_eq!(of_it.collect::<Vec<_>>(), [&format!("{id}/wait 2")]);
    quickstart.0.run(["log", "verify"]).succeeded();
}

#[test]
fn the_last_run_of_another_directory_is_named_and_not_gone_on_with() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    let vox = |directory: &str, words: &[&str]| {
        let mut command = quickstart.vox();
        command
            .current_dir(place.path().join(directory))
            .args(words);
        command
    };
    let step = "[[step]]\nkey = \"a\"\nuses = \"exec\"\nwith = { command = [\"true\"] }\n";
    for (directory, steps) in [("one", IN_THREE_STEPS), ("other", step)] {
        fs::create_dir(place.path().join(directory)).unwrap();
        let pipeline = format!("[pipeline]\nname = \"{directory}\"\n{steps}");
        place.write(&format!("{directory}/pipeline.toml"), &pipeline);
    }
    Underway::start(vox("one", &["run"])).kill();
    place.write("one/go", "");
    let listed = place.json(&["runs", "ls"]);
    let (id, directory) = (&listed[0]["id"], &listed[0]["directory"]);
    let named = [id.as_str().unwrap(), directory.as_str().unwrap()];
    for words in [
        &["run", "--resume"][..],
        &["run", "--resume", "last"],
        &["runs", "rerun", "last"],
        &["runs", "show", "last"],
    ] {
        Ended::of(&mut vox("other", words)).failed(3, &named);
    }
    assert_eq!(place.json(&["runs", "ls"]), listed);
    let shown = |from: &str| {
        Ended::of(&mut vox(from, &["runs", "ls"]))
            .succeeded()
            .stdout
    };
    assert!(shown("other").contains(named[1]), "{}", shown("other"));
    let titles = shown("one");
    assert!(titles.contains("STEPS\n"), "{titles}");

    // Nor is one that was begun elsewhere since.
    Ended::of(&mut vox("other", &["run"])).succeeded();
    let last = |from: &str| {
        let mut show = vox(from, &["runs", "show", "last", "--format", "json"]);
        Ended::of(&mut show).succeeded().json()["id"].clone()
    };
    assert_eq!(last("one"), *id);
    assert_ne!(last("other"), *id);
    // From above both are meant, of which the other is newer.
    assert_eq!(last("."), last("other"));
    Ended::of(&mut vox("one", &["run", "--resume"])).succeeded();
}

#[test]
fn what_a_run_writes_is_followed_until_its_end() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    let run = Underway::start(quickstart.run(IN_THREE_STEPS));
    let mut follows = place
        .vox()
        .args(["runs", "logs", "last", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follows.stdout.take().unwrap()).lines();
    let mut next = || lines.next().map(Result::unwrap);
    let first = next().unwrap();
    assert_eq!(first, format!("wait | {}", run.step));
    // It has heard that while the run goes on, and ends with it.
    place.write("go", "");
    assert_eq!(next().as_deref(), Some("end  | made"));
    assert_eq!(next(), None);
    assert!(follows.wait().unwrap().success());
    let (code, said) = run.end();
    assert_eq!(code, Some(0), "{said}");
}

/// Two steps whose results are cached, which note how often they are carried out.
const CACHED: &str = r#"
    [[step]]
    key = "a"
    uses = "exec"
    cache = true
    inputs = {}
    with = { shell = "echo a >> carried-out; echo made by a > a.txt" }
    outputs = { made = { path = "a.txt" } }
    [[step]]
    key = "b"
    uses = "exec"
    cache = true
    inputs = {}
    needs = ["a"]
    with = { shell = "echo b >> carried-out; echo made by b > b.txt" }
    outputs = { made = { path = "b.txt" } }
"#;

/// The steps of [`CACHED`] that were carried out, in order.
fn carried_out(quickstart: &Quickstart) -> Vec<String> {
    let notes = fs::read_to_string(quickstart.0.path().join("carried-out")).unwrap();
    notes.lines().map(str::to_owned).collect()
}

/// The key of the result of this step in the cache.
fn key_of(quickstart: &Quickstart, step: &str) -> String {
    let listed = quickstart.0.json(&["cache", "ls"]);
    let mut results = listed["results"].as_array().unwrap().iter();
    let result = results.find(|result| result["steps"][0] == step);
    result.unwrap()["key"].as_str().unwrap().to_owned()
}

#[test]
fn a_result_that_is_let_go_of_is_made_anew_and_the_others_are_taken_over() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    Ended::of(&mut quickstart.run(CACHED)).succeeded();
    let key = key_of(&quickstart, "a");
    let removed = place.json(&["cache", "rm", &key[..12]]);
    let removed = removed["removed"].as_array().unwrap();
    assert_eq!(removed.len(), 1, "{removed:#?}");
    assert_eq!(removed[0]["key"], key, "{removed:#?}");
    place
        .run(["cache", "rm", &key])
        .failed(3, &["no result has a key that begins with", "vox cache ls"]);
    Ended::of(&mut quickstart.run(CACHED)).succeeded();
    assert_eq!(carried_out(&quickstart), ["a", "b", "a"]);
}

#[test]
fn what_no_result_needs_any_more_is_freed_and_a_budget_lets_results_go() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    Ended::of(&mut quickstart.run(CACHED)).succeeded();
    // Everything that is there is needed.
    assert_eq!(place.json(&["cache", "gc"])["removed"], 0);
    let key = key_of(&quickstart, "a");
    place.run(["cache", "rm", &key]).succeeded();
    let would = place.json(&["cache", "gc", "--dry-run"]);
    let did = place.json(&["cache", "gc"]);
    assert_eq!(
        (&would["dry_run"], &did["dry_run"]),
        (&json!(true), &json!(false))
    );
    for member in ["removed", "freed"] {
        assert_eq!(would[member], did[member], "{would:#} {did:#}");
        assert!(did[member].as_u64().unwrap() > 0, "{did:#}");
    }

    // The store cannot become as small as that, since what is recorded stays; all results go.
    let tight = place.run(["cache", "gc", "--budget", "1B", "--format", "json"]);
    assert_eq!(tight.code, Some(1), "{}", tight.stderr);
    let tight = tight.json();
    let evicted = tight["evicted"].as_array().unwrap();
    assert_eq!(evicted.len(), 1, "{tight:#}");
    assert_eq!(evicted[0]["steps"], json!(["b"]), "{tight:#}");
    assert!(tight["over"].as_u64().unwrap() > 0, "{tight:#}");
    let listed = place.json(&["cache", "ls"]);
    assert_eq!(listed["results"], json!([]), "{listed:#}");
    // The plan is still there.
    Ended::of(quickstart.vox().args(["runs", "rerun", "last"])).succeeded();
    assert_eq!(carried_out(&quickstart), ["a", "b", "a", "b"]);
}

#[test]
fn what_does_not_depend_on_a_failure_runs_where_it_is_to_go_on() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    // The way through `bad` is the longest, so it goes first.
    let steps = r#"
        [[step]]
        key = "other"
        uses = "exec"
        with = { command = ["touch", "other-was-here"] }
        [[step]]
        key = "bad"
        uses = "exec"
        with = { command = ["false"] }
        [[step]]
        key = "after"
        uses = "exec"
        needs = ["bad"]
        with = { command = ["touch", "after-was-here"] }
    "#;
    for (options, goes_on) in [(&["-j", "1"][..], false), (&["-j", "1", "-k"], true)] {
        let shown = Ended::of(quickstart.run(steps).args(options))
            .failed(1, &[])
            .stdout;
        let other = if goes_on {
            "other succeeded"
        } else {
            "other skipped"
        };
        assert!(shown.contains(other), "{shown}");
        assert!(
            shown.contains("after skipped it needs `bad`, which failed"),
            "{shown}"
        );
        assert_eq!(place.path().join("other-was-here").exists(), goes_on);
        assert!(!place.path().join("after-was-here").exists());
    }
}
