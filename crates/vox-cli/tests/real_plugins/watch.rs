//! Runs that are looked at and steered from another process while they go on.
//!
//! A step holds each run up: it writes `ready` and then reads a pipe that the test opens when it
//! wants the run to go on.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use vox_testkit::checkout;

use crate::runs::send;
use crate::{Ended, Place};

/// A run that is held up at its gate.
struct Held<'a> {
    place: &'a Place,
    vox: Child,
    lines: Receiver<String>,
}

impl<'a> Held<'a> {
    /// Runs a pipeline of these steps, and waits until its step `wait` does.
    fn start(place: &'a Place, steps: &str) -> Self {
        let pipeline = format!("[pipeline]\nname = \"held\"\n{steps}");
        let mut vox = place
            .vox()
            .arg("run")
            .arg(place.write("pipeline.toml", &pipeline))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(vox.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The test may not want to hear more.
                let _ = sender.send(line);
            }
        });
        let held = Self { place, vox, lines };
        held.hears("wait | ready");
        held
    }

    fn pid(&self) -> String {
        self.vox.id().to_string()
    }

    /// Waits for a line that begins so.
    #[track_caller]
    fn hears(&self, start: &str) {
        let mut heard = Vec::new();
        while let Ok(line) = self.lines.recv() {
            if line.starts_with(start) {
                return;
            }
            heard.push(line);
        }
        panic!("no line `{start}`: {heard:#?}");
    }

    /// Lets the step `wait` read this.
    fn open(&self, text: &str) {
        std::fs::write(self.place.path().join("gate"), text).unwrap();
    }

    /// The plugin as `vox plugin top` has it.
    fn plugin(&self, id: &str) -> Value {
        let look = self.place.json(&["plugin", "top", "--once"]);
        let process = &look["processes"][0];
        assert_eq!(process["pid"], self.vox.id(), "{look:#}");
        let mut plugins = process["plugins"].as_array().unwrap().iter();
        let plugin = plugins.find(|plugin| plugin["plugin"] == id);
        plugin.unwrap_or_else(|| panic!("{id}: {look:#}")).clone()
    }

    /// What a verb of `vox plugin` answers for a plugin.
    fn steer(&self, verb: &str, id: &str) -> (Ended, Value) {
        let ended = self.place.run(["plugin", verb, id, "--format", "json"]);
        let answers = ended.json();
        assert_eq!(answers.as_array().unwrap().len(), 1, "{answers:#}");
        assert_eq!(answers[0]["pid"], self.vox.id());
        (ended, answers[0].clone())
    }

    /// The exit code of the run, with all else that it said.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said: String = self.lines.iter().map(|line| line + "\n").collect();
        let mut errors = self.vox.stderr.take().unwrap();
        errors.read_to_string(&mut said).unwrap();
        (self.vox.wait().unwrap().code(), said)
    }
}

/// A test that fails leaves no run behind.
impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Ok(None) = self.vox.try_wait() {
            let _ = self.vox.kill();
            let _ = self.vox.wait();
        }
    }
}

/// Waits at the gate; then another step of the same plugin reads a file.
const TWO_STEPS: &str = r#"
[[step]]
key = "wait"
uses = "exec"
with = { shell = "mkfifo gate && echo ready && cat gate" }
[[step]]
key = "next"
uses = "exec"
with = { shell = "cat made-while-paused" }
needs = ["wait"]
"#;

/// Waits at the gate; what comes through it goes through a stage.
const STREAM: &str = r#"
[[step]]
key = "wait"
uses = "exec"
with = { shell = "mkfifo gate && echo ready >&2 && cat gate" }
[[step]]
key = "show"
uses = "exec"
with = { command = ["cat"] }
inputs = { stdin = { from = "wait.stdout", through = [{ stage = "conformance" }] } }
"#;

fn place() -> Place {
    Place::with(&["exec", "conformance"])
}

#[test]
fn a_run_is_paused_looked_at_and_resumed_from_another_process() {
    let place = place();
    let run = Held::start(&place, TWO_STEPS);
    assert_eq!(run.plugin("exec")["state"], "active");
    let (ended, answer) = run.steer("pause", "exec");
    ended.succeeded();
    assert_eq!(
        (
            &answer["done"]["state"],
            &answer["done"]["outcome"],
            &answer["error"]
        ),
        (&json!("paused"), &json!("paused"), &Value::Null)
    );
    run.open("gone on\n");
    run.hears("wait | gone on");
    // The step that is inside ends; the next one waits, or it would miss its file.
    run.hears("next started");
    assert_eq!(run.plugin("exec")["state"], "paused");
    place.write("made-while-paused", "found\n");
    let (ended, answer) = run.steer("resume", "exec");
    ended.succeeded();
    assert_eq!(answer["done"]["state"], "active");
    let (code, said) = run.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("next | found"), "{said}");
}

#[test]
fn a_plugin_of_a_run_is_reloaded_from_another_process() {
    let place = place();
    let run = Held::start(&place, STREAM);
    place.0.release("second");
    let (ended, answer) = run.steer("reload", "conformance");
    ended.succeeded();
    assert_eq!(answer["done"]["outcome"], "replaced", "{answer:#}");

    place.0.release("failinit");
    let (ended, answer) = run.steer("reload", "conformance");
    ended.failed(1, &[]);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("goes on serving"), "{message}");
    let reloads = run.plugin("conformance")["reloads"].clone();
    let kept: Vec<bool> = reloads
        .as_array()
        .unwrap()
        .iter()
        .map(|reload| !reload["kept_old"].is_null())
        .collect();
    assert_eq!(kept, [false, true], "{reloads:#}");

    run.open("still served\n");
    let (code, said) = run.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("show | STILL SERVED"), "{said}");
}

#[test]
fn people_see_a_table_and_what_became_of_their_wish() {
    let place = place();
    let run = Held::start(&place, STREAM);
    let pid = run.pid();
    let shown = place.run(["plugin", "top", "--once"]).succeeded().stdout;
    let head = shown.lines().next().unwrap();
    assert!(head.starts_with(&format!("{pid} run ")), "{shown}");
    assert!(
        head.contains("pipeline.toml: up ") && head.contains(", memory "),
        "{shown}"
    );
    let titles = shown
        .lines()
        .find(|line| line.starts_with("PLUGIN"))
        .unwrap();
    assert!(titles.ends_with("OUT  DROPPED"), "{shown}");
    for start in ["exec ", "conformance ", "total "] {
        assert!(shown.lines().any(|line| line.starts_with(start)), "{shown}");
    }
    let said = place
        .run(["plugin", "pause", "conformance"])
        .succeeded()
        .stdout;
    assert_eq!(
        said,
        format!("process {pid}: conformance 0.1.0 is paused: its calls wait\n")
    );
    let again = place.run(["plugin", "pause", "conformance", "--pid", &pid]);
    assert_eq!(again.code, Some(1));
    assert!(
        again.stdout.contains("in state `paused`"),
        "{}",
        again.stdout
    );
    place.run(["plugin", "resume", "conformance"]).succeeded();
    run.open("x\n");
    assert_eq!(run.end().0, Some(0));
}

#[test]
fn what_no_running_process_uses_is_not_found() {
    let place = place();
    let run = Held::start(&place, TWO_STEPS);
    place
        .run(["plugin", "pause", "conformance"])
        .failed(3, &["no running process uses the plugin `conformance`"]);
    place
        .run(["plugin", "pause", "exec", "--pid", "1"])
        .failed(3, &["no process 1 is running with plugins"]);
    place.write("made-while-paused", "");
    run.open("x\n");
    assert_eq!(run.end().0, Some(0));
    place
        .run(["plugin", "pause", "exec"])
        .failed(3, &["nothing is running"]);
}

#[test]
fn the_socket_of_a_run_that_was_killed_is_swept() {
    let place = place();
    let mut run = Held::start(&place, TWO_STEPS);
    let socket = place.data().join(format!("run/{}.sock", run.pid()));
    assert!(socket.exists());
    run.vox.kill().unwrap();
    run.vox.wait().unwrap();
    assert!(socket.exists());
    place
        .run(["plugin", "top"])
        .failed(3, &["nothing is running"]);
    assert!(!socket.exists());
    // Its step has ended with it: what guards the programs of a run sees to that.
}

#[test]
fn a_run_that_cannot_be_reached_runs_all_the_same() {
    let place = place();
    std::fs::write(place.data().join("run"), "in the way").unwrap();
    let pipeline = "[pipeline]\nname = \"alone\"\n[[step]]\nkey = \"a\"\nuses = \"exec\"\n\
                    with = { command = [\"true\"] }\n";
    let ended = Ended::of(
        place
            .vox()
            .arg("run")
            .arg(place.write("pipeline.toml", pipeline)),
    );
    assert_eq!(ended.succeeded().stderr, "");
}

/// All keys in a JSON value, at every depth.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.keys().cloned());
            members.values().for_each(|member| keys(member, found));
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn every_key_that_top_tells_programs_is_documented() {
    let place = place();
    let run = Held::start(&place, STREAM);
    place.0.release("second");
    run.steer("reload", "conformance").0.succeeded();
    let look = place.json(&["plugin", "top", "--once"]);
    let mut told = BTreeSet::new();
    keys(&look, &mut told);
    let page = checkout().join("docs/src/how-to/watch-plugins.md");
    let page = std::fs::read_to_string(page).unwrap();
    let undocumented: Vec<_> = told
        .iter()
        .filter(|key| !page.contains(&format!("`{key}`")))
        .collect();
    assert_eq!(undocumented, Vec::<&String>::new());
    assert!(
        told.contains("cpu_percent") && told.contains("kept_old"),
        "{told:?}"
    );
    run.open("x\n");
    assert_eq!(run.end().0, Some(0));
}

#[test]
fn looks_follow_one_another_as_lines_until_ctrl_c() {
    let place = place();
    let run = Held::start(&place, TWO_STEPS);
    let mut command: Command = place.vox();
    command.args(["plugin", "top", "--interval", "50ms", "--format", "json"]);
    let mut top = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    let looks: Vec<Value> = lines
        .by_ref()
        .take(3)
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    let up: Vec<f64> = looks
        .iter()
        .map(|look| look["processes"][0]["uptime_seconds"].as_f64().unwrap())
        .collect();
    assert!(up.is_sorted() && up[0] < up[2], "{up:?}");
    assert!(send("INT", &top.id().to_string()));
    assert_eq!(top.wait().unwrap().code(), Some(130));
    place.write("made-while-paused", "");
    run.open("x\n");
    assert_eq!(run.end().0, Some(0));
}

#[test]
fn what_plugins_cost_is_in_the_report_of_a_run_and_not_in_the_way_of_people() {
    let place = place();
    let pipeline = "[pipeline]\nname = \"counted\"\n[[step]]\nkey = \"a\"\nuses = \"exec\"\n\
                    with = { command = [\"true\"] }\n";
    let file = place.write("pipeline.toml", pipeline);
    let file = crate::path(&file);
    let ended = place.run(["run", file, "--format", "json"]);
    let report = crate::runs::report(&ended.succeeded().stdout);
    let calls = crate::runs::metric(&report, "vox_plugin_calls_total");
    assert!(
        calls.iter().any(|calls| calls.as_f64() > Some(0.0)),
        "{report:#}"
    );
    let shown = place.run(["run", file]).succeeded().stdout;
    assert!(!shown.contains("vox_plugin"), "{shown}");
}
