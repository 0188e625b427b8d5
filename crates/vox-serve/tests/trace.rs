//! What the log has of a request, and what it has not. A file of its own, as there is one log.

mod kit;

use std::io::Write;
use std::sync::{Arc, Mutex};

use kit::{post_bytes, serve};
use serde_json::{Value, json};
use tracing_subscriber::fmt::format::FmtSpan;
use vox_serve::{Keys, Options};

const KEY: &str = "0123456789abcdef-key";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_request_has_a_span_without_its_key_or_its_prompt() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(move || writer.clone())
        .init();
    let mut options = Options::default();
    options.keys = Keys::from_variable("KEYS", KEY).unwrap();
    let mut served = serve(options);
    let body = kit::chat(
        "words",
        json!({"messages": [{"role": "user", "content": "private"}]}),
    );
    let headers = format!("authorization: Bearer {KEY}\r\n");
    let asked = post_bytes(
        "/v1/chat/completions",
        &headers,
        body.to_string().as_bytes(),
    );
    let answer = served.send(&asked);
    assert_eq!(answer.status, 200);
    let wrong = post_bytes(
        "/v1/models",
        "authorization: Bearer another-key-0123\r\n",
        b"",
    );
    served.send(&wrong).error(401);
    // Once it is over, all is written.
    served.server.take().unwrap().shutdown();
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for secret in [KEY, "another-key-0123", "private"] {
        assert!(!text.contains(secret), "`{secret}` in\n{text}");
    }
    let spans: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["fields"]["message"] == "close")
        .map(|line| line["span"].clone())
        .filter(|span| span["name"] == "vox.serve.request")
        .collect();
    let span = spans
        .iter()
        .find(|span| span["id"] == answer.headers["x-request-id"].as_str())
        .unwrap_or_else(|| panic!("no span in\n{text}"));
    assert_eq!(span["route"], "/v1/chat/completions");
    assert_eq!(span["method"], "POST");
    assert_eq!(span["status"], 200);
    assert!(spans.iter().any(|span| span["status"] == 401), "{text}");
}
