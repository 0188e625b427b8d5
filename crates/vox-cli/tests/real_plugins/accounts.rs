//! `vox account`, a verb with verbs inside: its help and completions, and a login at the authorization server of
//! the plugin's own tests.

#[path = "../../../../plugins/account/src/tests/server.rs"]
#[expect(dead_code, reason = "the tests of the plugin ask more of it")]
mod server;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::Place;
use server::{Policy, Server};

/// Where the tokens are, from the user's home.
const CREDENTIALS: &str = ".local/share/vox/account/credentials.toml";

/// A login that has told which address to open, and waits for who opens it.
struct Login {
    vox: Child,
    said: BufReader<ChildStderr>,
    address: String,
}

impl Login {
    fn start(place: &Place, server: &Server) -> Self {
        let mut command = place.vox();
        command
            .args(["account", "login", "--no-browser", "--scope", "read"])
            .args(["--issuer", &server.issuer()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut vox = command.spawn().unwrap();
        let mut said = BufReader::new(vox.stderr.take().unwrap());
        let mut lines = said.by_ref().lines().map(Result::unwrap);
        let address = lines.find(|line| line.contains("/authorize?"));
        let address = address.expect("the address is told").trim().to_owned();
        Self { vox, said, address }
    }

    /// The exit code, and what else was said.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        (self.vox.wait().unwrap().code(), rest)
    }
}

/// Signs a user in, who opens the address by hand and agrees.
fn signed_in(server: &Server) -> Place {
    let place = Place::with(&["account"]);
    let login = Login::start(&place, server);
    assert!(
        login.address.contains("code_challenge_method=S256"),
        "{}",
        login.address
    );
    let page = ureq::get(&login.address).call().unwrap();
    assert_eq!(page.status().as_u16(), 200);
    let (code, said) = login.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Signed in at "), "{said}");
    place
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn help_and_usage_go_as_deep_as_the_verb_does() {
    let place = Place::with(&["account"]);
    for (words, expected) in [
        ("account --help", "Usage: vox account <COMMAND>"),
        ("account token --help", "Usage: vox account token <COMMAND>"),
        ("help account login", "--client-id <ID>"),
        ("account login --help", "[default: 300]"),
    ] {
        let help = place.run(words.split(' ')).succeeded().stdout;
        assert!(help.contains(expected), "{words}: {help}");
    }
    place
        .run(["account", "token"])
        .failed(2, &["print, refresh"]);
    place
        .run(["account", "lgin"])
        .failed(2, &["'lgin'", "'login'"]);
}

#[test]
fn completions_know_the_verbs_inside_a_verb() {
    let place = Place::with(&["account"]);
    for (shell, words) in [
        (
            "bash",
            ["vox__subcmd__account__subcmd__token", "--no-browser"],
        ),
        (
            "zsh",
            ["_vox__subcmd__account__subcmd__token", "--no-browser"],
        ),
        (
            "fish",
            ["__fish_seen_subcommand_from token", "-l no-browser"],
        ),
    ] {
        let script = place.run(["completions", shell]).succeeded().stdout;
        for word in words {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn a_login_ends_with_tokens_in_a_file_that_its_owner_alone_can_read() {
    let server = Server::start(Policy::default());
    let place = signed_in(&server);
    // The verifier that the server was shown fits the challenge that the address carried.
    assert_eq!(server.seen().challenges, 1);
    let file = place.path().join(CREDENTIALS);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);

    let status = place.run(["account", "status"]).succeeded().stdout;
    let issuer = format!("issuer   {}\n", server.issuer());
    for line in [issuer.as_str(), "scopes   read\n", "state    signed in; "] {
        assert!(status.contains(line), "{status}");
    }
    let token = place.run(["account", "token", "print"]).succeeded().stdout;
    assert_eq!(token, "access-1\n");
}

#[test]
fn a_logout_gives_the_tokens_back_and_keeps_none() {
    let server = Server::start(Policy::default());
    let place = signed_in(&server);
    let told = place.run(["account", "logout"]).succeeded().stderr;
    assert!(
        told.contains("the server has taken the tokens back"),
        "{told}"
    );
    assert_eq!(server.seen().revoked, ["refresh-1"]);

    let kept = fs::read_to_string(place.path().join(CREDENTIALS)).unwrap();
    assert!(!kept.contains("access-1") && !kept.contains("refresh-1"));
    let status = place.run(["account", "status"]).succeeded().stdout;
    assert!(status.contains("state    signed out\n"), "{status}");
    place
        .run(["account", "token", "print"])
        .failed(4, &["vox account login --profile default"]);
}

#[test]
fn a_login_that_waits_ends_at_ctrl_c_and_leaves_nothing() {
    let server = Server::start(Policy::default());
    let place = Place::with(&["account"]);
    let login = Login::start(&place, &server);
    kill_process(Pid::from_child(&login.vox), Signal::INT).unwrap();
    let (code, said) = login.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(!place.path().join(CREDENTIALS).exists());
}

#[test]
fn a_login_that_may_not_tell_the_address_is_refused_with_the_command_that_grants_it() {
    let server = Server::start(Policy::default());
    let place = Place::with(&["account"]);
    place
        .run(["plugin", "revoke", "account", "stream_io"])
        .succeeded();
    let issuer = server.issuer();
    place
        .run(["account", "login", "--no-browser", "--issuer", &issuer])
        .failed(4, &["vox plugin grant account stream_io"]);
    assert!(!place.path().join(CREDENTIALS).exists());
}
