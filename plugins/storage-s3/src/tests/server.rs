//! A server of the S3 API for the tests: moto, from PyPI, in an environment of its own.
//!
//! The environment is made once below the directory that cargo builds in, and used by later runs. The
//! server ends when its standard input does, so with the process of the tests, however that ends.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use crate::skipped;

/// What is installed. `moto[server]` would bring the packages of all of AWS's services.
const PACKAGES: [&str; 3] = ["moto[s3]==5.2.5", "flask==3.1.3", "flask-cors==6.0.5"];

/// Serves at a free port, says which, and ends with its standard input. The server's router matches
/// keys with `.+`, which would leave out those with a newline.
const PROGRAM: &str = r#"
import os, re, sys, threading
from moto.moto_server.utilities import RegexConverter
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server, WSGIRequestHandler
before = RegexConverter.__init__
RegexConverter.__init__ = lambda self, url_map, *items: before(
    self, url_map, re.sub(r"(?<!\\)\.(?=[*+])", r"[\\s\\S]", items[0]), *items[1:])
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
WSGIRequestHandler.log_request = lambda *arguments: None
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.port, flush=True)
server.serve_forever()
"#;

/// A running server.
pub struct Server {
    process: Child,
    /// Ends the server when it is closed.
    _input: ChildStdin,
    pub endpoint: String,
}

impl Server {
    /// Starts a server; none, with the reason told, where it cannot be had.
    pub fn start() -> Option<Self> {
        Self::started().map_err(|reason| skip(&reason)).ok()
    }

    /// The one that the tests of this process share.
    pub fn shared() -> Option<&'static Self> {
        static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
        let server = SERVER.get_or_init(Self::started).as_ref();
        server.map_err(|reason| skip(reason)).ok()
    }

    fn started() -> Result<Self, String> {
        let python = environment()?;
        let mut process = Command::new(python)
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut port).unwrap();
        let port: u16 = port.trim().parse().expect("moto says its port");
        Ok(Self {
            _input: process.stdin.take().unwrap(),
            process,
            endpoint: format!("http://127.0.0.1:{port}"),
        })
    }

    /// Ends the server at once.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn skip(reason: &str) {
    skipped::because(format_args!("moto cannot be had: {reason}"));
}

/// The Python of an environment that has moto; made where it is missing.
fn environment() -> Result<PathBuf, String> {
    let directory = cache()?.join(format!("moto-{}", fingerprint()));
    let python = directory.join("venv/bin/python");
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    // Test processes that run at the same time wait for the one that makes it.
    let lock = File::create(directory.join("lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let done = directory.join("installed");
    if !done.exists() {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(directory.join("venv")))?;
        run(Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args(PACKAGES))?;
        fs::write(&done, "").map_err(|error| error.to_string())?;
    }
    Ok(python)
}

/// Where the environment is kept: beside what cargo builds.
fn cache() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = program
        .ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").exists())
        .or_else(|| program.parent())
        .unwrap_or(Path::new("."));
    Ok(target.join("test-servers"))
}

/// Tells environments of other packages apart.
fn fingerprint() -> String {
    let text = PACKAGES.concat();
    text.chars().filter(char::is_ascii_alphanumeric).collect()
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = format!("{command:?}");
    let output = command
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{name}: {}",
        text.lines().last().unwrap_or_default()
    ))
}
