//! What a run that fails tells people and programs, from its first line to its last: as it is, but for what
//! differs from run to run.

use crate::Ended;
use crate::runs::Quickstart;

/// A step that succeeds, one that fails in both of its tries, and one that needs it.
const FAILS: &str = r#"
[[step]]
key = "fetch"
uses = "exec"
with = { command = ["echo", "3 files"] }
[[step]]
key = "test[os=linux]"
label = "Test on Linux"
uses = "exec"
needs = ["fetch"]
retry = { count = 1, delay = "1ms" }
with = { shell = "echo \"error: 1 test failed in try $VOX_ATTEMPT\" >&2; exit 101" }
[[step]]
key = "publish"
uses = "exec"
needs = ["test[os=linux]"]
with = { command = ["true"] }
"#;

/// A line without times, and without the width that they give to columns.
fn without_times(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split(' ') {
        let unit = word.trim_end_matches([':', ',']);
        let number = words.last().is_some_and(|word| word.parse::<f64>().is_ok());
        if ["µs", "ms", "s"].contains(&unit) && number {
            words.pop();
            words.push(format!("TIME{}", &word[unit.len()..]));
        } else {
            words.push(word.to_owned());
        }
    }
    let mut line = words.join(" ");
    while line.contains("   ") {
        line = line.replace("   ", "  ");
    }
    line
}

/// A text in which what stands between `before` and one of `after` is 0.
fn zeroed(text: &str, before: &str, after: &[char]) -> String {
    let mut parts = text.split(before);
    let mut zeroed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(after).unwrap_or(part.len());
        zeroed.push_str(before);
        zeroed.push('0');
        zeroed.push_str(&part[end..]);
    }
    zeroed
}

#[test]
fn a_failure_is_told_to_people_line_by_line_and_once_more_at_the_end() {
    let quickstart = Quickstart::new();
    let shown = Ended::of(&mut quickstart.run(FAILS)).failed(1, &[]).stdout;
    let run = shown
        .lines()
        .next()
        .and_then(|line| line.rsplit(' ').next());
    let shown = shown.replace(run.unwrap(), "RUN");
    let lines: Vec<String> = shown.lines().map(without_times).collect();
    insta::assert_snapshot!("failure-for-people", lines.join("\n"));
}

#[test]
fn a_failure_is_told_to_programs_event_by_event() {
    let quickstart = Quickstart::new();
    let mut command = quickstart.run(FAILS);
    let told = Ended::of(command.args(["--format", "json"]))
        .failed(1, &[])
        .stdout;
    let report = crate::runs::report(&told);
    let told = told.replace(report["run"].as_str().unwrap(), "RUN");
    let told = told.replace(report["file"].as_str().unwrap(), "pipeline.toml");
    let told = zeroed(&told, "\"timestamp\":", &[',']);
    let told = zeroed(&told, "\"seconds\":", &['}']);
    let told = zeroed(&told, "{\"key\":\"cpu-seconds\",\"value\":\"", &['"']);
    // What plugins cost is another matter.
    let lines = told.lines();
    let lines: Vec<&str> = lines
        .filter(|line| !line.contains("\"event\":\"metrics\""))
        .collect();
    insta::assert_snapshot!("failure-for-programs", lines.join("\n"));
}
