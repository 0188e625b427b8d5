//! Clients that mean no good, or are broken.

mod kit;

use std::io::{Read as _, Write as _};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use kit::{Streamed, chat, options, post_bytes, serve};
use serde_json::{Value, json};
use vox_serve::Options;

const CHAT: &str = "/v1/chat/completions";

#[test]
fn a_prompt_of_100_mb_is_refused_with_the_limit() {
    // A busy machine needs longer for it than the server waits for others.
    let served = serve(options(|options| options.linger = kit::PATIENCE));
    let body = chat(
        "words",
        json!({"messages": [
            {"role": "user", "content": "x".repeat(100 << 20)},
        ]}),
    );
    let error = served.post(CHAT, &body).error(413);
    assert_eq!(error["code"], "body_too_large");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("4194304") && message.contains("`body_bytes`"),
        "{message}"
    );
}

#[test]
fn a_body_that_does_not_say_how_long_it_is_is_bounded_as_well() {
    let served = serve(options(|options| options.body_bytes = 1 << 20));
    let mut stream = served.connect();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b'['; 0x10000], b"\r\n"].concat();
    for _ in 0..32 {
        stream.write_all(&chunk).unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(
        Streamed::read(stream).rest().error(413)["code"],
        "body_too_large"
    );
}

#[test]
fn a_client_that_asks_whether_it_may_send_100_mb_is_told_not_to() {
    let served = serve(Options::default());
    let mut stream = served.connect();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: test\r\ncontent-length: 104857600\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    Streamed::read(stream).rest().error(413);
}

#[test]
fn a_prompt_that_is_too_large_is_refused_with_the_limit() {
    let served = serve(options(|options| options.prompt_bytes = 1000));
    let long = "x".repeat(501);
    let messages = json!([{"role": "user", "content": long}, {"role": "user", "content": long}]);
    let answer = served.post(CHAT, &chat("words", json!({"messages": messages})));
    let error = answer.error(400);
    assert_eq!(
        (&error["param"], &error["code"]),
        (&json!("messages"), &json!("prompt_too_large"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("1002 bytes") && message.contains("at most 1000"),
        "{message}"
    );
    let tokens = json!({"model": "words", "prompt": vec![5; 251]});
    assert_eq!(
        served.post("/v1/completions", &tokens).error(400)["param"],
        "prompt"
    );
    let texts = json!({"model": "org/vectors", "input": [long, long]});
    assert_eq!(
        served.post("/v1/embeddings", &texts).error(400)["param"],
        "input"
    );
}

#[test]
fn what_is_no_utf8_is_refused_with_the_place() {
    let served = serve(Options::default());
    let answer = served.send(&post_bytes(CHAT, "", b"{\"model\": \"w\xffrds\"}"));
    let error = answer.error(400);
    assert_eq!(error["code"], "invalid_utf8");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("byte 12") && message.contains("0xff"),
        "{message}"
    );
}

#[test]
fn what_is_no_json_is_refused_with_the_place() {
    let served = serve(Options::default());
    for (body, word) in [
        ("", "line 1 column 0"),
        (
            "{\"model\": \"words\",\n \"messages\": }",
            "line 2 column 14",
        ),
        ("{\"model\": \"\\ud800\"}", "line 1"),
        ("{\"temperature\": 1e999}", "line 1"),
        ("[]", "a list"),
        ("\"words\"", "a text"),
    ] {
        let answer = served.send(&post_bytes(CHAT, "", body.as_bytes()));
        let error = answer.error(400);
        assert!(
            error["message"].as_str().unwrap().contains(word),
            "{body}: {error}"
        );
    }
    let deep = "[".repeat(100_000);
    let error = served
        .send(&post_bytes(CHAT, "", deep.as_bytes()))
        .error(400);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("recursion limit"),
        "{error}"
    );
}

#[test]
fn an_absurd_max_tokens_is_refused_with_the_limit() {
    let served = serve(Options::default());
    for number in [
        "4097",
        "4294967296",
        "1e30",
        "1000000000000000000000000000000",
    ] {
        let body = chat("words", json!({})).to_string();
        let body = body.replacen('{', &format!("{{\"max_tokens\": {number},"), 1);
        let error = served
            .send(&post_bytes(CHAT, "", body.as_bytes()))
            .error(400);
        assert_eq!(error["param"], "max_tokens", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("at most 4096, the context of the model"),
            "{message}"
        );
    }
    let served = serve(options(|options| options.answer_tokens = 100));
    let error = served
        .post(CHAT, &chat("words", json!({"max_tokens": 101})))
        .error(400);
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("at most 100, the server's limit `answer_tokens`"),
        "{message}"
    );
}

#[test]
fn lists_without_end_are_refused_with_the_limit() {
    let served = serve(options(|options| options.inputs = 3));
    for (path, body, word) in [
        (
            CHAT,
            chat("words", json!({"stop": vec!["x"; 17]})),
            "stop_strings",
        ),
        (
            CHAT,
            chat("words", json!({"stop": "x".repeat(257)})),
            "stop_bytes",
        ),
        (
            CHAT,
            chat("words", json!({"logprobs": true, "top_logprobs": 21})),
            "alternatives",
        ),
        (
            "/v1/embeddings",
            json!({"model": "org/vectors", "input": ["a", "b", "c", "d"]}),
            "inputs",
        ),
    ] {
        let error = served.post(path, &body).error(400);
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .contains(&format!("`{word}`")),
            "{error}"
        );
    }
}

#[test]
fn a_name_of_a_model_is_not_repeated_at_length() {
    let served = serve(Options::default());
    let answer = served.post(CHAT, &chat(&"\u{1b}x".repeat(100_000), json!({})));
    answer.error(404);
    assert!(answer.body.len() < 2000 && !answer.body.contains('\u{1b}'));
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let served = serve(options(|options| options.head_bytes = 8 << 10));
    assert!(is_refused(&served, 20_000));
}

#[test]
fn a_head_is_refused_from_the_first_byte_above_the_limit() {
    let served = serve(Options::default());
    let limit = Options::default().head_bytes;
    assert!(!is_refused(&served, limit));
    for length in [limit + 1, 100_000] {
        assert!(is_refused(&served, length), "{length}");
    }
}

/// Whether a request is refused whose line and headers have so many bytes; answered it is otherwise.
fn is_refused(served: &kit::Served, length: usize) -> bool {
    let (begin, end) = ("GET /health HTTP/1.1\r\nx-long: ", "\r\n\r\n");
    let value = "x".repeat(length - begin.len() - end.len());
    let mut stream = served.connect();
    // It may be refused, and the connection closed, before all is sent.
    let _ = stream.write_all(format!("{begin}{value}{end}").as_bytes());
    let mut answer = [0; 12];
    match stream.read_exact(&mut answer) {
        Ok(()) if &answer == b"HTTP/1.1 200" => false,
        Ok(()) => {
            assert_eq!(&answer, b"HTTP/1.1 431");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            true
        }
    }
}

/// Sends a byte at a time, as fast as `pause` lets it, until the server has closed the connection.
fn drip(mut stream: std::net::TcpStream, bytes: &[u8], pause: Duration) -> Vec<u8> {
    stream.set_read_timeout(Some(pause)).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let began = Instant::now();
    for byte in bytes.iter().cycle() {
        assert!(began.elapsed() < kit::PATIENCE, "the server waits for ever");
        // What was answered before it was closed can be read all the same.
        let is_closed = stream.write_all(&[*byte]).is_err();
        // The wait between two bytes is a wait for the server to close.
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(_) if is_closed => break,
            Err(_) => {}
        }
    }
    answer
}

#[test]
fn a_head_that_comes_byte_by_byte_ends_the_connection() {
    let served = serve(options(|options| {
        options.head_time = Duration::from_millis(300)
    }));
    let began = Instant::now();
    drip(
        served.connect(),
        b"GET /health HTTP/1.1\r\nx: ",
        Duration::from_millis(20),
    );
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(served.get("/health").status, 200);
}

#[test]
fn a_body_that_comes_byte_by_byte_is_refused_with_the_limit() {
    let served = serve(options(|options| {
        options.body_time = Duration::from_millis(300)
    }));
    let mut stream = served.connect();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let answer = drip(stream, b" ", Duration::from_millis(20));
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("`body_time`"), "{answer}");
}

#[test]
fn a_silent_connection_is_closed() {
    let served = serve(options(|options| {
        options.head_time = Duration::from_millis(50)
    }));
    let mut stream = served.connect();
    let mut rest = Vec::new();
    // Reads until the server closes.
    stream.read_to_end(&mut rest).unwrap();
}

#[test]
fn an_answer_does_not_wait_for_ever_for_a_client_that_reads_byte_by_byte() {
    let served = serve(options(|options| {
        options.kept_bytes = 64 << 10;
        options.reader_time = Duration::from_millis(300);
    }));
    let mut stream = served.begin(CHAT, &chat("endless", json!({"stream": true})));
    served.began();
    // One byte now and then, until the engine has ended: meanwhile it fills what the system keeps.
    let (end, ends) = std::sync::mpsc::channel::<()>();
    let reading = std::thread::spawn(move || {
        let pause = Duration::from_millis(20);
        while ends.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            stream.read_exact(&mut [0]).unwrap();
        }
        stream
    });
    assert_eq!(served.ended(), Some(false));
    drop(end);
    let mut stream = reading.join().unwrap();
    served.until_metric("vox_serve_cancelled_total{reason=\"client-slow\"} 1");
    // The turn is free again although the client still has the connection.
    assert_eq!(served.post(CHAT, &chat("words", json!({}))).status, 200);
    // Whoever reads all the same learns why there is no more.
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(
        rest.contains("reader_timeout"),
        "{}",
        &rest[rest.len() - 300..]
    );
}

#[test]
fn a_connection_that_nobody_reads_is_closed() {
    let served = serve(options(|options| {
        options.write_time = Duration::from_millis(300);
        options.kept_bytes = 64 << 10;
    }));
    let stream = served.begin(CHAT, &chat("endless", json!({"stream": true})));
    served.began();
    assert_eq!(served.ended(), Some(false));
    served.until_metric("vox_serve_cancelled_total{reason=\"client-left\"} 1");
    // This connection is all that is left.
    served.until_metric("vox_serve_connections 1");
    drop(stream);
}

#[test]
fn a_stream_whose_client_goes_away_is_cancelled() {
    let served = serve(Options::default());
    let stream = served.begin(CHAT, &chat("endless", json!({"stream": true})));
    served.began();
    let mut streamed = Streamed::read(stream);
    streamed.chunk().unwrap();
    drop(streamed);
    assert_eq!(served.ended(), Some(false));
    served.until_metric("vox_serve_cancelled_total{reason=\"client-left\"} 1");
    served.until_metric("vox_serve_running 0");
}

#[test]
fn a_whole_answer_whose_client_goes_away_is_cancelled() {
    let served = serve(Options::default());
    let stream = served.begin(CHAT, &chat("endless", json!({})));
    served.began();
    drop(stream);
    assert_eq!(served.ended(), Some(false));
    served.until_metric("vox_serve_running 0");
}

#[test]
fn connections_beyond_the_limit_wait_and_are_served_in_the_end() {
    let served = serve(options(|options| {
        options.connections = 8;
        options.head_time = Duration::from_millis(200);
    }));
    let silent: Vec<_> = (0..200).map(|_| served.connect()).collect();
    // Those that say nothing are closed, and so this comes to its turn.
    assert_eq!(served.get("/health").status, 200);
    drop(silent);
}

#[test]
fn a_flood_of_requests_is_answered_or_told_to_come_back() {
    let served = serve(options(|options| options.queue = 4));
    let asking: Vec<_> = (0..100)
        .map(|_| served.begin(CHAT, &chat("words", json!({}))))
        .collect();
    let answers = asking
        .into_iter()
        .map(|stream| Streamed::read(stream).rest());
    let statuses: Vec<_> = answers.map(|answer| answer.status).collect();
    assert!(
        statuses.iter().all(|status| matches!(status, 200 | 429)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&200));
    assert_eq!(served.post(CHAT, &chat("words", json!({}))).status, 200);
}

#[test]
fn what_is_no_http_is_no_reason_to_end() {
    let served = serve(Options::default());
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nzz",
        &[0; 10_000],
    ] {
        let mut stream = served.connect();
        // It may be closed before all is sent.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(served.get("/health").status, 200);
}

#[test]
fn a_compressed_body_is_not_unpacked() {
    let served = serve(Options::default());
    let answer = served.send(&post_bytes(CHAT, "content-encoding: gzip\r\n", b"\x1f\x8b"));
    answer.error(415);
}

#[test]
fn no_request_of_odd_values_ends_the_server() {
    let served = serve(Options::default());
    let values: [Value; 9] = [
        json!(null),
        json!(-1),
        json!(1e300),
        json!(""),
        json!([]),
        json!([[]]),
        json!({}),
        json!({"type": 5}),
        json!(true),
    ];
    let names = [
        "model",
        "messages",
        "prompt",
        "input",
        "stream",
        "stream_options",
        "max_tokens",
        "n",
        "stop",
        "seed",
        "temperature",
        "logprobs",
        "top_logprobs",
        "tools",
        "response_format",
        "modalities",
        "encoding_format",
        "top_k",
    ];
    for path in [CHAT, "/v1/completions", "/v1/embeddings"] {
        let model = if path == "/v1/embeddings" {
            "org/vectors"
        } else {
            "words"
        };
        for name in names {
            for value in &values {
                let mut body = chat(model, json!({"prompt": "a", "input": "a", "max_tokens": 1}));
                body[name] = value.clone();
                let status = served.post(path, &body).status;
                assert!(
                    matches!(status, 200 | 400 | 404),
                    "{path} {name} {value}: {status}"
                );
            }
        }
    }
}
