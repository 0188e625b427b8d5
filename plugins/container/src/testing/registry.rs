//! A registry for the tests: the few routes of its API by which an engine pulls, over plain HTTP on this machine. Every
//! repository in it holds the image that the tests use, with one file more, but those that are called `none`.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use super::{IMAGE, Podman, podman};

/// What the first byte of a connection is that is to be encrypted.
const TLS_HANDSHAKE: u8 = 0x16;

/// What the file `/made` of an image in the registry holds.
pub const MADE: &str = "of the registry\n";

/// A registry that serves as long as this process lives.
pub struct Registry {
    address: String,
    /// The paths that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

/// The registry and the engine that knows it, or none with a printed reason where no engine can be had.
pub fn registry() -> Option<(&'static Registry, &'static Podman)> {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    let podman = podman()?;
    Some((REGISTRY.get_or_init(|| Registry::start(podman)), podman))
}

impl Registry {
    fn start(podman: &Podman) -> Self {
        let files = image(podman);
        let listener = podman.registry().try_clone().unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, noted) = (files.clone(), Arc::clone(&noted));
                // An engine that leaves in the middle has lost interest.
                thread::spawn(move || serve(&stream, &files, &noted));
            }
        });
        Self { address, asked }
    }

    /// A reference of the image in this repository, which no other test asks for.
    pub fn reference(&self, repository: &str) -> String {
        format!("{}/vox/{repository}:latest", self.address)
    }

    /// How often a repository was asked which image it has.
    pub fn asked(&self, repository: &str) -> usize {
        let manifest = format!("/v2/vox/{repository}/manifests/latest");
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|path| **path == manifest).count()
    }
}

/// The files of an image that is the engine's no longer: its manifest, and the rest by its digests.
fn image(podman: &Podman) -> PathBuf {
    let directory = podman.directory().join("in-the-registry");
    let place = directory.to_string_lossy().into_owned();
    let make = format!("echo {} > /made", MADE.trim_end());
    let (container, name) = ("in-the-registry", "localhost/in-the-registry");
    let run = ["run", "--name", container, "--network=none", IMAGE];
    for call in [
        &[&run[..], &["/bin/sh", "-c", &make]].concat()[..],
        &["commit", "-q", container, name],
        &["save", "-q", "--format", "docker-dir", "-o", &place, name],
        &["rm", container],
        &["rmi", name],
    ] {
        podman.call(call).unwrap();
    }
    directory
}

/// Answers one request.
fn serve(stream: &TcpStream, files: &Path, noted: &Mutex<Vec<String>>) -> io::Result<()> {
    // An engine first asks whether it can be encrypted.
    let mut first = [0];
    if stream.peek(&mut first)? == 0 || first[0] == TLS_HANDSHAKE {
        return Ok(());
    }
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    noted.lock().unwrap().push(path.to_owned());

    let (status, kind, body) = match answer(path, files) {
        Some((kind, body)) => ("200 OK", kind, body),
        None => (
            "404 Not Found",
            "application/json",
            br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#.to_vec(),
        ),
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    if method != "HEAD" {
        stream.write_all(&body)?;
    }
    Ok(())
}

/// What there is at a path, and of which type.
fn answer(path: &str, files: &Path) -> Option<(&'static str, Vec<u8>)> {
    let path = path.strip_prefix("/v2/")?;
    if path.is_empty() {
        return Some(("application/json", b"{}".to_vec()));
    }
    let (repository, what) = path.strip_prefix("vox/")?.split_once('/')?;
    if repository == "none" {
        return None;
    }
    if what == "manifests/latest" {
        let kind = "application/vnd.docker.distribution.manifest.v2+json";
        return Some((kind, fs::read(files.join("manifest.json")).ok()?));
    }
    let digest = what.strip_prefix("blobs/sha256:")?;
    let is_digest = digest.chars().all(|c| c.is_ascii_hexdigit());
    let blob = is_digest.then(|| fs::read(files.join(digest)).ok())??;
    Some(("application/octet-stream", blob))
}
