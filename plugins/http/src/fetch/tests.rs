//! Fetches from a real server, by a real client in the place of WASI.

use std::io::{Cursor, Read};
use std::sync::Arc;
use std::thread;

use tiny_http::{Header, Response as Reply, Server, StatusCode};
use vox_plugin::serde_json::{Value, json};

use super::*;

/// What the server saw of a request: its first line, its headers, its body.
#[derive(Debug, Clone, Default)]
struct Seen {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A path, and what it is answered with: status, headers, body.
type Scripted = (&'static str, u16, Vec<(&'static str, String)>, Vec<u8>);

/// A server on this machine that ends with the test.
struct Origin {
    server: Arc<Server>,
    thread: Option<thread::JoinHandle<Vec<Seen>>>,
}

impl Origin {
    /// Answers each path with status, headers and body; others with 404.
    fn new(answers: Vec<Scripted>) -> Self {
        let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
        let serving = Arc::clone(&server);
        let thread = thread::spawn(move || {
            let mut seen = Vec::new();
            for mut request in serving.incoming_requests() {
                let mut body = String::new();
                request.as_reader().read_to_string(&mut body).unwrap();
                seen.push(Seen {
                    line: format!("{} {}", request.method(), request.url()),
                    headers: request
                        .headers()
                        .iter()
                        .map(|header| {
                            let name = header.field.as_str().as_str().to_ascii_lowercase();
                            (name, header.value.to_string())
                        })
                        .collect(),
                    body,
                });
                let path = request.url().to_owned();
                let (status, headers, body) = answers
                    .iter()
                    .find(|(known, ..)| *known == path)
                    .map(|(_, status, headers, body)| (*status, headers.clone(), body.clone()))
                    .unwrap_or((404, Vec::new(), b"there is no such thing".to_vec()));
                let length = body.len();
                let headers = headers
                    .iter()
                    .map(|(name, value)| {
                        Header::from_bytes(name.as_bytes(), value.as_bytes()).unwrap()
                    })
                    .collect();
                let reply = Reply::new(
                    StatusCode(status),
                    headers,
                    Cursor::new(body),
                    Some(length),
                    None,
                );
                let _ = request.respond(reply.with_chunked_threshold(usize::MAX));
            }
            seen
        });
        Self {
            server,
            thread: Some(thread),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.server_addr())
    }

    /// What it saw, now that nobody asks any more.
    fn seen(mut self) -> Vec<Seen> {
        self.server.unblock();
        self.thread.take().unwrap().join().unwrap()
    }
}

/// The world of a test.
#[derive(Default)]
struct World {
    pushed: Vec<(ChunkHead, Vec<u8>)>,
    refusal: Option<Error>,
    told: Vec<(u64, Option<u64>)>,
    /// What each look at the clock adds to its time.
    tick: Duration,
    time: std::cell::Cell<Duration>,
    cancelled: bool,
    /// The one host and port that is granted, if not all are.
    granted: Option<String>,
}

impl Surroundings for World {
    fn send(&mut self, request: &Request) -> std::result::Result<Answer, Failure> {
        if self
            .granted
            .as_ref()
            .is_some_and(|granted| *granted != request.authority)
        {
            return Err(Failure::Denied);
        }
        assert!(!request.encrypted, "the test has no certificates");
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
        let broken = |error: ureq::Error| Failure::Broken(error.to_string());
        let answer = match &request.body {
            Some(body) => agent
                .run(sent.body(body.as_slice()).unwrap())
                .map_err(broken)?,
            None => agent.run(sent.body(()).unwrap()).map_err(broken)?,
        };
        let headers = answer.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        Ok(Answer {
            status: answer.status().as_u16(),
            headers: headers.collect(),
            body: Box::new(Pieces(Box::new(answer.into_body().into_reader()))),
        })
    }

    fn push(&mut self, head: &ChunkHead, data: &[u8]) -> Result<()> {
        if let Some(refusal) = self.refusal.clone() {
            return Err(refusal);
        }
        self.pushed.push((head.clone(), data.to_vec()));
        Ok(())
    }

    fn tell(&mut self, done: u64, total: Option<u64>) {
        self.told.push((done, total));
    }

    fn now(&self) -> Duration {
        self.time.set(self.time.get() + self.tick);
        self.time.get()
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled
    }
}

/// A body in pieces of 1,000 bytes.
struct Pieces(Box<dyn Read>);

impl Body for Pieces {
    fn read(&mut self) -> std::result::Result<Option<Vec<u8>>, Failure> {
        let mut piece = vec![0; 1000];
        let length = self
            .0
            .read(&mut piece)
            .map_err(|error| Failure::Broken(error.to_string()))?;
        piece.truncate(length);
        Ok((length > 0).then_some(piece))
    }
}

/// Fetches `url` with further arguments.
fn fetched(world: &mut World, url: String, more: Value) -> Result<Outcome> {
    let mut arguments = json!({ "url": url });
    arguments
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    fetch(&Order::new(&arguments.to_string())?, true, world)
}

fn fact<'o>(outcome: &'o Outcome, key: &str) -> Option<&'o str> {
    let mut attributes = outcome.attributes.iter();
    attributes
        .find(|attribute| attribute.key == key)
        .map(|attribute| attribute.value.as_str())
}

fn lead(path: &'static str, status: u16, to: &str) -> Scripted {
    (path, status, vec![("Location", to.to_owned())], Vec::new())
}

#[test]
fn a_body_is_handed_on_in_order_with_its_modality_and_its_facts() {
    let body: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
    let headers = vec![
        ("Content-Type", "text/csv".to_owned()),
        ("ETag", "\"7\"".to_owned()),
    ];
    let origin = Origin::new(vec![("/a?b", 200, headers, body.clone())]);
    let mut world = World::default();
    let digest = vox_crypto::hash(&body).to_string();
    let outcome = fetched(&mut world, origin.url("/a?b"), json!({ "digest": digest })).unwrap();
    assert_eq!(outcome.code, 0, "{}", outcome.summary);
    assert_eq!(fact(&outcome, "blake3"), Some(digest.as_str()));
    let sha256 = vox_crypto::hash_with(Algorithm::Sha256, &body).to_string();
    assert_eq!(fact(&outcome, "sha256"), Some(sha256.as_str()));
    assert_eq!(fact(&outcome, "bytes"), Some("10000"));
    assert_eq!(fact(&outcome, "status"), Some("200"));
    assert_eq!(fact(&outcome, "content-type"), Some("text/csv"));
    assert_eq!(fact(&outcome, "etag"), Some("\"7\""));
    assert_eq!(fact(&outcome, "url"), Some(origin.url("/a?…").as_str()));
    assert_eq!(
        world
            .pushed
            .iter()
            .flat_map(|(_, data)| data.clone())
            .collect::<Vec<_>>(),
        body
    );
    for (position, (head, _)) in world.pushed.iter().enumerate() {
        assert_eq!(
            (head.sequence, head.modality.as_str()),
            (position as u64, "text/csv")
        );
    }
    let seen = origin.seen();
    assert_eq!(seen[0].line, "GET /a?b");
    assert!(
        seen[0]
            .header("user-agent")
            .unwrap()
            .starts_with("vox-http/")
    );
}

#[test]
fn another_digest_fails_the_step_with_both_values() {
    let origin = Origin::new(vec![("/", 200, vec![], b"hello".to_vec())]);
    for algorithm in ["blake3", "sha256"] {
        let wanted = format!("{algorithm}:{}", "0".repeat(64));
        let mut world = World::default();
        let outcome = fetched(&mut world, origin.url("/"), json!({ "digest": wanted })).unwrap();
        assert_eq!(outcome.code, OTHER_CONTENT);
        let algorithm = wanted.parse::<Digest>().unwrap().algorithm();
        let came = vox_crypto::hash_with(algorithm, b"hello").to_string();
        assert!(outcome.summary.contains(&came), "{}", outcome.summary);
        assert!(outcome.summary.contains(&wanted), "{}", outcome.summary);
        assert!(outcome.attributes.is_empty());
    }
}

#[test]
fn a_status_that_is_not_expected_fails_the_step_with_it_and_hands_nothing_on() {
    let wait = vec![
        ("Retry-After", "30".to_owned()),
        ("Content-Type", "text/plain".to_owned()),
    ];
    let origin = Origin::new(vec![("/busy", 503, wait, b"come\n back".to_vec())]);
    let mut world = World::default();
    let outcome = fetched(&mut world, origin.url("/busy"), json!({})).unwrap();
    assert_eq!(outcome.code, 503);
    assert!(world.pushed.is_empty());
    let told = &outcome.summary;
    assert!(
        told.contains("503 Service Unavailable, and asks to wait 30 s"),
        "{told}"
    );
    assert!(told.ends_with(": come back"), "{told}");

    let outcome = fetched(
        &mut world,
        origin.url("/none"),
        json!({ "expect": [200, 404] }),
    )
    .unwrap();
    assert_eq!((outcome.code, world.pushed.len()), (0, 1));
}

#[test]
fn more_than_allowed_fails_the_step_announced_or_not() {
    let origin = Origin::new(vec![("/", 200, vec![], vec![7; 3000])]);
    let mut world = World::default();
    let outcome = fetched(&mut world, origin.url("/"), json!({ "max-bytes": 2999 })).unwrap();
    assert_eq!(outcome.code, TOO_LARGE);
    assert!(world.pushed.is_empty(), "it was announced");
    let outcome = fetched(&mut world, origin.url("/"), json!({ "max-bytes": 3000 })).unwrap();
    assert_eq!(outcome.code, 0);

    // A server that does not say how much there is.
    struct Endless;
    impl Body for Endless {
        fn read(&mut self) -> std::result::Result<Option<Vec<u8>>, Failure> {
            Ok(Some(vec![0; 1000]))
        }
    }
    let order = json!({ "url": "http://e.org/", "max-bytes": 2500 }).to_string();
    let order = Order::new(&order).unwrap();
    let answer = Answer {
        status: 200,
        headers: Vec::new(),
        body: Box::new(Endless),
    };
    let mut world = World::default();
    let taken = Taken::new(&answer, true).take(&order, &order.target, answer, &mut world);
    assert!(matches!(taken, Err(Stop::Failed(TOO_LARGE, _))));
    assert_eq!(world.pushed.len(), 2);
}

#[test]
fn redirects_are_followed_as_often_as_allowed() {
    let origin = Origin::new(vec![
        lead("/1", 301, "/2"),
        lead("/2", 307, "3"),
        ("/3", 200, vec![], b"here".to_vec()),
        lead("/round", 302, "/round"),
    ]);
    let mut world = World::default();
    let outcome = fetched(&mut world, origin.url("/1"), json!({ "redirects": 2 })).unwrap();
    assert_eq!(outcome.code, 0, "{}", outcome.summary);
    assert_eq!(fact(&outcome, "url"), Some(origin.url("/3").as_str()));
    for (redirects, reason) in [(0, "no redirect is followed"), (1, "allows no more")] {
        let outcome = fetched(
            &mut world,
            origin.url("/1"),
            json!({ "redirects": redirects }),
        )
        .unwrap();
        assert_eq!(outcome.code, MISLED);
        assert!(outcome.summary.contains(reason), "{}", outcome.summary);
    }
    let outcome = fetched(&mut world, origin.url("/round"), json!({})).unwrap();
    assert!(
        outcome.summary.contains("5 redirects were followed"),
        "{}",
        outcome.summary
    );
    let taken = fetched(&mut world, origin.url("/1"), json!({ "expect": [301] })).unwrap();
    assert_eq!(taken.code, 0, "a status that is expected is not followed");
}

#[test]
fn a_redirect_to_a_host_that_is_not_granted_is_refused_with_what_grants_it() {
    let elsewhere = Origin::new(vec![("/", 200, vec![], vec![])]);
    let origin = Origin::new(vec![lead("/", 302, &elsewhere.url("/"))]);
    let granted = Some(origin.server.server_addr().to_string());
    let mut world = World {
        granted,
        ..World::default()
    };
    let refused = fetched(&mut world, origin.url("/"), json!({})).unwrap_err();
    let Error::Denied(told) = refused else {
        panic!("{refused}")
    };
    let grant = format!(
        "`vox plugin grant http network={}`",
        elsewhere.server.server_addr()
    );
    assert!(
        told.contains(&grant) && told.contains("where a redirect leads"),
        "{told}"
    );
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn another_server_sees_no_header_that_could_be_a_secret() {
    let elsewhere = Origin::new(vec![("/", 200, vec![], vec![])]);
    let origin = Origin::new(vec![
        lead("/a", 302, "/b"),
        lead("/b", 302, &elsewhere.url("/")),
    ]);
    let headers = json!({ "Authorization": "Bearer s", "X-Token": "s", "Accept": "text/csv" });
    let outcome = fetched(
        &mut World::default(),
        origin.url("/a"),
        json!({ "headers": headers }),
    )
    .unwrap();
    assert_eq!(outcome.code, 0, "{}", outcome.summary);
    for seen in origin.seen() {
        assert_eq!(seen.header("authorization"), Some("Bearer s"), "{seen:?}");
        assert_eq!(seen.header("x-token"), Some("s"));
    }
    for seen in elsewhere.seen() {
        assert_eq!(
            (seen.header("authorization"), seen.header("x-token")),
            (None, None)
        );
        assert_eq!(seen.header("accept"), Some("text/csv"));
    }
}

#[test]
fn a_post_sends_its_body_and_becomes_a_get_where_a_redirect_says_so() {
    let origin = Origin::new(vec![
        lead("/see-other", 303, "/end"),
        lead("/again", 308, "/end"),
        ("/end", 200, vec![], vec![]),
    ]);
    let more = json!({
        "method": "POST", "body": "{}", "headers": { "Content-Type": "application/json" }
    });
    for path in ["/see-other", "/again"] {
        let outcome = fetched(&mut World::default(), origin.url(path), more.clone()).unwrap();
        assert_eq!(outcome.code, 0, "{}", outcome.summary);
    }
    let seen = origin.seen();
    let lines: Vec<(&str, &str)> = seen
        .iter()
        .map(|seen| (seen.line.as_str(), seen.body.as_str()))
        .collect();
    let expected = [
        ("POST /see-other", "{}"),
        ("GET /end", ""),
        ("POST /again", "{}"),
        ("POST /end", "{}"),
    ];
    assert_eq!(lines, expected);
    assert_eq!(seen[1].header("content-type"), None);
    assert_eq!(seen[3].header("content-type"), Some("application/json"));
}

#[test]
fn a_head_fetches_no_body() {
    let origin = Origin::new(vec![("/", 200, vec![], vec![1; 10])]);
    let mut world = World::default();
    let outcome = fetched(&mut world, origin.url("/"), json!({ "method": "HEAD" })).unwrap();
    assert_eq!((outcome.code, fact(&outcome, "bytes")), (0, Some("0")));
    assert!(world.pushed.is_empty());
}

#[test]
fn a_server_that_is_not_there_fails_the_step_so_that_it_can_be_tried_again() {
    // No system gives this port out, and nothing listens there.
    let url = "http://127.0.0.1:1/?token=secret".to_owned();
    let outcome = fetched(&mut World::default(), url, json!({})).unwrap();
    assert_eq!(outcome.code, UNREACHABLE);
    assert!(!outcome.summary.contains("secret"), "{}", outcome.summary);
}

#[test]
fn an_answer_that_breaks_off_fails_the_step() {
    use std::io::Write as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            .unwrap();
    });
    let outcome = fetched(&mut World::default(), url, json!({})).unwrap();
    server.join().unwrap();
    assert_eq!(outcome.code, UNREACHABLE, "{}", outcome.summary);
}

#[test]
fn progress_is_told_at_both_ends_and_at_most_ten_times_a_second_between() {
    let origin = Origin::new(vec![("/", 200, vec![], vec![7; 100_000])]);
    let told = |tick| {
        let mut world = World {
            tick: Duration::from_millis(tick),
            ..World::default()
        };
        fetched(&mut world, origin.url("/"), json!({})).unwrap();
        assert_eq!(world.told.first(), Some(&(0, Some(100_000))));
        assert_eq!(world.told.last(), Some(&(100_000, Some(100_000))));
        world.told.len()
    };
    assert_eq!(told(0), 2, "time stands still");
    assert!(told(1000) > 50, "every piece");
    assert!((10..=25).contains(&told(10)), "every tenth piece or so");
}

#[test]
fn a_reader_that_has_enough_does_not_end_the_fetch_and_a_cancelled_run_does() {
    let origin = Origin::new(vec![("/", 200, vec![], vec![7; 10_000])]);
    let refusal = Some(Error::Unavailable("nobody reads any more".into()));
    let mut world = World {
        refusal,
        ..World::default()
    };
    let outcome = fetched(&mut world, origin.url("/"), json!({})).unwrap();
    assert_eq!((outcome.code, fact(&outcome, "bytes")), (0, Some("10000")));
    let mut world = World {
        refusal: Some(Error::Cancelled),
        ..World::default()
    };
    assert_eq!(
        fetched(&mut world, origin.url("/"), json!({})),
        Err(Error::Cancelled)
    );
    let mut world = World {
        cancelled: true,
        ..World::default()
    };
    assert_eq!(
        fetched(&mut world, origin.url("/"), json!({})),
        Err(Error::Cancelled)
    );
}
