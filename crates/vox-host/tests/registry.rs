//! Who serves what, and what is said when nobody or more than one does.

mod fixture;

use std::path::Path;
use std::sync::Arc;

use fixture::Fixture;
use vox_contract::{Catalog, ExtensionPoint, HookPoint, Settings};
use vox_host::inventory::Finding;
use vox_host::registry::{Registry, RegistryError};
use vox_host::resolution::select_all;

const CATALOG: &str = r#"
[[plugin]]
id = "exec"
description = "Runs a command"
source = "plugins/exec"
payloads = ["native"]
extension-points = ["step"]
runners = ["exec"]

[[plugin]]
id = "redact"
description = "Masks secrets"
source = "plugins/redact"
payloads = ["component"]
extension-points = ["stage"]
"#;

fn registry(fixture: &Fixture) -> (Registry, Vec<Finding>) {
    let inventory = fixture.scan();
    let (selection, _) = select_all(&inventory, &Settings::default());
    let catalog = Catalog::parse(CATALOG, Path::new("catalog.toml")).unwrap();
    Registry::build(
        &selection,
        &inventory,
        Arc::new(catalog),
        &["plugin", "run"],
    )
}

fn runner(name: &str) -> String {
    format!("[provides]\nextension-points = {{ step = 1 }}\nrunners = [\"{name}\"]\n")
}

fn command(verb: &str) -> String {
    format!(
        "[provides]\nextension-points = {{ command = 1 }}\n\
         commands = [{{ verb = \"{verb}\", summary = \"Does {verb}\" }}]\n"
    )
}

fn hook(priority: i32) -> String {
    format!(
        "[provides]\nextension-points = {{ hook = 1 }}\n\
         hooks = [{{ point = \"pre_step\", priority = {priority} }}]\n"
    )
}

#[test]
fn what_a_plugin_provides_is_found_under_each_of_its_names() {
    let fixture = Fixture::new();
    fixture.installed("shell", "0.1.0", &runner("sh"));
    fixture.installed("hello", "0.1.0", &command("hello"));
    let service = "[provides]\nextension-points = { service = 1 }\nservices = [\"summarise\"]\n\
                   topics = [\"sums.*\"]\n";
    fixture.installed("sums", "0.1.0", service);
    let (registry, findings) = registry(&fixture);
    assert!(findings.is_empty());
    assert_eq!(*registry.runner("sh").unwrap().id(), "shell");
    assert_eq!(*registry.verb("hello").unwrap().id(), "hello");
    assert_eq!(*registry.service("summarise").unwrap().id(), "sums");
    assert_eq!(
        registry
            .extension_point(ExtensionPoint::Step)
            .unwrap()
            .len(),
        1
    );
    assert_eq!(registry.publishers("sums.total").count(), 1);
    assert_eq!(registry.publishers("sumsy.total").count(), 0);
    let verbs: Vec<_> = registry
        .verbs()
        .map(|(verb, summary, _)| (verb.as_str(), summary))
        .collect();
    assert_eq!(verbs, [("hello", "Does hello")]);
}

#[test]
fn a_second_provider_of_a_runner_is_an_error_that_names_both() {
    let fixture = Fixture::new();
    fixture.installed("first", "0.1.0", &runner("sh"));
    fixture.installed("second", "0.1.0", &runner("sh"));
    let (registry, findings) = registry(&fixture);
    let error = registry.runner("sh").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the runner `sh` is provided by plugin `first` and plugin `second`, so none of them \
         serves it"
    );
    assert_eq!(
        error.hint(),
        "keep one of them: `vox plugin remove first` or `vox plugin remove second`"
    );
    let [finding] = findings.try_into().unwrap();
    assert_eq!(finding.to_string(), error.to_string());
}

#[test]
fn a_verb_that_vox_has_itself_is_refused_by_name() {
    let fixture = Fixture::new();
    fixture.installed("runner", "0.1.0", &command("run"));
    let (registry, findings) = registry(&fixture);
    assert_eq!(
        registry.verb("run").unwrap_err().to_string(),
        "the verb `run` is provided by Vox itself and plugin `runner`, so none of them serves it"
    );
    assert_eq!(findings.len(), 1);
    assert_eq!(registry.verbs().count(), 0);
}

#[test]
fn two_versions_of_one_plugin_do_not_contest_each_other() {
    let fixture = Fixture::new();
    fixture.installed("shell", "0.1.0", &runner("sh"));
    fixture.installed("shell", "0.2.0", &runner("sh"));
    let (registry, findings) = registry(&fixture);
    assert!(findings.is_empty());
    assert_eq!(
        registry.runner("sh").unwrap().version().to_string(),
        "0.2.0"
    );
}

#[test]
fn a_missing_provider_is_answered_with_who_provides_it_and_how_to_install_that() {
    let (registry, _) = registry(&Fixture::new());
    let error = registry.runner("exec").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no plugin provides the runner `exec` (extension point `step`); known to provide it: `exec`"
    );
    assert_eq!(error.hint(), "install it: `vox plugin install exec`");
    let error = registry.extension_point(ExtensionPoint::Stage).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no plugin provides the extension point `stage`; known to provide it: `redact`"
    );
    assert_eq!(error.hint(), "install it: `vox plugin install redact`");
}

#[test]
fn a_misspelt_name_is_answered_with_the_nearest_one() {
    let fixture = Fixture::new();
    fixture.installed("hello", "0.1.0", &command("hello"));
    let (registry, _) = registry(&fixture);
    let error = registry.verb("helo").unwrap_err();
    let RegistryError::Missing(missing) = &error else {
        panic!("{error}")
    };
    assert_eq!(missing.nearest.as_deref(), Some("hello"));
    assert_eq!(error.hint(), "did you mean `hello`?");
}

#[test]
fn a_provider_that_is_here_and_cannot_be_used_is_named_with_the_reason() {
    let fixture = Fixture::new();
    fixture.installed(
        "exec",
        "0.1.0",
        &format!("host = \">=99\"\n{}", runner("exec")),
    );
    fixture.installed(
        "lone",
        "0.1.0",
        &format!("[dependencies]\ngone = \"*\"\n{}", runner("lone")),
    );
    let (registry, _) = registry(&fixture);
    let text = registry.runner("exec").unwrap_err().to_string();
    assert!(
        text.contains("exec 0.1.0 would, and cannot be used: it works with host"),
        "{text}"
    );
    let error = registry.runner("lone").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("lone 0.1.0 would, and cannot be used"),
        "{error}"
    );
    assert!(error.hint().contains("vox plugin doctor"));
}

#[test]
fn hooks_are_called_by_priority_and_then_by_id() {
    let fixture = Fixture::new();
    fixture.installed("a", "0.1.0", &hook(100));
    fixture.installed("b", "0.1.0", &hook(-5));
    fixture.installed("c", "0.1.0", &hook(100));
    let (registry, _) = registry(&fixture);
    let order: Vec<(&str, i32)> = registry
        .hooks(&HookPoint::PreStep)
        .iter()
        .map(|hook| (hook.plugin.id().as_str(), hook.priority))
        .collect();
    assert_eq!(order, [("b", -5), ("a", 100), ("c", 100)]);
    assert!(registry.hooks(&HookPoint::PostStep).is_empty());
}
