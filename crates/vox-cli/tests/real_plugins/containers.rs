//! Containers that `vox run` starts, with the Podman of the plugin's own tests: what they find, what goes from one to
//! the next, and that none outlives its run.

#[path = "../../../../plugins/container/src/testing/podman.rs"]
#[expect(dead_code, reason = "the plugin's own tests have a registry too")]
mod podman;

use std::fs;

use crate::runs::{Underway, send};
use crate::{Place, path};
use podman::{IMAGE, Podman, kill_guard, podman};

/// A user whose containers are this Podman's.
fn user(podman: &Podman) -> Place {
    let place = Place::with(&["container"]);
    let socket = podman.socket();
    let config = format!(
        "[plugin.container.config]\nsocket = \"{}\"\n",
        path(&socket)
    );
    place.write("Vox.toml", &config);
    place
}

/// Writes a pipeline of these steps.
fn pipeline(place: &Place, steps: &str) {
    let text = format!("[pipeline]\nname = \"test\"\n{steps}");
    place.write("pipeline.toml", &text);
}

/// A run whose container has told the run's id, and then goes on with this script.
fn underway(place: &Place, script: &str, more: &str) -> Underway {
    let step = format!(
        r#"
        [[step]]
        key = "wait"
        uses = "container"
        with = {{ image = "{IMAGE}", shell = "echo $VOX_RUN; {script}" }}
        {more}
        "#
    );
    pipeline(place, &step);
    let mut command = place.vox();
    command.arg("run");
    Underway::start(command)
}

#[test]
fn a_container_has_the_path_of_its_image_and_the_variables_that_are_declared() {
    let Some(podman) = podman() else { return };
    let _turn = podman.shared();
    let image = "localhost/with-a-path:latest";
    let archive = podman.archive();
    let change = "ENV PATH=/of/the/image:/bin";
    podman
        .call(&["import", "--change", change, path(&archive), image])
        .unwrap();
    let place = Place::with(&["container"]);
    let script = "echo $PATH; echo $HOME; echo $GREETING $STAGE";
    let socket = podman.socket();
    let socket = path(&socket);
    let step = format!(
        r#"
        [[step]]
        key = "look"
        uses = "container"
        with = {{ image = "{image}", shell = "{script}" }}
        env = {{ DOCKER_HOST = "unix://{socket}", GREETING = "hello" }}
        "#
    );
    pipeline(&place, &step);
    let shown = place.run(["run", "--env", "STAGE=live"]).succeeded().stdout;
    let said: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("look | "))
        .collect();
    assert_eq!(said, ["/of/the/image:/bin", "/", "hello live"], "{shown}");
}

#[test]
fn files_snapshots_and_streams_go_from_container_to_container() {
    let Some(podman) = podman() else { return };
    let _turn = podman.shared();
    let place = user(podman);
    place.write("names", "b\na\n");
    let steps = format!(
        r#"
        [[step]]
        key = "sort"
        uses = "container"
        with = {{ image = "{IMAGE}", shell = "sort $VOX_INPUT_NAMES > $VOX_OUTPUT_SORTED; echo kept > /kept", commit = "deps" }}
        inputs = {{ names = {{ path = "names" }} }}
        outputs = {{ sorted = {{ path = "out/sorted" }} }}
        [[step]]
        key = "count"
        uses = "container"
        with = {{ builds_in = "deps", shell = "cat /kept; wc -l < $VOX_INPUT_SORTED" }}
        inputs = {{ sorted = {{ from = "sort.sorted" }} }}
        [[step]]
        key = "shout"
        uses = "container"
        with = {{ image = "{IMAGE}", command = ["tr", "a-z", "A-Z"] }}
        inputs = {{ stdin = {{ from = "count.stdout" }} }}
        "#
    );
    pipeline(&place, &steps);
    let shown = place.run(["run"]).succeeded().stdout;
    let said: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("shout | "))
        .collect();
    assert_eq!(said, ["KEPT", "2"], "{shown}");
    let sorted = fs::read_to_string(place.path().join("out/sorted")).unwrap();
    assert_eq!(sorted, "a\nb\n");

    let listed = place.json(&["runs", "ls"]);
    let run = listed[0]["id"].as_str().unwrap();
    assert!(podman.containers(run).is_empty());
    let snapshot = format!("localhost/vox/{run}/deps:latest");
    podman.call(&["image", "exists", &snapshot]).unwrap();
}

#[test]
fn ctrl_c_ends_the_container_with_its_run() {
    let Some(podman) = podman() else { return };
    let _turn = podman.shared();
    let place = user(podman);
    let run = underway(&place, "sleep 1000", "");
    let id = run.step.clone();
    assert_eq!(podman.containers(&id).len(), 1);
    run.interrupt();
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(podman.containers(&id).is_empty());
}

#[test]
fn a_container_does_not_outlive_a_run_that_is_killed_which_then_goes_on() {
    let Some(podman) = podman() else { return };
    let _turn = podman.shared();
    let place = user(podman);
    let script = "if [ $VOX_ATTEMPT = 1 ]; then sleep 1000; fi; echo made > $VOX_OUTPUT_FILE";
    let outputs = r#"outputs = { file = { path = "out/file" } }"#;
    let run = underway(&place, script, outputs);
    let id = run.step.clone();
    assert_eq!(podman.containers(&id).len(), 1);
    assert!(send("KILL", &run.pid()));
    run.end();
    podman.wait_until_gone(&id);

    place.run(["run", "--resume"]).succeeded();
    let out = place.path().join("out");
    assert_eq!(fs::read_to_string(out.join("file")).unwrap(), "made\n");
    assert!(podman.containers(&id).is_empty());
    // Nor is there anything of the first try beside it.
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
}

#[test]
fn what_a_killed_run_and_its_killed_guard_leave_is_removed_by_the_next_run_with_a_container() {
    let Some(podman) = podman() else { return };
    let _turn = podman.alone();
    let place = user(podman);
    let run = underway(&place, "sleep 1000", "");
    let id = run.step.clone();
    let name = podman.containers(&id).remove(0);
    kill_guard(&name);
    assert!(send("KILL", &run.pid()));
    run.end();
    assert_eq!(podman.containers(&id), [name]);

    let other = user(podman);
    let step = format!(
        r#"
        [[step]]
        key = "look"
        uses = "container"
        with = {{ image = "{IMAGE}", command = ["true"] }}
        "#
    );
    pipeline(&other, &step);
    other.run(["run"]).succeeded();
    assert!(podman.containers(&id).is_empty());
}
