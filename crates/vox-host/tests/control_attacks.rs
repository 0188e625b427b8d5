//! Clients that talk nonsense, too much, or nothing, over the socket of a process at work.

#![cfg(unix)]

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use serde_json::{Value, json};
use vox_host::control::{
    ControlError, ControlServer, MAX_CLIENTS, MAX_REQUEST, PATIENCE, Process, RefusalKind,
    processes,
};
use vox_testkit::World;

const STATUS: &str = "{\"version\":1,\"request\":\"status\"}\n";

fn listening() -> (World, ControlServer) {
    let world = World::new();
    let server = world.host("").serve_control("a test").unwrap();
    (world, server)
}

fn process(world: &World) -> Process {
    processes(world.directories()).unwrap()[0].clone()
}

/// A client by hand. One that is answered nothing fails its test in the end.
struct Client(BufReader<UnixStream>);

impl Client {
    fn new(server: &ControlServer) -> Self {
        let stream = UnixStream::connect(server.socket()).unwrap();
        stream.set_read_timeout(Some(4 * PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    fn reply(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Whether it was hung up on.
    fn is_over(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn nonsense_is_answered_and_the_next_request_too() {
    let (_world, server) = listening();
    let mut client = Client::new(&server);
    for (nonsense, kind) in [
        (&b"\n"[..], "malformed"),
        (b"\xff\xfe\x00\n", "malformed"),
        (b"GET / HTTP/1.1\r\n", "malformed"),
        (b"[]\n", "malformed"),
        (b"{\"version\":1}\n", "malformed"),
        (b"{\"version\":1,\"request\":\"exec\"}\n", "malformed"),
        (b"{\"version\":1,\"request\":\"pause\"}\n", "malformed"),
        (
            b"{\"version\":1,\"request\":\"pause\",\"plugin\":\"../../etc\"}\n",
            "malformed",
        ),
        (b"{\"version\":2,\"request\":\"status\"}\n", "version"),
    ] {
        client.send(nonsense);
        let reply = client.reply();
        assert_eq!(
            (&reply["version"], &reply["reply"], &reply["kind"]),
            (&json!(1), &json!("error"), &json!(kind)),
            "{reply}"
        );
    }
    let nested = format!("{}\n", "[".repeat(MAX_REQUEST - 1));
    client.send(nested.as_bytes());
    assert_eq!(client.reply()["kind"], "malformed");
    client.send(STATUS.as_bytes());
    assert_eq!(client.reply()["reply"], "status");
}

#[test]
fn a_line_without_end_is_cut_off() {
    let (world, server) = listening();
    let mut client = Client::new(&server);
    let mut sent = 0;
    // Once it is hung up on nothing more can be written.
    while client.0.get_mut().write_all(&[b'x'; 1024]).is_ok() {
        sent += 1024;
        assert!(sent < 64 << 20, "the line is read on and on");
    }
    assert_eq!(client.reply()["kind"], "too-long");
    assert!(client.is_over());
    assert!(process(&world).status().is_ok());
}

#[test]
fn a_line_that_is_too_long_is_refused_even_when_it_ends() {
    let (_world, server) = listening();
    let mut client = Client::new(&server);
    let padding = " ".repeat(MAX_REQUEST);
    client.send(format!("{padding}{STATUS}").as_bytes());
    assert_eq!(client.reply()["kind"], "too-long");
}

#[test]
fn silent_clients_hold_up_nobody() {
    let (world, server) = listening();
    let _silent: Vec<Client> = (1..MAX_CLIENTS).map(|_| Client::new(&server)).collect();
    let begun = Instant::now();
    process(&world).status().unwrap();
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn a_client_that_drips_is_hung_up_on_in_time() {
    let (_world, server) = listening();
    let mut client = Client::new(&server);
    let begun = Instant::now();
    // Each byte comes well within the time that a request may take.
    while client.0.get_mut().write_all(b" ").is_ok() {
        assert!(begun.elapsed() < 3 * PATIENCE, "it is read on and on");
        std::thread::sleep(PATIENCE / 50);
    }
    assert!(client.is_over());
}

#[test]
fn a_client_too_many_is_told_so_and_room_comes_back() {
    let (world, server) = listening();
    let mut clients: Vec<Client> = (0..MAX_CLIENTS).map(|_| Client::new(&server)).collect();
    for client in &mut clients {
        // Who was answered is being served.
        client.send(STATUS.as_bytes());
        client.reply();
    }
    let one_more = process(&world).status();
    assert!(
        matches!(&one_more, Err(ControlError::Refused { refusal, .. }) if refusal.kind == RefusalKind::Busy),
        "{one_more:?}"
    );
    clients.pop();
    let begun = Instant::now();
    while process(&world).status().is_err() {
        assert!(begun.elapsed() < PATIENCE, "nobody made room");
        std::thread::yield_now();
    }
}

#[test]
fn a_client_that_takes_no_answer_holds_up_nobody() {
    let (world, server) = listening();
    let mut client = Client::new(&server);
    // Answers pile up until the socket takes no more; then requests do.
    client.0.get_mut().set_nonblocking(true).unwrap();
    let begun = Instant::now();
    while client.0.get_mut().write_all(STATUS.as_bytes()).is_ok() {
        assert!(
            begun.elapsed() < PATIENCE,
            "the requests are taken on and on"
        );
    }
    process(&world).status().unwrap();
    let begun = Instant::now();
    drop(server);
    assert!(
        begun.elapsed() < PATIENCE,
        "the process waits for a client at its end"
    );
}

#[test]
fn the_end_of_the_process_waits_for_no_client() {
    let (_world, server) = listening();
    let mut client = Client::new(&server);
    client.send(STATUS.as_bytes());
    client.reply();
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < PATIENCE);
    assert!(client.is_over());
}

#[test]
fn a_process_that_is_stopped_is_given_up_however_often_it_is_asked() {
    let world = World::new();
    drop(world.host("").serve_control("made the directory").unwrap());
    let socket = world
        .directories()
        .runtime
        .join(format!("{}.sock", std::process::id()));
    // Listens, and accepts nobody: what a stopped process does.
    let _stopped = UnixListener::bind(&socket).unwrap();
    let waiting: Vec<_> = std::iter::repeat_with(|| {
        let stream = rustix_connect(&socket);
        stream.ok()
    })
    .map_while(|stream| stream)
    .take(10_000)
    .collect();
    assert!(waiting.len() < 10_000, "the queue of the socket is full");
    let error = process(&world).status().unwrap_err();
    assert!(matches!(error, ControlError::NoAnswer { .. }), "{error:?}");
}

/// Connects unless that would wait.
fn rustix_connect(path: &std::path::Path) -> rustix::io::Result<rustix::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
    let address = SocketAddrUnix::new(path)?;
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

#[test]
fn a_directory_that_others_may_enter_is_not_used() {
    let world = World::new();
    let host = world.host("");
    let runtime = &world.directories().runtime;
    drop(host.serve_control("a test").unwrap());
    for mode in [0o755, 0o770, 0o701] {
        std::fs::set_permissions(runtime, Permissions::from_mode(mode)).unwrap();
        let listened = host.serve_control("a test").map(drop).unwrap_err();
        assert!(
            matches!(listened, ControlError::NotPrivate { .. }),
            "{listened:?}"
        );
        let found = processes(world.directories()).unwrap_err();
        assert!(
            matches!(found, ControlError::NotPrivate { .. }),
            "{found:?}"
        );
    }
}

#[test]
fn a_link_in_the_place_of_the_directory_is_not_followed() {
    let world = World::new();
    let elsewhere = world.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::set_permissions(&elsewhere, Permissions::from_mode(0o700)).unwrap();
    std::fs::create_dir_all(&world.directories().data).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &world.directories().runtime).unwrap();
    let listened = world
        .host("")
        .serve_control("a test")
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(listened, ControlError::NotPrivate { .. }),
        "{listened:?}"
    );
    assert_eq!(std::fs::read_dir(elsewhere).unwrap().count(), 0);
}

#[test]
fn a_server_that_talks_nonsense_is_an_error_and_nothing_worse() {
    let world = World::new();
    drop(world.host("").serve_control("made the directory").unwrap());
    let socket = world
        .directories()
        .runtime
        .join(format!("{}.sock", std::process::id()));
    for answer in [
        &b"\n"[..],
        b"hello\n",
        b"{\"version\":1,\"reply\":\"status\"}\n",
        b"{\"version\":9,\"reply\":\"done\",\"plugin\":\"a\",\"running\":\"1.0.0\",\"state\":\"active\",\"outcome\":\"paused\"}\n",
    ] {
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(stream.try_clone().unwrap())
                .read_line(&mut String::new())
                .unwrap();
            stream.write_all(answer).unwrap();
        });
        let error = process(&world).status().unwrap_err();
        assert!(matches!(error, ControlError::Malformed { .. }), "{error:?}");
        server.join().unwrap();
        std::fs::remove_file(&socket).unwrap();
    }
}
