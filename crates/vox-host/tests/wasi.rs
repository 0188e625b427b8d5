//! What components get of WASI when it is granted. What they must not get is in `wasi_attacks`.

mod probe;

use std::io;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use probe::{Probe, Server, display, error, ok};
use serde_json::json;
use vox_host::CancelToken;

#[test]
fn a_granted_directory_is_read_and_nothing_else_is_seen() {
    let probe = Probe::new();
    probe.file("in/a/note", "hello").file("other/note", "no");
    let mut guest = probe.granted("file_read = [\"in\"]");
    let expected = json!([display(&probe.path("in")), "in"]);
    assert_eq!(guest.run("directories", json!({})), ok(expected));
    let read = json!({"dir": "in", "path": "a/note"});
    assert_eq!(guest.run("read", read), ok(json!("hello")));
    let list = json!({"dir": "in", "path": "."});
    assert_eq!(guest.run("list", list), ok(json!(["a"])));
    let size = json!({"dir": display(&probe.path("in")), "path": "a/note"});
    assert_eq!(guest.run("size", size), ok(json!(5)));
}

#[test]
fn a_directory_granted_for_both_is_read_and_changed() {
    let probe = Probe::new();
    probe.file("work/old", "x");
    let mut guest = probe.granted("file_read = [\"work\"]\nfile_write = [\"work\"]");
    let write = json!({"dir": "work", "path": "new", "text": "made"});
    assert_eq!(guest.run("write", write), ok(json!(4)));
    let rename = json!({"dir": "work", "path": "new", "to": "work", "new": "newer"});
    assert_eq!(guest.run("rename", rename), ok(json!("done")));
    let read = json!({"dir": "work", "path": "newer"});
    assert_eq!(guest.run("read", read), ok(json!("made")));
    let unlink = json!({"dir": "work", "path": "old"});
    assert_eq!(guest.run("unlink", unlink), ok(json!("done")));
    let make = json!({"dir": "work", "path": "deep"});
    assert_eq!(guest.run("make-directory", make), ok(json!("done")));
    assert_eq!(probe.text("work/newer"), "made");
    assert!(!probe.path("work/old").exists());
}

#[test]
fn a_directory_granted_for_writing_takes_new_files() {
    let probe = Probe::new();
    probe.file("out/deep/old", "secret");
    let mut guest = probe.granted("file_write = [\"out\"]");
    for path in ["new", "deep/new"] {
        let write = json!({"dir": "out", "path": path, "text": "made"});
        assert_eq!(guest.run("write", write), ok(json!(4)));
        assert_eq!(probe.text(&format!("out/{path}")), "made");
    }
    let rename = json!({"dir": "out", "path": "new", "to": "out", "new": "newer"});
    assert_eq!(guest.run("rename", rename), ok(json!("done")));
}

#[test]
fn an_inner_directory_has_the_rights_of_the_outer_one_too() {
    let probe = Probe::new();
    probe.file("all/out/old", "old");
    let mut guest = probe.granted("file_read = [\"all\"]\nfile_write = [\"all/out\"]");
    let read = json!({"dir": "all/out", "path": "old"});
    assert_eq!(guest.run("read", read), ok(json!("old")));
    let write = |dir: &str, path: &str| json!({"dir": dir, "path": path, "text": "x"});
    assert_eq!(guest.run("write", write("all/out", "new")), ok(json!(1)));
    assert_eq!(guest.run("write", write("all", "out/new")), error("access"));
}

#[test]
fn a_component_finds_nothing_of_the_process_that_it_runs_in() {
    let mut guest = Probe::new().granted("");
    let nothing = json!([[], [], null, true]);
    assert_eq!(guest.run("surroundings", json!({})), ok(nothing));
    assert_eq!(guest.run("directories", json!({})), ok(json!([])));
}

#[test]
fn time_goes_by_when_clocks_are_granted_and_stands_still_otherwise() {
    let probe = Probe::new();
    let sleep = json!({"milliseconds": 20});
    let answer = probe.granted("clocks = true").run("sleep", sleep);
    assert!(
        answer["ok"][0].as_u64().unwrap() > 1_700_000_000,
        "{answer}"
    );
    assert!(answer["ok"][1].as_u64().unwrap() >= 20_000_000, "{answer}");

    let began = Instant::now();
    let hour = json!({"milliseconds": 3_600_000});
    assert_eq!(probe.granted("").run("sleep", hour), ok(json!([0, 0])));
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn random_numbers_are_random_when_granted_and_the_same_in_every_instance_otherwise() {
    let probe = Probe::new();
    let numbers = |grants| probe.granted(grants).run("random", json!({}));
    assert_ne!(numbers("random = true"), numbers("random = true"));
    assert_eq!(numbers(""), numbers(""));
}

#[test]
fn a_granted_address_is_connected_to() {
    let probe = Probe::new();
    let server = Server::silent();
    let connect = json!({"address": "127.0.0.1", "port": server.port()});
    let grants = format!("network = [\"127.0.0.1:{}\"]", server.port());
    let answer = probe.granted(&grants).run("connect", connect.clone());
    assert_eq!(answer, ok(json!("connected")));
    let answer = probe.granted("network = true").run("connect", connect);
    assert_eq!(answer, ok(json!("connected")));
}

#[test]
fn a_granted_name_is_looked_up() {
    let probe = Probe::new();
    probe.name("api.example.org", &[&["93.184.215.14", "2606:4700::1111"]]);
    let mut guest = probe.granted("network = [\"*.example.org:443\"]");
    let expected = ok(json!(["93.184.215.14", "2606:4700::1111"]));
    for spelling in ["api.example.org", "API.Example.org."] {
        assert_eq!(guest.run("look-up", json!({"name": spelling})), expected);
    }
    let address = json!({"name": "93.184.215.14"});
    assert_eq!(guest.run("look-up", address), error("access-denied"));
}

#[test]
fn a_request_goes_to_a_granted_host() {
    let probe = Probe::new();
    let server = Server::answering("200 OK", "", "hello");
    let port = server.port();
    let get = |authority: String| json!({"scheme": "http", "authority": authority, "path": "/"});
    let mut guest = probe.granted(&format!("network = [\"127.0.0.1:{port}\"]"));
    let answer = guest.run("get", get(format!("127.0.0.1:{port}")));
    assert_eq!(answer, ok(json!([200, "hello"])));

    // By name, where name and address are both granted.
    probe.name("intern.example", &[&["127.0.0.1"]]);
    let grants = format!("network = [\"intern.example\", \"127.0.0.1:{port}\"]");
    let answer = probe
        .granted(&grants)
        .run("get", get(format!("intern.example:{port}")));
    assert_eq!(answer, ok(json!([200, "hello"])));
}

#[test]
fn a_guest_that_waits_is_let_go_when_its_run_is_cancelled() {
    for deed in ["read-for-ever", "poll-for-ever"] {
        let probe = Probe::new();
        let server = Server::silent();
        let cancel = CancelToken::new();
        let mut guest = probe.granted_until("network = true", cancel.clone());
        let ended = std::thread::scope(|scope| {
            let arguments = json!({"address": "127.0.0.1", "port": server.port()});
            let call = scope.spawn(move || {
                let outcome = guest.try_to(deed, arguments);
                (outcome, Instant::now())
            });
            while server.callers() == 0 {
                std::thread::yield_now();
            }
            let cancelled = Instant::now();
            cancel.cancel();
            let (outcome, ended) = call.join().unwrap();
            let message = outcome.unwrap_err().to_string();
            assert!(message.contains("cancelled"), "{message}");
            ended.saturating_duration_since(cancelled)
        });
        // 20 ms is what is promised; the rest is for a busy machine.
        assert!(ended < Duration::from_secs(30), "{deed}: {ended:?}");
    }
}

#[test]
fn a_guest_holds_a_bounded_number_of_handles() {
    let mut guest = Probe::new().granted("");
    assert_eq!(guest.run("handles", json!({"count": 500})), ok(json!(500)));
    let error = guest.try_to("handles", json!({"count": 5000})).unwrap_err();
    assert!(error.to_string().contains("crashed"), "{error}");
}

/// Collects what is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Somebody else who listens, for as long as the tests run. Where there is one alone, a record that is met for the
/// first time on a thread without any counts as one that nobody wants, and is not told to that one either.
static OTHER: LazyLock<tracing::Dispatch> =
    LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));

fn logged(work: impl FnOnce()) -> String {
    LazyLock::force(&OTHER);
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn what_a_component_prints_is_logged_line_by_line() {
    let probe = Probe::new();
    let log = logged(|| {
        let mut guest = probe.granted("");
        let print = json!({"out": "one\ntwo", "error": "oops\n"});
        assert_eq!(guest.run("print", print), ok(json!("printed")));
        guest.run("print", json!({"out": " and more\n", "error": ""}));
    });
    let lines = log
        .lines()
        .filter(|line| line.contains("vox.plugin.log"))
        .collect::<Vec<_>>();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(
        lines[0].contains("INFO") && lines[0].contains("one"),
        "{log}"
    );
    assert!(
        lines[1].contains("WARN") && lines[1].contains("oops"),
        "{log}"
    );
    assert!(lines[2].contains("two and more"), "{log}");
}

#[test]
fn a_refusal_is_logged_once_with_what_grants_it() {
    let probe = Probe::new();
    probe.file("in/note", "x");
    let log = logged(|| {
        let mut guest = probe.granted("file_read = [\"in\"]");
        for _ in 0..3 {
            let write = json!({"dir": "in", "path": "note", "text": ""});
            assert_eq!(guest.run("write", write), error("access"));
        }
    });
    let place = display(&probe.path("in/note"));
    let remedy = format!("grant it with `vox plugin grant wasi-probe file_write={place}`");
    assert_eq!(log.matches(&remedy).count(), 1, "{log}");
}

#[test]
fn of_a_grant_that_does_not_count_it_is_logged_that_trust_is_missing() {
    let probe = Probe::new();
    let log = logged(|| {
        let mut guest = probe.distrust().granted("network = true");
        let connect = json!({"address": "127.0.0.1", "port": 9});
        assert_eq!(guest.run("connect", connect), error("access-denied"));
    });
    let remedy = "`vox plugin trust allow wasi-probe`";
    assert_eq!(log.matches(remedy).count(), 1, "{log}");
    assert!(!log.contains("vox plugin grant"), "{log}");
}
