//! Files that a pipeline fetches into the store.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::{Ended, Place, path};

/// SHA-256 of `hello`.
const DIGEST: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// A server that answers every request with `hello`, for as long as the process lives.
struct Server {
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn start() -> Self {
        const ANSWER: &[u8] =
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(ANSWER);
                // What was not read when it is closed would take the answer back.
                let _ = stream.shutdown(Shutdown::Write);
                thread::spawn(move || io::copy(&mut stream, &mut io::sink()));
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Fetches from here into a file that another step reads, as a user who granted that.
    fn fetch(&self, place: &Place, digest: &str) -> Ended {
        let port = self.port;
        let plan = format!(
            r#"
            [pipeline]
            name = "words"
            [[step]]
            key = "fetch"
            uses = "http"
            with = {{ url = "http://127.0.0.1:{port}/words.txt", digest = "sha256:{digest}" }}
            outputs = {{ words = {{ path = "words.txt", port = "body" }} }}
            cache = true
            inputs = {{}}
            [[step]]
            key = "count"
            uses = "exec"
            with = {{ command = ["cat", "words.txt"] }}
            inputs = {{ words = {{ from = "fetch.words" }} }}
            "#
        );
        place.run([Path::new("run"), &place.write("pipeline.toml", &plan)])
    }

    /// A user who has what that needs.
    fn user(&self) -> Place {
        let place = Place::with(&["exec"]);
        let http = vox_testkit::plugin("http");
        let grant = format!("network=127.0.0.1:{},stream_io", self.port);
        place
            .run(["plugin", "install", path(&http), "--grant", &grant])
            .succeeded();
        place.run(["plugin", "trust", "allow", "http"]).succeeded();
        place
    }
}

#[test]
fn what_is_fetched_into_a_file_is_kept_in_the_store_and_fetched_once() {
    let server = Server::start();
    let place = server.user();
    let words = place.path().join("words.txt");
    let first = server.fetch(&place, DIGEST).succeeded();
    assert!(first.stdout.contains("count | hello"), "{}", first.stdout);
    assert_eq!(server.asked(), 1);

    std::fs::remove_file(&words).unwrap();
    let second = server.fetch(&place, DIGEST).succeeded();
    assert!(second.stdout.contains("count | hello"), "{}", second.stdout);
    assert_eq!(std::fs::read_to_string(&words).unwrap(), "hello");
    assert_eq!(server.asked(), 1);
}

#[test]
fn nobody_reads_a_fetched_file_whose_digest_differs_and_the_one_before_stays() {
    let server = Server::start();
    let place = server.user();
    place.write("words.txt", "of yesterday");
    let ended = server.fetch(&place, &"0".repeat(64)).failed(1, &[]);
    assert!(
        ended.stdout.contains(DIGEST) && !ended.stdout.contains("count |"),
        "{}",
        ended.stdout
    );
    let words = std::fs::read_to_string(place.path().join("words.txt")).unwrap();
    assert_eq!(words, "of yesterday");
    let results = place.json(&["cache", "ls"]);
    assert_eq!(results["results"], serde_json::json!([]));
}
