//! Servers that fail, and hosts that are killed.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

/// Tells the test `host` that it is one, and where the model is.
const HOST: &str = "VOX_STAND_IN_HOST";

fn unavailable<T: std::fmt::Debug>(answer: Result<T>) -> String {
    match answer {
        Err(Error::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_that_cannot_start_is_told_with_what_it_said() {
    let stage = Stage::new("broken");
    let why = unavailable(stage.plugin(&[]).load(stage.model(), any()));
    assert!(why.contains("ended with code 1"), "{why}");
    assert!(why.contains("the tensor `output` is missing"), "{why}");
}

#[test]
fn a_port_that_was_taken_meanwhile_is_changed_for_another() {
    let stage = Stage::new("late");
    let mut plugin = stage.plugin(&[]);
    plugin.load(stage.model(), any()).unwrap();
    assert_eq!(plugin.ready(), Ok(()));
}

#[test]
fn a_server_that_is_never_ready_is_given_up() {
    let stage = Stage::new("loading");
    let mut plugin = stage.plugin(&[("start-timeout", json!(1))]);
    let why = unavailable(plugin.load(stage.model(), any()));
    assert!(why.contains("`start-timeout`"), "{why}");
    assert!(matches!(plugin.ready(), Err(Error::Unavailable(_))));
}

#[test]
fn a_server_that_dies_at_a_request_is_told_with_what_it_said() {
    let stage = Stage::new("dying");
    let mut plugin = stage.plugin(&[]);
    plugin.load(stage.model(), any()).unwrap();
    let why = unavailable(plugin.answer(&hello(), &mut |_| true));
    assert!(
        why.contains("ended with code 7") && why.contains("ggml: out of memory"),
        "{why}"
    );
    assert!(unavailable(plugin.ready()).contains("is gone"));
    assert!(matches!(plugin.health(), Condition::Failing(why) if why.contains("code 7")));
}

#[test]
fn a_server_that_dies_in_an_answer_says_how_far_that_came_and_another_can_be_loaded() {
    let stage = Stage::new("slow");
    let mut plugin = stage.plugin(&[]);
    plugin.load(stage.model(), any()).unwrap();
    let (first, _) = told(&plugin);
    let why = unavailable(plugin.answer(&hello(), &mut |_| {
        plugin.server().unwrap().process.kill();
        true
    }));
    assert!(
        why.contains("it was killed") && why.contains("after 1 token"),
        "{why}"
    );
    plugin.unload().unwrap();
    plugin.load(stage.model(), any()).unwrap();
    assert_ne!(told(&plugin).0, first);
}

#[test]
fn a_server_is_not_left_behind_by_an_instance_that_is_dropped() {
    let stage = Stage::new("well");
    let mut plugin = stage.plugin(&[]);
    plugin.load(stage.model(), any()).unwrap();
    let watched = stand_in::Watched::new(told(&plugin).0);
    drop(plugin);
    assert!(watched.is_gone());
}

#[test]
fn a_server_is_not_left_behind_by_a_host_that_is_killed() {
    let stage = Stage::new("well");
    let mut host = Command::new(env::current_exe().unwrap())
        .args(["--exact", "tests::distress::host", "--nocapture"])
        .env(HOST, stage.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(host.stdout.take().unwrap()).lines();
    let mut lines = lines.map(|line| line.unwrap());
    let told = lines.find_map(|line| Some(line.split_once("server ")?.1.trim().to_owned()));
    let watched = stand_in::Watched::new(told.unwrap().parse().unwrap());
    host.kill().unwrap();
    host.wait().unwrap();
    assert!(watched.is_gone());
}

/// No test but a host, where it is told that it is one.
#[test]
fn host() {
    let Some(directory) = env::var_os(HOST) else {
        return;
    };
    let stage = Stage::new("well");
    let mut plugin = stage.plugin(&[]);
    let model = Model {
        name: "m".to_owned(),
        directory: Some(directory.to_string_lossy().into_owned()),
        adapter: None,
    };
    plugin.load(model, any()).unwrap();
    println!("server {}", told(&plugin).0);
    // Until it is killed.
    let _ = std::io::stdin().read_line(&mut String::new());
}
