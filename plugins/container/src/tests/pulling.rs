//! Images that the engine lacks, and a registry has.

use super::*;
use crate::testing::{MADE, registry};

/// A step that shows what was made in the image.
fn show(image: &str, pull: &str) -> Invocation {
    step(json!({ "image": image, "pull": pull, "command": ["cat", "/made"] }))
}

#[test]
fn an_image_is_pulled_where_the_engine_lacks_it_each_time_or_never_as_the_step_says() {
    let Some((registry, podman)) = registry() else {
        return;
    };
    let image = registry.reference("made");
    for (pull, is_asked) in [
        ("missing", true),
        ("missing", false),
        ("always", true),
        ("never", false),
    ] {
        let before = registry.asked("made");
        let (outcome, streams) = run(podman, show(&image, pull), Memory::default());
        let outcome = outcome.unwrap();
        assert_eq!(outcome.code, 0, "{pull}: {}", outcome.summary);
        assert_eq!(value(&outcome.attributes, "image"), image);
        assert_eq!(streams.text("stdout"), MADE, "{pull}");
        assert_eq!(registry.asked("made") > before, is_asked, "{pull}");
    }
}

#[test]
fn an_image_that_the_registry_lacks_is_told_with_what_the_registry_says() {
    let Some((registry, podman)) = registry() else {
        return;
    };
    let image = registry.reference("none");
    let (outcome, _) = run(podman, show(&image, "missing"), Memory::default());
    let Err(Error::Unavailable(told)) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(
        told.contains(&image) && told.contains("manifest unknown"),
        "{told}"
    );
    assert!(registry.asked("none") > 0);
}
