//! Plugins: installing them, looking at them, their verbs and their functions.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{Place, path};

/// A copy of the plugin `hello` by another id, with another verb.
fn another_hello(place: &Place, id: &str, verb: &str) -> PathBuf {
    let hello = vox_testkit::plugin("hello");
    let directory = place.path().join(id);
    std::fs::create_dir(&directory).unwrap();
    for file in std::fs::read_dir(hello).unwrap().flatten() {
        std::fs::copy(file.path(), directory.join(file.file_name())).unwrap();
    }
    let file = directory.join("Plugin.toml");
    let manifest = std::fs::read_to_string(&file).unwrap();
    let manifest = manifest
        .replace("id = \"hello\"", &format!("id = \"{id}\""))
        .replace("verb = \"hello\"", &format!("verb = \"{verb}\""));
    std::fs::write(file, manifest).unwrap();
    directory
}

#[track_caller]
fn has_keys(value: &Value, keys: &[&str]) {
    let own: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(own, keys);
}

#[test]
fn a_plugin_that_is_installed_with_its_grants_serves_its_verb() {
    let place = Place::new();
    let hello = vox_testkit::plugin("hello");
    place
        .run(["plugin", "install", path(&hello), "--grant", "stream_io"])
        .succeeded();
    let ended = place.run(["hello", "Ada", "--loud"]).succeeded();
    assert_eq!(ended.stdout, "HELLO, ADA!\n");
    assert_eq!(ended.stderr, "");
}

#[test]
fn the_arguments_of_a_verb_are_helped_with_and_checked() {
    let place = Place::with(&["hello"]);
    for help in [["hello", "--help"], ["help", "hello"]] {
        let help = place.run(help).succeeded().stdout;
        assert!(help.contains("Usage: vox hello [OPTIONS] [NAME]"), "{help}");
        assert!(
            help.contains("--repeat <TIMES>") && help.contains("[default: 1]"),
            "{help}"
        );
    }
    place
        .run(["hello", "--lod"])
        .failed(2, &["'--lod'", "'--loud'"]);
    // What only the plugin can tell is wrong usage all the same.
    place
        .run(["hello", "--repeat", "often"])
        .failed(2, &["often"]);
    place
        .run(["helo"])
        .failed(3, &["did you mean `vox hello`?"]);
}

#[test]
fn a_verb_ends_with_the_code_that_its_plugin_chooses() {
    let place = Place::with(&["conformance"]);
    let ended = place.run(["conformance", "a", "b", "--code", "7"]);
    assert_eq!(ended.stdout, "a b\n");
    ended.failed(7, &[]);
    let conflict = ["conformance", "a", "--order", "turned", "--code", "7"];
    place.run(conflict).failed(2, &["--order", "--code"]);
    place
        .run(["conformance", "a", "--order", "round"])
        .failed(2, &["plain, turned"]);
}

#[test]
fn help_and_completions_know_the_verbs_of_plugins() {
    let place = Place::with(&["hello"]);
    let help = place.run(["--help"]).succeeded().stdout;
    assert!(help.contains("\n  hello        Greets someone\n"), "{help}");
    for (shell, flag) in [("bash", "--loud"), ("zsh", "--loud"), ("fish", "-l loud")] {
        let script = place.run(["completions", shell]).succeeded().stdout;
        assert!(script.contains(flag), "{shell}");
    }
}

#[test]
fn what_nobody_can_agree_to_is_not_installed() {
    let place = Place::new();
    let hello = vox_testkit::plugin("hello");
    place
        .run(["plugin", "install", path(&hello)])
        .failed(4, &["stream_io", "--grant all"]);
    assert!(!place.data().join("plugins/hello").exists());
    assert!(!place.data().join("grants.toml").exists());
    assert_eq!(place.json(&["plugin", "list"]), json!([]));
}

#[test]
fn what_programs_are_told_of_plugins_has_stable_keys() {
    let place = Place::with(&["hello"]);
    let list = place.json(&["plugin", "list"]);
    assert_eq!(list.as_array().unwrap().len(), 1);
    has_keys(
        &list[0],
        &[
            "description",
            "directory",
            "id",
            "name",
            "payloads",
            "provides",
            "root",
            "serves",
            "version",
        ],
    );
    let info = place.json(&["plugin", "info", "hello"]);
    has_keys(
        &info,
        &[
            "carrier",
            "directory",
            "granted",
            "limits",
            "manifest",
            "missing",
            "payloads",
            "root",
            "serves",
            "standing",
            "trusted_code",
            "versions",
            "vouched",
            "why",
        ],
    );
    let diagnosis = place.json(&["plugin", "doctor"]);
    has_keys(&diagnosis, &["findings", "payloads_loaded", "plugins"]);
    assert_eq!(
        diagnosis,
        json!({ "plugins": 1, "payloads_loaded": 2, "findings": [] })
    );
}

#[test]
fn a_function_can_be_called_with_either_payload() {
    let place = Place::with(&["hello"]);
    for carrier in ["component", "native"] {
        let call = [
            "plugin",
            "call",
            "hello",
            "command.run",
            "\"hello\"",
            "[\"x\"]",
            "--carrier",
            carrier,
        ];
        let answer = place.json(&call);
        has_keys(&answer, &["events", "pushed", "result"]);
        assert_eq!(answer["result"], 0);
        assert_eq!(answer["pushed"][0]["port"], "stdout");
        assert_eq!(answer["pushed"][0]["text"], "Hello, x!\n");
    }
}

#[test]
fn what_is_not_granted_is_refused_with_the_command_that_grants_it() {
    let place = Place::new();
    let hello = vox_testkit::plugin("hello");
    place
        .run(["plugin", "install", path(&hello), "--grant", "none"])
        .succeeded();
    let remedy = "vox plugin grant hello stream_io";
    let call = [
        "plugin",
        "call",
        "hello",
        "command.run",
        "\"hello\"",
        "[\"x\"]",
    ];
    place.run(call).failed(4, &[remedy]);
    let ended = place.run(["hello", "--format", "json"]);
    // Behind the verb, all words are the verb's own.
    ended.failed(2, &["--format"]);
    let ended = place
        .run(["--format", "json", "hello"])
        .failed(4, &[remedy]);
    let error: Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!(error["error"]["code"], 4);

    place.run(remedy.split(' ').skip(1)).succeeded();
    place.run(["hello"]).succeeded();
}

#[test]
fn of_two_plugins_with_one_verb_neither_serves_it_and_both_are_named() {
    let place = Place::with(&["hello"]);
    let howdy = another_hello(&place, "howdy", "hello");
    place
        .run(["plugin", "install", path(&howdy), "--yes"])
        .succeeded();
    let ended = place.run(["hello"]);
    assert_ne!(ended.stdout, "Hello, world!\n");
    ended.failed(3, &["`hello`", "howdy"]);
    let help = place.run(["--help"]).succeeded().stdout;
    assert!(!help.contains("Greets someone"), "{help}");
}

#[test]
fn no_plugin_takes_a_verb_of_vox_itself() {
    let place = Place::new();
    let greedy = another_hello(&place, "greedy", "plugin");
    place
        .run(["plugin", "install", path(&greedy), "--yes"])
        .succeeded();
    place.run(["plugin", "list"]).succeeded();
    let ended = place.run(["plugin", "doctor"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stdout.contains("greedy") && ended.stdout.contains("`plugin`"),
        "{}",
        ended.stdout
    );
}
