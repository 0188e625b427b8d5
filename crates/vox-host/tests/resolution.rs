//! Which versions are chosen, and what is said when none can be.

mod fixture;

use fixture::{Fixture, id, ids, settings};
use vox_contract::Settings;
use vox_host::inventory::Finding;
use vox_host::resolution::{ResolutionError, Selection, resolve, select_all};

fn chosen(selection: &Selection) -> Vec<String> {
    selection
        .iter()
        .map(|plugin| format!("{} {}", plugin.id(), plugin.version()))
        .collect()
}

fn resolved(fixture: &Fixture, settings: &Settings, wanted: &[&str]) -> Vec<String> {
    chosen(&resolve(&fixture.scan(), settings, &ids(wanted)).unwrap())
}

fn refused(fixture: &Fixture, settings: &Settings, wanted: &[&str]) -> ResolutionError {
    resolve(&fixture.scan(), settings, &ids(wanted)).unwrap_err()
}

#[test]
fn the_highest_version_that_settings_allow_is_chosen() {
    let fixture = Fixture::new();
    for version in ["0.1.0", "0.2.0", "0.10.0", "1.0.0-rc.1"] {
        fixture.installed("redact", version, "");
    }
    let any = Settings::default();
    assert_eq!(resolved(&fixture, &any, &["redact"]), ["redact 1.0.0-rc.1"]);
    let pinned = settings("[plugin.redact]\nversion = \"<0.10\"");
    assert_eq!(resolved(&fixture, &pinned, &["redact"]), ["redact 0.2.0"]);
}

#[test]
fn dependencies_come_along_and_are_loaded_first() {
    let fixture = Fixture::new();
    fixture.installed("a", "1.0.0", "dependencies = { b = \"^1\", c = \"*\" }");
    fixture.installed("b", "1.5.0", "dependencies = { d = \"*\" }");
    fixture.installed("b", "2.0.0", "");
    fixture.installed("c", "1.0.0", "dependencies = { b = \"<1.9\" }");
    fixture.installed("d", "1.0.0", "");
    fixture.installed("unrelated", "1.0.0", "");
    let inventory = fixture.scan();
    let selection = resolve(&inventory, &Settings::default(), &[id("a")]).unwrap();
    assert_eq!(
        chosen(&selection),
        ["a 1.0.0", "b 1.5.0", "c 1.0.0", "d 1.0.0"]
    );
    let order: Vec<&str> = selection
        .load_order()
        .iter()
        .map(|plugin| plugin.id().as_str())
        .collect();
    assert_eq!(order, ["d", "b", "c", "a"]);
}

#[test]
fn an_older_version_is_chosen_when_the_newest_cannot_be_satisfied() {
    let fixture = Fixture::new();
    fixture.installed("a", "1.0.0", "");
    fixture.installed("a", "2.0.0", "dependencies = { gone = \"*\" }");
    assert_eq!(
        resolved(&fixture, &Settings::default(), &["a"]),
        ["a 1.0.0"]
    );
}

#[test]
fn a_conflict_is_avoided_by_another_version_and_does_not_bring_the_other_plugin_in() {
    let fixture = Fixture::new();
    fixture.installed("a", "1.0.0", "conflicts = { b = \">=2\" }");
    fixture.installed("b", "1.0.0", "");
    fixture.installed("b", "2.0.0", "");
    let any = Settings::default();
    assert_eq!(
        resolved(&fixture, &any, &["a", "b"]),
        ["a 1.0.0", "b 1.0.0"]
    );
    assert_eq!(resolved(&fixture, &any, &["a"]), ["a 1.0.0"]);
}

#[test]
fn an_explained_conflict_names_both_plugins_and_what_to_remove() {
    let fixture = Fixture::new();
    fixture.installed("a", "1.0.0", "conflicts = { b = \"^1\" }");
    fixture.installed("b", "1.2.0", "");
    let error = refused(&fixture, &Settings::default(), &["a", "b"]);
    assert_eq!(
        error.to_string(),
        "there are no versions of `a` and `b` that can be used:\n  \
         Because a 1.0.0 conflicts with b >=1.0.0, <2.0.0 and a is asked for, b 1.2.0 cannot be \
         used.\n  \
         And because b is asked for, what is asked for cannot be had."
    );
    assert_eq!(
        error.hint(),
        "`vox plugin remove a` or `vox plugin remove b` leaves one of the two"
    );
}

#[test]
fn a_dependency_that_is_not_installed_is_named_with_the_command_that_installs_it() {
    let fixture = Fixture::new();
    fixture.installed("a", "1.0.0", "dependencies = { gone = \"^2\" }");
    let error = refused(&fixture, &Settings::default(), &["a"]);
    assert_eq!(
        error.to_string(),
        "there are no versions of `a` that can be used:\n  \
         Because no plugin gone is installed and a 1.0.0 needs gone >=2.0.0, <3.0.0, a 1.0.0 \
         cannot be used.\n  \
         And because a is asked for, what is asked for cannot be had."
    );
    assert_eq!(error.hint(), "`vox plugin install gone` installs it");
}

#[test]
fn versions_that_contradict_each_other_are_explained_by_who_needs_them() {
    let fixture = Fixture::new();
    fixture.installed("a", "1.0.0", "dependencies = { b = \"^1\", c = \"^1\" }");
    fixture.installed("b", "1.0.0", "dependencies = { c = \"^2\" }");
    fixture.installed("c", "1.0.0", "");
    fixture.installed("c", "2.0.0", "");
    let text = refused(&fixture, &Settings::default(), &["a"]).to_string();
    assert!(text.contains("b 1.0.0 needs c >=2.0.0, <3.0.0"), "{text}");
    assert!(text.contains("a 1.0.0 needs c >=1.0.0, <2.0.0"), "{text}");
    assert!(
        !text.contains("no installed version"),
        "gaps are left out: {text}"
    );
}

#[test]
fn settings_that_allow_nothing_installed_are_named() {
    let fixture = Fixture::new();
    fixture.installed("a", "1.0.0", "dependencies = { b = \"*\" }");
    fixture.installed("b", "1.0.0", "");
    let error = refused(&fixture, &settings("[plugin.b]\nversion = \"^7\""), &["a"]);
    let text = error.to_string();
    assert!(
        text.contains("Vox.toml allows only b >=7.0.0, <8.0.0"),
        "{text}"
    );
    assert!(
        error.hint().contains("`[plugin.b]` of Vox.toml"),
        "{}",
        error.hint()
    );
}

#[test]
fn a_version_that_was_passed_over_is_explained_by_its_reason() {
    let fixture = Fixture::new();
    fixture.installed("a", "1.0.0", "dependencies = { b = \"^2\" }");
    fixture.installed("b", "1.0.0", "");
    fixture.installed("b", "2.0.0", "host = \">=99\"");
    let error = refused(&fixture, &Settings::default(), &["a"]);
    let text = error.to_string();
    assert!(
        text.contains("b 2.0.0 cannot be used (it works with host >=99"),
        "{text}"
    );
    assert!(error.hint().contains("vox plugin doctor"));
}

#[test]
fn a_dependency_cycle_is_shown_from_end_to_end() {
    let fixture = Fixture::new();
    fixture.installed("a", "1.0.0", "dependencies = { b = \"*\" }");
    fixture.installed("b", "1.0.0", "dependencies = { c = \"*\" }");
    fixture.installed("c", "1.0.0", "dependencies = { b = \"*\" }");
    let error = refused(&fixture, &Settings::default(), &["a"]);
    assert_eq!(
        error.to_string(),
        "plugins depend on each other in a circle: b 1.0.0 -> c 1.0.0 -> b 1.0.0"
    );
}

#[test]
fn an_unknown_plugin_is_answered_with_the_nearest_one() {
    let fixture = Fixture::new();
    fixture.installed("redact", "1.0.0", "");
    let error = refused(&fixture, &Settings::default(), &["redcat"]);
    assert_eq!(
        error.to_string(),
        "no plugin `redcat` is installed; there is `redact`"
    );
    assert_eq!(
        error.hint(),
        "write `redact`, or install it: `vox plugin install redcat`"
    );
}

#[test]
fn a_plugin_that_cannot_be_used_does_not_stop_the_others() {
    let fixture = Fixture::new();
    fixture.installed("a", "1.0.0", "dependencies = { b = \"*\" }");
    fixture.installed("b", "1.0.0", "dependencies = { a = \"*\" }");
    fixture.installed("broken", "1.0.0", "dependencies = { gone = \"*\" }");
    fixture.installed("fine", "1.0.0", "");
    fixture.installed("needs-fine", "1.0.0", "dependencies = { fine = \"*\" }");
    let (selection, findings) = select_all(&fixture.scan(), &Settings::default());
    assert_eq!(chosen(&selection), ["fine 1.0.0", "needs-fine 1.0.0"]);
    let unresolved: Vec<&str> = findings
        .iter()
        .filter(|finding| matches!(finding, Finding::Unresolved { .. }))
        .filter_map(|finding| finding.plugin().map(|id| id.as_str()))
        .collect();
    assert_eq!(unresolved, ["a", "b", "broken"]);
}

#[test]
fn installed_plugins_that_conflict_are_found() {
    let fixture = Fixture::new();
    fixture.installed("a", "1.0.0", "conflicts = { b = \"*\" }");
    fixture.installed("b", "1.0.0", "");
    let (selection, findings) = select_all(&fixture.scan(), &Settings::default());
    assert_eq!(selection.len(), 2);
    let [finding] = findings.try_into().unwrap();
    assert_eq!(
        finding.to_string(),
        "a 1.0.0 conflicts with b *, and b 1.0.0 is installed"
    );
}
