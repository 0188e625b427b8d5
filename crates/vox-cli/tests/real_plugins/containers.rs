//! What a container that `vox run` starts finds, with the Podman of the plugin's own tests.

#[path = "../../../../plugins/container/src/testing/podman.rs"]
#[expect(dead_code, reason = "the tests of the plugin call more of it")]
mod podman;

use crate::Place;
use podman::podman;

#[test]
fn a_container_has_the_path_of_its_image_and_the_variables_that_are_declared() {
    let Some(podman) = podman() else { return };
    let image = "localhost/with-a-path:latest";
    let archive = podman.archive();
    let archive = crate::path(&archive);
    let path = "ENV PATH=/of/the/image:/bin";
    podman
        .call(&["import", "--change", path, archive, image])
        .unwrap();
    let place = Place::with(&["container"]);
    let script = "echo $PATH; echo $HOME; echo $GREETING $STAGE";
    let socket = podman.socket();
    let socket = crate::path(&socket);
    let pipeline = format!(
        r#"
        [pipeline]
        name = "test"
        [[step]]
        key = "look"
        uses = "container"
        with = {{ image = "{image}", shell = "{script}" }}
        env = {{ DOCKER_HOST = "unix://{socket}", GREETING = "hello" }}
        "#
    );
    place.write("pipeline.toml", &pipeline);
    let shown = place.run(["run", "--env", "STAGE=live"]).succeeded().stdout;
    let said: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("look | "))
        .collect();
    assert_eq!(said, ["/of/the/image:/bin", "/", "hello live"], "{shown}");
}
