//! Whole commands, against an authorization server and a browser of the tests' own.

mod server;
mod user;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use oauth2::{PkceCodeChallenge, PkceCodeVerifier};
use tempfile::TempDir;

use super::*;
use crate::client::Client;
use crate::provider::Provider;

use server::{Policy, Server};
use user::{Browser, User};

/// A directory for the file of tokens.
fn home() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn run(user: &User, home: &Path, issuer: &str, words: &[&str]) -> Result<()> {
    let session = Session {
        credentials: Credentials::new(home.join("account")),
        issuer: Some(issuer.to_owned()),
        client_id: None,
        surroundings: user,
    };
    session.run(Arguments::try_parse_from(words).unwrap().command)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn file(home: &TempDir) -> PathBuf {
    home.path().join("account/credentials.toml")
}

#[test]
fn a_login_in_the_browser_ends_with_tokens_in_a_closed_file() {
    let (server, home) = (Server::start(Policy::default()), home());
    let user = User::new(Browser::Follows);
    let issuer = server.issuer();
    let words = ["login", "--scope", "read", "--scope", "write"];
    run(&user, home.path(), &issuer, &words).unwrap();
    assert!(user.told().contains("Signed in"), "{}", user.told());
    assert_eq!(mode(&file(&home)), 0o600);
    assert_eq!(mode(&home.path().join("account")), 0o700);

    run(&user, home.path(), &issuer, &["token", "print"]).unwrap();
    assert_eq!(user.printed(), ["access-1"]);
    run(&user, home.path(), &issuer, &["status"]).unwrap();
    let status = user.printed().join("\n");
    assert!(status.contains("scopes   read write"), "{status}");
    assert!(status.contains("expires in"), "{status}");
    let seen = server.seen();
    assert_eq!(seen.refreshes, 0);
    assert_eq!(seen.challenges, 1);
    assert!(!user.told().contains("access-1"), "{}", user.told());
}

#[test]
fn without_a_browser_the_address_is_told_and_may_be_opened_elsewhere() {
    let (server, home) = (Server::start(Policy::default()), home());
    let user = User::new(Browser::OpenedByHand);
    run(
        &user,
        home.path(),
        &server.issuer(),
        &["login", "--no-browser"],
    )
    .unwrap();
    assert!(user.told().contains("/authorize?"), "{}", user.told());
    assert!(user.told().contains("code_challenge_method=S256"));
}

#[test]
fn an_answer_with_another_state_is_refused_and_ends_nothing() {
    let (server, home) = (Server::start(Policy::default()), home());
    let user = User::new(Browser::AnsweredByStrangersFirst);
    run(&user, home.path(), &server.issuer(), &["login"]).unwrap();
    // A wrong state, none, another path and another method; then the true answer.
    assert_eq!(user.statuses(), [400, 400, 404, 404, 200]);
}

#[test]
fn another_verifier_is_refused_by_the_server() {
    let server = Server::start(Policy::default());
    let client = Client::new();
    let provider = Provider::discover(&client, &server.issuer()).unwrap();
    let redirect = "http://127.0.0.1:9/callback";
    let consent = provider.consent("vox", &[], redirect).unwrap();
    let code = server.code_for(&consent.address);
    let (_, other) = PkceCodeChallenge::new_random_sha256();
    let refused = provider.exchange(&client, "vox", code, other, redirect);
    let Err(Error::Denied(told)) = refused else {
        panic!("it was taken")
    };
    assert!(
        told.contains("invalid_grant (the verifier does not fit the challenge)"),
        "{told}"
    );
    // The right one is taken, with another code: that one is used up.
    let again = server.code_for(&consent.address);
    assert!(
        provider
            .exchange(&client, "vox", again, consent.verifier, redirect)
            .is_ok()
    );
}

#[test]
fn the_challenge_is_that_of_rfc_7636() {
    let verifier = PkceCodeVerifier::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned());
    let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
    assert_eq!(
        challenge.as_str(),
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    );
}

#[test]
fn a_user_who_says_no_is_not_signed_in() {
    let policy = Policy {
        denies: true,
        ..Policy::default()
    };
    let (server, home) = (Server::start(policy), home());
    let user = User::new(Browser::Follows);
    let Err(Error::Denied(told)) = run(&user, home.path(), &server.issuer(), &["login"]) else {
        panic!("the login succeeded")
    };
    assert_eq!(told, "the login was denied (the user said no)");
    assert!(!file(&home).exists());
}

#[test]
fn a_login_that_nobody_answers_ends_in_time() {
    let (server, home) = (Server::start(Policy::default()), home());
    let user = User::new(Browser::GoesNowhere);
    let words = ["login", "--timeout", "0"];
    let ended = run(&user, home.path(), &server.issuer(), &words);
    assert!(
        matches!(&ended, Err(Error::TimedOut(told)) if told.contains("--timeout")),
        "{ended:?}"
    );
}

#[test]
fn a_cancelled_login_ends_at_once() {
    let (server, home) = (Server::start(Policy::default()), home());
    let user = User::new(Browser::IsCancelled);
    let begun = Instant::now();
    let ended = run(&user, home.path(), &server.issuer(), &["login"]);
    assert_eq!(ended, Err(Error::Cancelled));
    assert!(begun.elapsed() < Duration::from_secs(60), "it did wait");
}

#[test]
fn an_access_token_that_is_about_to_expire_is_refreshed() {
    let policy = Policy {
        expires_in: 5,
        ..Policy::default()
    };
    let (server, home) = (Server::start(policy), home());
    let user = User::new(Browser::Follows);
    let issuer = server.issuer();
    run(&user, home.path(), &issuer, &["login"]).unwrap();
    run(&user, home.path(), &issuer, &["token", "print"]).unwrap();
    assert_eq!(user.printed(), ["access-2"]);
    run(&user, home.path(), &issuer, &["token", "refresh"]).unwrap();
    assert_eq!(server.seen().refreshes, 2);
    assert_eq!(mode(&file(&home)), 0o600);
}

#[test]
fn of_two_processes_that_need_a_token_one_refreshes_and_both_have_it() {
    let policy = Policy {
        expires_in: 5,
        expires_in_when_refreshed: 3600,
        ..Policy::default()
    };
    let (server, home) = (Server::start(policy), home());
    let issuer = server.issuer();
    let user = User::new(Browser::Follows);
    run(&user, home.path(), &issuer, &["login"]).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let user = User::new(Browser::GoesNowhere);
                run(&user, home.path(), &issuer, &["token", "print"]).unwrap();
                assert_eq!(user.printed(), ["access-2"]);
            });
        }
    });
    assert_eq!(server.seen().refreshes, 1);
}

#[test]
fn a_refresh_token_that_has_expired_means_a_new_login() {
    let policy = Policy {
        expires_in: 5,
        refuses_refresh: true,
        ..Policy::default()
    };
    let (server, home) = (Server::start(policy), home());
    let user = User::new(Browser::Follows);
    let issuer = server.issuer();
    run(&user, home.path(), &issuer, &["login"]).unwrap();
    let Err(Error::Denied(told)) = run(&user, home.path(), &issuer, &["token", "print"]) else {
        panic!("it was refreshed")
    };
    assert!(
        told.contains("invalid_grant") && told.contains("vox account login"),
        "{told}"
    );
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let (server, home) = (Server::start(Policy::default()), home());
    let user = User::new(Browser::Follows);
    let issuer = server.issuer();
    run(&user, home.path(), &issuer, &["login"]).unwrap();
    fs::set_permissions(file(&home), Permissions::from_mode(0o640)).unwrap();
    for words in [
        &["token", "print"][..],
        &["login"],
        &["profile", "list"],
        &["logout"],
    ] {
        let Err(Error::Denied(told)) = run(&user, home.path(), &issuer, words) else {
            panic!("{words:?}: it was read")
        };
        assert!(
            told.contains("mode 640") && told.contains("chmod 600"),
            "{told}"
        );
    }
    fs::set_permissions(file(&home), Permissions::from_mode(0o600)).unwrap();
    let directory = home.path().join("account");
    fs::set_permissions(&directory, Permissions::from_mode(0o770)).unwrap();
    let Err(Error::Denied(told)) = run(&user, home.path(), &issuer, &["status"]) else {
        panic!("it was read")
    };
    assert!(told.contains("chmod 700"), "{told}");
    assert_eq!(user.printed(), [""; 0]);
}

#[test]
fn a_link_in_place_of_the_file_is_refused() {
    let home = home();
    let directory = home.path().join("account");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    symlink("/dev/null", file(&home)).unwrap();
    let user = User::new(Browser::GoesNowhere);
    assert!(
        run(
            &user,
            home.path(),
            "https://none.example",
            &["profile", "list"]
        )
        .is_err()
    );
}

#[test]
fn a_file_that_was_damaged_is_told_by_its_line_and_not_by_what_stands_there() {
    let home = home();
    let directory = home.path().join("account");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    fs::write(
        file(&home),
        "current = \"a\"\n\n[profiles.a]\naccess = 'hush\n",
    )
    .unwrap();
    fs::set_permissions(file(&home), Permissions::from_mode(0o600)).unwrap();
    let user = User::new(Browser::GoesNowhere);
    let told = run(&user, home.path(), "https://none.example", &["status"])
        .unwrap_err()
        .to_string();
    assert!(told.contains("line 4") && !told.contains("hush"), "{told}");
}

#[test]
fn two_logins_at_once_keep_both() {
    let (server, home) = (Server::start(Policy::default()), home());
    let issuer = server.issuer();
    thread::scope(|scope| {
        for name in ["work", "play"] {
            let (home, issuer) = (&home, &issuer);
            scope.spawn(move || {
                let user = User::new(Browser::Follows);
                run(&user, home.path(), issuer, &["login", "--profile", name]).unwrap();
            });
        }
    });
    let profiles = Credentials::new(home.path().join("account"))
        .read()
        .unwrap();
    let names: Vec<&String> = profiles.profiles.keys().collect();
    assert_eq!(names, ["play", "work"]);
}

#[test]
fn profiles_are_listed_used_and_removed() {
    let (server, home) = (Server::start(Policy::default()), home());
    let user = User::new(Browser::Follows);
    let issuer = server.issuer();
    let run = |words: &[&str]| run(&user, home.path(), &issuer, words);
    run(&["login", "--profile", "work"]).unwrap();
    run(&["login", "--profile", "play"]).unwrap();
    run(&["profile", "list"]).unwrap();
    let listed = [format!("* play  {issuer}"), format!("  work  {issuer}")];
    assert_eq!(user.printed(), listed);

    run(&["profile", "use", "work"]).unwrap();
    run(&["token", "print"]).unwrap();
    assert_eq!(user.printed(), ["access-1"]);
    let Err(Error::NotFound(told)) = run(&["profile", "use", "wrok"]) else {
        panic!("it was found")
    };
    assert_eq!(told, "there is no profile `wrok`; there is play, work");

    run(&["profile", "remove", "work"]).unwrap();
    assert!(matches!(run(&["token", "print"]), Err(Error::NotFound(_))));
    assert!(matches!(
        run(&["profile", "remove", "work"]),
        Err(Error::NotFound(_))
    ));
    assert!(matches!(
        run(&["login", "--profile", "a b"]),
        Err(Error::Invalid(_))
    ));
}

#[test]
fn a_logout_gives_the_tokens_back() {
    let (server, home) = (Server::start(Policy::default()), home());
    let user = User::new(Browser::Follows);
    let issuer = server.issuer();
    run(&user, home.path(), &issuer, &["login"]).unwrap();
    run(&user, home.path(), &issuer, &["logout"]).unwrap();
    assert_eq!(server.seen().revoked, ["refresh-1"]);
    assert!(
        !fs::read_to_string(file(&home))
            .unwrap()
            .contains("access-1")
    );
    let refused = run(&user, home.path(), &issuer, &["token", "print"]);
    assert!(matches!(refused, Err(Error::Denied(told)) if told.contains("signed out")));
}

#[test]
fn a_port_that_is_in_use_is_told_with_the_way_out() {
    let (server, home) = (Server::start(Policy::default()), home());
    let user = User::new(Browser::GoesNowhere);
    let issuer = server.issuer();
    let taken = issuer.rsplit_once(':').unwrap().1;
    let Err(Error::Unavailable(told)) =
        run(&user, home.path(), &issuer, &["login", "--port", taken])
    else {
        panic!("the port was free")
    };
    assert!(told.contains("--port"), "{told}");
}

#[test]
fn an_issuer_that_is_not_what_it_says_is_refused() {
    let home = home();
    let user = User::new(Browser::GoesNowhere);
    for (policy, expected) in [
        (
            Policy {
                claims_issuer: Some("https://other.example"),
                ..Policy::default()
            },
            "says that it is `https://other.example`",
        ),
        (
            Policy {
                methods: &["plain"],
                ..Policy::default()
            },
            "does not offer PKCE",
        ),
        (
            Policy {
                token_endpoint: Some("http://login.example/token"),
                ..Policy::default()
            },
            "must begin with `https://`",
        ),
    ] {
        let server = Server::start(policy);
        let told = run(&user, home.path(), &server.issuer(), &["login"])
            .unwrap_err()
            .to_string();
        assert!(told.contains(expected), "{told}");
    }
    for (issuer, expected) in [
        ("http://login.example", "must begin with `https://`"),
        ("login.example", "is none"),
        ("https://user:pw@login.example", "neither a user"),
    ] {
        let told = run(&user, home.path(), issuer, &["login"])
            .unwrap_err()
            .to_string();
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn an_answer_from_another_server_is_not_taken() {
    let policy = Policy {
        answers_as: Some("https://other.example"),
        ..Policy::default()
    };
    let (server, home) = (Server::start(policy), home());
    let user = User::new(Browser::Follows);
    let Err(Error::Denied(told)) = run(&user, home.path(), &server.issuer(), &["login"]) else {
        panic!("it was taken")
    };
    assert!(
        told.contains("comes from `https://other.example`"),
        "{told}"
    );
}

#[test]
fn a_server_that_only_knows_openid_is_found() {
    let policy = Policy {
        openid_only: true,
        ..Policy::default()
    };
    let (server, home) = (Server::start(policy), home());
    let user = User::new(Browser::Follows);
    run(&user, home.path(), &server.issuer(), &["login"]).unwrap();
}

#[test]
fn the_verb_is_described_with_subcommands_inside_subcommands() {
    let nodes = describe_command(&Arguments::command());
    let paths: Vec<String> = nodes.iter().map(|node| node.path.join(" ")).collect();
    for path in [
        "account",
        "account login",
        "account token",
        "account token refresh",
        "account profile use",
    ] {
        assert!(paths.iter().any(|known| known == path), "{path}: {paths:?}");
    }
    assert!(nodes[0].subcommand_required);
    assert!(Arguments::try_parse_from(["profile"]).is_err());
}
