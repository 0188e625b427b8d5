//! The plugins that use HTTP, as components with a real server, and the collector as a library.

mod probe;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use probe::Server;
use serde_json::{Value, json};
use vox_host::{Host, Instance};
use vox_testkit::{Recorded, Recorder, World};

fn instance(host: &Host, id: &str, recorder: &std::sync::Arc<Recorder>) -> Instance {
    host.instance(&id.parse().unwrap(), recorder.options())
        .unwrap()
}

/// Runs a step of the fetcher; answers its outcome, or its error.
fn fetch(
    host: &Host,
    recorder: &std::sync::Arc<Recorder>,
    arguments: Value,
) -> Result<Value, String> {
    let invocation = json!({
        "run": "r", "step": "fetch", "runner": "http", "arguments": arguments.to_string(),
        "environment": [], "directory": "/", "attempt": 1, "idempotency_key": "r/fetch",
        "inputs": [], "outputs": ["body"], "input_files": [], "output_files": []
    });
    instance(host, "http", recorder)
        .call_json("step.run", vec![invocation])
        .map_err(|error| error.to_string())
}

fn body(recorder: &Recorder) -> (Vec<u8>, Vec<String>) {
    let mut bytes = Vec::new();
    let mut events = Vec::new();
    for recorded in recorder.take() {
        match recorded {
            Recorded::Chunk { port, chunk } => {
                assert_eq!(port, "body");
                bytes.extend(chunk.data);
            }
            Recorded::Event { name, payload } => events.push(format!("{name} {payload}")),
        }
    }
    (bytes, events)
}

#[test]
fn a_component_fetches_from_a_granted_host_and_compares_the_digest() {
    let world = World::with(&["http"]);
    let server = Server::answering(
        "200 OK",
        "content-type: text/plain\r\netag: \"7\"\r\n",
        "hello",
    );
    let url = format!("http://127.0.0.1:{}/a", server.port());
    let grants = format!(
        "[plugin.http]\nnetwork = [\"127.0.0.1:{}\"]\nstream_io = true\nevents = true\nclocks = true",
        server.port()
    );
    let host = world.host(&grants);
    let recorder = Recorder::new();
    // SHA-256 of `hello`.
    let digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let outcome = fetch(&host, &recorder, json!({ "url": url, "digest": digest })).unwrap();
    assert_eq!(outcome["code"], 0, "{outcome}");
    let (bytes, events) = body(&recorder);
    assert_eq!(bytes, b"hello");
    assert_eq!(events.last().unwrap(), r#"progress {"done":5,"total":5}"#);

    let wrong = format!("sha256:{}", "0".repeat(64));
    let outcome = fetch(&host, &recorder, json!({ "url": url, "digest": wrong })).unwrap();
    assert_eq!(outcome["code"], 2, "{outcome}");
    let summary = outcome["summary"].as_str().unwrap();
    assert!(
        summary.contains(digest) && summary.contains(&wrong),
        "{summary}"
    );
}

#[test]
fn a_component_sends_a_body_and_is_told_of_a_status() {
    let world = World::with(&["http"]);
    let server = Server::answering("503 Service Unavailable", "retry-after: 3\r\n", "");
    let host = world.host(&format!(
        "[plugin.http]\nnetwork = [\"127.0.0.1:{}\"]\nstream_io = true",
        server.port()
    ));
    let url = format!("http://127.0.0.1:{}/", server.port());
    let more = json!({ "url": url, "method": "POST", "body": "x".repeat(20_000) });
    let outcome = fetch(&host, &Recorder::new(), more).unwrap();
    assert_eq!(outcome["code"], 503, "{outcome}");
    assert!(
        outcome["summary"].as_str().unwrap().contains("wait 3 s"),
        "{outcome}"
    );
}

#[test]
fn a_component_reaches_no_host_that_is_not_granted_not_by_a_redirect_either() {
    let world = World::with(&["http"]);
    let elsewhere = Server::answering("200 OK", "", "secret");
    let location = format!("location: http://127.0.0.1:{}/\r\n", elsewhere.port());
    let server = Server::answering("302 Found", &location, "");
    let host = world.host(&format!(
        "[plugin.http]\nnetwork = [\"127.0.0.1:{}\"]\nstream_io = true",
        server.port()
    ));
    for port in [server.port(), elsewhere.port()] {
        let url = format!("http://127.0.0.1:{port}/");
        let told = fetch(&host, &Recorder::new(), json!({ "url": url })).unwrap_err();
        let grant = format!(
            "vox plugin grant http network=127.0.0.1:{}",
            elsewhere.port()
        );
        assert!(told.contains(&grant), "{told}");
    }
    assert_eq!(elsewhere.callers(), 0);
}

fn event(point: &str, step: &str, detail: Value) -> Vec<Value> {
    let event = json!({
        "point": point, "run": "r", "step": step, "timestamp": 1, "detail": detail.to_string()
    });
    vec![event, json!([])]
}

#[test]
fn a_notice_of_a_component_reaches_the_webhook_and_one_that_cannot_fails_nothing() {
    let world = World::with(&["notify"]);
    let server = Server::answering("204 No Content", "", "");
    let url = format!("http://127.0.0.1:{}/hook", server.port());
    world.settings(&format!("[plugin.notify.config]\nurl = \"{url}\"\n"));
    let ended = || {
        event(
            "post_pipeline",
            "",
            json!({ "status": "failed", "steps": { "a": "failed" } }),
        )
    };

    let granted = format!(
        "[plugin.notify]\nnetwork = [\"127.0.0.1:{}\"]",
        server.port()
    );
    let host = world.host(&granted);
    let mut notify = instance(&host, "notify", &Recorder::new());
    notify.call_json("hook.handle", ended()).unwrap();
    assert_eq!(server.callers(), 1);

    let host = world.host("");
    let mut notify = instance(&host, "notify", &Recorder::new());
    notify.call_json("hook.handle", ended()).unwrap();
    assert_eq!(server.callers(), 1);
}

#[test]
fn the_collector_serves_what_it_was_told_and_tells_where() {
    let world = World::with(&["prometheus"]);
    world.settings("[plugin.prometheus.config]\nlisten = \"127.0.0.1:0\"\n");
    let host = world.host("[plugin.prometheus]\nevents = true");
    let recorder = Recorder::new();
    let mut prometheus = instance(&host, "prometheus", &recorder);
    let began = event(
        "pre_pipeline",
        "",
        json!({ "pipeline": "p", "steps": ["a"] }),
    );
    prometheus.call_json("hook.handle", began).unwrap();
    let address = recorder
        .take()
        .into_iter()
        .find_map(|recorded| match recorded {
            Recorded::Event { name, payload } if name == "prometheus.listening" => {
                let payload: Value = serde_json::from_str(&payload).unwrap();
                Some(payload["address"].as_str().unwrap().to_owned())
            }
            _ => None,
        });
    let address = address.expect("the address was told");
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: v\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("\nvox_run_running 1.0\n"), "{text}");
    drop(prometheus);
    drop(host);
    assert!(
        TcpStream::connect(&address).is_err(),
        "it ended with its instance"
    );
}
