//! Notices to a real server, by a real client in the place of WASI.

use std::sync::mpsc;
use std::thread;

use tiny_http::{Response, Server};
use vox_plugin::serde_json::{self, Value, json};

use super::*;

/// A webhook that answers a status, and what it was sent: header `content-type`, then the body.
struct Webhook {
    url: String,
    sent: mpsc::Receiver<(String, String)>,
}

impl Webhook {
    fn answering(status: u16) -> Self {
        let server = Server::http("127.0.0.1:0").unwrap();
        let url = format!("http://{}/T0/secret", server.server_addr());
        let (sender, sent) = mpsc::channel();
        thread::spawn(move || {
            for mut request in server.incoming_requests() {
                assert_eq!(
                    (request.method().as_str(), request.url()),
                    ("POST", "/T0/secret")
                );
                let mut body = String::new();
                request.as_reader().read_to_string(&mut body).unwrap();
                let headers = request.headers().iter();
                let mut kinds = headers.filter(|header| header.field.equiv("Content-Type"));
                let kind = kinds.next().unwrap().value.to_string();
                // Before the answer: whoever has that finds what was sent.
                if sender.send((kind, body)).is_err() {
                    break;
                }
                request.respond(Response::empty(status)).unwrap();
            }
        });
        Self { url, sent }
    }

    /// What it was sent and nobody has looked at.
    fn last(&self) -> Option<(String, String)> {
        self.sent.try_recv().ok()
    }
}

/// What [`post`] is to a component.
fn by_network(request: &Request) -> std::result::Result<u16, Failure> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .max_redirects(0)
        .http_status_as_error(false)
        .build()
        .into();
    let url = format!("http://{}{}", request.authority, request.path_with_query);
    let mut sent = ureq::http::Request::builder()
        .method(request.method.as_str())
        .uri(url);
    for (name, value) in &request.headers {
        sent = sent.header(name, value.as_slice());
    }
    let body = request.body.as_deref().unwrap_or_default();
    let answer = agent.run(sent.body(body).unwrap());
    let answer = answer.map_err(|error| Failure::Broken(error.to_string()))?;
    Ok(answer.status().as_u16())
}

fn notify(config: Value) -> Notify {
    Notify::init(&config.to_string()).unwrap()
}

fn event(point: &str, step: &str, seconds: u64, detail: Value) -> Event {
    Event {
        point: point.into(),
        run: "r1".into(),
        step: step.into(),
        timestamp: seconds * 1_000_000_000,
        detail: detail.to_string(),
    }
}

/// A run in which `train` fails, from its beginning to its end.
fn failed_run() -> [Event; 3] {
    [
        event(
            "pre_pipeline",
            "",
            100,
            json!({ "pipeline": "nightly", "steps": ["read", "train"] }),
        ),
        event(
            "on_error",
            "train",
            105,
            json!({ "message": "out of memory" }),
        ),
        event(
            "post_pipeline",
            "",
            107,
            json!({ "status": "failed", "steps": { "read": "succeeded", "train": "failed" } }),
        ),
    ]
}

#[test]
fn the_end_of_a_run_is_told_to_the_webhook() {
    let webhook = Webhook::answering(204);
    let mut notify = notify(json!({ "url": webhook.url }));
    for event in failed_run() {
        notify.take(event, by_network).unwrap();
    }
    let (kind, body) = webhook.last().expect("one notice");
    assert_eq!(kind, "application/json");
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(told["pipeline"], "nightly");
    assert_eq!(told["status"], "failed");
    assert_eq!(told["seconds"], 7.0);
    assert_eq!(
        told["failed"],
        json!([{ "step": "train", "message": "out of memory" }])
    );
    assert!(webhook.last().is_none());
    assert_eq!(notify.health(), Condition::Ready);
}

#[test]
fn a_step_is_told_of_at_once_where_that_is_wanted() {
    let webhook = Webhook::answering(200);
    let config = json!({ "url": webhook.url, "on": ["step-failed"], "format": "text" });
    let mut notify = notify(config);
    for event in failed_run() {
        notify.take(event, by_network).unwrap();
    }
    let (kind, body) = webhook.last().expect("one notice");
    assert_eq!(kind, "text/plain; charset=utf-8");
    assert_eq!(body, "nightly (run r1): step train failed: out of memory");
    assert!(webhook.last().is_none());
}

#[test]
fn what_is_not_wanted_is_not_told() {
    let mut notify = notify(json!({ "url": "https://e.org/", "on": ["succeeded"] }));
    for event in failed_run() {
        notify
            .take(event, |_| panic!("nothing is to be sent"))
            .unwrap();
    }
}

#[test]
fn a_notice_that_is_not_taken_changes_nothing_and_is_no_secret() {
    for (config, answer, reason) in [
        (json!({}), Ok(500), "answered 500"),
        (json!({}), Ok(302), "not followed"),
        (
            json!({}),
            Err(Failure::Denied),
            "vox plugin grant notify network=e.org:443",
        ),
        (json!({}), Err(Failure::TimedOut), "in time"),
    ] {
        let mut config = config;
        config["url"] = json!("https://e.org/secret");
        let mut notify = notify(config);
        for event in failed_run() {
            let answer = answer.clone();
            assert_eq!(notify.take(event, |_| answer), Ok(()));
        }
        let Condition::Degraded(told) = notify.health() else {
            panic!("it is degraded")
        };
        assert!(told.contains(reason) && !told.contains("secret"), "{told}");
    }
}

#[test]
fn a_hook_that_cannot_send_lets_the_run_go_on() {
    // Outside of a component there is no WASI to send by.
    let mut notify = notify(json!({ "url": "https://e.org/" }));
    for event in failed_run() {
        assert_eq!(notify.handle(event, &[]).unwrap(), Outcome::Continue);
    }
    assert!(matches!(notify.health(), Condition::Degraded(_)));
}
