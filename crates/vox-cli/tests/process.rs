//! What transcripts cannot show: pipes that close, colours, and a `vox` that runs elsewhere.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A `vox` over directories of its own, on no terminal.
fn vox(place: &TempDir) -> Command {
    vox_at(Path::new(env!("CARGO_BIN_EXE_vox")), place)
}

fn vox_at(executable: &Path, place: &TempDir) -> Command {
    let mut command = Command::new(executable);
    command
        .current_dir(place)
        .env("VOX_DATA", place.path().join("data"))
        .env("VOX_CACHE", place.path().join("cache"))
        .stdin(Stdio::null());
    for name in [
        "VOX_PLUGIN_PATH",
        "VOX_LOG",
        "VOX_SDK",
        "XDG_RUNTIME_DIR",
        "NO_COLOR",
        "CLICOLOR",
        "CLICOLOR_FORCE",
    ] {
        command.env_remove(name);
    }
    command
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn place() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_reader_that_goes_away_ends_the_command_without_a_word() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = vox(&place())
        .args(["plugin", "schema"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn colours_come_when_they_are_asked_for_and_not_by_themselves() {
    let place = place();
    let has_escapes = |arguments: &[&str], no_color: bool| {
        let mut command = vox(&place);
        if no_color {
            command.env("NO_COLOR", "1");
        }
        let output = command
            .args(["dist", "list"])
            .args(arguments)
            .output()
            .unwrap();
        output.stdout.contains(&b'\x1b')
    };
    assert!(!has_escapes(&[], false));
    assert!(!has_escapes(&["--color", "auto"], true));
    assert!(!has_escapes(&["--color", "never"], false));
    assert!(has_escapes(&["--color", "always"], false));
    // What is asked for on the spot counts more than what the environment says in general.
    assert!(has_escapes(&["--color", "always"], true));
}

#[test]
fn with_json_standard_output_carries_json_and_nothing_else() {
    let place = place();
    for arguments in [
        &["plugin", "list"][..],
        &["plugin", "doctor"],
        &["plugin", "search"],
        &["plugin", "search", "--skills"],
        &["plugin", "new", "shout"],
        &["plugin", "grant", "shout", "kv"],
        &["plugin", "revoke", "shout"],
        &["plugin", "schema", "pipeline"],
        &["dist", "list"],
    ] {
        let output = succeeds(vox(&place).args(["--format", "json"]).args(arguments));
        let parsed = serde_json::from_slice::<serde_json::Value>(&output.stdout);
        assert!(
            parsed.is_ok(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}

#[test]
fn with_json_wrong_usage_is_told_to_programs_too() {
    let place = place();
    let output = vox(&place)
        .args(["--format", "json", "plugin", "lst"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(
        error["error"],
        serde_json::json!({
            "code": 2,
            "message": "unrecognized subcommand 'lst'",
            "hint": "a similar subcommand exists: 'list'",
        })
    );
}

#[test]
fn a_distribution_runs_where_it_is_and_brings_the_sdk() {
    let place = place();
    let out = place.path().join("elsewhere/base");
    succeeds(
        vox(&place)
            .args(["dist", "build", "vox-base", "--archive", "--out"])
            .arg(&out),
    );
    let archives = std::fs::read_dir(place.path().join("elsewhere"))
        .unwrap()
        .flatten();
    let archives = archives.filter(|file| file.file_name().to_string_lossy().ends_with(".tar.gz"));
    assert_eq!(archives.count(), 1);

    let moved = place.path().join("moved");
    std::fs::rename(&out, &moved).unwrap();
    let executable = moved
        .join("vox")
        .with_extension(std::env::consts::EXE_EXTENSION);
    let output = succeeds(vox_at(&executable, &place).args(["plugin", "search", "redact"]));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Masks secrets"));

    succeeds(vox_at(&executable, &place).args(["plugin", "new", "shout"]));
    let manifest = std::fs::read_to_string(place.path().join("shout/Cargo.toml")).unwrap();
    let sdk = moved.canonicalize().unwrap().join("sdk/crates/vox-plugin");
    assert!(
        manifest.contains(&format!("path = \"{}\"", sdk.display())),
        "{manifest}"
    );
    assert!(sdk.join("src/lib.rs").is_file());
    assert!(moved.join("sdk/wit/types.wit").is_file());
}

#[test]
fn a_directory_that_is_there_is_not_written_to() {
    let place = place();
    std::fs::create_dir(place.path().join("shout")).unwrap();
    let output = vox(&place)
        .args(["plugin", "new", "shout"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is there already"));
}

#[test]
fn help_is_given_even_when_the_grants_cannot_be_read() {
    let place = place();
    std::fs::create_dir(place.path().join("data")).unwrap();
    std::fs::write(place.path().join("data/grants.toml"), "not toml").unwrap();
    let output = succeeds(vox(&place).arg("--help"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Exit codes:"));
    let output = vox(&place).args(["plugin", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
}

#[test]
fn completions_are_there_for_every_shell() {
    let place = place();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = succeeds(vox(&place).args(["completions", shell]));
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("doctor"),
            "{shell}"
        );
    }
}
