//! What is served and written of a run, checked by Prometheus's own tool where that is installed.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use vox_plugin::Error;
use vox_plugin::serde_json::Value;

use super::*;

fn event(point: &str, step: &str, seconds: u64, detail: Value) -> Event {
    Event {
        point: point.into(),
        run: "r1".into(),
        step: step.into(),
        timestamp: seconds * 1_000_000_000,
        detail: detail.to_string(),
    }
}

fn prometheus(config: Value) -> Prometheus {
    Prometheus::init(&config.to_string()).unwrap()
}

/// A run with a step that succeeds, one that fails and one that is skipped, up to its end.
fn run_until_end() -> Vec<Event> {
    let words = json!([{
        "name": "words_total", "kind": "Counter", "help": "Words", "value": 7.0,
        "labels": [{ "key": "language", "value": "en" }]
    }]);
    let costs = json!([{
        "name": "vox_plugin_calls_total", "kind": "Counter", "help": "Calls", "value": 12.0,
        "labels": [{ "key": "plugin", "value": "wordstat" }]
    }]);
    let failed = json!({ "status": "failed", "message": "no", "code": 1, "seconds": 0.02 });
    vec![
        event(
            "pre_pipeline",
            "",
            100,
            json!({ "pipeline": "p", "steps": ["a", "b", "c"] }),
        ),
        event(
            "on_metrics",
            "a",
            101,
            json!({ "plugin": "wordstat", "port": "in", "samples": words }),
        ),
        event(
            "post_step",
            "a",
            101,
            json!({ "status": "succeeded", "summary": "", "attributes": [], "seconds": 1.5 }),
        ),
        event("post_step", "b", 102, failed),
        event("on_error", "b", 102, json!({ "message": "no" })),
        event(
            "on_metrics",
            "",
            103,
            json!({ "plugin": "wordstat", "port": null, "samples": costs }),
        ),
    ]
}

fn end() -> Event {
    let steps = json!({ "a": "succeeded", "b": "failed", "c": "skipped" });
    event(
        "post_pipeline",
        "",
        103,
        json!({ "status": "failed", "steps": steps }),
    )
}

fn tell(prometheus: &mut Prometheus, events: impl IntoIterator<Item = Event>) {
    for event in events {
        assert_eq!(prometheus.handle(event, &[]), Ok(Outcome::Continue));
    }
}

/// Where nobody else takes ports, so that one that was free stays free. Not every system has such a place.
const APART: &str = if cfg!(target_os = "linux") {
    "127.0.0.2:0"
} else {
    "127.0.0.1:0"
};

fn served(prometheus: &Prometheus, accept: &str) -> String {
    let address = prometheus.server.as_ref().expect("it serves").address();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: v\r\nAccept: {accept}\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
        .split_once("\r\n\r\n")
        .expect("head and body")
        .1
        .to_owned()
}

#[track_caller]
fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(
            text.lines().any(|other| other == *line),
            "{line}\nis not in\n{text}"
        );
    }
}

#[test]
fn a_run_is_counted_while_it_goes_on_and_at_its_end() {
    let mut prometheus = prometheus(json!({ "listen": "127.0.0.1:0" }));
    tell(&mut prometheus, run_until_end());
    let during = served(&prometheus, "*/*");
    assert_lines(
        &during,
        &[
            "vox_run_running 1.0",
            "vox_run_steps_total{status=\"succeeded\"} 1.0",
            "vox_run_steps_total{status=\"failed\"} 1.0",
            "vox_run_step_seconds_bucket{step=\"a\",le=\"5\"} 1",
            "vox_run_errors_total 1.0",
            "words_total{language=\"en\",plugin=\"wordstat\",port=\"in\",step=\"a\"} 7.0",
            "vox_plugin_calls_total{plugin=\"wordstat\"} 12.0",
        ],
    );
    assert!(!during.contains("vox_runs_total{"), "{during}");
    tell(&mut prometheus, [end()]);
    let after = served(&prometheus, "*/*");
    let lines = [
        "vox_run_running 0.0",
        "vox_runs_total{status=\"failed\"} 1.0",
        "vox_run_steps_total{status=\"skipped\"} 1.0",
        "vox_run_last_success{pipeline=\"p\"} 0.0",
        "vox_run_last_duration_seconds{pipeline=\"p\"} 3.0",
    ];
    assert_lines(&after, &lines);
    assert_eq!(prometheus.health(), Condition::Ready);
}

#[test]
fn counters_of_instances_add_up_and_those_of_the_host_do_not() {
    let mut prometheus = prometheus(json!({ "listen": "127.0.0.1:0" }));
    for _ in 0..2 {
        tell(&mut prometheus, run_until_end());
        tell(&mut prometheus, [end()]);
    }
    let lines = [
        "words_total{language=\"en\",plugin=\"wordstat\",port=\"in\",step=\"a\"} 14.0",
        "vox_plugin_calls_total{plugin=\"wordstat\"} 12.0",
        "vox_runs_total{status=\"failed\"} 2.0",
    ];
    assert_lines(&served(&prometheus, ""), &lines);
}

#[test]
fn a_file_is_there_whole_at_the_end_of_a_run() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vox.prom");
    let mut prometheus = prometheus(json!({ "listen": "none", "file": file }));
    tell(&mut prometheus, run_until_end());
    assert!(!file.exists());
    tell(&mut prometheus, [end()]);
    let text = fs::read_to_string(&file).unwrap();
    assert_lines(&text, &["vox_runs_total{status=\"failed\"} 1.0"]);
    let others = fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(others, 1, "nothing is left beside it");
}

#[test]
fn where_it_cannot_serve_or_write_the_run_goes_on_and_it_says_so() {
    let taken = std::net::TcpListener::bind(APART).unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("none/vox.prom");
    let mut prometheus = prometheus(json!({ "listen": listen, "file": file }));
    tell(&mut prometheus, run_until_end());
    let Condition::Degraded(told) = prometheus.health() else {
        panic!("it is degraded")
    };
    assert!(told.contains(&listen), "{told}");
    drop(taken);
    tell(&mut prometheus, [end()]);
    assert_lines(
        &served(&prometheus, ""),
        &["vox_runs_total{status=\"failed\"} 1.0"],
    );
    let Condition::Degraded(told) = prometheus.health() else {
        panic!("it is degraded")
    };
    assert!(told.contains("vox.prom"), "{told}");
}

#[test]
fn runs_at_one_address_share_a_server_that_ends_with_the_last_of_them() {
    let free = std::net::TcpListener::bind(APART)
        .unwrap()
        .local_addr()
        .unwrap();
    let config = json!({ "listen": free.to_string() });
    let mut first = prometheus(config.clone());
    let mut second = prometheus(config.clone());
    for prometheus in [&mut first, &mut second] {
        tell(prometheus, run_until_end());
    }
    assert_lines(&served(&first, ""), &["vox_run_running 2.0"]);
    // A run whose end is not told.
    first.shutdown().unwrap();
    assert_lines(&served(&second, ""), &["vox_run_running 1.0"]);
    tell(&mut second, [end()]);
    second.shutdown().unwrap();
    assert!(TcpStream::connect(free).is_err());
    let third = prometheus(config);
    assert_lines(
        &served(&third, ""),
        &["vox_runs_total{status=\"failed\"} 1.0"],
    );
}

#[test]
fn what_plugins_say_is_bounded_and_fits_the_formats() {
    let mut prometheus = prometheus(json!({ "listen": "127.0.0.1:0", "max-series": 100 }));
    let samples: Vec<Value> = (0..1000)
        .map(|n| {
            json!({
                "name": format!("größe\n{} x", n % 3), "kind": "Gauge", "help": "a\n\"b\" \\",
                "value": if n == 0 { Value::Null } else { json!(f64::from(n)) },
                "labels": [
                    { "key": "le", "value": format!("a\"\\\n{n}") },
                    { "key": "plugin", "value": "another" },
                    { "key": "", "value": "" }
                ]
            })
        })
        .collect();
    let hostile = json!({ "plugin": "p\"}\n", "port": null, "samples": samples });
    tell(&mut prometheus, [event("on_metrics", "s", 1, hostile)]);
    let pretend = json!([{ "name": "vox_runs_total", "kind": "Counter", "value": 9.0 }]);
    let pretend = json!({ "plugin": "p", "port": null, "samples": pretend });
    tell(&mut prometheus, [event("on_metrics", "s", 1, pretend)]);
    let text = served(&prometheus, "");
    assert_lines(
        &text,
        &[
            "vox_metrics_dropped_total{reason=\"limit\"} 900.0",
            "vox_metrics_dropped_total{reason=\"value\"} 1.0",
        ],
    );
    assert!(
        !text.contains("vox_runs_total 9") && !text.contains("vox_runs_total{"),
        "{text}"
    );
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series <= 102, "{series}");
    assert_grammar(&text);
    assert_grammar(&served(&prometheus, "application/openmetrics-text"));
    check(&text);
}

#[test]
fn an_event_that_makes_no_sense_is_an_error_and_counts_nothing() {
    let mut prometheus = prometheus(json!({ "listen": "127.0.0.1:0" }));
    let broken = event("on_metrics", "s", 1, json!({ "samples": "none" }));
    assert!(matches!(
        prometheus.handle(broken, &[]),
        Err(Error::Invalid(_))
    ));
}

#[test]
fn prometheus_finds_nothing_to_object_to() {
    let mut prometheus = prometheus(json!({ "listen": "127.0.0.1:0" }));
    tell(&mut prometheus, run_until_end());
    tell(&mut prometheus, [end()]);
    let text = served(&prometheus, "");
    assert_grammar(&text);
    assert_grammar(&served(&prometheus, "application/openmetrics-text"));
    let problems = check(&text);
    assert!(
        problems.is_none_or(|problems| problems.is_empty()),
        "see above"
    );
}

/// Every line is a comment or `name{label="value",…} number`, and the samples of a family follow
/// its type.
#[track_caller]
fn assert_grammar(text: &str) {
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let mut family = "";
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            if let Some(declared) = comment.strip_prefix("TYPE ") {
                family = declared.split_once(' ').expect("a type").0;
                assert!(is_name(family), "{line}");
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let sound = value.parse::<f64>().is_ok() || ["+Inf", "-Inf", "NaN"].contains(&value);
        assert!(sound, "{line}");
        let (name, mut labels) = series.split_once('{').unwrap_or((series, "}"));
        assert!(is_name(name) && name.starts_with(family), "{line}");
        while let Some((key, rest)) = labels.split_once("=\"") {
            assert!(is_name(key.trim_start_matches(',')), "{line}");
            let mut escaped = false;
            let end = rest.find(|c: char| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            labels = &rest[end.expect("an end") + 1..];
        }
        assert_eq!(labels, "}", "{line}");
    }
}

/// What `promtool check metrics` prints of a text, where it is installed. A text that it cannot read
/// fails the test; what it only objects to is for the caller.
#[track_caller]
fn check(text: &str) -> Option<String> {
    let tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut tool) = tool else {
        skipped::because("no promtool is installed; Debian has it in the package `prometheus`");
        return None;
    };
    tool.stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = tool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    print!("{said}");
    // 3 is for what it objects to, 1 for what it cannot read.
    assert_ne!(output.status.code(), Some(1), "{said}\n{text}");
    Some(said)
}
