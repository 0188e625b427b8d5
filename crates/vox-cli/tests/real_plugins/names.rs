//! Names that a shell, a terminal or a script would stumble over, through everything that shows and takes them.

use std::fs;

use serde_json::{Value, json};

use crate::Ended;
use crate::runs::Quickstart;

const PIPELINE: &str = "it's $(touch pwned) «הכל»";
const FILE: &str = "pipeline \"it's\" שלי.json";
const INPUT: &str = "in $(touch pwned) \"it's\" קלט.txt";
const OUTPUT: &str = "out 'of' `touch pwned`/\"זה\".txt";
const MAKER: &str = "$(touch pwned); it's \"made\"";
const LABEL: &str = "It's \"$(touch pwned)\" שלב";
const READER: &str = "בנה את `הכל` 🛠";

/// `MAKER` copies the input to the output, and `READER` shows it, and fails until `fixed` is there.
fn pipeline() -> Value {
    json!({
        "pipeline": { "name": PIPELINE },
        "step": [
            {
                "key": MAKER, "label": LABEL, "uses": "exec", "cache": true,
                "with": { "shell": "cp \"$VOX_INPUT_TEXT\" \"$VOX_OUTPUT_MADE\"; echo said by the maker" },
                "inputs": { "text": { "path": INPUT } },
                "outputs": { "made": { "path": OUTPUT } },
            },
            {
                "key": READER, "uses": "exec",
                "with": { "shell": "cat \"$VOX_INPUT_MADE\"; test -e fixed" },
                "inputs": { "made": { "from": format!("{MAKER}.made") } },
            },
        ],
    })
}

#[test]
fn the_key_of_a_step_with_a_matrix_leads_to_the_steps_that_it_has_become() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    let step = r#"
        [[step]]
        key = "m"
        uses = "exec"
        matrix = { n = [1, 2] }
        with = { shell = "echo said ${matrix.n}" }
    "#;
    Ended::of(&mut quickstart.run(step)).succeeded();
    for named in [
        &["runs", "logs", "last", "m"][..],
        &["cache", "explain", "m"],
        &["cache", "explain", "m", "--run", "last"],
    ] {
        let members = ["`m` has a matrix: name one of m[n=1], m[n=2]"];
        place.run(named).failed(3, &members);
    }
    let log = place.run(["runs", "logs", "last", "m[n=2]"]).succeeded();
    assert_eq!(log.stdout, "said 2\n");
}

#[test]
fn a_name_stays_what_it_is_in_everything_that_shows_it_or_takes_it() {
    let quickstart = Quickstart::new();
    let place = &quickstart.0;
    place.write(INPUT, "שלום\n");
    let file = place.write(FILE, &pipeline().to_string());
    let failed = Ended::of(quickstart.vox().arg("run").arg(file)).failed(1, &[]);
    let shown = &failed.stdout;
    for told in [
        format!("run {PIPELINE} "),
        format!("{MAKER} | said by the maker\n"),
        format!("\nfailed: {READER} (exec) after "),
        format!("\n{LABEL} ({MAKER}) "),
        format!("\n{PIPELINE} failed after "),
    ] {
        assert!(shown.contains(&told), "{told}: {shown}");
    }
    let made = fs::read_to_string(place.path().join(OUTPUT)).unwrap();
    assert_eq!(made, "שלום\n");

    // What is said to be typed can be typed.
    let hint = shown
        .lines()
        .find_map(|line| line.split_once("all of it: "));
    let (_, line) = hint.unwrap();
    assert!(line.starts_with("vox runs logs "), "{line}");
    let vox = std::path::Path::new(env!("CARGO_BIN_EXE_vox"));
    let mut programs = vec![vox.parent().unwrap().to_owned()];
    programs.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let typed = Ended::of(
        place
            .program("sh".as_ref())
            .args(["-c", line])
            .env("PATH", std::env::join_paths(programs).unwrap())
            .env("VOX_DATA", place.data()),
    );
    assert_eq!(typed.succeeded().stdout, "שלום\n");

    let told = place.json(&["runs", "show", "last"]);
    let keys: Vec<&Value> = told["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| &step["step"])
        .collect();
    assert_eq!(keys, [MAKER, READER], "{told:#}");
    let trace = place.run(["runs", "trace", "last"]).succeeded().json();
    let events = trace["traceEvents"].as_array().unwrap().iter();
    let names: Vec<&Value> = events
        .filter(|event| event["ph"] == "X")
        .map(|event| &event["name"])
        .collect();
    assert_eq!(names, [MAKER, READER, PIPELINE], "{trace:#}");
    let explained = place.json(&["cache", "explain", MAKER]);
    assert_eq!(explained["step"], MAKER, "{explained:#}");
    let parts = explained["parts"].as_object().unwrap();
    assert!(
        parts.contains_key(&format!("input.text {INPUT}")),
        "{explained:#}"
    );
    assert_eq!(parts["output.made"], OUTPUT, "{explained:#}");

    place.write("fixed", "");
    let rerun = ["runs", "rerun", "last", "--failed"];
    let shown = Ended::of(quickstart.vox().args(rerun)).succeeded().stdout;
    assert!(shown.contains("| שלום\n"), "{shown}");
    // Also of the step that the rerun took over.
    let explained = place.json(&["cache", "explain", MAKER]);
    assert_eq!(explained["verdict"], "taken-over", "{explained:#}");
    for (step, wrote) in [(READER, "שלום\n"), (MAKER, "said by the maker\n")] {
        let log = place.run(["runs", "logs", "last", step]).succeeded();
        assert_eq!(log.stdout, wrote);
    }
    assert!(!place.path().join("pwned").exists());
}
