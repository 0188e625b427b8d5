//! What components must not get through WASI. Each test fails when the guard that it names is
//! removed.

mod probe;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use probe::{Probe, Server, display, error, ok};
use serde_json::{Value, json};
use vox_contract::GrantsFile;
use vox_host::CancelToken;

fn at(dir: &str, path: &str) -> Value {
    json!({"dir": dir, "path": path, "follow": true})
}

#[test]
fn no_path_leads_out_of_a_granted_directory() {
    let probe = Probe::new();
    probe.file("in/deep/note", "ok").file("secret", "no");
    let secret = display(&probe.path("secret"));
    let mut guest = probe.granted("file_read = [\"in\"]\nfile_write = [\"in\"]");
    for path in [
        "../secret",
        "deep/../../secret",
        "./.././secret",
        secret.as_str(),
        "/etc/passwd",
        "//etc/passwd",
        "deep/../../in/../secret",
    ] {
        assert_eq!(guest.run("read", at("in", path)), error("access"), "{path}");
        let write = json!({"dir": "in", "path": path, "text": "x"});
        assert_eq!(guest.run("write", write), error("access"), "{path}");
        assert_eq!(
            guest.run("size", json!({"dir": "in", "path": path})),
            error("access")
        );
        let rename = json!({"dir": "in", "path": "deep/note", "to": "in", "new": path});
        assert_eq!(guest.run("rename", rename), error("access"), "{path}");
        let link = json!({"dir": "in", "path": path, "to": "in", "new": "got"});
        assert_eq!(guest.run("link", link), error("access"), "{path}");
    }
    assert_eq!(
        guest.run("read", at("in", "deep/../deep/note")),
        ok(json!("ok"))
    );
    assert_eq!(probe.text("secret"), "no");
}

#[test]
fn another_case_is_another_name() {
    let probe = Probe::new();
    probe
        .file("in/note", "ok")
        .file("IN/note", "no")
        .file("In2/x", "no");
    let mut guest = probe.granted("file_read = [\"in\"]");
    assert_eq!(guest.run("read", at("in", "../IN/note")), error("access"));
    assert_eq!(guest.run("read", at("IN", "note")), error("bad-descriptor"));
    assert_eq!(guest.run("read", at("in", "NOTE")), error("no-entry"));
}

#[cfg(unix)]
#[test]
fn a_link_that_points_out_is_not_followed_whoever_made_it() {
    let probe = Probe::new();
    probe.file("in/note", "ok").file("secret/key", "no");
    let outside = probe.path("secret");
    std::os::unix::fs::symlink(&outside, probe.path("in/absolute")).unwrap();
    std::os::unix::fs::symlink("../secret", probe.path("in/relative")).unwrap();
    let mut guest = probe.granted("file_read = [\"in\"]\nfile_write = [\"in\"]");
    let target = display(&outside);
    let make = |target: &str| json!({"dir": "in", "target": target, "path": "made"});
    assert_ne!(guest.run("symbolic-link", make(&target)), ok(json!("done")));
    // A link may be made that leads nowhere; nobody follows it.
    guest.run("symbolic-link", make("../secret"));
    for link in ["absolute", "relative", "made"] {
        let path = format!("{link}/key");
        assert_ne!(
            guest.run("read", at("in", &path)),
            ok(json!("no")),
            "{link}"
        );
        let write = json!({"dir": "in", "path": path, "text": "x", "follow": true});
        guest.run("write", write);
    }
    assert_eq!(probe.text("secret/key"), "no");
}

#[cfg(unix)]
#[test]
fn a_link_that_is_swapped_in_between_check_and_use_is_never_followed() {
    let probe = Probe::new();
    probe.file("in/real/note", "ok").file("secret/note", "no");
    let mut guest = probe.granted("file_read = [\"in\"]");
    let (real, swapped, kept) = (
        probe.path("in/real"),
        probe.path("in/link"),
        probe.path("in/kept"),
    );
    let outside = probe.path("secret");
    let done = AtomicBool::new(false);
    let answers = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::os::unix::fs::symlink(&outside, &swapped).unwrap();
                std::fs::rename(&real, &kept).unwrap();
                std::fs::rename(&swapped, &real).unwrap();
                std::fs::remove_file(&real).unwrap();
                std::fs::rename(&kept, &real).unwrap();
            }
        });
        let read = json!({"dir": "in", "path": "real/note", "times": 3000});
        let answers = guest.run("read-often", read);
        done.store(true, Ordering::Relaxed);
        answers
    });
    let answers = answers["ok"].as_array().unwrap();
    assert!(answers.contains(&json!("ok")), "{answers:?}");
    assert!(!answers.contains(&json!("no")), "{answers:?}");
}

#[cfg(unix)]
#[test]
fn a_granted_directory_that_became_a_link_is_not_opened() {
    let probe = Probe::new();
    probe.file("out/in/note", "ok").file("secret/note", "no");
    let grants = "file_read = [\"out/in\"]\nfile_write = [\"out\"]";
    let mut guest = probe.granted(grants);
    // A plugin that may write around its grant puts a link in its place.
    let note = json!({"dir": "out", "path": "in/note"});
    assert_eq!(guest.run("unlink", note), ok(json!("done")));
    std::fs::remove_dir(probe.path("out/in")).unwrap();
    let link = json!({"dir": "out", "target": "../secret", "path": "in"});
    assert_eq!(guest.run("symbolic-link", link), ok(json!("done")));
    let mut guest = probe.granted(grants);
    assert_eq!(
        guest.run("read", at("out/in", "note")),
        error("bad-descriptor")
    );
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_is_not_reached_through_proc() {
    let probe = Probe::new();
    let mut guest = probe.granted("file_read = true\nfile_write = true");
    for path in [
        "proc/self/environ",
        "proc/self/mem",
        "proc/self/root/etc/passwd",
        "proc/self/fd/0",
        "proc/self/cwd/Cargo.toml",
        "proc/thread-self/environ",
        "dev/fd/0",
        "proc/1/cmdline",
        "proc",
    ] {
        let answer = guest.run("read", at("/", path));
        assert!(answer["error"].is_string(), "{path}: {answer}");
    }
    let environ = guest.run("read", at("/", "proc/self/environ"));
    assert_eq!(environ, error("access"));
    assert!(guest.run("read", at("/", "etc/passwd"))["ok"].is_string());
    let mut guest = probe.granted("file_read = [\"/proc\"]");
    assert_eq!(guest.run("directories", json!({})), ok(json!([])));
}

#[test]
fn what_may_only_be_read_is_not_changed_in_any_way() {
    let probe = Probe::new();
    probe.file("in/note", "kept").file("out/mine", "x");
    let mut guest = probe.granted("file_read = [\"in\", \"out\"]\nfile_write = [\"out\"]");
    let refused = error("access");
    let open = |write: bool, create: bool, truncate: bool, path: &str| {
        json!({"dir": "in", "path": path, "read": true, "write": write, "create": create,
               "truncate": truncate, "directory": false})
    };
    for deed in [
        open(true, false, false, "note"),
        open(false, true, false, "new"),
        open(false, false, true, "note"),
    ] {
        assert_eq!(guest.run("open", deed.clone()), refused, "{deed}");
    }
    let attempts = [
        ("write", json!({"dir": "in", "path": "note", "text": "x"})),
        ("make-directory", json!({"dir": "in", "path": "new"})),
        (
            "symbolic-link",
            json!({"dir": "in", "target": "note", "path": "new"}),
        ),
        (
            "link",
            json!({"dir": "in", "path": "note", "to": "in", "new": "new"}),
        ),
        (
            "link",
            json!({"dir": "in", "path": "note", "to": "out", "new": "new"}),
        ),
        (
            "link",
            json!({"dir": "out", "path": "mine", "to": "in", "new": "new"}),
        ),
        (
            "rename",
            json!({"dir": "in", "path": "note", "to": "in", "new": "new"}),
        ),
        (
            "rename",
            json!({"dir": "in", "path": "note", "to": "out", "new": "new"}),
        ),
        (
            "rename",
            json!({"dir": "out", "path": "mine", "to": "in", "new": "note"}),
        ),
        ("unlink", json!({"dir": "in", "path": "note"})),
        ("set-times", json!({"dir": "in", "path": "note"})),
    ];
    for (deed, arguments) in attempts {
        assert_eq!(
            guest.run(deed, arguments.clone()),
            refused,
            "{deed} {arguments}"
        );
    }
    let changed = guest.run("change-opened", json!({"dir": "in", "path": "note"}));
    assert_eq!(changed, ok(json!(vec!["access"; 5])));
    assert_eq!(probe.text("in/note"), "kept");
    let left = std::fs::read_dir(probe.path("in")).unwrap().count();
    assert_eq!(left, 1);
}

#[test]
fn what_may_only_be_written_is_not_read_in_any_way() {
    let probe = Probe::new();
    probe
        .file("out/secret", "no")
        .file("out/deep/secret", "no")
        .file("both/x", "");
    let mut guest = probe.granted("file_write = [\"out\", \"both\"]\nfile_read = [\"both\"]");
    let refused = error("access");
    for (dir, path) in [("out", "secret"), ("out", "deep/secret")] {
        assert_eq!(guest.run("read", at(dir, path)), refused);
        for (read, write, create, truncate) in [
            (true, true, false, false),
            (false, false, true, false),
            (false, false, false, true),
        ] {
            let open = json!({"dir": dir, "path": path, "read": read, "write": write,
                "create": create, "truncate": truncate, "directory": false});
            assert_eq!(guest.run("open", open.clone()), refused, "{open}");
        }
        for deed in ["link", "rename"] {
            let arguments = json!({"dir": dir, "path": path, "to": "both", "new": "got"});
            assert_eq!(guest.run(deed, arguments), refused, "{deed}");
        }
    }
    assert_eq!(
        guest.run("list", json!({"dir": "out", "path": "."})),
        refused
    );
    assert_eq!(
        guest.run("list", json!({"dir": "out", "path": "deep"})),
        refused
    );
    assert_eq!(
        guest.run("read-link", json!({"dir": "out", "path": "secret"})),
        refused
    );
    assert_eq!(probe.text("out/secret"), "no");
}

#[test]
fn nothing_is_moved_within_what_may_be_written_to_where_it_may_be_read() {
    let probe = Probe::new();
    probe.file("out/secret", "no").file("out/in/x", "");
    let mut guest = probe.granted("file_write = [\"out\"]\nfile_read = [\"out/in\"]");
    for deed in ["link", "rename"] {
        let arguments = json!({"dir": "out", "path": "secret", "to": "out", "new": "in/got"});
        assert_eq!(guest.run(deed, arguments), error("access"), "{deed}");
    }
    assert_eq!(guest.run("read", at("out/in", "got")), error("no-entry"));
}

#[test]
fn a_loopback_port_that_is_not_granted_is_not_connected_to() {
    let probe = Probe::new();
    let server = Server::silent();
    let port = server.port();
    let other = if port == 1 { 2 } else { port - 1 };
    for grants in [
        String::new(),
        format!("network = [\"127.0.0.1:{other}\"]"),
        format!("network = [\"127.0.0.2:{port}\", \"[::1]:{port}\", \"api.example.org\"]"),
        format!("network = [\"0.0.0.0/1:{other}\"]"),
    ] {
        let connect = json!({"address": "127.0.0.1", "port": port});
        let answer = probe.granted(&grants).run("connect", connect);
        assert_eq!(answer, error("access-denied"), "{grants}");
        let get = json!({"scheme": "http", "authority": format!("127.0.0.1:{port}"), "path": "/"});
        let answer = probe.granted(&grants).run("get", get);
        assert_eq!(answer, error("ErrorCode::HttpRequestDenied"), "{grants}");
    }
    assert_eq!(server.callers(), 0);
}

#[test]
fn an_address_in_disguise_is_not_connected_to() {
    let probe = Probe::new();
    let server = Server::silent();
    let port = server.port();
    probe.name("api.example.org", &[&["::ffff:127.0.0.1"]]);
    let mut guest = probe.granted("network = [\"api.example.org\", \"::/0\"]");
    for address in ["::ffff:127.0.0.1", "::127.0.0.1", "::ffff:7f00:1"] {
        let connect = json!({"address": address, "port": port});
        let answer = guest.run("connect", connect);
        assert!(answer["error"].is_string(), "{address}: {answer}");
    }
    for authority in [
        "[::ffff:127.0.0.1]",
        "127.1",
        "2130706433",
        "0x7f000001",
        "127.0.0.1.",
    ] {
        let authority = format!("{authority}:{port}");
        let get = json!({"scheme": "http", "authority": authority, "path": "/"});
        let answer = guest.run("get", get);
        assert!(answer["error"].is_string(), "{authority}: {answer}");
    }
    let by_name = json!({"name": "api.example.org", "port": port});
    assert_eq!(
        guest.run("connect-by-name", by_name),
        error("access-denied")
    );
    assert_eq!(server.callers(), 0);
}

#[test]
fn a_name_that_leads_to_this_machine_or_its_network_opens_nothing() {
    let probe = Probe::new();
    let server = Server::silent();
    let port = server.port();
    for (index, address) in [
        "127.0.0.1",
        "::1",
        "10.0.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "fd00::1",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("n{index}.example.org");
        probe.name(&name, &[&[address]]);
        let mut guest = probe.granted("network = [\"*.example.org\"]");
        assert_eq!(
            guest.run("look-up", json!({"name": name})),
            error("access-denied")
        );
        let get = json!({"scheme": "http", "authority": format!("{name}:{port}"), "path": "/"});
        assert_eq!(guest.run("get", get), error("ErrorCode::HttpRequestDenied"));
        let connect = json!({"address": address, "port": port});
        assert_eq!(guest.run("connect", connect), error("access-denied"));
    }
    assert_eq!(server.callers(), 0);
}

#[test]
fn a_name_that_changes_its_address_after_the_check_opens_nothing() {
    let probe = Probe::new();
    let server = Server::silent();
    let port = server.port();
    // Public at the first lookup, this machine at every later one.
    let answers: &[&[&str]] = &[&["203.0.114.1"], &["127.0.0.1"]];
    probe.name("evil.example.org", answers);
    let mut guest = probe.granted("network = [\"evil.example.org\"]");
    let name = json!({"name": "evil.example.org"});
    assert_eq!(
        guest.run("look-up", name.clone()),
        ok(json!(["203.0.114.1"]))
    );
    assert_eq!(guest.run("look-up", name), error("access-denied"));
    let connect = json!({"address": "127.0.0.1", "port": port});
    assert_eq!(guest.run("connect", connect), error("access-denied"));
    let get =
        json!({"scheme": "http", "authority": format!("evil.example.org:{port}"), "path": "/"});
    assert_eq!(guest.run("get", get), error("ErrorCode::HttpRequestDenied"));
    assert_eq!(server.callers(), 0);
}

#[test]
fn an_address_that_a_name_led_to_is_open_at_the_granted_ports_only() {
    let probe = Probe::new();
    probe.name("api.example.org", &[&["203.0.114.1"]]);
    let mut guest = probe.granted("network = [\"api.example.org:443\"]");
    let connect = json!({"name": "api.example.org", "port": 80});
    assert_eq!(
        guest.run("connect-by-name", connect),
        error("access-denied")
    );
    let get = json!({"scheme": "http", "authority": "api.example.org", "path": "/"});
    assert_eq!(guest.run("get", get), error("ErrorCode::HttpRequestDenied"));
}

#[test]
fn a_redirect_to_a_host_that_is_not_granted_is_not_followed() {
    let probe = Probe::new();
    let inner = Server::answering("200 OK", "", "secret");
    let location = format!("location: http://127.0.0.1:{}/\r\n", inner.port());
    let outer = Server::answering("302 Found", &location, "");
    let grants = format!("network = [\"127.0.0.1:{}\"]", outer.port());
    let authority = format!("127.0.0.1:{}", outer.port());
    let get = json!({"scheme": "http", "authority": authority, "path": "/", "follow": 1});
    let answer = probe.granted(&grants).run("get", get.clone());
    assert_eq!(answer, error("ErrorCode::HttpRequestDenied"));
    assert_eq!((outer.callers(), inner.callers()), (1, 0));
    // The guest follows it where that is granted, so it was the grant that stopped it.
    let answer = probe.granted("network = true").run("get", get);
    assert_eq!(answer, ok(json!([200, "secret"])));
}

#[test]
fn a_host_hidden_behind_a_user_name_is_not_requested() {
    let probe = Probe::new();
    let server = Server::answering("200 OK", "", "secret");
    probe.name("api.example.org", &[&["203.0.114.1"]]);
    // Whichever host a program takes this for, the user may have taken it for the other.
    let mut guest = probe.granted("network = true");
    let authority = format!("api.example.org@127.0.0.1:{}", server.port());
    let get = json!({"scheme": "http", "authority": authority, "path": "/"});
    assert!(guest.run("get", get)["error"].is_string());
    assert_eq!(server.callers(), 0);
}

#[test]
fn nothing_listens_and_no_datagram_is_sent_whatever_is_granted() {
    let mut guest = Probe::new().granted("network = true");
    for (address, port) in [
        ("127.0.0.1", 0),
        ("0.0.0.0", 0),
        ("::", 0),
        ("0.0.0.0", 8099),
    ] {
        let arguments = json!({"address": address, "port": port});
        assert_eq!(
            guest.run("listen", arguments),
            error("access-denied"),
            "{address}"
        );
    }
    let datagram = json!({"address": "127.0.0.1", "port": 9});
    assert_eq!(guest.run("udp", datagram), error("access-denied"));
}

/// Grants for the plugin, as a host takes them over while it runs.
fn grants(text: &str) -> GrantsFile {
    GrantsFile::parse(&format!("[plugin.wasi-probe]\n{text}"), Path::new("grants")).unwrap()
}

#[test]
fn what_is_open_is_closed_when_its_grant_is_taken_away() {
    let probe = Probe::new();
    probe.file("in/note", "secret").file("out/x", "");
    let both = "file_read = [\"in\"]\nfile_write = [\"out\"]";
    let (mut guest, host) = probe.opened(both, CancelToken::new());
    let note = json!({"dir": "in", "path": "note"});
    assert_eq!(guest.run("hold", note.clone()), ok(json!("held")));
    // More grants, and a change of others, close nothing.
    host.set_grants(grants(&format!("{both}\nkv = true\nclocks = true")));
    assert_eq!(guest.run("read-held", json!({})), ok(json!("secret")));
    host.set_grants(grants("file_write = [\"out\"]"));
    let failure = guest.try_to("read-held", json!({})).unwrap_err();
    assert!(failure.to_string().contains("crashed"), "{failure}");
}

#[test]
fn a_grant_that_is_taken_away_is_gone_at_the_next_call() {
    let probe = Probe::new();
    probe.file("in/note", "secret");
    let (mut guest, host) = probe.opened("file_read = [\"in\"]", CancelToken::new());
    let note = json!({"dir": "in", "path": "note"});
    assert_eq!(guest.run("read", note.clone()), ok(json!("secret")));
    host.set_grants(GrantsFile::default());
    assert_eq!(guest.run("read", note), error("bad-descriptor"));
}
