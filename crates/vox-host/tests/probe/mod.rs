//! A world with the plugin `wasi-probe`, which uses WASI on request.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code)]

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use vox_host::signing::{Allowed, TrustStore};
use vox_host::{CancelToken, Host, Instance, InstanceOptions, JsonCallError, Resolver};
use vox_testkit::World;

/// The plugin's project, and its grants.
pub struct Probe {
    world: World,
    names: Arc<Names>,
}

/// A name server of the test: each name's answers are given in turn, the last one for ever.
#[derive(Default)]
pub struct Names(Mutex<HashMap<String, Vec<Vec<IpAddr>>>>);

impl Resolver for Names {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let mut names = self.0.lock().unwrap();
        let answers = names.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(if answers.len() > 1 {
            answers.remove(0)
        } else {
            answers[0].clone()
        })
    }
}

impl Probe {
    pub fn new() -> Self {
        Self {
            world: World::with(&["wasi-probe"]),
            names: Arc::default(),
        }
    }

    /// Takes back that the plugin is trusted by its name.
    pub fn distrust(&self) -> &Self {
        let directories = self.world.directories();
        let allowed = Allowed::at("wasi-probe".parse().unwrap(), &directories.installed());
        let allowed = allowed.unwrap();
        assert!(TrustStore::change(directories, |trust| trust.disallow(&allowed)).unwrap());
        self
    }

    /// A path in the project.
    pub fn path(&self, path: &str) -> PathBuf {
        self.world.path().canonicalize().unwrap().join(path)
    }

    /// A file in the project.
    pub fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    /// Says what a name is, at each lookup.
    pub fn name(&self, name: &str, answers: &[&[&str]]) -> &Self {
        let answers = answers
            .iter()
            .map(|answer| answer.iter().map(|ip| ip.parse().unwrap()).collect());
        let mut names = self.names.0.lock().unwrap();
        names.insert(name.to_owned(), answers.collect());
        drop(names);
        self
    }

    /// An instance with these grants, lines of its table in `grants.toml`.
    pub fn granted(&self, grants: &str) -> Guest {
        self.granted_until(grants, CancelToken::new())
    }

    /// As [`Probe::granted`], until it is cancelled.
    pub fn granted_until(&self, grants: &str, cancel: CancelToken) -> Guest {
        self.opened(grants, cancel).0
    }

    /// An instance with these grants, and the host that it lives in.
    pub fn opened(&self, grants: &str, cancel: CancelToken) -> (Guest, Host) {
        let host = self.world.host(&format!("[plugin.wasi-probe]\n{grants}"));
        let mut options = InstanceOptions::default();
        options.resolver = Arc::clone(&self.names) as Arc<dyn Resolver>;
        options.cancel = cancel;
        let guest = host.instance(&"wasi-probe".parse().unwrap(), options);
        (Guest(guest.unwrap()), host)
    }
}

/// A live instance.
pub struct Guest(Instance);

impl Guest {
    /// Asks for a deed; answers its outcome, or the error by name.
    pub fn try_to(&mut self, deed: &str, arguments: Value) -> Result<Value, JsonCallError> {
        let mut request = arguments;
        request["do"] = json!(deed);
        let answer = self.0.call_json(
            "service.invoke",
            vec![json!("probe"), json!(request.to_string())],
        )?;
        Ok(serde_json::from_slice(&bytes(&answer)).unwrap())
    }

    /// As [`Guest::try_to`], for calls that come back.
    pub fn run(&mut self, deed: &str, arguments: Value) -> Value {
        self.try_to(deed, arguments)
            .unwrap_or_else(|error| panic!("{deed}: {error}"))
    }
}

fn bytes(answer: &Value) -> Vec<u8> {
    match answer {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(numbers) => {
            let byte = |number: &Value| u8::try_from(number.as_u64().unwrap()).unwrap();
            numbers.iter().map(byte).collect()
        }
        other => panic!("no bytes: {other}"),
    }
}

pub fn ok(value: Value) -> Value {
    json!({ "ok": value })
}

pub fn error(name: &str) -> Value {
    json!({ "error": name })
}

/// A server on a loopback port that counts its callers, and answers each the same and closes.
pub struct Server {
    pub address: SocketAddr,
    callers: Arc<Mutex<usize>>,
}

impl Server {
    /// Answers HTTP requests with this status line, headers and body.
    pub fn answering(status: &str, headers: &str, body: &str) -> Self {
        let answer = format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        Self::start(Some(answer))
    }

    /// Accepts and says nothing for as long as it lives.
    pub fn silent() -> Self {
        Self::start(None)
    }

    fn start(answer: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let callers = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&callers);
        thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                *counted.lock().unwrap() += 1;
                if let Some(answer) = &answer {
                    let _ = stream.read(&mut [0; 4096]);
                    let _ = stream.write_all(answer.as_bytes());
                    // What was not read when it is closed would take the answer back.
                    let _ = stream.shutdown(Shutdown::Write);
                    thread::spawn(move || io::copy(&mut stream, &mut io::sink()));
                } else {
                    open.push(stream);
                }
            }
        });
        Self { address, callers }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connected so far.
    pub fn callers(&self) -> usize {
        *self.callers.lock().unwrap()
    }
}

/// Whether a path is inside a directory that the test may compare.
pub fn display(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
