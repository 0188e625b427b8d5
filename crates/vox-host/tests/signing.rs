//! Signed plugins, and what those get who change them: every way to bend a signed directory, its
//! `Plugin.sig` or the order of versions is an attack here, and each is refused by name.

mod fixture;

use std::fs;
use std::path::{Path, PathBuf};

use fixture::{Fixture, id, snapshot};
use vox_contract::{Carrier, Platform};
use vox_crypto::{Domain, SigningKey};
use vox_host::distribution::{self, Parts};
use vox_host::install::{Decision, InstallError, Installer, Proposal, Receipt};
use vox_host::signing::{
    self, Allowed, Difference, MAX_SIGNATURE_FILE_BYTES, Refusal, SIGNATURE_FILE, SigningError,
    Standing, Time, TrustStore, TrustedKey,
};

fn key(number: u8) -> SigningKey {
    SigningKey::from_secret(&[number; 32])
}

fn sign(directory: &Path, by: u8) {
    signing::sign(directory, &key(by), Time::now(), None).unwrap();
}

/// A plugin that is to be installed, signed.
fn source(fixture: &Fixture, version: &str, by: u8) -> PathBuf {
    let directory = fixture.plugin(&format!("source-{version}-{by}"), "redact", version, "");
    fs::create_dir_all(directory.join("text/more")).unwrap();
    fs::write(directory.join("text/words.txt"), "words").unwrap();
    fs::write(directory.join("text/more/words.txt"), "more words").unwrap();
    sign(&directory, by);
    directory
}

fn agree(_: &Proposal<'_>) -> Decision {
    Decision::Install(Vec::new())
}

fn install(fixture: &Fixture, source: &Path) -> Result<Receipt, InstallError> {
    Installer::new(&fixture.directories).install(source, agree)
}

/// Refused, and nothing that was installed or trusted has changed.
#[track_caller]
fn refused(fixture: &Fixture, source: &Path) -> SigningError {
    let state = || {
        let files = snapshot(&fixture.path("data")).into_iter();
        files
            .filter(|(path, _)| !path.ends_with(".lock"))
            .collect::<Vec<_>>()
    };
    let before = state();
    let error = install(fixture, source).unwrap_err();
    assert_eq!(state(), before);
    match error {
        InstallError::Signing(error) => *error,
        error => panic!("{error}"),
    }
}

fn trust(fixture: &Fixture, number: u8, expires: Option<Time>) {
    let trusted = TrustedKey {
        name: "Ada".to_owned(),
        added: Time::now(),
        expires,
    };
    let key = key(number).public();
    TrustStore::change(&fixture.directories, |store| store.trust(key, trusted)).unwrap();
}

fn differences(error: SigningError) -> Vec<Difference> {
    match error {
        SigningError::Changed { differences, .. } => differences,
        error => panic!("{error}"),
    }
}

fn past() -> Time {
    Time::from_seconds(1)
}

#[test]
fn a_signed_directory_verifies_and_says_who_signed_what() {
    let fixture = Fixture::new();
    let directory = source(&fixture, "0.1.0", 1);
    let signed = signing::verify(&directory).unwrap();
    assert_eq!(signed.plugin(), &id("redact"));
    assert_eq!(signed.version().to_string(), "0.1.0");
    assert_eq!(signed.key(), key(1).public());
    let paths: Vec<&str> = signed.files().map(|(path, _)| path).collect();
    let expected = [
        "Plugin.toml",
        "code.wasm",
        "text/more/words.txt",
        "text/words.txt",
    ];
    assert_eq!(paths, expected);
    sign(&directory, 1);
    assert_eq!(signing::verify(&directory).unwrap().files().count(), 4);
}

#[test]
fn a_directory_without_signature_is_said_to_have_none() {
    let fixture = Fixture::new();
    let directory = fixture.plugin("source", "redact", "0.1.0", "");
    assert_eq!(signing::read(&directory).unwrap(), None);
    let error = signing::verify(&directory).unwrap_err();
    assert!(matches!(error, SigningError::NotSigned { .. }), "{error}");
}

#[test]
fn a_changed_byte_in_any_file_is_found() {
    let fixture = Fixture::new();
    let directory = source(&fixture, "0.1.0", 1);
    for path in [
        "Plugin.toml",
        "code.wasm",
        "text/more/words.txt",
        "text/words.txt",
    ] {
        let file = directory.join(path);
        let bytes = fs::read(&file).unwrap();
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 1;
            fs::write(&file, &changed).unwrap();
            let found = differences(signing::verify(&directory).unwrap_err());
            assert_eq!(found, [Difference::Changed(path.to_owned())]);
        }
        // As the installer sees it, when the manifest can still be read.
        fs::write(&file, [&bytes[..], b"\n"].concat()).unwrap();
        let found = differences(refused(&fixture, &directory));
        assert_eq!(found, [Difference::Changed(path.to_owned())]);
        fs::write(&file, &bytes).unwrap();
    }
    install(&fixture, &directory).unwrap();
}

#[test]
fn added_and_removed_files_are_named() {
    let fixture = Fixture::new();
    let directory = source(&fixture, "0.1.0", 1);
    fs::write(directory.join("text/extra.txt"), "").unwrap();
    fs::write(directory.join(".hidden"), "").unwrap();
    fs::write(directory.join("text/Plugin.sig"), "").unwrap();
    fs::remove_file(directory.join("text/words.txt")).unwrap();
    let expected = [
        Difference::Added(".hidden".to_owned()),
        Difference::Added("text/Plugin.sig".to_owned()),
        Difference::Added("text/extra.txt".to_owned()),
        Difference::Missing("text/words.txt".to_owned()),
    ];
    assert_eq!(differences(refused(&fixture, &directory)), expected);
}

#[test]
fn a_signature_over_other_files_does_not_vouch_for_these() {
    let fixture = Fixture::new();
    let (theirs, ours) = (source(&fixture, "0.1.0", 1), source(&fixture, "0.1.0", 2));
    fs::write(ours.join("code.wasm"), "another code").unwrap();
    fs::copy(theirs.join(SIGNATURE_FILE), ours.join(SIGNATURE_FILE)).unwrap();
    let expected = [Difference::Changed("code.wasm".to_owned())];
    assert_eq!(differences(refused(&fixture, &ours)), expected);
}

#[test]
fn the_signature_of_another_plugin_does_not_vouch_for_this_one() {
    let fixture = Fixture::new();
    let theirs = fixture.plugin("theirs", "wordstat", "0.1.0", "");
    sign(&theirs, 1);
    let ours = source(&fixture, "0.1.0", 2);
    fs::copy(theirs.join(SIGNATURE_FILE), ours.join(SIGNATURE_FILE)).unwrap();
    differences(refused(&fixture, &ours));

    // Nor when its signer listed these very files under the other plugin's name.
    let text = fs::read_to_string(source(&fixture, "0.2.0", 1).join(SIGNATURE_FILE)).unwrap();
    let text = text.replace("plugin redact", "plugin wordstat");
    let place = fixture.path("source-0.2.0-1");
    fs::write(place.join(SIGNATURE_FILE), resigned(&text, 1)).unwrap();
    let error = refused(&fixture, &place);
    assert!(matches!(error, SigningError::OtherPlugin { .. }), "{error}");
}

#[test]
fn bytes_are_checked_again_where_they_are_loaded() {
    let fixture = Fixture::new();
    let directory = source(&fixture, "0.1.0", 1);
    let signed = signing::verify(&directory).unwrap();
    let code = fs::read(directory.join("code.wasm")).unwrap();
    signed.check(Path::new("code.wasm"), &code).unwrap();
    signed
        .check(Path::new("./text/words.txt"), b"words")
        .unwrap_err();
    signed.check(Path::new("text/words.txt"), b"words").unwrap();
    for (path, bytes) in [
        ("code.wasm", &b"swapped"[..]),
        ("text/words.txt", b"w0rds"),
        ("text/words.txt", &code),
        ("other.wasm", &code),
        ("../code.wasm", &code),
        (SIGNATURE_FILE, &code),
    ] {
        signed.check(Path::new(path), bytes).unwrap_err();
    }
}

/// A `Plugin.sig` with other lines, as its key would sign it.
fn resigned(text: &str, by: u8) -> String {
    let end = text.rfind("signature ").unwrap();
    let signature = key(by).sign(Domain::PluginFiles, &text.as_bytes()[..end]);
    format!("{}signature {signature}\n", &text[..end])
}

#[test]
fn a_signature_file_that_is_not_exactly_what_signing_writes_is_refused() {
    let fixture = Fixture::new();
    let directory = source(&fixture, "0.1.0", 1);
    let file = directory.join(SIGNATURE_FILE);
    let text = fs::read_to_string(&file).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let files: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("file"))
        .collect();
    assert_eq!(
        resigned(&text, 1),
        text,
        "what is bent below is well-formed"
    );
    lines.swap(5, 6);
    let reordered = lines.join("\n") + "\n";
    let hash = files[0].split(' ').nth(1).unwrap();
    let path_like = |path: &str| text.replace("text/words.txt", path);
    let bent = [
        // Every one of these is signed anew, so that only its form is wrong.
        (
            "trailing space",
            text.replace("plugin redact", "plugin redact "),
        ),
        ("trailing space in a path", path_like("text/words.txt ")),
        ("CRLF", text.replace('\n', "\r\n")),
        ("reordered files", reordered),
        (
            "a file twice",
            text.replace(files[0], &format!("{}\n{}", files[0], files[0])),
        ),
        (
            "reordered head",
            text.replace(
                "plugin redact\nversion 0.1.0",
                "version 0.1.0\nplugin redact",
            ),
        ),
        ("a path that climbs", path_like("text/../../words.txt")),
        ("a path with a dot", path_like("text/./words.txt")),
        ("an absolute path", path_like("/text/words.txt")),
        ("an empty name", path_like("text//words.txt")),
        ("a backslash", path_like("text\\words.txt")),
        ("a drive", path_like("z:words.txt")),
        ("a control character", path_like("text/words\u{1b}.txt")),
        (
            "itself",
            text.replace(files[0], &files[0].replace("Plugin.toml", "Plugin.sig")),
        ),
        ("an empty line", text.replace("\nkey", "\n\nkey")),
        ("a line more", text.replace("\nkey", "\ncolour red\nkey")),
        ("a length with zeros", text.replace(" 5 text", " 05 text")),
        ("a length with a sign", text.replace(" 5 text", " +5 text")),
        ("upper case", text.replace(hash, &hash.to_uppercase())),
        (
            "another version",
            text.replace("signature 1", "signature 2"),
        ),
        ("no such time", text.replace("\nsigned 2", "\nsigned 3x")),
        (
            "a time of another form",
            text.replace("Z\nfile", "+00:00\nfile"),
        ),
        ("a mark before it", format!("\u{feff}{text}")),
    ];
    for (what, bent) in bent {
        assert_ne!(bent, text, "{what}");
        fs::write(&file, resigned(&bent, 1)).unwrap();
        let error = refused(&fixture, &directory);
        assert!(
            matches!(error, SigningError::Malformed { .. }),
            "{what}: {error}"
        );
    }
    for (what, bent) in [
        ("nothing", String::new()),
        (
            "no signature",
            text[..text.rfind("signature").unwrap()].to_owned(),
        ),
        ("no end of the line", text.trim_end().to_owned()),
        ("more after the signature", format!("{text}file 00 0 x\n")),
        ("itself twice", text.repeat(2)),
    ] {
        fs::write(&file, bent).unwrap();
        let error = refused(&fixture, &directory);
        assert!(
            matches!(error, SigningError::Malformed { .. }),
            "{what}: {error}"
        );
    }
    fs::write(&file, [0xff, b'\n']).unwrap();
    assert!(matches!(
        refused(&fixture, &directory),
        SigningError::Malformed { .. }
    ));
}

#[test]
fn a_huge_signature_file_is_not_read_to_its_end() {
    let fixture = Fixture::new();
    let directory = source(&fixture, "0.1.0", 1);
    let file = fs::File::create(directory.join(SIGNATURE_FILE)).unwrap();
    // Without a byte on disk: whoever reads it whole runs out of memory.
    file.set_len(1 << 40).unwrap();
    let error = signing::read(&directory).unwrap_err().to_string();
    let limit = MAX_SIGNATURE_FILE_BYTES.to_string();
    assert!(
        error.contains("larger than") && error.contains(&limit),
        "{error}"
    );
}

#[test]
fn a_key_that_did_not_sign_cannot_be_named() {
    let fixture = Fixture::new();
    let directory = source(&fixture, "0.1.0", 2);
    let file = directory.join(SIGNATURE_FILE);
    let text = fs::read_to_string(&file).unwrap();
    let (theirs, ours) = (key(1).public().to_string(), key(2).public().to_string());
    fs::write(&file, resigned(&text.replace(&ours, &theirs), 2)).unwrap();
    let error = refused(&fixture, &directory);
    assert!(matches!(error, SigningError::Forged { .. }), "{error}");
}

#[test]
fn a_date_in_a_signature_cannot_be_moved() {
    let fixture = Fixture::new();
    let directory = fixture.plugin("source", "redact", "0.1.0", "");
    signing::sign(&directory, &key(1), past(), Some(past())).unwrap();
    let file = directory.join(SIGNATURE_FILE);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("expires 1970", "expires 2970")).unwrap();
    let error = refused(&fixture, &directory);
    assert!(matches!(error, SigningError::Forged { .. }), "{error}");
    fs::write(&file, text.replace("expires 1970-01-01T00:00:01Z\n", "")).unwrap();
    let error = refused(&fixture, &directory);
    assert!(matches!(error, SigningError::Forged { .. }), "{error}");
}

#[test]
fn an_expired_signature_is_refused() {
    let fixture = Fixture::new();
    trust(&fixture, 1, None);
    let directory = fixture.plugin("source", "redact", "0.1.0", "");
    signing::sign(&directory, &key(1), past(), Some(past())).unwrap();
    let error = refused(&fixture, &directory);
    let refusal = matches!(
        error,
        SigningError::Refused(Refusal::SignatureExpired { .. })
    );
    assert!(refusal, "{error}");
}

#[test]
fn an_expired_key_is_refused() {
    let fixture = Fixture::new();
    trust(&fixture, 1, Some(past()));
    let error = refused(&fixture, &source(&fixture, "0.1.0", 1));
    let refusal = matches!(error, SigningError::Refused(Refusal::KeyExpired { .. }));
    assert!(refusal, "{error}");
}

#[test]
fn a_version_that_another_key_signed_is_refused_also_when_that_key_is_trusted() {
    let fixture = Fixture::new();
    let receipt = install(&fixture, &source(&fixture, "0.1.0", 1)).unwrap();
    let key = key(1).public();
    assert_eq!(receipt.standing, Standing::Pinned { key });
    trust(&fixture, 2, None);
    let error = refused(&fixture, &source(&fixture, "0.2.0", 2));
    let refusal = matches!(error, SigningError::Refused(Refusal::OtherKey { .. }));
    assert!(refusal, "{error}");

    let unsigned = fixture.plugin("unsigned", "redact", "0.3.0", "");
    let error = refused(&fixture, &unsigned);
    let refusal = matches!(
        error,
        SigningError::Refused(Refusal::SignatureMissing { .. })
    );
    assert!(refusal, "{error}");
    install(&fixture, &source(&fixture, "0.4.0", 1)).unwrap();
}

#[test]
fn a_downgrade_is_refused_also_when_the_higher_version_is_gone() {
    let fixture = Fixture::new();
    install(&fixture, &source(&fixture, "0.2.0", 1)).unwrap();
    fs::remove_dir_all(fixture.path("data/plugins/redact")).unwrap();
    let older = source(&fixture, "0.1.0", 1);
    let error = refused(&fixture, &older);
    let refusal = matches!(error, SigningError::Refused(Refusal::Downgrade { .. }));
    assert!(refusal, "{error}");

    let installer = Installer::new(&fixture.directories).allow_downgrade(true);
    installer.install(&older, agree).unwrap();
    let trust = TrustStore::load(&fixture.directories).unwrap();
    let highest = trust.pinned(&id("redact")).unwrap().highest.to_string();
    assert_eq!(highest, "0.2.0", "what was installed once is not forgotten");
}

#[cfg(unix)]
#[test]
fn a_link_or_a_pipe_in_the_directory_is_refused() {
    use std::os::unix::fs::symlink;
    let fixture = Fixture::new();
    let directory = source(&fixture, "0.1.0", 1);
    let link = directory.join("link");
    symlink("text/words.txt", &link).unwrap();
    let is_refused = |error: &SigningError| matches!(error, SigningError::Directory(_));
    assert!(is_refused(&signing::verify(&directory).unwrap_err()));
    let error = signing::sign(&directory, &key(1), Time::now(), None).unwrap_err();
    assert!(is_refused(&error), "{error}");
    fs::remove_file(&link).unwrap();

    // A file that was signed, with its bytes behind a link.
    let code = directory.join("code.wasm");
    fs::rename(&code, fixture.path("code")).unwrap();
    symlink(fixture.path("code"), &code).unwrap();
    assert!(is_refused(&signing::verify(&directory).unwrap_err()));
    fs::remove_file(&code).unwrap();
    fs::rename(fixture.path("code"), &code).unwrap();

    // The signature itself.
    let file = directory.join(SIGNATURE_FILE);
    fs::rename(&file, fixture.path("signature")).unwrap();
    symlink(fixture.path("signature"), &file).unwrap();
    assert!(is_refused(&signing::read(&directory).unwrap_err()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_whose_name_means_something_else_elsewhere_is_not_signed() {
    let fixture = Fixture::new();
    let directory = fixture.plugin("source", "redact", "0.1.0", "");
    for name in ["a\nb", "a\\b", "c:d", "a.", "a "] {
        fs::write(directory.join(name), "").unwrap();
        let error = signing::sign(&directory, &key(1), Time::now(), None).unwrap_err();
        assert!(matches!(error, SigningError::Path { .. }), "{error}");
        fs::remove_file(directory.join(name)).unwrap();
    }
}

/// A plugin with native code for this platform; a component too, unless it is `native_only`.
fn native(fixture: &Fixture, at: &str, native_only: bool) -> PathBuf {
    let component = if native_only {
        ""
    } else {
        "component = \"code.wasm\"\n"
    };
    let payload = format!(
        "[payload]\n{component}native = {{ \"{}\" = \"code.so\" }}\n",
        Platform::current()
    );
    let directory = fixture.plugin(at, "redact", "0.1.0", &payload);
    fs::write(directory.join("code.so"), "native code").unwrap();
    directory
}

#[test]
fn native_code_that_nobody_vouches_for_runs_only_where_it_was_allowed_by_name() {
    let fixture = Fixture::new();
    native(&fixture, "data/plugins/redact/0.1.0", false);
    let installed = fixture.scan().found()[0].clone();
    let admit = |carrier| {
        let trust = TrustStore::load(&fixture.directories).unwrap();
        let admission = signing::admit(
            &trust,
            &fixture.directories,
            &installed,
            carrier,
            Time::now(),
        );
        admission.map(|admission| admission.standing)
    };
    assert_eq!(admit(Carrier::Component).unwrap(), Standing::Unsigned);
    let error = admit(Carrier::Native).unwrap_err();
    let refusal = matches!(
        error,
        SigningError::Refused(Refusal::NativeNotTrusted { .. })
    );
    assert!(refusal, "{error}");

    let allow = |root: &str| {
        let allowed = Allowed::at(id("redact"), &fixture.path(root)).unwrap();
        TrustStore::change(&fixture.directories, |trust| trust.allow(allowed)).unwrap();
    };
    allow("project/.vox/plugins");
    admit(Carrier::Native).unwrap_err();
    allow("data/plugins");
    assert_eq!(admit(Carrier::Native).unwrap(), Standing::AllowedByName);
}

#[test]
fn what_is_allowed_elsewhere_is_not_inherited_by_a_project() {
    let fixture = Fixture::new();
    native(&fixture, "project/.vox/plugins/redact/0.1.0", false);
    let allowed = Allowed::at(id("redact"), &fixture.path("data/plugins")).unwrap();
    TrustStore::change(&fixture.directories, |trust| trust.allow(allowed)).unwrap();
    // A project's own file says nothing.
    let own = fixture.path("project/.vox/trust.toml");
    fs::copy(fixture.path("data/trust.toml"), own).unwrap();
    let trust = TrustStore::load(&fixture.directories).unwrap();
    let installed = fixture.scan().found()[0].clone();
    let native = Carrier::Native;
    signing::admit(
        &trust,
        &fixture.directories,
        &installed,
        native,
        Time::now(),
    )
    .unwrap_err();
}

#[test]
fn a_change_after_installation_is_found_when_the_plugin_is_to_be_loaded() {
    let fixture = Fixture::new();
    trust(&fixture, 1, None);
    install(&fixture, &source(&fixture, "0.1.0", 1)).unwrap();
    let installed = fixture.scan().found()[0].clone();
    let trust = TrustStore::load(&fixture.directories).unwrap();
    let admit = || {
        let component = Carrier::Component;
        signing::admit(
            &trust,
            &fixture.directories,
            &installed,
            component,
            Time::now(),
        )
    };
    assert!(admit().unwrap().standing.is_trusted());
    fs::write(installed.directory.join("text/words.txt"), "other").unwrap();
    differences(admit().unwrap_err());
}

#[test]
fn native_code_alone_is_installed_only_when_it_is_allowed_and_the_allowance_is_kept() {
    let fixture = Fixture::new();
    let source = native(&fixture, "source", true);
    let error = install(&fixture, &source).unwrap_err();
    assert!(
        matches!(error, InstallError::NativeNotTrusted { .. }),
        "{error}"
    );
    assert!(fixture.scan().found().is_empty());

    let installer = Installer::new(&fixture.directories);
    let receipt = installer.install(&source, |proposal| {
        assert!(proposal.native_refused);
        Decision::InstallAndAllow(Vec::new())
    });
    assert_eq!(receipt.unwrap().standing, Standing::AllowedByName);
    let receipt = Installer::new(&fixture.directories).install(&source, |proposal| {
        assert!(!proposal.native_refused);
        agree(proposal)
    });
    assert_eq!(receipt.unwrap().standing, Standing::AllowedByName);
}

#[cfg(unix)]
#[test]
fn what_the_user_trusts_is_for_the_user_alone_to_change() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    trust(&fixture, 1, None);
    let file = fixture.path("data/trust.toml");
    let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
    // What a change that was interrupted left, with a mode of its own.
    let left = fixture.path("data/.trust.toml.new");
    fs::write(&left, "").unwrap();
    fs::set_permissions(&left, PermissionsExt::from_mode(0o666)).unwrap();
    trust(&fixture, 2, None);
    assert_eq!(mode(), 0o600);
}

#[test]
fn trust_that_cannot_be_read_is_never_overwritten() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path("data")).unwrap();
    fs::write(fixture.path("data/trust.toml"), "[[kee]]").unwrap();
    TrustStore::change(&fixture.directories, |store| store.unpin(&id("redact"))).unwrap_err();
    let text = fs::read_to_string(fixture.path("data/trust.toml")).unwrap();
    assert_eq!(text, "[[kee]]");
    let error = install(&fixture, &source(&fixture, "0.1.0", 1)).unwrap_err();
    assert!(error.to_string().contains("trust.toml:1:3"), "{error}");
}

#[test]
fn a_distribution_trusts_what_is_in_it_and_takes_nothing_that_was_changed() {
    const CATALOG: &str = "[[plugin]]\nid = \"redact\"\ndescription = \"x\"\nsource = \"x\"\n\
        payloads = [\"native\"]\nextension-points = [\"stage\"]\n\
        [[distribution]]\nname = \"one\"\ndescription = \"x\"\nplugins = [\"redact\"]\n";
    let fixture = Fixture::new();
    fs::write(fixture.path("catalog.toml"), CATALOG).unwrap();
    fs::write(fixture.path("host"), "").unwrap();
    let built = native(&fixture, "built", true);
    let parts = Parts {
        catalog: &fixture.path("catalog.toml"),
        name: "one",
        host: &fixture.path("host"),
        plugin: &|_| Some(built.clone()),
        extra: &[],
    };
    distribution::build(&parts, &fixture.path("bundle")).unwrap();
    let installed = fixture.scan().found()[0].clone();
    let admission = signing::admit(
        &TrustStore::default(),
        &fixture.directories,
        &installed,
        Carrier::Native,
        Time::now(),
    );
    assert_eq!(admission.unwrap().standing, Standing::Bundled);

    sign(&built, 1);
    fs::write(built.join("code.so"), "other code").unwrap();
    let error = distribution::build(&parts, &fixture.path("other")).unwrap_err();
    assert!(
        error.to_string().contains("`code.so` was changed"),
        "{error}"
    );
}
