//! How the server behaves: keys, origins, the queue, metrics, and its end.

mod kit;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use kit::{Event, Streamed, chat, options, post_bytes, serve};
use serde_json::json;
use vox_serve::{Backends, Engine, Keys, Options, ServeError, Server};

const CHAT: &str = "/v1/chat/completions";
const KEY: &str = "0123456789abcdef-key";

fn with_keys() -> Options {
    options(|options| options.keys = Keys::from_variable("KEYS", KEY).unwrap())
}

#[test]
fn a_server_listens_on_this_machine_alone_unless_it_is_told_otherwise() {
    assert!(Options::default().listen.ip().is_loopback());
    let script = Arc::clone(&serve(Options::default()).script) as Arc<dyn Engine>;
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let refused = Server::start(listener, Arc::clone(&script), Options::default());
    assert!(
        matches!(refused, Err(ServeError::Open { .. })),
        "{refused:?}"
    );
    // With keys, or by intent, it may.
    for options in [with_keys(), options(|options| options.open = true)] {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        Server::start(listener, Arc::clone(&script), options).unwrap();
    }
}

#[test]
fn an_option_that_makes_no_sense_is_named() {
    let script = Arc::clone(&serve(Options::default()).script) as Arc<dyn Engine>;
    for (options, name) in [
        (options(|options| options.served = 0), "served"),
        (options(|options| options.head_bytes = 10), "head_bytes"),
        (
            options(|options| options.origins = vec!["example.org".to_owned()]),
            "origins",
        ),
    ] {
        let told = Server::bind(Arc::clone(&script), options)
            .unwrap_err()
            .to_string();
        assert!(told.contains(&format!("`{name}`")), "{told}");
    }
}

#[test]
fn times_in_which_nothing_could_be_answered_and_endless_ones_are_named() {
    let script = Arc::clone(&serve(Options::default()).script) as Arc<dyn Engine>;
    for (name, value) in [
        ("head_time", "0s"),
        ("write_time", "0s"),
        ("linger", "2years"),
    ] {
        let options = options(|options| options.set_limit(name, value).unwrap());
        let told = Server::bind(Arc::clone(&script), options)
            .unwrap_err()
            .to_string();
        assert!(told.contains(&format!("`{name}`")), "{told}");
    }
}

#[test]
fn a_limit_that_there_is_not_is_answered_with_those_that_there_are() {
    let refusal = |name: &str, value: &str| {
        let refused = Options::default().set_limit(name, value);
        refused.unwrap_err().to_string()
    };
    let told = refusal("promptbytes", "1");
    assert!(told.contains("`promptbytes` is no limit"), "{told}");
    assert!(
        told.contains("`prompt_bytes`") && told.contains("`cancel_time`"),
        "{told}"
    );
    let told = refusal("prompt_bytes", "8MiB");
    assert!(
        told.contains("`8MiB`") && told.contains("whole number"),
        "{told}"
    );
    let told = refusal("queue_time", "120");
    assert!(told.contains("`120`") && told.contains("`90s`"), "{told}");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let served = serve(Options::default());
    let script = Arc::clone(&served.script) as Arc<dyn Engine>;
    let taken = options(|options| options.listen = served.address);
    let told = Server::bind(script, taken).unwrap_err().to_string();
    assert!(told.contains(&served.address.to_string()), "{told}");
}

#[test]
fn nobody_asks_without_a_key_where_there_are_keys() {
    let served = serve(with_keys());
    let body = chat("words", json!({})).to_string();
    let ask = |headers: &str| served.send(&post_bytes(CHAT, headers, body.as_bytes()));
    for headers in [
        String::new(),
        "authorization: Bearer 0123456789abcdef-kex\r\n".to_owned(),
        format!("authorization: Basic {KEY}\r\n"),
        format!("authorization: Bearer {KEY}x\r\n"),
    ] {
        let answer = ask(&headers);
        assert_eq!(answer.error(401)["code"], "invalid_api_key");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    assert_eq!(ask(&format!("authorization: Bearer {KEY}\r\n")).status, 200);
    for path in ["/v1/models", "/metrics", "/nothing"] {
        served.get(path).error(401);
    }
    assert_eq!(served.get("/health").status, 200);
}

#[test]
fn a_web_page_may_not_ask_unless_its_origin_is_allowed() {
    let body = chat("words", json!({})).to_string();
    let ask = |served: &kit::Served, origin: &str| {
        let headers = format!("origin: {origin}\r\n");
        served.send(&post_bytes(CHAT, &headers, body.as_bytes()))
    };
    let served = serve(Options::default());
    assert_eq!(
        ask(&served, "https://example.org").error(403)["code"],
        "origin_not_allowed"
    );
    let page = "https://example.org";
    let served = serve(options(|options| options.origins = vec![page.to_owned()]));
    let answer = ask(&served, page);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["access-control-allow-origin"], page);
    assert_eq!(answer.headers["vary"], "origin");
    ask(&served, "https://example.org.evil.example").error(403);
    let answer = served.post(CHAT, &chat("words", json!({})));
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
}

#[test]
fn a_browser_that_asks_first_is_told_what_it_may_send() {
    let page = "https://example.org";
    let served = serve(options(|options| {
        options.origins = vec![page.to_owned()];
        options.keys = Keys::from_variable("KEYS", KEY).unwrap();
    }));
    let answer = served.send(
        format!(
            "OPTIONS {CHAT} HTTP/1.1\r\nhost: test\r\norigin: {page}\r\nconnection: close\r\n\
             access-control-request-method: POST\r\n\
             access-control-request-headers: authorization,content-type\r\n\r\n"
        )
        .as_bytes(),
    );
    assert_eq!(answer.status, 204);
    assert_eq!(answer.headers["access-control-allow-methods"], "GET, POST");
    let headers = &answer.headers["access-control-allow-headers"];
    assert_eq!(headers, "authorization,content-type");
}

#[test]
fn health_follows_the_engine() {
    let served = serve(Options::default());
    let answer = served.get("/health");
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"status": "ok"}))
    );
    *served.script.unready.lock().unwrap() = Some("the plugin is paused".to_owned());
    let answer = served.get("/health");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["reason"], "the plugin is paused");
}

#[test]
fn a_request_beyond_the_queue_is_told_when_to_come_back() {
    let served = serve(options(|options| options.queue = 1));
    let first = served.begin(CHAT, &chat("held", json!({})));
    served.began();
    let second = served.begin(CHAT, &chat("words", json!({})));
    served.until_metric("vox_serve_queue_length 1");
    let third = served.post(CHAT, &chat("words", json!({})));
    let error = third.error(429);
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("rate_limit_error"), &json!("queue_full"))
    );
    assert!(
        error["message"].as_str().unwrap().contains("`queue`"),
        "{error}"
    );
    let seconds: u64 = third.headers["retry-after"].parse().unwrap();
    assert!((1..=60).contains(&seconds));
    for _ in 0..4 {
        served.step();
    }
    assert_eq!(Streamed::read(first).rest().status, 200);
    assert_eq!(Streamed::read(second).rest().status, 200);
}

#[test]
fn a_request_does_not_wait_for_ever() {
    let served = serve(options(|options| {
        options.queue_time = Duration::from_millis(50)
    }));
    let _first = served.begin(CHAT, &chat("held", json!({})));
    served.began();
    let answer = served.post(CHAT, &chat("words", json!({})));
    assert_eq!(answer.error(503)["code"], "queue_timeout");
    assert!(answer.headers.contains_key("retry-after"));
}

#[test]
fn no_more_are_answered_at_once_than_may() {
    let served = serve(options(|options| options.served = 2));
    let streams: Vec<_> = (0..3)
        .map(|_| served.begin(CHAT, &chat("held", json!({"max_tokens": 1}))))
        .collect();
    served.began();
    served.began();
    served.until_metric("vox_serve_queue_length 1");
    served.until_metric("vox_serve_running 2");
    // The third begins where one of the others ended, and not before.
    served.step();
    assert_eq!(served.event(), Event::Heard(true));
    assert_eq!(served.event(), Event::Ended);
    served.began();
    served.step();
    served.step();
    for stream in streams {
        assert_eq!(Streamed::read(stream).rest().status, 200);
    }
}

#[test]
fn whoever_leaves_the_queue_gives_the_place_back() {
    let served = serve(options(|options| options.queue = 1));
    let _first = served.begin(CHAT, &chat("held", json!({})));
    served.began();
    let second = served.begin(CHAT, &chat("words", json!({})));
    served.until_metric("vox_serve_queue_length 1");
    drop(second);
    served.until_metric("vox_serve_queue_length 0");
    served
        .until_metric("vox_serve_requests_total{route=\"/v1/chat/completions\",status=\"499\"} 1");
}

#[test]
fn what_happened_is_counted() {
    let served = serve(Options::default());
    served.post(CHAT, &chat("words", json!({})));
    served.post(CHAT, &chat("words", json!({"stream": true})));
    served.post(CHAT, &chat("none", json!({})));
    let answer = served.get("/metrics");
    let kind = &answer.headers["content-type"];
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "vox_serve_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 2",
        "vox_serve_requests_total{route=\"/v1/chat/completions\",status=\"404\"} 1",
        "vox_serve_request_duration_seconds_count{route=\"/v1/chat/completions\"} 3",
        "vox_serve_first_token_seconds_count 2",
        "vox_serve_queue_seconds_count 2",
        "vox_serve_queue_length 0",
        "vox_serve_prompt_tokens_total 14",
        "vox_serve_cached_tokens_total 6",
        "vox_serve_answer_tokens_total 8",
        "vox_serve_cancelled_total{reason=\"client-left\"} 0",
        "# TYPE vox_serve_first_token_seconds histogram",
    ] {
        assert!(
            answer.body.lines().any(|found| found == line),
            "{line}\n{}",
            answer.body
        );
    }
}

#[test]
fn backends_that_died_and_were_replaced_are_counted_while_the_engine_is_healthy() {
    let served = serve(Options::default());
    served.until_metric("vox_serve_backends_died_total 0");
    served.until_metric("vox_serve_backends_replaced_total 0");
    *served.script.backends.lock().unwrap() = Backends {
        died: 3,
        replaced: 2,
    };
    served.until_metric("vox_serve_backends_died_total 3");
    served.until_metric("vox_serve_backends_replaced_total 2");
    assert_eq!(served.get("/health").status, 200);
}

#[test]
fn a_connection_takes_one_request_after_the_other() {
    let served = serve(Options::default());
    let mut stream = served.connect();
    for _ in 0..3 {
        let get = b"GET /v1/models/words HTTP/1.1\r\nhost: test\r\n\r\n";
        stream.write_all(get).unwrap();
        let answer = Streamed::read(stream.try_clone().unwrap()).rest();
        assert_eq!(answer.json()["id"], "words");
    }
}

#[test]
fn a_shutdown_finishes_what_is_answered_and_refuses_what_waits() {
    let mut served = serve(Options::default());
    let first = served.begin(CHAT, &chat("held", json!({"stream": true})));
    served.began();
    let second = served.begin(CHAT, &chat("words", json!({})));
    served.until_metric("vox_serve_queue_length 1");
    let mut idle = served.connect();
    // With the one that asks for the metrics.
    served.until_metric("vox_serve_connections 4");
    served.server.as_ref().unwrap().stopper().drain();
    assert_eq!(
        Streamed::read(second).rest().error(503)["code"],
        "shutting_down"
    );
    assert_eq!(
        idle.read(&mut [0]).unwrap(),
        0,
        "a connection that asked nothing is closed"
    );
    for _ in 0..4 {
        served.step();
    }
    assert_eq!(Streamed::read(first).rest().events().len(), 6);
    let ended = served.server.take().unwrap().wait();
    assert_eq!(ended.unfinished, 0);
    assert!(std::net::TcpStream::connect(served.address).is_err());
}

#[test]
fn a_shutdown_cancels_what_takes_too_long() {
    let mut served = serve(options(|options| {
        options.drain_time = Duration::ZERO;
        options.cancel_time = kit::PATIENCE;
    }));
    let stream = served.begin(CHAT, &chat("held", json!({"stream": true})));
    served.began();
    served.step();
    let mut streamed = Streamed::read(stream);
    while !streamed.chunk().unwrap().contains("Hello") {}
    assert_eq!(served.event(), Event::Heard(true));
    let server = served.server.take().unwrap();
    let ending = std::thread::spawn(move || server.shutdown());
    // `hear` says so as soon as the server does; until then it may want more.
    served.step();
    served.step();
    served.step();
    let body = streamed.rest().body;
    assert!(
        body.contains("shutting_down") || body.contains("[DONE]"),
        "{body}"
    );
    assert_eq!(ending.join().unwrap().unfinished, 0);
}

#[test]
fn an_endless_answer_ends_when_the_server_is_cancelled() {
    let mut served = serve(options(|options| options.cancel_time = kit::PATIENCE));
    let stream = served.begin(CHAT, &chat("endless", json!({"stream": true})));
    served.began();
    let mut streamed = Streamed::read(stream);
    streamed.chunk().unwrap();
    let server = served.server.take().unwrap();
    server.stopper().cancel();
    let body = streamed.rest().body;
    assert!(
        body.contains("shutting_down"),
        "{}",
        &body[body.len() - 200..]
    );
    assert_eq!(server.wait().unfinished, 0);
    assert_eq!(served.ended(), Some(false));
}

#[test]
fn an_engine_that_does_not_end_is_left_behind() {
    let mut served = serve(options(|options| {
        options.cancel_time = Duration::from_millis(50)
    }));
    let stream = served.begin(CHAT, &chat("deaf", json!({})));
    served.began();
    let server = served.server.take().unwrap();
    server.stopper().cancel();
    assert_eq!(server.wait().unfinished, 1);
    drop(stream);
    served.step();
}
